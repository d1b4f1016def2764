/**
 * An `AbortController` whose signal's listeners cannot end the process. Its signal is one of the
 * platform's own, and is taken for one everywhere.
 *
 * @module
 */
import { type AnyListener, SafeListeners } from "./listeners.ts";
import { dispatchContained } from "../runtime/listener_errors.ts";

/** What the signals need that this module has made. */
interface Containment {
  readonly wrappers: SafeListeners;
  onabort: AnyListener | null;
}

const containments = new WeakMap<AbortSignal, Containment>();

const { addEventListener, removeEventListener } = AbortSignal.prototype;
const onabort = Object.getOwnPropertyDescriptor(AbortSignal.prototype, "onabort");

/** What such a signal inherits from, with methods that wrap listeners. */
const containing: object = Object.create(AbortSignal.prototype, {
  addEventListener: {
    value(this: AbortSignal, type: string, listener: never, options?: never): void {
      if (!isListener(listener)) return addEventListener.call(this, type, listener, options);
      const { wrappers } = containments.get(this)!;
      addEventListener.call(this, type, wrappers.wrap(listener), options);
    },
  },
  removeEventListener: {
    value(this: AbortSignal, type: string, listener: never, options?: never): void {
      if (!isListener(listener)) return removeEventListener.call(this, type, listener, options);
      const { wrappers } = containments.get(this)!;
      removeEventListener.call(this, type, wrappers.wrapperOf(listener), options);
    },
  },
  onabort: {
    get(this: AbortSignal): AnyListener | null {
      return containments.get(this)!.onabort;
    },
    set(this: AbortSignal, listener: unknown): void {
      const containment = containments.get(this)!;
      containment.onabort = isListener(listener) ? listener : null;
      const wrapper = isListener(listener) ? containment.wrappers.wrap(listener) : null;
      onabort?.set?.call(this, wrapper);
    },
  },
});

function isListener(value: unknown): value is AnyListener {
  return typeof value === "function" || (typeof value === "object" && value !== null);
}

/** What aborts a signal. */
export type Aborter = Pick<AbortController, "signal" | "abort">;

/** Aborts a signal, and reports what its listeners throw or reject with. */
export class ContainedAbort {
  readonly #controller: Aborter;
  readonly #failed: (cause: unknown) => void;

  /**
   * `failed` is called with each thing that a listener throws or rejects with. The signal is that of
   * `controller`, which has no listeners yet.
   */
  constructor(failed: (cause: unknown) => void, controller: Aborter = new AbortController()) {
    this.#controller = controller;
    this.#failed = failed;
    const { signal } = this;
    const wrappers = new SafeListeners((_type, cause) => failed(cause));
    containments.set(signal, { wrappers, onabort: null });
    Object.setPrototypeOf(signal, containing);
  }

  /** The signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Aborts the signal; without a reason, with an `AbortError`. */
  abort(reason?: unknown): void {
    if (this.signal.aborted) return;
    // Signals that follow from this one have listeners that no wrapper reaches.
    dispatchContained(() => this.#controller.abort(reason), this.#failed);
  }
}
