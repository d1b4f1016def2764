/** How long each thing may take, how fast a body must come, and when a connection ends. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { readFileSync } from "node:fs";
import { GrowingBytes } from "../lib/bytes.ts";
import { type HttpsServerOptions, resolveConfig } from "../lib/config.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { type ConnectionDriver, driverOf } from "../lib/http/session.ts";
import { multipart } from "../lib/multipart/mod.ts";
import {
  answering,
  GET,
  type Mode,
  MODES,
  RawClient,
  readResponses,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { type Cap, capped, Visitor } from "./limits_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, heapMiB, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

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

  for (const hasMiddleware of [false, true]) {
    const behind = hasMiddleware ? "behind a middleware" : "alone";
    test(`lets go of a Response that comes after it, ${behind}`, async () => {
      const clock = new TestClock();
      const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
      const { promise: cancelled, resolve: cancel } = Promise.withResolvers<void>();
      const host = await started(
        async (request) => {
          if (request.url.endsWith("/quick")) return new Response("quick");
          begin();
          await new Promise<void>((resolve) => request.signal.onabort = () => resolve());
          return new Response(new ReadableStream({ cancel: () => cancel() }));
        },
        { timeouts: { handlerMs: 10_000 } },
        "plain",
        clock,
      );
      if (hasMiddleware) host.server.use((_, next) => next());
      const client = await RawClient.connect(host.port);
      client.send(GET("/slow") + GET("/quick"));
      await begun;
      await clock.advance(11_000);
      await cancelled;
      await client.expect("quick");
      assert.deepEqual(readResponses(client.text).map(({ status }) => status), [503, 200]);
      assert.deepEqual(host.errors.map(({ code }) => code), ["HANDLER_TIMEOUT"]);
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

describe("a body in chunks of one byte", () => {
  const COUNT = 300_000;
  const part = '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n';
  const faces: Record<string, { length(request: Request): Promise<number>; before: string }> = {
    "request.text()": {
      length: async (request) => (await request.text()).length,
      before: "",
    },
    "a stream": {
      length: async (request) => {
        const all = new GrowingBytes();
        for await (const piece of request.body!) all.add(piece);
        return all.length;
      },
      before: "",
    },
    "multipart()": {
      length: async (request) => {
        let length = 0;
        for await (const part of multipart(request)) length += (await part.bytes()).length;
        return length;
      },
      before: part,
    },
  };
  const chunk = (text: string) => text && `${text.length.toString(16)}\r\n${text}\r\n`;

  async function assertSmall(host: Started, path: string, before: string): Promise<void> {
    const client = await RawClient.connect(host.port);
    const type = before === "" ? "" : "Content-Type: multipart/form-data; boundary=b\r\n";
    const received = host.server.stats().bytes.received;
    const memory = heapMiB();
    const head = `POST ${path} HTTP/1.1\r\nHost: a\r\n${type}Transfer-Encoding: chunked\r\n\r\n`;
    const sent = head + chunk(before) + chunk("x").repeat(COUNT);
    client.send(sent);
    await until(
      () => host.server.stats().bytes.received - received === sent.length,
      "all of it has come",
    );
    assert.ok(heapMiB() - memory < 8, `${memory} MiB became ${heapMiB()}`);
    client.send(`${chunk(before && "\r\n--b--\r\n")}0\r\n\r\n`);
    await client.expect(RegExp(`\\r\\n\\r\\n${COUNT}$`));
    client.destroy();
  }

  for (const [name, { length, before }] of Object.entries(faces)) {
    test(`takes little more memory than it has, read by ${name}`, async () => {
      const host = await started(async (request) => new Response(`${await length(request)}`));
      await assertSmall(host, "/", before);
    }, 20_000);
  }

  test("takes little more memory than it has, read by a route", async () => {
    const host = await answering(async (request) => {
      request.send(`${(await request.text()).length}`);
    });
    await assertSmall(host, "/", "");
  }, 20_000);
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
        await turns(5); // until what was sent has come
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
      await turns();
      waiting.resetAndDestroy();
      await turns();
    }
    const next = await RawClient.connect(host.port);
    next.send(GET("/next"));
    await turns();
    first.client.destroy();
    await next.expect("\r\n\r\n/next");
    next.destroy();
  });
});

/** The TCP socket under a client's TLS. */
function rawOf({ socket }: RawClient) {
  return (socket as { _parent?: typeof socket })._parent ?? socket;
}
