/**
 * How often a client may do what costs this side more than it costs the client: resets, PINGs,
 * SETTINGS, empty frames. RFC 9113 allows each of them; a large number of them is an attack
 * (section 10.5).
 *
 * @module
 */
import type { Clock } from "../net/clock.ts";

/** How much may be done at once, and how fast it may be done again. */
export interface BudgetSize {
  /** How often at once. */
  readonly burst: number;
  /** How many times a second in the long run; may be `Infinity`. */
  readonly perSecond: number;
}

/** A token bucket: full at first, and filled again with time. */
export class Budget {
  readonly #size: BudgetSize;
  readonly #clock: Pick<Clock, "now">;
  #left: number;
  /** When `#left` was counted last, in ms; the clock is not asked before anything is spent. */
  #countedAt: number | undefined;

  /** Makes a full bucket. */
  constructor(size: BudgetSize, clock: Pick<Clock, "now">) {
    this.#size = size;
    this.#clock = clock;
    this.#left = size.burst;
  }

  /** Spends one; `false`: there was none left. */
  spend(): boolean {
    const { burst, perSecond } = this.#size;
    const now = this.#clock.now();
    const passed = now - (this.#countedAt ?? now);
    this.#countedAt = now;
    const more = perSecond === Infinity ? Infinity : passed * perSecond / 1000;
    this.#left = Math.min(burst, this.#left + more);
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
