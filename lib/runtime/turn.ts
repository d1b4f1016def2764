/**
 * Turns of the event loop: work that goes on without end keeps timers and sockets waiting, and so
 * does a loop of promises that are settled already.
 *
 * @module
 */
import { runtime } from "./current.ts";

/**
 * Calls `run` when timers have run and sockets were looked at. On Deno not by `setImmediate()`:
 * while some caller or other always has one waiting, Deno reads no socket for dozens of its turns.
 */
export const inNextTurn: (run: () => void) => void = runtime.name === "bun"
  ? (run) => void setImmediate(run)
  : (run) => void setTimeout(run, 0);

/** Resolves when timers have run and sockets were looked at. */
export function nextTurn(): Promise<void> {
  return new Promise(inNextTurn);
}
