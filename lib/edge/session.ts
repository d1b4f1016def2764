/**
 * The session of one request that came without a socket: what its handlers are told of the client,
 * and what carries its body and its answer between them and the platform.
 *
 * @module
 */
import { ConnectionError, HttpError, HttpsdError, StateError } from "../errors.ts";
import type { Dispatcher } from "../http/dispatcher.ts";
import { Exchange, type ExchangeKeeper } from "../http/exchange.ts";
import type { Session, SessionState } from "../http1/session.ts";
import { SessionContext } from "../http/session_context.ts";
import { nextSessionId } from "../http/session_id.ts";
import { CANCEL_FAILED } from "../http/stream_pump.ts";
import { systemClock } from "../net/clock.ts";
import type { Connection } from "../net/connection.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { FetchHead } from "./request_head.ts";
import { FetchResponseSink } from "./response_sink.ts";

/** What the platform tells of the client. */
export interface Peer {
  /** Its address; empty where the platform does not tell. */
  readonly remoteAddress: string;
  /** Its port; 0 where the platform does not tell. */
  readonly remotePort: number;
  /** The facts of its TLS connection; `undefined` where the platform does not tell. */
  readonly tls: TlsInfo | undefined;
  /** What else the platform gave with the request. */
  readonly platform: readonly unknown[];
}

/** Whom a session without a socket works for. */
export interface FetchHost {
  /** What answers. */
  readonly dispatcher: Dispatcher;
  /** The longest request body, in bytes. */
  readonly maxBodyBytes: number;
  /** From the request to the head of its response, in ms. */
  readonly handlerTimeoutMs: number;
  /** A request was refused, or its handler or response failed. */
  failed(error: HttpsdError, session: Session): void;
  /** An error was answered without a handler's doing. */
  errorAnswered(error: HttpError, session: Session): void;
}

/** An exchange whose head and response are the platform's. */
export class FetchExchange extends Exchange {
  declare readonly head: FetchHead;
  readonly #sink: FetchResponseSink;

  /** Begins an exchange whose response goes into `sink`. */
  constructor(
    session: Session,
    head: FetchHead,
    sink: FetchResponseSink,
    keeper: Omit<ExchangeKeeper, "respond">,
  ) {
    super(session, head, { ...keeper, respond: () => sink });
    this.#sink = sink;
  }

  /**
   * Answers with a handler's own `Response`, whose body goes to the platform as it is.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  pass(response: Response): void {
    const { status, statusText, headers, body } = response;
    const writer = this.response;
    const isHead = this.head.method === "HEAD";
    const sent = isHead ? new Response(null, { status, statusText, headers }) : response;
    writer.pass(() => this.#sink.pass(sent), isHead);
    if (!isHead && !writer.gone) return;
    body?.cancel().catch((error) => this.callbackFailed(CANCEL_FAILED, error));
  }
}

/** What handlers see of a session. */
type SessionLike = Pick<Session, keyof Session>;

/** The longest time that `setTimeout()` takes. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The session of one request. */
export class FetchSession implements SessionLike {
  /** Unique in this process, never used again. */
  readonly id: number = nextSessionId();
  /** When the request came. */
  readonly connectedAt: Date = new Date();
  /** What is spoken. */
  readonly kind = "http";
  /** There is one request in each session. */
  readonly requests = 1;
  /** The request is there. */
  readonly receiving = false;
  /** No events are told of requests without a socket. */
  readonly tell = undefined;
  /** No events are told of responses without a socket. */
  readonly wrote = undefined;
  /** The address of the client; empty where the platform does not tell. */
  readonly remoteAddress: string;
  /** The port of the client; 0 where the platform does not tell. */
  readonly remotePort: number;
  /** The facts of the client's TLS connection; `undefined` where the platform does not tell. */
  readonly tls: TlsInfo | undefined;
  readonly #host: FetchHost;
  readonly #platform: readonly unknown[];
  readonly #exchange: FetchExchange;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #reading = false;
  #received = 0;
  readonly #sink: FetchResponseSink;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #context = new SessionContext((error) => this.#host.failed(error, asSession(this)));
  #over = false;

  private constructor(host: FetchHost, request: Request, peer: Peer) {
    this.#host = host;
    this.remoteAddress = peer.remoteAddress;
    this.remotePort = peer.remotePort;
    this.tls = peer.tls;
    this.#platform = peer.platform;
    this.#sink = new FetchResponseSink({
      drained: () => this.#exchange.response.wake(),
      unread: (cause) => this.#left(cause),
      cut: (error) => this.#gone(error),
    });
    this.#exchange = new FetchExchange(asSession(this), new FetchHead(request), this.#sink, {
      clock: systemClock,
      starting: () => clearTimeout(this.#timer),
      done: () => this.#done(),
      blocked: () => {}, // how long a client may take to read is the platform's to say
      wanted: () => void this.#read(),
      failed: (_exchange, error) => this.#host.failed(error, asSession(this)),
      taken: () => {},
      ending: false,
      tunnel: undefined,
    });
  }

  /**
   * Answers a request.
   *
   * @throws {ConnectionError} `CONNECTION_ABORTED` (as a rejection) when the handler calls
   * `session.destroy()` before there is an answer
   */
  static answer(host: FetchHost, request: Request, peer: Peer): Promise<Response> {
    const session = new FetchSession(host, request, peer);
    sessions.set(request, session);
    session.#begin(request.signal);
    return session.#sink.response;
  }

  /** What the platform gave with the request of a session; nothing for others. */
  static platformOf(session: object): readonly unknown[] {
    return #platform in session ? session.#platform : [];
  }

  #begin(signal: AbortSignal): void {
    const exchange = this.#exchange;
    const left = () => this.#left(signal.reason);
    if (signal.aborted) left();
    else signal.addEventListener("abort", left, { once: true });
    exchange.answerWithin(this.#host.handlerTimeoutMs);
    this.deadlineMoved();
    const { contentLength = 0 } = exchange.head;
    if (contentLength <= this.#host.maxBodyBytes) return this.#host.dispatcher.handle(exchange);
    const error = this.#tooLong();
    this.#host.failed(error, asSession(this));
    this.#host.dispatcher.refuse(asSession(this), exchange.response, error);
  }

  #tooLong(): HttpError {
    return new HttpError(
      413,
      "BODY_TOO_LARGE",
      `The body is longer than ${this.#host.maxBodyBytes} bytes: send less`,
    );
  }

  /** Whether the request is under way. */
  get busy(): boolean {
    return !this.#exchange.response.ended;
  }

  /** Where the session is in its life. */
  get state(): SessionState {
    return this.busy ? "busy" : "closing";
  }

  /**
   * The connection underneath, which the platform keeps to itself.
   *
   * @throws {StateError} `NOT_SUPPORTED`
   */
  get connection(): Connection {
    throw new StateError("NOT_SUPPORTED", "A request without a socket has no connection");
  }

  /** Anything that handlers want to keep while the request is under way. */
  get context(): unknown {
    return this.#context.value;
  }

  /** Keeps another context, without a function to free it. */
  set context(context: unknown) {
    this.setContext(context);
  }

  /** Keeps `context`; `free` is called with it when the answer was handed over. */
  setContext<T>(context: T, free?: (context: T) => unknown): void {
    this.#context.set(context, free);
    if (this.#over) this.freeContext();
  }

  /** Frees the context now. */
  freeContext(): void {
    this.#context.free();
  }

  /** There are no sockets among which this session could be the most recently used one. */
  touch(): void {}

  /** @throws {StateError} `NOT_SUPPORTED` */
  send(): void {
    throw new StateError("NOT_SUPPORTED", "A request without a socket takes no raw bytes");
  }

  /** The session ends with its request in any case. */
  close(): void {}

  /** There is never an idle session. */
  purge(): boolean {
    return false;
  }

  /** Cuts the answer: its body fails; where it has not begun, the platform is told of an error. */
  destroy(error?: HttpsdError): void {
    const { response } = this.#exchange;
    if (response.answered) return;
    const reason = new ConnectionError("CONNECTION_ABORTED", "The session was destroyed", {
      cause: error,
    });
    this.#sink.refuse(reason);
    this.#gone(reason);
  }

  /** There is nothing to let in. */
  begin(): void {}

  /** The exchange's call: its deadline has changed. */
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
    this.#host.failed(error, asSession(this));
    this.#host.errorAnswered(error, asSession(this));
  }

  /** Reads on while the body is wanted; what comes ahead of the reader is one piece. */
  async #read(): Promise<void> {
    const { body } = this.#exchange;
    if (this.#reading || body.ended || body.full) return;
    this.#reading = true;
    try {
      const reader = this.#reader ??= this.#open();
      do await this.#readPiece(reader); while (body.starved);
    } catch (cause) {
      body.fail(
        cause instanceof HttpsdError
          ? cause
          : new ConnectionError("CONNECTION_CLOSED", "The body ended early", { cause }),
      );
    } finally {
      this.#reading = false;
    }
  }

  #open(): ReadableStreamDefaultReader<Uint8Array> {
    const { request } = this.#exchange.head;
    try {
      return (request.body ?? new Blob([]).stream()).getReader();
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
      const error = this.#tooLong();
      reader.cancel(error).catch(() => {}); // the client may be gone: that is no news
      throw error;
    }
    if (value.length > 0) body.push(value);
  }

  /** The client is gone. */
  #left(cause: unknown): void {
    const reason = new ConnectionError("CONNECTION_CLOSED", "The client is gone", { cause });
    this.#gone(reason);
  }

  /** Nobody will read more of an answer. */
  #gone(reason: HttpsdError): void {
    this.#exchange.closed(reason);
    this.#end();
  }

  /** The answer was handed over. */
  #done(): void {
    this.#end();
    // A Response of the handler's may be made of the request's body.
    if (!this.#exchange.response.ended) return;
    this.#exchange.body.discard();
    this.#reader?.cancel().catch(() => {}); // the client may be gone: that is no news
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#over = true;
    this.freeContext();
  }
}

const sessions = new WeakMap<Request, FetchSession>();

/** The session of a request that came without a socket; `undefined` for others. */
export function fetchSessionOf(request: Request): Session | undefined {
  const session = sessions.get(request);
  return session && asSession(session);
}

/**
 * What handlers are given: it has all that they can see of a session. The compiler wants the
 * private parts of the class too, which nobody else can reach.
 */
function asSession(session: SessionLike): Session {
  return session as Session;
}
