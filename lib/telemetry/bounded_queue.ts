/**
 * Hands what is logged to a sink that may be slow or stuck: nothing waits for the sink, what waits
 * is bounded, and what does not fit is dropped and counted.
 *
 * @module
 */
import { contain } from "../contain/callbacks.ts";
import { inNextTurn } from "../runtime/turn.ts";

/**
 * How long items are gathered before they are delivered, in ms. Not until the next turn of the event
 * loop: under load a turn has few items, and to ask for each turn costs more than the items.
 */
export const GATHER_MS = 50;

/** With so much of what may wait, they are delivered in the next turn. */
const HURRY_PART = 1 / 4;

/** What a queue delivers to, and how much may wait. */
export interface BoundedQueueOptions {
  /** The most that may wait or be on its way, in the units of `takes()`. */
  readonly max: number;
  /**
   * Takes all that has gathered, for a moment, or while the calls before went on. Each call that it
   * gives delivers a part of that; what one throws or rejects with costs no other part.
   */
  take(): readonly (() => unknown)[];
  /** Reports what a call threw or rejected with; once until one succeeds again. */
  failed(cause: unknown): void;
}

/** Counts what waits for one sink, and has it delivered; what it is, its owner keeps. */
export class BoundedQueue {
  /** How many items were delivered. */
  delivered = 0;
  /** How many were dropped, since too much waited. */
  dropped = 0;
  /** How many were lost, since what delivers them failed. */
  failed = 0;
  readonly #options: BoundedQueueOptions;
  /** How many items wait, and are not on their way. */
  #waiting = 0;
  #size = 0;
  /** Whether a delivery is scheduled or under way. */
  #isDelivering = false;
  /** Runs until what has gathered is delivered. */
  #gathering: ReturnType<typeof setTimeout> | undefined;
  #isFailing = false;
  #emptied: (() => void)[] = [];

  /** Makes an empty queue. */
  constructor(options: BoundedQueueOptions) {
    this.#options = options;
  }

  /** How much waits or is on its way. */
  get size(): number {
    return this.#size;
  }

  /** Whether there is room for an item of this size, which then waits; else it is dropped. */
  takes(size: number): boolean {
    const { max } = this.#options;
    if (this.#size + size > max) {
      this.dropped++;
      return false;
    }
    this.#size += size;
    this.#waiting++;
    if (!this.#isDelivering) {
      this.#isDelivering = true;
      this.#gathering = setTimeout(this.#deliverGathered, GATHER_MS);
    }
    if (this.#size > max * HURRY_PART) this.#hurry();
    return true;
  }

  /** Resolves when nothing waits any more. */
  async flushed(): Promise<void> {
    if (!this.#isDelivering) return;
    this.#hurry();
    await new Promise<void>((resolve) => this.#emptied.push(resolve));
  }

  /** Delivers in the next turn. */
  #hurry(): void {
    if (this.#gathering === undefined) return;
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    inNextTurn(this.#deliverGathered);
  }

  readonly #deliverGathered = (): void => {
    this.#gathering = undefined;
    void this.#deliverAll();
  };

  async #deliverAll(): Promise<void> {
    while (this.#waiting > 0) {
      const [count, size] = [this.#waiting, this.#size];
      this.#waiting = 0;
      const calls = this.#options.take();
      for (const call of calls) await this.#deliver(call, count / calls.length);
      this.#size -= size; // what came meanwhile waits still
    }
    this.#isDelivering = false;
    for (const resolve of this.#emptied.splice(0)) resolve();
  }

  async #deliver(call: () => unknown, count: number): Promise<void> {
    try {
      await call();
      this.delivered += count;
      this.#isFailing = false;
    } catch (cause) {
      this.failed += count;
      if (this.#isFailing) return;
      this.#isFailing = true;
      contain(() => this.#options.failed(cause), console.error);
    }
  }
}
