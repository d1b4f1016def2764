/**
 * A clock that goes as a test says, for deadlines that are minutes long or must not come by chance.
 *
 * @module
 */
import { type Clock, systemClock } from "../lib/net/clock.ts";
import { until } from "./support.ts";

interface Timer {
  readonly ms: number;
  readonly tick: () => void;
  due: number;
}

/** A clock that does not go by itself. */
export class TestClock implements Clock {
  #now = 1_000_000;
  readonly #timers = new Set<Timer>();
  /** What waits for the sockets to be read, as a stalled process's sockets are. */
  #reading: Promise<void> = Promise.resolve();

  /** How many timers run. */
  get timers(): number {
    return this.#timers.size;
  }

  now(): number {
    return this.#now;
  }

  every(ms: number, tick: () => void): () => void {
    const timer = { ms, tick, due: this.#now + ms };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  afterReading(then: () => void): void {
    const read = new Promise<void>((resolve) => systemClock.afterReading(resolve));
    this.#reading = Promise.all([this.#reading, read]).then(then);
  }

  /** Goes on by `ms`, with every tick in its time; resolves when all that was due has expired. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (let timer = this.#next(end); timer !== undefined; timer = this.#next(end)) {
      this.#now = timer.due;
      timer.due += timer.ms;
      timer.tick();
      await this.#reading;
    }
    this.#now = end;
  }

  /** Goes on, 50 ms at a time, until `condition` holds; fails with `what` as `until()` does. */
  async until(condition: () => boolean, what: string): Promise<void> {
    await until(async () => condition() || (await this.advance(50), condition()), what);
  }

  /** Goes on by `ms` as in a process that was held up: all ticks are late, and come as one. */
  async stall(ms: number): Promise<void> {
    this.#now += ms;
    for (const timer of this.#timers) {
      timer.due = this.#now + timer.ms;
      timer.tick();
    }
    await this.#reading;
  }

  #next(end: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.due <= end && (next === undefined || timer.due < next.due)) next = timer;
    }
    return next;
  }
}
