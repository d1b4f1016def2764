/**
 * What the tests of HTTP share: servers that stop with the file, and a client that sends any bytes
 * it likes and reads responses as they are on the wire.
 *
 * @module
 */
import { afterAll } from "bun:test";
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import type { HttpsServerOptions, TransportMode } from "../lib/config.ts";
import type { HttpsdError } from "../lib/errors.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import type { RouteHandler } from "../lib/httpd/route.ts";
import { type Clock, systemClock } from "../lib/net/clock.ts";
import { type HttpsServer, serverWithClock } from "../lib/server.ts";
import { certificates, connect, connectTcp, type Mode, MODES, withOptions } from "./support.ts";

export { type Mode, MODES, withOptions };

/** The option that makes a server speak as `mode` says. */
export function transportOf(mode: Mode): TransportMode {
  return mode === "tls" ? "secure" : "insecure";
}

/** A server that runs, on 127.0.0.1. */
export interface Started {
  server: HttpsServer;
  port: number;
  /** What the server reported in `error` events. */
  errors: HttpsdError[];
}

const running: HttpsServer[] = [];

/** Stops every server of the file at its end; to be called once, at its top. */
export function stopServersAfterAll(): void {
  afterAll(async () => {
    await Promise.all(running.map((server) => server.stop({ drainMs: 0 })));
  });
}

/** Starts a server; `clock` is that of its deadlines. */
export async function started(
  handler: FetchHandler | undefined,
  options: HttpsServerOptions = {},
  mode: Mode = "plain",
  clock: Clock = systemClock,
): Promise<Started> {
  const { cert, key } = await certificates();
  const all = withOptions({
    hostname: "127.0.0.1",
    port: 0,
    timeouts: { lingerMs: 500 },
    ...(mode === "tls" ? { cert, key } : { transportMode: "insecure" }),
  }, options);
  const server = serverWithClock(clock, all, handler);
  const errors: HttpsdError[] = [];
  server.addEventListener("error", ({ error }) => void errors.push(error));
  running.push(server);
  await server.start();
  return { server, port: server.address.port, errors };
}

/** Starts a server whose every GET, POST and HEAD of any path but /none goes to one handler. */
export async function answering(
  handler: RouteHandler,
  options: HttpsServerOptions = {},
  mode: Mode = "plain",
): Promise<Started> {
  const uriMatch = (_: string, path: string) => path !== "/none";
  const host = await started(undefined, { uriMatch, ...options }, mode);
  for (const method of ["GET", "POST", "HEAD"]) host.server.route({ uri: "/", method, handler });
  return host;
}

/** A GET request for `path`. */
export const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

/** Bytes of text whose characters are bytes. */
export function latin1(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

/** A client on a TCP or TLS socket that sends what it is given and keeps what it gets. */
export class RawClient {
  readonly socket: Socket;
  /** All that has come, as Latin-1 text. */
  text = "";
  /** Whether the server has ended its side. */
  ended = false;
  /** Whether the socket is closed. */
  closed = false;
  /** What closed it, when that was an error. */
  error: NodeJS.ErrnoException | undefined;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (bytes: Buffer) => {
      this.text += bytes.toString("latin1");
      this.#wake();
    });
    socket.on("end", () => {
      this.ended = true;
      this.#wake();
    });
    socket.on("error", (error) => this.error = error);
    socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Connects to 127.0.0.1; `options` are for TLS. */
  static async connect(
    port: number,
    mode: Mode = "plain",
    options: ConnectionOptions = {},
  ): Promise<RawClient> {
    if (mode === "plain") return new RawClient(await connectTcp(port));
    return new RawClient(await connect({ mode, port }, options));
  }

  send(data: string | Uint8Array): void {
    this.socket.write(typeof data === "string" ? latin1(data) : data);
  }

  /** Ends this side: FIN, over TLS behind a close_notify. */
  end(): void {
    this.socket.end();
  }

  /** Closes without a word; bytes that the server sends now are answered with a reset. */
  destroy(): void {
    this.socket.destroy();
  }

  /** Waits until `done` holds; fails when the connection is over before. */
  async until(done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.closed) {
        throw new Error(`The connection is over; it gave ${JSON.stringify(this.text)}`);
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  /** Waits for text that matches. */
  async expect(pattern: RegExp | string): Promise<void> {
    await this.until(() =>
      typeof pattern === "string" ? this.text.includes(pattern) : pattern.test(this.text)
    );
  }

  /** Waits for the server's end, and gives all that came before it. */
  async rest(): Promise<string> {
    await this.until(() => this.ended || this.closed);
    return this.text;
  }
}

/** An HTTP/1.1 response as it was on the wire, its body decoded. */
export interface WireResponse {
  status: number;
  /** Values by name in lower case; several of the same name are joined with a newline. */
  fields: Record<string, string>;
  body: string;
}

/**
 * Cuts a text into the responses that it must consist of, to the last byte. `methods` are those of
 * the requests, all GET when they are left out.
 */
export function readResponses(text: string, methods: readonly string[] = []): WireResponse[] {
  const responses: WireResponse[] = [];
  while (text !== "") {
    const end = text.indexOf("\r\n\r\n");
    const match = /^HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n/.exec(text);
    if (end < 0 || match === null) throw new Error(`No response: ${JSON.stringify(text)}`);
    const status = Number(match[1]);
    const fields: Record<string, string> = {};
    for (const line of text.slice(0, end).split("\r\n").slice(1)) {
      const field = /^([!#$%&'*+.^`|~\w-]+): ([^\r\n]*)$/.exec(line);
      if (field === null) throw new Error(`No field: ${JSON.stringify(line)}`);
      const name = field[1]!.toLowerCase();
      fields[name] = name in fields ? `${fields[name]}\n${field[2]}` : field[2]!;
    }
    text = text.slice(end + 4);
    let body = "";
    const method = status < 200 ? undefined : methods[responses.filter(isFinal).length];
    if (status >= 200 && status !== 204 && status !== 304 && method !== "HEAD") {
      [body, text] = cutBody(fields, text);
    }
    responses.push({ status, fields, body });
  }
  return responses;
}

const isFinal = ({ status }: WireResponse): boolean => status >= 200;

function cutBody(fields: Record<string, string>, text: string): [body: string, rest: string] {
  if (fields["transfer-encoding"] === "chunked") return cutChunks(text);
  if (fields["content-length"] === undefined) return [text, ""];
  const length = Number(fields["content-length"]);
  if (text.length < length) throw new Error(`The body has ${text.length} of ${length} bytes`);
  return [text.slice(0, length), text.slice(length)];
}

function cutChunks(text: string): [body: string, rest: string] {
  let body = "";
  for (;;) {
    const match = /^([0-9a-f]+)\r\n/.exec(text);
    if (match === null) throw new Error(`No chunk: ${JSON.stringify(text.slice(0, 80))}`);
    const size = parseInt(match[1]!, 16);
    const start = match[0].length;
    if (size > 0) body += text.slice(start, start + size);
    text = text.slice(start + size);
    if (!text.startsWith("\r\n")) throw new Error("The chunk has no end");
    text = text.slice(2);
    if (size === 0) return [body, text];
  }
}

/** Waits for `ms`; where a test is about time. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
