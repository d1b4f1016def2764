/**
 * Holds the number of open sockets to a hard cap. At the cap a newcomer waits in line, unread, and
 * room is made for it by closing another connection where that is allowed (original:
 * `max_open_sockets`, `lru_purge_enable`).
 *
 * @module
 */
import { ConnectionError } from "../errors.ts";
import type { Deadlines, Waiting } from "./deadlines.ts";
import type { Endpoints } from "../endpoints.ts";
import type { Arrival, ArrivalGuest } from "./arrival.ts";
import type { SocketLimits } from "./open_files.ts";
import type { Place } from "./place.ts";

/** What a {@linkcode SocketCap} goes by. */
export interface SocketCapOptions {
  /** How many sockets may be open, and how many newcomers may wait; further ones are cut. */
  readonly limits: SocketLimits;
  /** How long a newcomer waits, in ms. */
  readonly waitMs: number;
  /** The clock that the waits are watched by. */
  readonly deadlines: Deadlines;
  /**
   * Closes one connection to make room for one of `waiting` newcomers. Returns `true`, or when to
   * ask again on the clock of `deadlines`; it is asked sooner when something becomes idle.
   */
  readonly makeRoom: (waiting: number) => true | number;
  /** Takes a socket that there is room for, and its place, to be freed when it is closed. */
  readonly admit: (arrival: Arrival, place: Place) => void;
  /** A newcomer was refused; its socket is closed already. */
  readonly refused: (error: ConnectionError, endpoints: Endpoints) => void;
}

/** Counts open sockets and queues new ones while there are too many. */
export class SocketCap {
  readonly #options: SocketCapOptions;
  readonly #waiting = new Set<Newcomer>();
  /** When to look for room again, where nothing else brings it. */
  readonly #look: Waiting = { deadline: Infinity, expire: () => this.makeRoom() };
  #limits: SocketLimits;
  #open = 0;
  #leaving = 0;

  static readonly #Place = class implements Place {
    readonly #cap: SocketCap;
    #left = false;
    #isFree = false;

    constructor(cap: SocketCap) {
      this.#cap = cap;
    }

    leave(): void {
      if (this.#isFree) return;
      if (!this.#left) this.#cap.#leaving++;
      this.#left = true;
    }

    free(): void {
      if (this.#isFree) return; // counted twice, it would let others be closed for nobody
      this.#isFree = true;
      if (this.#left) this.#cap.#leaving--;
      this.#left = true;
      this.#cap.#open--;
      this.#cap.#next();
      this.#cap.makeRoom(); // those let in may have to make room for the next
    }
  };

  /** Makes a cap that knows no socket yet. */
  constructor(options: SocketCapOptions) {
    this.#options = options;
    this.#limits = options.limits;
  }

  /** How many sockets may be open, and how many newcomers may wait. */
  get limits(): SocketLimits {
    return this.#limits;
  }

  /** Changes the limits for the sockets that are still to come. */
  set limits(limits: SocketLimits) {
    this.#limits = limits;
  }

  /** How many sockets are open, without those that wait. */
  get open(): number {
    return this.#open;
  }

  /** How many of the open sockets are being closed. */
  get leaving(): number {
    return this.#leaving;
  }

  /** How many newcomers wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Whether more newcomers wait than sockets are being closed. */
  get crowded(): boolean {
    return this.#waiting.size > this.#leaving;
  }

  /** Takes an accepted socket: admits it, queues it, or refuses it. */
  offer(arrival: Arrival): void {
    if (this.#open < this.#limits.maxConnections) {
      this.#letIn(arrival);
      return;
    }
    if (this.#waiting.size >= this.#limits.maxWaiting) {
      arrival.destroy();
      this.#refuse(arrival.endpoints, `${this.#waiting.size} wait for one of them to close`);
      return;
    }
    const newcomer = new Newcomer(arrival, this.#options.deadlines.after(this.#options.waitMs), {
      left: () => this.#drop(newcomer),
      expired: () => {
        this.#drop(newcomer);
        this.#refuse(arrival.endpoints, `none was closed in ${this.#options.waitMs} ms`);
      },
    });
    if (this.#waiting.size === 0) this.#options.deadlines.watch(this.#look);
    this.#waiting.add(newcomer);
    this.#options.deadlines.watch(newcomer);
    this.makeRoom();
  }

  /** Makes room for those that wait, if possible; to be called when something becomes idle. */
  makeRoom(): void {
    this.#look.deadline = Infinity;
    while (this.crowded) {
      const made = this.#options.makeRoom(this.#waiting.size);
      if (made === true) continue;
      this.#look.deadline = made;
      return;
    }
  }

  /** Cuts those that wait. */
  close(): void {
    for (const newcomer of this.#waiting) {
      this.#drop(newcomer);
      newcomer.arrival.destroy();
    }
  }

  #letIn(arrival: Arrival): void {
    this.#open++;
    this.#options.admit(arrival, new SocketCap.#Place(this));
  }

  #next(): void {
    for (const newcomer of this.#waiting) {
      if (this.#open >= this.#limits.maxConnections) return;
      this.#drop(newcomer);
      this.#letIn(newcomer.arrival);
    }
  }

  #drop(newcomer: Newcomer): void {
    if (!this.#waiting.delete(newcomer)) return;
    this.#options.deadlines.unwatch(newcomer);
    if (this.#waiting.size > 0) return;
    this.#options.deadlines.unwatch(this.#look);
    this.#look.deadline = Infinity;
  }

  #refuse(endpoints: Endpoints, why: string): void {
    const { maxConnections } = this.#limits;
    this.#options.refused(
      new ConnectionError("SERVER_FULL", `All of ${maxConnections} sockets are in use, and ${why}`),
      endpoints,
    );
  }
}

/** What a {@linkcode Newcomer} reports. */
interface NewcomerHost {
  /** The client is gone. */
  left(): void;
  /** It has waited for too long; the socket is closed. */
  expired(): void;
}

/** A socket that waits for room, unread. */
class Newcomer implements Waiting, ArrivalGuest {
  readonly arrival: Arrival;
  readonly #host: NewcomerHost;
  deadline: number;

  constructor(arrival: Arrival, deadline: number, host: NewcomerHost) {
    this.arrival = arrival;
    this.deadline = deadline;
    this.#host = host;
    arrival.reportTo(this);
  }

  expire(): void {
    this.arrival.destroy();
    this.#host.expired();
  }

  onData(): void {}

  /** Comes only where no bytes wait before it. */
  onEnd(): void {
    this.arrival.destroy();
    this.#host.left();
  }

  onError(): void {}

  onClose(): void {
    this.#host.left();
  }
}
