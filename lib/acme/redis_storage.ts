/**
 * Keeps certificates in Redis or Valkey, for processes of several machines. The program brings the
 * client: its connection, its password and its TLS are its own.
 *
 * @module
 */
import { clearInterval, setInterval } from "node:timers";
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import { checkOptions, duration, members, shown, text } from "../options.ts";
import { type CertificateStorage, LOCK_MS, type StorageLock } from "./storage.ts";

/** What is used of a client: that of npm's `redis` fits, connected. */
export interface RedisClient {
  /** Sends one command. */
  sendCommand(command: string[]): Promise<unknown>;
}

/** The options of {@linkcode redisStorage}. */
export interface RedisStorageOptions {
  /** What the keys in Redis begin with. Default: `httpsd:acme:`. */
  readonly prefix?: string;
  /** How long a lock outlives a holder that was killed, in ms. Default: 15,000. */
  readonly lockMs?: number;
}

const SCHEMA = v.optional(
  members({ prefix: v.optional(text, "httpsd:acme:"), lockMs: duration(LOCK_MS, 100) }),
  {},
);

/**
 * Keeps certificates and their private keys in Redis or Valkey. Whoever may read there has the keys.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the client has no `sendCommand()`, or for an unknown
 * option
 */
export function redisStorage(
  client: RedisClient,
  options: RedisStorageOptions = {},
): CertificateStorage {
  if (typeof Object(client).sendCommand !== "function") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The client of redisStorage() is ${shown(client)} without sendCommand(): give a client of ` +
        "npm's redis",
    );
  }
  const { prefix, lockMs } = checkOptions("redisStorage()", SCHEMA, options);
  return new RedisStorage(client, prefix, lockMs);
}

/** Changes a lock only for the one who has it: another may have taken it meanwhile. */
const RENEW = 'return redis.call("get", KEYS[1]) == ARGV[1] and ' +
  'redis.call("pexpire", KEYS[1], ARGV[2]) or 0';
const RELEASE = 'return redis.call("get", KEYS[1]) == ARGV[1] and redis.call("del", KEYS[1]) or 0';

class RedisStorage implements CertificateStorage {
  readonly #client: RedisClient;
  readonly #prefix: string;
  readonly #lockMs: number;

  constructor(client: RedisClient, prefix: string, lockMs: number) {
    this.#client = client;
    this.#prefix = prefix;
    this.#lockMs = lockMs;
  }

  async get(key: string): Promise<string | undefined> {
    const text = await this.#send("GET", this.#prefix + key);
    return text === null || text === undefined ? undefined : String(text);
  }

  async set(key: string, text: string): Promise<void> {
    await this.#send("SET", this.#prefix + key, text);
  }

  async delete(key: string): Promise<void> {
    await this.#send("DEL", this.#prefix + key);
  }

  async list(prefix: string): Promise<string[]> {
    const pattern = `${(this.#prefix + prefix).replaceAll(/[*?[\]\\^-]/g, "\\$&")}*`;
    const found = new Set<string>(); // SCAN may give one twice
    let cursor = "0";
    do {
      const [next, keys] = await this.#send("SCAN", cursor, "MATCH", pattern, "COUNT", "500") as [
        unknown,
        unknown[],
      ];
      for (const key of keys) found.add(String(key).slice(this.#prefix.length));
      cursor = String(next);
    } while (cursor !== "0");
    return [...found];
  }

  async lock(name: string): Promise<StorageLock | undefined> {
    const key = `${this.#prefix}locks/${name}`;
    const owner = crypto.randomUUID();
    const taken = await this.#send("SET", key, owner, "NX", "PX", String(this.#lockMs));
    if (taken === null || taken === undefined) return undefined;
    const lost = new AbortController();
    const timer = setInterval(async () => {
      try {
        const renewed = await this.#send("EVAL", RENEW, "1", key, owner, String(this.#lockMs));
        if (Number(renewed) !== 1) lose();
      } catch {
        // The next one may succeed; if none does in time, another process has the lock, and it is lost.
      }
    }, this.#lockMs / 3);
    timer.unref();
    const lose = () => {
      clearInterval(timer);
      lost.abort(new DOMException("The lock was lost to another process", "AbortError"));
    };
    return {
      signal: lost.signal,
      release: async () => {
        clearInterval(timer);
        if (!lost.signal.aborted) await this.#send("EVAL", RELEASE, "1", key, owner);
      },
    };
  }

  #send(...command: string[]): Promise<unknown> {
    return this.#client.sendCommand(command);
  }
}
