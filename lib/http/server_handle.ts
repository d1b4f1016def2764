/**
 * What handlers and listeners see of their server by default. The types of handlers have the
 * server's type as a parameter, because the type of the whole server refers to theirs.
 *
 * @module
 */
import type { Address } from "../net/listener.ts";
import type { ServerStats } from "./server_stats.ts";
import type { Session } from "./session.ts";

/** Where a server is in its life. */
export type ServerState = "idle" | "starting" | "running" | "stopping";

/** How to stop. */
export interface StopOptions {
  /** How long requests in progress may take to end, in ms. Default: the option `timeouts.drainMs`. */
  readonly drainMs?: number;
  /**
   * How long clients that have connected may be silent before their first request, in ms: a server
   * that is replaced loses none then. All end with `drainMs`. Default: 0, they are cut at once.
   */
  readonly newcomersMs?: number;
}

/** How many connections a server has, and has had; for monitoring. */
export interface ConnectionCounters {
  /** Sockets that are open now, those at the gate included. */
  readonly open: number;
  /** New connections that wait now for one of them to close. */
  readonly waiting: number;
  /** Sockets that were accepted. */
  readonly accepted: number;
  /** Connections that were refused before their session: each caused an `error` event. */
  readonly refused: number;
  /** Connections that were closed to make room for another. */
  readonly purged: number;
}

/**
 * What handlers and listeners can do with any server: its `HttpsServer` documents each member. A
 * handler or listener that is written where it is given to a server sees the whole `HttpsServer`;
 * one that is written elsewhere has it as a parameter of its type, as in
 * `RouteHandler<HttpsServer>`.
 */
export interface ServerHandle extends EventTarget {
  /** Where the server is in its life. */
  readonly state: ServerState;
  /**
   * The address that is listened on.
   *
   * @throws {StateError} `NOT_STARTED`
   */
  readonly address: Address;
  /** The sessions that are open now. */
  readonly sessions: ReadonlySet<Session>;
  /** How many connections there are, and how many there were since the server was made. */
  readonly counters: ConnectionCounters;
  /** What the server does and has done, counted at all times. */
  stats(): ServerStats;
  /** What handlers share: the option `globalUserContext`. */
  readonly context: unknown;
  /** Sends a message to all WebSockets; returns to how many. */
  broadcast(data: string | Uint8Array<ArrayBuffer>): number;
  /** Sends a message to all WebSockets that subscribed to `topic`; returns to how many. */
  publish(topic: string, data: string | Uint8Array<ArrayBuffer>): number;
  /**
   * Runs `work` between requests, in the order given, and resolves with its result.
   *
   * @throws {StateError} `QUEUE_FULL` (as a rejection)
   */
  queueWork<T>(work: () => T | Promise<T>): Promise<T>;
  /** Removes the routes of a template, or the one for `method`. */
  unroute(uri: string, method?: string): this;
  /** Stops the server; a handler that awaits it makes it wait for the whole of `drainMs`. */
  stop(options?: StopOptions): Promise<void>;
}
