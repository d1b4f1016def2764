/**
 * The time that deadlines are measured by; tests put one of their own in its place.
 *
 * @module
 */

/** What deadlines know of time. */
export interface Clock {
  /** The time now, in ms; it never goes back. */
  now(): number;
  /** Calls `tick` every `ms` milliseconds until the function that it returns is called. */
  every(ms: number, tick: () => void): () => void;
  /** Calls `then` once what had come on the sockets by now has been read. */
  afterReading(then: () => void): void;
}

/** The system's time: `performance.now()`. */
export const systemClock: Clock = {
  now: () => performance.now(),
  every(ms, tick) {
    const timer = setInterval(tick, ms);
    return () => clearInterval(timer);
  },
  // Not setImmediate(): Deno runs dozens of those before it looks at its sockets again.
  afterReading: (then) => void setTimeout(then, 0),
};
