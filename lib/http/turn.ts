/**
 * Turns of the event loop: a loop of promises that are settled already starves timers and sockets.
 *
 * @module
 */

/** Where it exists: a timer of 0 ms waits for a whole one. */
const { setImmediate: soon = (run: () => void) => setTimeout(run, 0) } = globalThis as {
  setImmediate?: (run: () => void) => unknown;
};

/** Resolves in the next turn, when timers have run and sockets were read. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => void soon(resolve));
}
