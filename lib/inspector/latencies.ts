/**
 * How long requests took, as a histogram whose buckets are a tenth wide: small whatever comes, and
 * several can be added up.
 *
 * @module
 */

const LEAST_MS = 0.01;
const GROWTH = 1.1;
const LOG_GROWTH = Math.log(GROWTH);
const BUCKETS = 240; // up to most of a day

/** A histogram of durations. */
export class Latencies {
  /** How many there are. */
  total = 0;
  #counts: Uint32Array | undefined; // most seconds of a quiet server have none

  /** Adds a duration in ms. */
  add(ms: number): void {
    this.#counts ??= new Uint32Array(BUCKETS);
    this.#counts[bucketOf(ms)]!++;
    this.total++;
  }

  /** Adds those of another. */
  addAll(others: Latencies): void {
    if (others.#counts === undefined) return;
    const counts = this.#counts ??= new Uint32Array(BUCKETS);
    others.#counts.forEach((count, bucket) => counts[bucket]! += count);
    this.total += others.total;
  }

  /** The duration, in ms, that this part (0 to 1) of all did not exceed; `undefined`: there are none. */
  quantile(part: number): number | undefined {
    if (this.#counts === undefined) return undefined;
    let left = Math.max(1, Math.ceil(part * this.total));
    const bucket = this.#counts.findIndex((count) => (left -= count) <= 0);
    return LEAST_MS * GROWTH ** bucket;
  }
}

/** The first bucket whose upper end is not below a duration. */
function bucketOf(ms: number): number {
  if (!(ms > LEAST_MS)) return 0;
  return Math.min(BUCKETS - 1, Math.ceil(Math.log(ms / LEAST_MS) / LOG_GROWTH));
}
