/**
 * Turns handlers of the httpd API into those of the dispatcher.
 *
 * @module
 */
import { isThenable } from "../contain/callbacks.ts";
import { ConfigError, type HttpError } from "../errors.ts";
import {
  assertAnswered,
  type ExchangeErrorHandler,
  type ExchangeMiddleware,
  type FailureHandler,
} from "../http/dispatcher.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import type { Session } from "../http/session.ts";
import { shown } from "../options.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { UriMatcher } from "./matcher.ts";
import type { HttpdRequest, RequestOrigin } from "./request.ts";
import type * as Requests from "./request.ts";
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

/**
 * Runs around all that answers requests: `next()` runs the next middleware, and in the end the
 * route's handler, the fetch handler or the 404, once. It resolves with the `Response` that was
 * returned and is not sent yet, or `undefined` when the request was answered with its own methods.
 * A returned `Response` is sent in its place.
 */
export type Middleware<S = ServerHandle> = (
  request: HttpdRequest<S>,
  next: () => Promise<Response | undefined>,
) => Response | void | Promise<Response | void>;

/** What makes requests of exchanges: functions of `request.ts`. */
export interface RequestMaker extends Pick<typeof Requests, "requestOf" | "takeFields"> {
  /** Loads the others; left out where they are there. A route or middleware is not asked before. */
  readonly load?: () => Promise<void>;
}

/** What the face of the httpd is made with. */
export interface FaceParts<S> {
  /** Makes the requests that handlers are given. */
  readonly requests: RequestMaker;
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
  readonly #requests: RequestMaker;

  /** Makes the face of a server, or of an app. */
  constructor({ requests, server, uriMatch, maxResponseFields, failures }: FaceParts<S>) {
    this.#requests = requests;
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
      const request = this.#requests.requestOf(exchange, this.#origin, context);
      const result = handler(request);
      if (isThenable(result)) return this.#endedLater(exchange, request, result);
      return this.#ended(exchange, request, result);
    };
    return Object.freeze({ uri, method, handle });
  }

  /**
   * Checks a middleware, and makes one of it that takes an exchange.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not a function
   */
  middleware(given: Middleware<S>): ExchangeMiddleware {
    if (typeof given !== "function") {
      throw new ConfigError(
        "INVALID_CONFIG",
        `use() takes a function, not ${shown(given)}: write use((request, next) => next()), and ` +
          "look at request.path where it is for some paths",
      );
    }
    return (exchange, next) => {
      const { requestOf, takeFields } = this.#requests;
      const request = requestOf(exchange, this.#origin, undefined);
      exchange.face = request;
      const keep = (): void => exchange.addFields(takeFields(request));
      const result = given(request, () => {
        keep();
        return next() as Promise<Response | undefined>;
      });
      if (isThenable(result)) return keepLater(result, keep);
      keep();
      return result;
    };
  }

  /**
   * Checks the arguments of `onError()` and makes a handler of them that takes an exchange;
   * `status` is `undefined` where it is for all.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a status that is not an error's, or what is not a
   * handler
   */
  errorHandler(
    ...given: [ErrorHandler<S> | null] | [number, ErrorHandler<S> | null]
  ): [status: number | undefined, handler: ExchangeErrorHandler | null] {
    const [first, second] = given;
    const isForAll = given.length === 1 && typeof first !== "number";
    const handler = isForAll ? first : second;
    assertErrorHandler(isForAll ? undefined : first, handler);
    const status = isForAll ? undefined : first as number;
    return [status, handler === null ? null : this.#errorHandler(handler!)];
  }

  #errorHandler(handler: ErrorHandler<S>): ExchangeErrorHandler {
    return async (exchange, error, unread) => {
      const { requestOf, takeFields, load } = this.#requests;
      if (load !== undefined) await load();
      const request = unread ? undefined : requestOf(exchange, this.#origin, undefined);
      const answer = await handler(error, request, exchange.session);
      if (answer === undefined) return;
      if (request !== undefined) exchange.addFields(takeFields(request));
      await exchange.transport.sendResponse(exchange, answer);
    };
  }

  async #endedLater(
    exchange: Exchange,
    request: HttpdRequest<S>,
    result: PromiseLike<Response | void>,
  ): Promise<void> {
    await this.#ended(exchange, request, await result);
  }

  /**
   * Sends what a handler returned, with the fields that it has set before; if it returned nothing,
   * checks that it has answered.
   */
  #ended(
    exchange: Exchange,
    request: HttpdRequest<S>,
    response: Response | void,
  ): void | Promise<void> {
    if (response === undefined) return assertAnswered(exchange);
    exchange.addFields(this.#requests.takeFields(request));
    return exchange.respond(response);
  }
}

async function keepLater<T>(result: PromiseLike<T>, keep: () => void): Promise<T> {
  const given = await result;
  keep();
  return given;
}

function assertErrorHandler(status: unknown, handler: unknown): void {
  const isStatus = Number.isInteger(status) && status as number >= 400 && status as number <= 599;
  if (status !== undefined && !isStatus) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `onError() takes a status from 400 to 599, not ${shown(status)}: write ` +
        "onError(500, handler), or onError(handler) for all",
    );
  }
  if (handler === null || typeof handler === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `The handler of onError() is ${shown(handler)}: give a function, or null to take it away`,
  );
}
