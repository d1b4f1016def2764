/**
 * How a request becomes a WebSocket (RFC 6455 section 4.2): on a route, and in a fetch handler.
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import type { Exchange } from "../http/exchange.ts";
import { type HttpdRequest, partsOf } from "../httpd/request.ts";
import { Engine } from "./engine.ts";
import { negotiateDeflate } from "./deflate_negotiation.ts";
import { createBrowserSocket, type UpgradedWebSocket } from "./browser_socket.ts";
import { type AcceptedUpgrade, acceptHeaders, checkUpgrade, chooseProtocol } from "./handshake.ts";
import { SocketHandle } from "./handle.ts";
import type { WebSocketHub } from "./hub.ts";
import {
  resolveSettings,
  type RouteConfig,
  type SocketConfig,
  type WebSocketSettings,
} from "./options.ts";
import { offerOf } from "./offer.ts";
import { checkOffer } from "./passing.ts";
import { refuseUpgrade } from "./route.ts";
import type { ServerWebSocket } from "./socket.ts";

/** What a socket is made of, besides what is agreed on in its handshake. */
interface SocketParts {
  /** The server's sockets. */
  readonly hub: WebSocketHub;
  /** The settings and callbacks. */
  readonly config: SocketConfig;
  /** Called once the socket is open; may return a promise. */
  readonly opened: (ws: ServerWebSocket) => unknown;
}

/**
 * Answers a request to a WebSocket route: with 101, with what `onUpgrade` returns, or with how the
 * request is no opening handshake; rejects with `HANDLER_FAILED` when `onUpgrade` answers in part, and
 * with what `onUpgrade` throws.
 */
export async function acceptWebSocket<S>(
  request: HttpdRequest<S>,
  config: RouteConfig<S>,
  hub: WebSocketHub,
): Promise<Response | void> {
  const { exchange } = partsOf(request);
  if (exchange.response.answered || exchange.response.gone) return; // it has waited for too long
  if (!exchange.upgradable) return refuseUpgrade(exchange);
  const upgrade = checkUpgrade(exchange.head);
  if (!upgrade.ok) return exchange.sendError(upgrade.status, upgrade.message, upgrade.headers);
  const { onUpgrade, onOpen, upgradeMs } = config;
  if (onUpgrade !== undefined) {
    exchange.postpone(upgradeMs);
    const answer = await onUpgrade(request);
    if (exchange.response.answered || exchange.response.gone) return;
    if (answer !== undefined) return answer;
    if (exchange.response.started) {
      throw new HttpError(500, "HANDLER_FAILED", "onUpgrade ended without a whole response");
    }
  }
  const opened = (ws: ServerWebSocket) => onOpen?.(ws, request);
  // Looked at now: onUpgrade may have set the first of them.
  openWebSocket(exchange, upgrade, { hub, config, opened }, partsOf(request).fields);
}

/**
 * Answers 101, with `fields` besides its own; 503 when the connection is about to end, since the
 * server stops or the client has ended its side. Where the request is only the last that the
 * connection may carry, what follows the 101 is no request.
 */
function openWebSocket(
  exchange: Exchange,
  upgrade: AcceptedUpgrade,
  { hub, config, opened }: SocketParts,
  fields: Iterable<readonly [name: string, value: string]>,
): boolean {
  if (exchange.ending) {
    exchange.sendError(503);
    return false;
  }
  const protocol = chooseProtocol(upgrade.protocols, config.protocols);
  const agreement = config.deflate && negotiateDeflate(upgrade.extensions, config.deflate);
  const own = acceptHeaders(upgrade, protocol, agreement)
    .filter(([name]) => name !== "Connection"); // which the exchange writes itself
  const more = [...fields].filter(([name]) => !HANDSHAKE_FIELDS.has(name.toLowerCase()));
  const engine = exchange.upgrade(
    [...own, ...more],
    (tunnel) => new Engine(tunnel, config, agreement, hub),
  );
  if (engine === undefined) return false;
  const agreed = { protocol: protocol ?? "", extensions: agreement?.response ?? "" };
  return engine.open(new SocketHandle(engine, hub, exchange.session, agreed), opened);
}

/** What no handler may add to a 101: the fields of the handshake, and those of a body. */
const HANDSHAKE_FIELDS = new Set([
  "connection",
  "content-length",
  "content-type",
  "sec-websocket-accept",
  "sec-websocket-extensions",
  "sec-websocket-protocol",
  "transfer-encoding",
  "upgrade",
]);

/** What {@linkcode upgradeWebSocket} gives. */
export interface WebSocketUpgrade {
  /** The socket; it opens when the response has been returned. */
  readonly socket: UpgradedWebSocket;
  /** What the handler has to return. Fields that are added to it are sent with the 101. */
  readonly response: Response;
}

/**
 * Makes a WebSocket of a request, in a fetch handler:
 *
 * ```ts
 * const { socket, response } = upgradeWebSocket(request);
 * socket.onmessage = ({ data }) => socket.send(data);
 * return response;
 * ```
 *
 * @param request the very `Request` that the handler was given
 * @throws {HttpError} 400 or 405 `BAD_REQUEST`, 426 `UPGRADE_REQUIRED` when it is no valid opening
 * handshake; uncaught, it is the answer
 * @throws {ConfigError} `INVALID_CONFIG` naming the setting
 * @throws {StateError} `NOT_UPGRADABLE` for a request that has no connection of its own, or was
 * upgraded already
 */
export function upgradeWebSocket(
  request: Request,
  settings: WebSocketSettings = {},
): WebSocketUpgrade {
  const offer = offerOf(request);
  const upgrade = checkOffer(offer);
  const driver = createBrowserSocket(request.url);
  const config = resolveSettings(settings, driver.callbacks);
  const opened = (ws: ServerWebSocket) => driver.opened(ws);
  const parts = { hub: offer.hub, config, opened };
  const response = offer.take({
    accept: upgrade.accept,
    open: (fields) => openWebSocket(offer.exchange, upgrade, parts, fields),
    refused: () => driver.refused(),
  });
  return { socket: driver.socket, response };
}
