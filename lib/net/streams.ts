/**
 * The Web Streams of a connection, made when first touched. They are one consumer of it like any
 * other; who never touches them pays nothing for them.
 *
 * @module
 */
import { ConnectionError, type HttpsdError } from "../errors.ts";
import type { Connection, Consumer } from "./connection.ts";
import { after } from "./deadlines.ts";

/** A connection's `readable` and `writable`. */
export class ConnectionStreams implements Consumer {
  /** A byte stream of what the peer sends; cancelling it throws away what else comes. */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Closing it ends this side only; aborting it cuts the connection. */
  readonly writable: WritableStream<Uint8Array>;

  readonly #connection: Connection;
  #reader!: ReadableByteStreamController;
  #writer!: WritableStreamDefaultController;
  #readDone = false;
  #writeDone = false;
  #wanted: PromiseWithResolvers<void> | undefined;
  #blocked: PromiseWithResolvers<void> | undefined;

  /** Makes the streams; the connection attaches them as its consumer. */
  constructor(connection: Connection) {
    this.#connection = connection;
    this.readable = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#reader = controller as ReadableByteStreamController),
      pull: () => this.#pull(),
      cancel: () => this.#cancel(),
    });
    this.writable = new WritableStream({
      start: (controller) => void (this.#writer = controller),
      write: (bytes) => this.#write(bytes),
      close: () => this.#close(),
      abort: (reason) => this.#abort(reason),
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

  /** Lets the waiting writer go on. */
  drained(): void {
    this.#connection.deadline = Infinity;
    this.#blocked?.resolve();
    this.#blocked = undefined;
  }

  /** The peer has not read for too long. */
  expired(): void {
    this.#connection.destroy(
      new ConnectionError("CONNECTION_TIMEOUT", "The peer did not read in time"),
    );
  }

  /** Ends both streams. */
  closed(error: HttpsdError | undefined): void {
    const reason = error ?? new ConnectionError("CONNECTION_CLOSED", "The connection is closed");
    if (!this.#readDone) {
      this.#readDone = true;
      if (error === undefined) closeByteStream(this.#reader);
      else this.#reader.error(error);
    }
    if (!this.#writeDone) this.#writer.error(reason);
    this.#writeDone = true;
    this.#wanted?.resolve();
    this.#blocked?.reject(reason);
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
    if (this.#writeDone) this.#connection.finish();
    else this.bytesReady();
  }

  #write(bytes: Uint8Array): Promise<void> | void {
    if (!(bytes instanceof Uint8Array)) {
      throw new TypeError("A connection takes only Uint8Array chunks: encode the chunk first");
    }
    // A copy, since the writer may change its bytes as soon as this promise is fulfilled.
    if (this.#connection.write(new Uint8Array(bytes))) return;
    this.#connection.deadline = after(this.#connection.sendTimeoutMs);
    this.#blocked = Promise.withResolvers();
    return this.#blocked.promise;
  }

  #close(): Promise<void> {
    this.#writeDone = true;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#blocked = { promise, resolve, reject };
    this.#connection.end(resolve);
    if (this.#readDone) this.#connection.finish();
    return promise;
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
 * the rest of a shared buffer may be somebody's request head.
 */
export function transferable(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = bytes.byteLength === bytes.buffer.byteLength &&
    bytes.buffer instanceof ArrayBuffer;
  // Not bytes.slice(): a Buffer's slice is a view.
  return whole ? bytes as Uint8Array<ArrayBuffer> : new Uint8Array(bytes);
}

/** Closes a byte stream, also while a bring-your-own-buffer read is pending. */
export function closeByteStream(controller: ReadableByteStreamController): void {
  controller.close();
  controller.byobRequest?.respond(0);
}
