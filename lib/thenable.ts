/**
 * What callbacks return: anything that can be awaited counts, whoever made it.
 *
 * @module
 */

/** Whether `result` can be awaited: a promise of any realm or library. */
export function isThenable<T>(result: T | PromiseLike<T>): result is PromiseLike<T> {
  return typeof (result as PromiseLike<T> | null | undefined)?.then === "function";
}
