/**
 * How many received bytes wait unread in all connections of a server together.
 *
 * Each connection stops its socket by itself when much waits. That bounds one connection, not ten
 * thousand: so beyond a limit for all of them each is stopped much earlier, and at twice the limit
 * the one that was stopped first is cut.
 *
 * @module
 */

/** A connection that is stopped, since its bytes are not taken. */
export interface Holder {
  /** Cuts this connection: too much waits in all of them, and here for the longest time. */
  cutUnread(): void;
}

/** Counts what waits in all connections. */
export class Unread {
  readonly #limitBytes: number;
  #bytes = 0;
  /** In the order in which they were stopped. */
  readonly #stopped = new Set<Holder>();

  /** Counts against a limit in bytes; `Infinity` for none. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** How many bytes wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the limit is reached. */
  get scarce(): boolean {
    return this.#bytes >= this.#limitBytes;
  }

  /** So many bytes more wait, or less. */
  add(bytes: number): void {
    this.#bytes += bytes;
  }

  /** A connection was stopped. */
  stopped(holder: Holder): void {
    this.#stopped.add(holder);
    for (const longest of this.#stopped) {
      if (this.#bytes < 2 * this.#limitBytes) return;
      longest.cutUnread();
    }
  }

  /** A connection goes on, or is over. */
  started(holder: Holder): void {
    this.#stopped.delete(holder);
  }
}
