/**
 * Hands what is logged to a sink that may be slow or stuck: nothing waits for the sink, what waits
 * is bounded, and what does not fit is dropped and counted.
 *
 * @module
 */
import { contain } from "../contain/callbacks.ts";
import { inNextTurn } from "../runtime/turn.ts";

/** What a queue delivers to, and how much may wait. */
export interface BoundedQueueOptions<T> {
  /** The most that may wait or be on its way, in the units of `push()`. */
  readonly max: number;
  /** Takes what has gathered in one turn of the event loop, or while the call before went on. */
  deliver(items: readonly T[]): unknown;
  /** Reports that `deliver` threw or rejected; once until it succeeds again. */
  failed(cause: unknown): void;
}

/** The queue before one sink. */
export class BoundedQueue<T> {
  /** How many items were delivered. */
  delivered = 0;
  /** How many were dropped, since too much waited. */
  dropped = 0;
  /** How many were lost, since `deliver` failed. */
  failed = 0;
  readonly #options: BoundedQueueOptions<T>;
  #items: T[] = [];
  #size = 0;
  #isDelivering = false;
  #isFailing = false;
  #emptied: (() => void)[] = [];

  /** Makes an empty queue. */
  constructor(options: BoundedQueueOptions<T>) {
    this.#options = options;
  }

  /** How much waits or is on its way. */
  get size(): number {
    return this.#size;
  }

  /** Takes an item of this size, or drops it. */
  push(item: T, size: number): void {
    if (this.#size + size > this.#options.max) {
      this.dropped++;
      return;
    }
    this.#size += size;
    this.#items.push(item);
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    inNextTurn(() => void this.#deliverAll());
  }

  /** Resolves when nothing waits any more. */
  async flushed(): Promise<void> {
    if (this.#isDelivering) await new Promise<void>((resolve) => this.#emptied.push(resolve));
  }

  async #deliverAll(): Promise<void> {
    while (this.#items.length > 0) {
      const [items, size] = [this.#items, this.#size];
      this.#items = [];
      await this.#deliver(items);
      this.#size -= size; // what came meanwhile waits still
    }
    this.#isDelivering = false;
    for (const resolve of this.#emptied.splice(0)) resolve();
  }

  async #deliver(items: readonly T[]): Promise<void> {
    try {
      await this.#options.deliver(items);
      this.delivered += items.length;
      this.#isFailing = false;
    } catch (cause) {
      this.failed += items.length;
      if (this.#isFailing) return;
      this.#isFailing = true;
      contain(() => this.#options.failed(cause), console.error);
    }
  }
}
