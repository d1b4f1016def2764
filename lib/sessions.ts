/**
 * The table of sessions: which are idle, in the order of last use, which one is closed when room is
 * needed, and when the last one has ended (original: `lru_purge_enable`, `httpd_sess_close_lru`).
 *
 * Each session is in one of four states; only the server moves it:
 *
 * ```
 * add ─→ fresh ──busy──→ busy ──idle──→ used ──busy──→ busy …
 *                          └──touch, once it is a WebSocket──→ websocket
 * any ──remove──→ gone
 * ```
 *
 * {@linkcode SessionTable.purge} says which is closed first; docs/deployment.md explains it.
 *
 * @module
 */
import { Line, LineEntry } from "./line.ts";

/** What the table needs of the driver of a session, `D`. */
export interface TableDriver<D> {
  /** The session, as users see it. */
  readonly session: object;
  /** What the table knows of it, and writes; `undefined` while it is not in the table. */
  entry: LineEntry<D> | undefined;
  /** What is spoken: `http`, or `websocket`. */
  readonly kind: string;
  /** Whether a request is under way. */
  readonly busy: boolean;
  /** Whether a part of a request has come that no handler has yet. */
  readonly receiving: boolean;
  /** How many requests have come. */
  readonly requests: number;
  /**
   * Closes the session at once, gracefully but in a short time; `false` when it cannot, or is
   * closing already.
   */
  purge(): boolean;
}

/** How {@linkcode SessionTable.purge} chooses. */
export interface PurgeRules {
  /** The time now. */
  readonly now: number;
  /** How long a session that has sent nothing yet is safe, in ms. */
  readonly silentMs: number;
  /** How long one that has sent a part of its request is safe, in ms. */
  readonly startedMs: number;
  /** Whether sessions that have had a request may be closed: used idle ones, and WebSockets. */
  readonly used: boolean;
}

/** Sessions by what they do, each kind with the least recently used one first. */
export class SessionTable<D extends TableDriver<D>> {
  readonly #all = new Set<D["session"]>();
  // An entry has since when, on the clock, its driver is there or was last used.
  readonly #fresh = new Line<D>();
  readonly #used = new Line<D>();
  readonly #websockets = new Line<D>();
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
    driver.entry = new LineEntry(driver);
    this.touch(driver);
  }

  /** Takes another driver for a session that is known: its first bytes have shown what it speaks. */
  replace(driver: D, by: D): void {
    const { entry } = driver;
    if (entry === undefined) return;
    driver.entry = undefined;
    by.entry = entry;
    entry.owner = by;
    entry.leave();
    this.touch(by);
  }

  /** A request of the session is under way: it is not closed to make room. */
  busy({ entry }: D): void {
    entry?.leave();
  }

  /** Makes the session the most recently used one of its kind, unless it is busy or unknown. */
  touch(driver: D): void {
    const { entry } = driver;
    if (entry === undefined || driver.busy) return;
    entry.since = this.#now();
    entry.join(this.#kindOf(driver));
  }

  /** Forgets a session that is over; returns whether it was known. */
  remove(driver: D): boolean {
    if (driver.entry === undefined) return false;
    driver.entry.leave();
    driver.entry = undefined;
    this.#all.delete(driver.session);
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
      for (const { owner } of this.#used) {
        if (!owner.receiving && this.#close(owner)) return true;
      }
      for (const { owner } of this.#websockets) {
        if (this.#close(owner)) return true;
      }
    }
    let next = Infinity;
    for (const { owner, since } of this.#fresh) {
      if (owner.receiving) continue;
      if (since + silentMs > now) {
        next = since + silentMs; // the others came later
        break;
      }
      if (this.#close(owner)) return true;
    }
    for (const kind of [this.#fresh, this.#used]) {
      for (const { owner, since } of kind) {
        if (since + startedMs > now) {
          next = Math.min(next, since + startedMs);
          break;
        }
        if (owner.receiving && this.#close(owner)) return true;
      }
    }
    return next;
  }

  /**
   * Closes the one that was used least recently of all that are inside no request, as the original
   * does; one with a part of a request only when there is no other. For a table in one line.
   */
  purgeLeastRecent(): boolean {
    const started = ({ kind, receiving }: D) => kind === "http" && receiving;
    for (const { owner } of this.#used) if (!started(owner) && this.#close(owner)) return true;
    for (const { owner } of this.#used) if (this.#close(owner)) return true;
    return false;
  }

  /**
   * The sessions that may be closed to make room, the one that would be closed first at the start:
   * what {@linkcode SessionTable.purge} goes through, as if all were out of their time.
   */
  inOrder(): D["session"][] {
    const idle: D["session"][] = [];
    const started: D["session"][] = [];
    for (const line of [this.#used, this.#websockets, this.#fresh]) {
      for (const { owner } of line) {
        (owner.kind === "http" && owner.receiving ? started : idle).push(owner.session);
      }
    }
    return [...idle, ...started];
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

  #kindOf(driver: D): Line<D> {
    if (this.#oneLine) return this.#used;
    if (driver.kind !== "http") return this.#websockets;
    return driver.requests > 0 ? this.#used : this.#fresh;
  }

  #close(driver: D): boolean {
    if (!driver.purge()) return false;
    driver.entry?.leave();
    return true;
  }
}
