/**
 * One stream: a request, its response, and what both wait for (RFC 9113 section 5.1).
 *
 * Each side of it is open until it has ended, and the stream is over when both have, or when either
 * side resets it:
 *
 * | the client | this side | what may come                | what may be sent      |
 * | ---------- | --------- | ---------------------------- | --------------------- |
 * | open       | open      | DATA, trailers, RST_STREAM   | HEADERS, DATA         |
 * | ended      | open      | RST_STREAM                   | HEADERS, DATA         |
 * | open       | ended     | DATA, which is thrown away; where that is more than          | |
 * |            |           | `limits.maxDiscardedBytes` the window stays shut, and in a   | |
 * |            |           | moment RST_STREAM(NO_ERROR) is sent                          | |
 * | over       | over      | nothing: the connection judges what comes for a stream that it does not know | |
 *
 * A stream that is over still has its place among `maxConcurrentStreams` while its handler runs, so
 * that a client gains nothing by resets.
 *
 * The file is one thing, the transitions of that table, in the order of the data's way; most of its
 * methods are a line or two that the exchange, the sink or a tunnel calls.
 *
 * @module
 */
import { ConnectionError, HttpError, type HttpsdError } from "../errors.ts";
import type { Trailers } from "../http/body.ts";
import { Exchange, type ExchangeKeeper, type Transport } from "../http/exchange.ts";
import type { ExchangeWatch } from "../http/exchange_watch.ts";
import { unreadHead } from "../http/request_head.ts";
import { bodyIncomplete } from "../http/request_rules.ts";
import { ResponseWriter } from "../http/response.ts";
import type { Session } from "../http/session.ts";
import { type AnyWait, type StreamWait, Timeouts } from "../http/timeouts.ts";
import type { PaceLimits, TimeLimits } from "../http/times.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import type { Clock } from "../net/clock.ts";
import { ErrorCode, type Http2Fault, streamFault } from "./error_code.ts";
import type { Output } from "./output.ts";
import type { Http2RequestHead } from "./request_head.ts";
import { Http2ResponseSink, type SinkStream } from "./response_sink.ts";
import { Http2Tunnel, type TunnelStream } from "./tunnel.ts";
import { type ReceiveWindow, SendWindow } from "./windows.ts";

/** How much one stream may take. */
export interface StreamLimits extends PaceLimits {
  /** How much of a body that no handler reads is thrown away, in bytes. */
  readonly maxDiscardedBytes: number;
  /** The longest body, in bytes. */
  readonly maxBodyBytes: number;
}

/** How long one stream may take, in ms. */
export interface StreamTimeouts extends TimeLimits {
  /** From the head of a request to the head of its response. */
  readonly handlerMs: number;
}

/** The connection of a stream. */
export interface StreamOwner {
  readonly session: Session;
  readonly limits: StreamLimits;
  readonly timeouts: StreamTimeouts;
  /** The receive window of a stream, in bytes. */
  readonly streamWindowBytes: number;
  readonly clock: Clock;
  readonly watch: ExchangeWatch;
  readonly transport: Transport;
  readonly output: Output;
  /** Whether the connection takes no further request. */
  readonly ending: boolean;
  /** Whether a stream may become a tunnel: also the last one that the connection may carry. */
  readonly takesTunnels: boolean;
  /** Whether the client can send no DATA, since what has come of others waits for their handlers. */
  readonly isInputShut: boolean;
  /** How long a write may wait for the client to read, in ms. */
  readonly sendTimeoutMs: number;
  /** Until when a client that must read counts as one that does, on the clock. */
  readonly readUntil: number;
  /** When the connection is as old as it may become. */
  readonly oldAt: number;
  /** The send window of a new stream, in bytes. */
  readonly initialWindow: number;
  readonly wrote: ((part: "head" | "body", bytes: number) => void) | undefined;
  /** Whether the session may carry requests for this host. */
  speaksFor(host: string | undefined): boolean;
  /** Answers the request of a stream. */
  handle(exchange: Exchange): void;
  /** Answers a request that is refused. */
  refuse(exchange: Exchange, error: HttpError): void;
  /** Takes no further request. */
  shutdown(): void;
  /** Takes note that so many bytes more of bodies wait for handlers, or less. */
  held(bytes: number): void;
  /** Makes the receive window of a stream, as the client knows it. */
  receiveWindow(): ReceiveWindow;
  /** Gives back a part of the connection's receive window. */
  giveBack(bytes: number): void;
  /** Takes note that so many bytes of a body were read, or thrown away. */
  taken(bytes: number): void;
  /** Takes note that a stream has another deadline. */
  waits(deadline: number): void;
  /** Takes note that a stream has become a tunnel. */
  tunneled(): void;
  /** Forgets a stream that is over. */
  over(stream: Http2Stream): void;
  /** Takes note that a stream's place is free. */
  freed(stream: Http2Stream): void;
  /** Takes note that this side has reset a stream. */
  wasReset(stream: Http2Stream): void;
  failed(error: HttpsdError): void;
  errorAnswered(error: HttpError): void;
}

/** One stream of a connection. */
export class Http2Stream implements ExchangeKeeper, SinkStream, TunnelStream {
  readonly id: number;
  readonly exchange: Exchange;
  readonly window: SendWindow;
  readonly #upgradable: boolean;
  /** When the stream's wait is over, on the clock. */
  deadline = Infinity;
  /** Where its response goes. */
  readonly sink: Http2ResponseSink;
  readonly #owner: StreamOwner;
  #receiving: ReceiveWindow | undefined;
  /** How many bytes of the body have come. */
  #received = 0;
  /** How many of them wait for the handler. */
  #unread = 0;
  /** How many were thrown away before the answer was written, for which no window was given back. */
  #withheld = 0;
  /** How many had come when the answer was written. */
  #receivedBefore = 0;
  #remoteEnded: boolean;
  #localEnded = false;
  #isOver = false;
  /** Whether the handler runs, or will. */
  #handling = false;
  /** Whether the stream is over, and its place is not free. */
  #lingers = false;
  /** Made when something is waited for that has a deadline, which most streams never do. */
  #timeouts: Timeouts | undefined;
  /** Whether the rest of the body is thrown away, since the answer is written. */
  #drains = false;
  /** Whether too much of it is to come, so that the stream is about to be reset. */
  #parts = false;
  /** Whether the client has ended its side of the connection. */
  #clientEnded = false;
  #tunnel: Http2Tunnel | undefined;

  /**
   * Begins a stream with the head of its request; with `undefined`, where that could not be read.
   */
  constructor(
    owner: StreamOwner,
    id: number,
    head: Http2RequestHead | undefined,
    endStream: boolean,
  ) {
    this.#owner = owner;
    this.#upgradable = head?.upgrade === true;
    this.id = id;
    this.window = new SendWindow(owner.initialWindow);
    this.#remoteEnded = endStream;
    this.sink = new Http2ResponseSink(this);
    const response = new ResponseWriter(this.sink);
    this.exchange = new Exchange(owner.session, head ?? unreadHead("2"), response, this);
  }

  /** Has the request answered. */
  begin(): void {
    this.#handling = true;
    this.exchange.answerWithin(this.#owner.timeouts.handlerMs);
    if (this.exchange.answerBy !== Infinity) this.#arm();
    this.#owner.handle(this.exchange);
  }

  /** Answers a request that is refused. */
  refuse(error: HttpError): void {
    this.#owner.failed(error);
    this.#owner.refuse(this.exchange, error);
  }

  /** Whether either side has reset it, or both have ended. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether its place is still taken. */
  get isHandled(): boolean {
    return this.#handling;
  }

  /** Whether the client has ended its side. */
  get remoteEnded(): boolean {
    return this.#remoteEnded;
  }

  /** Whether all of its answer is on its way. */
  get isAnswered(): boolean {
    return this.#localEnded;
  }

  // Receiving.

  /**
   * Takes a piece of DATA of which `flowBytes` count for the windows. Returns what is wrong with it.
   */
  data(bytes: Uint8Array, flowBytes: number, endStream: boolean): Http2Fault | undefined {
    const receiving = this.#receiving ??= this.#owner.receiveWindow();
    if (!receiving.receive(flowBytes)) {
      return streamFault(this.id, ErrorCode.FlowControlError, "More DATA than the stream's window");
    }
    const { length } = bytes;
    this.#received += length;
    const { contentLength } = this.exchange.head;
    if (contentLength !== undefined && this.#tunnel === undefined) {
      // A client that stops since it has its answer ends a body that is too short.
      const whole = endStream && !this.#parts;
      const wrong = whole ? this.#received !== contentLength : this.#received > contentLength;
      if (wrong) return this.#wrongLength();
    }
    if (length > 0 && this.#upgradable && this.#tunnel === undefined && !this.#localEnded) {
      return streamFault(this.id, ErrorCode.ProtocolError, "DATA before the answer to CONNECT");
    }
    if (flowBytes > length) this.#giveBack(flowBytes - length);
    if (endStream) this.#remoteEnded = true;
    if (length > 0) this.#push(bytes);
    if (endStream) this.#endBody([]);
    return undefined;
  }

  /** The client has changed the stream's window as SETTINGS have said. */
  settingsAcknowledged(delta: number): void {
    this.#receiving?.change(delta);
  }

  /** Takes the trailer section, which ends the client's side. Returns what is wrong with it. */
  trailers(trailers: Trailers): Http2Fault | undefined {
    const { contentLength } = this.exchange.head;
    if (contentLength !== undefined && this.#received !== contentLength) {
      return this.#wrongLength();
    }
    this.#remoteEnded = true;
    this.#endBody(trailers);
    return undefined;
  }

  #wrongLength(): Http2Fault {
    const message = "The body is not as long as declared";
    return streamFault(this.id, ErrorCode.ProtocolError, message);
  }

  /** The trailer section cannot be taken: the body has no whole end. */
  trailersFailed(error: HttpError): void {
    this.#remoteEnded = true;
    this.failed(error);
    this.exchange.cutBody(error);
    if (this.#localEnded) this.#close();
  }

  #push(bytes: Uint8Array): void {
    const { length } = bytes;
    const owner = this.#owner;
    if (this.#tunnel !== undefined) {
      owner.held(length);
      return this.#tunnel.push(bytes);
    }
    const { exchange } = this;
    if (!exchange.hasBody) return this.#throwAway(length); // of a request that was refused
    if (this.#received > owner.limits.maxBodyBytes && !exchange.response.ended) {
      exchange.cutBody(tooLong(owner.limits.maxBodyBytes));
      return this.#throwAway(length);
    }
    this.#timeouts?.bodyCame(length);
    this.#unread += length;
    owner.held(length);
    exchange.body.push(bytes);
    if (this.#drains) this.#drain();
    else if (this.#timeouts !== undefined) this.#arm();
  }

  #endBody(trailers: Trailers): void {
    if (this.#tunnel !== undefined) this.#tunnel.end();
    else if (this.exchange.hasBody) this.exchange.body.end(trailers);
    if (this.#localEnded) this.#close();
    else if (this.#timeouts !== undefined) this.#arm();
  }

  /**
   * Lets go of bytes that nothing will read. Before the answer is written the client may send no more
   * of them than its window.
   */
  #throwAway(bytes: number): void {
    this.#owner.giveBack(bytes);
    if (this.#drains) {
      this.#widen(bytes);
      this.#drain();
    } else {
      this.#withheld += bytes;
    }
  }

  /** Lets the client send so many bytes more. */
  #giveBack(bytes: number): void {
    this.#owner.giveBack(bytes);
    this.#widen(bytes);
  }

  #widen(bytes: number): void {
    if (this.#remoteEnded || this.#isOver || this.#parts) return;
    const increment = this.#receiving!.giveBack(bytes);
    if (increment > 0) this.#owner.output.windowUpdate(this.id, increment);
  }

  /**
   * Lets go of the rest of a body that nothing reads. Where that is too long, or waits for a 100,
   * the client may send no more than its window, and has a moment to see its answer and to stop by
   * itself: curl loses an answer that the reset comes with, and browsers show none before the
   * reset.
   */
  #drain(): void {
    if (this.#remoteEnded || this.#isOver) return;
    const { maxDiscardedBytes } = this.#owner.limits;
    const { exchange } = this;
    const left = (exchange.head.contentLength ?? 0) - this.#received;
    const drained = this.#received - this.#receivedBefore;
    this.#parts ||= exchange.awaitsContinue || Math.max(drained, left) > maxDiscardedBytes;
    this.#drains = true;
    this.#arm();
  }

  // What the sink asks for.

  get output(): Output {
    return this.#owner.output;
  }

  get lasts(): boolean {
    return !this.#owner.ending;
  }

  closeAfterwards(): void {
    this.#owner.shutdown();
  }

  /** What a tunnel carries is no part of a response. */
  get wrote(): ((part: "head" | "body", bytes: number) => void) | undefined {
    return this.#tunnel === undefined ? this.#owner.wrote : undefined;
  }

  ended(): void {
    this.#localEnded = true;
  }

  /** The exchange is over for its client, whatever its handler still writes for a HEAD. */
  headWasAll(): void {
    this.exchange.written();
  }

  /** Goes on writing; the client's time starts again with each write. */
  progressed(): void {
    this.#timeouts?.restart();
    if (this.#tunnel !== undefined) this.#tunnel.wrote();
    else this.exchange.response.wake();
    this.#arm();
  }

  // What the exchange reports and asks for.

  get clock(): Clock {
    return this.#owner.clock;
  }

  get watch(): ExchangeWatch {
    return this.#owner.watch;
  }

  get readsBodies(): boolean {
    return true;
  }

  get transport(): Transport {
    return this.#owner.transport;
  }

  get ending(): boolean {
    return !this.#owner.takesTunnels;
  }

  speaksFor(host: string | undefined): boolean {
    return this.#owner.speaksFor(host);
  }

  /** Does nothing: no response is the last one of its connection by itself. */
  starting(): void {}

  done(exchange: Exchange): void {
    if (!this.#localEnded) return; // the 101 of a tunnel
    if (this.#remoteEnded || this.#clientEnded) return this.#close();
    if (exchange.hasBody) exchange.body.discard();
    this.#receivedBefore = this.#received;
    this.#drain();
    if (this.#withheld > 0) this.#widen(this.#withheld);
  }

  blocked(): void {
    this.#arm();
  }

  /** Waits for the body anew, since the client could send nothing of it: that time does not count. */
  mayComeAgain(): void {
    if (this.#timeouts?.current !== "body") return;
    this.#timeouts.restart();
    this.#arm();
  }

  /** Waits for the body from now on: it is read in any case. */
  wanted(): void {
    if (!this.#remoteEnded) this.#arm();
  }

  taken(_exchange: Exchange, bytes: number): void {
    if (!this.#isOver) {
      this.#unread -= bytes;
      this.release(bytes);
    }
    this.#owner.taken(bytes);
  }

  deadlineMoved(): void {
    this.#timeouts?.restart();
    this.#arm();
  }

  /** Resets the stream: its exchange is over without a whole answer. */
  cut(): void {
    if (this.#isOver) this.#free();
    else this.reset(ErrorCode.Cancel);
  }

  settled(): void {
    if (this.exchange.detached && !this.exchange.response.ended) return;
    this.#free();
  }

  /** The place is free: the handler is over, or will do nothing more that counts. */
  #free(): void {
    this.#handling = false;
    if (!this.#lingers) return;
    this.#lingers = false;
    this.deadline = Infinity;
    this.#owner.freed(this);
  }

  failed(error: HttpsdError): void {
    this.#owner.failed(error);
  }

  errorAnswered(error: HttpError): void {
    this.#owner.errorAnswered(error);
  }

  // Tunnels (RFC 8441).

  get tunnel(): (<P extends Protocol>(speak: (tunnel: Tunnel) => P) => P) | undefined {
    return this.#upgradable ? this.speak : undefined;
  }

  /** Lets the protocol that `speak` makes read the stream; called as {@linkcode Http2Stream.tunnel}. */
  speak<P extends Protocol>(speak: (tunnel: Tunnel) => P): P {
    const tunnel = this.#tunnel = new Http2Tunnel(this);
    this.deadline = Infinity;
    const protocol = tunnel.spokenBy(speak(tunnel));
    this.#owner.tunneled();
    return protocol;
  }

  /** Whether the stream has become a tunnel. */
  get isTunnel(): boolean {
    return this.#tunnel !== undefined;
  }

  /** Ends a tunnel at once, since the place of its connection is needed. */
  leave(): void {
    this.#tunnel?.leave();
  }

  /** Ends a tunnel, since its connection takes no further request. */
  sayGoodbye(): void {
    this.#tunnel?.shutdown();
  }

  // How it ends.

  /** Ends the stream with RST_STREAM. */
  reset(code: ErrorCode): void {
    if (this.#isOver) return;
    this.#owner.output.remove(this.sink);
    this.#owner.output.reset(this.id, code);
    this.#owner.wasReset(this);
    this.#end(new ConnectionError("CONNECTION_ABORTED", "The server reset the stream"));
  }

  /** Ends the stream, since the client or the connection has. */
  lost(reason: HttpsdError): void {
    if (this.#isOver) return;
    this.#owner.output.remove(this.sink);
    this.#end(reason);
  }

  /**
   * Takes note that the client has ended its side of the connection: it sends nothing more of the
   * request, and gives back no window. It may read what fits, but most clients have left.
   */
  clientEnded(reason: HttpsdError): void {
    const { exchange } = this;
    exchange.abort(reason);
    this.#clientEnded = true;
    if (!this.#remoteEnded) {
      if (this.#tunnel !== undefined) return this.#endTunnel(this.#tunnel);
      exchange.cutBody(bodyIncomplete());
      if (this.#localEnded) return this.#close();
    }
    this.#timeouts?.restart();
    this.#arm();
  }

  #endTunnel(tunnel: Http2Tunnel): void {
    this.#remoteEnded = true;
    tunnel.end();
    if (this.sink.blocked && this.#isShut) this.reset(ErrorCode.Cancel);
    else this.finished();
  }

  /** Ends the stream: both sides have ended. */
  #close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.deadline = Infinity;
    this.#returnBody();
    this.#tunnel?.over(undefined);
    this.exchange.written();
    // What a handler does behind a whole answer takes no place.
    this.#handling = false;
    this.#owner.over(this);
  }

  #end(reason: HttpsdError): void {
    this.#isOver = true;
    this.deadline = Infinity;
    this.#returnBody();
    if (this.#tunnel !== undefined) this.#tunnel.over(reason);
    else this.exchange.closed(reason);
    if (this.exchange.response.ended) this.#handling = false;
    this.#lingers = this.#handling;
    if (this.#lingers && this.exchange.detached) this.deadline = this.exchange.answerBy;
    this.#owner.over(this);
  }

  /** Gives back the window of what waits, though the handler may still read it. */
  #returnBody(): void {
    const bytes = this.#unread;
    if (bytes === 0) return;
    this.#unread = 0;
    this.release(bytes);
  }

  // Deadlines.

  #arm(): void {
    if (this.#isOver || this.#tunnel !== undefined) return;
    this.deadline = Math.min(this.#waitUntil(), this.exchange.answerBy);
    if (this.deadline !== Infinity) this.#owner.waits(this.deadline);
  }

  #waitUntil(): number {
    const wait = this.#wait();
    if (this.#timeouts === undefined) {
      if (wait === undefined) return Infinity;
      const { timeouts, limits, clock } = this.#owner;
      this.#timeouts = new Timeouts(timeouts, limits, clock);
      this.#timeouts.bodyCame(this.#received);
    }
    this.#timeouts.begin(wait, 0);
    if (wait === "reader" && this.#isShut) return this.#owner.clock.now();
    return this.#timeouts.deadline;
  }

  #wait(): StreamWait | undefined {
    const { exchange } = this;
    if (exchange.response.blocked) return "reader";
    if (this.#parts) return "parting";
    if (this.#drains) return "drain";
    if (this.#clientEnded) return exchange.response.started ? "source" : "answer";
    return exchange.hasBody && !exchange.bodyEnded && exchange.body.starved ? "body" : undefined;
  }

  /** Whether the answer waits for a window that no client gives back any more. */
  get #isShut(): boolean {
    return this.#clientEnded && (this.window.size <= 0 || this.#owner.output.window.size <= 0);
  }

  /** The deadline has passed: acts on what was waited for. */
  expired(now: number): void {
    this.deadline = Infinity;
    if (this.#isOver) return this.#free();
    if (this.#tunnel !== undefined) return this.#tunnel.expired();
    if (this.exchange.overdue) this.#giveUp();
    else if (this.#timeouts !== undefined) {
      const { current, deadline } = this.#timeouts;
      const isShut = current === "reader" && this.#isShut;
      if (deadline <= now && !isShut && this.#spare(current, now)) return;
      if (deadline <= now || isShut) this.#waitIsOver(current);
    }
    if (!this.#isOver) this.#arm();
  }

  /**
   * Waits longer for a client that reads, slow as it may be: the rest of this answer, or the window
   * for its body, is behind what it has to read; and for one that has no window for its body, since
   * other handlers take nothing. Returns whether it does.
   */
  #spare(wait: AnyWait | undefined, now: number): boolean {
    if (wait !== "reader" && wait !== "body") return false;
    const excused = wait === "body" && this.#owner.isInputShut ? Infinity : this.readUntil;
    const until = wait === "reader"
      ? excused
      : Math.min(excused, this.#timeouts!.requestUntil, this.exchange.answerBy);
    if (until <= now) return false;
    if (wait === "body") this.mayComeAgain(); // so that its pace is not that of what it waits behind
    else this.waits(until);
    return true;
  }

  #waitIsOver(wait: AnyWait | undefined): void {
    switch (wait) {
      case "reader":
      case "answer":
        return this.#notRead();
      case "drain":
      case "parting":
        return this.reset(ErrorCode.NoError);
      case "source":
        return this.exchange.response.giveUp(
          new ConnectionError(
            "CONNECTION_CLOSED",
            "The client ended its side, and the answer paused",
          ),
        );
      case "body": {
        const error = new HttpError(
          408,
          "REQUEST_TIMEOUT",
          "The request body did not arrive in time",
        );
        this.failed(error);
        this.exchange.cutBody(error);
      }
    }
  }

  #notRead(): void {
    const error = new ConnectionError("CONNECTION_TIMEOUT", "The client did not read in time");
    this.failed(error);
    this.reset(ErrorCode.Cancel);
  }

  /** Answers for a handler that takes too long; no error handler delays that further. */
  #giveUp(): void {
    const error = this.exchange.giveUp();
    this.failed(error);
    this.exchange.errorAnswered(error);
    if (this.exchange.detached) this.#free();
  }

  // What a tunnel asks for.

  get sendTimeoutMs(): number {
    return this.#owner.sendTimeoutMs;
  }

  get muted(): boolean {
    return this.#owner.isInputShut;
  }

  get lingerMs(): number {
    return this.#owner.timeouts.lingerMs;
  }

  get readUntil(): number {
    return this.#owner.readUntil;
  }

  get oldAt(): number {
    return this.#owner.oldAt;
  }

  get windowBytes(): number {
    return this.#owner.streamWindowBytes;
  }

  /** Has the tunnel's deadline watched. */
  waits(deadline: number): void {
    this.deadline = deadline;
    if (deadline !== Infinity) this.#owner.waits(deadline);
  }

  /** Lets the client send so many bytes more, which the tunnel's protocol has dealt with. */
  release(bytes: number): void {
    this.#owner.held(-bytes);
    this.#giveBack(bytes);
  }

  /** Ends this side behind what was written. */
  finish(): void {
    this.sink.end([]);
    this.finished();
  }

  /** Ends the stream where both sides have. */
  finished(): void {
    if (this.#localEnded && this.#remoteEnded) this.#close();
  }
}

function tooLong(maxBodyBytes: number): HttpError {
  return new HttpError(
    413,
    "BODY_TOO_LARGE",
    `The body is longer than ${maxBodyBytes} bytes: send less`,
  );
}
