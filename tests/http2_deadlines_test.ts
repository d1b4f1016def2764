/** How long a client of HTTP/2 may take for each thing, and the memory that it makes the server hold. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { type HttpsServerOptions, resolveConfig } from "../lib/config.ts";
import type { HttpsdError } from "../lib/errors.ts";
import type { Exchange } from "../lib/http/exchange.ts";
import { ExchangeWatch } from "../lib/http/exchange_watch.ts";
import { Http1Connection, type Http1Host } from "../lib/http1/connection.ts";
import { Http2Connection, type Http2Host } from "../lib/http2/connection.ts";
import type { Http2Config } from "../lib/http2/options.ts";
import { MemoryWire, openedOn, SEND_MS } from "./engine_support.ts";
import {
  answer,
  assertUnharmed,
  GET,
  goneWith,
  many,
  MORE,
  nth,
  OPEN,
  POST,
  resets,
  serverFor,
  stopAttackedServersAfterAll,
  TEST_MS,
  WAIT_MS,
} from "./http2_attacks_support.ts";
import {
  type ClientOptions,
  type CodeName,
  data,
  headers,
  Http2Client,
  join,
  ping,
  PREFACE,
  reset,
  Setting,
  settings,
  settingsAck,
  Type,
  windowUpdate,
} from "./http2_client.ts";
import { started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { engineOf, type Mode, MODES, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();
stopAttackedServersAfterAll();

/** A server whose clock goes as the test says, and what it needs. */
async function onClock(mode: Mode, options: HttpsServerOptions = {}) {
  const clock = new TestClock();
  const { port, server } = await started(answer, options, mode, clock);
  let read = 0;
  server.addEventListener("data", ({ bytes }) => read += bytes);
  return {
    clock,
    server,
    /** Sends, and waits until the server has read it. */
    async read(client: Http2Client, bytes: Uint8Array): Promise<void> {
      const before = read;
      client.send(bytes);
      await until(() => read >= before + bytes.length, "the server has read it");
    },
    connect: (how: ClientOptions = {}) => Http2Client.connect(port, mode, how),
  };
}

/** Lets time pass up to just before a deadline, then beyond. */
async function expires(
  clock: TestClock,
  ms: number,
  client: Http2Client,
  isOver: () => boolean,
): Promise<void> {
  await clock.advance(ms - 2_000);
  if (!client.closed && !client.ended) await client.settled();
  assert.ok(!isOver(), `Before its time; ${client.story()}`);
  await clock.advance(4_000);
  await until(isOver, `what the deadline does; ${client.story()}`);
}

/** More than the system holds of a connection that is not read. */
const LONG_BYTES = 24 * 1024 * 1024;

const isGone = (client: Http2Client) => () => client.ended || client.closed;

for (const mode of MODES) {
  const scheme = mode === "tls" ? "https" : "http";
  describe(`deadlines of HTTP/2, ${mode}`, () => {
    test("a client without a preface is cut", async () => {
      const { clock, connect, server, read } = await onClock(mode);
      using client = await connect({ settings: null, acknowledge: false });
      await until(() => server.sessions.size === 1, "the session");
      await read(client, PREFACE.subarray(0, 10));
      await read(client, PREFACE.subarray(10, 20));
      const due = mode === "tls" ? 10_000 : 30_000; // without TLS it might be one of HTTP/1.1
      await clock.advance(due - 2_000);
      assert.ok(!client.closed && !client.ended);
      await clock.advance(4_000);
      await until(isGone(client), "the end");
    });

    test("a client without SETTINGS is cut", async () => {
      const { clock, connect, server } = await onClock(mode);
      using client = await connect({ settings: null });
      client.send(PREFACE);
      await client.until(() => client.count(Type.SETTINGS) > 0, "the server's SETTINGS");
      await clock.advance(8_000);
      assert.ok(!client.closed && !client.ended);
      await clock.advance(4_000);
      await until(isGone(client), "the end");
      await until(() => server.sessions.size === 0, "no session");
    });

    test("SETTINGS that are not acknowledged end the connection", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect({ acknowledge: false });
      assert.equal((await client.fetch({ scheme })).status, 200);
      await expires(clock, 10_000, client, () => client.goaway !== undefined);
      await goneWith(client, "SETTINGS_TIMEOUT");
    });

    const HEAD = headers(1, GET("/", scheme), MORE);
    const UNFINISHED: [what: string, bytes: Uint8Array, ms: number, code: CodeName][] = [
      ["that waits for CONTINUATION", HEAD, 30_000, "ENHANCE_YOUR_CALM"],
      ["that is cut in its frame", HEAD.subarray(0, -1), 30_000, "ENHANCE_YOUR_CALM"],
      ["that is no more than 5 bytes of a frame", HEAD.subarray(0, 5), 60_000, "NO_ERROR"],
    ];
    for (const [what, bytes, ms, code] of UNFINISHED) {
      test(`half a head ${what} has its time to become whole`, async () => {
        const { clock, connect, read } = await onClock(mode);
        using client = await connect();
        await client.ready();
        await client.settled();
        await read(client, bytes);
        await clock.advance(ms - 2_000);
        assert.ok(!client.ended && !client.closed, client.story());
        await clock.advance(4_000);
        await goneWith(client, code);
      });
    }

    test("a head in bytes that come again and again has no more time", async () => {
      const { clock, connect, read } = await onClock(mode);
      using client = await connect();
      await client.ready();
      await client.settled();
      const head = headers(1, GET("/", scheme));
      await read(client, head.subarray(0, 9));
      for (let at = 9; at < 9 + 28; at++) {
        await read(client, head.subarray(at, at + 1));
        await clock.advance(1_000);
      }
      assert.ok(!client.ended && !client.closed, client.story());
      await clock.advance(4_000);
      await goneWith(client, "ENHANCE_YOUR_CALM");
    });

    test("half a body gets 408, and the connection goes on", async () => {
      const { clock, connect } = await onClock(mode, { limits: { minBodyBytesPerSecond: 0 } });
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN), data(1, "half", OPEN));
      await client.settled();
      await expires(clock, 30_000, client, () => client.soFar(1).status === 408);
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    });

    test("a body that no window lets through has its time once others are taken", async () => {
      const http2 = { connectionWindowBytes: 65_535, streamWindowBytes: 65_535 };
      const { clock, connect } = await onClock(mode, { http2 });
      using client = await connect();
      await client.ready();
      const full = [16_384, 16_384, 16_384, 16_383].map((bytes) =>
        data(1, new Uint8Array(bytes), OPEN)
      );
      client.send(headers(1, POST("/hold", scheme), OPEN), ...full);
      client.send(headers(3, POST("/read", scheme), OPEN));
      await client.settled();
      for (let i = 0; i < 4; i++) {
        await clock.advance(15_000);
        await client.settled();
      }
      assert.equal(client.soFar(3).status, 0, client.story());
      client.send(reset(1));
      for (const [last, endStream] of [[1, false], [2, false], [3, true]] as const) {
        client.send(data(3, `piece ${last}`, { endStream }));
        await client.settled();
        if (!endStream) await clock.advance(2_000);
      }
      const { status, body } = await client.answer(3);
      assert.deepEqual([status, `${body}`], [200, "21"]);
    });

    test("a body that no window lets through gets 408 behind timeouts.requestMs", async () => {
      const http2 = { connectionWindowBytes: 65_535, streamWindowBytes: 65_535 };
      const { clock, connect } = await onClock(mode, { http2, timeouts: { requestMs: 100_000 } });
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/hold", scheme), OPEN));
      for (const bytes of [16_384, 16_384, 16_384, 16_383]) {
        client.send(data(1, new Uint8Array(bytes), OPEN));
      }
      client.send(headers(3, POST("/read", scheme), OPEN));
      await client.settled();
      await expires(clock, 100_000, client, () => client.soFar(3).status === 408);
    });

    test("a body in bytes that come again and again gets 408", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN));
      for (let i = 0; i < 60 && client.soFar(1).status === 0; i++) {
        client.send(data(1, "x", OPEN));
        await client.settled();
        await clock.advance(5_000);
      }
      await client.until(() => client.soFar(1).status === 408, "408");
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    });

    test("an answer that no window lets through is reset, and the connection goes on", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
      await client.ready();
      client.send(headers(1, GET("/big", scheme)));
      await client.until(() => client.soFar(1).status === 200, "the head");
      await client.settled();
      await expires(clock, 30_000, client, () => client.soFar(1).reset === "CANCEL");
      client.send(settings([Setting.INITIAL_WINDOW_SIZE, 65_535]));
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    });

    const UNREAD: Record<string, Uint8Array> = {
      "the stream's window": windowUpdate(1, 300),
      "the stream's window by a byte": windowUpdate(1, 1),
      "the setting up and down": join(
        settings([Setting.INITIAL_WINDOW_SIZE, 65_000]),
        settings([Setting.INITIAL_WINDOW_SIZE, 65_535]),
      ),
    };
    for (const [what, frames] of Object.entries(UNREAD)) {
      test(`an answer has no more time where the client widens ${what} and takes nothing`, async () => {
        const { clock, connect } = await onClock(mode);
        using client = await connect({ giveBack: false });
        await client.ready();
        client.send(headers(1, GET("/big", scheme)));
        await client.until(() => client.soFar(1).body.length === 65_535, "all that fits");
        for (let i = 0; i < 3 && client.soFar(1).reset === undefined; i++) {
          client.send(frames);
          await client.settled();
          await clock.advance(12_000);
        }
        await client.until(() => client.soFar(1).reset === "CANCEL", "the reset");
        assert.equal(client.soFar(1).body.length, 65_535);
      });
    }

    test("a byte for one answer gives no other more time", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect({ giveBack: false });
      await client.ready();
      client.send(many(10, (i) => headers(nth(i), GET("/big", scheme))));
      await client.until(() => client.count(Type.HEADERS) === 10, "the heads");
      for (let i = 0; i < 3; i++) {
        await client.settled();
        await clock.advance(12_000);
        client.send(windowUpdate(0, 1));
      }
      await client.until(() => resets(client, "CANCEL") >= 7, "the resets");
    });

    test("an answer that is read slowly gives the handler of another no more time", async () => {
      const clock = new TestClock();
      const handler = ({ url }: Request) =>
        url.endsWith("/long")
          ? new Response(new Uint8Array(LONG_BYTES))
          : new Promise<Response>(() => {});
      const options = { timeouts: { handlerMs: 1_000 } };
      const { port, server } = await started(handler, options, mode, clock);
      using client = await Http2Client.connect(port, mode, {
        settings: [[Setting.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]],
      });
      client.send(windowUpdate(0, 2 ** 30));
      await client.ready();
      client.socket.pause();
      client.send(headers(1, GET("/long", scheme)), headers(3, GET("/never", scheme)));
      await until(() => server.stats().requests.total === 2, "the requests");
      const [session] = server.sessions;
      await until(() => session!.connection.bufferedBytes > 0, "the client has to read");
      const errors: string[] = [];
      server.addEventListener("error", ({ error }) => errors.push(error.code));
      await clock.advance(500);
      assert.deepEqual(errors, []);
      await clock.advance(1_000);
      assert.deepEqual(errors, ["HANDLER_TIMEOUT"]);
      client.socket.resume();
      await client.until(() => client.soFar(3).status === 503, "the answer");
      await client.until(() => client.soFar(1).body.length === LONG_BYTES, "the other");
    }, TEST_MS);

    test("an idle connection ends with GOAWAY", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect();
      assert.equal((await client.fetch({ scheme })).status, 200);
      await client.settled();
      await clock.advance(58_000);
      assert.equal(client.goaway, undefined);
      await clock.advance(4_000);
      await goneWith(client, "NO_ERROR");
      assert.equal(client.goaway!.lastStreamId, 1);
    });

    test("frames that carry nothing do not keep an idle connection", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect();
      assert.equal((await client.fetch({ scheme })).status, 200);
      for (let i = 0; i < 12 && client.goaway === undefined; i++) {
        client.send(ping(), settings(), windowUpdate(0, 1_000));
        await new Promise((resolve) => setTimeout(resolve, 2));
        await clock.advance(6_000);
      }
      await goneWith(client, "NO_ERROR");
    });

    const BUDGETS: Record<
      string,
      { burst: number; perSecond: number; make: (i: number) => Uint8Array }
    > = {
      "frames that carry nothing": { burst: 990, perSecond: 100, make: () => ping() },
      "resets by the client": {
        burst: 1_000,
        perSecond: 33,
        make: (i) => join(headers(nth(i), GET("/hold", scheme)), reset(nth(i))),
      },
      "resets by the server": {
        burst: 100,
        perSecond: 10,
        make: (i) => headers(nth(i), GET("/", scheme, ["X-UPPER", "1"])),
      },
    };
    for (const [name, { burst, perSecond, make }] of Object.entries(BUDGETS)) {
      test(`${name}: the budget is spent once, and comes again with time`, async () => {
        const { clock, connect } = await onClock(mode);
        using client = await connect();
        await client.ready();
        let made = 0;
        const spend = async (count: number): Promise<void> => {
          for (let left = count; left > 0; left -= 50) {
            const some = Math.min(left, 50); // of handlers that have to settle
            client.send(many(some, (i) => make(made + i)));
            made += some;
            if (name !== "frames that carry nothing") await client.settled("settled!", WAIT_MS);
          }
          if (name !== "frames that carry nothing") return;
          await client.until(() => client.count(Type.PING) >= made, "the answers", WAIT_MS);
        };
        await spend(burst);
        await clock.advance(2_000);
        await spend(2 * perSecond);
        await clock.advance(2_000);
        for (let i = 0; i < 2 * perSecond + 60; i++) client.send(make(made + i));
        await goneWith(client, "ENHANCE_YOUR_CALM");
      }, TEST_MS);
    }

    test("a client that ends its side gets the answers that it waits for", async () => {
      const { connect, server } = await onClock(mode);
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN), data(1, "abc"));
      client.send(headers(3, GET("/", scheme)));
      client.end();
      assert.equal((await client.answer(1)).body.toString(), "3");
      assert.equal((await client.answer(3)).status, 200);
      await client.over();
      await until(() => server.sessions.size === 0, "no session");
    });

    test("a client that ends its side in the middle of a body gets 400", async () => {
      const { connect } = await onClock(mode);
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN), data(1, "abc", OPEN));
      await client.settled();
      client.end();
      assert.equal((await client.answer(1)).status, 400);
      await client.over();
    });

    test("a client that ends its side gives no window back: its answer is cut", async () => {
      const { connect, server, clock } = await onClock(mode);
      using client = await connect({ giveBack: false });
      await client.ready();
      client.send(headers(1, GET("/big", scheme)));
      await client.until(() => client.soFar(1).body.length === 65_535, "all that fits");
      client.end();
      await until(() => [...server.sessions][0]?.connection.peerEnded === true, "its end");
      await clock.advance(1_000);
      await until(() => server.sessions.size === 0, "no session");
    });

    test("a client that ends its side does not wait long for an answer that pauses", async () => {
      const { connect, server, clock } = await onClock(mode, { timeouts: { lingerMs: 2_000 } });
      using client = await connect();
      await client.ready();
      client.send(headers(1, GET("/pausing", scheme)));
      await client.until(() => client.soFar(1).body.length === 10, "the first piece");
      client.end();
      await until(() => [...server.sessions][0]?.connection.peerEnded === true, "its end");
      await clock.advance(1_000);
      assert.equal(server.sessions.size, 1);
      await clock.advance(3_000);
      await until(() => server.sessions.size === 0, "no session");
    });
  });

  describe(`memory that a client of HTTP/2 makes the server hold, ${mode}`, () => {
    /** Has the server hold 200 short pieces of bodies, each behind 60,000 bytes that are read. */
    async function holdPieces(client: Http2Client): Promise<void> {
      const held = [1, 3];
      const read = 5;
      for (const id of held) client.send(headers(id, POST("/hold", scheme), OPEN));
      client.send(headers(read, POST("/drain", scheme), OPEN));
      const rest = many(4, () => data(read, new Uint8Array(15_000), OPEN));
      let window = 262_144;
      client.onFrame = ({ type, streamId, payload }) => {
        if (type === Type.WINDOW_UPDATE && streamId === read) window += payload.readUInt32BE();
      };
      for (let i = 0; i < 200; i++) {
        await client.until(() => window >= 60_000, "the window of what is read", WAIT_MS);
        window -= 60_000;
        client.send(rest, data(held[i % 2]!, new Uint8Array(2_100), OPEN));
      }
      await client.settled("settled!", WAIT_MS);
      assert.equal(client.count(Type.RST_STREAM), 0, client.story());
    }

    test("short pieces of bodies keep no more than themselves of what came with them", async () => {
      const server = await serverFor(mode, {
        limits: { maxBodyBytes: 1e9 },
        http2: { connectionWindowBytes: 8_000_000 },
      });
      // What a fresh process takes to work at all is no memory that a client holds.
      using first = await server.connect();
      await holdPieces(first);
      first.destroy();
      await assertUnharmed(server, async () => {
        const clients: Http2Client[] = [];
        for (let i = 0; i < 8; i++) {
          const client = await server.connect();
          clients.push(client);
          await holdPieces(client);
        }
        for (const client of clients) client.destroy();
      }, { peakMiB: 60, cpuMs: 10_000 });
    }, TEST_MS);

    // Deno's TLS clients read on while they are paused.
    if (mode === "plain") {
      test(
        "windows that are given back to a client that reads nothing cut the connection",
        async () => {
          let taken = 0;
          let madeAt = 0;
          const { port, server } = await started(
            async (request) => {
              if (request.method === "GET") {
                return new Response(
                  new ReadableStream({
                    pull(body) {
                      madeAt = performance.now();
                      body.enqueue(new Uint8Array(65_536));
                    },
                  }),
                );
              }
              for await (const piece of request.body!) taken += piece.length;
              return new Response("all");
            },
            { http2: { streamWindowBytes: 1_000, maxUnsentControlBytes: 2_000 } },
            mode,
          );
          using client = await Http2Client.connect(port, mode);
          await client.ready();
          await client.settled();
          client.socket.pause();
          client.socket.on("error", () => {});
          client.send(
            headers(1, GET("/", scheme)),
            windowUpdate(1, 2 ** 30),
            windowUpdate(0, 2 ** 30),
          );
          client.send(headers(3, POST("/", scheme), OPEN));
          const [session] = server.sessions;
          const engine = engineOf(session!.connection);
          const takesNoMore = () => engine.blocked && performance.now() > madeAt + 300;
          await until(takesNoMore, "the socket takes no more", WAIT_MS);
          for (let sent = 500; sent <= 200 * 500 && !engine.closed; sent += 500) {
            client.send(data(3, new Uint8Array(500), OPEN)); // of which each is given back
            await until(() => taken >= sent || engine.closed, "it is read");
          }
          assert.ok(engine.closed, `${taken} bytes were read`);
        },
        TEST_MS,
      );
    }

    test("the answers of PINGs that are not read cut the connection", async () => {
      const plenty = { burst: 1e9, perSecond: 1e9 };
      const server = await serverFor(mode, { http2: { controlFrames: plenty } });
      const report = await assertUnharmed(server, async () => {
        using client = await server.connect();
        client.socket.pause();
        const pings = many(20_000, () => ping());
        for (let i = 0; i < 2_000 && !client.closed && !client.socket.destroyed; i++) {
          if (client.socket.write(pings)) continue;
          await new Promise<void>((resolve) => {
            client.socket.once("drain", resolve);
            client.socket.once("close", resolve);
          });
        }
        await until(() => client.closed || client.socket.destroyed, "the cut", WAIT_MS);
      }, { cpuMs: 20_000 });
      assert.ok(report.ends["CONNECTION_ABORTED"], JSON.stringify(report.ends));
    }, TEST_MS);
  });
}

/** A client that reads slowly, and whose body of another request waits behind that. */
async function slowReader(timeouts: HttpsServerOptions["timeouts"]) {
  const { engine, wire, clock, consumer } = await openedOn(new MemoryWire());
  engine.detach(consumer);
  const failures: string[] = [];
  const config = resolveConfig({
    transportMode: "insecure",
    timeouts: { sendMs: SEND_MS, ...timeouts },
  });
  const host = {
    ...config,
    watch: new ExchangeWatch({ ended() {}, observerFailed() {} }),
    handle(_: unknown, { head, body, response }: Exchange) {
      if (head.path === "/long") response.send({ status: 200 }, "x".repeat(1_000_000));
      else body.readAll().catch(() => {});
    },
    speaksFor: () => true,
    answered: () => false,
    failed: (_: unknown, { code }: HttpsdError) => void failures.push(code),
    passed() {},
    touch() {},
    ended() {},
  };
  new Http2Connection(engine, host as unknown as Http2Host, config.http2 as Http2Config).begin();
  await Promise.resolve();
  wire.reader.onData(join(PREFACE, settings([Setting.INITIAL_WINDOW_SIZE, 2 ** 20])));
  wire.reader.onData(join(settingsAck(), windowUpdate(0, 2 ** 20)));
  await turns();
  wire.full = true;
  wire.reader.onData(join(
    headers(1, GET("/long", "http")),
    headers(3, POST("/body", "http"), OPEN),
    data(3, "half", OPEN),
  ));
  await turns();
  assert.equal(engine.blocked, true);
  const readsFor = async (ms: number) => {
    wire.reader.onDrain(); // which takes the next slice, and no more
    await clock.advance(ms);
  };
  return { clock, wire, failures, readsFor };
}

test("a client that reads slowly is given time for what waits behind that, but not without end", async () => {
  const { clock, failures, readsFor } = await slowReader({ receiveMs: 400, requestMs: 2_500 });
  for (let i = 0; i < 3; i++) {
    await readsFor(800);
    assert.deepEqual(failures, []);
  }
  await readsFor(800); // the body is late by its last limit
  assert.deepEqual(failures, ["REQUEST_TIMEOUT"]);
  await clock.advance(SEND_MS);
  assert.deepEqual(failures, ["REQUEST_TIMEOUT", "CONNECTION_TIMEOUT"]);
});

test("the time in which a client read what its body waits behind makes that no slower", async () => {
  const { clock, wire, failures, readsFor } = await slowReader({});
  for (let i = 0; i < 10; i++) await readsFor(800);
  wire.full = false;
  for (let i = 0; i < 100; i++) wire.reader.onDrain();
  await turns();
  for (let i = 0; i < 3; i++) {
    wire.reader.onData(data(3, "more", OPEN));
    await turns();
    await clock.advance(500);
  }
  assert.deepEqual(failures, []);
});

test("a client that waits for HTTP/2 to be loaded is cut when that takes too long", async () => {
  const { engine, wire, clock, consumer } = await openedOn(new MemoryWire());
  engine.detach(consumer);
  const ends: unknown[] = [];
  const found: Http1Connection[] = [];
  const host = {
    ...resolveConfig({ transportMode: "insecure" }),
    foundPreface: (driver: Http1Connection) => {
      found.push(driver);
      driver.connection.deadline = driver.connection.after(100); // and nothing comes of it
    },
    passed() {},
    ended: (_driver: unknown, error: HttpsdError | undefined) => void ends.push(error?.code),
  } as unknown as Http1Host;
  const driver = new Http1Connection(engine, host);
  driver.begin();
  wire.reader.onData(Uint8Array.from(PREFACE));
  await Promise.resolve();
  assert.deepEqual(found, [driver]);
  await clock.advance(99);
  assert.deepEqual(ends, []);
  await clock.advance(SEND_MS);
  assert.ok(wire.calls.includes("destroy"));
  assert.deepEqual(ends, ["CONNECTION_TIMEOUT"]);
});
