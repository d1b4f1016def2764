/**
 * The listeners of a server: which events anything listens for, and the wrappers that keep what a
 * listener throws from ending the process.
 *
 * @module
 */
import { type AnyListener, SafeListeners } from "./contain/listeners.ts";
import { ConfigError } from "./errors.ts";
import { EVENT_IDS, type ServerEventListener, type ServerEventType } from "./events.ts";
import { nearest, shown } from "./options.ts";

/** Keeps the listeners of one server. */
export class ServerListeners {
  readonly #safe: SafeListeners;
  readonly #listenedTo = new Set<string>();
  #listenToRequests = false;
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

  /**
   * Notes that `listener` is added for `type`, and returns the wrapper to add in its place.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for an unknown event, or what is not a listener
   */
  wrap<T extends ServerEventType, S>(
    type: T,
    listener: ServerEventListener<T, S>,
  ): EventListener {
    assertListener(type, listener);
    this.#listenedTo.add(type);
    this.#listenToRequests ||= type.startsWith("http:") && type !== "http:exchange";
    this.#added(type);
    return this.#safe.wrap(listener as AnyListener);
  }

  /** Returns the wrapper that was added in a listener's place, to be removed. */
  wrapperOf<T extends ServerEventType, S>(listener: ServerEventListener<T, S>): EventListener {
    return this.#safe.wrapperOf(listener as AnyListener);
  }
}

/** Refuses a listener for an event that does not exist, which would never be called. */
function assertListener(type: unknown, listener: unknown): void {
  if (typeof type !== "string" || !Object.hasOwn(EVENT_IDS, type)) {
    const meant = typeof type === "string" ? nearest(type, Object.keys(EVENT_IDS)) : undefined;
    throw new ConfigError(
      "INVALID_CONFIG",
      `There is no event ${typeof type === "string" ? JSON.stringify(type) : shown(type)}: ${
        meant === undefined ? `use ${Object.keys(EVENT_IDS).join(", ")}` : `did you mean ${meant}?`
      }`,
    );
  }
  const { handleEvent } = Object(listener) as { handleEvent?: unknown };
  if (typeof listener === "function" || typeof handleEvent === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `The listener for ${type} is ${
      shown(listener)
    }: give a function, or an object with handleEvent`,
  );
}
