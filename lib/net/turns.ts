/**
 * A bound on what one connection may do in one turn of the event loop, so that a client that sends
 * much at once keeps neither other connections nor timers waiting.
 *
 * @module
 */
import { inNextTurn } from "../runtime/turn.ts";

/** Counts the pieces of work of one connection, and puts off those beyond the bound. */
export class TurnBudget {
  readonly #pieces: number;
  readonly #resume: () => void;
  #left: number;
  #waiting = false;

  /** Allows so many pieces per turn; `resume` is called in the next turn after one was put off. */
  constructor(pieces: number, resume: () => void) {
    this.#pieces = this.#left = pieces;
    this.#resume = resume;
  }

  /** Whether work was put off, and `resume` is still to be called. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** A new turn has begun, as when the socket has given bytes. */
  renew(): void {
    if (!this.#waiting) this.#left = this.#pieces;
  }

  /** A piece of work is done, or so many. */
  spend(pieces = 1): void {
    this.#left -= pieces;
  }

  /** Whether another piece may be done now; if not, `resume` is called in the next turn. */
  mayGoOn(): boolean {
    if (this.#waiting) return false;
    if (this.#left > 0) return true;
    this.#waiting = true;
    inNextTurn(() => {
      this.#waiting = false;
      this.#left = this.#pieces;
      this.#resume();
    });
    return false;
  }
}
