/**
 * The listeners of a server: which events anything listens for, and the wrappers that keep what a
 * listener throws from ending the process.
 *
 * @module
 */
import { type AnyListener, SafeListeners } from "./contain/listeners.ts";
import { EVENT_IDS, type ServerEventListener, type ServerEventType } from "./events.ts";
import { assertListener } from "./options.ts";

/** Keeps the listeners of one server. */
export class ServerListeners {
  readonly #safe: SafeListeners;
  readonly #listenedTo = new Set<string>();
  #listenToRequests = false;
  #listenToBytes = false;
  readonly #added: (type: ServerEventType) => void;

  /**
   * `failed` is called with what a listener for an event of `type` throws or rejects with, `added`
   * with each `type` that is listened for.
   */
  constructor(
    failed: (type: string, cause: unknown) => void,
    added: (type: ServerEventType) => void,
  ) {
    this.#safe = new SafeListeners(failed);
    this.#added = added;
  }

  /** Whether a listener for `type` was ever added; without one, no event need be made. */
  has(type: ServerEventType): boolean {
    return this.#listenedTo.has(type);
  }

  /** Whether a listener for events of the parts of requests was ever added. */
  get listenToRequests(): boolean {
    return this.#listenToRequests;
  }

  /** Whether a listener for the bytes of connections was ever added. */
  get listenToBytes(): boolean {
    return this.#listenToBytes;
  }

  /**
   * Notes that `listener` is added for `type`, and returns the wrapper to add in its place.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for an unknown event, or what is not a listener
   */
  wrap<T extends ServerEventType, S>(
    type: T,
    listener: ServerEventListener<T, S>,
  ): EventListener {
    assertListener(type, listener, Object.keys(EVENT_IDS));
    this.#listenedTo.add(type);
    this.#listenToBytes ||= type === "data" || type === "sent";
    this.#listenToRequests ||= type.startsWith("http:") && type !== "http:exchange";
    this.#added(type);
    return this.#safe.wrap(listener as AnyListener);
  }

  /** Returns the wrapper that was added in a listener's place, to be removed. */
  wrapperOf<T extends ServerEventType, S>(listener: ServerEventListener<T, S>): EventListener {
    return this.#safe.wrapperOf(listener as AnyListener);
  }
}
