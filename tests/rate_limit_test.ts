/** Limits for the requests of one client, in memory and in Redis. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Hono } from "hono";
import type { HttpsServerOptions } from "../lib/config.ts";
import { createEdgeApp } from "../lib/edge/mod.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import type { Session } from "../lib/http/session.ts";
import {
  type LimitedRequest,
  memoryStore,
  rateLimit,
  type RateLimitOptions,
  redisStore,
} from "../lib/rate_limit/mod.ts";
import { MemoryStore } from "../lib/rate_limit/store.ts";
import { openRedis, startBroker, startFile } from "./bus_support.ts";
import { GET, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const TWO = { limit: 2, windowMs: 60_000 };
const REQUEST: LimitedRequest = { method: "GET", headers: new Headers() };

/** As much of a session as is looked at. */
function from(remoteAddress: string, fingerprint256?: string, authorized = true): Session {
  const tls = fingerprint256 && { authorized, peerCertificate: { fingerprint256 } };
  return { remoteAddress, tls } as unknown as Session;
}

/** The statuses that clients get, one after another. */
async function statuses(options: RateLimitOptions, ...sessions: Session[]): Promise<number[]> {
  const limit = rateLimit(options);
  const handle = limit.fetch(() => new Response("ok"));
  const answers: number[] = [];
  for (const session of sessions) {
    answers.push((await handle(new Request("http://a/"), { session })).status);
  }
  return answers;
}

/** What a server answers to so many GETs on one connection. */
async function answersOf(port: number, count: number) {
  const client = await RawClient.connect(port);
  for (let i = 0; i < count; i++) {
    client.send(GET("/"));
    await until(() => client.text.split("HTTP/1.1 ").length === i + 2, "An answer comes");
    await until(() => /\r\n\r\n[^]*\n$/.test(client.text), "It is whole");
  }
  client.destroy();
  return readResponses(client.text);
}

async function serving(
  handler: FetchHandler | undefined,
  options?: HttpsServerOptions,
): ReturnType<typeof started> {
  return await started(handler, options);
}

describe("rateLimit()", () => {
  const faces: Record<string, () => Promise<number>> = {
    "a fetch handler": async () =>
      (await serving(rateLimit(TWO).fetch(() => new Response("ok\n")))).port,
    "an app with a fetch": async () =>
      (await serving(rateLimit(TWO).fetch({ fetch: () => new Response("ok\n") }))).port,
    "a response whose fields cannot be changed": async () =>
      (await serving(rateLimit(TWO).fetch(async () => await fetch("data:,ok%0A")))).port,
    "a route that sends": async () => {
      const host = await serving(undefined);
      const handler = rateLimit(TWO).route((request) => request.send("ok\n"));
      host.server.route({ uri: "/", method: "GET", handler });
      return host.port;
    },
    "a route that returns": async () => {
      const host = await serving(undefined);
      const handler = rateLimit(TWO).route(() => new Response("ok\n"));
      host.server.route({ uri: "/", method: "GET", handler });
      return host.port;
    },
    "Hono": async () => {
      const app = new Hono();
      app.use(rateLimit(TWO).hono);
      app.get("/", (c) => c.text("ok\n"));
      return (await serving(app.fetch)).port;
    },
  };
  for (const [face, serve] of Object.entries(faces)) {
    test(`answers 429 behind ${face}, and says how much is left`, async () => {
      const answers = await answersOf(await serve(), 3);
      assert.deepEqual(answers.map(({ status, body }) => `${status} ${body}`), [
        "200 ok\n",
        "200 ok\n",
        "429 Too many requests\n",
      ]);
      for (const [i, left] of [1, 0, 0].entries()) {
        const { fields } = answers[i]!;
        assert.equal(fields["ratelimit-policy"], '"default";q=2;w=60');
        assert.equal(fields["ratelimit"], `"default";r=${left};t=60`);
        assert.equal(fields["retry-after"], i === 2 ? "60" : undefined);
      }
    });
  }

  test("limits an edge app, and what calls server.fetch()", async () => {
    const limit = rateLimit(TWO);
    const app = createEdgeApp({}, limit.fetch(() => new Response("ok")));
    const { server } = await serving(limit.fetch(() => new Response("ok")));
    const info = { remoteAddr: { transport: "tcp", hostname: "192.0.2.1", port: 1 } };
    const answers = [
      await app.fetch(new Request("http://a/"), info),
      await server.fetch(new Request("http://a/"), info),
      await app.fetch(new Request("http://a/"), info),
    ];
    assert.deepEqual(answers.map(({ status }) => status), [200, 200, 429]);
  });

  test("refuses WebSockets by take() in onUpgrade", async () => {
    const limit = rateLimit({ limit: 1, windowMs: 60_000 });
    const { FrameClient, withRoute } = await import("./websocket_support.ts");
    const host = await withRoute({
      onUpgrade: async (request) => (await limit.take(request, request.session)).refusal,
    });
    (await FrameClient.open(host.port)).socket.destroy();
    await assert.rejects(() => FrameClient.open(host.port), /^Error: HTTP\/1\.1 429 /);
  });

  test("counts addresses, of IPv6 the /64, and of mapped addresses the IPv4", async () => {
    const one = { limit: 1, windowMs: 60_000 };
    const count = (...addresses: string[]) => statuses(one, ...addresses.map((a) => from(a)));
    assert.deepEqual(await count("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1"), [200, 200, 429]);
    assert.deepEqual(await count("2001:db8::1", "2001:db8::2:0:0:1"), [200, 429]);
    assert.deepEqual(await count("2001:db8:0:1::1", "2001:DB8:0:1:ffff::", "2001:db8:0:2::1"), [
      200,
      429,
      200,
    ]);
    assert.deepEqual(await count("::1", "::2", "1::", "fe80::1%eth0", "fe80::2%eth1"), [
      200,
      429,
      200,
      200,
      429,
    ]);
    assert.deepEqual(await count("1:2:3:4:5:6:7:8", "1:2:3:4::", "1:2:3::"), [200, 429, 200]);
    assert.deepEqual(await count("", ""), [200, 429]);
  });

  test("counts certificates that were verified, and others by their address", async () => {
    const options = { by: "clientCertificate", limit: 1, windowMs: 60_000 } as const;
    const sessions = [
      from("192.0.2.1", "AA"),
      from("192.0.2.2", "AA"),
      from("192.0.2.1", "BB"),
      from("192.0.2.1", "CC", false),
      from("192.0.2.1", "DD", false),
      from("192.0.2.3"),
    ];
    assert.deepEqual(await statuses(options, ...sessions), [200, 429, 200, 200, 429, 200]);
  });

  test("counts what a function says, and nothing where it says undefined", async () => {
    const limit = rateLimit({
      by: ({ headers }) => Promise.resolve(headers.get("x-key") ?? undefined),
      limit: 1,
      windowMs: 60_000,
    });
    const take = async (key?: string) => {
      const headers = new Headers(key === undefined ? {} : { "x-key": key });
      const { refusal } = await limit.take({ method: "GET", headers }, from("192.0.2.1"));
      return refusal?.status ?? 200;
    };
    const long = "k".repeat(10_000);
    const keys = [undefined, undefined, "a", "a", "b", long, long, `${long}x`];
    const answers = [];
    for (const key of keys) answers.push(await take(key));
    assert.deepEqual(answers, [200, 200, 200, 429, 200, 200, 429, 200]);
    for (const answer of [1, null, {}]) {
      const wrong = rateLimit({ ...TWO, by: (() => answer) as never });
      await assert.rejects(() => wrong.take(REQUEST, from("::1")), { code: "INVALID_CONFIG" });
    }
  });

  test("a function that throws fails its request only", async () => {
    const by = () => {
      throw new Error("by");
    };
    const host = await serving(rateLimit({ ...TWO, by }).fetch(() => new Response("ok\n")));
    const client = await RawClient.connect(host.port);
    client.send(GET("/"));
    await client.expect(/^HTTP\/1\.1 500 /);
    client.destroy();
    assert.equal(host.errors[0]?.code, "HANDLER_FAILED");
  });

  test("leaves it to the server to say what is wrong with what a handler returns", async () => {
    for (const result of [undefined, null, "text", { status: 200 }]) {
      const handler = (() => result) as unknown as () => Response;
      const host = await serving(rateLimit(TWO).fetch(handler));
      const client = await RawClient.connect(host.port);
      client.send(GET("/"));
      await client.expect(/^HTTP\/1\.1 500 /);
      client.destroy();
      const [error] = host.errors;
      assert.match(`${error?.cause ?? error}`, /The handler returned .*, which is not a Response/);
    }
  });

  test("begins a window with a client's first request, and another after it", () => {
    let now = 0;
    const store = new MemoryStore(10, () => now);
    assert.deepEqual(store.hit("a", 100), { count: 1, resetMs: 100 });
    now = 60;
    assert.deepEqual(store.hit("a", 100), { count: 2, resetMs: 40 });
    assert.deepEqual(store.hit("b", 100), { count: 1, resetMs: 100 });
    now = 100;
    assert.deepEqual(store.hit("a", 100), { count: 1, resetMs: 100 });
  });

  test("forgets the client whose last request is oldest, beyond maxKeys", () => {
    const store = new MemoryStore(3);
    for (const key of ["a", "b", "c", "a", "d"]) store.hit(key, 60_000);
    assert.equal(store.size, 3);
    assert.equal(store.hit("a", 60_000).count, 3);
    assert.equal(store.hit("b", 60_000).count, 1);
    for (let i = 0; i < 10_000; i++) store.hit(`k${i}`, 60_000);
    assert.equal(store.size, 3);
  });

  test("answers as told when the store fails, and reports it once until it works", async () => {
    const failures: unknown[] = [];
    let isBroken = true;
    const store = {
      hit() {
        if (isBroken) throw new Error("broken");
        return { count: 1, resetMs: 1 };
      },
    };
    const options = { ...TWO, store, reportError: (error: unknown) => void failures.push(error) };
    const refusing = rateLimit(options);
    const { refusal } = await refusing.take(REQUEST, from("::1"));
    assert.deepEqual([refusal?.status, refusal?.headers.get("retry-after")], [503, "1"]);
    await refusing.take(REQUEST, from("::1"));
    assert.equal(failures.length, 1);
    isBroken = false;
    assert.equal((await refusing.take(REQUEST, from("::1"))).refusal, undefined);
    isBroken = true;
    await refusing.take(REQUEST, from("::1"));
    assert.equal(failures.length, 2);
    const allowing = rateLimit({ ...options, whenStoreFails: "allow" });
    assert.deepEqual(await allowing.take(REQUEST, from("::1")), { refusal: undefined, fields: [] });
    const thrower = rateLimit({ ...options, reportError: () => Promise.reject(new Error("too")) });
    assert.equal((await thrower.take(REQUEST, from("::1"))).refusal?.status, 503);
  });

  test("takes an answer without numbers for a failure of the store", async () => {
    for (const answer of [undefined, null, 1, {}, { count: NaN, resetMs: 1 }, { count: 1 }]) {
      const store = { hit: () => Promise.resolve(answer as never) };
      const failures: unknown[] = [];
      const options = { ...TWO, store, reportError: (error: unknown) => void failures.push(error) };
      const { refusal } = await rateLimit(options).take(REQUEST, from("::1"));
      assert.deepEqual([refusal?.status, failures.length], [503, 1]);
      const allowing = rateLimit({ ...options, whenStoreFails: "allow" });
      assert.equal((await allowing.take(REQUEST, from("::1"))).refusal, undefined);
    }
  });

  test("refuses what it does not understand, and says what to write", () => {
    for (
      const [options, message] of [
        [{}, /Option limit of rateLimit\(\) is missing/],
        [{ limit: 0, windowMs: 1 }, /limit/],
        [{ limit: 1, windowMs: 0 }, /windowMs/],
        [{ ...TWO, by: "ip" }, /by .*must be "address", "clientCertificate" or a function/],
        [{ ...TWO, max: 1 }, /write limit/],
        [{ ...TWO, store: {} }, /store .*must be a store/],
        [{ ...TWO, name: 'a"b' }, /name/],
        [{ ...TWO, whenStoreFails: "maybe" }, /whenStoreFails/],
        [{ ...TWO, nme: "x" }, /did you mean name/],
      ] as const
    ) assert.throws(() => rateLimit(options as never), { code: "INVALID_CONFIG", message });
    assert.throws(() => memoryStore({ maxKeys: 0 }), { code: "INVALID_CONFIG" });
    assert.throws(() => redisStore({} as never), { code: "INVALID_CONFIG" });
    assert.throws(() => rateLimit(TWO).fetch(1 as never), { code: "INVALID_CONFIG" });
    assert.throws(() => rateLimit(TWO).route(1 as never), { code: "INVALID_CONFIG" });
  });
});

describe("redisStore()", () => {
  const testRedis = testsWith("redis-server");

  testRedis("shares one count between processes, each counted once", async () => {
    await using broker = await startBroker("redis");
    // Two processes at once; of 400 requests 100 pass, whoever makes them.
    const children = (["deno", "bun"] as const).map((name) =>
      startFile(name, "rate_limit_peer.ts", broker.url)
    );
    const passed = (await Promise.all(children.map(({ done }) => done))).map((output) => {
      const match = /passed (\d+)\./.exec(output);
      assert.ok(match !== null, output);
      return Number(match[1]);
    });
    assert.equal(passed[0]! + passed[1]!, 100);
    const client = await openRedis(broker.port);
    assert.deepEqual(await client.keys("*"), ["httpsd:rate:default:address:2001:db8:0:0::/64"]);
    const left = Number(await client.pTTL("httpsd:rate:default:address:2001:db8:0:0::/64"));
    assert.ok(left > 0 && left <= 60_000);
    client.destroy();
  }, 30_000);

  testRedis("begins another window, and gives an end to a key that has none", async () => {
    await using broker = await startBroker("redis");
    const client = await openRedis(broker.port);
    const store = redisStore(client, { prefix: "p:" });
    await client.set("p:k", "7");
    const { count, resetMs } = await store.hit("k", 50);
    assert.equal(count, 8);
    assert.ok(resetMs > 0 && resetMs <= 50);
    await until(async () => await client.exists("p:k") === 0, "The window ends");
    assert.equal((await store.hit("k", 50)).count, 1);
    await client.set("p:k", "no number");
    await assert.rejects(async () => await store.hit("k", 50));
    client.destroy();
  }, 20_000);

  testRedis("asks no more of a Redis that owes maxPending answers", async () => {
    await using broker = await startBroker("redis");
    const client = await openRedis(broker.port);
    const store = redisStore(client, { timeoutMs: 15_000, maxPending: 50 });
    broker.pause(true);
    const refusals: string[] = [];
    const hits = Array.from({ length: 80 }, async () => {
      await store.hit("k", 60_000);
    });
    const ends = hits.map((hit) => hit.catch((error) => void refusals.push(error.message)));
    await until(() => refusals.length === 30, "What is too much is refused at once");
    assert.deepEqual(new Set(refusals), new Set(["Redis owes 50 answers already"]));
    broker.pause(false);
    await Promise.all(ends);
    assert.equal(refusals.length, 30);
    assert.equal((await store.hit("k", 60_000)).count, 51);
    client.destroy();
  }, 20_000);

  testRedis(
    "fails at once while Redis is away, in time when it hangs, and works again",
    async () => {
      await using broker = await startBroker("redis");
      const client = await openRedis(broker.port);
      const failures: unknown[] = [];
      const limit = rateLimit({
        limit: 1_000,
        windowMs: 60_000,
        store: redisStore(client, { timeoutMs: 100, maxPending: 50 }),
        reportError: (error) => void failures.push(error),
      });
      const take = async () => (await limit.take(REQUEST, from("::1"))).refusal?.status ?? 200;
      assert.equal(await take(), 200);
      broker.pause(true);
      const answers = await Promise.all(Array.from({ length: 80 }, take));
      assert.deepEqual(answers, Array(80).fill(503));
      assert.match(String(failures[0]), /owes 50 answers|not answered in 100 ms/);
      broker.pause(false);
      await until(async () => await take() === 200, "It works again");
      await broker.kill();
      await until(() => !client.isReady, "The client notices");
      assert.equal(await take(), 503);
      await broker.restart();
      await until(() => client.isReady, "The client is back");
      assert.equal(await take(), 200);
      client.destroy();
    },
    20_000,
  );
});
