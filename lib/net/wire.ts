/**
 * The seam under a connection: one established transport, as bytes both ways. A {@linkcode Wire}
 * can be read, written, ended, destroyed, stopped and started; which transport it is, nothing above
 * sees.
 *
 * {@linkcode StreamWire} is the one over the runtimes' node streams, plain and TLS.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { readsBelow } from "../runtime/deno_tls_read.ts";
import { type Flow, pausingFlow } from "../runtime/read_switch.ts";
import type { Chunk } from "./chunks.ts";

/** Bytes both ways as Web Streams. */
export interface ByteStreams {
  /** The bytes that come. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Where bytes go. */
  readonly writable: WritableStream<Uint8Array>;
}

/** One established transport. After `destroy()` it reports `onClose()` and nothing else. */
export interface Wire {
  /** How many written bytes wait in this process for the peer to read. */
  readonly bufferedBytes: number;
  /** Whether the memory of what was written is never read again once no bytes wait. */
  readonly letsGo: boolean;
  /** Starts reading and reports everything to `reader`. Called once. */
  open(reader: WireReader): void;
  /** Writes bytes, which must not be changed afterwards; returns `false` until `onDrain()`. */
  write(chunk: Chunk): boolean;
  /** Ends this side behind all that was written, which `onFinish()` reports. */
  end(): void;
  /** Cuts both sides at once. May be called again. */
  destroy(): void;
  /** Cuts both sides with a reset, where the transport has one of its own: plain TCP. */
  reset(): void;
  /** Reads no more after what is on its way through the runtime. */
  stop(): void;
  /** Reads again. */
  start(): void;
  /**
   * Returns a wire over what `wrap` makes of this one's streams. The reader gets nothing more from
   * this wire than its errors and its end; `unread` comes first out of the streams.
   */
  override(wrap: (streams: ByteStreams) => ByteStreams, unread: readonly Uint8Array[]): Wire;
}

/** What a wire reports to. */
export interface WireReader {
  /** Bytes have come, which are the reader's now. */
  onData(bytes: Uint8Array): void;
  /** The peer has ended its side. */
  onEnd(): void;
  /** Writing may go on. */
  onDrain(): void;
  /** All that was written has left, and this side has ended. */
  onFinish(): void;
  /** The transport has failed. */
  onError(error: Error): void;
  /** The transport is closed; the runtimes do not always say why. */
  onClose(): void;
}

/** Where a socket keeps its reader, for listeners that all sockets share. */
const READER = Symbol("reader");

interface Carrier extends Duplex {
  [READER]: WireReader;
}

/** Receives the bytes, until an override takes the socket's place. */
const BYTES = {
  data(this: Carrier, bytes: Uint8Array): void {
    this[READER].onData(bytes);
  },
  end(this: Carrier): void {
    this[READER].onEnd();
  },
  drain(this: Carrier): void {
    this[READER].onDrain();
  },
  finish(this: Carrier): void {
    this[READER].onFinish();
  },
};
const BYTE_EVENTS = ["data", "end", "drain", "finish"] as const;

function reportError(this: Carrier, error: Error): void {
  this[READER].onError(error);
}

function reportClose(this: Carrier): void {
  this[READER].onClose();
}

/** A node stream over a TCP socket: the socket itself, TLS, or what a program has put between. */
export class StreamWire implements Wire {
  readonly #stream: Duplex;
  readonly #raw: Socket;
  readonly #flow: Flow;
  readonly #isTls: boolean;
  readonly letsGo: boolean;

  /**
   * Takes the stream that is read and written, the TCP socket underneath, and what stops it; a
   * stream of a program's own, which may keep what it is given, does not let go.
   */
  constructor(stream: Duplex, raw: Socket, flow: Flow, isTls: boolean, letsGo = true) {
    this.#stream = stream;
    this.#raw = raw;
    this.#flow = flow;
    this.#isTls = isTls;
    this.letsGo = letsGo;
  }

  get bufferedBytes(): number {
    return this.#stream.writableLength;
  }

  open(reader: WireReader): void {
    const stream = this.#stream as Carrier;
    stream[READER] = reader;
    for (const event of BYTE_EVENTS) stream.on(event, BYTES[event]);
    stream.on("error", reportError);
    stream.on("close", reportClose);
    if (this.#isTls) readsBelow.of(stream, (bytes) => reader.onData(bytes));
    const raw: Duplex = this.#raw;
    if (raw === stream || READER in raw) return;
    // Not the raw socket's "close", which on Bun comes with the peer's end already.
    (raw as Carrier)[READER] = reader;
    raw.on("error", reportError);
  }

  write(chunk: Chunk): boolean {
    return typeof chunk === "string"
      ? this.#stream.write(chunk, "latin1")
      : this.#stream.write(chunk);
  }

  end(): void {
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
    this.#raw.destroy();
  }

  /** Over TLS the missing close_notify says the same as a reset. */
  reset(): void {
    if (!this.#isTls) this.#raw.resetAndDestroy();
    this.destroy();
  }

  stop(): void {
    this.#flow.stop();
  }

  start(): void {
    this.#flow.start();
  }

  override(wrap: (streams: ByteStreams) => ByteStreams, unread: readonly Uint8Array[]): Wire {
    const stream = this.#stream;
    for (const event of BYTE_EVENTS) stream.off(event, BYTES[event]);
    stream.pause();
    if (unread.length > 0) stream.unshift(Buffer.concat(unread));
    const wrapped = wrap(Duplex.toWeb(stream) as unknown as ByteStreams);
    const duplex = Duplex.fromWeb(wrapped as unknown as Parameters<typeof Duplex.fromWeb>[0], {
      allowHalfOpen: true,
    });
    return new StreamWire(duplex, this.#raw, pausingFlow(duplex), this.#isTls, false);
  }
}
