/**
 * The HTTP session on one connection: reads requests, hands each to the host, and goes on when its
 * response is written; one request at a time, so that pipelined answers keep their order and what
 * waits stays in the connection's bounded queue (RFC 9112 section 9.3).
 *
 * @module
 */
import { ConnectionError, HttpError, type HttpsdError, StateError } from "../errors.ts";
import type { Connection, Consumer, Observer } from "../net/connection.ts";
import type { Clock } from "../net/clock.ts";
import { TurnBudget } from "../net/turns.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { Exchange, type ExchangeKeeper, type HeadLike } from "../http/exchange.ts";
import { type ParserLimits, RequestParser, Step } from "./parser.ts";
import { ResponseWriter } from "../http/response.ts";
import { type AnsweredRequest, Http1ResponseSink } from "./response_sink.ts";
import { SessionContext } from "../http/session_context.ts";
import { nextSessionId } from "../http/session_id.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import { type Wait, type WaitLimits, Waits } from "./waits.ts";

/** How long each thing may take, and how much. */
export interface SessionLimits extends ParserLimits, WaitLimits {
  /** How long the hooks may take that let a session in, in ms. */
  readonly handshakeTimeoutMs: number;
  /** From the head of a request to the head of its response, in ms. */
  readonly handlerTimeoutMs: number;
  /** How much of a body that nobody reads is thrown away to keep the connection, in bytes. */
  readonly maxDrainBytes: number;
  /** After so many requests the connection is closed. */
  readonly maxRequestsPerConnection: number;
}

/** Tells of an event of the httpd; `bytes` where the event counts some. */
export type Tell = (
  type: "http:header" | "http:headerssent" | "http:data" | "http:sent",
  session: Session,
  bytes: number,
) => void;

/** Whom a session works for. */
export interface SessionHost {
  /** What all sessions are held to. */
  readonly limits: SessionLimits;
  /** A request came: answer it. Must not throw. */
  handle(exchange: Exchange): void;
  /** A request could not be read: answer it, as the last one of the session. Must not throw. */
  refuse(session: Session, response: ResponseWriter, error: HttpError): void;
  /** A request was refused or its response failed; the session has dealt with it. */
  failed(session: Session, error: HttpsdError): void;
  /** Hears what happens on sessions in the original's terms; `undefined` where nobody listens. */
  readonly tell: Tell | undefined;
  /** An error status was answered without a handler's doing. */
  errorAnswered(session: Session, error: HttpError): void;
  /** The session is now the most recently used one. */
  touched(session: Session): void;
  /** A request was answered, and the connection `ends` or not; returns whether it has to. */
  answered(session: Session, ends: boolean): boolean;
  /** Whether somebody waits for the room that a session would make by not becoming idle. */
  readonly crowded: boolean;
  /** So many bytes came or went on the connection, without TLS. */
  passed(type: "data" | "sent", session: Session, bytes: number): void;
  /** The session is over, once. */
  ended(session: Session, error: HttpsdError | undefined): void;
}

/**
 * Where a session is in its life: its hooks have not let it in; it waits for a request, or is a
 * WebSocket; a request is under way; nothing is read any more.
 */
export type SessionState = "opening" | "idle" | "busy" | "closing";

/** A client's connection and what its requests share (original: a socket descriptor's session). */
export class Session {
  /** Unique in this process, never used again. */
  readonly id: number = nextSessionId();
  /** The connection underneath. */
  readonly connection: Connection;
  readonly #host: SessionHost;
  readonly #connectedAt = Date.now();
  readonly #parser: RequestParser;
  readonly #link: Consumer & Observer & ExchangeKeeper;
  /** What reads the connection after an upgrade. */
  #protocol: Protocol | undefined;
  #begun = false;
  /** How many bytes went by before the hooks let the session in: there is nobody to report to yet. */
  readonly #early = { received: 0, sent: 0 };
  #exchange: Exchange | undefined;
  #requests = 0;
  #pumping = false;
  readonly #turn = new TurnBudget(REQUESTS_PER_TURN, () => this.#pump());
  #last = false;
  /** A request was refused: where its successor would begin is not known, so nothing is parsed. */
  #refused = false;
  readonly #waits: Waits;
  /** The answer to a request that could not be read. */
  #refusal: ResponseWriter | undefined;
  /** Made when something is kept in it. */
  #context: SessionContext | undefined;
  /** Why this side closes, where somebody said so. */
  #reason: HttpsdError | undefined;
  #over = false;

  /** What the connection and the exchange of a session call, in one object, to keep it small. */
  static readonly #Link = class implements Consumer, Observer, ExchangeKeeper {
    readonly #session: Session;

    constructor(session: Session) {
      this.#session = session;
    }

    bytesReady(): void {
      const session = this.#session;
      if (session.#protocol !== undefined) return session.#protocol.bytesReady();
      session.#turn.renew();
      session.#pump();
    }

    peerEnded(): void {
      const session = this.#session;
      if (session.#protocol === undefined) session.#peerEnded();
      else session.#protocol.peerEnded();
    }

    stopped(): void {
      const session = this.#session;
      // How fast it takes what comes is the other protocol's own concern.
      if (session.#protocol === undefined) session.#setDeadline();
    }

    drained(): void {
      const session = this.#session;
      if (session.#protocol === undefined) session.#drained();
      else session.#protocol.drained();
    }

    expired(): void {
      const session = this.#session;
      if (session.#protocol === undefined) session.#expired();
      else session.#protocol.expired();
    }

    closed(error: HttpsdError | undefined): void {
      this.#session.#closed(error);
    }

    received(bytes: number): void {
      const session = this.#session;
      if (session.#begun) session.#host.passed("data", session, bytes);
      else session.#early.received += bytes;
    }

    sent(bytes: number): void {
      const session = this.#session;
      if (session.#begun) session.#host.passed("sent", session, bytes);
      else session.#early.sent += bytes;
    }

    get clock(): Clock {
      return this.#session.connection.clock;
    }

    respond(head: HeadLike): Http1ResponseSink {
      return new Http1ResponseSink(this.#session.connection, head, this.#session);
    }

    starting(exchange: Exchange): void {
      this.#session.#responseStarts(exchange);
    }

    done(): void {
      this.#session.#advance();
    }

    blocked(): void {
      this.#session.#setDeadline();
    }

    wanted(): void {
      this.#session.#pump();
    }

    failed(_exchange: Exchange, error: HttpError): void {
      this.#session.#host.failed(this.#session, error);
    }

    get ending(): boolean {
      const { connection } = this.#session;
      return this.#session.#last || connection.ended || connection.finishing;
    }

    tunnel<P extends Protocol>(speak: (tunnel: Tunnel) => P): P {
      const protocol = speak(this.#session.connection);
      this.#session.#switchTo(protocol);
      return protocol;
    }

    taken(exchange: Exchange): void {
      if (exchange === this.#session.#exchange) this.#session.#holdBody(exchange);
    }
  };

  /**
   * Takes a connection; nothing is read before {@linkcode Session.begin}.
   *
   * @internal
   */
  constructor(connection: Connection, host: SessionHost) {
    this.connection = connection;
    this.#host = host;
    this.#parser = new RequestParser(host.limits);
    this.#waits = new Waits(host.limits, connection.clock);
    this.#link = new Session.#Link(this);
    connection.observer = this.#link;
    connection.attach(this.#link);
    connection.deadline = connection.after(host.limits.handshakeTimeoutMs);
  }

  /**
   * The server's call: the session is let in, and requests may be read.
   *
   * @internal
   */
  begin(): void {
    this.#begun = true;
    const { received, sent } = this.#early;
    if (received > 0) this.#host.passed("data", this, received);
    if (sent > 0) this.#host.passed("sent", this, sent);
    this.#pump();
  }

  /** When the connection was established. */
  get connectedAt(): Date {
    return new Date(this.#connectedAt);
  }

  /** The client's address. */
  get remoteAddress(): string {
    return this.connection.remoteAddress;
  }

  /** The client's port. */
  get remotePort(): number {
    return this.connection.remotePort;
  }

  /** The handshake's facts; `undefined` in plain mode. */
  get tls(): TlsInfo | undefined {
    return this.connection.tls;
  }

  /** How many requests have come on this connection, with the one under way. */
  get requests(): number {
    return this.#requests;
  }

  /** Whether a request is under way. */
  get busy(): boolean {
    return this.#exchange !== undefined || this.#turn.waiting;
  }

  /** Whether a part of a request has come, and no handler has it yet. */
  get receiving(): boolean {
    return this.#parser.incomplete || this.connection.queuedBytes > 0;
  }

  /** Where the session is in its life. */
  get state(): SessionState {
    if (this.connection.closed || this.connection.finishing) return "closing";
    if (!this.#begun) return "opening";
    return this.busy ? "busy" : "idle";
  }

  /** Anything that handlers want to keep for the session (original: `sess_ctx`). */
  get context(): unknown {
    return this.#context?.value;
  }

  /** Keeps another context, without a function to free it. */
  set context(context: unknown) {
    this.setContext(context);
  }

  /**
   * Keeps `context` for the session's handlers. `free` is called with it when another takes its
   * place and when the session ends; what it throws becomes an `error` event (original:
   * `httpd_sess_set_ctx`). A session that is over keeps none: `free` is called at once.
   */
  setContext<T>(context: T, free?: (context: T) => unknown): void {
    this.#context ??= new SessionContext((error) => this.#host.failed(this, error));
    this.#context.set(context, free);
    if (this.#over) this.freeContext();
  }

  /** Frees the context now, as the end of the session does. */
  freeContext(): void {
    this.#context?.free();
  }

  /** Makes this session the most recently used one (`httpd_sess_update_lru_counter`). */
  touch(): void {
    this.#host.touched(this);
  }

  /**
   * Writes bytes as they are, outside of HTTP's framing: whether the client understands them is the
   * caller's concern (original: `httpd_socket_send`). On a session that is over they go nowhere.
   *
   * @throws {StateError} `ALREADY_SENT` in the middle of a response, which they would break, and
   * on a WebSocket
   */
  send(bytes: Uint8Array): void {
    const response = this.#exchange?.response;
    if (this.#protocol !== undefined || (response?.started && !response.ended)) {
      throw new StateError("ALREADY_SENT", "Raw bytes would break what is being sent: wait for it");
    }
    this.connection.write(new Uint8Array(bytes)); // a copy; not slice(): a Buffer's is a view
  }

  /** What is spoken on the connection (original: `httpd_ws_client_info_t`). */
  get kind(): string {
    return this.#protocol?.kind ?? "http";
  }

  /**
   * Closes when the request under way is answered, or now when there is none (original:
   * `httpd_sess_trigger_close`). `reason` is what `closeFn` and the `disconnected` event tell.
   */
  close(reason?: HttpsdError): void {
    this.#last = true;
    this.#reason ??= reason;
    if (this.#protocol !== undefined) this.#protocol.shutdown();
    else if (this.#exchange === undefined) this.connection.finish();
    else {
      this.#exchange.response.closeAfterwards();
      this.#advance();
    }
  }

  /**
   * Closes an idle session at once to make room for another (original: `lru_purge_enable`). Returns
   * false for one inside a request, which is not closed, and one that closes already.
   */
  purge(): boolean {
    if (this.busy || this.state === "closing" || this.#last) return false;
    this.#last = true;
    this.#reason = new ConnectionError("CONNECTION_ABORTED", "Closed to make room for another");
    this.#protocol?.leave();
    this.connection.finishWithin(GOODBYE_MS);
    return true;
  }

  /** Cuts the connection now. */
  destroy(error?: HttpsdError): void {
    this.connection.destroy(error);
  }

  /**
   * Tells of events, where somebody listens.
   *
   * @internal
   */
  get tell(): Tell | undefined {
    return this.#host.tell;
  }

  /**
   * Lets `protocol` read the connection from here on, beginning with the bytes that came behind the
   * request that was answered with 101 (RFC 9110 section 7.8).
   */
  #switchTo(protocol: Protocol): void {
    this.#protocol = protocol;
    this.#endExchange();
    this.#host.touched(this);
    this.connection.putBack(this.#parser.takeRest());
    this.connection.deadline = Infinity;
    queueMicrotask(() => {
      if (!this.connection.closed) protocol.bytesReady();
    });
  }

  /** Takes steps until the parser, the reader or the client must be waited for. */
  #pump(): void {
    if (!this.#begun) return;
    if (this.#pumping) return; // a handler that answers at once comes back here
    this.#pumping = true;
    this.connection.cork();
    try {
      while (this.#step());
    } finally {
      this.connection.uncork();
      this.#pumping = false;
    }
    this.#setDeadline();
  }

  /** One step; false when there is something to wait for. */
  #step(): boolean {
    const exchange = this.#exchange;
    if (this.connection.closed || this.connection.finishing) return false;
    if (this.#protocol !== undefined) return false;
    // What follows a refused request means nothing. It is thrown away, lest it hide the client's end.
    if (this.#refused) return this.connection.take() !== undefined;
    if (exchange === undefined) {
      if (this.connection.blocked) return false;
      // Only where something waits: the turn of a client that has got all is none to put off.
      const waits = !this.#parser.idle || this.connection.queuedBytes > 0;
      if (waits && !this.#turn.mayGoOn()) return false;
    } else if (exchange.bodyEnded) {
      if (this.connection.ended && this.#parser.idle) this.#lastAnswer(exchange);
      return false;
    } else if (exchange.body.full) {
      return false;
    }
    switch (this.#parser.next()) {
      case Step.Need:
        return this.#feed(exchange);
      case Step.Head:
        this.#turn.spend();
        this.#exchangeBegins();
        return true;
      case Step.Data:
        this.#pushBody(exchange!);
        return true;
      case Step.End:
        exchange!.body.end(this.#parser.trailers);
        this.#advance();
        return true;
      case Step.Fail:
        this.#refuse(this.#parser.error, exchange);
        return false;
    }
  }

  /** Gives the parser its next bytes; at the end of the stream, ends what cannot go on. */
  #feed(exchange: Exchange | undefined): boolean {
    const bytes = this.connection.take();
    if (bytes !== undefined) {
      this.#parser.push(bytes);
      return true;
    }
    if (!this.connection.ended) return false;
    if (exchange === undefined) {
      this.connection.finish();
    } else {
      exchange.cutBody(clientEnded());
      this.#lastAnswer(exchange);
    }
    return false;
  }

  #exchangeBegins(): void {
    this.#requests++;
    this.#waits.requestCame();
    const { limits } = this.#host;
    const exchange = this.#exchange = new Exchange(this, this.#parser.head, this.#link);
    this.tell?.("http:header", this, 0);
    exchange.answerWithin(limits.handlerTimeoutMs);
    const last = this.#last || this.#requests >= limits.maxRequestsPerConnection ||
      this.#waits.tooOld;
    if (last) exchange.response.closeAfterwards();
    if (!exchange.hasBody) this.#parser.next(); // Step.End: nothing is still to be read of it
    this.#host.handle(exchange);
    if (this.connection.peerEnded) exchange.abort(clientEnded());
  }

  /** Decides whether the response is the last one, as its head says so. */
  #responseStarts(exchange: Exchange): void {
    // A client that waits for 100 may send the body or the next request: nobody can tell which.
    if (exchange.awaitsContinue || this.#host.crowded) exchange.response.closeAfterwards();
  }

  /**
   * Tells of what is written, where somebody listens.
   *
   * @internal
   */
  get wrote(): ((part: "head" | "body", bytes: number) => void) | undefined {
    const { tell } = this;
    if (tell === undefined) return undefined;
    return (part, bytes) => tell(part === "head" ? "http:headerssent" : "http:sent", this, bytes);
  }

  /** Goes on once both the request and its response are over. */
  #advance(): void {
    const exchange = this.#exchange;
    if (exchange === undefined || !exchange.response.ended) return;
    if (!exchange.response.keepAlive) this.#last = true;
    if (!exchange.bodyEnded && !this.#last) {
      exchange.body.discard();
      this.#pump();
      return;
    }
    this.#endExchange();
    this.#last = this.#host.answered(this, this.#last);
    if (this.#last) this.connection.finish();
    else this.#pump();
  }

  #endExchange(): void {
    this.#exchange = undefined;
    this.connection.hold(0); // what is left of its body is nobody's any more
  }

  /** What a handler has not read of a body waits as what was not taken does. */
  #holdBody(exchange: Exchange): void {
    this.connection.hold(exchange.body.queuedBytes);
  }

  #pushBody(exchange: Exchange): void {
    const { body, response } = exchange;
    this.#waits.bodyCame(this.#parser.data.length);
    body.push(this.#parser.data);
    this.#holdBody(exchange);
    if (!response.ended || body.discardedBytes <= this.#host.limits.maxDrainBytes) return;
    this.#last = true;
    this.#advance();
  }

  /** The request cannot be understood: answer where that is possible, and close in any case. */
  #refuse(error: HttpError, exchange: Exchange | undefined): void {
    this.#last = this.#refused = true;
    this.#host.failed(this, error);
    if (exchange === undefined) {
      const sink = new Http1ResponseSink(this.connection, UNREAD_REQUEST, this);
      this.#refusal = new ResponseWriter("GET", sink, {
        starting: () => {},
        done: () => this.connection.finish(),
        blocked: () => this.#setDeadline(),
        wrote: () => {},
      });
      this.#host.refuse(this, this.#refusal, error);
      return;
    }
    exchange.response.closeAfterwards();
    exchange.body.fail(error);
    if (exchange.response.ended) this.#advance();
  }

  /** The client has ended its side: it may wait for its answers still, but most have gone away. */
  #peerEnded(): void {
    this.#exchange?.abort(clientEnded());
    this.#setDeadline();
  }

  /** The client has ended its side, and no request follows. */
  #lastAnswer(exchange: Exchange): void {
    if (this.#last) return;
    this.#last = true;
    exchange.response.closeAfterwards();
    if (exchange.response.ended) this.#advance();
  }

  #drained(): void {
    this.#waits.clientRead(); // and gets its time anew
    this.#exchange?.response.wake();
    this.#refusal?.wake();
    if (this.#exchange === undefined) this.#pump();
    else this.#setDeadline();
  }

  #expired(): void {
    if (!this.#begun) {
      this.destroy(new ConnectionError("CONNECTION_TIMEOUT", "The hooks took too long"));
      return;
    }
    if (this.#exchange?.overdue) {
      this.#giveUp(this.#exchange);
      this.#setDeadline();
      return;
    }
    if (this.connection.clock.now() < this.#waits.deadline) {
      this.connection.deadline = this.#waits.deadline; // the answer has begun in its time
      return;
    }
    switch (this.#waits.current) {
      case "request":
      case "drain":
        this.connection.finish();
        break;
      case "head":
        this.#refuse(timeout("The request head did not arrive in time"), undefined);
        this.#setDeadline();
        break;
      case "body":
        this.#refuse(timeout("The request body did not arrive in time"), this.#exchange);
        this.#setDeadline();
        break;
      case "reader":
      case "answer":
        this.connection.destroy(
          new ConnectionError("CONNECTION_TIMEOUT", "The client did not read in time"),
        );
        break;
      case "stopped":
        this.#exchange?.abort(
          new ConnectionError("CONNECTION_TIMEOUT", "The handler takes nothing of what waits"),
        );
        this.#setDeadline();
        break;
      case "source":
        this.#exchange?.response.giveUp(
          new ConnectionError(
            "CONNECTION_CLOSED",
            "The client ended its side, and the answer paused",
          ),
        );
    }
  }

  /** The handler takes too long: the client is told, by nobody who could take too long as well. */
  #giveUp(exchange: Exchange): void {
    const error = exchange.giveUp();
    this.#host.failed(this, error);
    this.#host.errorAnswered(this, error);
  }

  #closed(error: HttpsdError | undefined): void {
    this.#protocol?.closed(error);
    const reason = error ?? new ConnectionError("CONNECTION_CLOSED", "The client is gone");
    this.#exchange?.closed(reason);
    this.#refusal?.leave(reason);
    this.#host.ended(this, error ?? this.#reason);
    this.#over = true;
    this.freeContext();
  }

  /** The one deadline that fits what the session waits for now; each new byte of a body moves it. */
  #setDeadline(): void {
    if (this.connection.closed || this.connection.finishing) return;
    if (this.#protocol !== undefined) return;
    const deadline = this.#waits.begin(this.#wait(), this.#requests);
    if (deadline === undefined) return;
    this.connection.deadline = Math.min(deadline, this.#exchange?.answerBy ?? Infinity);
  }

  /** The exchange's call: its deadline has changed. */
  deadlineMoved(): void {
    this.#waits.restart();
    this.#setDeadline();
  }

  #wait(): Wait | undefined {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      if (this.#refused) return "answer";
      if (this.connection.blocked) return "reader";
      return this.#parser.incomplete ? "head" : "request";
    }
    if (exchange.response.blocked) return "reader";
    if (exchange.response.ended) return "drain";
    // A client that has ended its side looks like one that is gone, so it is not waited on for ever.
    if (exchange.aborted) return exchange.response.started ? "source" : "answer";
    if (!exchange.bodyEnded && exchange.body.starved) return "body";
    return this.connection.stopped ? "stopped" : undefined;
  }
}

/** So many requests of one connection are begun in one turn of the event loop. */
const REQUESTS_PER_TURN = 16;
/** How long the goodbye of a session may take that is closed to make room, in ms. */
const GOODBYE_MS = 1_000;

/** How the answer to a request is framed that could not be read. */
const UNREAD_REQUEST: AnsweredRequest = { minorVersion: 1, keepAlive: false };

function clientEnded(): ConnectionError {
  return new ConnectionError("CONNECTION_CLOSED", "The client closed its side");
}

function timeout(message: string): HttpError {
  return new HttpError(408, "REQUEST_TIMEOUT", message);
}
