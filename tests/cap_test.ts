/** Who is served, who waits, who goes and who is turned away at `maxConnections`. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { ServerErrorEvent } from "../lib/events.ts";
import {
  GET,
  type Mode,
  MODES,
  RawClient,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, gone, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { clientFrame } from "./websocket_cases.ts";
import { echo, handshake } from "./websocket_support.ts";

assertRuntime();

stopServersAfterAll();

interface Capped extends Started {
  /** Lets the requests for /busy end. */
  wake(): void;
  /** The events of newcomers that were turned away. */
  refusals: ServerErrorEvent[];
}

/** A server whose requests for /busy wait until `wake()`; others are answered with their path. */
async function capped(
  options: HttpsServerOptions,
  mode: Mode = "plain",
  clock?: TestClock,
): Promise<Capped> {
  const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
  const host = await started(
    async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/busy") await asleep;
      return new Response(pathname);
    },
    options,
    mode,
    clock,
  );
  const refusals: ServerErrorEvent[] = [];
  host.server.addEventListener("error", (event) => {
    if (event.phase === "accept") refusals.push(event);
  });
  return { ...host, wake, refusals };
}

/** Connects and asks for `path`, without waiting for the answer. */
async function asking(host: Started, path: string, mode: Mode = "plain"): Promise<RawClient> {
  const client = await RawClient.connect(host.port, mode);
  client.send(GET(path));
  return client;
}

/** A client that was answered and is idle now. */
async function idle(host: Started, path = "/idle", mode: Mode = "plain"): Promise<RawClient> {
  const client = await asking(host, path, mode);
  await client.expect(`\r\n\r\n${path}`);
  client.text = "";
  return client;
}

/** Asks for `path` and waits for its answer. */
async function ask(client: RawClient, path: string): Promise<void> {
  client.text = "";
  client.send(GET(path));
  await client.expect(`\r\n\r\n${path}`);
}

/** A WebSocket client on a connection of its own. */
async function webSocket(host: Started, mode: Mode = "plain"): Promise<RawClient> {
  const client = await RawClient.connect(host.port, mode);
  client.send(handshake("/ws"));
  await client.expect(/^HTTP\/1\.1 101 [^]*\r\n\r\n/);
  client.text = "";
  return client;
}

for (const mode of MODES) {
  describe(`a newcomer at the cap, ${mode}`, () => {
    test("gets the place of a session that becomes idle after it came", async () => {
      const host = await capped({ limits: { maxConnections: 2 } }, mode);
      const busy = await asking(host, "/busy", mode);
      const other = await asking(host, "/busy", mode);
      await until(() => [...host.server.sessions].filter(({ busy }) => busy).length === 2, "busy");
      const coming = asking(host, "/new", mode);
      await until(() => host.server.counters.waiting === 1, "the newcomer waits");
      host.wake();
      await (await coming).expect("\r\n\r\n/new");
      for (const client of [busy, other, await coming]) client.destroy();
    });

    test("gets the place of a session that is upgraded after it came", async () => {
      const host = await capped({ limits: { maxConnections: 1 } }, mode);
      const { promise: mayUpgrade, resolve: upgrade } = Promise.withResolvers<void>();
      const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
      host.server.route({
        uri: "/ws",
        websocket: {
          async onUpgrade() {
            ask();
            await mayUpgrade;
          },
          onMessage() {},
        },
      });
      const socket = await RawClient.connect(host.port, mode);
      socket.send(handshake("/ws"));
      await asked;
      const coming = asking(host, "/new", mode);
      await until(() => host.server.counters.waiting === 1, "the newcomer waits");
      upgrade();
      await (await coming).expect("\r\n\r\n/new");
      for (const client of [socket, await coming]) client.destroy();
    });

    test("waits for sessions that have not had their first request yet", async () => {
      const host = await capped({ limits: { maxConnections: 4 } }, mode);
      const fresh = [];
      for (let i = 0; i < 4; i++) fresh.push(await RawClient.connect(host.port, mode));
      await until(() => host.server.sessions.size === 4, "all are there");
      const coming = asking(host, "/new", mode);
      await until(() => host.server.counters.waiting === 1, "the newcomer waits");
      for (const [i, client] of fresh.entries()) await ask(client, `/${i}`);
      await (await coming).expect("\r\n\r\n/new");
      for (const client of [...fresh, await coming]) client.destroy();
    });

    test("takes the place of one that never sends its first request", async () => {
      const host = await capped({ limits: { maxConnections: 2 } }, mode);
      const silent = [
        await RawClient.connect(host.port, mode),
        await RawClient.connect(host.port, mode),
      ];
      await until(() => host.server.sessions.size === 2, "all are there");
      const client = await asking(host, "/new", mode);
      await client.expect("\r\n\r\n/new");
      assert.equal(host.server.counters.purged, 1);
      for (const one of [...silent, client]) one.destroy();
    });

    test("takes an idle connection's place before a WebSocket's, and does not wait for a Close", async () => {
      const host = await capped({ limits: { maxConnections: 2 } }, mode);
      host.server.route({
        uri: "/ws",
        websocket: { onMessage() {}, timeouts: { closeMs: 60_000 } },
      });
      const socket = await webSocket(host, mode);
      const kept = await idle(host, "/kept", mode);
      const first = await idle(host, "/first", mode);
      await kept.rest();
      assert.equal(socket.ended, false);
      first.send(GET("/busy"));
      await until(() => [...host.server.sessions].some(({ busy }) => busy), "busy");
      const second = await idle(host, "/second", mode); // the WebSocket never answers a Close
      await socket.rest();
      assert.equal(socket.text.slice(0, 4), "\x88\x02\x03\xe9"); // 1001
      host.wake();
      for (const client of [socket, kept, first, second]) client.destroy();
    });

    test("takes the place of the WebSocket that has been quiet longest", async () => {
      const host = await capped({ limits: { maxConnections: 3 } }, mode);
      host.server.route({ uri: "/ws", websocket: echo });
      const sockets = [];
      for (let i = 0; i < 3; i++) sockets.push(await webSocket(host, mode));
      sockets[0]!.send(clientFrame({ op: 1, text: "hello" }));
      await sockets[0]!.expect("hello");
      const newcomer = await idle(host, "/new", mode);
      await sockets[1]!.rest();
      assert.deepEqual(sockets.map(({ ended }) => ended), [false, true, false]);
      for (const client of [...sockets, newcomer]) client.destroy();
    });

    test("that is turned away is reported in an event, and counted", async () => {
      const clock = new TestClock();
      const host = await capped({ limits: { maxConnections: 1, backlog: 2 } }, mode, clock);
      const busy = await asking(host, "/busy", mode);
      await until(() => [...host.server.sessions].some(({ busy }) => busy), "busy");
      const newcomers = [];
      for (let i = 0; i < 5; i++) newcomers.push(await connectTcp(host.port));
      const leaving = Promise.all(newcomers.map(gone));
      await clock.until(() => host.refusals.length === 5, "all are turned away");
      await leaving;
      for (const { error, remoteAddress, session } of host.refusals) {
        assert.deepEqual([error.code, remoteAddress, session], [
          "SERVER_FULL",
          "127.0.0.1",
          undefined,
        ]);
      }
      const { counters } = host.server;
      assert.deepEqual(counters, { open: 1, waiting: 0, accepted: 6, refused: 5, purged: 0 });
      host.wake();
      await busy.expect("\r\n\r\n/busy");
      for (const socket of [busy, ...newcomers]) socket.destroy();
    });
  });

  test(`curl -Z loses none of 30 GETs at a cap of 4, ${mode}`, async () => {
    const host = await capped({ limits: { maxConnections: 4 } }, mode);
    const scheme = mode === "tls" ? "https" : "http";
    const urls = Array.from({ length: 30 }, (_, i) => `${scheme}://127.0.0.1:${host.port}/${i}`);
    const curl = spawn("curl", ["-skZ", "--no-keepalive", "-w", "\\n%{http_code}\\n", ...urls]);
    let output = "";
    curl.stdout.on("data", (bytes) => output += bytes);
    const [code] = await once(curl, "close");
    const statuses = output.split("\n").filter((line) => /^\d{3}$/.test(line));
    assert.deepEqual([code, statuses.filter((status) => status === "200").length], [0, 30]);
    assert.equal(host.refusals.length, 0);
  }, 20_000);

  test(
    `120 silent connections a second push out no more than a part of the idle, ${mode}`,
    async () => {
      const clock = new TestClock();
      const host = await capped(
        { limits: { maxConnections: 40 }, timeouts: { lingerMs: 100 } },
        mode,
        clock,
      );
      const good = [];
      for (let i = 0; i < 40; i++) good.push(await idle(host, `/${i}`, mode));
      const silent: net.Socket[] = [];
      for (let ms = 0; ms < 2_500; ms += 50) {
        for (let i = 0; i < 6; i++) {
          const socket = net.connect(host.port, "127.0.0.1");
          socket.on("error", () => {});
          silent.push(socket);
        }
        await turns(5);
        await clock.advance(50);
      }
      const alive = good.filter(({ ended, closed }) => !ended && !closed);
      assert.ok(alive.length >= 28, `${alive.length} of 40 are left`);
      for (const client of alive) await ask(client, "/still");
      for (const socket of silent) socket.destroy(); // or a newcomer waits behind them in line
      const newcomer = await idle(host, "/new", mode);
      for (const client of [...good, newcomer]) client.destroy();
    },
    15_000,
  );
}

/** A clock in a process that reads its sockets when the test says so. */
class StalledClock extends TestClock {
  readonly #unread: (() => void)[] = [];

  override afterReading(then: () => void): void {
    this.#unread.push(then);
  }

  /** Has read what has come. */
  read(): void {
    for (const then of this.#unread.splice(0)) then();
  }
}

for (const mode of MODES) {
  test(`none is closed for a silence that the server has not listened to, ${mode}`, async () => {
    const clock = new StalledClock();
    const answer = (request: Request) => new Response(new URL(request.url).pathname);
    const { server, port } = await started(answer, { limits: { maxConnections: 1 } }, mode, clock);
    const early = new RawClient(await connectTcp(port));
    await until(() => server.counters.open === 1, "the first is there");
    await clock.advance(2_000);
    const newcomer = new RawClient(await connectTcp(port));
    newcomer.send(GET("/new"));
    await until(() => server.counters.waiting === 1, "a newcomer waits");
    assert.equal(server.counters.purged, 0);
    if (mode === "plain") {
      early.send(GET("/early"));
      await early.expect("\r\n\r\n/early");
      early.destroy();
      await newcomer.expect("\r\n\r\n/new");
    } else {
      clock.read();
      await early.rest();
    }
    assert.equal(server.counters.purged, mode === "plain" ? 0 : 1);
    for (const client of [early, newcomer]) client.destroy();
  });
}

test("in the profile esp-idf the least recently used goes, whatever it is", async () => {
  const host = await capped({ profile: "esp-idf", limits: { lruPurge: true, maxConnections: 3 } });
  host.server.route({ uri: "/ws", websocket: { onMessage() {} } });
  const socket = await webSocket(host);
  const fresh = await RawClient.connect(host.port);
  await until(() => host.server.sessions.size === 2, "two are there");
  const kept = await idle(host, "/kept");
  const newcomers = [];
  for (const leaving of [socket, fresh, kept]) {
    newcomers.push(await idle(host, "/new"));
    await leaving.rest();
  }
  for (const client of [socket, fresh, kept, ...newcomers]) client.destroy();
});

test("an idle session whose client does not read makes room all the same", async () => {
  const host = await capped({ limits: { maxConnections: 1 }, timeouts: { sendMs: 60_000 } });
  host.server.route({
    uri: "/ws",
    websocket: {
      limits: { maxBufferedBytes: 64 * 1024 * 1024 },
      onOpen: (ws) => void ws.send(new Uint8Array(32 * 1024 * 1024)),
      onMessage() {},
    },
  });
  const socket = await connectTcp(host.port);
  socket.write(handshake("/ws"));
  await once(socket, "data");
  socket.pause();
  const newcomer = await idle(host, "/new");
  newcomer.destroy();
  socket.destroy();
});
