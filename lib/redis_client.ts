/**
 * The client of Redis or Valkey that a program passes: what is used of the npm package `redis` (5 or
 * later), and how another client is told apart. It is the program's own: httpsd never connects or
 * closes it.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { ConfigError } from "./errors.ts";

/** Reports events, as Node's EventEmitter does. */
export interface RedisEvents {
  /** Adds a listener. */
  on(event: string, listener: (cause?: unknown) => void): unknown;
  /** Removes a listener. */
  off(event: string, listener: (cause?: unknown) => void): unknown;
}

/** What is used of a client, whatever for. */
export interface RedisClient extends RedisEvents {
  /** Whether commands are sent at once. */
  readonly isReady: boolean;
  /** Runs a script. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Sends any command. */
  sendCommand(command: string[]): Promise<unknown>;
  /** Publishes a message. */
  publish(channel: string, message: Buffer): Promise<unknown>;
  /** Makes a client of the same options. */
  duplicate(overrides?: object): RedisSubscriber;
}

/** What is used of the connection that subscribes. */
export interface RedisSubscriber extends RedisEvents {
  /** Whether it is connected, and all its subscriptions are in force. */
  readonly isReady: boolean;
  /** Whether it is connected, or connects. */
  readonly isOpen: boolean;
  /** Connects. */
  connect(): Promise<unknown>;
  /** Subscribes to a channel whose messages are bytes. */
  subscribe(
    channel: string,
    receive: (message: Uint8Array) => void,
    bufferMode: true,
  ): Promise<unknown>;
  /** Ends a subscription. */
  unsubscribe(
    channel: string,
    receive: (message: Uint8Array) => void,
    bufferMode: true,
  ): Promise<unknown>;
  /** Cuts the connection. */
  destroy(): void;
}

const TAKE = "give what createClient() of the npm package redis returns, which Valkey takes too";

/**
 * Throws for what is not a client of the npm package `redis`; `callee` is what the message calls the
 * function that was given it.
 *
 * @throws {ConfigError} `NOT_SUPPORTED` for Bun's own client; `INVALID_CONFIG` for others
 */
export function assertRedisClient(callee: string, client: unknown): asserts client is RedisClient {
  const { Bun } = globalThis as { Bun?: { RedisClient?: new () => unknown } };
  if (Bun?.RedisClient !== undefined && client instanceof Bun.RedisClient) {
    throw new ConfigError(
      "NOT_SUPPORTED",
      `${callee} takes no Bun.RedisClient, whose subscriptions are deaf after a lost connection, ` +
        `without an error (oven-sh/bun#33450): ${TAKE}`,
    );
  }
  const { isReady, publish, duplicate, sendCommand, eval: run } = Object(client) as Partial<
    RedisClient
  >;
  const areFunctions = [publish, duplicate, sendCommand, run].every((member) =>
    typeof member === "function"
  );
  if (typeof isReady === "boolean" && areFunctions) return;
  throw new ConfigError("INVALID_CONFIG", `${callee} was given no client of Redis: ${TAKE}`);
}
