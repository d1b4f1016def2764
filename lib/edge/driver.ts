/**
 * One request that came without a socket, and its session: carries the body and the answer between
 * the handlers and the platform that called `fetch`.
 *
 * The exchange decides by itself what may be said when. Beside it, the driver is `#over` when the
 * answer was handed to the platform, or will not be: what the session keeps is freed then.
 *
 * @module
 */
import { ConnectionError, type HttpError, HttpsdError, StateError } from "../errors.ts";
import type { Dispatcher } from "../http/dispatcher.ts";
import { Exchange, type ExchangeKeeper } from "../http/exchange.ts";
import type { Watching } from "../http/exchange_watch.ts";
import { ResponseWriter } from "../http/response.ts";
import {
  endContext,
  makeSession,
  type Peer,
  type Session,
  type SessionDriver,
  type SessionState,
} from "../http/session.ts";
import type { Transport } from "../http/exchange.ts";
import { addPlatformRequest } from "../fetch/platform_requests.ts";
import { asResponse, usedAlready } from "../fetch/usable_response.ts";
import { type Clock, systemClock } from "../net/clock.ts";
import { changeable } from "../runtime/response_parts.ts";
import { bodyIncomplete, bodyTooLong } from "../http/request_rules.ts";
import { type FieldList, withDefaults } from "../http/response_rules.ts";
import { FetchHead } from "./request_head.ts";
import { FetchResponseSink } from "./response_sink.ts";

/** What the drivers of requests without sockets need of their server or app. */
export interface FetchHost {
  /** Answers requests. */
  readonly dispatcher: Dispatcher;
  /** Counts the exchanges, and follows them. */
  readonly watch: Watching;
  /** The longest request body, in bytes. */
  readonly maxBodyBytes: number;
  /** From the request to the head of its response, in ms. */
  readonly handlerMs: number;
  /** Reports that a request was refused, or its handler or response failed. */
  failed(error: HttpsdError, session: Session): void;
  /** Reports that an error was answered. */
  errorAnswered(error: HttpError, session: Session): void;
}

/** The longest time that `setTimeout()` takes. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** What was given to the platform, which uses it later or not at all. */
const passed = new WeakSet<Response>();

/** Whether a body goes to the platform for the second time. It is not looked at the first time. */
function isPassedAgain(response: Response): boolean {
  if (passed.has(response)) return response.body !== null;
  passed.add(response);
  return false;
}

/**
 * A response with more fields: itself, since Bun shows no type of a text that a copy could have. One
 * without a body is copied, as the program may return it again, and so is what `fetch()` gave.
 */
function withFields(response: Response, defaults: FieldList): Response {
  const added = withDefaults(response.headers, defaults).slice([...response.headers].length);
  if (response.body === null) return addTo(changeable(response), added);
  try {
    return addTo(response, added);
  } catch {
    return addTo(changeable(response), added); // its fields cannot be changed
  }
}

function addTo(response: Response, added: FieldList): Response {
  for (const [name, value] of added) response.headers.append(name, value);
  return response;
}

/**
 * Answers a request; `given` is what the platform passed besides it.
 *
 * @throws {ConnectionError} `CONNECTION_ABORTED` (as a rejection) when the handler calls
 * `session.destroy()` before there is an answer
 */
export function answerFetch(
  host: FetchHost,
  request: Request,
  peer: Peer,
  given: readonly unknown[],
): Promise<Response> {
  const driver = new FetchDriver(host, request, peer);
  addPlatformRequest(request, { session: driver.session, given });
  return driver.answer();
}

/** The driver of the session that one request has for itself. */
class FetchDriver implements SessionDriver, ExchangeKeeper, Transport {
  readonly session: Session = makeSession(this);
  readonly peer: Peer;
  readonly request: Request;
  readonly #host: FetchHost;
  readonly #exchange: Exchange;
  readonly #sink: FetchResponseSink;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #reading = false;
  #received = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(host: FetchHost, request: Request, peer: Peer) {
    this.#host = host;
    this.request = request;
    this.peer = peer;
    this.#sink = new FetchResponseSink({
      drained: () => this.#exchange.response.wake(),
      unread: (cause) => this.#left(cause),
      cut: (error) => this.#gone(error),
    });
    const response = new ResponseWriter(this.#sink);
    this.#exchange = new Exchange(this.session, new FetchHead(request), response, this);
  }

  /** Has the request answered, or refuses it when its body is too long. */
  answer(): Promise<Response> {
    this.#exchange.tell();
    const { signal } = this.request;
    const left = () => this.#left(signal.reason);
    if (signal.aborted) left();
    else signal.addEventListener("abort", left, { once: true });
    this.#exchange.postpone(this.#host.handlerMs);
    const { contentLength = 0 } = this.#exchange.head;
    if (contentLength <= this.#host.maxBodyBytes) {
      this.#host.dispatcher.handle(this.#exchange);
    } else {
      const error = bodyTooLong(this.#host.maxBodyBytes);
      this.failed(error);
      this.#host.dispatcher.refuse(this.#exchange, error);
    }
    return this.#sink.response;
  }

  // The session: it lasts for one request, and its connection is the platform's.

  get connection(): undefined {
    return undefined;
  }

  get kind(): string {
    return "http";
  }

  get requests(): number {
    return 1;
  }

  get busy(): boolean {
    return !this.#exchange.response.ended;
  }

  get state(): SessionState {
    return this.busy ? "busy" : "closing";
  }

  /** Does nothing: there are no sockets among which this session could be the least recent one. */
  touch(): void {}

  send(): void {
    throw new StateError("NOT_SUPPORTED", "A request without a socket takes no raw bytes");
  }

  /** Does nothing: the session ends with its request in any case. */
  close(): void {}

  /** Cuts the answer: its body fails; where it has not begun, the platform's promise rejects. */
  destroy(error: HttpsdError | undefined): void {
    if (this.#exchange.response.answered) return;
    const reason = new ConnectionError("CONNECTION_ABORTED", "The session was destroyed", {
      cause: error,
    });
    this.#sink.refuse(reason);
    this.#gone(reason);
  }

  // The exchange: the platform's own messages go through whole.

  get clock(): Clock {
    return systemClock;
  }

  get watch(): Watching {
    return this.#host.watch;
  }

  /** A handler may read the platform's own body. */
  get readsBodies(): boolean {
    return false;
  }

  get transport(): Transport {
    return this;
  }

  requestFor(): Request {
    return this.request;
  }

  /** Answers with a handler's own `Response`, whose body goes to the platform as it is. */
  sendResponse(_exchange: Exchange, result: unknown): void {
    const own = asResponse(result);
    if (own.bodyUsed || isPassedAgain(own)) throw usedAlready();
    if (this.#exchange.gaveUp) return this.#letGo(own.body);
    const { defaultFields } = this.#exchange;
    const response = defaultFields ? withFields(own, defaultFields) : own;
    const { status, statusText, headers, body } = response;
    const writer = this.#exchange.response;
    const isHead = this.#exchange.head.method === "HEAD";
    const sent = isHead ? new Response(null, { status, statusText, headers }) : response;
    writer.pass(status, () => this.#sink.pass(sent), isHead);
    if (isHead || writer.gone) this.#letGo(body);
  }

  #letGo(body: ReadableStream | null): void {
    body?.cancel().catch((error) => this.#exchange.cancelFailed(error));
  }

  get ending(): boolean {
    return false;
  }

  get tunnel(): undefined {
    return undefined;
  }

  /** The platform or proxy that ended TLS is responsible for its certificates. */
  speaksFor(): boolean {
    return true;
  }

  starting(): void {
    clearTimeout(this.#timer);
  }

  done(): void {
    this.#end();
    // A Response of the handler's may be made of the request's body.
    if (!this.#exchange.response.ended) return;
    this.#exchange.body.discard();
    this.#reader?.cancel().catch(() => {}); // the client may be gone: that is no news
  }

  /** Does nothing: the platform decides how long a client may take to read. */
  blocked(): void {}

  wanted(): void {
    void this.#read();
  }

  /** Does nothing: no events are made of what requests without sockets read. */
  taken(): void {}

  cut(): void {
    this.destroy(undefined);
  }

  /** Does nothing: each request has a driver for itself, which nothing else waits for. */
  settled(): void {}

  failed(error: HttpsdError): void {
    this.#host.failed(error, this.session);
  }

  errorAnswered(error: HttpError): void {
    this.#host.errorAnswered(error, this.session);
  }

  deadlineMoved(): void {
    clearTimeout(this.#timer);
    const { answerBy } = this.#exchange;
    if (answerBy === Infinity || this.#over) return;
    const left = Math.ceil(answerBy - systemClock.now());
    this.#timer = setTimeout(() => this.#expired(), Math.min(left, LONGEST_TIMER));
  }

  #expired(): void {
    if (!this.#exchange.overdue) return this.deadlineMoved();
    const error = this.#exchange.giveUp();
    this.failed(error);
    this.#exchange.errorAnswered(error);
  }

  // The body: read from the request while it is wanted.

  /** Reads on while the body is wanted; what comes ahead of the reader is one piece. */
  async #read(): Promise<void> {
    const { body } = this.#exchange;
    if (this.#reading || body.ended || body.full) return;
    this.#reading = true;
    try {
      const reader = this.#reader ??= this.#open();
      do await this.#readPiece(reader); while (body.starved);
    } catch (cause) {
      body.fail(cause instanceof HttpsdError ? cause : bodyIncomplete(cause));
    } finally {
      this.#reading = false;
    }
  }

  #open(): ReadableStreamDefaultReader<Uint8Array> {
    try {
      return (this.request.body ?? new Blob([]).stream()).getReader();
    } catch (cause) {
      throw new StateError("BODY_USED", "The Request's body is used already: pass a fresh one", {
        cause,
      });
    }
  }

  async #readPiece(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    const { body } = this.#exchange;
    const { done, value } = await reader.read();
    if (done) return body.end([]);
    this.#received += value.length;
    if (this.#received > this.#host.maxBodyBytes) {
      const error = bodyTooLong(this.#host.maxBodyBytes);
      reader.cancel(error).catch(() => {}); // the client may be gone: that is no news
      throw error;
    }
    if (value.length > 0) body.push(value);
  }

  // The end.

  #left(cause: unknown): void {
    this.#gone(new ConnectionError("CONNECTION_CLOSED", "The client is gone", { cause }));
  }

  #gone(reason: HttpsdError): void {
    this.#exchange.closed(reason);
    this.#end();
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#over = true;
    endContext(this.session);
  }
}
