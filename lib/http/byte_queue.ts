/**
 * Bytes that have come and that nothing has taken yet, in the pieces in which they came.
 *
 * @module
 */

/** Short pieces are put together in memory of so many bytes. */
const GATHERED_BYTES = 4_096;

/** Pieces of bytes, first in, first out. */
export class ByteQueue {
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  /** The memory of the last piece, where that is the queue's own and more may be put into it. */
  #own: Uint8Array<ArrayBuffer> | undefined;

  /** How many bytes wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** In how many pieces they wait. */
  get pieces(): number {
    return this.#pieces.length;
  }

  /** The first piece, left where it is. */
  get first(): Uint8Array | undefined {
    return this.#pieces[0];
  }

  /** Adds a piece, which must not change any more. */
  push(piece: Uint8Array): void {
    this.#own = undefined;
    this.#pieces.push(piece);
    this.#bytes += piece.length;
  }

  /**
   * Adds a copy of a piece that is short, together with short ones before it: a client that sends a
   * byte at a time makes this side hold bytes, not objects.
   */
  pushCopy(piece: Uint8Array): void {
    const last = this.#pieces.length - 1;
    if (last < 0) return this.push(new Uint8Array(piece));
    const own = this.#own;
    const used = this.#pieces[last]!.length;
    if (own !== undefined && used + piece.length <= own.length) {
      own.set(piece, used);
      this.#pieces[last] = own.subarray(0, used + piece.length);
      this.#bytes += piece.length;
      return;
    }
    const next = new Uint8Array(Math.max(GATHERED_BYTES, piece.length));
    next.set(piece);
    this.push(next.subarray(0, piece.length));
    this.#own = next;
  }

  /** Takes the first piece, or the first `max` bytes of it; `undefined` when nothing waits. */
  take(max = Infinity): Uint8Array | undefined {
    const first = this.#pieces[0];
    if (first === undefined) return undefined;
    if (this.#pieces.length === 1) this.#own = undefined; // what was given away is not written to
    const bytes = first.length <= max ? first : first.subarray(0, max);
    if (bytes === first) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(max);
    this.#bytes -= bytes.length;
    return bytes;
  }

  /** Forgets all that waits; returns how many bytes there were. */
  clear(): number {
    const bytes = this.#bytes;
    this.#pieces = [];
    this.#bytes = 0;
    this.#own = undefined;
    return bytes;
  }
}
