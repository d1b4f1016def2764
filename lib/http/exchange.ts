/**
 * One request and its response: what a driver hands to the dispatcher, and what the handlers' faces
 * (`fetch`, the httpd API, WebSockets) are made of. The file is one thing, the class; most of its
 * methods are a line or two that a driver, the response or the body calls.
 *
 * @module
 */
import type { Aborter, ContainedAbort } from "../contain/abort.ts";
import { HttpError, type HttpsdError } from "../errors.ts";
import type { Clock } from "../net/clock.ts";
import { abortError } from "./abort_error.ts";
import { type BodySource, RequestBody } from "./body.ts";
import type { ExchangeEnd, ExchangeFacts, ExchangeRecord } from "./exchange_report.ts";
import type { Watching } from "./exchange_watch.ts";
import { sideOf } from "./side.ts";
import { isUnread, type RequestHead } from "./request_head.ts";
import { OVER, type ResponseProgress, type ResponseWriter } from "./response.ts";
import { type FieldList, type Fields, withDefaults } from "./response_rules.ts";
import type { Session } from "./session.ts";
import { ERROR_BODIES } from "./status.ts";
import type { Protocol, Tunnel, UpgradeOffer } from "./tunnel.ts";

/** How requests come and answers go in the terms of `fetch`. */
export interface Transport {
  /**
   * Returns the request for a fetch handler.
   *
   * @throws {HttpError} for what no `Request` can carry
   */
  requestFor(exchange: Exchange): Request;
  /**
   * Sends what a handler returned, which may be anything.
   *
   * @throws {HttpError} `HANDLER_FAILED` for a value that is not a usable response (or rejects)
   */
  sendResponse(exchange: Exchange, result: unknown): void | Promise<void>;
}

/** What carries an exchange: the driver of its session, or of its stream. */
export interface ExchangeKeeper {
  /** The clock of its deadlines. */
  readonly clock: Clock;
  /** Counts its exchanges, and follows them. */
  readonly watch: Watching;
  /** Makes `Request`s of its exchanges, and answers of `Response`s. */
  readonly transport: Transport;
  /** Whether it reads the bodies of requests, so that their bytes are known. */
  readonly readsBodies: boolean;
  /** Whether one side has begun to end the connection, so that nothing more may begin on it. */
  readonly ending: boolean;
  /**
   * Ends HTTP on the connection and lets the protocol that `speak` makes read it; `undefined` where
   * a request has no connection of its own.
   */
  readonly tunnel: (<P extends Protocol>(speak: (tunnel: Tunnel) => P) => P) | undefined;
  /** Whether the session may carry requests for this host. */
  speaksFor(host: string | undefined): boolean;
  /** Decides whether the response is the last one: its head is about to be written. */
  starting(exchange: Exchange): void;
  /** Goes on: the response is written. */
  done(exchange: Exchange): void;
  /** Takes note that the response waits for the client to read. */
  blocked(): void;
  /** Reads on, since the body is wanted. */
  wanted(): void;
  /** Takes note that so many bytes of the body were read, or thrown away. */
  taken(exchange: Exchange, bytes: number): void;
  /** Takes note that the time has changed by which the response must have begun. */
  deadlineMoved(): void;
  /** Cuts what carries the exchange, since it is over without a whole answer. */
  cut(exchange: Exchange): void;
  /** Takes note that the handler has returned, or what it returned has settled. */
  settled(exchange: Exchange): void;
  /** Takes back the writer of a response that is over, to be used again. */
  readonly giveBack?: (response: ResponseWriter) => void;
  /** Reports that the request was refused, or what failed in handling it. */
  failed(error: HttpsdError): void;
  /** Reports that an error status was answered. */
  errorAnswered(error: HttpError): void;
}

/** One request under way. */
export class Exchange implements ResponseProgress, BodySource, ExchangeFacts {
  /** The request's line and fields. */
  readonly head: RequestHead;
  /** Whether the request comes with a body. */
  readonly hasBody: boolean;
  /**
   * The response; ask for it again after each wait: where it is over, its writer may write another's.
   */
  response: ResponseWriter;
  /** The session that the request came on. */
  readonly session: Session;
  /** The upgrade that the handler may ask for by its response. */
  offer: UpgradeOffer | undefined;
  /** The template of the route that was chosen. */
  route: string | undefined;
  /** Whether another protocol has taken the request's place. */
  upgraded = false;
  /** What the handlers of one face all see of the exchange, where more than one handles it. */
  face: object | undefined;
  /** The fields of whatever answer there will be. */
  defaultFields: FieldList | undefined;
  /** Keeps what a handler returned; `undefined`: it is sent at once. */
  #held: { result: unknown } | undefined;
  readonly #keeper: ExchangeKeeper;
  /** What is reported of it; `undefined` where nothing listens. */
  readonly #record: ExchangeRecord | undefined;
  /** The error that is answered. */
  #answeredError: HttpError | undefined;
  /** The error whose answer is to be reported behind the exchange. */
  #unreported: HttpError | undefined;
  #isCounted = false;
  #body: RequestBody | undefined;
  #abort: ContainedAbort | undefined;
  #aborted: HttpsdError | undefined;
  #gaveUp: HttpsdError | undefined;
  #gone: HttpsdError | undefined;
  #closedListeners: Set<(reason: HttpsdError) => void> | undefined;
  #completed: PromiseWithResolvers<void> | undefined;
  #done = false;
  #isSettled = false;
  #continued = false;
  #answerBy = Infinity;
  #detached = false;

  /** Begins an exchange whose response `response` writes. */
  constructor(
    session: Session,
    head: RequestHead,
    response: ResponseWriter,
    keeper: ExchangeKeeper,
  ) {
    this.session = session;
    this.head = head;
    this.#keeper = keeper;
    this.hasBody = head.hasBody;
    this.response = response;
    response.begin(head.method, this);
    this.#record = keeper.watch.begins(this);
  }

  /** Tells those who observe it that it has begun: its driver knows it by now, and they may end that. */
  tell(): void {
    if (this.#record !== undefined) this.#keeper.watch.tell(this.#record);
  }

  /** The clock that its times are of. */
  get clock(): Clock {
    return this.#keeper.clock;
  }

  /** Whether nothing is known of the request, since its head could not be read. */
  get isUnread(): boolean {
    return isUnread(this.head);
  }

  /** How many bytes of the body have come; `undefined` where a platform has what is not known. */
  get requestBytes(): number | undefined {
    if (!this.hasBody) return 0;
    return this.#body?.receivedBytes ?? (this.#keeper.readsBodies ? 0 : undefined);
  }

  /** Whether those who observe it run what answers it, by {@linkcode Exchange.run}. */
  get isWrapped(): boolean {
    return this.#record !== undefined && this.#record.isWrapped;
  }

  /** Runs what answers the request, as those want it who observe it. */
  run(handle: () => void): void {
    this.#keeper.watch.run(this.#record!, handle);
  }

  /** Takes note of the error that is about to be answered. */
  answers(error: HttpError): void {
    this.#answeredError = error;
  }

  /** Counts and reports the end, once: with what cut it short, if anything did. */
  #ends(cut: HttpsdError | undefined): void {
    if (this.#isCounted) return;
    this.#isCounted = true;
    const end: ExchangeEnd = cut === undefined ? "whole" : sideOf(this.#aborted ?? cut);
    const error = this.#answeredError ?? cut;
    this.#keeper.watch.ends(this.#record, this.response.status, end, error);
    if (this.#unreported !== undefined) this.#keeper.errorAnswered(this.#unreported);
  }

  /** Adds fields to whatever answer there will be, in place of those with the same names before. */
  addFields(fields: FieldList): void {
    if (fields.length > 0) this.defaultFields = withDefaults(fields, this.defaultFields ?? []);
  }

  /** Sends what a handler returned, which may be anything, unless it is held. */
  respond(result: unknown): void | Promise<void> {
    if (this.#held === undefined) return this.transport.sendResponse(this, result);
    this.#held.result = result;
  }

  /** Runs a handler, and resolves with what it would have sent as a `Response`, if anything. */
  async hold(handle: () => void | Promise<void>): Promise<unknown> {
    const held: { result: unknown } = { result: undefined };
    this.#held = held;
    try {
      await handle();
    } finally {
      this.#held = undefined;
    }
    return held.result;
  }

  /** Makes a `Request` of the exchange, and an answer of a `Response`. */
  get transport(): Transport {
    return this.#keeper.transport;
  }

  /** Whether the request is for a host that its session may not carry requests for. */
  get misdirected(): boolean {
    return !this.#keeper.speaksFor(this.head.host);
  }

  /** The request's body; made when it is asked for, since most requests have none. */
  get body(): RequestBody {
    if (this.#body === undefined) {
      this.#body = new RequestBody(this);
      if (!this.hasBody) this.#body.end([]);
    }
    return this.#body;
  }

  /** Whether some of the body was read, or is being read; never where there is none. */
  get bodyUsed(): boolean {
    return this.hasBody && this.body.used;
  }

  /** Whether all of the body has come. */
  get bodyEnded(): boolean {
    return !this.hasBody || this.body.ended;
  }

  /** Passes on that the head of the response is about to be written. */
  starting(): void {
    this.#keeper.starting(this);
    this.#record?.responds();
  }

  /** Takes note that all of the response is on its way, whatever the handler still does. */
  written(): void {
    this.#ends(undefined);
  }

  /** Takes note that the response is cut, so that it will never be whole. */
  cutShort(error: HttpsdError): void {
    this.#ends(error);
  }

  /** Ends the exchange: the response is written. */
  done(): void {
    this.#done = true;
    this.#completed?.resolve();
    this.#ends(undefined);
    this.#keeper.done(this);
    if (this.#isSettled) this.#giveBack();
  }

  /** Gives its writer back, which has no more to do for it. */
  #giveBack(): void {
    const { response } = this;
    if (this.#keeper.giveBack === undefined || !response.spent || !this.bodyEnded) return;
    this.response = OVER;
    this.#keeper.giveBack(response);
  }

  /** Settles when the response has been written, or the connection is gone. */
  get completed(): Promise<void> {
    if (this.#completed === undefined) {
      this.#completed = Promise.withResolvers();
      this.#completed.promise.catch(() => {}); // nothing may await it
      if (this.#gone !== undefined) this.#completed.reject(this.#gone);
      else if (this.#done) this.#completed.resolve();
    }
    return this.#completed.promise;
  }

  /** Passes on that the response waits for the client to read. */
  blocked(): void {
    this.#keeper.blocked();
  }

  /** Waits on for a client that has ended its side, since there is more for it to read. */
  wrote(): void {
    if (this.#aborted !== undefined) this.#keeper.deadlineMoved();
  }

  /** Asks the client for the body, if it waits for that, and reads on. */
  wanted(): void {
    if (this.awaitsContinue && !this.response.started) {
      this.#continued = true;
      this.response.inform(100);
    }
    this.#keeper.wanted();
  }

  /** Passes on that so many bytes of the body were read, or thrown away. */
  taken(bytes: number): void {
    this.#keeper.taken(this, bytes);
  }

  /**
   * Returns the signal that is aborted when the client leaves before the response is written. The class
   * that makes one comes from those who ask: an edge app without routes is the lighter for it.
   */
  signalBy(Abort: typeof ContainedAbort): AbortSignal {
    return (this.#abort ?? this.#abortBy(Abort)).signal;
  }

  /** Makes a signal that the platform has made the one of this exchange. */
  adoptSignal(Abort: typeof ContainedAbort, controller: Aborter): void {
    if (this.#abort === undefined) return void this.#abortBy(Abort, controller);
    const { signal } = this.#abort;
    const follow = (): void => controller.abort(signal.reason);
    if (signal.aborted) follow();
    else signal.addEventListener("abort", follow, { once: true });
  }

  #abortBy(Abort: typeof ContainedAbort, controller?: Aborter): ContainedAbort {
    const failed = (cause: unknown) => this.callbackFailed("A listener for abort threw", cause);
    const abort = this.#abort = new Abort(failed, controller);
    const reason = this.#aborted ?? this.#gaveUp;
    if (reason !== undefined) abort.abort(abortError(reason));
    return abort;
  }

  /** Whether the client has left, or has ended its side. */
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

  /** Gives the handler another time to begin the response, from now. */
  postpone(ms: number): void {
    this.answerWithin(ms);
    this.#keeper.deadlineMoved();
  }

  /** Lets the response come after the handler has ended, within `ms`. */
  detach(ms: number): void {
    this.#detached = true;
    this.#answerBy = this.#keeper.clock.now() + ms;
    this.#keeper.deadlineMoved();
  }

  /** The handler takes too long: aborts its signal and answers the client with 503. */
  giveUp(): HttpError {
    const error = new HttpError(503, "HANDLER_TIMEOUT", "The handler took too long to answer");
    this.#gaveUp = error;
    this.answers(error);
    this.#abort?.abort(abortError(error));
    this.fail(error);
    return error;
  }

  /** Whether the handler took too long, so that what it returns comes too late. */
  get gaveUp(): boolean {
    return this.#gaveUp !== undefined;
  }

  /** Whether a body is still held back by the client, which waits for `100 Continue`. */
  get awaitsContinue(): boolean {
    return this.head.expectContinue && this.hasBody && !this.#continued && !this.bodyEnded;
  }

  /**
   * The client has ended its side: it may still read the answer, but most clients have left. The
   * part of the body that has arrived can still be read.
   */
  abort(error: HttpsdError): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = error;
    if (!this.response.ended) this.#abort?.abort(abortError(error));
  }

  /** Reports that the request was refused, or what failed in handling it. */
  report(error: HttpsdError): void {
    this.#keeper.failed(error);
  }

  /** Reports that an error status was answered, behind the exchange, unless the client had left. */
  errorAnswered(error: HttpError): void {
    if (this.response.gone) return;
    if (this.#isCounted) this.#keeper.errorAnswered(error);
    else this.#unreported = error;
  }

  /** Reports what a callback of the handler threw, unless it only says that the client left. */
  callbackFailed(what: string, cause: unknown): void {
    if (this.isLoss(cause)) return;
    this.report(new HttpError(500, "HANDLER_FAILED", what, { cause }));
  }

  /** Reports what the source of a body threw when it was cancelled. */
  cancelFailed(cause: unknown): void {
    this.callbackFailed("The body's source threw when cancelled", cause);
  }

  /** The rest of the body will never arrive. */
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
    this.#ends(reason);
    this.cutBody(reason);
    this.response.leave(reason);
    this.#completed?.reject(reason);
    if (this.#done || this.#closedListeners === undefined) return;
    for (const listener of this.#closedListeners) listener(reason);
  }

  /**
   * Answers with an error status; where a response has begun, cuts the connection instead. An
   * error of the client's keeps its own status, anything else is a 500 that reveals nothing.
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

  /**
   * Ends an exchange that will not get a whole answer: cuts its connection, or its stream on HTTP/2.
   */
  cut(): void {
    this.#keeper.cut(this);
  }

  /** Passes on that the handler has returned, or what it returned has settled. */
  settled(): void {
    this.#isSettled = true;
    this.#keeper.settled(this);
    if (this.#done) this.#giveBack();
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
   * `speak` makes read it. `speak` neither reads nor writes yet; returns what it made, or `undefined`
   * where one who was told of the upgrade has cut the connection.
   *
   * @throws {StateError} `ALREADY_SENT`; `NOT_SUPPORTED` where the request has no connection
   */
  upgrade<P extends Protocol>(fields: Fields, speak: (tunnel: Tunnel) => P): P | undefined {
    this.response.switchProtocols(fields); // throws where there is no tunnel
    this.upgraded = true;
    this.#record?.responds();
    this.#ends(undefined);
    return this.#gone === undefined ? this.#keeper.tunnel!(speak) : undefined;
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
