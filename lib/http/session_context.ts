/**
 * What handlers keep for a session, and how it is freed.
 *
 * @module
 */
import { contain } from "../contain/callbacks.ts";
import { HttpsdError } from "../errors.ts";

/** The context of one session (original: `sess_ctx` and its `free_ctx`). */
export class SessionContext {
  readonly #failed: (error: HttpsdError) => void;
  #value: unknown;
  #free: ((value: unknown) => unknown) | undefined;

  /** Makes an empty one; `failed` is called with what a `free` function throws. */
  constructor(failed: (error: HttpsdError) => void) {
    this.#failed = failed;
  }

  /** What is kept. */
  get value(): unknown {
    return this.#value;
  }

  /** Keeps another value, which `free` is called with in the end; what was kept is freed. */
  set<T>(value: T, free: ((value: T) => unknown) | undefined): void {
    if (value !== this.#value) this.free();
    this.#value = value;
    this.#free = free as ((value: unknown) => unknown) | undefined;
  }

  /** Drops the value, and calls the function that frees it. */
  free(): void {
    const free = this.#free;
    const value = this.#value;
    this.#value = this.#free = undefined;
    if (free === undefined) return;
    contain(
      () => free(value),
      (cause) => this.#failed(new HttpsdError("HOOK_FAILED", "A context's free threw", { cause })),
    );
  }
}
