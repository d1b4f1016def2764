/**
 * The table of sessions: which are idle, in the order of last use, which goes when room is needed, and
 * when the last one has ended (original: `lru_purge_enable`, `httpd_sess_close_lru`).
 *
 * Each session is in one of four states; only the server moves it:
 *
 * ```
 * add ─→ fresh ──busy──→ busy ──idle──→ used ──busy──→ busy …
 *                          └──touch, once it is a WebSocket──→ websocket
 * any ──remove──→ gone
 * ```
 *
 * Which goes first, see {@linkcode SessionTable.purge}; docs/deployment.md has it in words.
 *
 * @module
 */

/** What the table asks of the driver of a session. */
export interface TableDriver {
  /** The session, as users see it. */
  readonly session: object;
  /** What is spoken: `http`, or `websocket`. */
  readonly kind: string;
  /** Whether a request is under way. */
  readonly busy: boolean;
  /** Whether a part of a request has come that no handler has yet. */
  readonly receiving: boolean;
  /** How many requests have come. */
  readonly requests: number;
  /** Closes the session at once, with a short goodbye; `false` when it cannot or does already. */
  purge(): boolean;
}

/** How {@linkcode SessionTable.purge} chooses. */
export interface PurgeRules {
  /** The time now. */
  readonly now: number;
  /** How long a session is left alone that has sent nothing yet, in ms. */
  readonly silentMs: number;
  /** How long one is left alone that has sent a part of its request, in ms. */
  readonly startedMs: number;
  /** Whether sessions may go that have had a request: used idle ones, and WebSockets. */
  readonly used: boolean;
}

/** Sessions by what they do, each kind with the least recently used one first. */
export class SessionTable<D extends TableDriver> {
  readonly #all = new Set<D["session"]>();
  /** Since when each is there or was last used, on the clock. */
  readonly #fresh = new Map<D, number>();
  readonly #used = new Map<D, number>();
  readonly #websockets = new Map<D, number>();
  readonly #now: () => number;
  readonly #oneLine: boolean;
  #emptied: (() => void) | undefined;

  /**
   * Makes an empty table. `now` is the clock (ms); `oneLine` is the original's order: all that are
   * idle in one line.
   */
  constructor({ now, oneLine }: { readonly now: () => number; readonly oneLine: boolean }) {
    this.#now = now;
    this.#oneLine = oneLine;
  }

  /** Every session, in the order in which they came. */
  get all(): ReadonlySet<D["session"]> {
    return this.#all;
  }

  /** How many sessions wait for their first request. */
  get fresh(): number {
    return this.#fresh.size;
  }

  /** Takes a session that waits for its first request. */
  add(driver: D): void {
    this.#all.add(driver.session);
    this.touch(driver);
  }

  /** Takes another driver for a session that is known: its first bytes have shown what it speaks. */
  replace(driver: D, by: D): void {
    this.#forget(driver);
    this.touch(by);
  }

  /** A request of the session is under way: it is not closed to make room. */
  busy(driver: D): void {
    this.#fresh.delete(driver);
    this.#used.delete(driver);
  }

  /** Makes the session the most recently used one of its kind, unless it is busy or unknown. */
  touch(driver: D): void {
    if (driver.busy || !this.#all.has(driver.session)) return;
    this.#forget(driver); // a map keeps the order in which its entries were made
    this.#kindOf(driver).set(driver, this.#now());
  }

  /** Forgets a session that is over; returns whether it was known. */
  remove(driver: D): boolean {
    if (!this.#all.delete(driver.session)) return false;
    this.#forget(driver);
    if (this.#all.size === 0) this.#emptied?.();
    return true;
  }

  /**
   * Closes one session to make room: of those that have had a request the one that was used least
   * recently, keep-alive connections before WebSockets; then the oldest that has sent nothing in
   * its time, then the oldest with a part of a request. Never one inside a request.
   *
   * @returns `true`, or when to ask again; `Infinity`: no session
   * will do until one becomes idle
   */
  purge({ now, silentMs, startedMs, used }: PurgeRules): true | number {
    if (used) {
      for (const driver of this.#used.keys()) {
        if (!driver.receiving && this.#close(driver)) return true;
      }
      for (const driver of this.#websockets.keys()) {
        if (this.#close(driver)) return true;
      }
    }
    let next = Infinity;
    for (const [driver, since] of this.#fresh) {
      if (driver.receiving) continue;
      if (since + silentMs > now) {
        next = since + silentMs; // the others came later
        break;
      }
      if (this.#close(driver)) return true;
    }
    for (const kind of [this.#fresh, this.#used]) {
      for (const [driver, since] of kind) {
        if (since + startedMs > now) {
          next = Math.min(next, since + startedMs);
          break;
        }
        if (driver.receiving && this.#close(driver)) return true;
      }
    }
    return next;
  }

  /**
   * Closes the one that was used least recently of all that are inside no request, as the original
   * does; one with a part of a request only when there is no other. For a table in one line.
   */
  purgeLeastRecent(): boolean {
    const drivers = [...this.#used.keys()];
    const started = (driver: D) => driver.kind === "http" && driver.receiving;
    return drivers.some((driver) => !started(driver) && this.#close(driver)) ||
      drivers.some((driver) => this.#close(driver));
  }

  /** Whether the last session has ended in time (ms). */
  emptyWithin(ms: number): Promise<boolean> {
    if (this.#all.size === 0) return Promise.resolve(true);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), ms);
    this.#emptied = () => {
      clearTimeout(timer);
      resolve(true);
    };
    return promise;
  }

  #kindOf(driver: D): Map<D, number> {
    if (this.#oneLine) return this.#used;
    if (driver.kind !== "http") return this.#websockets;
    return driver.requests > 0 ? this.#used : this.#fresh;
  }

  #close(driver: D): boolean {
    if (!driver.purge()) return false;
    this.#forget(driver);
    return true;
  }

  #forget(driver: D): void {
    this.busy(driver);
    this.#websockets.delete(driver);
  }
}
