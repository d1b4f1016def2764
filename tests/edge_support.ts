/**
 * The faces that answer the same routes: a server on a socket, its `fetch()`, and an edge app.
 *
 * @module
 */
import {
  createEdgeApp,
  type EdgeApp,
  type EdgeOptions,
  type ErrorHandler,
} from "../lib/edge/mod.ts";
import type { HttpsdError } from "../lib/errors.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import type { Session } from "../lib/http/session.ts";
import { HttpsServer } from "../mod.ts";

export const ORIGIN = "http://a.example";

/** What the faces of the routes have in common. */
interface App {
  route(...args: Parameters<EdgeApp["route"]>): unknown;
  unroute(...args: Parameters<EdgeApp["unroute"]>): unknown;
  use(...args: Parameters<EdgeApp["use"]>): unknown;
  onError(handler: ErrorHandler | null): unknown;
  onError(status: number, handler: ErrorHandler | null): unknown;
}

/** A way to the routes. */
export interface Face {
  readonly app: App;
  readonly errors: string[];
  readonly options: EdgeOptions;
  /** Asks for a path of ours. */
  ask(path: string, init?: RequestInit): Promise<Response>;
  close(): Promise<void>;
}

export type FaceName = "a socket" | "server.fetch()" | "an edge app";

const OPTIONS: EdgeOptions = {
  limits: { maxBodyBytes: 1_000, maxResponseFields: 3 },
  uriMatch: matchWildcard,
};

/** Makes the routes' face of this name; the fetch handler is given only what all of them know. */
export async function open(
  name: FaceName,
  handler?: (request: Request, info: { session: Session }) => Response | Promise<Response>,
  options: EdgeOptions = {},
): Promise<Face> {
  const errors: string[] = [];
  const all = { ...OPTIONS, ...options };
  if (name === "an edge app") {
    const reportError = (error: HttpsdError) => void errors.push(error.code);
    const app = createEdgeApp({ ...all, reportError }, handler);
    const ask = (path: string, init?: RequestInit) => app.fetch(new Request(ORIGIN + path, init));
    return { app, errors, options: all, ask, close: () => Promise.resolve() };
  }
  const server = new HttpsServer({
    ...all,
    transportMode: "insecure",
    hostname: "127.0.0.1",
    port: 0,
  }, handler);
  server.addEventListener("error", ({ error }) => void errors.push(error.code));
  if (name === "server.fetch()") {
    const ask = (path: string, init?: RequestInit) =>
      server.fetch(new Request(ORIGIN + path, init));
    return { app: server, errors, options: all, ask, close: () => Promise.resolve() };
  }
  await server.start();
  const origin = `http://127.0.0.1:${server.address.port}`;
  const ask = (path: string, init?: RequestInit) => fetch(origin + path, init);
  return { app: server, errors, options: all, ask, close: () => server.stop({ drainMs: 0 }) };
}

export const streamOf = (...pieces: string[]): ReadableStream<Uint8Array<ArrayBuffer>> =>
  new Blob(pieces).stream();
