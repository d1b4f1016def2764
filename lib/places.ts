/**
 * The places that a server has for sockets, and the rules by which one is freed for a new
 * connection when all are taken (original: `max_open_sockets`, `lru_purge_enable`);
 * docs/deployment.md explains them.
 *
 * @module
 */
import type { Config, HttpsServerOptions } from "./config.ts";
import type { ConnectionDriver } from "./http/session.ts";
import type { Arrival } from "./net/arrival.ts";
import type { Deadlines } from "./net/deadlines.ts";
import type { Gate } from "./net/gate.ts";
import { fitSockets, openFileLimit, type SocketLimits } from "./net/open_files.ts";
import { ReadMark } from "./net/read_mark.ts";
import { SocketCap, type SocketCapOptions } from "./net/socket_cap.ts";
import type { SessionTable } from "./sessions.ts";
import { share } from "./share.ts";

/** How long a new connection is safe at the cap before its first request, in ms … */
const PATIENCE_MS = 1_000;
/** … and at the least if it has sent nothing and many wait. */
const MIN_PATIENCE_MS = 50;
/** So many new connections, or a quarter of the places, may replace sessions that have had a request. */
const MIN_ARRIVALS = 4;

/** The parts of a server that its places use. */
export interface PlacesParts {
  /** The server's options. */
  readonly config: Config;
  /** The numbers of sockets that were asked for; others may be lowered. */
  readonly given: Partial<SocketLimits>;
  /** The deadlines that newcomers wait by. */
  readonly deadlines: Deadlines;
  /** Takes newcomers that have a place. */
  readonly gate: Gate;
  /** The sessions. */
  readonly sessions: SessionTable<ConnectionDriver>;
  /** The sessions that the hooks have not let in yet. */
  readonly opening: ReadonlySet<ConnectionDriver>;
  /** Reports a socket that gets no place. */
  readonly refused: SocketCapOptions["refused"];
}

/** The places of one server. */
export class Places {
  readonly #parts: PlacesParts;
  readonly #cap: SocketCap;
  readonly #readMark: ReadMark;
  #purged = 0;

  /** Makes places that are all free. */
  constructor(parts: PlacesParts) {
    this.#parts = parts;
    const { config, deadlines, gate, refused } = parts;
    this.#readMark = new ReadMark(deadlines.clock, () => this.#cap.makeRoom());
    this.#cap = new SocketCap({
      limits: {
        maxConnections: config.limits.maxConnections,
        maxWaiting: config.limits.backlog,
      },
      waitMs: config.timeouts.handshakeMs,
      deadlines,
      makeRoom: (waiting) => this.#makeRoom(waiting),
      admit: (arrival, place) => gate.admit(arrival, place),
      refused,
    });
  }

  /** How many there are, and how many newcomers may wait. */
  get limits(): { readonly maxConnections: number; readonly backlog: number } {
    const { maxConnections, maxWaiting: backlog } = this.#cap.limits;
    return { maxConnections, backlog };
  }

  /** How many places are taken. */
  get open(): number {
    return this.#cap.open;
  }

  /** How many newcomers wait for one. */
  get waiting(): number {
    return this.#cap.waiting;
  }

  /** How many connections were closed to make room. */
  get purged(): number {
    return this.#purged;
  }

  /** Takes a newcomer, for whom a place is free or may become so. */
  offer(arrival: Arrival): void {
    this.#cap.offer(arrival);
  }

  /** Takes no newcomers any more. */
  close(): void {
    this.#cap.close();
  }

  /** Lowers the number of places to what fits into the limit of open files, and warns of it. */
  fitOpenFiles(): void {
    const { maxConnections, backlog: maxWaiting } = this.#parts.config.limits;
    const limit = this.#fileLimit();
    const fitting = fitSockets(this.#parts.given, { maxConnections, maxWaiting }, limit);
    if (fitting.maxConnections < maxConnections) {
      console.warn(
        `httpsd: limits.maxConnections is ${fitting.maxConnections} instead of ${maxConnections}, and ` +
          `${fitting.maxWaiting} more may wait, since this process may open ${limit} files only: ` +
          "raise the limit (ulimit -n)",
      );
    }
    this.#cap.limits = fitting;
  }

  /** How many files are this server's to open, in a worker that is a thread. */
  #fileLimit(): number | undefined {
    const limit = openFileLimit();
    const { threads = false, of = 1 } = share() ?? {};
    return limit === undefined || !threads ? limit : Math.floor(limit / of);
  }

  /** Whether the answer of a session is to be its last, since a newcomer waits for its place. */
  get crowded(): boolean {
    return this.#parts.config.limits.lruPurge && this.#cap.crowded && this.#mayTakeUsed;
  }

  /**
   * Whether newcomers may still take the places of sessions that have had a request: a part of the
   * places is theirs, the others are kept.
   */
  get #mayTakeUsed(): boolean {
    const { config, gate, opening, sessions } = this.#parts;
    if (config.profile === "esp-idf") return true;
    // A place that is being freed is a newcomer's already.
    const arriving = gate.size + opening.size + sessions.fresh + this.#cap.leaving;
    return arriving < Math.max(MIN_ARRIVALS, this.#cap.limits.maxConnections / 4);
  }

  /** Checks whether a session that has become idle makes room, after its current work. */
  lookForRoom(): void {
    if (this.#cap.crowded) queueMicrotask(() => this.#cap.makeRoom());
  }

  /** Closes one connection for one of `waiting` newcomers; returns when to try again if none will do. */
  #makeRoom(waiting: number): true | number {
    const { config: { limits, profile }, sessions } = this.#parts;
    if (!limits.lruPurge) return Infinity;
    const made = profile === "esp-idf"
      ? sessions.purgeLeastRecent() || Infinity
      : this.#purgeInOrder(waiting);
    if (made === true) this.#purged++;
    return made;
  }

  #purgeInOrder(waiting: number): true | number {
    const { deadlines, gate, sessions } = this.#parts;
    const silentMs = Math.max(MIN_PATIENCE_MS, PATIENCE_MS / (1 + waiting / 8));
    const patience = { now: this.#readMark.time, silentMs, startedMs: PATIENCE_MS };
    const nextAtGate = gate.evict(patience);
    if (nextAtGate === true) return true;
    const made = sessions.purge({ ...patience, used: this.#mayTakeUsed });
    if (made === true) return true;
    const next = Math.min(made, nextAtGate);
    if (next <= deadlines.clock.now()) this.#readMark.move(); // and ask again
    return next;
  }
}

/** The numbers of sockets that were asked for, by an option or a profile; others may be lowered. */
export function givenLimits(
  { limits: { maxConnections, backlog } = {}, profile }: HttpsServerOptions,
  config: Config,
): Partial<SocketLimits> {
  const isGiven = (option: number | undefined) =>
    option !== Infinity && (option !== undefined || profile !== undefined);
  return {
    ...(isGiven(maxConnections) && { maxConnections: config.limits.maxConnections }),
    ...(isGiven(backlog) && { maxWaiting: config.limits.backlog }),
  };
}
