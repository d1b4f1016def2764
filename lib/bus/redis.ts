/**
 * A bus over the channels of Redis or Valkey. What is published goes over the program's own client;
 * subscriptions have a connection of their own, a duplicate of it, for as long as a server runs.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { contain } from "../contain/callbacks.ts";
import { adviceFrom, checkOptions, duration, members, text } from "../options.ts";
import { assertRedisClient, type RedisClient, type RedisSubscriber } from "../redis_client.ts";
import type { BusState, BusStateListener, ClusterBus } from "../websocket/cluster/bus.ts";
import * as v from "valibot";

/** The options of {@linkcode redisBus}. */
export interface RedisBusOptions {
  /** What the names of channels begin with: one for each application. Default: `"httpsd:"`. */
  readonly prefix?: string;
  /**
   * How often the connection of the subscriptions is tested, in ms: it is made anew when nothing
   * comes for three times as long. Default: 5,000.
   */
  readonly pingMs?: number;
}

const OPTIONS = members({
  prefix: v.optional(text, "httpsd:"),
  pingMs: duration(5_000, 10),
}, {
  advice: adviceFrom({
    channel: "write prefix",
    channelPrefix: "write prefix",
    keyPrefix: "write prefix",
    pingInterval: "write pingMs",
    url: "write it in createClient({ url })",
  }),
});

/** The longest time between two attempts to connect, in ms. */
const LONGEST_RETRY_MS = 2_000;

/**
 * Makes a bus of a client of the npm package `redis` (Redis or Valkey), which the program connects
 * and closes. One bus may serve several servers of a process.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for another client, or naming the option; `NOT_SUPPORTED`
 * for `Bun.RedisClient`, whose subscriptions do not survive a lost connection
 */
export function redisBus(client: RedisClient, options: RedisBusOptions = {}): ClusterBus {
  assertRedisClient("redisBus()", client);
  return new RedisBus(client, checkOptions("redisBus()", OPTIONS, options));
}

class RedisBus implements ClusterBus {
  readonly #client: RedisClient;
  readonly #options: v.InferOutput<typeof OPTIONS>;
  readonly #listeners = new Set<BusStateListener>();
  /** The connection of the subscriptions, while there are any, or listeners. */
  #subscriber: RedisSubscriber | undefined;
  #users = 0;
  #state: BusState = "down";
  #cause: unknown;

  constructor(client: RedisClient, options: v.InferOutput<typeof OPTIONS>) {
    this.#client = client;
    this.#options = options;
  }

  async publish(channel: string, bytes: Uint8Array): Promise<void> {
    // The client would keep it for as long as it is not connected.
    if (!this.#client.isReady) throw new Error("The client of Redis is not connected");
    const { buffer, byteOffset, length } = bytes;
    await this.#client.publish(this.#nameOf(channel), Buffer.from(buffer, byteOffset, length));
  }

  async subscribe(
    channel: string,
    receive: (bytes: Uint8Array) => void,
  ): Promise<() => Promise<void>> {
    const name = this.#nameOf(channel);
    const listener = (message: Uint8Array) => contain(() => receive(message), report);
    const subscriber = this.#use();
    try {
      if (!subscriber.isReady) throw new Error("The subscriptions' connection is not there");
      await subscriber.subscribe(name, listener, true);
    } catch (cause) {
      this.#free();
      throw cause;
    }
    let ended: Promise<void> | undefined;
    return () => ended ??= this.#unsubscribe(subscriber, name, listener);
  }

  async #unsubscribe(
    subscriber: RedisSubscriber,
    name: string,
    listener: (message: Uint8Array) => void,
  ): Promise<void> {
    const left = subscriber.unsubscribe(name, listener, true);
    this.#free();
    try {
      await left;
    } catch (cause) {
      if (subscriber.isOpen) throw cause; // without a connection there is no subscription
    }
  }

  onState(changed: BusStateListener): () => void {
    this.#use();
    const listener: BusStateListener = (state, cause) => changed(state, cause);
    this.#listeners.add(listener);
    contain(() => listener(this.#state, this.#cause), report);
    return () => {
      if (this.#listeners.delete(listener)) this.#free();
    };
  }

  #nameOf(channel: string): string {
    return `${this.#options.prefix}${channel}`;
  }

  /** Returns the connection of the subscriptions, to be freed once. */
  #use(): RedisSubscriber {
    this.#users++;
    return this.#subscriber ??= this.#connect();
  }

  #free(): void {
    this.#users--;
    const subscriber = this.#subscriber;
    if (this.#users > 0 || subscriber === undefined) return;
    this.#subscriber = undefined;
    for (const event of EVENTS) {
      this.#client.off(event, this.#update);
      subscriber.off(event, this.#update);
    }
    subscriber.on("error", ignoreError);
    if (subscriber.isOpen) subscriber.destroy();
    this.#state = "down";
  }

  #connect(): RedisSubscriber {
    const { pingMs } = this.#options;
    const { socket } = (this.#client as { options?: { socket?: object } }).options ?? {};
    const subscriber = this.#client.duplicate({
      pingInterval: pingMs,
      socket: {
        ...socket,
        socketTimeout: pingMs * 3,
        // Whatever the program's own client does, subscriptions come back.
        reconnectStrategy: (retries: number) =>
          Math.min(LONGEST_RETRY_MS, 50 * 2 ** Math.min(retries, 10)) * (0.5 + Math.random() / 2),
      },
    });
    for (const event of EVENTS) {
      this.#client.on(event, this.#update);
      subscriber.on(event, this.#update);
    }
    // What it rejects with was an event before.
    subscriber.connect().catch(this.#update);
    this.#subscriber = subscriber;
    this.#update();
    return subscriber;
  }

  readonly #update = (cause?: unknown): void => {
    if (cause !== undefined) this.#cause = cause;
    const isUp = this.#client.isReady && this.#subscriber?.isReady === true;
    const state = isUp ? "up" : "down";
    if (state === this.#state) return;
    this.#state = state;
    if (isUp) this.#cause = undefined;
    for (const listener of [...this.#listeners]) {
      contain(() => listener(state, this.#cause), report);
    }
  };
}

/** At each of these, a client may be ready now, or no longer. */
const EVENTS = ["ready", "error", "reconnecting", "terminated", "end"];

/** A client without a listener for errors ends the process. */
function ignoreError(): void {}

/** A listener of the bus threw; servers' own do not. */
function report(cause: unknown): void {
  console.error(cause);
}
