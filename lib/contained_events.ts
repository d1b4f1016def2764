/**
 * An `EventTarget` whose listeners cannot harm it: a plain one hands what a listener throws to the
 * process, which ends.
 *
 * @module
 */

/** A listener, as a function or an object; async ones too. */
export type AnyListener =
  | ((event: Event) => unknown)
  | { handleEvent(event: Event): unknown };

/** Contains what listeners throw or reject with. */
export abstract class ContainedEvents extends EventTarget {
  readonly #contained = new WeakMap<object, EventListener>();

  /** A listener threw or rejected. */
  protected abstract listenerFailed(type: string, cause: unknown): void;

  /** The wrapper that was added in a listener's place, to be removed. */
  protected contained(listener: AnyListener): EventListener {
    // Deno comes with the wrapper itself when the option `signal` aborts.
    return this.#contained.get(listener) ?? listener as EventListener;
  }

  /** The wrapper to be added in a listener's place; always the same for the same listener. */
  protected contain(listener: AnyListener): EventListener {
    const known = this.#contained.get(listener);
    if (known !== undefined) return known;
    const contained = ((event: Event): void => {
      const failed = (cause: unknown) => this.listenerFailed(event.type, cause);
      try {
        const result = typeof listener === "function"
          ? listener.call(this, event)
          : listener.handleEvent(event);
        if (result instanceof Promise) result.catch(failed);
      } catch (cause) {
        failed(cause);
      }
    }) as EventListener; // Deno's check knows two classes of this name
    this.#contained.set(listener, contained);
    return contained;
  }
}
