/**
 * What the acceptance tests share: an example's server in this process, and clients that speak to it
 * over real sockets.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterAll } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { HttpsServer } from "../lib/server.ts";
import { type Mode, RawClient, readResponses, type WireResponse } from "./http_support.ts";
import { certificates, withOptions } from "./support.ts";

/** An example that runs. */
export interface Example {
  server: HttpsServer;
  /** Opens a connection. */
  connect(): Promise<RawClient>;
  /** Sends one request on a connection of its own. */
  fetch(request: string): Promise<WireResponse>;
}

/** An example, and the lines that its handlers have said. */
export interface Talking extends Example {
  lines: string[];
}

const running: HttpsServer[] = [];

/** Stops every example at the end of the file; to be called once, at its top. */
export function stopExamplesAfterAll(): void {
  afterAll(async () => {
    await Promise.all(running.map((server) => server.stop({ drainMs: 0 })));
  });
}

/** Starts what an example's `createServer` makes of the options. */
export async function runExample(
  mode: Mode,
  createServer: (options: HttpsServerOptions) => HttpsServer,
  options: HttpsServerOptions = {},
): Promise<Example> {
  const { cert, key } = await certificates();
  const server = createServer(withOptions({
    hostname: "127.0.0.1",
    port: 0,
    timeouts: { lingerMs: 500 },
    ...(mode === "tls" ? { cert, key } : { transportMode: "insecure" }),
  }, options));
  running.push(server);
  await server.start();
  const connect = () => RawClient.connect(server.address.port, mode);
  return {
    server,
    connect,
    async fetch(request) {
      const client = await connect();
      try {
        return await ask(client, request);
      } finally {
        client.destroy();
      }
    },
  };
}

/** A request with a length, if it has a body; `fields` are lines. */
export function request(
  method: string,
  target: string,
  { fields = [], body }: { fields?: readonly string[]; body?: string } = {},
): string {
  const lines = [`${method} ${target} HTTP/1.1`, "Host: a", ...fields];
  if (body !== undefined) lines.push(`Content-Length: ${body.length}`);
  return `${lines.join("\r\n")}\r\n\r\n${body ?? ""}`;
}

/** Sends a request and takes the one response that comes; the connection stays open. */
export async function ask(client: RawClient, bytes: string): Promise<WireResponse> {
  client.send(bytes);
  return await nextResponse(client, bytes.slice(0, bytes.indexOf(" ")));
}

/** Takes the next response from what a client has received, when it is whole. */
export async function nextResponse(client: RawClient, method = "GET"): Promise<WireResponse> {
  for (;;) {
    const response = firstResponse(client.text, method);
    if (response !== undefined) {
      client.text = client.text.slice(response.length);
      return response.response;
    }
    const { length } = client.text;
    await client.until(() => client.text.length > length || client.ended);
    if (client.ended && client.text.length === length) {
      assert.fail(`The server ended within ${JSON.stringify(client.text)}`);
    }
  }
}

/** The first response of a text and its length; `undefined` when it is not whole. */
function firstResponse(
  text: string,
  method: string,
): { response: WireResponse; length: number } | undefined {
  const headEnd = text.indexOf("\r\n\r\n") + 4;
  if (headEnd < 4) return undefined;
  const head = text.slice(0, headEnd).toLowerCase();
  const declared = /\r\ncontent-length: (\d+)\r\n/.exec(head)?.[1];
  const isBodiless = method === "HEAD" || /^http\/1\.1 (?:1\d\d|204|304)/.test(head);
  let length = headEnd;
  if (!isBodiless && declared !== undefined) length += Number(declared);
  else if (!isBodiless && head.includes("\r\ntransfer-encoding: chunked\r\n")) {
    const end = text.indexOf("\r\n0\r\n\r\n", headEnd - 2);
    if (end < 0) return undefined;
    length = end + "\r\n0\r\n\r\n".length;
  }
  if (text.length < length) return undefined;
  const [response] = readResponses(text.slice(0, length), [method]);
  return { response: response!, length };
}

/** Text of printable characters that follow no simple pattern. */
export function printable(length: number): string {
  let state = 1;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return String.fromCharCode(0x20 + (state >>> 16) % 95);
  }).join("");
}
