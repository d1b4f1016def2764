/**
 * One established connection, plain or TLS, as bytes in and bytes out: a bounded input queue that
 * stops the socket when it is full, writes that leave together, and one way to close gracefully
 * and one to cut. Everything above (HTTP, WebSocket, Web Streams) is a {@linkcode Consumer} of it.
 *
 * @module
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { ConfigError, ConnectionError, type HttpsdError, StateError } from "../errors.ts";
import type { Endpoints } from "../endpoints.ts";
import type { SecurityContext } from "../tls/context.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { type Chunk, front, join, rest } from "./chunks.ts";
import type { Clock } from "./clock.ts";
import type { Deadlines } from "./deadlines.ts";
import { type Flow, pausingFlow } from "../runtime/read_switch.ts";
import type { Place } from "./place.ts";
import { ConnectionStreams } from "./streams.ts";
import type { Unread } from "./unread.ts";

/** The socket stops when what waits unread takes this many bytes of memory … */
const HIGH_MARK = 256 * 1024;
/** … and starts again below this many. */
const LOW_MARK = 64 * 1024;
/** Where much waits in all connections, it stops at this many, and starts again when none wait. */
const SCARCE_MARK = 16 * 1024;
/**
 * What a runtime goes on to read by itself of a socket that is stopped: its stream's high-water mark
 * of 64 KiB, and one read more.
 */
const STOPPED_BYTES = 128 * 1024;
/** What a queued chunk takes besides its bytes: a client may send them one by one. */
const CHUNK_OVERHEAD = 256;
/**
 * The socket is given so many bytes at a time. Shorter writes are gathered; longer ones are sliced,
 * so that each slice that leaves shows that the peer reads, and TLS encrypts no more than that ahead.
 */
const SLICE_BYTES = 64 * 1024;

/** What reads a connection: the HTTP session, a WebSocket, or the Web Streams. */
export interface Consumer {
  /** Bytes can be taken, or the peer has ended its side and all of them are taken. */
  bytesReady(): void;
  /** The peer has ended its side; what it had sent before may still wait to be taken. Once. */
  peerEnded(): void;
  /** The socket is stopped, since too much waits: until some is taken the peer's end is not seen. */
  stopped(): void;
  /** After a write that returned `false`: writing may go on. */
  drained(): void;
  /** `connection.deadline` has passed. */
  expired(): void;
  /**
   * The connection is over, once; with an error unless both sides ended in good order. What a peer
   * had sent that ended its side may still be taken, unless this side cut the connection.
   */
  closed(error: HttpsdError | undefined): void;
}

/** Sees the bytes of a connection go by: how the `data` and `sent` events are made. */
export interface Observer {
  /** So many bytes were read from the socket, after decryption. */
  received(bytes: number): void;
  /** So many bytes were written to the socket, before encryption. */
  sent(bytes: number): void;
}

/** What a connection waits for that is being closed: that the peer reads, or that it ends too. */
export type ClosingState = "sending" | "lingering";

/** Bytes both ways as Web Streams. */
export interface ByteStreams {
  /** The bytes that come. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Where bytes go. */
  readonly writable: WritableStream<Uint8Array>;
}

/** What a {@linkcode Connection} is made of. */
export interface ConnectionParts {
  /** The socket that is read and written: TLS, or the raw one in plain mode. */
  readonly socket: Duplex;
  /** The TCP socket underneath. */
  readonly raw: Socket;
  /** Stops and starts the bytes. */
  readonly flow: Flow;
  /** The addresses. */
  readonly endpoints: Endpoints;
  /** The handshake's facts; `undefined` in plain mode. */
  readonly tls: TlsInfo | undefined;
  /** What the handshake was decided by; `undefined` in plain mode. */
  readonly context: SecurityContext | undefined;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /** How long a closed connection waits for the peer's end, in ms. */
  readonly lingerMs: number;
  /** What the socket counts as. */
  readonly place: Place;
  /** The clock that watches the connection's deadline while it lives. */
  readonly deadlines: Deadlines;
  /** What waits unread in all connections. */
  readonly unread: Unread;
}

/** Where a socket keeps its connection, for listeners that all connections share. */
const CONNECTION = Symbol("connection");

const TRANSPORT_EVENTS = ["data", "end", "drain", "finish"] as const;

interface Carrier extends Duplex {
  [CONNECTION]: Connection;
}

/** A connection whose handshake is over. */
export class Connection implements Endpoints {
  /** The client's address. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
  /** The address that the client connected to. */
  readonly localAddress: string;
  /** The port that the client connected to. */
  readonly localPort: number;
  /** The handshake's facts; `undefined` in plain mode. */
  readonly tls: TlsInfo | undefined;
  /**
   * When the consumer's `expired()` is called, on the {@linkcode Connection.clock}.
   *
   * @internal
   */
  deadline: number = Infinity;
  /**
   * Sees all bytes.
   *
   * @internal
   */
  observer: Observer | undefined;

  #parts: ConnectionParts;
  #consumer: Consumer | undefined;
  #streams: ConnectionStreams | undefined;

  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Bytes that the consumer has taken and keeps for somebody who has not read them. */
  #heldBytes = 0;
  /** What was counted of this connection in the account of all. */
  #countedBytes = 0;
  #stopped = false;
  #peerEnded = false;

  #corks = 0;
  #pending: Chunk[] = [];
  #pendingBytes = 0;
  /** The socket takes no more until its `drain`. */
  #blocked = false;
  /** When the peer last made room, on the connection's clock. */
  #drainedAt = -Infinity;
  #ending = false;
  /** All was written, and this side has ended. */
  #sent = false;
  #whenSent: (() => void) | undefined;

  #finishing = false;
  #lingerMs = 0;
  #hurried = false;
  #destroyed = false;
  #closed = false;
  #error: HttpsdError | undefined;

  /** What is heard of the bytes, until an override takes the socket's place. */
  static readonly #transport = {
    data(this: Carrier, bytes: Uint8Array): void {
      this[CONNECTION].#received(bytes);
    },
    end(this: Carrier): void {
      this[CONNECTION].#ended();
    },
    drain(this: Carrier): void {
      this[CONNECTION].#drained();
    },
    finish(this: Carrier): void {
      this[CONNECTION].#allSent();
    },
  };
  static readonly #failing = function (this: Carrier, error: Error): void {
    this[CONNECTION].#failed(error);
  };
  static readonly #closing = function (this: Carrier): void {
    this[CONNECTION].#over();
  };

  /**
   * Starts to read the socket at once; bytes queue until a consumer is attached.
   *
   * @internal
   */
  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    ({
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
      localAddress: this.localAddress,
      localPort: this.localPort,
    } = parts.endpoints);
    this.tls = parts.tls;
    const { socket, raw } = parts;
    parts.deadlines.watch(this);
    this.#listenTo(socket);
    if (raw === socket) return;
    // Not the raw socket's "close", which on Bun comes with the peer's end already.
    (raw as unknown as Carrier)[CONNECTION] = this;
    raw.on("error", Connection.#failing);
  }

  #listenTo(socket: Duplex): void {
    (socket as Carrier)[CONNECTION] = this;
    for (const event of TRANSPORT_EVENTS) socket.on(event, Connection.#transport[event]);
    socket.on("error", Connection.#failing);
    socket.on("close", Connection.#closing);
  }

  /** Whether the connection is over. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether the connection is being closed: nothing is read or written any more. */
  get finishing(): boolean {
    return this.#finishing;
  }

  /** Whether the peer has ended its side, whatever still waits to be taken. */
  get peerEnded(): boolean {
    return this.#peerEnded;
  }

  /** Whether the peer has ended its side and every byte of it has been taken. */
  get ended(): boolean {
    return this.#peerEnded && !this.#destroyed && this.#queue.length === 0;
  }

  /**
   * Whether the socket is stopped, so that the peer's end would not be seen.
   *
   * @internal
   */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Whether the peer has to read before more should be written.
   *
   * @internal
   */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** How many received bytes wait to be taken. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** How many written bytes wait in this process for the peer to read. */
  get bufferedBytes(): number {
    return this.#pendingBytes + this.#parts.socket.writableLength;
  }

  /**
   * What the handshake was decided by; `undefined` in plain mode.
   *
   * @internal
   */
  get context(): SecurityContext | undefined {
    return this.#parts.context;
  }

  /** How long a write may wait for the peer to read, in ms. */
  get sendTimeoutMs(): number {
    return this.#parts.sendTimeoutMs;
  }

  /**
   * The clock that the deadline is a time of.
   *
   * @internal
   */
  get clock(): Clock {
    return this.#parts.deadlines.clock;
  }

  /**
   * The time on that clock that lies `ms` ahead.
   *
   * @internal
   */
  after(ms: number): number {
    return this.#parts.deadlines.after(ms);
  }

  /** The incoming bytes as a Web Stream; only while no protocol reads the connection itself. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#webStreams().readable;
  }

  /** The outgoing bytes as a Web Stream; closing it ends this side only, aborting it cuts both. */
  get writable(): WritableStream<Uint8Array> {
    return this.#webStreams().writable;
  }

  #webStreams(): ConnectionStreams {
    if (this.#streams === undefined) {
      this.#streams = new ConnectionStreams(this);
      this.attach(this.#streams);
    }
    return this.#streams;
  }

  /**
   * Makes `consumer` the one that reads; bytes that wait are announced in a microtask.
   *
   * @internal
   * @throws {StateError} `BODY_USED` when another consumer reads the connection
   */
  attach(consumer: Consumer): void {
    if (this.#consumer !== undefined) {
      throw new StateError("BODY_USED", "The connection is read elsewhere: detach that reader");
    }
    this.#consumer = consumer;
    const tooLate = this.#closed;
    queueMicrotask(() => {
      if (this.#consumer !== consumer) return;
      if (tooLate) consumer.closed(this.#error);
      else if (this.#closed) return; // it was told when that happened
      else this.#announce(consumer);
    });
  }

  /** Tells a new consumer what the one before it was told, or nobody. */
  #announce(consumer: Consumer): void {
    if (this.#peerEnded) consumer.peerEnded();
    if (this.#queue.length > 0 || this.#peerEnded) consumer.bytesReady();
    if (this.#stopped) consumer.stopped();
  }

  /**
   * Lets another consumer take over, as an upgrade to another protocol does.
   *
   * @internal
   */
  detach(consumer: Consumer): void {
    if (this.#consumer === consumer) this.#consumer = undefined;
  }

  /**
   * Takes the next received bytes, `undefined` when none wait. They belong to the caller.
   *
   * @internal
   */
  take(): Uint8Array | undefined {
    const bytes = this.#queue.shift();
    if (bytes === undefined) return undefined;
    this.#queuedBytes -= bytes.length;
    this.#countUnread();
    this.#startAgain();
    return bytes;
  }

  /**
   * Counts bytes that were taken, and are kept for somebody who has not read them, as unread still;
   * `bytes` are all that are kept now.
   *
   * @internal
   */
  hold(bytes: number): void {
    if (bytes === this.#heldBytes || this.#closed) return;
    this.#heldBytes = bytes;
    this.#countUnread();
    this.#startAgain();
  }

  /** Keeps the account of unread bytes that all connections share. */
  #countUnread(): void {
    const reserved = this.#stopped ? STOPPED_BYTES : 0;
    const bytes = this.#closed ? 0 : this.#unreadBytes + reserved;
    this.#parts.unread.add(bytes - this.#countedBytes);
    this.#countedBytes = bytes;
  }

  /** What waits unread takes so much memory. */
  get #unreadBytes(): number {
    return this.#queuedBytes + this.#queue.length * CHUNK_OVERHEAD + this.#heldBytes;
  }

  #startAgain(): void {
    if (!this.#stopped || this.#closed) return;
    const mayStart = this.#parts.unread.scarce
      ? this.#unreadBytes === 0
      : this.#unreadBytes < LOW_MARK;
    if (mayStart) this.#start();
  }

  #start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#countUnread();
    this.#parts.unread.started(this);
    this.#parts.flow.start();
  }

  #stopIfFull(): void {
    const { unread, flow } = this.#parts;
    if (this.#unreadBytes < (unread.scarce ? SCARCE_MARK : HIGH_MARK)) return;
    this.#stopped = true;
    this.#countUnread();
    flow.stop();
    this.#consumer?.stopped();
    unread.stopped(this);
  }

  /** Forgets what waits unread. */
  #dropUnread(): void {
    this.#queue.length = this.#queuedBytes = this.#heldBytes = 0;
    this.#countUnread();
  }

  /**
   * Cuts the connection, since too much waits in all of them and what waits here waits longest.
   *
   * @internal
   */
  cutUnread(): void {
    this.destroy(
      new ConnectionError(
        "CONNECTION_ABORTED",
        "Too much waits unread in all connections, here for the longest time",
      ),
    );
  }

  /**
   * Puts bytes back in front of the queue, as after an upgrade.
   *
   * @internal
   */
  putBack(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#queue.unshift(bytes);
    this.#queuedBytes += bytes.length;
    this.#countUnread();
  }

  /**
   * Puts something between a plain connection and its socket: `wrap` gets the socket's own streams
   * and returns those to use instead (original: `httpd_sess_set_recv_override` and its kin). What
   * has come and was not taken yet passes through it too.
   *
   * @throws {ConfigError} `NOT_SUPPORTED` on a TLS connection, where TLS has that place
   * @throws {ConnectionError} `CONNECTION_CLOSED` when a side has ended already
   */
  override(wrap: (socket: ByteStreams) => ByteStreams): void {
    const { socket, raw } = this.#parts;
    if (this.tls !== undefined) {
      throw new ConfigError("NOT_SUPPORTED", "A TLS connection's transport cannot be overridden");
    }
    if (this.#peerEnded || this.#ending || this.#closed) {
      throw new ConnectionError("CONNECTION_CLOSED", "The connection ends: override it earlier");
    }
    for (const event of TRANSPORT_EVENTS) socket.off(event, Connection.#transport[event]);
    raw.pause();
    for (let bytes = this.#queue.pop(); bytes !== undefined; bytes = this.#queue.pop()) {
      raw.unshift(bytes);
    }
    this.#blocked = this.#stopped = false;
    this.#parts.unread.started(this);
    this.#dropUnread();
    const wrapped = wrap(Duplex.toWeb(raw) as unknown as ByteStreams);
    const duplex = Duplex.fromWeb(wrapped as unknown as Parameters<typeof Duplex.fromWeb>[0], {
      allowHalfOpen: true,
    });
    this.#parts = { ...this.#parts, socket: duplex, flow: pausingFlow(duplex) };
    this.#listenTo(duplex);
  }

  /**
   * Gathers the writes that follow until {@linkcode Connection.uncork}, so that they leave as one.
   *
   * @internal
   */
  cork(): void {
    this.#corks++;
  }

  /**
   * Sends what was gathered since {@linkcode Connection.cork}.
   *
   * @internal
   */
  uncork(): void {
    if (--this.#corks === 0) this.flush();
  }

  /**
   * Writes bytes, which must not be changed afterwards. `false`: stop until `drained()`; the bytes
   * are taken all the same. After the end of the connection bytes go nowhere.
   *
   * @internal
   */
  write(chunk: Chunk): boolean {
    if (this.#closed || this.#ending) return false;
    if (chunk.length > 0) this.#gather(chunk);
    if (this.#corks === 0 || this.#pendingBytes >= SLICE_BYTES) this.flush();
    return !this.#blocked;
  }

  #gather(chunk: Chunk): void {
    const pending = this.#pending;
    const last = pending.length - 1;
    this.#pendingBytes += chunk.length;
    if (last >= 0 && typeof chunk === "string" && typeof pending[last] === "string") {
      pending[last] += chunk; // which copies nothing
    } else {
      pending.push(chunk);
    }
  }

  /**
   * Ends this side once all is written, then calls `done`; the peer may still send.
   *
   * @internal
   */
  end(done: () => void): void {
    if (this.#closed || this.#ending) return;
    this.#whenSent = done;
    this.#ending = true;
    this.flush();
  }

  /**
   * Closes gracefully: all that was written leaves, then this side ends, and what the peer still
   * sends is thrown away until it ends too, so that no reset destroys the last answer (RFC 9112
   * section 9.6). A peer that takes longer for that than `lingerMs` is cut.
   */
  finish(lingerMs: number = this.#parts.lingerMs): void {
    if (this.#closed || this.#finishing) return;
    this.#finishing = true;
    this.#parts.place.leave();
    this.#lingerMs = lingerMs;
    this.#dropUnread();
    this.#start();
    if (this.#sent) {
      this.#linger();
      return;
    }
    this.deadline = this.after(this.#parts.sendTimeoutMs);
    this.#ending = true;
    this.flush();
  }

  /**
   * Closes as {@linkcode Connection.finish} does, to make room for another: the peer is cut as soon
   * as all that was written has left, and after `ms` in any case.
   *
   * @internal
   */
  finishWithin(ms: number): void {
    if (this.#closed || this.#finishing) return;
    this.#hurried = true;
    this.finish(0);
    this.deadline = this.clock.now() + ms;
  }

  /**
   * Cuts the connection as soon as all that was written has left; `error` tells the consumer why.
   *
   * @internal
   */
  cutBehind(error: HttpsdError): void {
    this.#error ??= error;
    this.finish(0);
  }

  /** Cuts the connection at once; `error` tells the consumer why. */
  destroy(error?: HttpsdError): void {
    if (this.#closed) return;
    this.#destroyed = true;
    this.#error ??= error ??
      new ConnectionError("CONNECTION_ABORTED", "The server cut the connection");
    this.#cut();
  }

  /**
   * Cuts the connection so that a plain TCP peer cannot take what it has got for all: with a reset
   * instead of an end. Over TLS the missing close_notify says the same.
   *
   * @internal
   */
  reset(error: HttpsdError): void {
    if (!this.#closed && this.tls === undefined) this.#parts.raw.resetAndDestroy();
    this.destroy(error);
  }

  /**
   * The clock's call: the deadline has passed.
   *
   * @internal
   */
  expire(): void {
    const readUntil = this.#drainedAt + this.#parts.sendTimeoutMs;
    if (!this.#hurried && this.#sending && readUntil > this.clock.now()) {
      this.deadline = readUntil; // the peer is slow but reads
      return;
    }
    this.deadline = Infinity;
    switch (this.#closingState) {
      case undefined:
        this.#consumer?.expired();
        break;
      case "sending":
        this.destroy(new ConnectionError("CONNECTION_TIMEOUT", "The peer did not read in time"));
        break;
      case "lingering":
        this.#cut();
    }
  }

  get #closingState(): ClosingState | undefined {
    if (!this.#finishing) return undefined;
    return this.#sent ? "lingering" : "sending";
  }

  /** Whether the peer must read before anything else can happen. */
  get #sending(): boolean {
    return this.#blocked || (this.#ending && !this.#sent);
  }

  #received(bytes: Uint8Array): void {
    this.observer?.received(bytes.length);
    if (this.#finishing || this.#closed) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#countUnread();
    this.#consumer?.bytesReady();
    // Only now: what was taken at once stops nothing.
    if (!this.#stopped && !this.#finishing && !this.#closed) this.#stopIfFull();
  }

  #ended(): void {
    if (this.#closed) return;
    this.#peerEnded = true;
    if (this.#sent) return this.#cut();
    if (this.#finishing) return;
    this.#consumer?.peerEnded();
    if (!this.#closed && !this.#finishing) this.#consumer?.bytesReady();
  }

  #drained(): void {
    if (this.#closed) return;
    this.#blocked = false;
    this.#drainedAt = this.clock.now();
    this.flush();
    if (!this.#blocked && !this.#ending) this.#consumer?.drained();
  }

  #allSent(): void {
    if (this.#closed) return;
    this.#sent = true;
    this.#whenSent?.();
    if (this.#peerEnded) this.#cut();
    else if (this.#finishing) this.#linger();
  }

  #linger(): void {
    if (this.#lingerMs === 0) this.#cut();
    else this.deadline = this.after(this.#lingerMs);
  }

  /**
   * Gives the socket as much as it takes, also while corked, and the end when that is due.
   *
   * @internal
   */
  flush(): void {
    if (this.#closed) return;
    while (!this.#blocked && this.#pending.length > 0) this.#send(this.#nextSlice());
    if (this.#ending && this.#pending.length === 0) this.#parts.socket.end();
  }

  /** Takes whole writes while they fit together into a slice, or the front of one that is longer. */
  #nextSlice(): Chunk {
    const pending = this.#pending;
    const first = pending[0]!;
    if (first.length > SLICE_BYTES) {
      pending[0] = rest(first, SLICE_BYTES);
      return front(first, SLICE_BYTES);
    }
    if (pending.length === 1) return pending.pop()!;
    let count = 1;
    let total = first.length;
    while (count < pending.length && total + pending[count]!.length <= SLICE_BYTES) {
      total += pending[count++]!.length;
    }
    const gathered = pending.splice(0, count);
    return count === 1 ? first : join(gathered, total);
  }

  #send(chunk: Chunk): void {
    this.#pendingBytes -= chunk.length;
    const { socket } = this.#parts;
    const more = typeof chunk === "string" ? socket.write(chunk, "latin1") : socket.write(chunk);
    if (!more) this.#blocked = true;
    this.observer?.sent(chunk.length);
  }

  #failed(cause: Error): void {
    this.#error ??= connectionError(cause);
    this.#cut();
  }

  #cut(): void {
    this.#parts.place.leave();
    this.#parts.socket.destroy();
    this.#parts.raw.destroy();
    this.#over();
  }

  /** The socket is closed; the runtimes do not always say why. */
  #over(): void {
    if (this.#closed) return;
    if (!this.#sent || !(this.#peerEnded || this.#finishing)) {
      this.#error ??= new ConnectionError("CONNECTION_CLOSED", "The peer closed too early");
    }
    this.#closed = true;
    this.deadline = Infinity;
    this.#parts.deadlines.unwatch(this);
    this.#parts.socket.destroy();
    this.#parts.raw.destroy();
    this.#parts.unread.started(this);
    if (this.#destroyed || !this.#peerEnded) this.#dropUnread();
    else this.#countUnread();
    this.#pending.length = this.#pendingBytes = 0;
    this.#consumer?.closed(this.#error);
  }
}

function connectionError(cause: Error): ConnectionError {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === "ECONNRESET" || code === "EPIPE") {
    return new ConnectionError("CONNECTION_RESET", "The peer reset the connection", { cause });
  }
  return new ConnectionError("CONNECTION_FAILED", `The connection failed: ${cause.message}`, {
    cause,
  });
}
