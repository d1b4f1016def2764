/**
 * Bytes and text, as every room needs them. Nothing here needs Node.js, so that code for other
 * platforms can use it.
 *
 * @module
 */

/** No bytes. */
export const NO_BYTES: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** Joins pieces into bytes of their own. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}

/** Views the memory of a buffer, a typed array or a `DataView` as bytes, not copied. */
export function viewOf(data: ArrayBufferView | ArrayBufferLike): Uint8Array {
  if (data instanceof Uint8Array) return data;
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
}

/** Up to so many bytes are copied sooner than a view of them is made. */
const SHORT_PIECE_BYTES = 128;

/**
 * The bytes from `start` to `end`, as a view or, where they are few, as a copy in memory of their
 * own: the first view of short bytes moves them out of the engine's heap, into an `ArrayBuffer`.
 */
export function pieceOf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  if (length > SHORT_PIECE_BYTES) return bytes.subarray(start, end);
  const copy = new Uint8Array(length);
  for (let i = 0; i < length; i++) copy[i] = bytes[start + i]!;
  return copy;
}

/**
 * Frees the memory under bytes at once, instead of when the collector comes: the next that is taken
 * is then the same, which is warm. Nothing else may use that memory any more.
 */
export function freeMemory(bytes: Uint8Array): void {
  if (bytes.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0);
}

/**
 * Bytes that arrive in pieces. Memory follows what has come, not what was announced, and doubles, so
 * that a message in single bytes is copied a bounded number of times.
 */
export class GrowingBytes {
  #buffer: Uint8Array<ArrayBuffer> = NO_BYTES;
  #length = 0;

  /** How many bytes have come. */
  get length(): number {
    return this.#length;
  }

  /** What has come, as a view that holds until more is added. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(0, this.#length);
  }

  /**
   * Adds a copy of `bytes`. Memory never gets ahead of what has come by more than its double, by
   * `atLeast`, nor beyond `cap`, which the caller holds the length to.
   */
  add(bytes: Uint8Array, cap = Infinity, atLeast = 0): void {
    const length = this.#length + bytes.length;
    if (length > this.#buffer.length) {
      const doubled = Math.min(Math.max(2 * this.#buffer.length, atLeast), cap);
      const grown = new Uint8Array(Math.max(length, doubled));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }

  /** Returns what has come, and starts over in new memory. */
  take(): Uint8Array<ArrayBuffer> {
    const { bytes } = this;
    this.#buffer = NO_BYTES;
    this.#length = 0;
    return bytes;
  }
}

const encoder = new TextEncoder();

/** `Buffer`, where there is one. */
const { Buffer } = globalThis as {
  Buffer?: { from(text: string, encoding: "utf8"): Uint8Array<ArrayBuffer> };
};

/** Encodes text as UTF-8, in the way that is faster on the running runtime. */
export const utf8: (text: string) => Uint8Array<ArrayBuffer> =
  "Bun" in globalThis || Buffer === undefined
    ? (text) => encoder.encode(text)
    : (text) => Buffer.from(text, "utf8");

/** Longer text is encoded without a check, which would cost more than it saves. */
const MAX_LOOKED_AT = 4096;

/** Leaves short text of nothing but ASCII as it is, and encodes other text as UTF-8. */
export function asciiOrUtf8(text: string): string | Uint8Array {
  return text.length <= MAX_LOOKED_AT && isAscii(text) ? text : utf8(text);
}

const ASCII = /^[\0-\x7f]*$/;

/** Whether `text` holds nothing but ASCII. */
export function isAscii(text: string): boolean {
  return ASCII.test(text);
}

/** Up to so many characters are quicker one by one. */
const SPELLED_CHARACTERS = 32;

/**
 * Copies text of nothing but ASCII into `target` from `at` on; of another character its lowest eight
 * bits, so that no old byte is left there. (`Buffer.write` takes 2 µs for a thousand characters as
 * Latin-1 on Deno, twenty times as long as this.)
 */
export function copyAscii(text: string, target: Uint8Array, at: number): void {
  const { length } = text;
  if (length > SPELLED_CHARACTERS) {
    const { read } = encoder.encodeInto(text, target.subarray(at, at + length));
    if (read === length) return;
  }
  for (let i = 0; i < length; i++) target[at + i] = text.charCodeAt(i);
}
