/**
 * How far this process has read: a client may be cut for its silence only if this process has read
 * what it sent. After a stall of the event loop, or in a burst, what clients have sent waits unread.
 *
 * @module
 */
import type { Clock } from "./clock.ts";

/** Knows a time such that everything that had come by then has been read. */
export class ReadMark {
  readonly #clock: Clock;
  readonly #moved: () => void;
  #time = -Infinity;
  #moving = false;

  /** Makes a mark that was never moved; `moved` is called after each {@linkcode ReadMark.move}. */
  constructor(clock: Clock, moved: () => void) {
    this.#clock = clock;
    this.#moved = moved;
  }

  /** The time, on the clock; `-Infinity` before the mark was moved. */
  get time(): number {
    return this.#time;
  }

  /** Moves the mark to the time that is now, once what has come by now has been read. */
  move(): void {
    if (this.#moving) return;
    this.#moving = true;
    const now = this.#clock.now();
    this.#clock.afterReading(() => {
      this.#moving = false;
      this.#time = now;
      this.#moved();
    });
  }
}
