/**
 * Dispatching without harm: what a listener throws is an uncaught exception on every runtime, which
 * ends the process.
 *
 * It depends on this: Deno and Bun report what a listener threw while the event is dispatched, by
 * calling the process's listeners for `uncaughtException`; the same for signals that follow from
 * an aborted one (`AbortSignal.any()`, copies of a `Request`). Not under `bun test`, which takes
 * uncaught exceptions itself, nor where there is no `process`: there it is a plain call.
 *
 * @module
 */

type Listener = (error: unknown) => void;

interface ProcessEvents {
  on(event: "uncaughtException", listener: Listener): unknown;
  off(event: "uncaughtException", listener: Listener): unknown;
  rawListeners(event: "uncaughtException"): Listener[];
}

/** Looked for and not imported: there are platforms without it. */
const { process } = globalThis as { process?: Partial<ProcessEvents> };

/** Runs `dispatch`; `failed` is called with what a listener throws meanwhile. */
export function dispatchContained(dispatch: () => void, failed: (cause: unknown) => void): void {
  if (typeof process?.on !== "function" || typeof process.rawListeners !== "function") {
    return dispatch();
  }
  const events = process as ProcessEvents;
  // Listeners of the program's must not hear of it, since many end the process.
  const others = events.rawListeners("uncaughtException");
  for (const other of others) events.off("uncaughtException", other);
  events.on("uncaughtException", failed);
  try {
    dispatch();
  } finally {
    events.off("uncaughtException", failed);
    for (const other of others) events.on("uncaughtException", other);
  }
}
