/**
 * An `EventTarget` whose listeners cannot harm it: a plain one hands what a listener throws to the
 * process, which ends.
 *
 * @module
 */
import { contain } from "./callbacks.ts";

/** A listener, as a function or an object; async ones too. */
export type AnyListener =
  | ((event: Event) => unknown)
  | { handleEvent(event: Event): unknown };

/** What is added in place of the listeners of one target. */
export class ListenerWrappers {
  readonly #wrappers = new WeakMap<object, EventListener>();
  readonly #failed: (type: string, cause: unknown) => void;

  /** `failed` is called with what a listener for an event of `type` throws or rejects with. */
  constructor(failed: (type: string, cause: unknown) => void) {
    this.#failed = failed;
  }

  /** The wrapper to be added in a listener's place; always the same for the same listener. */
  wrap(listener: AnyListener): EventListener {
    const known = this.#wrappers.get(listener);
    if (known !== undefined) return known;
    const failed = this.#failed;
    const wrapper = function (this: EventTarget, event: Event): void {
      contain(
        () =>
          typeof listener === "function" ? listener.call(this, event) : listener.handleEvent(event),
        (cause) => failed(event.type, cause),
      );
    } as EventListener; // Deno's check knows two classes of this name
    this.#wrappers.set(listener, wrapper);
    return wrapper;
  }

  /** The wrapper that was added in a listener's place, to be removed. */
  find(listener: AnyListener): EventListener {
    // Deno comes with the wrapper itself when the option `signal` aborts.
    return this.#wrappers.get(listener) ?? listener as EventListener;
  }
}

/** Contains what listeners throw or reject with. */
export abstract class ContainedEvents extends EventTarget {
  readonly #wrappers = new ListenerWrappers((type, cause) => this.listenerFailed(type, cause));

  /** A listener threw or rejected. */
  protected abstract listenerFailed(type: string, cause: unknown): void;

  /** The wrapper that was added in a listener's place, to be removed. */
  protected contained(listener: AnyListener): EventListener {
    return this.#wrappers.find(listener);
  }

  /** The wrapper to be added in a listener's place; always the same for the same listener. */
  protected contain(listener: AnyListener): EventListener {
    return this.#wrappers.wrap(listener);
  }
}
