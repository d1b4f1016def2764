/**
 * The time that renewals go by; tests put one of their own in its place.
 *
 * @module
 */
import { clearTimeout, setTimeout } from "node:timers";

/** What the renewal of certificates knows of time. */
export interface Clock {
  /** The time now, in ms since 1970. */
  now(): number;
  /** Calls `run` once in `ms` milliseconds, unless the function that it returns is called before. */
  after(ms: number, run: () => void): () => void;
}

/** The system's time. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
