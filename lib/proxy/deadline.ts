/**
 * A deadline that is often moved.
 *
 * @module
 */

/** One wait at a time. */
export class Deadline {
  readonly #expired: () => void;
  #ms = Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Makes a deadline that calls `expired`. */
  constructor(expired: () => void) {
    this.#expired = expired;
  }

  /** Begins to wait for `ms`. */
  set(ms: number): void {
    this.#ms = ms;
    this.renew();
  }

  /** Waits as long again, from now on. */
  renew(): void {
    clearTimeout(this.#timer);
    if (this.#ms !== Infinity) this.#timer = setTimeout(this.#expired, this.#ms);
  }

  /** Does not wait until it is renewed. */
  pause(): void {
    clearTimeout(this.#timer);
  }

  /** Waits no longer. */
  clear(): void {
    this.pause();
    this.#ms = Infinity;
  }
}
