/**
 * Waits for what a callback of the program's returns, but not for ever; by the platform's timers, as
 * edge apps do so too.
 *
 * @module
 */

/**
 * Calls `run` and waits for what it returns, but no longer than `ms`; what it does goes on after
 * that, and how it ends is ignored.
 *
 * @throws what `run` throws or rejects with; `TimeoutError` with `message` when it takes longer
 */
export async function within<T>(
  ms: number,
  run: () => T | PromiseLike<T>,
  message = `It took longer than ${ms} ms`,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DOMException(message, "TimeoutError")), ms);
  });
  try {
    return await Promise.race([run(), late]);
  } finally {
    clearTimeout(timer);
  }
}
