/**
 * One established connection as bytes in and bytes out: a bounded input queue that stops the wire
 * when it is full, writes that leave together, one way to close gracefully and one to cut.
 * Everything above (HTTP, WebSocket, Web Streams) is a {@linkcode Consumer} of it.
 *
 * A connection is in three states at a time, one for each direction and one for the whole:
 *
 * ```
 * reading   flowing ⇄ stopped       either ─→ ended      each ─→ lost
 * writing   open ─→ ending ─→ ended                      each ─→ lost
 * life      open ─→ closing ─→ closed,   open ─→ leaving ─→ closed,   open ─→ closed
 * ```
 *
 * | state | by | to | what is done |
 * |---|---|---|---|
 * | reading flowing | too much waits unread | stopped | the wire is stopped |
 * | reading stopped | enough was taken, or `close()` | flowing | the wire is started |
 * | reading flowing, stopped | the peer's end | ended | what waits may still be taken |
 * | writing open | `end()`, `close()` | ending | what was written leaves, then this side ends |
 * | writing ending | all has left | ended | `done` of `end()` is called |
 * | life open | `close()` | closing | what comes is thrown away; the peer is to read in `sendTimeoutMs` |
 * | life open | `close({ withinMs })` | leaving | the same, and over in that time whether the peer reads or not |
 * | life closing | writing is ended | closing | the peer is to end in `lingerMs`; with none it is cut |
 * | life leaving | writing is ended | closed | |
 * | life open, closing | both directions are ended | closed | |
 * | life open, closing, leaving | `destroy()`, an error, the wire is closed, the deadline | closed | reading is lost, unless it was ended; writing is lost |
 *
 * It is one file, since the three states decide together in almost every method; a queue or a state
 * of its own for each direction would be an object more per connection.
 *
 * @module
 */
import { freeMemory } from "../bytes.ts";
import { ConfigError, ConnectionError, type HttpsdError, StateError } from "../errors.ts";
import type { Connection } from "./connection.ts";
import type { Consumer, Observer } from "./consumer.ts";
import type { Endpoints } from "../endpoints.ts";
import type { SecurityContext } from "../tls/context.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { type Chunk, front, rest } from "./chunks.ts";
import type { Clock } from "./clock.ts";
import type { Deadlines } from "./deadlines.ts";
import type { Place } from "./place.ts";
import type { ProxyHeader } from "./proxy_protocol.ts";
import { SLAB_BYTES, slabs } from "./slabs.ts";
import { ConnectionStreams, type Streamed } from "./streams.ts";
import type { Unread } from "./unread.ts";
import { type Unsent, UnsentAnswer, type UnsentHolder } from "./unsent.ts";
import type { ByteStreams, Wire, WireReader } from "./wire.ts";
import { sparesReader } from "./slow_reader.ts";

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
 * so that each slice that leaves shows that the peer reads, and TLS encrypts no more than that
 * ahead.
 */
const SLICE_BYTES = SLAB_BYTES;

/** What a connection waits for that is being closed: that the peer reads, or that it ends too. */
export type ClosingState = "sending" | "lingering";

/** What a {@linkcode ConnectionEngine} is made of. */
export interface ConnectionParts {
  /** The transport. */
  readonly wire: Wire;
  /** The addresses. */
  readonly endpoints: Endpoints;
  /** The PROXY header that the addresses are from; `undefined` where none came. */
  readonly proxy: ProxyHeader | undefined;
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
  /** What waits unsent in all connections. */
  readonly unsent: Unsent;
}

/** How a connection is closed. */
export interface Closing {
  /** Why; it is what the end reports. */
  readonly error?: HttpsdError;
  /** The peer is given this time (ms) to read, and none to end. */
  readonly withinMs?: number;
}

const LINGERING: Closing = {};
const CUT = {};

/** What of the peer may still come, or be taken. */
type Reading = "flowing" | "stopped" | "ended" | "lost";
/** How far this side is. */
type Writing = "open" | "ending" | "ended" | "lost";
/** Whether the whole connection is being closed. */
type Life = "open" | "closing" | "leaving" | "closed";

/** A connection whose handshake is over, as its protocols use it. */
export class ConnectionEngine implements Connection, WireReader, Streamed, UnsentHolder {
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
  /** What a trusted proxy said of the client in its PROXY header; `undefined` where none came. */
  readonly proxy: ProxyHeader | undefined;
  /** When the consumer's `expired()` is called, on the {@linkcode ConnectionEngine.clock}. */
  deadline: number = Infinity;
  /** When the connection is as old as it may become, on its clock, as its driver says. */
  oldAt: number = Infinity;
  /** Sees all bytes. */
  observer: Observer | undefined;
  /**
   * Whether the wire is stopped by what the consumer holds, too. Not so where the protocol bounds
   * that by itself and reads on for other things, as HTTP/2 does by its windows.
   */
  stopsByHeld = true;
  /** How much of the answers waits for the client to read. */
  unsentBytes: number = 0;
  /** When the client last read some of that. */
  movedAt: number = 0;

  readonly #parts: ConnectionParts;
  #wire: Wire;
  #life: Life = "open";
  #reading: Reading = "flowing";
  #writing: Writing = "open";
  #consumer: Consumer | undefined;
  #streams: ConnectionStreams | undefined;

  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Bytes that the consumer has taken and keeps for a handler that has not read them. */
  #heldBytes = 0;
  /** What was counted of this connection in the account of all. */
  #countedBytes = 0;

  #corks = 0;
  #pending: Chunk[] = [];
  #pendingBytes = 0;
  /** Whether some of them may be changed once the wire has taken them. */
  #pendingChanges = false;
  /** The wire takes no more until it has drained. */
  #blocked = false;
  /** When the peer last made room, on the connection's clock. */
  #drainedAt = -Infinity;
  #whenSent: (() => void) | undefined;
  /** What was written, and is to be freed once the wire has let go of it. */
  #spent: Uint8Array | undefined;

  #lingerMs = 0;
  #error: HttpsdError | undefined;

  /** Starts to read the wire at once; bytes queue until a consumer is attached. */
  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#wire = parts.wire;
    ({
      remoteAddress: this.remoteAddress,
      remotePort: this.remotePort,
      localAddress: this.localAddress,
      localPort: this.localPort,
    } = parts.endpoints);
    this.tls = parts.tls;
    this.proxy = parts.proxy;
    parts.deadlines.watch(this);
    parts.wire.open(this);
  }

  /** Whether the connection is over. */
  get closed(): boolean {
    return this.#life === "closed";
  }

  /** Whether the connection is being closed: nothing is read or written any more. */
  get closing(): boolean {
    return this.#life === "closing" || this.#life === "leaving";
  }

  /** Whether the peer has ended its side, whatever still waits to be taken. */
  get peerEnded(): boolean {
    return this.#reading === "ended";
  }

  /** Whether the peer has ended its side and every byte of it has been taken. */
  get ended(): boolean {
    return this.#reading === "ended" && this.#queue.length === 0;
  }

  /** Whether the socket is stopped, so that the peer's end would not be seen. */
  get stopped(): boolean {
    return this.#reading === "stopped";
  }

  /** Whether the peer has to read before more should be written. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** How many received bytes wait to be taken. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** How many written bytes wait in this process for the peer to read. */
  get bufferedBytes(): number {
    return this.#pendingBytes + this.#wire.bufferedBytes;
  }

  /** What the handshake was decided by; `undefined` in plain mode. */
  get context(): SecurityContext | undefined {
    return this.#parts.context;
  }

  /** How long a write may wait for the peer to read, in ms. */
  get sendTimeoutMs(): number {
    return this.#parts.sendTimeoutMs;
  }

  /** The clock that the deadline is a time of. */
  get clock(): Clock {
    return this.#parts.deadlines.clock;
  }

  /** The time on that clock that lies `ms` ahead. */
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
   * @throws {StateError} `BODY_USED` when another consumer reads the connection
   */
  attach(consumer: Consumer): void {
    if (this.#consumer !== undefined) {
      throw new StateError("BODY_USED", "The connection is read elsewhere: detach that reader");
    }
    this.#consumer = consumer;
    const tooLate = this.closed;
    queueMicrotask(() => {
      if (this.#consumer !== consumer) return;
      if (tooLate) consumer.closed(this.#error);
      else if (this.closed) return; // which was reported when it happened
      else this.#announce(consumer);
    });
  }

  /** Reports to a new consumer what was reported before it came. */
  #announce(consumer: Consumer): void {
    if (this.peerEnded) consumer.peerEnded();
    if (this.#queue.length > 0 || this.peerEnded) consumer.bytesReady();
    if (this.stopped) consumer.stopped();
  }

  /** Lets another consumer take over, as an upgrade to another protocol does. */
  detach(consumer: Consumer): void {
    if (this.#consumer === consumer) this.#consumer = undefined;
  }

  /** Takes the next received bytes, `undefined` when none wait. They belong to the caller. */
  take(): Uint8Array | undefined {
    const queue = this.#queue;
    if (queue.length === 0) return undefined;
    const bytes = queue.length === 1 ? queue.pop()! : queue.shift()!; // one, nearly always
    this.#queuedBytes -= bytes.length;
    this.#countUnread();
    this.#startAgain();
    return bytes;
  }

  /**
   * Counts bytes that were taken, and are kept for a handler that has not read them, as unread
   * still;
   * `bytes` are all that are kept now.
   */
  hold(bytes: number): void {
    if (bytes === this.#heldBytes || this.closed) return;
    this.#heldBytes = bytes;
    this.#countUnread();
    if (this.stopsByHeld) this.#startAgain();
    // If all connections together hold too much, this one may still be the one to be cut.
    else if (bytes >= SCARCE_MARK) this.#parts.unread.stopped(this);
    else if (this.#reading !== "stopped") this.#parts.unread.started(this);
  }

  /** Keeps the account of unread bytes that all connections share. */
  #countUnread(): void {
    const reserved = this.#reading === "stopped" ? STOPPED_BYTES : 0;
    const bytes = this.#life === "closed" ? 0 : this.#unreadBytes + reserved;
    this.#parts.unread.add(bytes - this.#countedBytes);
    this.#countedBytes = bytes;
  }

  /** What waits unread takes so much memory. */
  get #unreadBytes(): number {
    return this.#queuedBytes + this.#queue.length * CHUNK_OVERHEAD + this.#heldBytes;
  }

  /** How much of that stops the wire. */
  get #stoppingBytes(): number {
    return this.stopsByHeld ? this.#unreadBytes : this.#unreadBytes - this.#heldBytes;
  }

  /** Something was taken. */
  #startAgain(): void {
    if (this.#reading === "stopped") {
      const mayStart = this.#parts.unread.scarce
        ? this.#stoppingBytes === 0
        : this.#stoppingBytes < LOW_MARK;
      if (mayStart) this.#start();
    } else if (this.#reading === "ended" && this.#unreadBytes === 0) {
      this.#parts.unread.started(this);
    }
  }

  #start(): void {
    if (this.#reading !== "stopped") return;
    this.#reading = "flowing";
    this.#countUnread();
    this.#parts.unread.started(this);
    this.#wire.start();
  }

  #stopIfFull(): void {
    const { unread } = this.#parts;
    if (this.#stoppingBytes < (unread.scarce ? SCARCE_MARK : HIGH_MARK)) return;
    this.#reading = "stopped";
    this.#countUnread();
    this.#wire.stop();
    this.#consumer?.stopped();
    unread.stopped(this);
  }

  /** Forgets what waits unread. */
  #dropUnread(): void {
    this.#queue.length = this.#queuedBytes = this.#heldBytes = 0;
    this.#countUnread();
  }

  /** Cuts the connection, since too much waits in all of them and what waits here waits longest. */
  cutUnread(): void {
    this.destroy(
      new ConnectionError(
        "CONNECTION_ABORTED",
        "Too much waits unread in all connections, here for the longest time",
      ),
    );
  }

  /** What counts the chunks of one answer that wait for the client to read. */
  unsentAnswer(): UnsentAnswer {
    return new UnsentAnswer(this.#parts.unsent, this);
  }

  /** Cuts the connection, since too much waits in all of them, and here most for the longest time. */
  cutUnsent(): void {
    this.destroy(
      new ConnectionError(
        "CONNECTION_ABORTED",
        "Too much of answers waits unsent in all connections, here most for the longest time",
      ),
    );
  }

  /** Puts bytes back in front of the queue, as after an upgrade. */
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
    if (this.tls !== undefined) {
      throw new ConfigError("NOT_SUPPORTED", "A TLS connection's transport cannot be overridden");
    }
    if (this.closed || this.#reading === "ended" || this.#writing !== "open") {
      throw new ConnectionError("CONNECTION_CLOSED", "The connection ends: override it earlier");
    }
    const unread = this.#queue.splice(0);
    this.#blocked = false;
    this.#reading = "flowing";
    this.#parts.unread.started(this);
    this.#dropUnread();
    this.#wire = this.#wire.override(wrap, unread);
    this.#wire.open(this);
  }

  /**
   * Gathers the writes that follow until {@linkcode ConnectionEngine.uncork}, so that they leave as
   * one.
   */
  cork(): void {
    this.#corks++;
  }

  /** Sends what was gathered since {@linkcode ConnectionEngine.cork}. */
  uncork(): void {
    if (--this.#corks === 0) this.flush();
  }

  /**
   * Writes bytes, which must not be changed afterwards. `false`: stop until `drained()`; the bytes
   * are taken in either case. After the end of the connection they are discarded. Bytes that `change`
   * are copied when the wire takes them, which does not let go of them at once: they may be changed
   * when this has returned `true`, or on `drained()`.
   */
  write(chunk: Chunk, change = false): boolean {
    if (this.#writing !== "open") return false;
    if (change) this.#pendingChanges = true;
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

  /** Ends this side once all is written, then calls `done`; the peer may still send. */
  end(done: () => void): void {
    if (this.#writing !== "open") return;
    this.#whenSent = done;
    this.#writing = "ending";
    this.flush();
  }

  /**
   * Closes gracefully: all that was written leaves, then this side ends, and what the peer still
   * sends is thrown away until it ends too, so that no reset destroys the last answer (RFC 9112
   * section 9.6). A peer that takes longer for that than `lingerMs` is cut.
   */
  close({ error, withinMs }: Closing = LINGERING): void {
    if (error !== undefined && !this.closed) this.#error ??= error;
    if (this.#life !== "open") return;
    this.#parts.place.leave();
    this.#life = withinMs === undefined ? "closing" : "leaving";
    this.#lingerMs = withinMs === undefined ? this.#parts.lingerMs : 0;
    this.#dropUnread();
    this.#start();
    if (this.#writing === "ended") {
      this.#linger();
      return;
    }
    this.deadline = this.after(withinMs ?? this.#parts.sendTimeoutMs);
    this.#writing = "ending";
    this.flush();
  }

  /**
   * Cuts the connection at once; `error` is what its end reports. With `reset` a plain TCP peer gets
   * a reset instead of an end, so that it cannot take what it has got for all; over TLS the missing
   * close_notify says the same.
   */
  destroy(error?: HttpsdError, { reset = false }: { readonly reset?: boolean } = CUT): void {
    if (this.closed) return;
    this.#error ??= error ??
      new ConnectionError("CONNECTION_ABORTED", "The server cut the connection");
    this.#reading = "lost";
    if (reset) this.#wire.reset();
    this.#cut();
  }

  /** Acts on the deadline that has passed, depending on what it was for. */
  expire(): void {
    this.deadline = Infinity;
    switch (this.#closingState) {
      case undefined:
        this.#consumer?.expired();
        break;
      case "sending":
        if (this.#life === "closing" && sparesReader(this)) break;
        this.destroy(new ConnectionError("CONNECTION_TIMEOUT", "The peer did not read in time"));
        break;
      case "lingering":
        this.#cut();
    }
  }

  /**
   * Until when a peer that must read counts as one that does, slow as it may be, since it has made
   * room lately; `-Infinity` while it need not read. Waiting for it to read is not over before.
   */
  get readUntil(): number {
    return this.#sending ? this.#drainedAt + this.#parts.sendTimeoutMs : -Infinity;
  }

  get #closingState(): ClosingState | undefined {
    if (!this.closing) return undefined;
    return this.#writing === "ended" ? "lingering" : "sending";
  }

  /** Whether the peer must read before anything else can happen. */
  get #sending(): boolean {
    return this.#blocked || this.#writing === "ending";
  }

  /** Queues what has come, or throws it away when the connection is being closed. */
  onData(bytes: Uint8Array): void {
    this.observer?.received(bytes.length);
    if (this.#life !== "open") return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#countUnread();
    this.#consumer?.bytesReady();
    // Only now: what was taken at once stops nothing.
    if (this.#reading === "flowing" && this.#isOpen) this.#stopIfFull();
  }

  /** Whether it is neither closed nor being closed; callbacks may have done that. */
  get #isOpen(): boolean {
    return this.#life === "open";
  }

  /** Reports the peer's end, and closes the connection if this side has ended too. */
  onEnd(): void {
    if (this.closed) return;
    this.#reading = "ended";
    this.#countUnread();
    if (this.#writing === "ended") return this.#cut();
    if (this.#life !== "open") return;
    this.#consumer?.peerEnded();
    if (this.#isOpen) this.#consumer?.bytesReady();
  }

  /** Goes on to write. */
  onDrain(): void {
    if (this.closed) return;
    this.#blocked = false;
    this.#drainedAt = this.movedAt = this.clock.now();
    this.#freeSpent();
    this.flush();
    if (!this.#blocked && this.#writing === "open") this.#consumer?.drained();
  }

  /** This side has ended. */
  onFinish(): void {
    if (this.closed) return;
    this.#writing = "ended";
    this.#freeSpent();
    this.#whenSent?.();
    if (this.#reading === "ended") this.#cut();
    else if (this.closing) this.#linger();
  }

  #linger(): void {
    if (this.#lingerMs === 0) this.#cut();
    else this.deadline = this.after(this.#lingerMs);
  }

  /** Gives the socket as much as it takes, also while corked, and the end when that is due. */
  flush(): void {
    if (this.closed) return;
    while (!this.#blocked && this.#pending.length > 0) this.#send(this.#nextSlice());
    if (this.#pending.length === 0) this.#pendingChanges = false;
    if (this.#writing === "ending" && this.#pending.length === 0) this.#wire.end();
  }

  /**
   * Frees the memory of bytes that were written, and that nothing else holds, as soon as the wire has
   * let go of them. Where more is written before that, it is left to the collector.
   */
  free(bytes: Uint8Array): void {
    if (this.closed) return;
    this.flush();
    this.#spent = bytes;
    this.#freeSpent();
  }

  #freeSpent(): void {
    const spent = this.#spent;
    if (spent === undefined || this.bufferedBytes > 0) return;
    this.#spent = undefined;
    if (this.#wire.letsGo) freeMemory(spent);
  }

  /** Takes whole writes while they fit together into a slice, or the front of one that is longer. */
  #nextSlice(): Chunk {
    const pending = this.#pending;
    const first = pending[0]!;
    if (first.length > SLICE_BYTES) {
      pending[0] = rest(first, SLICE_BYTES);
      return this.#kept(front(first, SLICE_BYTES));
    }
    if (pending.length === 1) return this.#kept(pending.pop()!);
    let count = 1;
    let total = first.length;
    while (count < pending.length && total + pending[count]!.length <= SLICE_BYTES) {
      total += pending[count++]!.length;
    }
    const gathered = pending.splice(0, count);
    return count === 1 ? this.#kept(first) : slabs.join(gathered, total, this.#wire);
  }

  /** What the wire may keep: a copy of bytes that may be changed. */
  #kept(chunk: Chunk): Chunk {
    if (!this.#pendingChanges || typeof chunk === "string") return chunk;
    return slabs.join([chunk], chunk.length, this.#wire);
  }

  #send(chunk: Chunk): void {
    this.#pendingBytes -= chunk.length;
    if (!this.#wire.write(chunk)) this.#blocked = true;
    this.observer?.sent(chunk.length);
  }

  /** Cuts what is left of a wire that has failed. */
  onError(cause: Error): void {
    this.#error ??= connectionError(cause);
    this.#cut();
  }

  #cut(): void {
    this.#parts.place.leave();
    this.#wire.destroy();
    this.onClose();
  }

  /** The connection is over, once. */
  onClose(): void {
    if (this.closed) return;
    const inOrder = this.#writing === "ended" && (this.#reading === "ended" || this.closing);
    if (!inOrder) {
      this.#error ??= new ConnectionError("CONNECTION_CLOSED", "The peer closed too early");
    }
    this.#life = "closed";
    this.#writing = "lost";
    this.deadline = Infinity;
    this.#parts.deadlines.unwatch(this);
    this.#wire.destroy();
    slabs.end(this.#wire);
    this.#parts.unread.started(this);
    if (this.#reading === "ended") this.#countUnread();
    else {
      this.#reading = "lost";
      this.#dropUnread();
    }
    this.#pending.length = this.#pendingBytes = 0;
    this.#spent = undefined;
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
