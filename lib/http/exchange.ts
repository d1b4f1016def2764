/**
 * One request and its response: what the session hands to the router, and what the handlers' two
 * faces (`fetch` and the httpd API) are made of.
 *
 * @module
 */
import { type Aborter, ContainedAbort } from "../contained_abort.ts";
import { HttpError, type HttpsdError } from "../errors.ts";
import type { Clock } from "../net/clock.ts";
import { abortError } from "./abort_error.ts";
import { type BodySource, RequestBody } from "./body.ts";
import type { RequestHead } from "../http1/head.ts";
import { type ResponseProgress, ResponseWriter } from "./response.ts";
import type { Fields } from "./response_rules.ts";
import type { ResponseSink } from "./response_sink.ts";
import type { Session } from "../http1/session.ts";
import { ERROR_BODIES } from "./status.ts";
import type { Protocol, Tunnel, UpgradeOffer } from "./tunnel.ts";

/** The head of a request, whether it was read from a connection or belongs to a `Request`. */
export type HeadLike = Pick<RequestHead, keyof RequestHead>;

/** What an exchange asks of its session, and tells it. */
export interface ExchangeKeeper {
  /** The clock of its deadlines. */
  readonly clock: Clock;
  /** Makes what carries the response to a request. */
  respond(head: HeadLike): ResponseSink;
  /** The head of the response is about to be written. */
  starting(exchange: Exchange): void;
  /** The response is written. */
  done(): void;
  /** The response waits for the client to read. */
  blocked(): void;
  /** Somebody wants the body: read on. */
  wanted(): void;
  /** A callback of the handler's failed that has no say in the answer. */
  failed(exchange: Exchange, error: HttpError): void;
  /** Some of the body was read, or thrown away. */
  taken(exchange: Exchange): void;
  /** Whether one side has begun to end the connection, so that nothing more may begin on it. */
  readonly ending: boolean;
  /**
   * Ends HTTP on the connection and lets the protocol that `speak` makes read it; `undefined` where
   * a request has no connection of its own.
   */
  readonly tunnel: (<P extends Protocol>(speak: (tunnel: Tunnel) => P) => P) | undefined;
}

/** One request under way. */
export class Exchange implements ResponseProgress, BodySource {
  /** The request's line and fields. */
  readonly head: HeadLike;
  /** Whether the request comes with a body. */
  readonly hasBody: boolean;
  /** The response. */
  readonly response: ResponseWriter;
  /** The session that the request came on. */
  readonly session: Session;
  /** The upgrade that the handler may ask for by its response. */
  offer: UpgradeOffer | undefined;
  readonly #keeper: ExchangeKeeper;
  #body: RequestBody | undefined;
  #abort: ContainedAbort | undefined;
  #aborted: HttpsdError | undefined;
  #gaveUp: HttpsdError | undefined;
  #gone: HttpsdError | undefined;
  #closedListeners: Set<(reason: HttpsdError) => void> | undefined;
  #completed: PromiseWithResolvers<void> | undefined;
  #done = false;
  #continued = false;
  #answerBy = Infinity;
  #detached = false;

  /** Begins an exchange. */
  constructor(session: Session, head: HeadLike, keeper: ExchangeKeeper) {
    this.session = session;
    this.head = head;
    this.#keeper = keeper;
    this.hasBody = head.chunked || (head.contentLength ?? 0) > 0;
    this.response = new ResponseWriter(head.method, keeper.respond(head), this);
  }

  /** The request's body; made when it is asked for, since most requests have none. */
  get body(): RequestBody {
    if (this.#body === undefined) {
      this.#body = new RequestBody(this);
      if (!this.hasBody) this.#body.end([]);
    }
    return this.#body;
  }

  /** Whether all of the body has come. */
  get bodyEnded(): boolean {
    return !this.hasBody || this.body.ended;
  }

  /** The response's call. */
  starting(): void {
    this.#keeper.starting(this);
  }

  /** The response's call. */
  done(): void {
    this.#done = true;
    this.#completed?.resolve();
    this.#keeper.done();
  }

  /** Settles when the response has been written, or the connection is gone. */
  get completed(): Promise<void> {
    if (this.#completed === undefined) {
      this.#completed = Promise.withResolvers();
      this.#completed.promise.catch(() => {}); // it is for those who look, not for the process
      if (this.#gone !== undefined) this.#completed.reject(this.#gone);
      else if (this.#done) this.#completed.resolve();
    }
    return this.#completed.promise;
  }

  /** The response's call. */
  blocked(): void {
    this.#keeper.blocked();
  }

  /** The response's call: a client that has ended its side is waited for as long as there is more. */
  wrote(): void {
    if (this.#aborted !== undefined) this.session.deadlineMoved();
  }

  /** The body's call. */
  wanted(): void {
    if (this.awaitsContinue && !this.response.started) {
      this.#continued = true;
      this.response.inform(100);
    }
    this.#keeper.wanted();
  }

  /** The body's call. */
  taken(bytes: number): void {
    this.#keeper.taken(this);
    this.session.tell?.("http:data", this.session, bytes);
  }

  /** Aborted when the client goes away before the response is written. */
  get signal(): AbortSignal {
    return (this.#abort ?? this.#abortBy()).signal;
  }

  /** Makes a signal that the platform has made the one of this exchange. */
  adoptSignal(controller: Aborter): void {
    if (this.#abort === undefined) return void this.#abortBy(controller);
    const { signal } = this;
    const follow = (): void => controller.abort(signal.reason);
    if (signal.aborted) follow();
    else signal.addEventListener("abort", follow, { once: true });
  }

  #abortBy(controller?: Aborter): ContainedAbort {
    const failed = (cause: unknown) => this.callbackFailed("A listener for abort threw", cause);
    const abort = this.#abort = new ContainedAbort(failed, controller);
    const reason = this.#aborted ?? this.#gaveUp;
    if (reason !== undefined) abort.abort(abortError(reason));
    return abort;
  }

  /** Whether the client has gone away, or has ended its side. */
  get aborted(): boolean {
    return this.#aborted !== undefined;
  }

  /** When the response must have begun, on the keeper's clock. */
  get answerBy(): number {
    return this.response.started ? Infinity : this.#answerBy;
  }

  /** Whether the response should have begun. */
  get overdue(): boolean {
    return this.#keeper.clock.now() >= this.answerBy;
  }

  /** Whether the response may come after the handler has ended. */
  get detached(): boolean {
    return this.#detached;
  }

  /** Gives the handler so long to begin the response, from now. */
  answerWithin(ms: number): void {
    if (ms !== Infinity) this.#answerBy = this.#keeper.clock.now() + ms;
  }

  /** Lets the response come after the handler has ended, within `ms`. */
  detach(ms: number): void {
    this.#detached = true;
    this.#answerBy = this.#keeper.clock.now() + ms;
    this.session.deadlineMoved();
  }

  /** The handler takes too long: its signal is aborted, and the client told. */
  giveUp(): HttpError {
    const error = new HttpError(503, "HANDLER_TIMEOUT", "The handler took too long to answer");
    this.#gaveUp = error;
    this.#abort?.abort(abortError(error));
    this.fail(error);
    return error;
  }

  /** Whether a body is still held back by the client, who waits for `100 Continue`. */
  get awaitsContinue(): boolean {
    return this.head.expectContinue && this.hasBody && !this.#continued && !this.bodyEnded;
  }

  /**
   * The client has ended its side: it may still read the answer, but most have gone away. What has
   * come of the body can still be read.
   */
  abort(error: HttpsdError): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = error;
    if (!this.response.ended) this.#abort?.abort(abortError(error));
  }

  /** Reports what a callback of the handler's threw; what only says that the client left is no news. */
  callbackFailed(what: string, cause: unknown): void {
    if (this.isLoss(cause)) return;
    this.#keeper.failed(this, new HttpError(500, "HANDLER_FAILED", what, { cause }));
  }

  /** No more of the body will come than has. */
  cutBody(error: HttpsdError): void {
    if (!this.bodyEnded) this.body.fail(error);
  }

  /** Whether `error` is what a handler gets for an answer that is waited for no longer. */
  isLoss(error: unknown): boolean {
    if (error === undefined) return false;
    if (this.response.isLoss(error) || error === this.#abort?.signal.reason) return true;
    return this.aborted && error instanceof Error && error.name === "AbortError";
  }

  /**
   * Calls `listener` when the connection is gone before the response is written, until the function
   * that it returns is called.
   */
  onClosed(listener: (reason: HttpsdError) => void): () => void {
    if (this.#gone !== undefined) listener(this.#gone);
    else (this.#closedListeners ??= new Set()).add(listener);
    return () => void this.#closedListeners?.delete(listener);
  }

  /** The connection is gone: whatever still produces the answer can stop. */
  closed(reason: HttpsdError): void {
    this.#gone = reason;
    this.abort(reason);
    this.cutBody(reason);
    this.response.leave(reason);
    this.#completed?.reject(reason);
    if (this.#done || this.#closedListeners === undefined) return;
    for (const listener of this.#closedListeners) listener(reason);
  }

  /**
   * Answers with an error status; where a response has begun, cuts the connection instead. An
   * error of the client's keeps its own status, anything else is a 500 that tells nothing.
   */
  fail(error: unknown): void {
    if (this.response.answered) return;
    if (this.response.started) {
      this.response.abort(
        error instanceof HttpError ? error : new HttpError(
          500,
          "HANDLER_FAILED",
          "The handler failed after its response had begun",
          {
            cause: error,
          },
        ),
      );
      return;
    }
    this.sendError(error instanceof HttpError && isError(error.status) ? error.status : 500);
  }

  /** Whether the request has a connection of its own, which an upgrade could take. */
  get upgradable(): boolean {
    return this.#keeper.tunnel !== undefined;
  }

  /** Whether one side has begun to end the connection: an upgrade comes too late. */
  get ending(): boolean {
    return this.aborted || this.#keeper.ending;
  }

  /**
   * Answers 101 with `fields`, which ends HTTP on the connection, and lets the protocol that
   * `speak` makes read it. `speak` neither reads nor writes yet; returns what it made.
   *
   * @throws {StateError} `ALREADY_SENT`; `NOT_SUPPORTED` where the request has no connection
   */
  upgrade<P extends Protocol>(fields: Fields, speak: (tunnel: Tunnel) => P): P {
    this.response.switchProtocols(fields); // throws where there is no tunnel
    return this.#keeper.tunnel!(speak);
  }

  /** Sends the standard answer of an error status (original: `httpd_resp_send_err`). */
  sendError(status: number, text: string = ERROR_BODIES[status] ?? "", fields: Fields = []): void {
    this.response.send(
      { status, fields: [["Content-Type", "text/plain; charset=utf-8"], ...fields] },
      text,
    );
  }
}

function isError(status: number): boolean {
  return Number.isInteger(status) && status >= 400 && status <= 599;
}
