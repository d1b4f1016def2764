/**
 * A bound on what one connection may do in one turn of the event loop, so that a client that sends
 * much at once keeps neither other connections nor timers waiting.
 *
 * @module
 */
import { inNextTurn } from "../runtime/turn.ts";

/** Beyond the pieces that are sure, a turn goes on while it has taken no longer than this, in ms. */
const SHORT_TURN_MS = 1;

/** Counts the pieces of work of one connection, and puts off those beyond the bound. */
export class TurnBudget {
  readonly #most: number;
  readonly #sure: number;
  readonly #resume: () => void;
  readonly #now: () => number;
  #left: number;
  /** With so many left the clock is looked at, which costs too much for each piece. */
  #lookAt: number;
  /** When the first look was. */
  #since: number | undefined;
  #waiting = false;

  /**
   * Allows `most` pieces per turn: at least `sure` however long they take, and the others while
   * the turn is short. `resume` is called in the next turn after one was put off.
   */
  constructor(most: number, resume: () => void, sure = most, now = () => performance.now()) {
    this.#most = this.#left = most;
    this.#sure = sure;
    this.#lookAt = this.#firstLook;
    this.#resume = resume;
    this.#now = now;
  }

  /** Whether work was put off, and `resume` is still to be called. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** A new turn has begun, as when the socket has given bytes. */
  renew(): void {
    if (!this.#waiting) this.#begin();
  }

  #begin(): void {
    this.#left = this.#most;
    this.#lookAt = this.#firstLook;
    this.#since = undefined;
  }

  /** Behind the first piece, since most turns have one only. */
  get #firstLook(): number {
    return this.#sure < this.#most ? this.#most - 1 : -Infinity;
  }

  /** A piece of work is done, or so many. */
  spend(pieces = 1): void {
    this.#left -= pieces;
  }

  /** Whether another piece may be done now; if not, `resume` is called in the next turn. */
  mayGoOn(): boolean {
    if (this.#waiting) return false;
    if (this.#left > 0 && (this.#left > this.#lookAt || this.#isShort())) return true;
    this.#waiting = true;
    inNextTurn(() => {
      this.#waiting = false;
      this.#begin();
      this.#resume();
    });
    return false;
  }

  #isShort(): boolean {
    const now = this.#now();
    this.#since ??= now;
    this.#lookAt = this.#left - this.#sure;
    return now - this.#since <= SHORT_TURN_MS;
  }
}
