/**
 * Buses that connect the WebSockets of several processes and hosts, over a broker that runs already:
 * Redis, Valkey or NATS. The program makes the client; httpsd brings none.
 *
 * Messages are delivered at most once, those of one server in their order. What is missing after an
 * outage is not sent again: a server reports it with the event `bus:gap`.
 *
 * @example
 * ```ts
 * import { createClient } from "redis";
 * import { redisBus } from "@httpsd/httpsd/bus";
 * import { serve } from "@httpsd/httpsd";
 *
 * const client = await createClient({ url: "redis://127.0.0.1" }).on("error", console.error)
 *   .connect();
 * const server = await serve({ cert, key, bus: redisBus(client) }, app.fetch);
 * server.publish("news", "to the sockets of all processes");
 * ```
 *
 * @module
 */
export { natsBus, type NatsBusOptions, type NatsConnection } from "./nats.ts";
export { redisBus, type RedisBusOptions } from "./redis.ts";
export type { RedisClient, RedisEvents, RedisSubscriber } from "../redis_client.ts";
export type {
  BusState,
  BusStateListener,
  BusStatus,
  ClusterBus,
} from "../websocket/cluster/bus.ts";
