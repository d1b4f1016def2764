/**
 * Answers requests: finds the handler, runs it, and sees to it that whatever the handler does, the
 * request is answered once or its connection is cut.
 *
 * @module
 */
import { isThenable, watch } from "../contain/callbacks.ts";
import { ConfigError, HttpError, HttpsdError, StateError } from "../errors.ts";
import { shown } from "../options.ts";
import type { HttpsServer } from "../server.ts";
import type { ResponseWriter } from "./response.ts";
import type { Exchange } from "./exchange.ts";
import { HttpdRequest, type RequestOrigin } from "../httpd/request.ts";
import { assertFields, assertStatus } from "./response_rules.ts";
import type { HandlerRoute, Router } from "./router.ts";
import type { Session } from "../http/session.ts";
import { errorBody } from "./status.ts";
import type { UpgradeOffer } from "./tunnel.ts";

/** What a fetch handler is told besides the request. */
export interface RequestInfo {
  /** The session that the request came on: address, TLS facts, context. */
  readonly session: Session;
  /** The server. */
  readonly server: HttpsServer;
  /**
   * Resolves when the response has been written, for what is to be done afterwards; rejects when
   * the connection was cut before. Whoever does not look at it need not catch it.
   */
  readonly completed: Promise<void>;
}

/** The {@linkcode RequestInfo} of an exchange; the promise is made when it is looked at. */
export class ExchangeInfo implements RequestInfo {
  readonly server: HttpsServer;
  readonly #exchange: Exchange;

  /** Wraps an exchange. */
  constructor(exchange: Exchange, server: HttpsServer) {
    this.#exchange = exchange;
    this.server = server;
  }

  get session(): Session {
    return this.#exchange.session;
  }

  get completed(): Promise<void> {
    return this.#exchange.completed;
  }
}

/** Answers a request with a response. */
export type FetchHandler = (request: Request, info: RequestInfo) => Response | Promise<Response>;

/** What answers requests with its `fetch`: a Hono app, or a default export for Deno or Bun. */
export interface FetchApp {
  /** Answers a request with a response. */
  fetch(request: Request, info: RequestInfo): Response | Promise<Response>;
}

/**
 * Answers instead of a standard error answer (original: `httpd_err_handler_func_t`): returns a
 * `Response`, or answers with the request's own methods. There is no request when its head could
 * not be read; the connection is closed after that answer, and after one for status 500.
 */
export type ErrorHandler = (
  error: HttpError,
  request: HttpdRequest | undefined,
  session: Session,
) => Response | void | Promise<Response | void>;

/** How requests come and answers go: on connections, or as `Request`s and `Response`s. */
export interface Transport {
  /** The request for a fetch handler. */
  requestFor(exchange: Exchange): Request;
  /** Sends what a handler returned, which may be anything. */
  sendResponse(exchange: Exchange, result: unknown): void | Promise<void>;
}

/** What a dispatcher works with. */
export interface DispatcherParts {
  /** The server that handlers are told of; `undefined` where there is none. */
  readonly server: HttpsServer | undefined;
  /** The routes. */
  readonly router: Router;
  /** How requests come and answers go. */
  readonly transport: Transport;
  /** What answers where no route does. */
  readonly handler:
    | ((request: Request, exchange: Exchange) => Response | Promise<Response>)
    | undefined;
  /** The most fields that a route's handler may add to a response. */
  readonly maxRespHeaders: number;
  /** A handler or its response failed. */
  readonly failed: (error: HttpsdError, session: Session) => void;
  /** An error was answered. */
  readonly errorAnswered: (error: HttpError, session: Session) => void;
}

/** Routes requests to handlers and errors to error handlers. */
export class Dispatcher {
  readonly #parts: DispatcherParts;
  readonly #origin: RequestOrigin;
  readonly #errorHandlers: Map<number, ErrorHandler>;
  /** What was reported while a handler was still running. */
  readonly #reported = new WeakMap<Exchange, unknown>();

  /** Makes a dispatcher; the error handlers may be shared with another. */
  constructor(parts: DispatcherParts, errorHandlers = new Map<number, ErrorHandler>()) {
    this.#parts = parts;
    this.#errorHandlers = errorHandlers;
    this.#origin = {
      server: parts.server,
      maxRespHeaders: parts.maxRespHeaders,
      failed: (exchange, error) => this.#failed(exchange, error),
      sendingFailed: (exchange, cause) => this.#sendingFailed(exchange, cause),
      errorAnswered: ({ session }, error) => parts.errorAnswered(error, session),
    };
  }

  /** A dispatcher with the same routes and error handlers, and some other parts. */
  with(parts: Partial<DispatcherParts>): Dispatcher {
    return new Dispatcher({ ...this.#parts, ...parts }, this.#errorHandlers);
  }

  /** Answers errors of `status` with `handler`; `null`: with the standard answer again. */
  onError(status: number, handler: ErrorHandler | null): void {
    assertErrorHandler(status, handler);
    if (handler === null) this.#errorHandlers.delete(status);
    else this.#errorHandlers.set(status, handler);
  }

  /** Answers a request. Never throws. */
  handle(exchange: Exchange): void {
    try {
      const result = this.#dispatch(exchange);
      if (result !== undefined) watch(result, (error) => this.#failed(exchange, error));
    } catch (error) {
      this.#failed(exchange, error);
    }
  }

  #dispatch(exchange: Exchange): void | Promise<void> {
    const { router, handler } = this.#parts;
    const { method, path, host } = exchange.head;
    if (exchange.misdirected) {
      return this.#answer(
        exchange,
        new HttpError(421, "MISDIRECTED_REQUEST", `This connection may not speak for ${host}`),
      );
    }
    const match = router.match(method, path);
    if (match.route !== undefined) return this.#runRoute(exchange, match.route);
    if (handler !== undefined) return this.#runFetch(exchange, handler);
    if (match.allow.length === 0) {
      return this.#answer(exchange, new HttpError(404, "ROUTE_NOT_FOUND", `No route for ${path}`));
    }
    return this.#answer(
      exchange,
      new HttpError(405, "METHOD_NOT_ALLOWED", `No route for ${method} ${path}`, {
        fields: [["Allow", match.allow.join(", ")]],
      }),
    );
  }

  #runRoute(exchange: Exchange, route: HandlerRoute): void | Promise<void> {
    const request = new HttpdRequest(exchange, this.#origin, route.context);
    const result = route.handler(request);
    if (isThenable(result)) return this.#finishRoute(exchange, result);
    return this.#handlerEnded(exchange, result);
  }

  async #finishRoute(exchange: Exchange, result: PromiseLike<Response | void>): Promise<void> {
    await this.#handlerEnded(exchange, await result);
  }

  #handlerEnded(exchange: Exchange, response: Response | void): void | Promise<void> {
    if (response !== undefined) return this.#parts.transport.sendResponse(exchange, response);
    if (exchange.response.answered || exchange.response.gone) return;
    if (exchange.detached) return;
    if (exchange.aborted) return exchange.session.destroy(); // so the handler was right to end
    throw new HttpError(
      500,
      "HANDLER_FAILED",
      "The handler ended without a whole response: send one, await what sends it, or detach()",
    );
  }

  #runFetch(
    exchange: Exchange,
    handler: NonNullable<DispatcherParts["handler"]>,
  ): void | Promise<void> {
    const { transport } = this.#parts;
    const request = transport.requestFor(exchange);
    const { offer } = exchange;
    if (offer !== undefined) {
      return this.#runUpgradable(exchange, offer, () => handler(request, exchange));
    }
    const result = handler(request, exchange);
    if (!isThenable(result)) return transport.sendResponse(exchange, result);
    return this.#finishFetch(exchange, result);
  }

  async #finishFetch(exchange: Exchange, result: PromiseLike<Response>): Promise<void> {
    await this.#parts.transport.sendResponse(exchange, await result);
  }

  async #runUpgradable(
    exchange: Exchange,
    offer: UpgradeOffer,
    handle: () => Response | Promise<Response>,
  ): Promise<void> {
    try {
      const response = await handle();
      if (!offer.complete(response)) {
        await this.#parts.transport.sendResponse(exchange, response);
      }
    } finally {
      offer.withdraw();
    }
  }

  /** A handler failed, or asked for something that fails: answer the error, and tell of it. */
  #failed(exchange: Exchange, cause: unknown): void {
    const { session, response } = exchange;
    if (exchange.isLoss(cause)) return this.#lost(exchange);
    const error = handlerError(cause);
    if (!this.#isReported(exchange, cause)) this.#parts.failed(error, session);
    if (response.started) return exchange.fail(error);
    const answered = error instanceof HttpError && canAnswer(error)
      ? error
      : new HttpError(500, "HANDLER_FAILED", error.message, { cause });
    void this.#answer(exchange, answered);
  }

  /** The handler ended because the client has left, or ended its side. */
  #lost({ session, response }: Exchange): void {
    if (!response.answered && !response.gone) session.destroy();
  }

  /**
   * What a handler sends has failed: that is reported once, whether the handler waits for it or not.
   * A handler that has detached its request is over, so that nothing else would end the answer.
   */
  #sendingFailed(exchange: Exchange, cause: unknown): void {
    if (this.#isReported(exchange, cause)) return;
    this.#reported.set(exchange, cause);
    this.#parts.failed(handlerError(cause), exchange.session);
    const second = cause instanceof StateError; // the answer that came before goes on
    if (exchange.detached && !second) this.#failed(exchange, cause);
  }

  #isReported(exchange: Exchange, cause: unknown): boolean {
    return this.#reported.has(exchange) && this.#reported.get(exchange) === cause;
  }

  /** Answers an error, and tells of the answer. Never throws or rejects. */
  async #answer(exchange: Exchange, error: HttpError): Promise<void> {
    await this.#answerError(exchange, error);
    this.#parts.errorAnswered(error, exchange.session);
  }

  /** Answers an error with its handler, or in the standard way. Never throws or rejects. */
  async #answerError(exchange: Exchange, error: HttpError): Promise<void> {
    const handler = this.#errorHandlers.get(error.status);
    if (handler === undefined) return exchange.sendError(error.status, undefined, error.fields);
    const { session, response } = exchange;
    if (error.status === 500) response.closeAfterwards();
    try {
      const answer = await handler(
        error,
        new HttpdRequest(exchange, this.#origin, undefined),
        session,
      );
      if (answer !== undefined) await this.#parts.transport.sendResponse(exchange, answer);
      if (response.answered || response.gone) return;
      throw new HttpError(500, "HANDLER_FAILED", "The error handler sent no whole response");
    } catch (cause) {
      if (exchange.isLoss(cause)) return this.#lost(exchange);
      this.#parts.failed(handlerFailed(cause), session);
      if (response.started) exchange.fail(cause);
      else exchange.sendError(error.status, undefined, error.fields);
    }
  }

  /** Answers a request whose head could not be read. Never throws. */
  refuse(exchange: Exchange, error: HttpError): void {
    const { session, response } = exchange;
    const handler = this.#errorHandlers.get(error.status);
    if (handler === undefined) {
      sendStandard(response, error);
      this.#parts.errorAnswered(error, session);
      return;
    }
    this.#refuseWith(handler, session, response, error).catch((cause) => {
      this.#parts.failed(handlerFailed(cause), session);
      if (!response.started) sendStandard(response, error);
      else response.abort(handlerFailed(cause));
    }).finally(() => this.#parts.errorAnswered(error, session));
  }

  async #refuseWith(
    handler: ErrorHandler,
    session: Session,
    response: ResponseWriter,
    error: HttpError,
  ): Promise<void> {
    const answer = await handler(error, undefined, session);
    if (answer === undefined) return sendStandard(response, error);
    const body = new Uint8Array(await answer.arrayBuffer());
    response.send({ status: answer.status, fields: answer.headers }, body);
  }
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

/** Whether an error can be answered with its own status and fields. */
function canAnswer({ status, fields }: HttpError): boolean {
  try {
    assertStatus(status);
    assertFields(fields);
    return status >= 400 && status <= 599;
  } catch {
    return false; // a program can throw an error with anything in it
  }
}

function handlerError(cause: unknown): HttpsdError {
  return cause instanceof HttpsdError
    ? cause
    : new HttpError(500, "HANDLER_FAILED", "The handler threw", { cause });
}

function handlerFailed(cause: unknown): HttpError {
  return cause instanceof HttpError
    ? cause
    : new HttpError(500, "HANDLER_FAILED", "The error handler threw", { cause });
}

/** The original's answer to an error. */
function sendStandard(response: ResponseWriter, error: HttpError): void {
  response.send(
    { status: error.status, fields: [["Content-Type", "text/plain; charset=utf-8"]] },
    errorBody(error),
  );
}
