/**
 * Answers requests: finds the handler, runs it, and makes sure that the request is answered once or
 * its connection is cut, whatever the handler does.
 *
 * The handlers here take an exchange. What a program writes takes a `Request` or an `HttpdRequest`:
 * fetch/ and httpd/ make an exchange's handler of it when it is registered.
 *
 * @module
 */
import { isThenable } from "../contain/callbacks.ts";
import { HttpError, HttpsdError, StateError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import { assertStatus, checkedFields, type FieldList } from "./response_rules.ts";
import type { ExchangeHandler, Router } from "./router.ts";
import { errorBody } from "./status.ts";

/**
 * Answers an error instead of the standard answer. Of a request that is `unread` nothing is known:
 * its head could not be read; where the handler sends nothing, it gets the standard answer.
 */
export type ExchangeErrorHandler = (
  exchange: Exchange,
  error: HttpError,
  unread: boolean,
) => Promise<void>;

/**
 * Runs around what answers a request: `next` runs that, once, and resolves with the `Response` that
 * is to be sent, or `undefined` when it was answered otherwise. Returns what is to be sent;
 * `undefined`: what `next` gave.
 */
export type ExchangeMiddleware = (exchange: Exchange, next: () => Promise<unknown>) => unknown;

/** Handles the failures of handlers. */
export interface FailureHandler {
  /**
   * Reports that a handler failed, or what it asked for, and answers the error; cuts an answer that
   * has begun. Never throws.
   */
  failed(exchange: Exchange, cause: unknown): void;
  /**
   * Reports that what a handler sends has failed: once, whether the handler waits for it or not. A
   * handler that has detached its request is over, so that nothing else would end the answer.
   */
  sendingFailed(exchange: Exchange, cause: unknown): void;
}

/** Routes requests to handlers and errors to error handlers. */
export class Dispatcher implements FailureHandler {
  readonly #router: Pick<Router, "match">;
  readonly #fallback: ExchangeHandler | undefined;
  readonly #defaultFields: FieldList | undefined;
  /** By status; `undefined`: of all that have none of their own. */
  readonly #errorHandlers = new Map<number | undefined, ExchangeErrorHandler>();
  #middleware: readonly ExchangeMiddleware[] = [];
  /** What was reported while a handler was still running. */
  readonly #reported = new WeakMap<Exchange, unknown>();

  /** Makes a dispatcher; `fallback` answers where no route does, every answer has `defaultFields`. */
  constructor(
    router: Pick<Router, "match">,
    fallback: ExchangeHandler | undefined,
    defaultFields: FieldList = [],
  ) {
    this.#router = router;
    this.#fallback = fallback;
    this.#defaultFields = defaultFields.length > 0 ? defaultFields : undefined;
  }

  /** Runs `middleware` around all that answers requests, inside of those that were added before. */
  use(middleware: ExchangeMiddleware): void {
    this.#middleware = [...this.#middleware, middleware];
  }

  /**
   * Answers errors of `status` with `handler`, or all that have no handler of their own where it is
   * `undefined`; `null`: with the standard answer again.
   */
  onError(status: number | undefined, handler: ExchangeErrorHandler | null): void {
    if (handler === null) this.#errorHandlers.delete(status);
    else this.#errorHandlers.set(status, handler);
  }

  /** Answers a request. Never throws. */
  handle(exchange: Exchange): void {
    exchange.defaultFields = this.#defaultFields;
    if (exchange.isWrapped) exchange.run(() => this.#handle(exchange));
    else this.#handle(exchange);
  }

  #handle(exchange: Exchange): void {
    try {
      const result = this.#dispatch(exchange);
      if (isThenable(result)) return this.#await(exchange, result);
    } catch (error) {
      this.failed(exchange, error);
    }
    exchange.settled();
  }

  #await(exchange: Exchange, result: PromiseLike<void>): void {
    // A promise of our own: a foreign thenable may break the rules of promises.
    Promise.resolve(result).then(
      () => exchange.settled(),
      (error) => {
        this.failed(exchange, error);
        exchange.settled();
      },
    );
  }

  #dispatch(exchange: Exchange): void | Promise<void> {
    if (exchange.misdirected) {
      const message = `This connection may not speak for ${exchange.head.host}`;
      return this.#answer(exchange, new HttpError(421, "MISDIRECTED_REQUEST", message));
    }
    const chain = this.#middleware;
    return chain.length === 0 ? this.#route(exchange) : this.#through(chain, exchange);
  }

  /** Has the middleware run around what answers, and sends what is left of it at the end. */
  async #through(chain: readonly ExchangeMiddleware[], exchange: Exchange): Promise<void> {
    const result = await this.#pass(chain, 0, exchange);
    if (result !== undefined) await exchange.transport.sendResponse(exchange, result);
    else assertAnswered(exchange);
  }

  async #pass(
    chain: readonly ExchangeMiddleware[],
    at: number,
    exchange: Exchange,
  ): Promise<unknown> {
    const middleware = chain[at];
    if (middleware === undefined) return await exchange.hold(() => this.#route(exchange));
    let rest: Promise<unknown> | undefined;
    let isOver = false;
    let isRestOver = false;
    const next = (): Promise<unknown> => {
      if (rest !== undefined || isOver) throw calledTooLate(isOver);
      rest = this.#pass(chain, at + 1, exchange);
      rest.then(() => isRestOver = true, () => isRestOver = true);
      return rest;
    };
    const given = middleware(exchange, next);
    const result = await given;
    isOver = true;
    if (rest === undefined) return result;
    // What a middleware has waited for and answered itself is no failure any more.
    const waited = isThenable(given) && isRestOver;
    if (result === undefined) {
      return await rest.catch((cause: unknown) => {
        if (!waited || !exchange.response.answered) throw cause;
      });
    }
    if (!waited) {
      rest.catch((cause) => exchange.isLoss(cause) || exchange.report(handlerError(cause)));
    }
    return result;
  }

  #route(exchange: Exchange): void | Promise<void> {
    const { method, path } = exchange.head;
    const match = this.#router.match(method, path);
    if (match.route !== undefined) {
      exchange.route = match.route.uri;
      return match.route.handle(exchange);
    }
    if (this.#fallback !== undefined) return this.#fallback(exchange);
    if (match.allow.length === 0) {
      return this.#answer(exchange, new HttpError(404, "ROUTE_NOT_FOUND", `No route for ${path}`));
    }
    const fields = [["Allow", match.allow.join(", ")]] as const;
    const message = `No route for ${method} ${path}`;
    return this.#answer(exchange, new HttpError(405, "METHOD_NOT_ALLOWED", message, { fields }));
  }

  /** Answers a request that could not be read. Never throws. */
  refuse(exchange: Exchange, error: HttpError): void {
    exchange.defaultFields = this.#defaultFields;
    if (exchange.isWrapped) exchange.run(() => void this.#answer(exchange, error, true));
    else void this.#answer(exchange, error, true);
  }

  failed(exchange: Exchange, cause: unknown): void {
    if (exchange.isLoss(cause)) return lost(exchange);
    const error = handlerError(cause);
    if (!this.#isReported(exchange, cause)) exchange.report(error);
    if (exchange.response.started) return exchange.fail(error);
    const answered = error instanceof HttpError && canAnswer(error)
      ? error
      : new HttpError(500, "HANDLER_FAILED", error.message, { cause });
    void this.#answer(exchange, answered);
  }

  sendingFailed(exchange: Exchange, cause: unknown): void {
    if (this.#isReported(exchange, cause)) return;
    this.#reported.set(exchange, cause);
    exchange.report(handlerError(cause));
    const second = cause instanceof StateError; // the earlier answer continues
    if (exchange.detached && !second) this.failed(exchange, cause);
  }

  #isReported(exchange: Exchange, cause: unknown): boolean {
    return this.#reported.has(exchange) && this.#reported.get(exchange) === cause;
  }

  /**
   * Answers an error with its handler, or in the standard way, and reports the answer. Never throws
   * or rejects.
   */
  #answer(exchange: Exchange, error: HttpError, unread = false): void | Promise<void> {
    exchange.answers(error);
    const handler = this.#errorHandlers.get(error.status) ?? this.#errorHandlers.get(undefined);
    if (handler !== undefined) return this.#answerWith(handler, exchange, error, unread);
    sendStandard(exchange, error);
    exchange.errorAnswered(error);
  }

  /** Never rejects. */
  async #answerWith(
    handler: ExchangeErrorHandler,
    exchange: Exchange,
    error: HttpError,
    unread: boolean,
  ): Promise<void> {
    if (error.status === 500) exchange.response.closeAfterwards();
    try {
      await handler(exchange, error, unread);
      if (unread && !exchange.response.started) sendStandard(exchange, error);
      if (!exchange.response.answered && !exchange.response.gone) {
        throw new HttpError(500, "HANDLER_FAILED", "The error handler sent no whole response");
      }
    } catch (cause) {
      if (exchange.isLoss(cause)) {
        lost(exchange);
      } else {
        exchange.report(errorHandlerError(cause));
        if (exchange.response.started) exchange.fail(cause);
        else sendStandard(exchange, error);
      }
    }
    exchange.errorAnswered(error);
  }
}

/**
 * Checks that a request was answered whose handler has ended, or will be.
 *
 * @throws {HttpError} `HANDLER_FAILED`
 */
export function assertAnswered(exchange: Exchange): void {
  if (exchange.response.answered || exchange.response.gone) return;
  if (exchange.detached) return;
  if (exchange.aborted) return exchange.session.destroy(); // so the handler ended rightly
  throw new HttpError(
    500,
    "HANDLER_FAILED",
    "The handler ended without a whole response: send one, await what sends it, or detach()",
  );
}

function calledTooLate(isOver: boolean): HttpError {
  const message = isOver
    ? "next() was called when its middleware was over: await what it waits for"
    : "next() was called twice: call it once";
  return new HttpError(500, "HANDLER_FAILED", message);
}

/** Ends an exchange whose handler ended because the client has left, or ended its side. */
function lost(exchange: Exchange): void {
  const { response } = exchange;
  if (!response.answered && !response.gone) exchange.cut();
}

/** Sends the original's answer to an error. */
function sendStandard(exchange: Exchange, error: HttpError): void {
  exchange.sendError(error.status, errorBody(error), error.fields);
}

/** Whether an error can be answered with its own status and fields. */
function canAnswer({ status, fields }: HttpError): boolean {
  try {
    assertStatus(status);
    checkedFields(fields);
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

function errorHandlerError(cause: unknown): HttpError {
  return cause instanceof HttpError
    ? cause
    : new HttpError(500, "HANDLER_FAILED", "The error handler threw", { cause });
}
