/**
 * A wire over one of Bun's own sockets.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import { type BunSocket, isTlsFault, readFault, tlsFault } from "../runtime/bun_sockets.ts";
import type { ArrivalGuest } from "./arrival.ts";
import { type Chunk, join, rest } from "./chunks.ts";
import type { Wire, WireReader } from "./wire.ts";

/** What a socket's handlers report to: its `data`. */
export interface SocketOwner {
  /** Bytes have come. */
  onData(bytes: Uint8Array): void;
  /** The socket takes bytes again. */
  onDrain(): void;
  /** The peer has ended its side. */
  onEnd(): void;
  /** TLS has failed, or a handler has thrown; in the first case the socket is closed next. */
  onError(error: Error): void;
  /** The socket is closed; with an error, the peer has reset it. */
  onClosed(error: Error | undefined): void;
}

/** What a handler has thrown is a fault of ours, which is to be seen like any other. */
export function throwOutside(error: Error): void {
  queueMicrotask(() => {
    throw error;
  });
}

const NO_BYTES = new Uint8Array(0);

/** One of Bun's own sockets, with or without TLS. */
export class BunWire implements Wire, SocketOwner {
  /** What Bun has taken of a write it has copied; the rest counts as waiting. */
  readonly letsGo = true;
  readonly #socket: BunSocket;
  readonly #below: BunSocket | undefined;
  #guest: ArrivalGuest | undefined;
  #reader: WireReader | undefined;
  /** What Bun has not taken yet. */
  #left: Chunk | undefined;
  #peerEnded = false;
  #isEnding = false;
  /** Whether this side's end has left, and whether that was reported. */
  #hasEnded = false;
  #isFinished = false;
  #isDestroyed = false;
  #isClosed = false;

  /** Takes a socket, and the one below its TLS; `guest` is told when it is closed. */
  constructor(socket: BunSocket, below: BunSocket | undefined, guest: ArrivalGuest | undefined) {
    this.#socket = socket;
    this.#below = below;
    this.#guest = guest;
    socket.data = this;
  }

  /** Tells another when it is closed. */
  reportTo(guest: ArrivalGuest): void {
    this.#guest = guest;
  }

  get bufferedBytes(): number {
    return this.#left?.length ?? 0;
  }

  open(reader: WireReader): void {
    this.#reader = reader;
  }

  write(chunk: Chunk): boolean {
    if (this.#isOver) return false;
    if (this.#left === undefined) {
      const taken = this.#socket.write(chunk);
      if (taken === chunk.length) return true;
      // Less than none: it is closed, which is reported next.
      if (taken >= 0) this.#left = rest(chunk, taken);
    } else {
      this.#left = join([this.#left, chunk], this.#left.length + chunk.length);
    }
    return false;
  }

  end(): void {
    if (this.#isEnding || this.#isOver) return;
    this.#isEnding = true;
    if (this.#left === undefined) this.#shutDown();
  }

  #shutDown(): void {
    this.#socket.shutdown(); // which closes the socket, too, where the peer has ended
    this.#checkEnd();
  }

  /**
   * Bun takes a write for done when TLS has taken it; the last of it, and the end, may have to wait
   * for the peer to read. Until then a write of nothing takes nothing; afterwards it is refused.
   */
  #checkEnd(): void {
    if (this.#hasEnded || this.#socket.write(NO_BYTES) >= 0) return;
    this.#hasEnded = true;
    queueMicrotask(() => this.#finish());
  }

  #finish(): void {
    if (this.#isFinished || this.#isDestroyed) return;
    this.#isFinished = true;
    this.#reader?.onFinish();
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isDestroyed = true;
    this.#left = undefined;
    cut(this.#socket, this.#below, () => this.#isClosed);
  }

  /** Over TLS the missing close_notify says the same as a reset. */
  reset(): void {
    this.destroy();
  }

  get #isOver(): boolean {
    return this.#isDestroyed || this.#isClosed;
  }

  stop(): void {
    this.#socket.pause();
  }

  start(): void {
    this.#socket.resume();
  }

  override(): Wire {
    throw new ConfigError("NOT_SUPPORTED", "A TLS connection's transport cannot be overridden");
  }

  onData(bytes: Uint8Array): void {
    if (!this.#isOver) this.#reader?.onData(bytes);
  }

  onDrain(): void {
    if (this.#isOver) return;
    const left = this.#left;
    if (left === undefined) {
      if (this.#isEnding) this.#checkEnd();
      return;
    }
    const taken = this.#socket.write(left);
    if (taken < 0) return; // it is closed, which is reported next
    this.#left = taken < left.length ? rest(left, taken) : undefined;
    if (this.#left !== undefined) return;
    if (this.#isEnding) this.#shutDown();
    else this.#reader?.onDrain();
  }

  onEnd(): void {
    if (this.#isOver || this.#peerEnded) return;
    this.#peerEnded = true;
    this.#reader?.onEnd();
  }

  onError(error: Error): void {
    if (!isTlsFault(error)) throwOutside(error);
    else if (!this.#isOver) this.#reader?.onError(tlsFault(error));
  }

  /** Reports in a microtask: the socket may have been closed by a call from here. */
  onClosed(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    queueMicrotask(() => this.#reportClose(error));
  }

  #reportClose(error: Error | undefined): void {
    this.#guest?.onClose();
    if (!this.#isDestroyed) {
      if (error !== undefined) this.#reader?.onError(readFault(error));
      if (this.#hasEnded) this.#finish();
      // Where this side has ended, the peer's end comes with the close.
      if (error === undefined && !this.#peerEnded) this.#reader?.onEnd();
    }
    this.#reader?.onClose();
  }
}

/**
 * Closes a socket at once. `close()` alone waits until the peer has read what TLS still holds, reads
 * on meanwhile, and reports the close only then; closing the socket below as well ends that.
 */
export function cut(
  socket: BunSocket,
  below: BunSocket | undefined,
  isClosed: () => boolean,
): void {
  socket.close();
  if (!isClosed()) below?.close();
  if (!isClosed()) socket.terminate();
}
