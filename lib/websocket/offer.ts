/**
 * The offer of a connection to a fetch handler, which may make a WebSocket of its request: by
 * `upgradeWebSocket()`, or by passing it on to another server. What speaks is in `upgrade.ts`, which
 * is loaded where there are WebSockets.
 *
 * @module
 */
import { exchangeOf } from "../fetch/served_request.ts";
import { HttpError, StateError } from "../errors.ts";
import type { Exchange, Transport } from "../http/exchange.ts";
import type { UpgradeOffer } from "../http/tunnel.ts";
import type { WebSocketHub } from "./hub.ts";

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
export interface Taken {
  /** The value of the response's Sec-WebSocket-Accept field. */
  readonly accept: string;
  /** Answers 101 with `fields` and opens what was made; `false`: it was refused instead. */
  open(fields: Headers): boolean;
  /** Called when it will never open. */
  refused(): void;
}

/** One request that a fetch handler may make a WebSocket of. */
export class FetchUpgrade implements UpgradeOffer {
  /** The request and its response. */
  readonly exchange: Exchange;
  /** The server's sockets. */
  readonly hub: WebSocketHub;
  #taken: Taken | undefined;
  #over = false;

  /** Offers the connection of `exchange`. */
  constructor(exchange: Exchange, hub: WebSocketHub) {
    this.exchange = exchange;
    this.hub = hub;
  }

  /** Throws unless it can be taken now. */
  assertFree(): void {
    if (this.#taken !== undefined || this.#over) throw notUpgradable();
  }

  /** Returns the response by which the handler takes it. */
  take(taken: Taken): Response {
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

/**
 * Returns the offer of a request that was given to a fetch handler.
 *
 * @throws {HttpError} 426 `UPGRADE_REQUIRED` when it does not ask for an upgrade
 * @throws {StateError} `NOT_UPGRADABLE` when it has no connection that could be upgraded
 */
export function offerOf(request: Request): FetchUpgrade {
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
