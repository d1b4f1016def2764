/**
 * Limits how many requests a client may make, by its address, its certificate, or anything else;
 * counted in this process, or in Redis or Valkey for all processes and hosts together.
 *
 * @example
 * ```ts
 * import { rateLimit } from "@httpsd/httpsd/rate-limit";
 * import { serve } from "@httpsd/httpsd";
 *
 * const limit = rateLimit({ limit: 100, windowMs: 60_000 });
 * await serve({ cert, key }, limit.fetch(() => new Response("hello\n")));
 * ```
 *
 * @module
 */
export {
  type LimitedContext,
  type LimitedHandler,
  type LimitedInfo,
  type LimitedRequest,
  type RateLimit,
  rateLimit,
  type RateLimitDecision,
  type RateLimitKey,
  type RateLimitOptions,
} from "./rate_limit.ts";
export { redisStore, type RedisStoreOptions } from "./redis_store.ts";
export {
  memoryStore,
  type MemoryStoreOptions,
  type RateLimitCount,
  type RateLimitStore,
} from "./store.ts";
