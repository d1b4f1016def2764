/**
 * Answers requests: finds the handler, runs it, and sees to it that whatever the handler does, the
 * request is answered once or its connection is cut.
 *
 * @module
 */
import { HttpError, HttpsdError } from "../errors.ts";
import type { HttpsServer } from "../server.ts";
import type { WebSocketHub } from "../websocket/hub.ts";
import { acceptWebSocket, offerUpgrade, type UpgradeOffer } from "../websocket/upgrade.ts";
import { encodeHead, utf8 } from "./encoder.ts";
import type { Exchange } from "./exchange.ts";
import { sendResponse } from "./fetch.ts";
import { requestFor } from "./lazy_request.ts";
import { HttpdRequest, type RequestOrigin } from "./request.ts";
import type { ResponseWriter } from "./response.ts";
import type { ResolvedRoute, Router } from "./router.ts";
import type { Session } from "./session.ts";
import { ERROR_BODIES } from "./status.ts";

/** What a fetch handler is told besides the request. */
export interface RequestInfo {
  /** The session that the request came on: address, TLS facts, context. */
  readonly session: Session;
  /** The server. */
  readonly server: HttpsServer;
}

/** Answers a request with a response. */
export type FetchHandler = (request: Request, info: RequestInfo) => Response | Promise<Response>;

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

/** What a dispatcher works with. */
export interface DispatcherParts {
  /** The server that handlers are told of. */
  readonly server: HttpsServer;
  /** The routes. */
  readonly router: Router;
  /** The open WebSockets. */
  readonly hub: WebSocketHub;
  /** What answers where no route does. */
  readonly handler: FetchHandler | undefined;
  /** The most fields that a route's handler may add to a response. */
  readonly maxRespHeaders: number;
  /** Whether a connection may carry requests for this host. */
  readonly speaksFor: (session: Session, host: string | undefined) => boolean;
  /** A handler or its response failed. */
  readonly failed: (error: HttpsdError, session: Session) => void;
  /** An error was answered. */
  readonly errorAnswered: (error: HttpError, session: Session) => void;
}

/** Routes requests to handlers and errors to error handlers. */
export class Dispatcher {
  readonly #parts: DispatcherParts;
  readonly #origin: RequestOrigin;
  readonly #errorHandlers = new Map<number, ErrorHandler>();

  /** Makes a dispatcher without error handlers. */
  constructor(parts: DispatcherParts) {
    this.#parts = parts;
    this.#origin = {
      server: parts.server,
      maxRespHeaders: parts.maxRespHeaders,
      failed: (exchange, error) => this.#failed(exchange, error),
      errorAnswered: ({ session }, error) => parts.errorAnswered(error, session),
    };
  }

  /** Answers errors of `status` with `handler`; `null`: with the standard answer again. */
  onError(status: number, handler: ErrorHandler | null): void {
    if (handler === null) this.#errorHandlers.delete(status);
    else this.#errorHandlers.set(status, handler);
  }

  /** Answers a request. Never throws. */
  handle(exchange: Exchange): void {
    try {
      const result = this.#dispatch(exchange);
      if (result instanceof Promise) result.catch((error) => this.#failed(exchange, error));
    } catch (error) {
      this.#failed(exchange, error);
    }
  }

  #dispatch(exchange: Exchange): void | Promise<void> {
    const { router, handler, speaksFor } = this.#parts;
    const { method, path, host } = exchange.head;
    if (!speaksFor(exchange.session, host)) {
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

  #runRoute(exchange: Exchange, route: ResolvedRoute): void | Promise<void> {
    const request = new HttpdRequest(exchange, this.#origin, route.context);
    if ("websocket" in route) {
      return acceptWebSocket(exchange, request, route.websocket, this.#parts.hub);
    }
    const result = route.handler(request);
    if (isThenable(result)) return this.#finishRoute(exchange, result);
    return this.#handlerEnded(exchange, result);
  }

  async #finishRoute(exchange: Exchange, result: PromiseLike<Response | void>): Promise<void> {
    await this.#handlerEnded(exchange, await result);
  }

  #handlerEnded(exchange: Exchange, response: Response | void): void | Promise<void> {
    if (response !== undefined) return sendResponse(exchange, response);
    if (exchange.response.answered || exchange.session.connection.closed) return;
    if (exchange.detached) return;
    if (exchange.aborted) return exchange.session.destroy(); // so the handler was right to end
    throw new HttpError(500, "HANDLER_FAILED", "The handler ended without a whole response");
  }

  #runFetch(exchange: Exchange, handler: FetchHandler): void | Promise<void> {
    const { server, hub } = this.#parts;
    const request = requestFor(exchange);
    const info = { session: exchange.session, server };
    const offer = offerUpgrade(request, exchange, hub);
    if (offer !== undefined) {
      return this.#runUpgradable(exchange, offer, () => handler(request, info));
    }
    const result = handler(request, info);
    if (!isThenable(result)) return sendResponse(exchange, result);
    return this.#finishFetch(exchange, result);
  }

  async #finishFetch(exchange: Exchange, result: PromiseLike<Response>): Promise<void> {
    await sendResponse(exchange, await result);
  }

  async #runUpgradable(
    exchange: Exchange,
    offer: UpgradeOffer,
    handle: () => Response | Promise<Response>,
  ): Promise<void> {
    try {
      const response = await handle();
      if (!offer.complete(response)) await sendResponse(exchange, response);
    } finally {
      offer.withdraw();
    }
  }

  /** A handler failed, or asked for something that fails: answer the error, and tell of it. */
  #failed(exchange: Exchange, cause: unknown): void {
    const { session, response } = exchange;
    const error = cause instanceof HttpsdError
      ? cause
      : new HttpError(500, "HANDLER_FAILED", "The handler threw", { cause });
    this.#parts.failed(error, session);
    if (response.started) return exchange.fail(error);
    const answered = error instanceof HttpError && canAnswer(error)
      ? error
      : new HttpError(500, "HANDLER_FAILED", error.message, { cause });
    void this.#answer(exchange, answered);
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
      if (answer !== undefined) await sendResponse(exchange, answer);
      if (response.answered || session.connection.closed) return;
      throw new HttpError(500, "HANDLER_FAILED", "The error handler sent no whole response");
    } catch (cause) {
      this.#parts.failed(handlerFailed(cause), session);
      if (response.started) exchange.fail(cause);
      else exchange.sendError(error.status, undefined, error.fields);
    }
  }

  /** Answers a request whose head could not be read. Never throws. */
  refuse(session: Session, response: ResponseWriter, error: HttpError): void {
    const handler = this.#errorHandlers.get(error.status);
    if (handler === undefined) {
      sendStandard(response, error.status);
      this.#parts.errorAnswered(error, session);
      return;
    }
    this.#refuseWith(handler, session, response, error).catch((cause) => {
      this.#parts.failed(handlerFailed(cause), session);
      if (!response.started) sendStandard(response, error.status);
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
    if (answer === undefined) return sendStandard(response, error.status);
    const body = new Uint8Array(await answer.arrayBuffer());
    response.send({ status: answer.status, fields: answer.headers }, body);
  }
}

/** Whether an error can be answered with its own status and fields. */
function canAnswer({ status, fields }: HttpError): boolean {
  try {
    encodeHead(status, undefined, fields);
    return status >= 400 && status <= 599;
  } catch {
    return false; // a program can throw an error with anything in it
  }
}

function handlerFailed(cause: unknown): HttpError {
  return cause instanceof HttpError
    ? cause
    : new HttpError(500, "HANDLER_FAILED", "The error handler threw", { cause });
}

/** The original's answer to an error. */
function sendStandard(response: ResponseWriter, status: number): void {
  const body = utf8(ERROR_BODIES[status] ?? "");
  response.send({ status, fields: [["Content-Type", "text/plain; charset=utf-8"]] }, body);
}

function isThenable<T>(result: T | PromiseLike<T>): result is PromiseLike<T> {
  return typeof (result as PromiseLike<T> | undefined)?.then === "function";
}
