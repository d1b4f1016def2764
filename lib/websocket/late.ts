/**
 * The handler of a WebSocket route, and when what speaks WebSocket is loaded: with the first such
 * route, since most servers have none. A request that comes before it is there waits for it.
 *
 * @module
 */
import { ignore } from "../contain/callbacks.ts";
import type { RouteHandler } from "../httpd/route.ts";
import type { WebSocketHub } from "./hub.ts";
import type { RouteConfig } from "./options.ts";

type Upgrades = typeof import("./upgrade.ts");

let upgrades: Upgrades | undefined;

/** Loads what speaks WebSocket, once. */
async function load(): Promise<Upgrades> {
  return upgrades ??= await import("./upgrade.ts");
}

/** Whether WebSocket can be spoken now. */
export function isWebSocketLoaded(): boolean {
  return upgrades !== undefined;
}

/** Makes the handler of a WebSocket route. */
export function webSocketHandler<S>(config: RouteConfig<S>, hub: WebSocketHub): RouteHandler<S> {
  load().catch(ignore); // the first request meets it
  return (request) => {
    if (upgrades !== undefined) return upgrades.acceptWebSocket(request, config, hub);
    return load().then(({ acceptWebSocket }) => acceptWebSocket(request, config, hub));
  };
}
