/**
 * The table of sessions: who is idle, in the order of last use, who goes when room is needed, and
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
 * Who goes first, see {@linkcode SessionTable.purge}; docs/deployment.md has it in words.
 *
 * @module
 */

/** What the table asks of a session. */
export interface TableSession {
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
export class SessionTable<S extends TableSession> {
  readonly #all = new Set<S>();
  /** Since when each is there or was last used, on the clock. */
  readonly #fresh = new Map<S, number>();
  readonly #used = new Map<S, number>();
  readonly #websockets = new Map<S, number>();
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
  get all(): ReadonlySet<S> {
    return this.#all;
  }

  /** How many sessions wait for their first request. */
  get fresh(): number {
    return this.#fresh.size;
  }

  /** Takes a session that waits for its first request. */
  add(session: S): void {
    this.#all.add(session);
    this.touch(session);
  }

  /** A request of the session is under way: it is not closed to make room. */
  busy(session: S): void {
    this.#fresh.delete(session);
    this.#used.delete(session);
  }

  /** Makes the session the most recently used one of its kind, unless it is busy or unknown. */
  touch(session: S): void {
    if (!this.#all.has(session) || session.busy) return;
    this.#forget(session); // a map keeps the order in which its entries were made
    this.#kindOf(session).set(session, this.#now());
  }

  /** Forgets a session that is over; returns whether it was known. */
  remove(session: S): boolean {
    if (!this.#all.delete(session)) return false;
    this.#forget(session);
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
      for (const session of this.#used.keys()) {
        if (!session.receiving && this.#close(session)) return true;
      }
      for (const session of this.#websockets.keys()) {
        if (this.#close(session)) return true;
      }
    }
    let next = Infinity;
    for (const [session, since] of this.#fresh) {
      if (session.receiving) continue;
      if (since + silentMs > now) {
        next = since + silentMs; // the others came later
        break;
      }
      if (this.#close(session)) return true;
    }
    for (const kind of [this.#fresh, this.#used]) {
      for (const [session, since] of kind) {
        if (since + startedMs > now) {
          next = Math.min(next, since + startedMs);
          break;
        }
        if (session.receiving && this.#close(session)) return true;
      }
    }
    return next;
  }

  /**
   * Closes the one that was used least recently of all that are inside no request, as the original
   * does; one with a part of a request only when there is no other. For a table in one line.
   */
  purgeLeastRecent(): boolean {
    const sessions = [...this.#used.keys()];
    const started = (session: S) => session.kind === "http" && session.receiving;
    return sessions.some((session) => !started(session) && this.#close(session)) ||
      sessions.some((session) => this.#close(session));
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

  #kindOf(session: S): Map<S, number> {
    if (this.#oneLine) return this.#used;
    if (session.kind !== "http") return this.#websockets;
    return session.requests > 0 ? this.#used : this.#fresh;
  }

  #close(session: S): boolean {
    if (!session.purge()) return false;
    this.#forget(session);
    return true;
  }

  #forget(session: S): void {
    this.busy(session);
    this.#websockets.delete(session);
  }
}
