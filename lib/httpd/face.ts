/**
 * Turns handlers of the httpd API into those of the dispatcher.
 *
 * @module
 */
import { isThenable } from "../contain/callbacks.ts";
import { ConfigError, HttpError } from "../errors.ts";
import type { ExchangeErrorHandler, FailureHandler } from "../http/dispatcher.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import type { Session } from "../http/session.ts";
import { shown } from "../options.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { UriMatcher } from "./matcher.ts";
import { type HttpdRequest, requestOf, type RequestOrigin } from "./request.ts";
import { type HandlerRoute, resolveRoute } from "./route.ts";

/**
 * Answers instead of a standard error answer (original: `httpd_err_handler_func_t`): returns a
 * `Response`, or answers with the request's own methods. There is no request when its head could
 * not be read; the connection is closed after that answer, and after one for status 500.
 */
export type ErrorHandler<S = ServerHandle> = (
  error: HttpError,
  request: HttpdRequest<S> | undefined,
  session: Session,
) => Response | void | Promise<Response | void>;

/** What the face of the httpd is made with. */
export interface FaceParts<S> {
  /** The server that handlers see; `undefined` where there is none. */
  readonly server: S | undefined;
  /** How a route's template is compared with a path. */
  readonly uriMatch: UriMatcher;
  /** The most fields that a route's handler may add to a response. */
  readonly maxResponseFields: number;
  /** Deals with what fails. */
  readonly failures: FailureHandler;
}

/** The httpd API of one server or app. */
export class HttpdFace<S = ServerHandle> {
  readonly #uriMatch: UriMatcher;
  readonly #origin: RequestOrigin<S>;

  /** Makes the face of a server, or of an app. */
  constructor({ server, uriMatch, maxResponseFields, failures }: FaceParts<S>) {
    this.#uriMatch = uriMatch;
    this.#origin = { server, maxResponseFields, failures };
  }

  /**
   * Checks a route and makes one of it whose handler takes an exchange.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not a route, or one that no request could
   * reach, saying what to write
   */
  route(given: HandlerRoute<S>): Route {
    const { uri, method, handler, context } = resolveRoute(given, this.#uriMatch);
    const handle = (exchange: Exchange): void | Promise<void> => {
      const result = handler(requestOf(exchange, this.#origin, context));
      if (isThenable(result)) return endedLater(exchange, result);
      return ended(exchange, result);
    };
    return Object.freeze({ uri, method, handle });
  }

  /**
   * Checks the arguments of `onError()` and makes a handler of it that takes an exchange.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a status that is not an error's, or what is not a
   * handler
   */
  errorHandler(status: number, handler: ErrorHandler<S> | null): ExchangeErrorHandler | null {
    assertErrorHandler(status, handler);
    if (handler === null) return null;
    return async (exchange, error, unread) => {
      const request = unread ? undefined : requestOf(exchange, this.#origin, undefined);
      const answer = await handler(error, request, exchange.session);
      if (answer !== undefined) await exchange.transport.sendResponse(exchange, answer);
    };
  }
}

async function endedLater(
  exchange: Exchange,
  result: PromiseLike<Response | void>,
): Promise<void> {
  await ended(exchange, await result);
}

/** Sends what a handler returned; if it returned nothing, checks that it has answered. */
function ended(exchange: Exchange, response: Response | void): void | Promise<void> {
  if (response !== undefined) return exchange.transport.sendResponse(exchange, response);
  if (exchange.response.answered || exchange.response.gone) return;
  if (exchange.detached) return;
  if (exchange.aborted) return exchange.session.destroy(); // so the handler ended rightly
  throw new HttpError(
    500,
    "HANDLER_FAILED",
    "The handler ended without a whole response: send one, await what sends it, or detach()",
  );
}

function assertErrorHandler(status: unknown, handler: unknown): void {
  if (!Number.isInteger(status) || status as number < 400 || status as number > 599) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `onError() takes a status from 400 to 599, not ${shown(status)}: write onError(500, handler)`,
    );
  }
  if (handler === null || typeof handler === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `The handler of onError() is ${shown(handler)}: give a function, or null to take it away`,
  );
}
