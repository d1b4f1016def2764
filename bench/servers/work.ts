/**
 * What the servers of the benchmark do: the same handlers for every server that speaks `fetch`.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Hono } from "hono";
import type { Observer } from "./observers.ts";

/** What a server is asked to be; the fronts are in bench/server.ts. */
export interface Parameters {
  /** Which server. */
  readonly front: string;
  /** What its handler does, one of {@linkcode handlers}, or of the front's own. */
  readonly work: string;
  /** The size of the answer in bytes, or how many routes there are. */
  readonly size?: number;
  /** How many names the certificates are for, one certificate each. */
  readonly names?: number;
  /** Whether clients must show a certificate. */
  readonly mutual?: boolean;
  /** Whether WebSocket messages are compressed. */
  readonly deflate?: boolean;
  /** Whether the server is to speak HTTP/2, which `Bun.serve` does only when asked to. */
  readonly http2?: boolean;
  /** Whether each connection ends with its first answer, where the server has to be told. */
  readonly once?: boolean;
  /** Whether late ticks are to be counted, see bench/servers/ticks.ts. */
  readonly ticks?: boolean;
  /** What watches the server, see bench/servers/observers.ts. */
  readonly watched?: readonly Observer[];
  /** The folder of the httpsd that is measured, when it is not this one. */
  readonly root?: string;
}

/** Answers a request. */
export type Handler = (request: Request) => Response | Promise<Response>;

const read = (name: string) => readFileSync(join(process.env["CERTIFICATES"]!, name), "utf8");

/** The certificate of every server. */
export const cert = read("server.pem");
/** Its key. */
export const key = read("server-key.pem");
/** The authority that client certificates are from. */
export const clientCa = read("client-ca.pem");
/** Where every server listens. */
export const hostname = "127.0.0.1";
/** Longer than any run: no server may close connections that wait. */
export const IDLE_TIMEOUT_MS = 600_000;
/** The small answer. */
export const HELLO = "hello world";
/** How many routes with a parameter there are: /r0/:id, /r1/:id, … */
export const ROUTES = 10;
/** The type that a `Response` of a text has on this runtime. */
export const TEXT_TYPE = new Response(HELLO).headers.get("content-type") ??
  "text/plain;charset=utf-8"; // Bun adds it when it answers
/** The type of downloads. */
export const BYTES_TYPE = "application/octet-stream";

/** The handlers, by work. */
export const handlers: Record<string, (size: number) => Handler> = {
  /** Reads nothing. */
  hello: () => () => new Response(HELLO),
  /** Reads the URL, one field and the body. */
  looking: () => async (request) => {
    const { pathname } = new URL(request.url);
    const accept = request.headers.get("accept");
    return new Response(`${pathname} ${accept} ${await request.text()}`);
  },
  json: () => async (request) => Response.json(await request.json()),
  /** Sends bytes that are there already. */
  download(size) {
    const bytes = new Uint8Array(size).fill(97);
    const headers = { "content-type": BYTES_TYPE };
    return () => new Response(bytes, { headers });
  },
  /** Reads a body piece by piece. */
  upload: () => async (request) => {
    let length = 0;
    for await (const piece of request.body!) length += piece.length;
    return new Response(String(length));
  },
};

/** The small answer and the routes with a parameter as a Hono app. */
export function honoApp(): Hono {
  const app = new Hono();
  app.get("/", (c) => c.text(HELLO));
  for (let i = 0; i < ROUTES; i++) app.get(`/r${i}/:id`, (c) => c.text(c.req.param("id")));
  return app;
}
