/**
 * A bus over the subjects of NATS, on the program's own connection. NATS confirms no message; so a
 * message counts as taken when the broker has answered a ping that was sent behind it.
 *
 * @module
 */
import * as v from "valibot";
import { contain } from "../contain/callbacks.ts";
import { ConfigError } from "../errors.ts";
import { adviceFrom, checkOptions, members } from "../options.ts";
import type { BusState, BusStateListener, ClusterBus } from "../websocket/cluster/bus.ts";

/** What is used of a connection of `@nats-io/transport-node`. */
export interface NatsConnection {
  /** Publishes a message. */
  publish(subject: string, payload?: Uint8Array): void;
  /** Subscribes to a subject. */
  subscribe(subject: string, options: {
    callback(error: Error | null, message: { readonly data: Uint8Array }): void;
  }): { unsubscribe(): void };
  /** Resolves when the broker has seen everything before. */
  flush(): Promise<void>;
  /** Reports what happens to the connection. */
  status(): AsyncIterable<{ readonly type: string }>;
  /** Whether it is closed for good. */
  isClosed(): boolean;
}

/** The options of {@linkcode natsBus}. */
export interface NatsBusOptions {
  /** What the subjects begin with: one for each application. Default: `"httpsd."`. */
  readonly prefix?: string;
}

const OPTIONS = members({
  prefix: v.optional(
    v.pipe(
      v.string("must be text"),
      v.regex(/^(?:[^\s.*>]+\.)*[^\s.*>]*$/, "must be the beginning of a subject, such as shop."),
    ),
    "httpsd.",
  ),
}, {
  advice: adviceFrom({
    subject: "write prefix",
    subjectPrefix: "write prefix",
    servers: "write it in connect({ servers })",
  }),
});

/**
 * Makes a bus of a connection of `@nats-io/transport-node`, which the program closes. Connect with
 * `maxReconnectAttempts: -1`: NATS's client gives up after ten attempts otherwise, and then the bus
 * is down for good. One bus may serve several servers of a process.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for what is not a connection, or naming the option
 */
export function natsBus(connection: NatsConnection, options: NatsBusOptions = {}): ClusterBus {
  assertConnection(connection);
  return new NatsBus(connection, checkOptions("natsBus()", OPTIONS, options).prefix);
}

function assertConnection(connection: unknown): asserts connection is NatsConnection {
  const { publish, subscribe, flush, status, isClosed } = Object(connection) as Partial<
    NatsConnection
  >;
  const needed = [publish, subscribe, flush, status, isClosed];
  if (needed.every((member) => typeof member === "function")) return;
  throw new ConfigError(
    "INVALID_CONFIG",
    "natsBus() was given no connection of NATS: give what connect() of @nats-io/transport-node " +
      "resolves with",
  );
}

/** So many subjects are known that the broker does not let this connection publish to. */
const MOST_REFUSED = 1_024;

class NatsBus implements ClusterBus {
  readonly #connection: NatsConnection;
  readonly #prefix: string;
  readonly #listeners = new Set<BusStateListener>();
  /** Rejects each ping that the broker has not answered. */
  readonly #pings = new Set<(cause: unknown) => void>();
  /** What the broker has said about subjects that may not be published to. */
  readonly #refused = new Map<string, unknown>();
  /** The ping behind all that is published in this turn of the event loop. */
  #flushing: Promise<void> | undefined;
  #state: BusState;
  #cause: unknown;

  constructor(connection: NatsConnection, prefix: string) {
    this.#connection = connection;
    this.#prefix = prefix;
    this.#state = connection.isClosed() ? "down" : "up";
    void this.#watch();
  }

  async publish(channel: string, bytes: Uint8Array): Promise<void> {
    if (this.#state === "down") throw this.#away();
    const subject = this.#subjectOf(channel);
    this.#assertAllowed(subject);
    this.#connection.publish(subject, bytes);
    await (this.#flushing ??= this.#flushAtEndOfTurn());
    this.#assertAllowed(subject);
  }

  async subscribe(
    channel: string,
    receive: (bytes: Uint8Array) => void,
  ): Promise<() => Promise<void>> {
    if (this.#state === "down") throw this.#away();
    let failure: Error | undefined;
    let isConfirmed = false;
    const subscription = this.#connection.subscribe(this.#subjectOf(channel), {
      callback(error, { data }) {
        if (error === null) return contain(() => receive(data), report);
        failure = error;
        // The broker takes a right away while it runs, and says so once.
        if (isConfirmed) report(error);
      },
    });
    try {
      await this.#flush();
      if (failure !== undefined) throw failure;
    } catch (cause) {
      subscription.unsubscribe();
      throw cause;
    }
    isConfirmed = true;
    let ended: Promise<void> | undefined;
    return () => ended ??= this.#end(subscription);
  }

  async #end(subscription: { unsubscribe(): void }): Promise<void> {
    subscription.unsubscribe();
    try {
      await this.#flush();
    } catch {
      // The connection is gone, and the subscription with it: the client does not make it again.
    }
  }

  onState(changed: BusStateListener): () => void {
    const listener: BusStateListener = (state, cause) => changed(state, cause);
    this.#listeners.add(listener);
    contain(() => listener(this.#state, this.#cause), report);
    return () => void this.#listeners.delete(listener);
  }

  /** Follows the connection until it is closed. */
  async #watch(): Promise<void> {
    try {
      for await (const status of this.#connection.status()) this.#take(status);
    } catch (cause) {
      this.#cause = cause;
    }
    this.#update(
      "down",
      new Error("The connection to NATS is closed for good", {
        cause: this.#cause,
      }),
    );
  }

  #take(status: { readonly type: string }): void {
    const { type, error } = status as { type: string; error?: unknown };
    switch (type) {
      case "disconnect":
      case "staleConnection":
        return this.#update("down", this.#cause);
      case "reconnect":
        // All subscriptions were sent before this; the broker's answer proves that they are in force.
        return void this.#flush().then(() => this.#update("up", undefined), () => {});
      case "error":
        return this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    const { operation, subject } = Object(error) as { operation?: unknown; subject?: unknown };
    if (operation !== "publish" || typeof subject !== "string") {
      this.#cause = error;
      return;
    }
    if (this.#refused.size < MOST_REFUSED) this.#refused.set(subject, error);
  }

  #assertAllowed(subject: string): void {
    if (this.#refused.size > 0 && this.#refused.has(subject)) throw this.#refused.get(subject);
  }

  #update(state: BusState, cause: unknown): void {
    this.#cause = cause;
    if (state === "down") {
      for (const reject of this.#pings) reject(this.#away());
      this.#pings.clear();
      this.#refused.clear(); // the next connection may have other rights
    }
    if (this.#state === state) return;
    this.#state = state;
    for (const listener of [...this.#listeners]) contain(() => listener(state, cause), report);
  }

  #away(): Error {
    return new Error("The connection to NATS is not there", { cause: this.#cause });
  }

  /** Many messages share one ping, and one write. */
  #flushAtEndOfTurn(): Promise<void> {
    return new Promise((resolve, reject) => {
      setImmediate(() => {
        this.#flushing = undefined;
        this.#flush().then(resolve, reject);
      });
    });
  }

  /** Resolves when the broker has seen all that was sent; rejects when the connection is lost before. */
  async #flush(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#pings.add(reject); // a connection that is closed leaves its pings unanswered
    try {
      this.#connection.flush().then(resolve, reject);
      await promise;
    } finally {
      this.#pings.delete(reject);
    }
  }

  /** Each channel is one token: whatever is in a topic's name means nothing to NATS. */
  #subjectOf(channel: string): string {
    const token = encodeURIComponent(channel).replaceAll(".", "%2E").replaceAll("*", "%2A");
    return `${this.#prefix}${token}`;
  }
}

/** A listener of the bus threw, or NATS took a right away: there is no server to report it to. */
function report(cause: unknown): void {
  console.error(cause);
}
