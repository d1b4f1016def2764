/**
 * The runtime's own server: `Bun.serve` or `Deno.serve`.
 *
 * @module
 */
import {
  cert,
  type Handler,
  handlers,
  honoApp,
  hostname,
  key,
  type Parameters,
  ROUTES,
} from "./work.ts";

/** What is used of `Bun`, which has no types when Deno checks this file. */
interface BunServer {
  readonly port: number;
  upgrade(request: Request): boolean;
  publish(topic: string, message: string | Uint8Array, compress?: boolean): void;
}
interface BunSocket {
  subscribe(topic: string): void;
  send(message: string | Uint8Array, compress?: boolean): void;
}
type BunScope = { serve(options: object): BunServer } | undefined;

/** What is used of `Deno`, which has no types when tsc checks this file. */
interface DenoScope {
  serve(options: object, handler: Handler): { addr: { port: number } };
  upgradeWebSocket(request: Request): { socket: WebSocket; response: Response };
}

const { Bun, Deno } = globalThis as unknown as { Bun: BunScope; Deno: DenoScope };

/** A fetch handler. */
export function native({ work, size, http2 }: Parameters): Promise<number> {
  return served(handlers[work]!(size!), http2 ? { http2 } : {});
}

/** A Hono app. */
export function nativeHono(): Promise<number> {
  return served(honoApp().fetch);
}

/** The routes with a parameter, by Bun's own router. */
export function nativeRoutes(): Promise<number> {
  const routes = Array.from({ length: ROUTES }, (_, i) => [
    `/r${i}/:id`,
    (request: Request & { params: { id: string } }) => new Response(request.params.id),
  ]);
  return served(() => new Response(null, { status: 404 }), { routes: Object.fromEntries(routes) });
}

/** WebSockets that echo, or send each message to all. */
export function nativeWebSocket({ work, deflate = false }: Parameters): Promise<number> {
  if (Bun === undefined) return denoWebSocket(work);
  const server: BunServer = Bun.serve({
    hostname,
    port: 0,
    tls: { cert, key },
    fetch: (request: Request) => server.upgrade(request) ? undefined : new Response(),
    websocket: {
      perMessageDeflate: deflate,
      open: (ws: BunSocket) => ws.subscribe("all"),
      message(ws: BunSocket, message: string | Uint8Array) {
        if (work === "echo") ws.send(message, deflate);
        else server.publish("all", message, deflate);
      },
    },
  });
  return Promise.resolve(server.port);
}

function denoWebSocket(work: string): Promise<number> {
  const sockets = new Set<WebSocket>();
  return served((request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onopen = () => sockets.add(socket);
    socket.onclose = () => sockets.delete(socket);
    socket.onmessage = ({ data }) => {
      if (work === "echo") socket.send(data);
      else for (const each of sockets) each.send(data);
    };
    return response;
  });
}

function served(handler: Handler, more: object = {}): Promise<number> {
  const options = { hostname, port: 0, ...more };
  if (Bun !== undefined) {
    const server = Bun.serve({ ...options, tls: { cert, key }, idleTimeout: 0, fetch: handler });
    return Promise.resolve(server.port);
  }
  const { addr } = Deno.serve({ ...options, cert, key, onListen() {} }, handler);
  return Promise.resolve(addr.port);
}
