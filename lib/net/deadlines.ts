/**
 * One coarse timer for all deadlines of a server. Arming a deadline is the store of a number, so a
 * connection can move its deadline at every step without a timer of its own.
 *
 * No deadline expires because of bytes that this process has not read yet: between the sweep that
 * finds a deadline passed and the call of `expire()` the sockets are read once more. A sweep that
 * is late itself, because something has held up the event loop, leaves whatever it finds to the
 * next sweep.
 *
 * @module
 */
import { type Clock, systemClock } from "./clock.ts";

/** Something that must not wait past `deadline`. */
export interface Waiting {
  /** When it ends, in ms on the clock of its {@linkcode Deadlines}; `Infinity` for no deadline. */
  deadline: number;
  /** Called once the deadline has passed; moves or clears the deadline, or ends the thing. */
  expire(): void;
}

/** A sweep is late that comes after so many times the time between two. */
const LATE = 1.5;

/** Watches many {@linkcode Waiting} things with one timer, which runs only while there are some. */
export class Deadlines {
  /** The clock that deadlines are times of. */
  readonly clock: Clock;
  readonly #tickMs: number;
  readonly #watched = new Set<Waiting>();
  /** The deadlines that the last sweep found passed and left to the next, since it was late. */
  #spared = new Map<Waiting, number>();
  #sweptAt = 0;
  #stop: (() => void) | undefined;

  /** Makes a clock fine enough for the shortest of the given times (ms): late by an eighth at most. */
  constructor(timesMs: Iterable<number>, clock: Clock = systemClock) {
    this.#tickMs = Math.min(500, Math.max(5, Math.min(...timesMs) / 8));
    this.clock = clock;
  }

  /** How many things are watched. */
  get size(): number {
    return this.#watched.size;
  }

  /** The time that lies `ms` ahead; `Infinity` for a time of `Infinity` ms. */
  after(ms: number): number {
    return this.clock.now() + ms;
  }

  /** Watches until {@linkcode Deadlines.unwatch} is called. */
  watch(waiting: Waiting): void {
    this.#watched.add(waiting);
    if (this.#stop !== undefined) return;
    this.#sweptAt = this.clock.now();
    this.#stop = this.clock.every(this.#tickMs, () => this.#sweep());
  }

  /** Stops watching; unknown things are ignored. */
  unwatch(waiting: Waiting): void {
    this.#watched.delete(waiting);
    if (this.#watched.size > 0) return;
    this.#stop?.();
    this.#stop = undefined;
    this.#spared.clear();
  }

  #sweep(): void {
    const now = this.clock.now();
    const late = now - this.#sweptAt > LATE * this.#tickMs;
    this.#sweptAt = now;
    const due: Waiting[] = [];
    const spared = new Map<Waiting, number>();
    for (const waiting of this.#watched) {
      const { deadline } = waiting;
      if (deadline > now) continue;
      if (late && this.#spared.get(waiting) !== deadline) spared.set(waiting, deadline);
      else due.push(waiting);
    }
    this.#spared = spared;
    if (due.length > 0) this.clock.afterReading(() => this.#judge(due, now));
  }

  #judge(due: readonly Waiting[], now: number): void {
    for (const waiting of due) {
      if (waiting.deadline <= now && this.#watched.has(waiting)) waiting.expire();
    }
  }
}
