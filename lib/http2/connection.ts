/**
 * HTTP/2 on one connection: reads frames, gives each to its stream, and keeps what all of them share
 * (RFC 9113 sections 3.4, 5 and 6).
 *
 * | state    | what it is                                     | goes on to                                |
 * | -------- | ---------------------------------------------- | ----------------------------------------- |
 * | opening  | the hooks have not let the session in          | greeting: begin()                         |
 * | greeting | the client's preface and SETTINGS are awaited  | open: they have come                      |
 * | open     | requests are taken                             | leaving: no more of them are              |
 * | leaving  | GOAWAY was sent: requests under way are        |                                           |
 * |          | answered, and those behind them ignored        |                                           |
 * | failed   | the client broke a rule of the connection:     |                                           |
 * |          | GOAWAY says which, and nothing more is read    |                                           |
 * | closed   | over                                           |                                           |
 *
 * Every state goes on to "closed" when the connection is over, and every one before "failed" to
 * that. The connection is closed when it is leaving and its last stream is over.
 *
 * The file is one thing, the driver, in the order of the data's way: what a session shows and takes,
 * reading, what streams report and ask for, what the connection reports, deadlines.
 *
 * @module
 */
import { ConnectionError, HttpError, type HttpsdError, StateError } from "../errors.ts";
import { ByteReports } from "../http/byte_reports.ts";
import type { Exchange, Transport } from "../http/exchange.ts";
import type { ExchangeWatch } from "../http/exchange_watch.ts";
import {
  type ConnectionDriver,
  endContext,
  handOver,
  makeSession,
  type Session,
} from "../http/session.ts";
import type { SessionState } from "../http/session.ts";
import type { SessionHost } from "../http/session_host.ts";
import type { LineEntry } from "../line.ts";
import type { Clock } from "../net/clock.ts";
import type { Consumer } from "../net/consumer.ts";
import type { ConnectionEngine } from "../net/engine.ts";
import { TurnBudget } from "../net/turns.ts";
import {
  connectionFault,
  ErrorCode,
  errorCodeName,
  Http2Fault,
  streamFault,
} from "./error_code.ts";
import { calm, FloodGuard } from "./flood_guard.ts";
import { FrameReader, FrameStep } from "./frame_reader.ts";
import type { Http2Config } from "./options.ts";
import { Output } from "./output.ts";
import { ClientPriorities } from "./priority.ts";
import type { Http2RequestHead } from "./request_head.ts";
import { RequestReader } from "./request_reader.ts";
import {
  DEFAULT_WINDOW,
  PeerSettings,
  settingsEntries,
  type SettingsListener,
} from "./settings.ts";
import { Http2Stream, type StreamLimits, type StreamOwner, type StreamTimeouts } from "./stream.ts";
import { StreamIds } from "./stream_ids.ts";
import { isAdequate } from "./suites.ts";
import { ReceiveWindow, TINY_BYTES } from "./windows.ts";

/** How much there may be of each thing. */
export interface ConnectionLimits extends StreamLimits {
  /** The longest target. */
  readonly maxUriBytes: number;
  /** The longest head, names and values and 32 for each field; half of it as it travels, in bytes. */
  readonly maxHeaderBytes: number;
  /** The most fields of a head or of trailers. */
  readonly maxHeaderFields: number;
  /** The longest trailers, counted as a head. */
  readonly maxTrailerBytes: number;
  /** After so many requests no further one is taken. */
  readonly maxRequestsPerConnection: number;
}

/** How long each thing may take, in ms. */
export interface ConnectionTimeouts extends StreamTimeouts {
  /** How long the hooks may take that let a session in. */
  readonly handshakeMs: number;
}

/** The server, with the limits of all connections. */
export interface Http2Host extends SessionHost {
  /** How much all connections may take. */
  readonly limits: ConnectionLimits;
  /** How long all connections may take. */
  readonly timeouts: ConnectionTimeouts;
}

/** What a connection waits for besides what its streams do. */
export const CONNECTION_WAITS = [
  /** The client's preface and its SETTINGS. */
  "preface",
  /** That it acknowledges this side's. */
  "acknowledgement",
  /** The rest of a head that has begun. */
  "head",
  /** The next request. */
  "request",
] as const;

/** One of {@linkcode CONNECTION_WAITS}. */
export type ConnectionWait = typeof CONNECTION_WAITS[number];

type State = "opening" | "greeting" | "open" | "leaving" | "failed" | "closed";

/** So many requests of one connection are begun in one turn of the event loop. */
const REQUESTS_PER_TURN = 128;
/** So many of them however long their handlers take; the others while the turn is short. */
const SURE_REQUESTS = 16;
/** How long closing a session to make room may take, in ms. */
const GOODBYE_MS = 1_000;

/** The driver of one HTTP/2 connection. */
export class Http2Connection implements ConnectionDriver, Consumer, StreamOwner, SettingsListener {
  readonly connection: ConnectionEngine;
  readonly session: Session;
  readonly output: Output;
  entry: LineEntry<ConnectionDriver> | undefined;
  readonly #host: Http2Host;
  readonly #config: Http2Config;
  readonly #reader: FrameReader;
  readonly #requests: RequestReader;
  readonly #peer = new PeerSettings();
  readonly #priorities = new ClientPriorities();
  readonly #receiving: ReceiveWindow;
  readonly #turn = new TurnBudget(REQUESTS_PER_TURN, () => this.#pump(), SURE_REQUESTS);
  readonly #bytes: ByteReports;
  readonly oldAt: number;
  #state: State = "opening";
  readonly #streams = new Map<number, Http2Stream>();
  /** How many of them are tunnels. */
  #tunnels = 0;
  /** Streams that are over, and whose handlers run. */
  readonly #lingering = new Set<Http2Stream>();
  #begun = 0;
  readonly #ids: StreamIds;
  /** The last stream whose request was taken. */
  #lastId = 0;
  /** Whether its last request has begun, which may become a tunnel yet, and nothing else ends it. */
  #isSpent = false;
  readonly #floods: FloodGuard;
  #heldBytes = 0;
  #pumping = false;
  #isInputOver = false;
  /** Why this side closes, where a reason was given. */
  #reason: HttpsdError | undefined;

  // Deadlines of the connection itself.
  #idleBy = Infinity;
  #blockBy = Infinity;
  /** Until when the client's SETTINGS, or its answer to ours, have to come. */
  #settingsBy = Infinity;
  #settingsAcknowledged = false;

  /**
   * Takes a connection; nothing is read before {@linkcode Http2Connection.begin}. With a `session`
   * that was let in already, the connection is that one's.
   */
  constructor(
    connection: ConnectionEngine,
    host: Http2Host,
    http2: Http2Config,
    session?: Session,
  ) {
    const { limits, timeouts } = host;
    this.#config = http2;
    this.connection = connection;
    this.#host = host;
    this.session = session ?? makeSession(this);
    if (session !== undefined) handOver(session, this);
    this.#reader = new FrameReader({
      maxFrameBytes: http2.maxFrameBytes,
      maxBlockBytes: 2 * limits.maxHeaderBytes,
      maxContinuations: http2.maxContinuations,
      maxSettings: http2.maxSettings,
    });
    this.#requests = new RequestReader({
      maxTableBytes: http2.headerTableBytes,
      maxListBytes: limits.maxHeaderBytes,
      maxFields: limits.maxHeaderFields,
      maxUriBytes: limits.maxUriBytes,
      maxBodyBytes: limits.maxBodyBytes,
      maxTrailerBytes: limits.maxTrailerBytes,
      connectProtocol: true,
    });
    this.output = new Output(connection, http2.maxUnsentControlBytes);
    this.#ids = new StreamIds(http2.maxConcurrentStreams);
    this.#floods = new FloodGuard(http2, connection.clock);
    this.#receiving = new ReceiveWindow(http2.connectionWindowBytes, DEFAULT_WINDOW);
    this.oldAt = connection.after(limits.maxConnectionAgeMs);
    this.#bytes = connection.observer = new ByteReports(host, this.session, session !== undefined);
    connection.stopsByHeld = false;
    connection.attach(this);
    connection.deadline = connection.after(timeouts.handshakeMs);
  }

  begin(): void {
    const { limits } = this.#host;
    const http2 = this.#config;
    const { connection, output } = this;
    this.#state = "greeting";
    this.#bytes.open();
    output.writer.settings(settingsEntries({
      headerTableSize: http2.headerTableBytes,
      maxConcurrentStreams: http2.maxConcurrentStreams,
      initialWindowSize: http2.streamWindowBytes,
      maxFrameBytes: http2.maxFrameBytes,
      maxHeaderListBytes: limits.maxHeaderBytes,
      enableConnectProtocol: true,
    }));
    this.giveBack(0);
    this.#settingsBy = connection.after(http2.settingsMs);
    connection.deadline = this.#settingsBy;
    const { tls } = connection;
    if (tls !== undefined && !isAdequate(tls)) {
      const message = `HTTP/2 is not spoken over ${tls.protocol} with ${tls.cipher}`;
      this.#fail(connectionFault(ErrorCode.InadequateSecurity, message));
      return;
    }
    this.#pump();
    output.flush();
  }

  // What a session shows.

  get peer(): ConnectionEngine {
    return this.connection;
  }

  /** What is spoken on its streams: with WebSockets alone it is as idle as one of those. */
  get kind(): string {
    return this.#tunnels > 0 && this.#tunnels === this.#streams.size ? "websocket" : "http";
  }

  get state(): SessionState {
    if (this.connection.closed || this.connection.closing) return "closing";
    if (this.#state === "opening") return "opening";
    return this.busy ? "busy" : "idle";
  }

  get busy(): boolean {
    return this.#streams.size > this.#tunnels || this.#turn.waiting;
  }

  get requests(): number {
    return this.#begun;
  }

  get receiving(): boolean {
    return !this.#reader.idle || this.connection.queuedBytes > 0;
  }

  // What is done with a session.

  touch(): void {
    this.#host.touch(this);
  }

  /** @throws {StateError} `NOT_SUPPORTED` */
  send(): void {
    throw new StateError("NOT_SUPPORTED", "HTTP/2 has no place for raw bytes: answer a request");
  }

  close(reason: HttpsdError | undefined): void {
    this.#reason ??= reason;
    if (this.#state === "opening") this.connection.close();
    else this.shutdown();
  }

  purge(): boolean {
    if (this.busy || this.state === "closing" || this.#state === "opening") return false;
    this.#reason = new ConnectionError("CONNECTION_ABORTED", "Closed to make room for another");
    for (const stream of this.#streams.values()) stream.leave();
    this.#goAway(ErrorCode.NoError);
    this.output.flushLast();
    this.#state = "leaving";
    this.connection.close({ withinMs: GOODBYE_MS });
    return true;
  }

  destroy(error: HttpsdError | undefined): void {
    this.connection.destroy(error);
  }

  failed(error: HttpsdError): void {
    this.#host.failed(this.session, error);
  }

  // Reading: from the connection to the reader to the streams.

  bytesReady(): void {
    this.#turn.renew();
    this.#pump();
  }

  /** Takes steps until the client must be waited for, or others have their turn. */
  #pump(): void {
    if (this.#pumping || this.#state === "opening") return;
    this.#pumping = true;
    try {
      while (this.#mayRead && this.#step());
    } catch (error) {
      if (!(error instanceof Http2Fault)) throw error;
      this.#fail(error);
    } finally {
      this.#pumping = false;
    }
    if (this.#reader.inBlock !== (this.#blockBy !== Infinity)) this.#watchBlock();
  }

  get #mayRead(): boolean {
    const { connection } = this;
    if (this.#state === "failed" || connection.closed || connection.closing) return false;
    return (this.#reader.idle && connection.queuedBytes === 0) || this.#turn.mayGoOn();
  }

  /** Takes one step; returns `false` when there is nothing to read. */
  #step(): boolean {
    const reader = this.#reader;
    switch (reader.next()) {
      case FrameStep.Need:
        return this.#feed();
      case FrameStep.Data:
        this.#onData();
        return true;
      case FrameStep.Headers:
        this.#onHeaders();
        return true;
      case FrameStep.WindowUpdate:
        this.#onWindowUpdate(reader.streamId, reader.increment);
        return true;
      case FrameStep.Reset:
        this.#onReset(reader.streamId, reader.errorCode);
        return true;
      case FrameStep.Settings:
        this.#onSettings();
        return true;
      case FrameStep.SettingsAck:
        this.#onSettingsAck();
        return true;
      case FrameStep.Ping:
        if (!this.output.takeAnswer()) this.#floods.control("PING");
        this.output.writer.ping(reader.opaque, true);
        this.output.schedule();
        return true;
      case FrameStep.PriorityUpdate:
        this.#onPriorityUpdate(reader.streamId, reader.priorityField);
        return true;
      case FrameStep.GoAway:
        this.#onGoAway();
        return true;
      case FrameStep.Preface:
        return true;
      case FrameStep.Priority:
        this.#floods.control("PRIORITY");
        return true;
      case FrameStep.PingAck:
      case FrameStep.Ignored:
        this.#floods.control("unknown");
        return true;
      case FrameStep.Fault:
        this.#onFault(reader.fault!);
        return true;
    }
  }

  #feed(): boolean {
    const bytes = this.connection.take();
    if (bytes === undefined) {
      if (this.connection.ended) this.#inputEnded();
      return false;
    }
    this.#reader.push(bytes);
    return true;
  }

  // Streams begin and end.

  #onHeaders(): void {
    const { streamId, block, endStream, fault } = this.#reader;
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) return this.#onTrailers(stream, block, endStream, fault);
    if (!this.#ids.isIdle(streamId)) return this.#onLateHeaders(streamId, block);
    this.#ids.begin(streamId);
    if (this.#state !== "open") return this.#ignoreHead(block); // it may be sent elsewhere
    if (fault !== undefined) {
      this.#requests.skip(block);
      return this.#refuseStream(fault);
    }
    if (this.#isFull) {
      this.#requests.skip(block);
      const message = "More requests at a time than were announced";
      return this.#refuseStream(streamFault(streamId, ErrorCode.RefusedStream, message));
    }
    let head: Http2RequestHead;
    try {
      head = this.#requests.readHead(streamId, block, endStream);
    } catch (error) {
      if (error instanceof HttpError) return this.#refuseRequest(streamId, endStream, error);
      if (!(error instanceof Http2Fault) || error.scope === "connection") throw error;
      return this.#refuseStream(error);
    }
    this.#turn.spend();
    this.#beginStream(streamId, head, endStream);
  }

  /** Whether every place for a request is taken. */
  get #isFull(): boolean {
    return this.#streams.size + this.#lingering.size >= this.#config.maxConcurrentStreams;
  }

  #beginStream(streamId: number, head: Http2RequestHead, endStream: boolean): void {
    this.#lastId = streamId;
    this.#begun++;
    this.#idleBy = Infinity;
    const stream = new Http2Stream(this, streamId, head, endStream);
    stream.sink.priority = this.#priorities.opened(streamId, priorityField(head));
    this.#streams.set(streamId, stream);
    stream.exchange.tell();
    this.#host.notify?.("http:header", this.session, 0);
    if (this.#begun >= this.#host.limits.maxRequestsPerConnection) this.#spend();
    if (stream.isOver) return; // an observer or a listener has destroyed the session
    stream.begin();
    if (this.connection.peerEnded) stream.exchange.abort(clientEnded());
  }

  /** Takes no request behind the last that the connection may carry. */
  #spend(): void {
    if (this.#state !== "open") return;
    this.shutdown();
    this.#isSpent = true;
  }

  /** Answers a request with an error that has a status. */
  #refuseRequest(streamId: number, endStream: boolean, error: HttpError): void {
    this.#lastId = streamId;
    this.#begun++;
    this.#idleBy = Infinity;
    this.#turn.spend();
    const stream = new Http2Stream(this, streamId, undefined, endStream);
    this.#streams.set(streamId, stream);
    stream.exchange.tell();
    if (error.status === 431) this.#floods.serverReset();
    stream.refuse(error);
  }

  /** Resets a stream that no request was made of. */
  #refuseStream(fault: Http2Fault): void {
    this.failed(publicError(fault));
    this.output.reset(fault.streamId, fault.code);
    this.#ids.reset(fault.streamId);
    this.#floods.serverReset();
    if (this.#streams.size === 0) this.#becomesIdle();
  }

  /** Judges the head of a stream that is over. */
  #onLateHeaders(streamId: number, block: Uint8Array): void {
    if (this.#ids.wasReset(streamId) || this.#isIgnored(streamId)) return this.#ignoreHead(block);
    this.#requests.skip(block);
    const code = this.#ids.wasSkipped(streamId) ? ErrorCode.ProtocolError : ErrorCode.StreamClosed;
    throw connectionFault(code, `HEADERS on stream ${streamId}, which is over`);
  }

  /** Reads a head of which nothing is made, and which no stream is reset for. */
  #ignoreHead(block: Uint8Array): void {
    this.#floods.control("HEADERS that are ignored");
    this.#requests.skip(block);
  }

  #onTrailers(
    stream: Http2Stream,
    block: Uint8Array,
    endStream: boolean,
    fault: Http2Fault | undefined,
  ): void {
    if (stream.remoteEnded) {
      this.#requests.skip(block);
      return this.#resetStream(
        stream,
        ErrorCode.StreamClosed,
        "HEADERS behind the end of a request",
      );
    }
    if (!endStream || fault !== undefined) {
      this.#requests.skip(block);
      const message = fault?.message ?? "Trailers that do not end the request";
      return this.#resetStream(stream, ErrorCode.ProtocolError, message);
    }
    try {
      const trailers = this.#requests.readTrailers(stream.id, block);
      const wrong = stream.trailers(trailers);
      if (wrong !== undefined) this.#resetStream(stream, wrong.code, wrong.message);
    } catch (error) {
      if (error instanceof HttpError) return stream.trailersFailed(error);
      if (!(error instanceof Http2Fault) || error.scope === "connection") throw error;
      this.#resetStream(stream, error.code, error.message);
    }
  }

  #onData(): void {
    const { streamId, data, flowBytes, endStream } = this.#reader;
    if (!this.#receiving.receive(flowBytes)) {
      throw connectionFault(ErrorCode.FlowControlError, "More DATA than the connection's window");
    }
    if (data.length === 0 && !endStream) this.#floods.control("empty DATA");
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#onLateData(streamId, flowBytes);
    if (stream.remoteEnded) {
      this.giveBack(flowBytes);
      return this.#resetStream(stream, ErrorCode.StreamClosed, "DATA behind the end of a request");
    }
    const fault = stream.data(data, flowBytes, endStream);
    if (fault === undefined) return;
    this.giveBack(flowBytes);
    this.#resetStream(stream, fault.code, fault.message);
  }

  /** Judges DATA of a stream that is over. */
  #onLateData(streamId: number, flowBytes: number): void {
    if (this.#ids.isIdle(streamId)) throw idle("DATA", streamId);
    this.giveBack(flowBytes);
    if (this.#ids.wasReset(streamId) || this.#isIgnored(streamId)) return;
    const message = `DATA on stream ${streamId}, which is over`;
    throw connectionFault(ErrorCode.StreamClosed, message);
  }

  /** Whether a stream came behind GOAWAY, so that nothing of it counts. */
  #isIgnored(streamId: number): boolean {
    return this.#state === "leaving" && streamId > this.#lastId;
  }

  #onReset(streamId: number, code: number): void {
    if (this.#ids.isIdle(streamId)) throw idle("RST_STREAM", streamId);
    const stream = this.#streams.get(streamId);
    // Nothing was done in vain that was answered: gRPC's clients and proxies so end what they still sent.
    if (stream?.isAnswered !== true) this.#floods.clientReset();
    stream?.lost(
      new ConnectionError(
        "CONNECTION_RESET",
        `The client reset the request's stream: ${errorCodeName(code)}`,
      ),
    );
    // A handler that ends with its signal does so before the next frame, which may want its place.
    if (this.#isFull) this.#turn.spend(REQUESTS_PER_TURN);
  }

  #onWindowUpdate(streamId: number, increment: number): void {
    if (increment < TINY_BYTES && !this.output.takeAnswer()) {
      this.#floods.control("small WINDOW_UPDATE");
    }
    if (streamId === 0) {
      if (!this.output.window.change(increment)) {
        throw connectionFault(ErrorCode.FlowControlError, "The connection's window is too large");
      }
      return this.output.widened();
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (this.#ids.isIdle(streamId)) throw idle("WINDOW_UPDATE", streamId);
      return;
    }
    if (stream.window.change(increment)) return stream.sink.widened();
    this.#resetStream(stream, ErrorCode.FlowControlError, "The stream's window is too large");
  }

  #onPriorityUpdate(streamId: number, field: string): void {
    this.#floods.control("PRIORITY_UPDATE");
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) {
      this.output.reprioritize(stream.sink, this.#priorities.update(field));
    } else if (this.#ids.isIdle(streamId)) {
      const announced = this.#streams.size + this.#priorities.early;
      const isFull = announced >= this.#config.maxConcurrentStreams;
      if (isFull && !this.#priorities.has(streamId)) {
        throw connectionFault(ErrorCode.ProtocolError, "Priorities of too many streams to come");
      }
      this.#priorities.announce(streamId, field);
    }
  }

  #onSettings(): void {
    this.#floods.control("SETTINGS");
    this.#peer.apply(this.#reader.settings, this);
    const { maxFrameBytes, noRfc7540Priorities } = this.#peer;
    this.output.writer.maxFrameBytes = maxFrameBytes;
    if (noRfc7540Priorities) this.#priorities.aware = true;
    this.output.writer.settingsAck();
    this.output.schedule();
    if (this.#state !== "greeting") return;
    this.#state = "open";
    this.#becomesIdle();
  }

  headerTableSize(bytes: number): void {
    this.output.table.announced(bytes);
  }

  initialWindowSize(delta: number): void {
    for (const stream of this.#streams.values()) {
      if (!stream.window.change(delta)) {
        throw connectionFault(ErrorCode.FlowControlError, "A stream's window is too large");
      }
      if (delta > 0) stream.sink.widened();
    }
  }

  #onSettingsAck(): void {
    if (this.#settingsAcknowledged) return this.#floods.control("SETTINGS");
    this.#settingsAcknowledged = true;
    this.#settingsBy = Infinity;
    this.#requests.settingsAcknowledged();
    const delta = this.streamWindowBytes - this.#earlyWindowBytes;
    if (delta === 0) return;
    for (const stream of this.#streams.values()) stream.settingsAcknowledged(delta);
  }

  /** The client opens no further streams. */
  #onGoAway(): void {
    this.#floods.control("GOAWAY");
    if (this.#state !== "open" && this.#state !== "greeting") return;
    this.#isSpent = true;
    this.#goAway(ErrorCode.NoError); // it may have begun more meanwhile: those are not served
    this.#leave();
  }

  #onFault(fault: Http2Fault): void {
    if (fault.scope === "connection") throw fault;
    const { streamId } = fault;
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#resetStream(stream, fault.code, fault.message);
    else if (this.#ids.isIdle(streamId)) throw connectionFault(fault.code, fault.message);
  }

  #resetStream(stream: Http2Stream, code: ErrorCode, message: string): void {
    this.failed(publicError(streamFault(stream.id, code, message)));
    stream.reset(code);
    this.#floods.serverReset();
  }

  // What streams report and ask for.

  get limits(): ConnectionLimits {
    return this.#host.limits;
  }

  get timeouts(): ConnectionTimeouts {
    return this.#host.timeouts;
  }

  get streamWindowBytes(): number {
    return this.#config.streamWindowBytes;
  }

  /** A client may send as much as the default until it knows of a smaller window (6.9.3). */
  get #earlyWindowBytes(): number {
    return Math.max(DEFAULT_WINDOW, this.streamWindowBytes);
  }

  receiveWindow(): ReceiveWindow {
    const { streamWindowBytes } = this;
    const size = this.#settingsAcknowledged ? streamWindowBytes : this.#earlyWindowBytes;
    return new ReceiveWindow(streamWindowBytes, size);
  }

  get clock(): Clock {
    return this.connection.clock;
  }

  get watch(): ExchangeWatch {
    return this.#host.watch;
  }

  get transport(): Transport {
    return this.#host.transport;
  }

  get ending(): boolean {
    return this.#state !== "open" || this.connection.peerEnded;
  }

  get takesTunnels(): boolean {
    return (this.#state === "open" || this.#isSpent) && !this.connection.peerEnded;
  }

  get sendTimeoutMs(): number {
    return this.connection.sendTimeoutMs;
  }

  get readUntil(): number {
    return this.connection.readUntil;
  }

  get initialWindow(): number {
    return this.#peer.initialWindowSize;
  }

  get wrote(): ((part: "head" | "body", bytes: number) => void) | undefined {
    const { notify } = this.#host;
    if (notify === undefined) return undefined;
    return (part, bytes) => {
      this.output.flush(); // with events, order goes before speed
      notify(part === "head" ? "http:headerssent" : "http:sent", this.session, bytes);
    };
  }

  speaksFor(host: string | undefined): boolean {
    return this.#host.speaksFor(this, host);
  }

  handle(exchange: Exchange): void {
    this.#host.handle(this, exchange);
  }

  refuse(exchange: Exchange, error: HttpError): void {
    this.#host.refuse(exchange, error);
  }

  held(bytes: number): void {
    this.#heldBytes += bytes;
    this.connection.hold(this.#heldBytes);
  }

  giveBack(bytes: number): void {
    const wasShut = this.isInputShut;
    const increment = this.#receiving.giveBack(bytes);
    if (increment === 0) return;
    this.output.windowUpdate(0, increment);
    if (!wasShut) return;
    for (const stream of this.#streams.values()) stream.mayComeAgain();
  }

  get isInputShut(): boolean {
    return this.#receiving.size < TINY_BYTES;
  }

  taken(bytes: number): void {
    this.#host.notify?.("http:data", this.session, bytes);
  }

  waits(deadline: number): void {
    if (deadline < this.connection.deadline) this.connection.deadline = deadline;
  }

  wasReset(stream: Http2Stream): void {
    this.#ids.reset(stream.id);
  }

  tunneled(): void {
    this.#tunnels++;
    this.#host.touch(this);
  }

  over(stream: Http2Stream): void {
    this.#streams.delete(stream.id);
    if (stream.isTunnel) this.#tunnels--;
    if (stream.isHandled) {
      this.#lingering.add(stream);
      if (stream.deadline !== Infinity) this.waits(stream.deadline);
    }
    if (this.connection.closed) return;
    const ends = this.#state !== "open" || this.#isOld;
    if (this.#host.answered(this, ends) && this.#state === "open") this.shutdown();
    else if (this.#streams.size === 0) this.#becomesIdle();
  }

  /** Whether the connection is older than it may get. */
  get #isOld(): boolean {
    return this.oldAt !== Infinity && this.clock.now() > this.oldAt;
  }

  freed(stream: Http2Stream): void {
    this.#lingering.delete(stream);
  }

  errorAnswered(error: HttpError): void {
    this.#host.errorAnswered(this.session, error);
  }

  // How it ends.

  shutdown(): void {
    this.#isSpent = false;
    if (this.#state === "open" || this.#state === "greeting") {
      this.#goAway(ErrorCode.NoError);
      this.#leave();
    }
    if (this.#state !== "leaving") return;
    // Also where it was leaving before: the client's GOAWAY ends no tunnel.
    for (const stream of this.#streams.values()) stream.sayGoodbye();
  }

  /** Takes no further request, and closes behind the last answer. */
  #leave(): void {
    this.#state = "leaving";
    if (this.#streams.size === 0) this.#finish();
  }

  #goAway(code: ErrorCode, message = ""): void {
    this.output.writer.goAway(this.#lastId, code, message);
    this.output.schedule();
  }

  /** No request is under way. */
  #becomesIdle(): void {
    if (this.#state === "leaving") return this.#finish();
    if (this.#state !== "open") return;
    if (this.#isInputOver) return this.#leave();
    this.#idleBy = Math.min(this.connection.after(this.#host.timeouts.idleMs), this.oldAt);
    this.waits(this.#idleBy);
  }

  #finish(): void {
    this.output.flush();
    this.output.flushLast();
    this.connection.close();
  }

  /** Ends the connection, since its client broke a rule. */
  #fail(fault: Http2Fault): void {
    if (this.#state === "failed" || this.connection.closed || this.connection.closing) return;
    const error = publicError(fault);
    this.#state = "failed";
    this.#reason ??= error;
    this.failed(error);
    this.#goAway(fault.code, fault.message);
    this.output.flushLast();
    this.#loseStreams(error);
    this.connection.close();
  }

  #loseStreams(reason: HttpsdError): void {
    for (const stream of this.#streams.values()) stream.lost(reason);
  }

  // What the connection reports.

  /** The client has ended its side: it may still wait for its answers, but most clients have left. */
  peerEnded(): void {
    const reason = clientEnded();
    for (const { exchange } of this.#streams.values()) exchange.abort(reason);
    this.#pump();
  }

  /** All was read that the client sent before it ended its side. */
  #inputEnded(): void {
    if (this.#isInputOver) return;
    this.#isInputOver = true;
    const reason = clientEnded();
    for (const stream of this.#streams.values()) stream.clientEnded(reason);
    if (this.#streams.size === 0 && !this.connection.closing) this.#finish();
  }

  drained(): void {
    this.output.drained();
  }

  /** Does nothing: what stops the socket is read in the next turn. */
  stopped(): void {}

  closed(error: HttpsdError | undefined): void {
    this.#state = "closed";
    this.#loseStreams(error ?? new ConnectionError("CONNECTION_CLOSED", "The client is gone"));
    this.#host.ended(this, error ?? this.#reason);
    endContext(this.session);
  }

  // Deadlines: the earliest of the connection's and of its streams'.

  /** A head that has begun has its time to end. */
  #watchBlock(): void {
    const { headersMs, requestMs } = this.#host.timeouts;
    this.#blockBy = this.#reader.inBlock
      ? this.connection.after(Math.min(headersMs, requestMs))
      : Infinity;
    this.waits(this.#blockBy);
  }

  expired(): void {
    const { connection } = this;
    if (this.#state === "opening") {
      this.destroy(new ConnectionError("CONNECTION_TIMEOUT", "The hooks took too long"));
      return;
    }
    const now = connection.clock.now();
    this.#judge(now);
    if (connection.closed || connection.closing) return;
    let next = Math.min(this.#idleBy, this.#blockBy, this.#settingsBy);
    for (const streams of [this.#streams.values(), this.#lingering]) {
      for (const stream of streams) {
        if (stream.deadline <= now) stream.expired(now);
        if (connection.closed || connection.closing) return;
        if (stream.deadline < next) next = stream.deadline;
      }
    }
    connection.deadline = Math.min(next, connection.deadline);
  }

  /** Ends what was waited for too long. */
  #judge(now: number): void {
    switch (this.#overdue(now)) {
      case "preface":
        this.connection.destroy(
          new ConnectionError("CONNECTION_TIMEOUT", "The client's preface did not come in time"),
        );
        break;
      case "acknowledgement":
        this.#fail(connectionFault(ErrorCode.SettingsTimeout, "SETTINGS were not acknowledged"));
        break;
      case "head":
        this.#fail(calm("The head of a request did not arrive in time"));
        break;
      case "request":
        this.shutdown();
    }
  }

  #overdue(now: number): ConnectionWait | undefined {
    if (this.#settingsBy <= now) return this.#state === "greeting" ? "preface" : "acknowledgement";
    if (this.#blockBy <= now) return "head";
    return this.#idleBy <= now ? "request" : undefined;
  }
}

function priorityField(head: Http2RequestHead): string | undefined {
  const first = head.get("priority");
  return first === undefined ? undefined : head.getAll("priority").join(", ");
}

function clientEnded(): ConnectionError {
  return new ConnectionError("CONNECTION_CLOSED", "The client closed its side");
}

function idle(frame: string, streamId: number): Http2Fault {
  return connectionFault(ErrorCode.ProtocolError, `${frame} on stream ${streamId}, which is idle`);
}

/** What is reported of a fault. */
function publicError({ code, message, streamId }: Http2Fault): HttpsdError {
  const text = `${message} (${errorCodeName(code)})`;
  if (streamId !== 0) return new HttpError(400, "BAD_REQUEST", text);
  const kind = code === ErrorCode.EnhanceYourCalm ? "HTTP2_FLOOD" : "HTTP2_PROTOCOL";
  return new ConnectionError(kind, text);
}
