/** How many sockets, requests and bytes there may be, and how long each may take. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type HttpsServerOptions, resolveConfig } from "../lib/config.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { type ConnectionDriver, driverOf, type Session } from "../lib/http/session.ts";
import {
  GET,
  type Mode,
  MODES,
  RawClient,
  readResponses,
  sleep,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();

stopServersAfterAll();

/** A server whose requests for /busy wait until `wake()`; others are answered with their path. */
interface Cap extends Started {
  wake(): void;
  /** Why sessions have ended, in order. */
  ends: (string | undefined)[];
}

async function capped(
  options: HttpsServerOptions,
  mode: Mode = "plain",
  clock?: TestClock,
): Promise<Cap> {
  const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
  const ends: (string | undefined)[] = [];
  const host = await started(
    async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/busy") await asleep;
      return new Response(pathname);
    },
    { closeFn: (_, error) => void ends.push(error?.code), ...options },
    mode,
    clock,
  );
  return { ...host, wake, ends };
}

/** A client, its session, and a way to ask on it. */
class Visitor {
  readonly client: RawClient;
  readonly session: Session;

  constructor(client: RawClient, session: Session) {
    this.client = client;
    this.session = session;
  }

  /** Connects, and waits until the server has a session for it. */
  static async come({ server, port }: Started, mode: Mode = "plain"): Promise<Visitor> {
    const known = new Set(server.sessions);
    const client = await RawClient.connect(port, mode);
    const find = () => [...server.sessions].find((session) => !known.has(session));
    await until(() => find() !== undefined, "the session is open");
    return new Visitor(client, find()!);
  }

  /** Asks for a path and waits for the answer. */
  async ask(path: string): Promise<void> {
    this.client.text = "";
    this.client.send(GET(path));
    await this.client.expect(`\r\n\r\n${path}`);
  }

  /** Asks for /busy, and waits until its handler runs. */
  async beBusy(): Promise<void> {
    this.client.send(GET("/busy"));
    await until(() => this.session.busy, "the handler runs");
  }

  /** Waits until the server has closed, and closes. */
  async leave(): Promise<void> {
    await this.client.rest();
    this.client.destroy();
  }
}

describe("the options", () => {
  const count = "a count, 1 or more";
  const ms = "a time in ms, 1 to 2147483647";
  const endless = "a time in ms, or Infinity, 1 or more";
  const ranges: Record<string, string> = {
    "limits.maxConnections": count,
    "limits.maxRoutes": count,
    "limits.maxQueuedWork": count,
    "limits.maxRequestsPerConnection": count,
    "limits.maxConnectionsPerAddress": count,
    "limits.maxHandshakes": count,
    "limits.maxResponseFields": "a count, 0 or more",
    "limits.minBodyBytesPerSecond": "bytes per second, 0 to 2147483647",
    "timeouts.headersMs": ms,
    "timeouts.receiveMs": ms,
    "timeouts.sendMs": ms,
    "timeouts.requestMs": endless,
    "timeouts.handlerMs": endless,
    "limits.maxConnectionAgeMs": endless,
    "timeouts.idleMs": endless,
    "limits.lruPurge": "true or false",
    keepAlive: "true, false or { idleMs }",
    uriMatch: "a function",
    globalUserContextFree: "a function",
  };
  for (const [path, range] of Object.entries(ranges)) {
    test(`${path} is refused with its name, its value and its range`, () => {
      for (const value of [-1, NaN]) {
        const [group, member] = path.split(".") as [string, string?];
        const options = { [group]: member === undefined ? value : { [member]: value } };
        assert.throws(() => resolveConfig(options), {
          code: "INVALID_CONFIG",
          message: `Option ${path} is ${value}: it must be ${range}`,
        });
      }
    });
  }
});

describe("maxConnections with lruPurge", () => {
  for (const mode of MODES) {
    test(`the session that was used least recently goes, in good order, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 3 } }, mode);
      const [a, b, c] = [
        await Visitor.come(host, mode),
        await Visitor.come(host, mode),
        await Visitor.come(host, mode),
      ];
      for (const visitor of [c!, b!, a!]) await visitor.ask("/"); // c has come last, and is the oldest
      c!.client.text = "";
      const d = await Visitor.come(host, mode);
      await c!.client.rest();
      assert.equal(c!.client.error, undefined);
      assert.equal(c!.client.text, "");
      b!.session.touch(); // or it would be the next
      const e = await Visitor.come(host, mode);
      await a!.client.rest();
      for (const visitor of [b!, d, e]) await visitor.ask("/still");
      assert.equal(host.server.sessions.size, 3);
      assert.deepEqual(host.ends, ["CONNECTION_ABORTED", "CONNECTION_ABORTED"]);
      for (const { client } of [a!, b!, c!, d, e]) client.destroy();
    });

    test(`none inside a request goes: the newcomer waits, and the next answer makes room, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 2 } }, mode);
      const busy = [await Visitor.come(host, mode), await Visitor.come(host, mode)];
      for (const visitor of busy) await visitor.beBusy();
      const coming = RawClient.connect(host.port, mode);
      const first = await Promise.race([coming.then(() => "came"), sleep(150).then(() => "waits")]);
      if (mode === "tls") assert.equal(first, "waits"); // plain TCP connects in the backlog
      assert.deepEqual([host.server.sessions.size, host.ends], [2, []]);
      host.wake();
      const newcomer = await coming;
      newcomer.send(GET("/new"));
      await newcomer.expect("\r\n\r\n/new");
      const closing = [];
      for (const { client } of busy) {
        await client.expect("\r\n\r\n/busy");
        const [answer] = readResponses(client.text);
        closing.push(answer?.fields["connection"]);
      }
      assert.ok(closing.includes("close"), "an answer says that it is the last");
      for (const { client } of [...busy, { client: newcomer }]) client.destroy();
    });
  }

  test("a session that becomes idle in the middle of the wait makes room too", async () => {
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
    const host = await started(undefined, { limits: { maxConnections: 1 } });
    host.server.route({
      uri: "/",
      method: "GET",
      async handler(request) {
        await request.sendChunk("begun"); // its head has said that the connection stays
        begin();
        await asleep;
        request.end();
      },
    });
    const a = await Visitor.come(host);
    a.client.send(GET("/"));
    await begun;
    const b = await RawClient.connect(host.port);
    b.send(GET("/none"));
    await sleep(50);
    assert.equal(b.text, "");
    wake();
    await b.expect("404");
    assert.ok(a.client.text.endsWith("0\r\n\r\n"));
    b.destroy();
    a.client.destroy();
  });

  test("a fresh connection in its handshake is not purged before an older idle one", async () => {
    const host = await capped({ limits: { maxConnections: 2 } }, "tls");
    const idle = await Visitor.come(host, "tls");
    await idle.ask("/a");
    const silent = await connectTcp(host.port); // its ClientHello is still to come
    await sleep(50);
    const newcomer = await Visitor.come(host, "tls");
    await idle.leave();
    await newcomer.ask("/new");
    assert.equal(silent.destroyed, false);
    assert.deepEqual(host.ends, ["CONNECTION_ABORTED"]);
    silent.destroy();
    newcomer.client.destroy();
  });

  test("a session with half a request head is purged only when no other is idle", async () => {
    const host = await capped({ limits: { maxConnections: 2 } });
    const half = await Visitor.come(host);
    half.client.send("GET /half HTTP/1.1\r\n");
    const idle = await Visitor.come(host);
    await idle.ask("/idle");
    await sleep(20);
    const newcomer = await Visitor.come(host);
    await idle.leave();
    half.client.send("Host: a\r\n\r\n");
    await half.client.expect("\r\n\r\n/half");
    half.client.text = "";
    half.client.send("GET");
    newcomer.client.send("GET");
    await sleep(20);
    const last = await Visitor.come(host);
    await last.ask("/last");
    assert.equal(host.ends.length, 2);
    for (const { client } of [half, newcomer, last]) client.destroy();
  });

  test("of WebSockets as many are closed as there are newcomers", async () => {
    const host = await started(undefined, { limits: { maxConnections: 2 } });
    host.server.route({ uri: "/ws", websocket: { onMessage() {} } });
    const sockets = [];
    for (let i = 0; i < 2; i++) {
      const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`);
      const closed = new Promise<number>((resolve) => socket.onclose = ({ code }) => resolve(code));
      await new Promise((resolve, reject) => (socket.onopen = resolve, socket.onerror = reject));
      sockets.push(closed);
    }
    const newcomers = [];
    for (let i = 0; i < 2; i++) newcomers.push(await RawClient.connect(host.port));
    for (const client of newcomers) client.send(GET("/"));
    assert.deepEqual(await Promise.all(sockets), [1001, 1001]);
    for (const client of newcomers) {
      await client.expect("404");
      client.destroy();
    }
  });

  test("20 clients that hold their connections are all let in, as in the original's example", async () => {
    const host = await capped({ limits: { maxConnections: 7 } });
    const visitors = [];
    for (let i = 0; i < 20; i++) {
      const visitor = await Visitor.come(host);
      await visitor.ask(`/${i}`);
      assert.ok(host.server.sessions.size <= 7);
      visitors.push(visitor);
    }
    for (const visitor of visitors.slice(0, 13)) await visitor.leave();
    for (const { client } of visitors) client.destroy();
  });
});

describe("maxConnections without lruPurge", () => {
  for (const mode of MODES) {
    test(`the newcomer waits in line, and is served when a slot frees, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 2, lruPurge: false } }, mode);
      const [a, b] = [await Visitor.come(host, mode), await Visitor.come(host, mode)];
      await a.ask("/a");
      await b.ask("/b");
      const raws = [await connectTcp(host.port), await connectTcp(host.port)];
      await sleep(100);
      assert.equal(host.server.sessions.size, 2);
      await a.ask("/a"); // nobody is purged
      raws[0]!.destroy(); // the first in line goes away
      a.client.destroy();
      const served = await RawClient.connect(host.port, mode === "plain" ? mode : "plain");
      await until(() => host.server.sessions.size >= (mode === "plain" ? 2 : 1), "room");
      if (mode === "plain") {
        const second = new RawClient(raws[1]!);
        second.send(GET("/second"));
        await second.expect("\r\n\r\n/second");
      }
      for (const client of [served, b.client]) client.destroy();
      raws[1]!.destroy();
    });
  }

  test("spillover: exactly n of n + 1 clients are served", async () => {
    const host = await capped({ limits: { maxConnections: 4, lruPurge: false } });
    const clients = [];
    for (let i = 0; i < 5; i++) {
      const client = await RawClient.connect(host.port);
      client.send(GET(`/${i}`));
      clients.push(client);
      if (i < 4) await client.expect(`\r\n\r\n/${i}`);
    }
    await sleep(100);
    assert.equal(clients[4]!.text, "");
    clients[1]!.destroy();
    await clients[4]!.expect("\r\n\r\n/4");
    for (const client of clients) client.destroy();
  });

  test("backlog wait at the most, and no longer than handshakeMs", async () => {
    const host = await capped({
      limits: { maxConnections: 1, lruPurge: false, backlog: 2 },
      timeouts: { handshakeMs: 200 },
    });
    const a = await Visitor.come(host);
    const begun = performance.now();
    const newcomers = [];
    for (let i = 0; i < 4; i++) newcomers.push(await RawClient.connect(host.port));
    const over = newcomers.map((client) =>
      client.rest().catch(() => "").then(() => performance.now() - begun)
    );
    const times = (await Promise.all(over)).sort((one, other) => one - other);
    assert.ok(times[1]! < 150, `${times}: two are cut at once`);
    assert.ok(times[2]! >= 190 && times[3]! < 2_000, `${times}: two wait`);
    await a.ask("/still");
    for (const client of [a.client, ...newcomers]) client.destroy();
  });

  for (const mode of MODES) {
    test(`a client that has ended its side keeps its slot while its handler runs, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 1, lruPurge: false } }, mode);
      const a = await Visitor.come(host, mode);
      await a.beBusy();
      a.client.end();
      await sleep(50);
      const coming = RawClient.connect(host.port, mode);
      const first = await Promise.race([coming.then(() => "in"), sleep(150).then(() => "waits")]);
      if (mode === "tls") assert.equal(first, "waits"); // plain TCP connects in the backlog
      assert.equal(host.server.sessions.size, 1);
      host.wake();
      await a.client.expect("\r\n\r\n/busy");
      const b = await coming;
      b.send(GET("/b"));
      await b.expect("\r\n\r\n/b");
      a.client.destroy();
      b.destroy();
    });
  }

  for (const lruPurge of [true, false]) {
    test(`holds under a flood of 300, lruPurge ${lruPurge}`, async () => {
      const host = await capped({ limits: { maxConnections: 4, lruPurge, backlog: 5 } });
      let most = 0;
      host.server.addEventListener("connected", () => {
        most = Math.max(most, host.server.sessions.size);
      });
      const sockets = await Promise.all(Array.from({ length: 300 }, () => connectTcp(host.port)));
      for (const socket of sockets) socket.on("error", () => {});
      await sleep(100);
      assert.ok(most > 0 && most <= 4, `${most} sessions`);
      for (const socket of sockets) socket.destroy();
      await until(() => host.server.sessions.size === 0, "all are gone");
      const visitor = await Visitor.come(host);
      await visitor.ask("/after");
      visitor.client.destroy();
    });
  }
});

/** The rows of the system's table for sockets on a local port; 0A is the listening one. */
function serverSockets(port: number): { state: string; timer: string }[] {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((row) => row[1]?.endsWith(local) && row[3] !== "0A")
    .map((row) => ({ state: row[3]!, timer: row[5]!.slice(0, 2) }));
}

test("keepAlive makes the system probe, and is off unless asked for", async () => {
  const KEEP_ALIVE_TIMER = "02";
  for (const [keepAlive, probed] of [[{ idleMs: 60_000 }, true], [true, true], [false, false]]) {
    const host = await capped({ keepAlive: keepAlive as boolean });
    const visitor = await Visitor.come(host);
    await visitor.ask("/a");
    const probes = () => serverSockets(host.port).some(({ timer }) => timer === KEEP_ALIVE_TIMER);
    if (probed) await until(probes, "the timer is set");
    else assert.equal(probes(), false);
    visitor.client.destroy();
  }
});

describe("handlerMs", () => {
  for (const mode of MODES) {
    test(`answers 503, aborts the handler's signal, and the connection goes on, ${mode}`, async () => {
      const reasons: string[] = [];
      const clock = new TestClock();
      const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
      const host = await started(
        undefined,
        { timeouts: { handlerMs: 10_000 }, uriMatch: () => true },
        mode,
        clock,
      );
      host.server.route({
        uri: "/",
        method: "GET",
        async handler(request) {
          if (request.path === "/quick") return request.send("quick");
          begin();
          await new Promise<void>((resolve) => request.signal.onabort = () => resolve());
          reasons.push(request.signal.reason.cause.code);
          request.send("too late");
        },
      });
      const client = await RawClient.connect(host.port, mode);
      client.send(GET("/slow") + GET("/quick"));
      await begun;
      await clock.advance(9_000);
      assert.equal(client.text, "");
      await clock.advance(2_000);
      await client.expect("quick");
      const [slow, quick] = readResponses(client.text);
      assert.deepEqual([slow?.status, quick?.body], [503, "quick"]);
      assert.deepEqual(reasons, ["HANDLER_TIMEOUT"]);
      assert.deepEqual(host.errors.map(({ code }) => code), ["HANDLER_TIMEOUT", "ALREADY_SENT"]);
      client.destroy();
    });
  }

  test("is for the head of the response: its body may take longer", async () => {
    const clock = new TestClock();
    const { promise: later, resolve: goOn } = Promise.withResolvers<void>();
    const host = await started(undefined, { timeouts: { handlerMs: 10_000 } }, "plain", clock);
    host.server.route({
      uri: "/",
      method: "GET",
      async handler(request) {
        await request.sendChunk("a");
        await later;
        await request.sendChunk("b");
        request.end();
      },
    });
    const client = await RawClient.connect(host.port);
    client.send(GET("/"));
    await client.expect("\r\na\r\n");
    await clock.advance(20_000);
    goOn();
    await client.expect("0\r\n\r\n");
    assert.equal(readResponses(client.text)[0]?.body, "ab");
    client.destroy();
  });

  test("holds for error handlers too", async () => {
    const host = await started(undefined, { timeouts: { handlerMs: 60 } });
    host.server.onError(404, () => new Promise(() => {}));
    const client = await RawClient.connect(host.port);
    client.send(GET("/"));
    await client.expect("503");
    client.destroy();
  });
});

/** A server that reads each body to its end, and answers with its length. */
async function reading(
  options: HttpsServerOptions,
  mode: Mode = "plain",
  clock?: TestClock,
): Promise<Started> {
  const host = await started(undefined, options, mode, clock);
  host.server.route({
    uri: "/",
    method: "POST",
    async handler(request: HttpdRequest) {
      let length = 0;
      for (;;) {
        const bytes = await request.recv();
        if (bytes === undefined) break;
        length += bytes.length;
      }
      request.send(`${length}`);
    },
  });
  return host;
}

/** A client that sends a POST whose body comes at a pace of the test's clock. */
class Dripper {
  readonly client: RawClient;
  readonly #host: Started;
  readonly #clock: TestClock;

  private constructor(client: RawClient, host: Started, clock: TestClock) {
    this.client = client;
    this.#host = host;
    this.#clock = clock;
  }

  static async begin(host: Started, clock: TestClock, mode: Mode, length: number) {
    const dripper = new Dripper(await RawClient.connect(host.port, mode), host, clock);
    await dripper.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`);
    return dripper;
  }

  /** Sends text, and waits until the server has it. */
  async send(text: string): Promise<void> {
    const { server } = this.#host;
    const { promise, resolve } = Promise.withResolvers<void>();
    let bytes = 0;
    const count = (event: { bytes: number }): void => {
      bytes += event.bytes;
      if (bytes >= text.length) resolve();
    };
    server.addEventListener("data", count);
    this.client.send(text);
    await promise;
    server.removeEventListener("data", count);
  }

  /** Sends so many bytes every so often, for so long or until the session is over; gives that time. */
  async drip(bytes: number, everyMs: number, forMs: number): Promise<number> {
    const begun = this.#clock.now();
    while (this.#clock.now() - begun < forMs) {
      await this.#clock.advance(everyMs);
      if (this.#host.errors.length > 0) break;
      await this.send("x".repeat(bytes));
    }
    return this.#clock.now() - begun;
  }

  /** The status of the answer. */
  async status(): Promise<number | undefined> {
    const text = await this.client.rest();
    this.client.destroy();
    return readResponses(text)[0]?.status;
  }
}

describe("requestMs", () => {
  for (const mode of MODES) {
    test(`is for the whole request, however steadily its body drips, ${mode}`, async () => {
      const clock = new TestClock();
      const options = {
        limits: { minBodyBytesPerSecond: 0 },
        timeouts: { requestMs: 20_000, receiveMs: 10_000 },
      };
      const host = await reading(options, mode, clock);
      const dripper = await Dripper.begin(host, clock, mode, 1_000);
      const ms = await dripper.drip(1, 2_000, 60_000);
      assert.equal(await dripper.status(), 408);
      assert.ok(ms >= 20_000 && ms <= 24_000, `${ms} ms`);
      await until(() => host.server.sessions.size === 0, "the session is over");
    });
  }

  test("counts from the first byte of the head", async () => {
    const clock = new TestClock();
    const options = {
      limits: { minBodyBytesPerSecond: 0 },
      timeouts: { requestMs: 20_000, receiveMs: 100_000 },
    };
    const host = await reading(options, "plain", clock);
    const visitor = await Visitor.come(host);
    visitor.client.send("POST / HT");
    await until(
      () => (driverOf(visitor.session) as ConnectionDriver).receiving,
      "the head has begun",
    );
    await clock.advance(15_000);
    visitor.client.send("TP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    await until(() => visitor.session.busy, "the handler runs");
    await clock.advance(4_000);
    assert.equal(visitor.client.text, "");
    await clock.advance(5_000);
    await visitor.client.expect("408");
    visitor.client.destroy();
  });
});

describe("minBodyBytesPerSecond", () => {
  const RATE = 1_000;
  const patient = { timeouts: { receiveMs: 100_000, requestMs: Infinity } };
  for (const mode of MODES) {
    test(`cuts a body that is slower, after 5 s of grace, ${mode}`, async () => {
      const clock = new TestClock();
      const host = await reading(
        { limits: { minBodyBytesPerSecond: RATE }, ...patient },
        mode,
        clock,
      );
      const dripper = await Dripper.begin(host, clock, mode, 1_000_000);
      const ms = await dripper.drip(100, 1_000, 60_000);
      assert.equal(await dripper.status(), 408);
      assert.ok(ms > 5_000 && ms < 8_000, `${ms} ms`);
    });

    test(`cuts none that is as fast, nor any where it is 0, ${mode}`, async () => {
      for (const [minBodyBytesPerSecond, bytes] of [[RATE, 1_500], [0, 10]] as const) {
        const clock = new TestClock();
        const host = await reading({ limits: { minBodyBytesPerSecond }, ...patient }, mode, clock);
        const dripper = await Dripper.begin(host, clock, mode, bytes * 20);
        assert.equal(await dripper.drip(bytes, 1_000, 20_000), 20_000);
        await dripper.client.expect(`\r\n\r\n${bytes * 20}`);
        dripper.client.destroy();
      }
    });
  }
});

describe("a connection's end", () => {
  for (const mode of MODES) {
    test(`comes after maxRequestsPerConnection, announced, ${mode}`, async () => {
      const host = await capped({ limits: { maxRequestsPerConnection: 3 } }, mode);
      const client = await RawClient.connect(host.port, mode);
      client.send([1, 2, 3, 4, 5].map((n) => GET(`/${n}`)).join(""));
      const answers = readResponses(await client.rest());
      assert.deepEqual(answers.map(({ body }) => body), ["/1", "/2", "/3"]);
      const announced = answers.map(({ fields }) => fields["connection"]);
      assert.deepEqual(announced, [undefined, undefined, "close"]);
      client.destroy();
    });

    test(`comes at maxConnectionAgeMs when it is idle, ${mode}`, async () => {
      const clock = new TestClock();
      const host = await capped({ limits: { maxConnectionAgeMs: 20_000 } }, mode, clock);
      const visitor = await Visitor.come(host, mode);
      await visitor.ask("/a");
      await clock.advance(19_000);
      await visitor.ask("/a");
      await clock.advance(2_000);
      await visitor.leave();
    });

    test(`comes with the answer under way at maxConnectionAgeMs, ${mode}`, async () => {
      const clock = new TestClock();
      const host = await capped({ limits: { maxConnectionAgeMs: 20_000 } }, mode, clock);
      const visitor = await Visitor.come(host, mode);
      await visitor.beBusy();
      await clock.advance(30_000);
      assert.equal(visitor.client.ended, false);
      visitor.client.send(GET("/next"));
      host.wake();
      const answers = readResponses(await visitor.client.rest());
      assert.equal(answers[0]?.body, "/busy");
      const last = answers.at(-1)!;
      if (answers.length === 2) assert.equal(last.fields["connection"], "close");
      assert.ok(answers.length <= 2);
      visitor.client.destroy();
    });
  }
});

describe("a reset", () => {
  const states: [when: string, come: (host: Cap, mode: Mode) => Promise<RawClient>][] = [
    ["before a request", async (host, mode) => (await Visitor.come(host, mode)).client],
    ["in a head", async (host, mode) => {
      const { client } = await Visitor.come(host, mode);
      client.send("GET /");
      return client;
    }],
    ["in a body", async (host, mode) => {
      const { client } = await Visitor.come(host, mode);
      client.send("POST /busy HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
      return client;
    }],
    ["in a handler", async (host, mode) => {
      const visitor = await Visitor.come(host, mode);
      await visitor.beBusy();
      return visitor.client;
    }],
    ["after an answer", async (host, mode) => {
      const visitor = await Visitor.come(host, mode);
      await visitor.ask("/a");
      return visitor.client;
    }],
  ];
  for (const mode of MODES) {
    for (const [when, come] of states) {
      test(`${when} frees the session, ${mode}`, async () => {
        const host = await capped({}, mode);
        const client = await come(host, mode);
        await sleep(10);
        client.socket.on("error", () => {});
        rawOf(client).resetAndDestroy();
        await until(() => {
          host.wake();
          return host.server.sessions.size === 0;
        }, "the session is over");
        const after = await Visitor.come(host, mode);
        await after.ask("/after");
        after.client.destroy();
      });
    }
  }

  test("while it waits for a slot frees its place in the line", async () => {
    const host = await capped({ limits: { maxConnections: 1, lruPurge: false, backlog: 1 } });
    const first = await Visitor.come(host);
    for (let i = 0; i < 5; i++) {
      const waiting = await connectTcp(host.port);
      await sleep(20);
      waiting.resetAndDestroy();
      await sleep(20);
    }
    const next = await RawClient.connect(host.port);
    next.send(GET("/next"));
    await sleep(20);
    first.client.destroy();
    await next.expect("\r\n\r\n/next");
    next.destroy();
  });
});

/** The TCP socket under a client's TLS. */
function rawOf({ socket }: RawClient) {
  return (socket as { _parent?: typeof socket })._parent ?? socket;
}
