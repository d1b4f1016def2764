/**
 * Counts that processes and hosts share, in Redis or Valkey: one script, run in one step and one
 * round trip.
 *
 * @module
 */
import * as v from "valibot";
import { within } from "../contain/within.ts";
import { adviceFrom, checkOptions, duration, many, members, text } from "../options.ts";
import { assertRedisClient, type RedisClient } from "../redis_client.ts";
import type { RateLimitCount, RateLimitStore } from "./store.ts";

/** The options of {@linkcode redisStore}. */
export interface RedisStoreOptions {
  /** What the keys begin with: one for each application. Default: `"httpsd:rate:"`. */
  readonly prefix?: string;
  /** How long an answer may take, in ms; later, it counts as a failure. Default: 1,000. */
  readonly timeoutMs?: number;
  /** How many answers may be awaited at a time; more requests count as failures. Default: 10,000. */
  readonly maxPending?: number;
}

const OPTIONS = members({
  prefix: v.optional(text, "httpsd:rate:"),
  timeoutMs: duration(1_000),
  maxPending: many(10_000),
}, { advice: adviceFrom({ keyPrefix: "write prefix", commandTimeout: "write timeoutMs" }) });

/**
 * Counts, and lets the window begin where there is none; also where a key has no end, as one that
 * something else has written.
 */
const SCRIPT = `
local count = redis.call("INCR", KEYS[1])
local left = redis.call("PTTL", KEYS[1])
if left < 0 then
  left = tonumber(ARGV[1])
  redis.call("PEXPIRE", KEYS[1], left)
end
return {count, left}`;

/**
 * Makes a store of a client of the npm package `redis` (Redis or Valkey), which the program connects
 * and closes; it may be the one of `redisBus()`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for another client, or naming the option; `NOT_SUPPORTED`
 * for `Bun.RedisClient`
 */
export function redisStore(client: RedisClient, options: RedisStoreOptions = {}): RateLimitStore {
  assertRedisClient("redisStore()", client);
  return new RedisStore(client, checkOptions("redisStore()", OPTIONS, options));
}

class RedisStore implements RateLimitStore {
  readonly #client: RedisClient;
  readonly #options: v.InferOutput<typeof OPTIONS>;
  /** What the client has not answered, those included for which nothing waits any more. */
  #pending = 0;

  constructor(client: RedisClient, options: v.InferOutput<typeof OPTIONS>) {
    this.#client = client;
    this.#options = options;
  }

  async hit(key: string, windowMs: number): Promise<RateLimitCount> {
    const { prefix, timeoutMs, maxPending } = this.#options;
    // The client would keep the command for as long as it is not connected.
    if (!this.#client.isReady) throw new Error("The client of Redis is not connected");
    if (this.#pending >= maxPending) throw new Error(`Redis owes ${maxPending} answers already`);
    this.#pending++;
    const reply = this.#client.eval(SCRIPT, {
      keys: [`${prefix}${key}`],
      arguments: [String(windowMs)],
    }).finally(() => this.#pending--);
    const late = `Redis has not answered in ${timeoutMs} ms`;
    return countOf(await within(timeoutMs, () => reply, late));
  }
}

function countOf(reply: unknown): RateLimitCount {
  const [count, resetMs] = Array.isArray(reply) ? reply.map(Number) : [];
  if (Number.isFinite(count) && Number.isFinite(resetMs)) {
    return { count: count!, resetMs: resetMs! };
  }
  throw new Error("Redis answered with something else than two numbers");
}
