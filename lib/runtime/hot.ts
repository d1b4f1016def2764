/**
 * `bun --hot` evaluates a program again in the same process when a file of it changes: its modules,
 * this one too, are new, and the sockets that it listened on are still open. A server that starts
 * then takes the place of the one that listened there before the change.
 *
 * @module
 */
import process from "node:process";

/** A server of the program, as it was evaluated once. */
interface Hot {
  /** What its evaluation is known by. */
  readonly evaluation: object;
  /** Where it was asked to listen, and where it does: they differ where the system chose. */
  readonly places: readonly string[];
  /** The port that it has. */
  readonly port: number;
  /** Stops accepting at once, and the rest as `stop()` does. */
  readonly leave: () => void;
}

/** This evaluation of the program. */
const evaluation = {};

const KEY = Symbol.for("@httpsd/httpsd:hot");

/** The servers of all evaluations; `undefined` where there is one evaluation alone. */
function servers(): Set<Hot> | undefined {
  if (process.versions["bun"] === undefined || !process.execArgv.includes("--hot")) {
    return undefined;
  }
  const all = globalThis as unknown as Record<symbol, Set<Hot> | undefined>;
  return all[KEY] ??= new Set();
}

/**
 * Has the server leave that listened at a place before the program was evaluated again.
 *
 * @returns its port, which the next may take where the system chose it
 */
export function succeed(place: string): number | undefined {
  for (const hot of servers() ?? []) {
    if (!hot.places.includes(place) || hot.evaluation === evaluation) continue;
    servers()!.delete(hot);
    hot.leave();
    return hot.port;
  }
  return undefined;
}

/**
 * Takes note of a server that listens at these places, until the function that is returned is called.
 */
export function listens(places: readonly string[], port: number, leave: () => void): () => void {
  const all = servers();
  if (all === undefined) return () => {};
  const hot = { evaluation, places, port, leave };
  all.add(hot);
  return () => void all.delete(hot);
}
