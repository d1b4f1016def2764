/**
 * httpsd, in each of the ways to use it.
 *
 * @module
 */
import { join } from "node:path";
import type { HttpsServerOptions } from "../../mod.ts";
import { watch } from "./observers.ts";
import {
  BYTES_TYPE,
  cert,
  clientCa,
  type Handler,
  handlers,
  HELLO,
  honoApp,
  hostname,
  IDLE_TIMEOUT_MS,
  key,
  type Parameters,
  ROUTES,
  TEXT_TYPE,
} from "./work.ts";

/** This httpsd, or the one of another folder. */
async function library({ root }: Parameters): Promise<typeof import("../../mod.ts")> {
  return await import(root === undefined ? "../../mod.ts" : join(root, "mod.ts"));
}

const options: HttpsServerOptions = {
  cert,
  key,
  hostname,
  port: 0,
  limits: {
    maxConnections: 12_000, // with a margin below the 20,000 descriptors that a process may have here
  },
  timeouts: { idleMs: IDLE_TIMEOUT_MS },
};

/** A fetch handler. */
export function fetchHandler(parameters: Parameters): Promise<number> {
  const { work, size, names = 0, mutual } = parameters;
  return served(parameters, handlers[work]!(size!), {
    identities: Array.from(
      { length: names },
      (_, i) => ({ cert, key, names: [`host${i}.example`] }),
    ),
    ...mutual && { clientAuth: { ca: clientCa } },
  });
}

/** A Hono app. */
export function hono(parameters: Parameters): Promise<number> {
  return served(parameters, honoApp().fetch);
}

/** Routes of the httpd API: one, those with a parameter, or a table of `size`. */
export async function route(parameters: Parameters): Promise<number> {
  const { work, size = 1 } = parameters;
  const { HttpsServer, matchWildcard } = await library(parameters);
  const server = new HttpsServer({
    ...options,
    uriMatch: matchWildcard,
  });
  const hello = (uri: string) =>
    server.route({
      uri,
      method: "GET",
      handler: (request) => request.type(TEXT_TYPE).send(HELLO),
    });
  if (work === "download") {
    const bytes = new Uint8Array(size).fill(97);
    server.route({
      uri: "/",
      method: "GET",
      handler: (request) => request.type(BYTES_TYPE).send(bytes),
    });
  } else if (work === "parameters") {
    for (let i = 0; i < ROUTES; i++) {
      const uri = `/r${i}/*`;
      const start = uri.length - 1;
      server.route({
        uri,
        method: "GET",
        handler: (request) => request.type(TEXT_TYPE).send(request.path.slice(start)),
      });
    }
  } else {
    for (let i = 1; i < size; i++) hello(`/${i}`);
    hello("/");
  }
  await server.start();
  return server.address.port;
}

/** A WebSocket route that echoes, or sends each message to all. */
export async function webSocket(parameters: Parameters): Promise<number> {
  const { work, deflate = false } = parameters;
  const { HttpsServer } = await library(parameters);
  const server = new HttpsServer(options);
  server.route({
    uri: "/",
    websocket: {
      deflate,
      async onMessage(ws, message) {
        if (work === "echo") await ws.send(message);
        else server.broadcast(message);
      },
    },
  });
  await server.start();
  return server.address.port;
}

async function served(
  parameters: Parameters,
  handler: Handler,
  more: HttpsServerOptions = {},
): Promise<number> {
  const { serve } = await library(parameters);
  const server = await serve({ ...options, ...more }, handler);
  await watch(server, parameters);
  return server.address.port;
}
