/**
 * HTTP/1.1 on one connection: reads requests, hands each to the host, and goes on when its response
 * is written; one request at a time, so that pipelined answers keep their order and what waits stays
 * in the connection's bounded queue (RFC 9112 section 9.3).
 *
 * | state    | what it is                                | goes on to                                  |
 * | -------- | ----------------------------------------- | ------------------------------------------- |
 * | opening  | the hooks have not let the session in     | idle: begin()                               |
 * | idle     | no request, or a part of its head         | busy: the head was read                     |
 * |          |                                           | refusing: it cannot be read, or is late     |
 * | busy     | a request and its response, the exchange  | idle: both are over                         |
 * |          |                                           | refusing: its body cannot be read, or is    |
 * |          |                                           | late; tunnel: it was answered with 101      |
 * | refusing | what comes is thrown away; the answer to  |                                             |
 * |          | the refused request is still written      |                                             |
 * | tunnel   | another protocol reads the connection     |                                             |
 * | leaving  | it began in HTTP/2, whose driver gets it  |                                             |
 * |          | as soon as it is loaded, or has it        |                                             |
 * | closed   | over                                      |                                             |
 *
 * Every state but "closed" goes on to it when the connection is over. Beside the state, `#last` says
 * that no further request begins: when the one under way is over, the connection is closed.
 *
 * The file is one thing, the driver, in the order of the data's way: what a session shows and takes,
 * reading, what the exchange asks for, what the connection reports, deadlines.
 *
 * @module
 */
import { ConnectionError, HttpError, type HttpsdError, StateError } from "../errors.ts";
import { ByteReports } from "../http/byte_reports.ts";
import { Exchange, type ExchangeKeeper } from "../http/exchange.ts";
import type { ExchangeWatch } from "../http/exchange_watch.ts";
import { PREFACE, seePreface } from "../http/preface.ts";
import { unreadHead } from "../http/request_head.ts";
import type { ResponseWriter } from "../http/response.ts";
import { bodyIncomplete } from "../http/request_rules.ts";
import { type ConnectionDriver, endContext, makeSession, type Session } from "../http/session.ts";
import type { SessionState } from "../http/session.ts";
import type { SessionHost } from "../http/session_host.ts";
import type { Transport } from "../http/exchange.ts";
import type { PaceLimits, TimeLimits } from "../http/times.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import type { LineEntry } from "../line.ts";
import type { Clock } from "../net/clock.ts";
import type { Consumer } from "../net/consumer.ts";
import type { ConnectionEngine } from "../net/engine.ts";
import { TurnBudget } from "../net/turns.ts";
import { type ParserLimits, RequestParser, Step } from "./parser.ts";
import { answerTo, giveBack } from "./answers.ts";
import type { AnsweredRequest, WriteObserver } from "./response_sink.ts";
import { type AnyWait, Timeouts, type Wait } from "../http/timeouts.ts";
import { sparesReader } from "../net/slow_reader.ts";

/** How much there may be of each thing. */
export interface Http1Limits extends ParserLimits, PaceLimits {
  /** How much of a body that no handler reads is thrown away to keep the connection, in bytes. */
  readonly maxDiscardedBytes: number;
  /** After so many requests the connection is closed. */
  readonly maxRequestsPerConnection: number;
}

/** How long each thing may take, in ms. */
export interface Http1Timeouts extends TimeLimits {
  /** How long the hooks may take that let a session in. */
  readonly handshakeMs: number;
  /** From the head of a request to the head of its response. */
  readonly handlerMs: number;
}

/** The server, with the limits of all connections. */
export interface Http1Host extends SessionHost {
  /** How much all connections may take. */
  readonly limits: Http1Limits;
  /** How long all connections may take. */
  readonly timeouts: Http1Timeouts;
  /**
   * Hands a connection without TLS that begins with HTTP/2's preface to that protocol; the preface
   * is put back. `undefined` where HTTP/2 is not served.
   */
  readonly foundPreface: ((driver: Http1Connection) => void) | undefined;
}

type State = "opening" | "idle" | "busy" | "refusing" | "tunnel" | "leaving" | "closed";

/** So many requests of one connection are begun in one turn of the event loop. */
const REQUESTS_PER_TURN = 64;
/** So many of them however long their handlers take; the others while the turn is short. */
const SURE_REQUESTS = 16;
/** How long closing a session to make room may take, in ms. */
const GOODBYE_MS = 1_000;
/** How the answer to a request is framed that could not be read. */
const UNREAD_REQUEST: AnsweredRequest = { minorVersion: 1, keepAlive: false };

/** The driver of one HTTP/1.1 connection. */
export class Http1Connection implements ConnectionDriver, Consumer, ExchangeKeeper, WriteObserver {
  readonly connection: ConnectionEngine;
  readonly session: Session = makeSession(this);
  entry: LineEntry<ConnectionDriver> | undefined;
  readonly #host: Http1Host;
  readonly #parser: RequestParser;
  readonly #timeouts: Timeouts;
  readonly #turn = new TurnBudget(REQUESTS_PER_TURN, () => this.#pump(), SURE_REQUESTS);
  #state: State = "opening";
  #exchange: Exchange | undefined;
  /** The answer to a request whose head could not be read. */
  #refusal: Exchange | undefined;
  /** What reads the connection in the state "tunnel". */
  #protocol: Protocol | undefined;
  #requests = 0;
  /** How much of HTTP/2's preface has come and nothing else; -1 where it is not looked for. */
  #preface: number;
  #last = false;
  #pumping = false;
  /** Why this side closes, where a reason was given. */
  #reason: HttpsdError | undefined;
  readonly #bytes: ByteReports;

  /** Takes a connection; nothing is read before {@linkcode Http1Connection.begin}. */
  constructor(connection: ConnectionEngine, host: Http1Host) {
    this.connection = connection;
    this.#host = host;
    this.#parser = new RequestParser(host.limits);
    this.#timeouts = new Timeouts(host.timeouts, host.limits, connection.clock);
    this.#preface = host.foundPreface === undefined || connection.tls !== undefined ? -1 : 0;
    connection.observer = this.#bytes = new ByteReports(host, this.session);
    connection.attach(this);
    connection.deadline = connection.after(host.timeouts.handshakeMs);
  }

  begin(): void {
    this.#state = "idle";
    this.#bytes.open();
    this.#pump();
  }

  // What a session shows.

  get peer(): ConnectionEngine {
    return this.connection;
  }

  get kind(): string {
    return this.#protocol?.kind ?? "http";
  }

  get state(): SessionState {
    if (this.connection.closed || this.connection.closing) return "closing";
    if (this.#state === "opening") return "opening";
    return this.busy ? "busy" : "idle";
  }

  get busy(): boolean {
    return this.#exchange !== undefined || this.#turn.waiting;
  }

  get requests(): number {
    return this.#requests;
  }

  get receiving(): boolean {
    return this.#hasBegun || this.connection.queuedBytes > 0;
  }

  /** Whether a part of a head has come. */
  get #hasBegun(): boolean {
    return this.#parser.incomplete || this.#preface > 0;
  }

  // What is done with a session.

  touch(): void {
    this.#host.touch(this);
  }

  send(bytes: Uint8Array): void {
    const response = this.#exchange?.response;
    if (this.#protocol !== undefined || (response?.started && !response.ended)) {
      throw new StateError("ALREADY_SENT", "Raw bytes would break what is being sent: wait for it");
    }
    this.connection.write(bytes);
  }

  close(reason: HttpsdError | undefined): void {
    this.#last = true;
    this.#reason ??= reason;
    if (this.#protocol !== undefined) this.#protocol.shutdown();
    else if (this.#exchange === undefined) this.connection.close();
    else {
      this.#exchange.response.closeAfterwards();
      this.#advance();
    }
  }

  purge(): boolean {
    if (this.busy || this.state === "closing" || this.#last) return false;
    this.#last = true;
    this.#reason = new ConnectionError("CONNECTION_ABORTED", "Closed to make room for another");
    this.#protocol?.leave();
    this.connection.close({ withinMs: GOODBYE_MS });
    return true;
  }

  destroy(error: HttpsdError | undefined): void {
    this.connection.destroy(error);
  }

  failed(error: HttpsdError): void {
    this.#host.failed(this.session, error);
  }

  // Reading: from the connection to the parser to the exchange.

  bytesReady(): void {
    if (this.#protocol !== undefined) return this.#protocol.bytesReady();
    this.#turn.renew();
    this.#pump();
  }

  /** Takes steps until the parser, the reader or the client must be waited for. */
  #pump(): void {
    if (this.#state === "opening") return;
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

  /** Takes one step; returns `false` when there is something to wait for. */
  #step(): boolean {
    if (this.connection.closed || this.connection.closing) return false;
    switch (this.#state) {
      case "idle":
        return this.#mayBegin() && this.#parse();
      case "busy":
        return this.#mayReadBody() && this.#parse();
      case "refusing":
        // What follows has no meaning. It is discarded so that it does not hide the client's end.
        return this.connection.take() !== undefined;
      default:
        return false;
    }
  }

  /** Whether another request may begin now. */
  #mayBegin(): boolean {
    if (this.connection.blocked) return false;
    // Only where something waits: the turn of a client that has got all is none to put off.
    const waits = !this.#parser.idle || this.connection.queuedBytes > 0;
    return !waits || this.#turn.mayGoOn();
  }

  /** Whether more of the body is to be read now. */
  #mayReadBody(): boolean {
    const exchange = this.#exchange!;
    if (!exchange.bodyEnded) return !exchange.body.full;
    if (this.connection.ended && this.#parser.idle) this.#lastAnswer(exchange);
    return false;
  }

  #parse(): boolean {
    switch (this.#parser.next()) {
      case Step.Need:
        return this.#feed();
      case Step.Head:
        this.#turn.spend();
        this.#exchangeBegins();
        return true;
      case Step.Data:
        this.#pushBody(this.#exchange!);
        return true;
      case Step.End:
        this.#exchange!.body.end(this.#parser.trailers);
        this.#advance();
        return true;
      case Step.Fail:
        this.#refuse(this.#parser.error);
        return false;
    }
  }

  /** Gives the parser its next bytes; at the end of the stream, ends what cannot go on. */
  #feed(): boolean {
    const bytes = this.connection.take();
    if (bytes !== undefined) {
      if (this.#preface >= 0) return this.#feedFirst(bytes);
      this.#parser.push(bytes);
      return true;
    }
    if (!this.connection.ended) return false;
    const exchange = this.#exchange;
    if (exchange === undefined) {
      this.connection.close();
    } else {
      exchange.cutBody(bodyIncomplete());
      this.#lastAnswer(exchange);
    }
    return false;
  }

  /** Looks for HTTP/2's preface; a part of it waits as a part of a head does. */
  #feedFirst(bytes: Uint8Array): boolean {
    const before = this.#preface;
    const seen = seePreface(bytes, before);
    if (seen >= 0 && seen < PREFACE.length) {
      this.#preface = seen;
      return true;
    }
    this.#preface = -1;
    const { connection } = this;
    if (seen < 0) {
      if (before > 0) connection.putBack(bytes);
      this.#parser.push(before > 0 ? PREFACE.slice(0, before) : bytes);
      return true;
    }
    connection.putBack(bytes.subarray(seen - before));
    connection.putBack(PREFACE);
    this.#state = "leaving";
    this.#host.foundPreface!(this);
    return false;
  }

  #exchangeBegins(): void {
    this.#state = "busy";
    this.#requests++;
    this.#timeouts.requestCame();
    const { limits, timeouts } = this.#host;
    const { head } = this.#parser;
    const answer = answerTo(this.connection, head, this);
    const exchange = this.#exchange = new Exchange(this.session, head, answer, this);
    exchange.tell();
    this.#host.notify?.("http:header", this.session, 0);
    exchange.answerWithin(timeouts.handlerMs);
    const last = this.#last || this.#requests >= limits.maxRequestsPerConnection ||
      this.#timeouts.tooOld;
    if (last) exchange.response.closeAfterwards();
    if (!exchange.hasBody) this.#parser.next(); // Step.End: nothing is still to be read of it
    else if (this.#parser.hasWholeBody) this.#takeBody(exchange);
    this.#host.handle(this, exchange);
    if (this.connection.peerEnded) exchange.abort(clientEnded());
  }

  /** A body that came together with its head is there when the handler looks. */
  #takeBody(exchange: Exchange): void {
    this.#parser.next(); // Step.Data
    this.#pushBody(exchange);
    this.#parser.next(); // Step.End
    exchange.body.end([]);
  }

  #pushBody(exchange: Exchange): void {
    const { body, response } = exchange;
    this.#timeouts.bodyCame(this.#parser.data.length);
    body.push(this.#parser.data);
    this.#holdBody(exchange);
    if (!response.ended || body.discardedBytes <= this.#host.limits.maxDiscardedBytes) return;
    this.#last = true;
    this.#advance();
  }

  /** Counts what a handler has not read of a body among the bytes that wait to be taken. */
  #holdBody(exchange: Exchange): void {
    this.connection.hold(exchange.body.queuedBytes);
  }

  /** Goes on once both the request and its response are over. */
  #advance(): void {
    const exchange = this.#exchange;
    if (exchange === undefined || !exchange.response.ended) return;
    if (!exchange.response.keepAlive) this.#last = true;
    if (!exchange.bodyEnded) {
      exchange.body.discard(); // whoever reads it hears of the end
      if (!this.#last) return this.#pump();
    }
    this.#endExchange("idle");
    this.#last = this.#host.answered(this, this.#last);
    if (this.#last) this.connection.close();
    else this.#pump();
  }

  #endExchange(next: "idle" | "tunnel"): void {
    this.#exchange = undefined;
    if (this.#state === "busy") this.#state = next;
    this.connection.hold(0); // what is left of its body waits for no handler any more
  }

  /** Answers a request that cannot be understood where that is possible, and closes in any case. */
  #refuse(error: HttpError): void {
    this.#last = true;
    this.#state = "refusing";
    this.failed(error);
    const exchange = this.#exchange;
    if (exchange === undefined) {
      const answer = answerTo(this.connection, UNREAD_REQUEST, this);
      const refusal = this.#refusal = new Exchange(this.session, unreadHead("1.1"), answer, this);
      refusal.tell();
      this.#host.refuse(refusal, error);
      return;
    }
    exchange.response.closeAfterwards();
    exchange.body.fail(error);
    if (exchange.response.ended) this.#advance();
  }

  // What the exchange reports and asks for.

  get clock(): Clock {
    return this.connection.clock;
  }

  get watch(): ExchangeWatch {
    return this.#host.watch;
  }

  get readsBodies(): boolean {
    return true;
  }

  get transport(): Transport {
    return this.#host.transport;
  }

  get ending(): boolean {
    return this.#last || this.connection.ended || this.connection.closing;
  }

  speaksFor(host: string | undefined): boolean {
    return this.#host.speaksFor(this, host);
  }

  starting(exchange: Exchange): void {
    // A client that waits for 100 may send the body or the next request: no server can know which.
    if (exchange.awaitsContinue || this.#host.crowded) exchange.response.closeAfterwards();
  }

  get wrote(): ((part: "head" | "body", bytes: number) => void) | undefined {
    const { notify } = this.#host;
    if (notify === undefined) return undefined;
    return (part, bytes) =>
      notify(part === "head" ? "http:headerssent" : "http:sent", this.session, bytes);
  }

  done(exchange: Exchange): void {
    if (exchange === this.#refusal) this.connection.close();
    else this.#advance();
  }

  blocked(): void {
    this.#setDeadline();
  }

  wanted(): void {
    this.#pump();
  }

  taken(exchange: Exchange, bytes: number): void {
    if (exchange === this.#exchange) this.#holdBody(exchange);
    this.#host.notify?.("http:data", this.session, bytes);
  }

  errorAnswered(error: HttpError): void {
    this.#host.errorAnswered(this.session, error);
  }

  cut(): void {
    this.connection.destroy();
  }

  /** Does nothing: the next request waits for the response, whatever the handler does behind it. */
  settled(): void {}

  get giveBack(): (response: ResponseWriter) => void {
    return giveBack;
  }

  deadlineMoved(): void {
    this.#timeouts.restart();
    this.#setDeadline();
  }

  /**
   * Lets the protocol that `speak` makes read the connection from here on, beginning with the bytes
   * that came behind the request that was answered with 101 (RFC 9110 section 7.8).
   */
  tunnel<P extends Protocol>(speak: (tunnel: Tunnel) => P): P {
    const { connection } = this;
    connection.oldAt = this.#timeouts.oldAt;
    const protocol = speak(connection);
    this.#protocol = protocol;
    this.#endExchange("tunnel");
    this.#host.touch(this);
    connection.putBack(this.#parser.takeRest());
    connection.deadline = Infinity;
    queueMicrotask(() => {
      if (!connection.closed) protocol.bytesReady();
    });
    return protocol;
  }

  // What the connection reports.

  /** The client has ended its side: it may still wait for its answers, but most clients have left. */
  peerEnded(): void {
    if (this.#protocol !== undefined) return this.#protocol.peerEnded();
    this.#exchange?.abort(clientEnded());
    this.#setDeadline();
  }

  /** Closes behind the answer, since the client has ended its side and no request follows. */
  #lastAnswer(exchange: Exchange): void {
    if (this.#last) return;
    this.#last = true;
    exchange.response.closeAfterwards();
    if (exchange.response.ended) this.#advance();
  }

  drained(): void {
    if (this.#protocol !== undefined) return this.#protocol.drained();
    this.#timeouts.clientRead(); // its time starts again
    this.#exchange?.response.wake();
    this.#refusal?.response.wake();
    if (this.#exchange === undefined) this.#pump();
    else this.#setDeadline();
  }

  stopped(): void {
    if (this.#protocol !== undefined) return this.#protocol.stopped();
    this.#setDeadline();
  }

  closed(error: HttpsdError | undefined): void {
    this.#protocol?.closed(error);
    const reason = error ?? new ConnectionError("CONNECTION_CLOSED", "The client is gone");
    this.#exchange?.closed(reason);
    this.#refusal?.closed(reason);
    this.#host.ended(this, error ?? this.#reason);
    this.#state = "closed";
    endContext(this.session);
  }

  // Deadlines: one at a time, the one of what is waited for.

  /** Sets the deadline of what is waited for now; each new byte of a body moves it. */
  #setDeadline(): void {
    if (this.#state === "opening" || this.#state === "leaving" || this.#state === "closed") return;
    if (this.#protocol !== undefined || this.connection.closed || this.connection.closing) return;
    const deadline = this.#timeouts.begin(this.#wait(), this.#requests);
    if (deadline === undefined) return;
    this.connection.deadline = Math.min(deadline, this.#exchange?.answerBy ?? Infinity);
  }

  #wait(): Wait | undefined {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      if (this.#state === "refusing") return "answer";
      if (this.connection.blocked) return "reader";
      return this.#hasBegun ? "head" : "request";
    }
    if (exchange.response.blocked) return "reader";
    if (exchange.response.ended) return "drain";
    // A client that has ended its side looks like one that is gone, so the wait has a limit.
    if (exchange.aborted) return exchange.response.started ? "source" : "answer";
    if (!exchange.bodyEnded && exchange.body.starved) return "body";
    return this.connection.stopped ? "stopped" : undefined;
  }

  expired(): void {
    if (this.#protocol !== undefined) return this.#protocol.expired();
    if (this.#state === "opening") {
      this.destroy(new ConnectionError("CONNECTION_TIMEOUT", "The hooks took too long"));
      return;
    }
    if (this.#state === "leaving") {
      this.destroy(new ConnectionError("CONNECTION_TIMEOUT", "HTTP/2 took too long to load"));
      return;
    }
    if (this.#exchange?.overdue) {
      this.#giveUp(this.#exchange);
      this.#setDeadline();
      return;
    }
    if (this.connection.clock.now() < this.#timeouts.deadline) {
      this.connection.deadline = this.#timeouts.deadline; // the answer has begun in its time
      return;
    }
    this.#waitIsOver(this.#timeouts.current);
  }

  #waitIsOver(wait: AnyWait | undefined): void {
    switch (wait) {
      case "request":
      case "drain":
        this.connection.close();
        break;
      case "head":
        this.#refuse(timeout("The request head did not arrive in time"));
        this.#setDeadline();
        break;
      case "body":
        this.#refuse(timeout("The request body did not arrive in time"));
        this.#setDeadline();
        break;
      case "reader":
      case "answer":
        this.#notRead();
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

  /** Cuts the client that has not read, unless it is only slow. */
  #notRead(): void {
    if (sparesReader(this.connection)) return;
    this.connection.destroy(
      new ConnectionError("CONNECTION_TIMEOUT", "The client did not read in time"),
    );
  }

  /** Answers for a handler that takes too long; no error handler delays that further. */
  #giveUp(exchange: Exchange): void {
    const error = exchange.giveUp();
    this.failed(error);
    exchange.errorAnswered(error);
  }
}

function clientEnded(): ConnectionError {
  return new ConnectionError("CONNECTION_CLOSED", "The client closed its side");
}

function timeout(message: string): HttpError {
  return new HttpError(408, "REQUEST_TIMEOUT", message);
}
