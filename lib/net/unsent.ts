/**
 * How much of the answers of a server waits in all its connections together for clients to read.
 *
 * A handler that hands over a whole body is over before its client has read that, and over HTTP/2 a
 * client may ask for a hundred of them and open no window. `sendMs` ends such a client in time; the
 * memory until then is bounded here: beyond a limit for all, connections are cut, first the one that
 * holds most and moves least.
 *
 * @module
 */
import type { Chunk } from "./chunks.ts";
import type { Clock } from "./clock.ts";

/** A connection whose client has to read. */
export interface UnsentHolder {
  /** How much of its answers waits, in bytes; the account's own. */
  unsentBytes: number;
  /** When its client last read something, or began to let something wait; on the clock. */
  movedAt: number;
  /** Cuts this connection: too much waits in all of them. */
  cutUnsent(): void;
}

/**
 * From so many bytes on, it is noticed that several answers are made of the same memory: a program
 * has that once, however many clients it is sent to.
 */
const SHARED_BYTES = 16 * 1024;

/** Counts what waits in all connections. */
export class Unsent {
  readonly #limitBytes: number;
  readonly #clock: Pick<Clock, "now">;
  readonly #holders = new Set<UnsentHolder>();
  /** How many chunks wait of each memory. */
  readonly #shared = new Map<ArrayBufferLike, number>();
  #bytes = 0;
  #looking = false;

  /** Counts against a limit in bytes; `Infinity` for none. */
  constructor(limitBytes: number, clock: Pick<Clock, "now">) {
    this.#limitBytes = limitBytes;
    this.#clock = clock;
  }

  /** How many bytes wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Counts a chunk that begins to wait; returns what it counts as: nothing where its memory is
   * counted already. Connections are cut in a microtask, so that no caller is cut under its feet.
   */
  add(holder: UnsentHolder, chunk: Chunk): number {
    let bytes = chunk.length;
    const memory = memoryOf(chunk);
    if (memory !== undefined) {
      const users = this.#shared.get(memory) ?? 0;
      this.#shared.set(memory, users + 1);
      if (users > 0) bytes = 0;
    }
    if (bytes === 0) return 0;
    this.#bytes += bytes;
    if (holder.unsentBytes === 0) {
      this.#holders.add(holder);
      this.moved(holder);
    }
    holder.unsentBytes += bytes;
    if (this.#bytes > this.#limitBytes && !this.#looking) {
      this.#looking = true;
      queueMicrotask(() => this.#cut());
    }
    return bytes;
  }

  /** Takes out a chunk that waits no more, and counted as so many bytes. */
  remove(holder: UnsentHolder, chunk: Chunk, bytes: number): void {
    const memory = memoryOf(chunk);
    if (memory !== undefined) {
      const users = this.#shared.get(memory)! - 1;
      if (users === 0) this.#shared.delete(memory);
      else this.#shared.set(memory, users);
    }
    if (bytes === 0) return;
    this.#bytes -= bytes;
    holder.unsentBytes -= bytes;
    if (holder.unsentBytes === 0) this.#holders.delete(holder);
  }

  /** A client has read something of what waits. */
  moved(holder: UnsentHolder): void {
    holder.movedAt = this.#clock.now();
  }

  #cut(): void {
    this.#looking = false;
    while (this.#bytes > this.#limitBytes) {
      const worst = this.#worst();
      if (worst === undefined) return;
      this.#holders.delete(worst);
      worst.cutUnsent();
    }
  }

  /** The holder with the most bytes times the time for which none of them has moved. */
  #worst(): UnsentHolder | undefined {
    const now = this.#clock.now();
    let worst: UnsentHolder | undefined;
    let most = -1;
    for (const holder of this.#holders) {
      const weight = holder.unsentBytes * (now - holder.movedAt + 1);
      if (weight <= most) continue;
      most = weight;
      worst = holder;
    }
    return worst;
  }
}

/** The memory that a chunk lies in, where that is worth knowing. */
function memoryOf(chunk: Chunk): ArrayBufferLike | undefined {
  return typeof chunk === "string" || chunk.length < SHARED_BYTES ? undefined : chunk.buffer;
}

/** What waits of one answer. */
export class UnsentAnswer {
  readonly #account: Unsent;
  readonly #holder: UnsentHolder;
  readonly #chunks: Chunk[] = [];
  readonly #counted: number[] = [];

  /** Begins with nothing, for an answer on the connection `holder`. */
  constructor(account: Unsent, holder: UnsentHolder) {
    this.#account = account;
    this.#holder = holder;
  }

  /** A chunk was handed over and waits; all of it counts until {@linkcode UnsentAnswer.clear}. */
  add(chunk: Chunk): void {
    this.#chunks.push(chunk);
    this.#counted.push(this.#account.add(this.#holder, chunk));
  }

  /** The client has read something of it. */
  moved(): void {
    this.#account.moved(this.#holder);
  }

  /** Nothing waits any more. */
  clear(): void {
    if (this.#chunks.length === 0) return;
    this.moved();
    for (const [i, chunk] of this.#chunks.entries()) {
      this.#account.remove(this.#holder, chunk, this.#counted[i]!);
    }
    this.#chunks.length = this.#counted.length = 0;
  }
}
