/**
 * How a request becomes a WebSocket (RFC 6455 section 4.2): on a route, and in a fetch handler.
 *
 * @module
 */
import { HttpError, StateError } from "../errors.ts";
import type { Exchange } from "../http/exchange.ts";
import { exchangeOf } from "../fetch/served_request.ts";
import type { Transport } from "../http/exchange.ts";
import type { RouteHandler } from "../httpd/route.ts";
import type { Protocol, Tunnel, UpgradeOffer } from "../http/tunnel.ts";
import { type HttpdRequest, partsOf } from "../httpd/request.ts";
import { Engine } from "./engine.ts";
import { negotiateDeflate } from "./deflate_negotiation.ts";
import { createBrowserSocket, type UpgradedWebSocket } from "./browser_socket.ts";
import {
  type AcceptedUpgrade,
  acceptHeaders,
  checkUpgrade,
  chooseProtocol,
  type RefusedUpgrade,
} from "./handshake.ts";
import { SocketHandle } from "./handle.ts";
import type { WebSocketHub } from "./hub.ts";
import {
  resolveSettings,
  type RouteConfig,
  type SocketConfig,
  type WebSocketSettings,
} from "./options.ts";
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
 * Makes the handler of a WebSocket route. It answers with 101, with what `onUpgrade` returns, or with
 * how the request is no opening handshake; it throws `HANDLER_FAILED` when `onUpgrade` answers in
 * part, and what `onUpgrade` throws.
 */
export function webSocketHandler<S>(
  config: RouteConfig<S>,
  hub: WebSocketHub,
): RouteHandler<S> {
  return (request) => acceptWebSocket(request, config, hub);
}

async function acceptWebSocket<S>(
  request: HttpdRequest<S>,
  config: RouteConfig<S>,
  hub: WebSocketHub,
): Promise<Response | void> {
  const { exchange } = partsOf(request);
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
  const agreed = { protocol: protocol ?? "", extensions: agreement?.response ?? "" };
  engine.open(new SocketHandle(engine, hub, exchange.session, agreed), opened);
  return true;
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
  return offerOf(request).take(request, settings);
}

/** Identifies the upgrade's own response, even after middleware has copied it. */
const ACCEPT = "sec-websocket-accept";

/** Returns a transport whose fetch handlers may make WebSockets of requests that ask for them. */
export function withUpgrades(transport: Transport, hub: WebSocketHub): Transport {
  return {
    ...transport,
    requestFor(exchange) {
      if (exchange.head.get("upgrade") !== undefined) {
        exchange.offer = new FetchUpgrade(exchange, hub);
      }
      return transport.requestFor(exchange);
    },
  };
}

/** What becomes of an offered connection, once the handler has returned the response that takes it. */
interface Taken {
  /** The value of the response's Sec-WebSocket-Accept field. */
  readonly accept: string;
  /** Answers 101 with `fields` and opens what was made; `false`: it was refused instead. */
  open(fields: Headers): boolean;
  /** Called when it will never open. */
  refused(): void;
}

/** One request that a fetch handler may make a WebSocket of. */
class FetchUpgrade implements UpgradeOffer {
  readonly #exchange: Exchange;
  readonly #hub: WebSocketHub;
  #taken: Taken | undefined;
  #over = false;

  /** Offers the connection of `exchange`. */
  constructor(exchange: Exchange, hub: WebSocketHub) {
    this.#exchange = exchange;
    this.#hub = hub;
  }

  /** The handler's part, through {@linkcode upgradeWebSocket}, which says what is thrown. */
  take(request: Request, settings: WebSocketSettings): WebSocketUpgrade {
    const upgrade = this.check();
    const driver = createBrowserSocket(request.url);
    const config = resolveSettings(settings, driver.callbacks);
    const opened = (ws: ServerWebSocket) => driver.opened(ws);
    const parts = { hub: this.#hub, config, opened };
    const response = this.#take({
      accept: upgrade.accept,
      open: (fields) => openWebSocket(this.#exchange, upgrade, parts, fields),
      refused: () => driver.refused(),
    });
    return { socket: driver.socket, response };
  }

  /** The handler's part where another server speaks, through {@linkcode passWebSocket}. */
  pass({ speak, refused }: PassedWebSocket): Response {
    const exchange = this.#exchange;
    return this.#take({
      accept: this.check().accept,
      open(fields) {
        if (exchange.ending) {
          exchange.sendError(503);
          return false;
        }
        exchange.upgrade([...fields], speak);
        return true;
      },
      refused,
    });
  }

  /** Returns what the client asks for, which {@linkcode upgradeWebSocket} says more of. */
  check(): AcceptedUpgrade {
    if (this.#taken !== undefined || this.#over) throw notUpgradable();
    const upgrade = checkUpgrade(this.#exchange.head);
    if (!upgrade.ok) throw refusalError(upgrade);
    return upgrade;
  }

  #take(taken: Taken): Response {
    this.#taken = taken;
    const headers = { upgrade: "websocket", [ACCEPT]: taken.accept };
    return new Response(null, { status: 101, headers });
  }

  /**
   * The server's part, once the handler has returned: opens the socket if `response` is the one of
   * the upgrade.
   *
   * @returns false when it is not, so that it has to be sent
   */
  complete(response: unknown): boolean {
    const taken = this.#taken;
    if (taken === undefined || !(response instanceof Response)) return false;
    if (response.headers.get(ACCEPT) !== taken.accept) return false;
    this.#taken = undefined;
    this.#over = true;
    if (!taken.open(response.headers)) taken.refused();
    return true;
  }

  /** The handler is over: a socket that was not opened never will be. */
  withdraw(): void {
    this.#over = true;
    this.#taken?.refused();
    this.#taken = undefined;
  }
}

/** A WebSocket between the client and another server, whose bytes this one passes on. */
export interface PassedWebSocket {
  /** Makes what reads and writes the client's side, once 101 was answered. */
  speak(this: void, tunnel: Tunnel): Protocol;
  /** Called when the client is not answered with 101 after all. */
  refused(this: void): void;
}

/**
 * Checks a request that is to be passed on as a WebSocket, for `lib/proxy/`.
 *
 * @throws what {@linkcode upgradeWebSocket} throws
 */
export function offeredWebSocket(request: Request): AcceptedUpgrade {
  return offerOf(request).check();
}

/**
 * Returns the response by which a request becomes a WebSocket that another server speaks; fields
 * that are added to it are sent with the 101.
 *
 * @throws what {@linkcode upgradeWebSocket} throws
 */
export function passWebSocket(request: Request, passed: PassedWebSocket): Response {
  return offerOf(request).pass(passed);
}

function offerOf(request: Request): FetchUpgrade {
  const offer = exchangeOf(request)?.offer;
  if (offer instanceof FetchUpgrade) return offer;
  if (request.headers.has("upgrade")) throw notUpgradable();
  throw new HttpError(426, "UPGRADE_REQUIRED", "This resource is a WebSocket", {
    fields: [["Upgrade", "websocket"]],
  });
}

function notUpgradable(): StateError {
  return new StateError(
    "NOT_UPGRADABLE",
    "The request cannot be upgraded: pass the one that the handler was given, once",
  );
}

function refusalError({ status, headers: fields, message }: RefusedUpgrade): HttpError {
  const code = status === 426 ? "UPGRADE_REQUIRED" : "BAD_REQUEST";
  return new HttpError(status, code, message, { fields });
}
