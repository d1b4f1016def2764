/**
 * The controls on Node's modules: `node:https`, and the bare loop on `node:tls`, which reads bytes
 * and writes a fixed answer: the ceiling of what our transport can reach.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { IncomingMessage, RequestListener } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { createServer as createTls, type TlsOptions } from "node:tls";
import { cert, clientCa, HELLO, hostname, IDLE_TIMEOUT_MS, key, type Parameters } from "./work.ts";

const ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: text/plain;charset=UTF-8\r\n` +
    `Content-Length: ${HELLO.length}\r\n\r\n${HELLO}`,
);

const listeners: Record<string, (size: number) => RequestListener> = {
  hello: () => (_, response) => void response.end(HELLO),
  looking: () => (request, response) => {
    text(request, (body) => response.end(`${request.url} ${request.headers.accept} ${body}`));
  },
  json: () => (request, response) => {
    text(request, (body) => {
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(JSON.parse(body)));
    });
  },
  download(size) {
    const bytes = Buffer.alloc(size, "a");
    return (_, response) => void response.end(bytes);
  },
  upload: () => (request, response) => {
    let length = 0;
    request.on("data", (piece: Buffer) => length += piece.length);
    request.on("end", () => response.end(String(length)));
  },
};

/** `node:https`. */
export function nodeHttps({ work, size, mutual }: Parameters): Promise<number> {
  const server = createServer(tlsOptions(mutual), listeners[work]!(size!));
  server.keepAliveTimeout = IDLE_TIMEOUT_MS;
  return listening(server);
}

/** The bare loop; with work `"once"` it closes after its answer. */
export function nodeTls({ work, mutual }: Parameters): Promise<number> {
  return listening(createTls({ ...tlsOptions(mutual), noDelay: true }, (socket) => {
    socket.on("error", () => {}); // the client is gone
    socket.on("data", () => work === "once" ? socket.end(ANSWER) : socket.write(ANSWER));
  }));
}

function tlsOptions(mutual = false): TlsOptions {
  const client = { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  return { cert, key, ...mutual && client };
}

function text(request: IncomingMessage, done: (body: string) => void): void {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (piece: string) => body += piece);
  request.on("end", () => done(body));
}

function listening(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, hostname, () => resolve((server.address() as AddressInfo).port));
  });
}
