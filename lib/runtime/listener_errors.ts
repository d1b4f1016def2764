/**
 * Dispatching without harm: what a listener throws is an uncaught exception on every runtime, which
 * ends the process. Wrappers reach the listeners of our own signals, but not those of signals that
 * follow from them (`AbortSignal.any()`, copies of a `Request`).
 *
 * Where there are `error` events on `globalThis` (Deno), they are the public way: the HTML standard
 * has them dispatched at once.
 *
 * Undocumented on Bun: that what a listener threw is reported while the event is dispatched, so that
 * the callback of `process.setUncaughtExceptionCaptureCallback()` is called before that is over. The
 * trial, with the first dispatch, lets a listener throw, and looks whether that was captured. Where
 * it fails, the fallback is a plain call: what such listeners throw goes to the process, as
 * everywhere else in the program. It is a plain call under `bun test`, too, which takes uncaught
 * exceptions itself, and in a program that captures them all.
 *
 * @module
 */
import { runtime } from "./current.ts";
import { declareInternal } from "./internals.ts";

/** Is called with what was thrown. */
type Caught = (cause: unknown) => void;

/** Runs `dispatch`; `failed` is called with what a listener throws meanwhile. */
type Dispatch = (dispatch: () => void, failed: Caught) => void;

/** What is used of `process`. */
interface ProcessErrors {
  setUncaughtExceptionCaptureCallback(capture: Caught | null): void;
  hasUncaughtExceptionCaptureCallback(): boolean;
  on(event: string, listener: Caught): unknown;
  off(event: string, listener: Caught): unknown;
  rawListeners(event: string): Caught[];
  getBuiltinModule(name: string): object | undefined;
}

/** What dispatches `error` events. */
interface ErrorScope {
  addEventListener(type: "error", listener: (event: ErrorEvent) => void): void;
  removeEventListener(type: "error", listener: (event: ErrorEvent) => void): void;
}

/** Looked for and not imported: there are platforms without it. */
const { process } = globalThis as unknown as { process?: Partial<ProcessErrors> };

/** The fallback: contains nothing. */
const plainDispatch: Dispatch = (dispatch) => dispatch();

/** Calls `caught` with what listeners throw, until the function that it returns is called. */
type Catch = (caught: Caught) => () => void;

/** The public way, where there are `error` events. */
const catchEvents: Catch = (caught) => {
  const scope = globalThis as unknown as ErrorScope;
  const take = (event: ErrorEvent): void => {
    event.preventDefault();
    caught(event.error);
  };
  scope.addEventListener("error", take);
  // Listeners of the program's for `uncaughtException` must not hear of it: many end the process.
  const show = catchCaptured(() => {});
  return () => {
    show();
    scope.removeEventListener("error", take);
  };
};

const catchCaptured: Catch = (caught) => {
  if (process?.hasUncaughtExceptionCaptureCallback?.() !== false) return () => {};
  process.setUncaughtExceptionCaptureCallback?.(caught);
  return () => process.setUncaughtExceptionCaptureCallback?.(null);
};

/** Dispatches, one dispatch within another too: the inner one gets its own errors. */
function dispatchBy(begin: Catch): Dispatch {
  let innermost: Caught | undefined;
  return (dispatch, failed) => {
    const outer = innermost;
    const end = outer === undefined ? begin((cause) => innermost?.(cause)) : undefined;
    innermost = failed;
    try {
      dispatch();
    } finally {
      innermost = outer;
      end?.();
    }
  };
}

/** The way that suits the running runtime; `undefined` where a trial now would be seen. */
function chooseDispatch(): Dispatch | undefined {
  if (runtime.name === "deno") return dispatchBy(catchEvents);
  if (process?.hasUncaughtExceptionCaptureCallback?.()) return undefined;
  // Under `bun test` a trial would count as an error of the tests.
  if (runtime.name === "bun" && inBunTest()) return plainDispatch;
  const catching = dispatchBy(catchCaptured);
  try {
    return isCaught(catching) ? catching : plainDispatch;
  } catch {
    return plainDispatch; // a platform whose `process` lacks something
  }
}

/** Whether `bun test` runs this: only there can a hook be added, or not be added within a test. */
function inBunTest(): boolean {
  try {
    const { beforeAll } = process!.getBuiltinModule!("bun:test") as {
      beforeAll(hook: () => void): void;
    };
    beforeAll(() => {});
    return true;
  } catch (error) {
    return !String(error).includes("outside of the test runner");
  }
}

/** Whether what a listener throws is caught before the dispatch is over. */
function isCaught(catching: Dispatch): boolean {
  const thrown = new Error("A trial: this is meant to be thrown");
  const controller = new AbortController();
  AbortSignal.any([controller.signal]).addEventListener("abort", () => {
    throw thrown;
  });
  let caught: unknown;
  const show = hideError(process as ProcessErrors, thrown);
  try {
    catching(() => controller.abort(), (cause) => void (caught = cause));
  } catch {
    // The dispatch itself throws: not what is relied on.
  }
  // Where it is reported later, it is before the timers.
  if (caught === thrown) show();
  else setTimeout(show, 0);
  return caught === thrown;
}

/** Keeps the trial's error from the program's listeners, which may end the process at it. */
function hideError(process: ProcessErrors, hidden: unknown): () => void {
  const events = ["uncaughtException", "uncaughtExceptionMonitor"];
  const others = events.map((name) => [name, process.rawListeners(name)] as const);
  for (const [name, listeners] of others) {
    for (const listener of listeners) process.off(name, listener);
  }
  const take: Caught = (cause) => {
    if (cause !== hidden) throw cause; // another one, of the program's: it ends the process
  };
  process.on("uncaughtException", take);
  return () => {
    process.off("uncaughtException", take);
    for (const [name, listeners] of others) {
      for (const listener of listeners) process.on(name, listener);
    }
  };
}

let chosen: Dispatch | undefined;

/** Runs `dispatch`; `failed` is called with what a listener throws meanwhile. */
export const dispatchContained: Dispatch = (dispatch, failed) => {
  chosen ??= chooseDispatch();
  (chosen ?? plainDispatch)(dispatch, failed);
};

declareInternal("listenerErrors", () => {
  if (runtime.name === "deno") return "not needed";
  if (chosen === undefined) return "untried";
  return chosen === plainDispatch ? "fallback" : "in force";
});
