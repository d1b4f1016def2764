/**
 * What this process or thread is of a cluster: which of how many workers. The cluster's supervisor
 * (lib/cluster/) starts the worker and sets it; servers that are made after that share their port
 * and their number of connections with those of the other workers.
 *
 * @module
 */
import { optionError } from "./options.ts";

/** A server of this worker, as the cluster uses it. */
export interface SharingServer {
  /** Accepts no more, and ends as its documentation says. */
  stop(options?: { readonly drainMs?: number; readonly newcomersMs?: number }): Promise<void>;
}

/** What this worker is of its cluster. */
export interface Share {
  /** Which of the workers this is, from 0. */
  readonly index: number;
  /** How many workers there are. */
  readonly of: number;
  /** Whether the workers are threads of one process, which has one limit of open files. */
  readonly threads: boolean;
  /** The port that other workers have for the `nth` server whose port the system chose; 0: none yet. */
  port(nth: number): number;
  /** Notes that a server listens; `nth` is its number where the system chose the port. */
  listening(server: SharingServer, port: number, nth: number | undefined): void;
  /** Notes that a server has stopped. */
  stopped(server: SharingServer): void;
}

let current: Share | undefined;
let chosenPorts = 0;

/** What this worker is of its cluster; `undefined` outside of one. */
export function share(): Share | undefined {
  return current;
}

/** Makes this process or thread a worker; before any server is made. */
export function setShare(share: Share): void {
  current = share;
}

/** One worker's part of what all workers may have together; the parts add up to the whole. */
export function partOf(total: number, { index, of }: Pick<Share, "index" | "of">): number {
  if (total === Infinity) return Infinity;
  return Math.floor(total / of) + (index < total % of ? 1 : 0);
}

/** One worker's part of how often something may be done, at least once. */
export function rateOf(limit: number, share = current): number {
  return share === undefined ? limit : Math.max(1, partOf(limit, share));
}

/** The options of a server that workers share. */
interface SharedOptions {
  readonly port: number;
  readonly path?: string | undefined;
  readonly fd?: number | undefined;
  readonly reusePort: boolean;
  readonly limits: { readonly maxConnections: number };
}

/** A server's place in a cluster. */
export interface Place<C> {
  /** The server's options, with this worker's part of what is shared. */
  readonly config: C;
  /** Which of the servers it is whose port the system chooses; `undefined`: its port is given. */
  readonly nth: number | undefined;
}

/**
 * Returns the options of a server as they are in this worker; outside of a cluster as they are.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for an option that workers cannot share
 */
export function placeOf<C extends SharedOptions>(config: C, share = current): Place<C> {
  if (share === undefined) return { config, nth: undefined };
  for (const name of ["path", "fd"] as const) {
    if (config[name] === undefined) continue;
    throw optionError(
      "",
      name,
      "is not for the workers of a cluster, which share a port: give that",
    );
  }
  const maxConnections = partOf(config.limits.maxConnections, share);
  if (maxConnections === 0) {
    throw optionError(
      "",
      "limits.maxConnections",
      `is ${config.limits.maxConnections}, which is for all ${share.of} workers of the cluster: give ` +
        "at least 1 for each",
    );
  }
  const limits = Object.freeze({ ...config.limits, maxConnections });
  return {
    config: Object.freeze({ ...config, reusePort: true, limits }),
    nth: config.port === 0 ? chosenPorts++ : undefined,
  };
}
