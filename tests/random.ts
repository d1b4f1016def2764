/**
 * Chance that can be repeated: the same numbers for the same seed, on both runtimes.
 *
 * @module
 */

/** Numbers that look random (Marsaglia's xorshift32). */
export class Random {
  #state: number;

  /** Begins with `seed`, of which the lowest 32 bits count. */
  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) | 0 || 1;
    for (let i = 0; i < 8; i++) this.next(); // so that seeds that differ by 1 begin far apart
  }

  /** A whole number from 0 to 2^32 - 1. */
  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }

  /** A whole number from 0 up to but not including `limit`, which is 1 or more. */
  readonly below = (limit: number): number => this.next() % limit;

  /** A number from 0 up to but not including 1. */
  readonly fraction = (): number => this.next() / 2 ** 32;

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  /** One of the values. */
  pick<T>(values: ArrayLike<T>): T {
    return values[this.below(values.length)]!;
  }
}
