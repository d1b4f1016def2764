/**
 * Where requests are counted: the interface, and the store in this process's memory.
 *
 * @module
 */
import { checkOptions, many, members } from "../options.ts";

/** How many requests of one client there were in its window. */
export interface RateLimitCount {
  /** The requests, this one included. */
  readonly count: number;
  /** How long the window lasts still, in ms. */
  readonly resetMs: number;
}

/** Counts requests by key. */
export interface RateLimitStore {
  /**
   * Counts one request. The first for a key begins its window of `windowMs`; what comes after the
   * window begins another. Rejects when it cannot count.
   */
  hit(key: string, windowMs: number): RateLimitCount | Promise<RateLimitCount>;
}

/** The options of {@linkcode memoryStore}. */
export interface MemoryStoreOptions {
  /**
   * How many clients are counted at a time; beyond it, the one whose last request is oldest is
   * forgotten. Default: 100,000, some 20 MB.
   */
  readonly maxKeys?: number;
}

const OPTIONS = members({ maxKeys: many(100_000) });

/**
 * Makes a store in this process's memory, which other processes do not know.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function memoryStore(options: MemoryStoreOptions = {}): RateLimitStore {
  return new MemoryStore(checkOptions("memoryStore()", OPTIONS, options).maxKeys);
}

interface Window {
  count: number;
  readonly endsAt: number;
}

/** Counts in memory. */
export class MemoryStore implements RateLimitStore {
  /** The one whose last request is oldest is first. */
  readonly #windows = new Map<string, Window>();
  readonly #maxKeys: number;
  readonly #now: () => number;

  /** Makes a store of `maxKeys` clients; `now` is a clock in ms that never goes back. */
  constructor(maxKeys: number, now: () => number = () => performance.now()) {
    this.#maxKeys = maxKeys;
    this.#now = now;
  }

  /** How many clients are known. */
  get size(): number {
    return this.#windows.size;
  }

  /** Counts one request. */
  hit(key: string, windowMs: number): RateLimitCount {
    const now = this.#now();
    const known = this.#windows.get(key);
    const window = known !== undefined && known.endsAt > now
      ? known
      : { count: 0, endsAt: now + windowMs };
    window.count++;
    this.#windows.delete(key);
    this.#windows.set(key, window);
    if (this.#windows.size > this.#maxKeys) {
      this.#windows.delete(this.#windows.keys().next().value!);
    }
    return { count: window.count, resetMs: window.endsAt - now };
  }
}
