/**
 * The Web Streams of a connection, made when first touched. They are one consumer of it like any
 * other; a program that never touches them pays nothing for them.
 *
 * @module
 */
import { ConnectionError, type HttpsdError } from "../errors.ts";
import type { Consumer } from "./consumer.ts";
import { sparesReader } from "./slow_reader.ts";

/** What the streams ask of their connection. */
export interface Streamed {
  /** When `expired()` is called. */
  deadline: number;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /** Until when a peer that must read counts as one that does. */
  readonly readUntil: number;
  /** How many received bytes wait to be taken. */
  readonly queuedBytes: number;
  /** Whether the peer has ended its side and every byte of it has been taken. */
  readonly ended: boolean;
  /** Returns the time that lies `ms` ahead. */
  after(ms: number): number;
  /** Takes the next received bytes; `undefined` when none wait. */
  take(): Uint8Array | undefined;
  /** Writes bytes; returns `false` until `drained()`. */
  write(bytes: Uint8Array): boolean;
  /** Ends this side once all is written, then calls `done`. */
  end(done: () => void): void;
  /** Closes gracefully. */
  close(): void;
  /** Cuts the connection at once. */
  destroy(error: HttpsdError): void;
}

/** A connection's `readable` and `writable`. */
export class ConnectionStreams implements Consumer {
  /** A byte stream of what the peer sends; cancelling it throws away what else comes. */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Closing it ends this side only; aborting it cuts the connection. */
  readonly writable: WritableStream<Uint8Array>;

  readonly #connection: Streamed;
  #reader!: ReadableByteStreamController;
  #writer!: WritableStreamDefaultController;
  #readDone = false;
  #writeDone = false;
  /** A pull that waits for bytes. */
  #wanted: PromiseWithResolvers<void> | undefined;
  /** A write that waits for the peer to read. */
  #blocked: PromiseWithResolvers<void> | undefined;
  /** A close that waits for the same. */
  #closing: PromiseWithResolvers<void> | undefined;

  /** Makes the streams; the connection attaches them as its consumer. */
  constructor(connection: Streamed) {
    this.#connection = connection;
    this.readable = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#reader = controller as ReadableByteStreamController),
      pull: () => this.#pull(),
      cancel: () => this.#cancel(),
    });
    this.writable = new WritableStream({
      start: (controller) => {
        this.#writer = controller;
        // Not the sink's abort(): that waits for the write under way, and so for a stuck peer.
        const { signal } = controller;
        signal.addEventListener("abort", () => this.#abort(signal.reason), { once: true });
      },
      write: (bytes) => this.#write(bytes),
      close: () => this.#close(),
    });
  }

  /** Gives the waiting reader its bytes. */
  bytesReady(): void {
    if (this.#readDone) {
      while (this.#connection.take() !== undefined);
    } else if (this.#wanted !== undefined && this.#deliver()) {
      this.#wanted.resolve();
      this.#wanted = undefined;
    }
  }

  /** Nothing yet: the reader gets the end in its place, behind the bytes that wait before it. */
  peerEnded(): void {}

  /** Nothing: how fast the streams are read is the program's concern. */
  stopped(): void {}

  /** Lets the waiting writer go on. */
  drained(): void {
    this.#connection.deadline = Infinity;
    this.#blocked?.resolve();
    this.#blocked = undefined;
  }

  /** The peer has not read for too long, unless it is only slow. */
  expired(): void {
    if (sparesReader(this.#connection)) return;
    this.#connection.destroy(
      new ConnectionError("CONNECTION_TIMEOUT", "The peer did not read in time"),
    );
  }

  /** Ends both streams; what a peer has sent that had ended can still be read. */
  closed(error: HttpsdError | undefined): void {
    const reason = error ?? new ConnectionError("CONNECTION_CLOSED", "The connection is closed");
    if (!this.#writeDone) this.#writer.error(reason);
    this.#writeDone = true;
    this.#blocked?.reject(reason);
    this.#closing?.reject(reason);
    if (this.#connection.ended || this.#connection.queuedBytes > 0) {
      this.bytesReady();
    } else if (!this.#readDone) {
      this.#readDone = true;
      this.#reader.error(reason);
      this.#wanted?.resolve();
    }
  }

  #pull(): Promise<void> | void {
    if (this.#deliver()) return;
    this.#wanted = Promise.withResolvers();
    return this.#wanted.promise;
  }

  /** Enqueues the next bytes or the end; false when there is neither yet. */
  #deliver(): boolean {
    const bytes = this.#connection.take();
    if (bytes !== undefined) {
      this.#reader.enqueue(transferable(bytes));
    } else if (this.#connection.ended) {
      this.#readDone = true;
      closeByteStream(this.#reader);
    } else {
      return false;
    }
    return true;
  }

  #cancel(): void {
    this.#readDone = true;
    if (this.#writeDone) this.#connection.close();
    else this.bytesReady();
  }

  #write(bytes: Uint8Array): Promise<void> | void {
    if (!(bytes instanceof Uint8Array)) {
      throw new TypeError("A connection takes only Uint8Array chunks: encode the chunk first");
    }
    // A copy, since the writer may change its bytes as soon as this promise is fulfilled.
    if (this.#connection.write(new Uint8Array(bytes))) return;
    this.#connection.deadline = this.#connection.after(this.#connection.sendTimeoutMs);
    this.#blocked = Promise.withResolvers();
    return this.#blocked.promise;
  }

  #close(): Promise<void> {
    this.#writeDone = true;
    this.#closing = Promise.withResolvers();
    this.#connection.deadline = this.#connection.after(this.#connection.sendTimeoutMs);
    this.#connection.end(() => this.#ended());
    if (this.#readDone) this.#connection.close();
    return this.#closing.promise;
  }

  #ended(): void {
    this.#connection.deadline = Infinity;
    this.#closing?.resolve();
  }

  #abort(cause: unknown): void {
    this.#writeDone = true;
    this.#connection.destroy(
      new ConnectionError("CONNECTION_ABORTED", "The writable side was aborted", { cause }),
    );
  }
}

/**
 * Bytes whose buffer a byte stream may detach: a copy unless the view is its whole buffer, since
 * the rest of a shared buffer may be another client's request head.
 */
export function transferable(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = bytes.byteLength === bytes.buffer.byteLength &&
    bytes.buffer instanceof ArrayBuffer;
  // Not bytes.slice(): a Buffer's slice is a view.
  return whole ? bytes as Uint8Array<ArrayBuffer> : new Uint8Array(bytes);
}

/** Closes a byte stream, also while a bring-your-own-buffer read is pending. */
export function closeByteStream(controller: ReadableByteStreamController): void {
  try {
    controller.close();
  } catch {
    return; // a pending read has part of an element, a Uint32's say: the stream has failed it
  }
  controller.byobRequest?.respond(0);
}
