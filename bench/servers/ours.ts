/**
 * httpsd, in each of the ways to use it.
 *
 * @module
 */
import { HttpsServer, type HttpsServerOptions, matchWildcard, serve } from "../../mod.ts";
import {
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
} from "./work.ts";

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
export function fetchHandler({ work, size, names = 0, mutual }: Parameters): Promise<number> {
  return served(handlers[work]!(size!), {
    identities: Array.from(
      { length: names },
      (_, i) => ({ cert, key, names: [`host${i}.example`] }),
    ),
    ...mutual && { clientAuth: { ca: clientCa } },
  });
}

/** A Hono app. */
export function hono(): Promise<number> {
  return served(honoApp().fetch);
}

/** Routes of the httpd API: one, those with a parameter, or a table of `size`. */
export async function route({ work, size = 1 }: Parameters): Promise<number> {
  const server = new HttpsServer({ ...options, uriMatch: matchWildcard });
  if (work === "routes") {
    for (let i = 0; i < ROUTES; i++) {
      const uri = `/r${i}/*`;
      const start = uri.length - 1;
      server.route({ uri, method: "GET", handler: (r) => r.send(r.path.slice(start)) });
    }
  }
  for (let i = 1; i < size; i++) {
    server.route({ uri: `/${i}`, method: "GET", handler: (request) => request.send(HELLO) });
  }
  server.route({ uri: "/", method: "GET", handler: (request) => request.send(HELLO) });
  await server.start();
  return server.address.port;
}

/** A WebSocket route that echoes, or sends each message to all. */
export async function webSocket({ work, deflate = false }: Parameters): Promise<number> {
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

async function served(handler: Handler, more: HttpsServerOptions = {}): Promise<number> {
  return (await serve({ ...options, ...more }, handler)).address.port;
}
