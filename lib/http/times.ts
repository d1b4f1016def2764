/**
 * How long a client may take for what every version of HTTP waits for.
 *
 * @module
 */

/** How long each thing may take, in ms. */
export interface TimeLimits {
  /** From one request to the first byte of the next. */
  readonly idleMs: number;
  /** From the first byte of a head to its end. */
  readonly headersMs: number;
  /** From the first byte of a request to the last of its body; also while no handler takes it. */
  readonly requestMs: number;
  /** From one byte of a body to the next, while the body is waited for. */
  readonly receiveMs: number;
  /** How long a write waits for the client to read. */
  readonly sendMs: number;
  /** How long an answer may pause whose client has ended its side: it has left, most likely. */
  readonly lingerMs: number;
}

/** What else ends a wait. */
export interface PaceLimits {
  /** How fast a body must come while it is waited for; 0 for any speed. */
  readonly minBodyBytesPerSecond: number;
  /** After so long, in ms, no further request is waited for, nor that a handler takes what waits. */
  readonly maxConnectionAgeMs: number;
}

/** A body may be slower than `minBodyBytesPerSecond` for so long. */
const RATE_GRACE_MS = 5_000;

/** How long one body has been waited for, and until when it may be. */
export class BodyTime {
  /** When the request began; one whose head came whole begins with its body. */
  requestAt: number | undefined;
  /** How much of the body has come. */
  bytes = 0;
  /** For how long it was waited for, in ms. */
  waitedMs = 0;

  /** Until when the next piece of it is waited for, from now on. */
  deadline(timeouts: TimeLimits, limits: PaceLimits, now: number): number {
    return Math.min(
      now + timeouts.receiveMs,
      (this.requestAt ??= now) + timeouts.requestMs,
      now + this.#patienceMs(limits),
    );
  }

  /** How long it may still be waited for at its speed so far. */
  #patienceMs({ minBodyBytesPerSecond }: PaceLimits): number {
    if (minBodyBytesPerSecond === 0) return Infinity;
    return RATE_GRACE_MS + this.bytes * 1000 / minBodyBytesPerSecond - this.waitedMs;
  }
}
