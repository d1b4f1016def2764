/**
 * One server of the benchmark: `bench/server.ts VARIANT`, on an ephemeral port of 127.0.0.1, which
 * it prints. Runs on Deno and on Bun; the certificate comes in CERT and KEY (files).
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { createServer as createHttps } from "node:https";
import { createServer as createTls } from "node:tls";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { HttpsServer, serve } from "../mod.ts";

const cert = readFileSync(process.env["CERT"]!, "utf8");
const key = readFileSync(process.env["KEY"]!, "utf8");
const hostname = "127.0.0.1";
const HELLO = "hello world";

const ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: ${HELLO.length}\r\n\r\n${HELLO}`,
);

/** What a handler of some use looks at. */
function looking(request: Request): Response {
  const url = new URL(request.url);
  return new Response(`${url.pathname} ${request.headers.get("accept")}`);
}

const variants: Record<string, () => Promise<number>> = {
  /** Ours, a fetch handler that reads nothing. */
  fetch: () => ours(() => new Response(HELLO)),
  /** Ours, choosing among 1,000 names by ClientHello. */
  async names() {
    const names = Array.from({ length: 1_000 }, (_, i) => `host${i}.example`);
    const server = await serve(
      { cert, key, hostname, port: 0, identities: [{ cert, key, names }] },
      () => new Response(HELLO),
    );
    return server.address.port;
  },
  /** Ours, a fetch handler that reads the URL and a field. */
  looking: () => ours(looking),
  /** Ours, a route of the httpd API. */
  async route() {
    const server = new HttpsServer({ cert, key, hostname, port: 0 });
    server.route({ uri: "/", method: "GET", handler: (request) => request.send(HELLO) });
    await server.start();
    return server.address.port;
  },
  /** The runtime's own server. */
  native: () => native(() => new Response(HELLO)),
  nativeLooking: () => native(looking),
  /** `node:https`. */
  nodeHttps: () => listening(createHttps({ cert, key }, (_, response) => response.end(HELLO))),
  /** The ceiling: no parser, a fixed answer for each read, on the same `node:tls`. */
  bare: () =>
    listening(createTls({ cert, key, noDelay: true }, (socket) => {
      socket.on("error", () => {});
      socket.on("data", () => socket.write(ANSWER));
    })),
};

async function ours(handler: (request: Request) => Response): Promise<number> {
  return (await serve({ cert, key, hostname, port: 0 }, handler)).address.port;
}

function native(handler: (request: Request) => Response): Promise<number> {
  const scope = globalThis as unknown as {
    Bun?: { serve(options: object): { port: number } };
    Deno?: { serve(options: object, handler: unknown): { addr: { port: number } } };
  };
  if (scope.Bun !== undefined) {
    const { port } = scope.Bun.serve({ hostname, port: 0, tls: { cert, key }, fetch: handler });
    return Promise.resolve(port);
  }
  const { addr } = scope.Deno!.serve({ hostname, port: 0, cert, key, onListen() {} }, handler);
  return Promise.resolve(addr.port);
}

function listening(server: ReturnType<typeof createTls> | ReturnType<typeof createHttps>) {
  return new Promise<number>((resolve) => {
    server.listen(0, hostname, () => resolve((server.address() as AddressInfo).port));
  });
}

const port = await variants[process.argv[2]!]!();
console.log(`PORT ${port}`);
