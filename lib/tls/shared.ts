/**
 * What many ClientHellos have in common, kept once: clients of one kind send the same lists, and each
 * connection keeps what its client offered.
 *
 * @module
 */
import type { Buffer } from "node:buffer";

/** So many values are known of each kind; the one that came first makes room. */
export const MAX_KNOWN = 128;

/** Longer ones, which no real client sends, are read anew each time. */
export const MAX_SHARED_BYTES = 256;

/**
 * Values of one kind by the bytes that they are read from. What is known is bounded, whatever clients
 * send: some 200 KB at most. Values are frozen, since they belong to many.
 */
export class Shared<T extends object> {
  readonly #known = new Map<string, Readonly<T>>();
  readonly #read: (bytes: Buffer, start: number, end: number) => T;

  /** Shares what `read` makes of the same bytes, and of nothing else; what throws is not kept. */
  constructor(read: (bytes: Buffer, start: number, end: number) => T) {
    this.#read = read;
  }

  /** The value of the bytes from `start` to `end`. */
  of(bytes: Buffer, start: number, end: number): Readonly<T> {
    if (end - start > MAX_SHARED_BYTES) return Object.freeze(this.#read(bytes, start, end));
    const key = bytes.toString("latin1", start, end);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const value = Object.freeze(this.#read(bytes, start, end));
    if (this.#known.size === MAX_KNOWN) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(key, value);
    return value;
  }
}
