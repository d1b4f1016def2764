/** One of the processes that share a limit of 100: makes 200 requests, and prints how many passed. */
import process from "node:process";
import { createClient } from "redis";
import type { Session } from "../lib/http/session.ts";
import { rateLimit, redisStore } from "../lib/rate_limit/mod.ts";

const client = createClient({ url: process.argv[2]! });
await client.connect();
const limit = rateLimit({ limit: 100, windowMs: 60_000, store: redisStore(client) });
const session = { remoteAddress: "2001:db8::1" } as Session;
const request = { method: "GET", headers: new Headers() };
const decisions = await Promise.all(
  Array.from({ length: 200 }, () => limit.take(request, session)),
);
console.log(`passed ${decisions.filter(({ refusal }) => refusal === undefined).length}.`);
client.destroy();
