/**
 * Work that is done between requests, in the order it was given (original: `httpd_queue_work`).
 *
 * @module
 */
import { StateError } from "../errors.ts";

/** A bounded queue of functions, each begun in its turn after the current event. */
export class WorkQueue {
  readonly #max: number;
  #waiting: (() => void)[] = [];

  /** Makes a queue in which at most `max` functions wait. */
  constructor(max: number) {
    this.#max = max;
  }

  /** How many functions wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /**
   * Runs `work` after those given before it have begun; resolves with its result, or rejects with
   * what it throws. What was accepted is run.
   *
   * @throws {StateError} `QUEUE_FULL`
   */
  queue<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.#waiting.length >= this.#max) {
      const error = new StateError(
        "QUEUE_FULL",
        `${this.#max} functions wait: raise limits.maxQueuedWork`,
      );
      return Promise.reject(error);
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#waiting.push(() => {
      try {
        resolve(work());
      } catch (error) {
        reject(error);
      }
    });
    if (this.#waiting.length === 1) setTimeout(() => this.#run(), 0);
    return promise;
  }

  /** Runs what waits now; what it queues itself waits for the next turn. */
  #run(): void {
    const turn = this.#waiting;
    this.#waiting = [];
    for (const work of turn) work();
  }
}
