/**
 * Handlers that take a `Request` and return a `Response`, and how an exchange's handler is made of
 * one.
 *
 * @module
 */
import { isThenable } from "../contain/callbacks.ts";
import { ConfigError } from "../errors.ts";
import type { ExchangeHandler } from "../http/router.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Session } from "../http/session.ts";
import type { UpgradeOffer } from "../http/tunnel.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import { shown } from "../options.ts";

/** What a fetch handler is given besides the request; `S` is its server. */
export interface RequestInfo<S = ServerHandle> {
  /** The session that the request came on: address, TLS facts, context. */
  readonly session: Session;
  /** The server. */
  readonly server: S;
  /**
   * Resolves when the response has been written, for what is to be done afterwards; rejects when
   * the connection was cut before. A rejection that is not caught has no effect.
   */
  readonly completed: Promise<void>;
  /**
   * The template of the route that answers, such as `/items/:id`, for events, metrics, traces and logs.
   * A handler with routes of its own sets it; never to a path, of which clients can make any number.
   * Default: `undefined`.
   *
   * @throws {ConfigError} `INVALID_CONFIG` (when it is set) for anything but a text or `undefined`
   */
  route: string | undefined;
}

/** The {@linkcode RequestInfo} of an exchange; the promise is made when it is looked at. */
export class ExchangeInfo<S> implements RequestInfo<S> {
  readonly server: S;
  readonly #exchange: Exchange;

  /** Wraps an exchange. */
  constructor(exchange: Exchange, server: S) {
    this.#exchange = exchange;
    this.server = server;
  }

  get session(): Session {
    return this.#exchange.session;
  }

  get completed(): Promise<void> {
    return this.#exchange.completed;
  }

  get route(): string | undefined {
    return this.#exchange.route;
  }

  set route(route: string | undefined) {
    nameRoute(this.#exchange, route);
  }
}

/**
 * Sets the template of the route that answers an exchange.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for anything but a text or `undefined`
 */
export function nameRoute(exchange: Exchange, route: string | undefined): void {
  if (route !== undefined && typeof route !== "string") {
    throw new ConfigError("INVALID_CONFIG", `The route must be a template, not ${shown(route)}`);
  }
  exchange.route = route;
}

/** Answers a request with a response. */
export type FetchHandler<S = ServerHandle> = (
  request: Request,
  info: RequestInfo<S>,
) => Response | Promise<Response>;

/** An object that answers requests with its `fetch`: a Hono app, or an export for Deno or Bun. */
export interface FetchApp<S = ServerHandle> {
  /** Answers a request with a response. */
  fetch(request: Request, info: RequestInfo<S>): Response | Promise<Response>;
}

type Handle = (request: Request, exchange: Exchange) => Response | Promise<Response>;

/** Makes an exchange's handler of one for requests. */
export function exchangeHandler(handle: Handle): ExchangeHandler {
  return (exchange) => {
    const request = exchange.transport.requestFor(exchange);
    const { offer } = exchange;
    if (offer !== undefined) return answerUpgradable(handle, request, exchange, offer);
    const result = handle(request, exchange);
    if (isThenable(result)) return answerLater(exchange, result);
    return exchange.respond(result);
  };
}

async function answerLater(exchange: Exchange, result: PromiseLike<Response>): Promise<void> {
  const sending = exchange.respond(await result);
  if (sending !== undefined) await sending; // nearly all is sent at once
}

async function answerUpgradable(
  handle: Handle,
  request: Request,
  exchange: Exchange,
  offer: UpgradeOffer,
): Promise<void> {
  try {
    const response = await handle(request, exchange);
    if (!offer.complete(response)) await exchange.respond(response);
  } finally {
    offer.withdraw();
  }
}
