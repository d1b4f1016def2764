/**
 * The memory in which several writes are put together into one, used again and again: new memory for
 * each slice that leaves costs a fast connection more than the copying.
 *
 * A slab is used again only when the wire that was given it last has let go of all that was written
 * to it: the callback of a stream's last write was called.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Chunk, copyInto, join } from "./chunks.ts";

/** How much is put together at the most, in bytes. */
export const SLAB_BYTES: number = 64 * 1024;
/** What is shorter comes out of Node's pool, or costs little. */
const MIN_BYTES = 4 * 1024;
/** How many slabs are kept; where all are in use, there is new memory. */
const MAX_SLABS = 8;

/** What memory is given to, as far as that shows whether it is still read. */
export interface Holder {
  /** How many written bytes wait in this process. */
  readonly bufferedBytes: number;
  /** Whether the memory of what was written is never read again once no bytes wait. */
  readonly letsGo: boolean;
}

interface Slab {
  readonly memory: Buffer;
  holder: Holder;
}

const FREE: Holder = { bufferedBytes: 0, letsGo: true };

/** Slabs that connections share. */
export class Slabs {
  readonly #slabs: Slab[] = [];

  /** Puts chunks together, `length` bytes in all and at most {@linkcode SLAB_BYTES}, for `holder`. */
  join(chunks: readonly Chunk[], length: number, holder: Holder): Uint8Array {
    if (length < MIN_BYTES || !holder.letsGo) return join(chunks, length);
    const memory = this.#memoryFor(holder);
    if (memory === undefined) return join(chunks, length);
    copyInto(memory, chunks);
    return memory.subarray(0, length);
  }

  /** Takes back what a holder was given that is over; what it may still read is not used again. */
  end(holder: Holder): void {
    for (let i = this.#slabs.length - 1; i >= 0; i--) {
      const slab = this.#slabs[i]!;
      if (slab.holder !== holder) continue;
      if (holder.bufferedBytes === 0) slab.holder = FREE;
      else this.#slabs.splice(i, 1);
    }
  }

  #memoryFor(holder: Holder): Buffer | undefined {
    for (const slab of this.#slabs) {
      if (slab.holder.bufferedBytes > 0) continue;
      slab.holder = holder;
      return slab.memory;
    }
    if (this.#slabs.length === MAX_SLABS) return undefined;
    const memory = Buffer.allocUnsafeSlow(SLAB_BYTES); // what is handed out was written
    this.#slabs.push({ memory, holder });
    return memory;
  }
}

/** The slabs of this process. */
export const slabs: Slabs = new Slabs();
