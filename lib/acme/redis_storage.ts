/**
 * Keeps certificates in Redis or Valkey, for processes of several machines. The program brings the
 * client: its connection, its password and its TLS are its own.
 *
 * @module
 */
import { clearInterval, setInterval } from "node:timers";
import * as v from "valibot";
import { checkOptions, duration, members, text } from "../options.ts";
import { assertRedisClient, type RedisClient } from "../redis_client.ts";
import { type CertificateStorage, LOCK_MS, type StorageLock } from "./storage.ts";

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
 * Keeps certificates and their private keys in Redis or Valkey, by a client of the npm package `redis`,
 * which the program connects and closes; it may be the one of `redisBus()` and `redisStore()`. Whoever
 * may read there has the keys. While it is not connected, calls wait, unless `disableOfflineQueue` is set.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for another client, or naming the option; `NOT_SUPPORTED` for
 * `Bun.RedisClient`
 */
export function redisStorage(
  client: RedisClient,
  options: RedisStorageOptions = {},
): CertificateStorage {
  assertRedisClient("redisStorage()", client);
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
    const began = performance.now();
    const taken = await this.#send("SET", key, owner, "NX", "PX", String(this.#lockMs));
    if (taken === null || taken === undefined) return undefined;
    return new RedisLock(this.#client, key, owner, this.#lockMs, began);
  }

  #send(...command: string[]): Promise<unknown> {
    return this.#client.sendCommand(command);
  }
}

/** A lock that is held. */
class RedisLock implements StorageLock {
  readonly #client: RedisClient;
  readonly #key: string;
  readonly #owner: string;
  readonly #lockMs: number;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
  /** It lasts for `lockMs` from here, as far as this process knows. */
  #renewedAt: number;
  #isRenewing = false;

  constructor(client: RedisClient, key: string, owner: string, lockMs: number, takenAt: number) {
    this.#client = client;
    this.#key = key;
    this.#owner = owner;
    this.#lockMs = lockMs;
    this.#renewedAt = takenAt;
    this.#timer = setInterval(() => void this.#renew(), lockMs / 4);
    this.#timer.unref();
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    if (!this.signal.aborted) await this.#run(RELEASE);
  }

  /** Never rejects. */
  async #renew(): Promise<void> {
    const now = performance.now();
    // At the third time in vain: at the fourth another process may have it.
    if (now - this.#renewedAt >= this.#lockMs * 0.7) return this.#lose();
    if (this.#isRenewing) return; // Redis is away, and the client waits for it
    this.#isRenewing = true;
    try {
      if (Number(await this.#run(RENEW, String(this.#lockMs))) === 1) this.#renewedAt = now;
      else this.#lose();
    } catch {
      // The next one may succeed; if none does in time, the lock is lost.
    } finally {
      this.#isRenewing = false;
    }
  }

  #lose(): void {
    clearInterval(this.#timer);
    this.#lost.abort(new DOMException("The lock was lost, or may be", "AbortError"));
  }

  #run(script: string, ...more: string[]): Promise<unknown> {
    return this.#client.eval(script, { keys: [this.#key], arguments: [this.#owner, ...more] });
  }
}
