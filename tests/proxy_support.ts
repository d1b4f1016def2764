/**
 * What the tests of lib/proxy/ share: upstreams on real sockets, and one request to a proxy.
 *
 * @module
 */
import { afterAll } from "bun:test";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import type net from "node:net";
import type { AddressInfo, Socket } from "node:net";
import type { HttpsServerOptions } from "../lib/config.ts";
import { proxy, type ProxyOptions } from "../lib/proxy/mod.ts";
import {
  type Mode,
  RawClient,
  readResponses,
  type Started,
  started,
  type WireResponse,
} from "./http_support.ts";

/** What answers at an upstream. */
export type Listener = (request: IncomingMessage, response: ServerResponse) => void;

const servers: (http.Server | net.Server)[] = [];
const sockets = new Set<Socket>();

/** Ends every upstream of the file at its end; to be called once, at its top. */
export function stopUpstreamsAfterAll(): void {
  afterAll(() => {
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
  });
}

/** Has a server listen on 127.0.0.1, until the end of the file. */
export async function listening<S extends http.Server | net.Server>(server: S): Promise<S> {
  servers.push(server);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** The URL of a server. */
export function urlOf(server: http.Server | net.Server, scheme = "http"): string {
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A proxy before a node server that answers with `listener`. */
export async function behind(
  listener: Listener,
  options: ProxyOptions = {},
  { mode = "plain", path = "", ...rest }: { mode?: Mode; path?: string } & HttpsServerOptions = {},
): Promise<Started & { upstream: http.Server }> {
  const upstream = await listening(http.createServer(listener));
  const front = await started(proxy(urlOf(upstream) + path, options), rest, mode);
  return { ...front, upstream };
}

/** Sends one request and returns the answer. */
export async function ask(port: number, text: string, mode: Mode = "plain"): Promise<WireResponse> {
  const client = await RawClient.connect(port, mode);
  client.send(text);
  const [response] = readResponses(await client.rest(), [text.split(" ", 1)[0]!]);
  client.destroy();
  return response!;
}

/** A request that ends its connection. */
export function request(line: string, fields: Record<string, string> = {}, body = ""): string {
  const all = { Host: "shop.example", Connection: "close", ...fields };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return `${line} HTTP/1.1\r\n${lines}\r\n${body}`;
}

/** Answers with what the upstream got: the request line, fields, body. */
export const mirror: Listener = (request, response) => {
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  request.on("end", () => {
    const fields: Record<string, string> = {};
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      const name = request.rawHeaders[at]!.toLowerCase();
      fields[name] = [fields[name], request.rawHeaders[at + 1]!].filter((v) => v !== undefined)
        .join(" | ");
    }
    const body = Buffer.concat(pieces).toString("latin1");
    response.end(JSON.stringify({ method: request.method, url: request.url, fields, body }));
  });
};
