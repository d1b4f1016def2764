/**
 * Holds the number of open sockets to a hard cap. At the cap, room is made by closing an idle
 * connection where that is wanted; else a newcomer waits, unread, for one to close (original:
 * `max_open_sockets`, `lru_purge_enable`).
 *
 * @module
 */
import type { Socket } from "node:net";
import type { Deadlines, Waiting } from "./deadlines.ts";

/** What a {@linkcode SocketCap} goes by. */
export interface SocketCapOptions {
  /** The most sockets that are open at a time. */
  readonly maxOpenSockets: number;
  /** The most newcomers that wait; further ones are cut at once. */
  readonly maxWaiting: number;
  /** How long a newcomer waits, in ms. */
  readonly waitMs: number;
  /** The clock that the waits are watched by. */
  readonly deadlines: Deadlines;
  /** Closes an idle connection, if one can be closed. Called once for each newcomer at the cap. */
  readonly makeRoom: () => void;
  /** Takes a socket that there is room for, and calls `closed` once when it is closed. */
  readonly admit: (raw: Socket, closed: () => void) => void;
}

/** Counts open sockets and keeps newcomers waiting while there are too many. */
export class SocketCap {
  readonly #options: SocketCapOptions;
  readonly #waiting = new Set<Newcomer>();
  #open = 0;

  /** Makes a cap that knows no socket yet. */
  constructor(options: SocketCapOptions) {
    this.#options = options;
  }

  /** How many sockets are open, without those that wait. */
  get open(): number {
    return this.#open;
  }

  /** How many newcomers wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Takes a socket as accepted: lets it in, or keeps it waiting. */
  offer(raw: Socket): void {
    if (this.#open < this.#options.maxOpenSockets) {
      this.#letIn(raw);
      return;
    }
    this.#options.makeRoom();
    if (this.#waiting.size >= this.#options.maxWaiting) {
      raw.on("error", ignoreError);
      raw.destroy();
      return;
    }
    const newcomer = new Newcomer(
      raw,
      this.#options.deadlines.after(this.#options.waitMs),
      () => this.#drop(newcomer),
    );
    this.#waiting.add(newcomer);
    this.#options.deadlines.watch(newcomer);
  }

  /** Cuts those that wait. */
  close(): void {
    for (const newcomer of this.#waiting) {
      this.#drop(newcomer);
      newcomer.raw.destroy();
    }
  }

  #letIn(raw: Socket): void {
    this.#open++;
    // Not the socket's own "close": on Bun, under TLS, it comes with the peer's end already.
    this.#options.admit(raw, () => {
      this.#open--;
      this.#next();
    });
  }

  #next(): void {
    const { maxOpenSockets } = this.#options;
    for (const newcomer of this.#waiting) {
      if (this.#open >= maxOpenSockets) return;
      this.#drop(newcomer);
      this.#letIn(newcomer.raw);
    }
  }

  #drop(newcomer: Newcomer): void {
    this.#waiting.delete(newcomer);
    this.#options.deadlines.unwatch(newcomer);
    newcomer.release();
  }
}

/** A socket that waits for room, unread. */
class Newcomer implements Waiting {
  readonly raw: Socket;
  readonly #gone: () => void;
  deadline: number;

  constructor(raw: Socket, deadline: number, gone: () => void) {
    this.raw = raw;
    this.deadline = deadline;
    this.#gone = gone;
    raw.on("error", ignoreError);
    raw.on("end", this.#leave); // comes only where no bytes wait before it
    raw.on("close", gone);
  }

  expire(): void {
    this.#leave();
  }

  readonly #leave = (): void => {
    this.raw.destroy();
    this.#gone();
  };

  /** Leaves the socket to others. */
  release(): void {
    this.raw.off("end", this.#leave);
    this.raw.off("close", this.#gone);
    if (!this.raw.destroyed) this.raw.off("error", ignoreError);
  }
}

/** A socket that is cut, or goes away while it waits, has nobody to report to. */
function ignoreError(): void {}
