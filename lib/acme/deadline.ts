/**
 * The time that a call may take, and what ends it early.
 *
 * @module
 */
import { ContainedAbort } from "../contain/abort.ts";
import { ignore } from "../contain/callbacks.ts";
import { AcmeError } from "../errors.ts";

/** A signal that is aborted when a time is over, when another one is, or when the work is done. */
export class Deadline {
  readonly #abort: ContainedAbort;
  readonly #outer: AbortSignal | undefined;
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #follow: () => void;

  /**
   * Begins to wait: for `ms`, after which `what` "was not over", or until `outer` is aborted.
   * `failed` is called with what listeners of the signal throw.
   */
  constructor(
    ms: number,
    what: string,
    outer: AbortSignal | undefined,
    failed: (cause: unknown) => void = ignore,
  ) {
    this.#abort = new ContainedAbort(failed);
    this.#outer = outer;
    this.#timer = setTimeout(() => {
      this.#abort.abort(new AcmeError("ACME_TIMEOUT", `${what} was not over in ${ms} ms`));
    }, ms);
    this.#follow = () => this.#abort.abort(outer?.reason);
    if (outer?.aborted) this.#follow();
    outer?.addEventListener("abort", this.#follow, { once: true });
  }

  /** The signal; its reason is what the work rejects with. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Waits for `work` as long as the time is not over. */
  race<T>(work: PromiseLike<T> | T): Promise<T> {
    const { signal } = this;
    return new Promise((resolve, reject) => {
      const end = () => reject(signal.reason);
      Promise.resolve(work).then(resolve, reject)
        .finally(() => signal.removeEventListener("abort", end));
      if (signal.aborted) return end();
      signal.addEventListener("abort", end, { once: true });
    });
  }

  /** Waits for some time. */
  async sleep(ms: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await this.race(new Promise<void>((resolve) => timer = setTimeout(resolve, ms)));
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the waiting; whatever still listens to the signal is told that the work is over. */
  end(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#follow);
    this.#abort.abort();
  }
}

/**
 * Runs `work` within `ms`: each of its waits is to be one of the deadline's, or to end with its signal.
 * What it still does then, such as taking answers away, is waited for.
 */
export async function within<T>(
  ms: number,
  what: string,
  outer: AbortSignal | undefined,
  work: (deadline: Deadline) => Promise<T>,
  failed?: (cause: unknown) => void,
): Promise<T> {
  const deadline = new Deadline(ms, what, outer, failed);
  try {
    deadline.signal.throwIfAborted();
    return await work(deadline);
  } finally {
    deadline.end();
  }
}
