/**
 * The gate: every accepted socket passes it, or is closed by it. Counts connections by address and
 * handshakes under way; what happens to one socket is its {@linkcode Admission}.
 *
 * @module
 */
import { ConnectionError } from "../errors.ts";
import {
  Admission,
  type AdmissionOptions,
  type Keeper,
  NOTHING_TO_RELEASE,
  type Release,
} from "./admission.ts";
import type { Arrival } from "./arrival.ts";
import { type Place, UNCOUNTED } from "./place.ts";

/** The settings of the gate, and what it calls. */
export interface GateOptions extends AdmissionOptions {
  /** The most handshakes at a time; others wait, within their own deadline. */
  readonly maxHandshakes: number;
}

/** How long a connection may take before another takes its place. */
export interface Patience {
  /** The time now, on the clock of the deadlines. */
  readonly now: number;
  /** How long one that has sent nothing yet is safe, in ms. */
  readonly silentMs: number;
  /** How long one that has sent something is safe, in ms. */
  readonly startedMs: number;
}

/** Takes sockets in and gives connections out. */
export class Gate {
  readonly #options: GateOptions;
  readonly #admissions = new Set<Admission>();
  /** Those that wait for a handshake's end before they may begin their own. */
  readonly #queue = new Set<Admission>();
  readonly #perAddress = new Map<string, number>();
  readonly #shaking = new Set<Admission>();
  readonly #keeper: Keeper = {
    count: (address) => this.#count(address),
    ready: (admission) => this.#ready(admission),
    left: (admission) => this.#left(admission),
  };

  /** Makes a gate that knows no socket yet. */
  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** How many sockets are on their way through. */
  get size(): number {
    return this.#admissions.size;
  }

  /** Takes a socket as accepted; its `place` is freed once, when its connection is closed. */
  admit(arrival: Arrival, place: Place = UNCOUNTED): void {
    const admission = new Admission(arrival, this.#options, this.#keeper, place);
    this.#admissions.add(admission);
    admission.begin();
  }

  /**
   * Cuts one socket on its way to make room for another: the oldest that has sent nothing in its
   * time, else the oldest that has not come through in its time.
   *
   * @returns `true`, or when to ask again; `Infinity`: there is none
   */
  evict({ now, silentMs, startedMs }: Patience): true | number {
    let next = Infinity;
    for (const silent of [true, false]) {
      const patience = silent ? silentMs : startedMs;
      for (const admission of this.#admissions) { // the oldest first
        if (admission.evicted || (silent && admission.heard)) continue;
        if (admission.since + patience > now) {
          next = Math.min(next, admission.since + patience);
          break;
        }
        admission.evicted = true;
        admission.refuse(
          new ConnectionError("CONNECTION_ABORTED", "Closed to make room for another"),
        );
        return true;
      }
    }
    return next;
  }

  /** Cuts every socket on its way. */
  close(): void {
    for (const admission of this.#admissions) {
      admission.refuse(
        new ConnectionError("CONNECTION_ABORTED", "The server stopped during the handshake"),
      );
    }
  }

  /** Counts a connection until its release is called; `undefined` when there are too many. */
  #count(address: string): Release | undefined {
    const { maxConnectionsPerAddress } = this.#options;
    // Clients of a UNIX socket have no address.
    if (maxConnectionsPerAddress === Infinity || address === "") return NOTHING_TO_RELEASE;
    const count = this.#perAddress.get(address) ?? 0;
    if (count >= maxConnectionsPerAddress) return undefined;
    this.#perAddress.set(address, count + 1);
    return () => {
      const left = this.#perAddress.get(address)! - 1;
      if (left === 0) this.#perAddress.delete(address);
      else this.#perAddress.set(address, left);
    };
  }

  /** Lets an admission shake hands, now or when its turn comes. */
  #ready(admission: Admission): void {
    // Where some wait already there is no room.
    if (this.#shaking.size < this.#options.maxHandshakes) this.#shakeHands(admission);
    else this.#queue.add(admission);
  }

  #shakeHands(admission: Admission): void {
    this.#shaking.add(admission);
    admission.shakeHands();
  }

  #left(admission: Admission): void {
    if (!this.#admissions.delete(admission)) return;
    this.#queue.delete(admission);
    this.#shaking.delete(admission);
    for (const next of this.#queue) {
      if (this.#shaking.size >= this.#options.maxHandshakes) return;
      this.#queue.delete(next);
      this.#shakeHands(next);
    }
  }
}
