/**
 * Bytes that have come and that nothing has taken yet, in the pieces in which they came.
 *
 * @module
 */

import { NO_BYTES } from "../bytes.ts";

/** Short pieces are put together in memory of so many bytes. */
const GATHERED_BYTES = 4_096;
/** Up to so many bytes are short. */
const SHORT_BYTES = 2_048;
/** A piece keeps no more memory alive than so many times its own bytes. */
const MAX_KEPT_TIMES = 4;

/** Pieces of bytes, first in, first out. */
export class ByteQueue {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  /** Where short pieces are put together, which come behind all others, and how much of it they take. */
  #gathered: Uint8Array<ArrayBuffer> = NO_BYTES;
  #used = 0;

  /** How many bytes wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** In how many pieces they wait. */
  get pieces(): number {
    return this.#pieces.length + (this.#used > 0 ? 1 : 0);
  }

  /** The first piece, left where it is. */
  get first(): Uint8Array | undefined {
    if (this.#pieces.length === 0) this.#seal();
    return this.#pieces[0];
  }

  /**
   * Adds a piece, which must not change any more: a copy of one that is short, or a small part of what
   * was read at a time, since a view keeps all of that alive.
   */
  add(piece: Uint8Array): void {
    if (isCopied(piece)) this.pushCopy(piece);
    else this.push(piece);
  }

  /** Adds a piece as it is, which must not change any more. */
  push(piece: Uint8Array): void {
    this.#seal();
    this.#pieces.push(piece);
    this.#bytes += piece.length;
  }

  /**
   * Adds a copy of a piece that is short, together with short ones before it: a client that sends a
   * byte at a time makes this side hold bytes, not objects.
   */
  pushCopy(piece: Uint8Array): void {
    const { length } = piece;
    if (this.pieces === 0) return this.push(new Uint8Array(piece));
    if (this.#used + length > this.#gathered.length) {
      this.#seal();
      this.#gathered = new Uint8Array(Math.max(GATHERED_BYTES, length));
    }
    this.#gathered.set(piece, this.#used);
    this.#used += length;
    this.#bytes += length;
  }

  /** Makes one piece of what was put together; nothing more is written to its memory. */
  #seal(): void {
    if (this.#used === 0) return;
    this.#pieces.push(this.#gathered.subarray(0, this.#used));
    this.#gathered = NO_BYTES;
    this.#used = 0;
  }

  /** Takes the first piece, or the first `max` bytes of it; `undefined` when nothing waits. */
  take(max = Infinity): Uint8Array | undefined {
    const { first } = this;
    if (first === undefined) return undefined;
    const bytes = first.length <= max ? first : first.subarray(0, max);
    if (bytes === first) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(max);
    this.#bytes -= bytes.length;
    return bytes;
  }

  /**
   * Takes as many whole pieces as `most` bytes have room for, and the first one in any case, put
   * together in memory of their own: one copy, and one step of a stream, for all the DATA frames of a
   * read. A longer piece that is the whole of its memory comes alone, as it is.
   */
  takeJoined(most: number): Uint8Array | undefined {
    this.#seal();
    const pieces = this.#pieces;
    const first = pieces[0];
    if (first === undefined) return undefined;
    if (first.length > SHORT_BYTES && first.length === first.buffer.byteLength) return this.take();
    let count = 1;
    let length = first.length;
    while (count < pieces.length && length + pieces[count]!.length <= most) {
      length += pieces[count++]!.length;
    }
    return this.#takeFirst(count, length);
  }

  /** Takes all that waits, as one piece. */
  takeAll(): Uint8Array {
    this.#seal();
    return this.#takeFirst(this.#pieces.length, this.#bytes);
  }

  /** Takes so many pieces, which have so many bytes; more than one are put together. */
  #takeFirst(count: number, length: number): Uint8Array {
    if (count === 1) return this.take()!;
    const joined = new Uint8Array(length);
    let at = 0;
    for (const piece of this.#pieces.splice(0, count)) {
      joined.set(piece, at);
      at += piece.length;
    }
    this.#bytes -= length;
    return joined;
  }

  /** Forgets all that waits; returns how many bytes there were. */
  clear(): number {
    const bytes = this.#bytes;
    this.#pieces = [];
    this.#bytes = this.#used = 0;
    this.#gathered = NO_BYTES;
    return bytes;
  }
}

function isCopied(piece: Uint8Array): boolean {
  return piece.length <= SHORT_BYTES || MAX_KEPT_TIMES * piece.length < piece.buffer.byteLength;
}
