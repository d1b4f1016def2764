/**
 * Listeners of events that cannot harm what calls them: a plain `EventTarget` reports what a
 * listener throws to the process, which ends.
 *
 * @module
 */
import { watch } from "./callbacks.ts";

/** A listener, as a function or an object; async ones too. */
export type AnyListener =
  | ((event: Event) => unknown)
  | { handleEvent(event: Event): unknown };

/** Makes the wrappers that are added to one target in place of its listeners. */
export class SafeListeners {
  readonly #wrappers = new WeakMap<object, EventListener>();
  readonly #failed: (type: string, cause: unknown) => void;

  /** `failed` is called with what a listener for an event of `type` throws or rejects with. */
  constructor(failed: (type: string, cause: unknown) => void) {
    this.#failed = failed;
  }

  /** Returns the wrapper to add in a listener's place: always the same for the same listener. */
  wrap(listener: AnyListener): EventListener {
    const known = this.#wrappers.get(listener);
    if (known !== undefined) return known;
    const failed = this.#failed;
    const wrapper = function (this: EventTarget, event: Event): void {
      // Without contain(), whose two functions cost as much as the dispatch itself.
      try {
        const result = typeof listener === "function"
          ? listener.call(this, event)
          : listener.handleEvent(event);
        if (result !== undefined) watch(result, (cause) => failed(event.type, cause));
      } catch (cause) {
        failed(event.type, cause);
      }
    } as EventListener; // Deno's check knows two classes of this name
    this.#wrappers.set(listener, wrapper);
    return wrapper;
  }

  /** Returns the wrapper that was added in a listener's place, to be removed. */
  wrapperOf(listener: AnyListener): EventListener {
    // Deno passes the wrapper itself when the option `signal` aborts.
    return this.#wrappers.get(listener) ?? listener as EventListener;
  }
}
