/**
 * WebSocket routes: what `route()` takes besides handlers, and how such a route becomes one with an
 * ordinary handler. The router and the dispatcher see handlers only.
 *
 * @module
 */
import * as v from "valibot";
import { ROUTE_NAMES } from "../foreign_names.ts";
import type { Exchange } from "../http/exchange.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { HandlerRoute, RouteHandler } from "../httpd/route.ts";
import { adviceFrom, checkOptions, isPlain, members, string } from "../options.ts";
import { resolveRouteOptions, type RouteConfig, type WebSocketOptions } from "./options.ts";

/** A path whose clients speak WebSocket (original: `httpd_uri_t` with `is_websocket`). */
export interface WebSocketRoute<S = ServerHandle> {
  /** The path that it is for, as the option `uriMatch` compares it. */
  readonly uri: string;
  /** The callbacks and limits of its sockets. */
  readonly websocket: WebSocketOptions<S>;
  /** Any value to pass to `onUpgrade` and `onOpen`, as `request.routeContext`. */
  readonly context?: unknown;
}

/** What a request can be routed to. */
export type Route<S = ServerHandle> = HandlerRoute<S> | WebSocketRoute<S>;

const advice = adviceFrom(ROUTE_NAMES);

const WEBSOCKET_ROUTE = members({
  uri: string("must be the path as text"),
  method: v.optional(
    v.custom<"GET">(
      (method) => method === "GET",
      'must be "GET", or left out, since a WebSocket begins with that',
    ),
  ),
  websocket: v.custom<WebSocketOptions<never>>(isPlain, "must be an object of WebSocketOptions"),
  context: v.optional(v.unknown()),
}, {
  advice: (name) =>
    name === "handler" ? "goes without websocket: give one of them, or two routes" : advice(name),
});

/**
 * Returns the route of a WebSocket as one whose handler `handlerFor` makes, for GET, with which an
 * opening handshake begins. Returns any other route as it is, unchecked.
 *
 * @throws {ConfigError} `INVALID_CONFIG` saying what to write
 */
export function toHandlerRoute<S>(
  route: Route<S>,
  handlerFor: (config: RouteConfig<S>) => RouteHandler<S>,
): HandlerRoute<S> {
  if (!isPlain(route) || !("websocket" in route)) return route;
  const { uri, context } = checkOptions("route()", WEBSOCKET_ROUTE, route);
  const config = resolveRouteOptions(route.websocket);
  return { uri, method: "GET", handler: handlerFor(config), context };
}

/**
 * Answers a request that no upgrade is possible for, since it came without a connection of its own:
 * 501 for an opening handshake, 426 for anything else.
 */
export function refuseUpgrade(exchange: Exchange): void {
  if (exchange.head.get("upgrade")?.toLowerCase().includes("websocket")) {
    exchange.sendError(501, "WebSockets are not served without a socket");
  } else {
    exchange.sendError(426, "This resource is a WebSocket", [["Upgrade", "websocket"]]);
  }
}
