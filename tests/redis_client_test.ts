/**
 * One client of Redis for everything: a bus, a limit, and the storage of certificates with its locks,
 * while the broker is killed and comes back.
 */
import assert from "node:assert/strict";
import { redisStorage } from "../lib/acme/mod.ts";
import { redisBus } from "../lib/bus/mod.ts";
import type { Session } from "../lib/http/session.ts";
import { rateLimit, redisStore } from "../lib/rate_limit/mod.ts";
import { openRedis, startBroker, withBroker } from "./bus_support.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { FrameClient } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const LOCK_MS = 1_500;

testsWith("redis-server")(
  "a bus, a limit and a storage of one client recover together",
  async () => {
    await using broker = await startBroker("redis");
    const client = await openRedis(broker.port);
    const bus = redisBus(client);
    const storage = redisStorage(client, { lockMs: LOCK_MS });
    const failures: unknown[] = [];
    const limit = rateLimit({
      by: () => "one client",
      limit: 2,
      windowMs: 60_000,
      store: redisStore(client),
      reportError: (error) => void failures.push(error),
    });
    // Two servers: what one publishes comes to the other's clients through Redis alone.
    const hosts = [await withBroker(bus), await withBroker(bus)] as const;
    const [publisher, other] = hosts;
    const socket = await FrameClient.open(other.port);
    socket.send({ op: 1, text: "join x" });
    assert.equal(await socket.text(), "1 join x");
    const request = new Request("https://a/");
    const take = async () => (await limit.take(request, {} as Session)).refusal;

    /** All that Redis does works. */
    async function works(text: string): Promise<void> {
      publisher.server.publish("x", text);
      await until(async () => (await socket.text()) === `1 ${text}`, `${text} comes`);
      assert.deepEqual([await take(), await take()], [undefined, undefined]);
      assert.equal((await take())?.status, 429);
      await storage.set("a/b", text);
      assert.equal(await storage.get("a/b"), text);
      assert.deepEqual(await storage.list("a/"), ["a/b"]);
    }

    await works("before");
    const lock = await storage.lock("order");
    assert.ok(lock !== undefined && await storage.lock("order") === undefined);

    await broker.kill();
    await until(() => hosts.every(({ states }) => states.at(-1) === "down"), "the bus is away");
    // A command that the client has taken already is sent again, and would count.
    await until(() => !client.isReady, "the client is away");
    assert.equal((await take())?.status, 503);
    assert.equal(failures.length, 1);
    const waiting = storage.set("kept", "while it was away");
    // Another process may have the lock meanwhile: to be safe it is lost, although nobody says so.
    await until(() => lock.signal.aborted, "the lock is lost");
    await lock.release(); // does not wait for Redis

    await broker.restart(); // with nothing of what it knew
    await until(() => hosts.every(({ states }) => states.at(-1) === "up"), "the bus is back");
    await waiting;
    assert.equal(await storage.get("kept"), "while it was away");
    await works("after");
    const next = await storage.lock("order");
    assert.ok(next !== undefined && !next.signal.aborted);
    await next.release();
    assert.equal(failures.length, 1);
    socket.socket.destroy();
    for (const { server } of hosts) await server.stop({ drainMs: 0 });
    client.destroy();
  },
  20_000,
);
