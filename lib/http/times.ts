/**
 * How long a client may take for what every version of HTTP waits for.
 *
 * @module
 */

/** How long each thing may take, in ms unless said otherwise. */
export interface TimeLimits {
  /** From one request to the first byte of the next. */
  readonly idleTimeoutMs: number;
  /** From the first byte of a head to its end. */
  readonly headersTimeoutMs: number;
  /** From the first byte of a request to the last of its body; also while no handler takes it. */
  readonly requestTimeoutMs: number;
  /** From one byte of a body to the next, while the body is waited for. */
  readonly recvWaitTimeoutMs: number;
  /** How fast a body must come while it is waited for, in bytes per second; 0 for any speed. */
  readonly minBodyRate: number;
  /** How long a write waits for the client to read. */
  readonly sendWaitTimeoutMs: number;
  /** How long an answer may pause whose client has ended its side: it has left, most likely. */
  readonly lingerMs: number;
  /** After so long no further request is waited for, nor that a handler takes what waits. */
  readonly maxConnectionAgeMs: number;
}

/** A body may be slower than `minBodyRate` for so long. */
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
  deadline(limits: TimeLimits, now: number): number {
    return Math.min(
      now + limits.recvWaitTimeoutMs,
      (this.requestAt ??= now) + limits.requestTimeoutMs,
      now + this.#patienceMs(limits),
    );
  }

  /** How long it may still be waited for at its speed so far. */
  #patienceMs({ minBodyRate }: TimeLimits): number {
    if (minBodyRate === 0) return Infinity;
    return RATE_GRACE_MS + this.bytes * 1000 / minBodyRate - this.waitedMs;
  }
}
