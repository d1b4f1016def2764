/**
 * One coarse clock for all deadlines of a server. Arming a deadline is the store of a number, so a
 * connection can move its deadline at every step without a timer of its own.
 *
 * @module
 */

/** Something that must not wait past `deadline`. */
export interface Waiting {
  /** When it ends, in ms on the `performance.now()` clock; `Infinity` for no deadline. */
  deadline: number;
  /** Called once the deadline has passed; moves or clears the deadline, or ends the thing. */
  expire(): void;
}

/** Watches many {@linkcode Waiting} things with one timer, which runs only while there are some. */
export class Deadlines {
  readonly #tickMs: number;
  readonly #watched = new Set<Waiting>();
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Makes a clock fine enough for the shortest of the given times (ms): late by an eighth at most. */
  constructor(timesMs: Iterable<number>) {
    this.#tickMs = Math.min(500, Math.max(5, Math.min(...timesMs) / 8));
  }

  /** How many things are watched. */
  get size(): number {
    return this.#watched.size;
  }

  /** Watches until {@linkcode Deadlines.unwatch} is called. */
  watch(waiting: Waiting): void {
    this.#watched.add(waiting);
    this.#timer ??= setInterval(() => this.#sweep(), this.#tickMs);
  }

  /** Watches no longer; unknown things are ignored. */
  unwatch(waiting: Waiting): void {
    this.#watched.delete(waiting);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #sweep(): void {
    const now = performance.now();
    for (const waiting of this.#watched) {
      if (waiting.deadline <= now) waiting.expire();
    }
  }
}

/** The `performance.now()` time that lies `ms` ahead; `Infinity` for a time of `Infinity` ms. */
export function after(ms: number): number {
  return performance.now() + ms;
}
