/**
 * One established connection, plain or TLS, as bytes in and bytes out: a bounded input queue that
 * stops the socket when it is full, writes that leave together, and one way to close gracefully
 * and one to cut. Everything above (HTTP, WebSocket, Web Streams) is a {@linkcode Consumer} of it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { ConnectionError, type HttpsdError, StateError } from "../errors.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { after, type Deadlines, type Waiting } from "./deadlines.ts";
import type { Flow } from "./flow.ts";
import { ConnectionStreams } from "./streams.ts";

/** The socket stops at this many queued bytes … */
const HIGH_MARK = 256 * 1024;
/** … and starts again below this many. */
const LOW_MARK = 64 * 1024;
/** Writes of one turn leave as one when they are no longer than this together, in bytes. */
const COALESCE_BYTES = 64 * 1024;

/** What reads a connection: the HTTP session, a WebSocket, or the Web Streams. */
export interface Consumer {
  /** Bytes can be taken, or the peer has ended its side. */
  bytesReady(): void;
  /** After a write that returned `false`: writing may go on. */
  drained(): void;
  /** `connection.deadline` has passed. */
  expired(): void;
  /** The connection is over, once; with an error unless both sides ended in good order. */
  closed(error: HttpsdError | undefined): void;
}

/** Sees the bytes of a connection go by: how the `data` and `sent` events are made. */
export interface Observer {
  /** So many bytes were read from the socket, after decryption. */
  received(connection: Connection, bytes: number): void;
  /** So many bytes were written to the socket, before encryption. */
  sent(connection: Connection, bytes: number): void;
}

/** Where a connection comes from and goes to. */
export interface Endpoints {
  /** The client's address; behind a trusted proxy, what its PROXY header says. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
  /** The address that the client connected to. */
  readonly localAddress: string;
  /** The port that the client connected to. */
  readonly localPort: number;
}

/** What a {@linkcode Connection} is made of. */
export interface ConnectionParts {
  /** The socket that is read and written: TLS, or the raw one in plain mode. */
  readonly socket: Socket;
  /** The TCP socket underneath. */
  readonly raw: Socket;
  /** Stops and starts the bytes. */
  readonly flow: Flow;
  /** The addresses. */
  readonly endpoints: Endpoints;
  /** The handshake's facts; `undefined` in plain mode. */
  readonly tls: TlsInfo | undefined;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /** How long a closed connection waits for the peer's end, in ms. */
  readonly lingerMs: number;
  /** The clock that watches the connection's deadline while it lives. */
  readonly deadlines: Deadlines;
}

/** A connection whose handshake is over. */
export class Connection implements Endpoints, Waiting {
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
  /** When the consumer's `expired()` is called, on the `performance.now()` clock. */
  deadline = Infinity;
  /** Sees all bytes; set while somebody listens for `data` or `sent` events. */
  observer: Observer | undefined;

  readonly #parts: ConnectionParts;
  #consumer: Consumer | undefined;
  #streams: ConnectionStreams | undefined;

  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #stopped = false;
  #peerEnded = false;

  #corks = 0;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #blocked = false;

  #finishing = false;
  #closed = false;
  #error: HttpsdError | undefined;

  /** Starts to read the socket at once; bytes queue until a consumer is attached. */
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
    socket.on("data", (bytes: Uint8Array) => this.#received(bytes));
    socket.on("end", () => this.#ended());
    socket.on("drain", () => this.#drained());
    socket.on("error", (error: Error) => this.#failed(error));
    socket.on("close", () => this.#over());
    if (raw === socket) return;
    raw.on("error", (error: Error) => this.#failed(error));
    raw.on("close", () => this.#over());
  }

  /** Whether the connection is over. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether the connection is being closed: nothing is read or written any more. */
  get finishing(): boolean {
    return this.#finishing;
  }

  /** Whether the peer has ended its side and every byte of it has been taken. */
  get ended(): boolean {
    return this.#peerEnded && this.#queue.length === 0;
  }

  /** How many received bytes wait to be taken. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** How many written bytes wait in this process for the peer to read. */
  get bufferedBytes(): number {
    return this.#pendingBytes + this.#parts.socket.writableLength;
  }

  /** How long a write may wait for the peer to read, in ms. */
  get sendTimeoutMs(): number {
    return this.#parts.sendTimeoutMs;
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
    queueMicrotask(() => {
      if (this.#consumer !== consumer) return;
      if (this.#closed) consumer.closed(this.#error);
      else if (this.#queue.length > 0 || this.#peerEnded) consumer.bytesReady();
    });
  }

  /** Lets another consumer take over, as an upgrade to another protocol does. */
  detach(consumer: Consumer): void {
    if (this.#consumer === consumer) this.#consumer = undefined;
  }

  /** Takes the next received bytes, `undefined` when none wait. They belong to the caller. */
  take(): Uint8Array | undefined {
    const bytes = this.#queue.shift();
    if (bytes === undefined) return undefined;
    this.#queuedBytes -= bytes.length;
    if (this.#stopped && this.#queuedBytes < LOW_MARK && !this.#closed) {
      this.#stopped = false;
      this.#parts.flow.start();
    }
    return bytes;
  }

  /** Puts bytes back in front of the queue, as after an upgrade. */
  putBack(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#queue.unshift(bytes);
    this.#queuedBytes += bytes.length;
  }

  /** Gathers the writes that follow until {@linkcode Connection.uncork}, so that they leave as one. */
  cork(): void {
    this.#corks++;
  }

  /** Sends what was gathered since {@linkcode Connection.cork}. */
  uncork(): void {
    if (--this.#corks === 0) this.#flush();
  }

  /**
   * Writes bytes, which must not be changed afterwards. `false`: stop until `drained()`; the bytes
   * are taken all the same. After the end of the connection bytes go nowhere.
   */
  write(bytes: Uint8Array): boolean {
    if (this.#closed || this.#finishing) return false;
    if (bytes.length > 0) {
      this.#pending.push(bytes);
      this.#pendingBytes += bytes.length;
    }
    if (this.#corks === 0 || this.#pendingBytes >= COALESCE_BYTES) this.#flush();
    return !this.#blocked;
  }

  /** Ends this side once all is written, then calls `done`; the peer may still send. */
  end(done: () => void): void {
    if (this.#closed || this.#finishing) return;
    this.#flush();
    this.#parts.socket.end(done);
  }

  /**
   * Closes gracefully: all that was written leaves, then this side ends, and what the peer still
   * sends is thrown away until it ends too, so that no reset destroys the last answer (RFC 9112
   * section 9.6). A peer that takes too long is cut.
   */
  finish(): void {
    if (this.#closed || this.#finishing) return;
    this.#flush();
    this.#finishing = true;
    this.#queue.length = this.#queuedBytes = 0;
    if (this.#stopped) this.#parts.flow.start();
    this.deadline = after(this.#parts.sendTimeoutMs);
    const { socket } = this.#parts;
    socket.end(() => {
      // A peer that has ended and has been sent everything has nothing to wait for.
      if (this.#peerEnded) this.#cut();
      else this.deadline = after(this.#parts.lingerMs);
    });
  }

  /** Cuts the connection at once; `error` tells the consumer why. */
  destroy(error?: HttpsdError): void {
    if (this.#closed) return;
    this.#error ??= error ??
      new ConnectionError("CONNECTION_ABORTED", "The server cut the connection");
    this.#cut();
  }

  /** The clock's call: the deadline has passed. */
  expire(): void {
    this.deadline = Infinity;
    if (this.#finishing) this.#cut();
    else this.#consumer?.expired();
  }

  #received(bytes: Uint8Array): void {
    this.observer?.received(this, bytes.length);
    if (this.#finishing || this.#closed) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#stopped && this.#queuedBytes >= HIGH_MARK) {
      this.#stopped = true;
      this.#parts.flow.stop();
    }
    this.#consumer?.bytesReady();
  }

  #ended(): void {
    this.#peerEnded = true;
    if (!this.#finishing) this.#consumer?.bytesReady();
    else if (this.#parts.socket.writableFinished) this.#cut();
  }

  #drained(): void {
    this.#blocked = false;
    if (!this.#finishing) this.#consumer?.drained();
  }

  #flush(): void {
    if (this.#pending.length === 0 || this.#closed) return;
    const pending = this.#pending;
    const total = this.#pendingBytes;
    this.#pending = [];
    this.#pendingBytes = 0;
    if (pending.length > 1 && total <= COALESCE_BYTES) {
      this.#send(Buffer.concat(pending, total));
      return;
    }
    for (const bytes of pending) this.#send(bytes);
  }

  #send(bytes: Uint8Array): void {
    if (!this.#parts.socket.write(bytes)) this.#blocked = true;
    this.observer?.sent(this, bytes.length);
  }

  #failed(cause: Error): void {
    this.#error ??= connectionError(cause);
    this.#cut();
  }

  #cut(): void {
    this.#parts.socket.destroy();
    this.#parts.raw.destroy();
    this.#over();
  }

  #over(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.deadline = Infinity;
    this.#parts.deadlines.unwatch(this);
    this.#parts.socket.destroy();
    this.#parts.raw.destroy();
    this.#queue.length = this.#queuedBytes = 0;
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
