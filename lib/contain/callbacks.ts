/**
 * Calls the program's callbacks so that what they throw or reject with is reported, and harms
 * neither the process nor the caller.
 *
 * @module
 */

/** Whether a value is a promise of any kind. */
export function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return (typeof value === "object" || typeof value === "function") && value !== null &&
    typeof (value as Partial<PromiseLike<T>>).then === "function";
}

/** Calls `failed` if `value` is a promise that rejects. */
export function watch(value: unknown, failed: (cause: unknown) => void): void {
  // A promise of our own: a foreign thenable may lack catch(), or break the rules of promises.
  if (isThenable(value)) Promise.resolve(value).catch(failed);
}

/** Runs a callback; `failed` is called with what it throws or rejects with. */
export function contain(run: () => unknown, failed: (cause: unknown) => void): void {
  try {
    watch(run(), failed);
  } catch (cause) {
    failed(cause);
  }
}

/** Handles a rejection that is reported elsewhere. */
export function ignore(): void {}
