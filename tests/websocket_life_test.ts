/** The life of WebSockets: closing, deadlines, keep-alive, slow clients, many receivers, the stop. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import net from "node:net";
import process from "node:process";
import { deflateMessage } from "../lib/websocket/deflate.ts";
import type { ServerWebSocket } from "../lib/websocket/mod.ts";
import { EncodedMessage } from "../lib/websocket/prepared_message.ts";
import { MODES, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { residentMiB, turns, until } from "./support.ts";
import { type ClientFrame, clientFrame } from "./websocket_cases.ts";
import {
  CLOSE,
  closePayload,
  echo,
  FrameClient,
  handshake,
  type ServerFrame,
  withRoute,
} from "./websocket_support.ts";
import { sendAll, timed } from "./websocket_limits_support.ts";

assertRuntime();

stopServersAfterAll();

/** Server options under which deadlines are exact to a few ms. */
const QUICK_TIMEOUTS = { lingerMs: 100, idleMs: 60_000 };
const QUICK = { timeouts: QUICK_TIMEOUTS };

for (const mode of MODES) {
  describe(`closing, ${mode}`, () => {
    test("by the client: its code and reason come back, then the server ends", async () => {
      const { server, port, closes } = await withRoute(echo, {}, mode);
      const client = await FrameClient.open(port, { mode });
      client.send({ op: 8, hex: closePayload(4321, "done ✓") }, { op: 1, text: "never" });
      assert.deepEqual(await client.close(), [4321, "done ✓"]);
      await client.end();
      client.socket.end();
      await until(() => closes.length === 1, "onClose is called");
      assert.deepEqual(closes[0], {
        code: 4321,
        reason: "done ✓",
        wasClean: true,
        error: undefined,
      });
      await until(() => server.sessions.size === 0, "The session is over");
    });

    test("by a listener that is told that it opens: what comes is thrown away, too", async () => {
      const heard: unknown[] = [];
      const ended = Promise.withResolvers<void>();
      const { server, port, closes } = await withRoute(
        { onMessage: (_, text) => void heard.push(text) },
        QUICK,
        mode,
      );
      server.route({
        uri: "/loop",
        websocket: {
          async onOpen(ws) {
            for await (const message of ws) heard.push(message);
            ended.resolve();
          },
          onClose: (_, info) => void closes.push(info),
        },
      });
      server.addEventListener("websocket:open", ({ ws }) => ws.close(1008, "not you"));
      for (const path of ["/ws", "/loop"]) {
        const client = await FrameClient.open(port, {
          mode,
          path,
          rest: [{ op: 1, text: "early" }],
        });
        assert.deepEqual(await client.close(), [1008, "not you"]);
        client.send({ op: 1, text: "late" }, { op: 8, hex: closePayload(1008) });
        await client.end();
        client.socket.end();
      }
      await until(() => closes.length === 2, "onClose is called");
      assert.ok(closes.every(({ wasClean }) => wasClean));
      await ended.promise;
      assert.deepEqual(heard, []);
    });

    test("by the server: behind what was sent, and what comes then is thrown away", async () => {
      const { port, closes, sockets } = await withRoute(echo, {}, mode);
      const client = await FrameClient.open(port, { mode });
      const [ws] = sockets;
      void ws!.send("last");
      ws!.close(1000, "bye");
      assert.equal(ws!.readyState, 2);
      await assert.rejects(ws!.send("late"), { code: "WS_CLOSED" });
      client.send({ op: 1, text: "unheard" }, { op: 9 }, CLOSE);
      assert.equal(await client.text(), "1 last");
      assert.deepEqual(await client.close(), [1000, "bye"]);
      await client.end();
      client.socket.end();
      assert.deepEqual(await ws!.closed, closes[0]);
      assert.deepEqual([closes[0]?.code, closes[0]?.wasClean], [1000, true]);
      assert.equal(ws!.readyState, 3);
    });

    test("without a Close frame it is 1006 and not clean", async () => {
      const { port, closes } = await withRoute(echo, {}, mode);
      const client = await FrameClient.open(port, { mode });
      client.send({ op: 1, text: "half a goodbye" });
      assert.equal(await client.text(), "1 half a goodbye");
      client.socket.end();
      await until(() => closes.length === 1, "onClose is called");
      assert.deepEqual([closes[0]?.code, closes[0]?.wasClean], [1006, false]);
    });

    test("destroy() cuts", async () => {
      const { port, closes, sockets } = await withRoute(echo, {}, mode);
      const client = await FrameClient.open(port, { mode });
      sockets[0]!.destroy();
      await client.end();
      await until(() => closes.length === 1, "onClose is called");
      assert.equal(closes[0]?.error?.code, "CONNECTION_ABORTED");
    });

    test("server.stop() says 1001 to all and waits for them", async () => {
      const { server, port, closes } = await withRoute(echo, {}, mode);
      const clients = [
        await FrameClient.open(port, { mode }),
        await FrameClient.open(port, { mode }),
      ];
      const events: string[] = [];
      for (const type of ["disconnected", "stop"] as const) {
        server.addEventListener(type, () => void events.push(type));
      }
      const stopped = server.stop();
      for (const client of clients) {
        assert.deepEqual(await client.close(), [1001, ""]);
        client.send({ op: 8, hex: closePayload(1001) });
        await client.end();
        client.socket.end();
      }
      await stopped;
      assert.deepEqual(closes.map(({ code, wasClean }) => [code, wasClean]), [
        [1001, true],
        [1001, true],
      ]);
      assert.deepEqual(events, ["disconnected", "disconnected", "stop"]);
    });
  });
}

describe("deadlines", () => {
  test("a client that does not answer the Close is cut after closeMs", async () => {
    const { port, closes, sockets, errors } = await withRoute(
      { ...echo, timeouts: { closeMs: 50 } },
      QUICK,
    );
    const client = await FrameClient.open(port);
    sockets[0]!.close(1000);
    assert.deepEqual(await client.close(), [1000, ""]);
    await client.end();
    await until(() => closes.length === 1, "onClose is called");
    assert.deepEqual([closes[0]?.code, closes[0]?.wasClean], [1006, false]);
    assert.equal(errors[0]?.code, "CONNECTION_TIMEOUT");
  });

  test("a Close behind a callback that never ends is answered after closeMs", async () => {
    const { port } = await withRoute(
      { onMessage: () => new Promise<void>(() => {}), timeouts: { closeMs: 50 } },
      QUICK,
    );
    const client = await FrameClient.open(port, { rest: [{ op: 1, text: "stuck" }, CLOSE] });
    assert.deepEqual(await client.close(), [1000, ""]);
    await client.end();
    client.socket.destroy();
  });

  test("server.stop() cuts what does not close in drainMs", async () => {
    const options = { timeouts: { drainMs: 600_000 } };
    const { server, port, closes } = await withRoute(echo, options);
    const client = await FrameClient.open(port);
    await server.stop({ drainMs: 50 });
    assert.equal(closes.length, 1);
    client.socket.destroy();
  });

  test("a quiet client is pinged, one that answers lives, one that does not is cut", async () => {
    const host = await timed({ ...echo, pingPeriodMs: 4_000, notAliveMs: 12_000 });
    const { port, clock, closes, errors } = host;
    const alive = await FrameClient.open(port);
    const dead = await FrameClient.open(port);
    for (let pongs = 0; pongs < 8; pongs++) {
      const ping = alive.next();
      await clock.advance(4_500);
      assert.equal((await ping)?.op, 9, `ping ${pongs}`);
      await sendAll(host, alive, clientFrame({ op: 10 }));
      if (pongs === 0) assert.equal(closes.length, 0);
    }
    assert.equal((await dead.next())?.op, 9);
    while (await dead.next() !== undefined);
    await until(() => closes.length === 1, "The dead one is closed");
    assert.equal(errors[0]?.code, "CONNECTION_TIMEOUT");
    assert.match(errors[0]!.message, /not alive/);
    assert.equal(closes.length, 1);
    alive.socket.destroy();
  });

  test("an unused socket is closed with 1001 after idleMs, pings or not", async () => {
    const host = await timed({ ...echo, timeouts: { idleMs: 10_000 }, pingPeriodMs: 3_000 });
    const client = await FrameClient.open(host.port);
    let frame: ServerFrame | undefined;
    let pings = 0;
    for (;; pings++) {
      const next = client.next();
      await host.clock.advance(3_500);
      frame = await next;
      if (frame?.op !== 9) break;
      await sendAll(host, client, clientFrame({ op: 10 }));
    }
    assert.ok(pings > 1, `${pings} pings`);
    assert.equal(frame?.op, 8);
    assert.equal(frame.payload.readUInt16BE(0), 1001);
    client.socket.destroy();
  });

  test("a busy callback does not make its client look dead", async () => {
    const gate = Promise.withResolvers<void>();
    const { port, errors, sockets, clock, came } = await timed({
      onMessage: () => gate.promise,
      pingPeriodMs: 2_000,
      notAliveMs: 6_000,
      limits: { maxPayloadBytes: 10_000_000 },
    });
    const client = await FrameClient.open(port);
    const frame = clientFrame({ op: 2, repeat: ["00", 100_000] });
    const begun = came(frame.length);
    for (let i = 0; i < 40; i++) client.send(frame);
    await begun;
    await clock.advance(20_000);
    assert.deepEqual(errors, []);
    assert.equal(sockets[0]?.readyState, 1);
    gate.resolve();
    client.socket.destroy();
  });
});

describe("limits", () => {
  test("a ping flood is closed with 1008", async () => {
    const { port, errors } = await withRoute({ ...echo, limits: { maxPingsPerSecond: 10 } });
    const client = await FrameClient.open(port);
    client.send(...new Array<ClientFrame>(11).fill({ op: 9 }), { op: 1, text: "never" });
    for (let i = 0; i < 10; i++) assert.equal(await client.text(), "10 ");
    assert.equal((await client.close())[0], 1008);
    assert.equal(errors[0]?.code, "WS_PING_FLOOD");
    client.socket.destroy();
  });

  test("a client that pings and does not read costs one pong", async () => {
    const { port, sockets } = await withRoute({
      limits: { maxPingsPerSecond: Infinity },
      onOpen: (ws) => void ws.send(new Uint8Array(30_000_000)),
    });
    const socket = await paused(port);
    await until(() => sockets.length === 1, "It is open");
    const before = sockets[0]!.bufferedAmount;
    const pings = Buffer.concat(
      new Array(10_000).fill(clientFrame({ op: 9, text: "x".repeat(100) })),
    );
    await new Promise((resolve) => socket.write(pings, resolve));
    await turns();
    assert.ok(sockets[0]!.bufferedAmount <= before + 200);
    socket.destroy();
  });

  for (const mode of MODES) {
    test(`send() waits for a client that does not read, ${mode}`, async () => {
      let sent = 0;
      const { port, sockets } = await withRoute(
        {
          limits: { maxBufferedBytes: 1_000_000 },
          async onOpen(ws) {
            const chunk = new Uint8Array(100_000);
            for (; sent < 500; sent++) await ws.send(chunk);
          },
        },
        {},
        mode,
      );
      const client = await FrameClient.open(port, { mode });
      client.socket.pause();
      let last = -1;
      await until(() => {
        const still = sent === last && sent > 0;
        last = sent;
        return still;
      }, "The sender waits");
      if (runtime === "bun" || mode === "plain") { // pause() does not hold a TLS client on Deno
        assert.ok(sent < 500, `Sent ${sent}`);
        assert.ok(sockets[0]!.bufferedAmount < 1_100_000);
      }
      client.socket.resume();
      await until(() => client.received === 500, "All have come", 10_000);
      client.socket.destroy();
    }, 20_000);
  }

  test("a slow client is closed at maxBufferedBytes, and a rejection that is not handled does no harm", async () => {
    const { port, errors, closes, sockets } = await withRoute(
      { limits: { maxBufferedBytes: 1_000_000 }, timeouts: { closeMs: 100 } },
      QUICK,
    );
    const socket = await paused(port);
    await until(() => sockets.length === 1, "It is open");
    const [ws] = sockets;
    const chunk = new Uint8Array(100_000);
    let sent = 0;
    while (ws!.readyState === 1 && sent++ < 1000) {
      void ws!.send(chunk);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(errors[0]?.code, "WS_SLOW_CONSUMER");
    assert.ok(ws!.bufferedAmount < 1_300_000);
    await until(() => closes.length === 1, "It is cut");
    assert.equal(closes[0]?.error?.code, "WS_SLOW_CONSUMER");
    assert.equal(ws!.bufferedAmount, 0);
    socket.destroy();
  });

  test("a client that never reads is cut after sendMs", async () => {
    const { port, closes } = await withRoute(
      { onOpen: (ws) => ws.send(new Uint8Array(30_000_000)) },
      { timeouts: { ...QUICK_TIMEOUTS, sendMs: 150 } },
    );
    const socket = await paused(port);
    await until(() => closes.length === 1, "It is cut");
    assert.equal(closes[0]?.error?.code, "CONNECTION_TIMEOUT");
    socket.destroy();
  });
});

/** A client that shakes hands and then reads nothing. */
async function paused(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: "127.0.0.1" });
  socket.on("error", () => {});
  await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
  socket.pause();
  socket.write(handshake("/ws"));
  return socket;
}

describe("many receivers", () => {
  test("broadcast() reaches all, or those that are picked", async () => {
    const { server, port } = await withRoute({
      protocols: ["a", "b"],
      onOpen: (ws) => void (ws.context = ws.protocol),
    });
    const clients = [];
    for (const protocol of ["a", "b", "a"]) {
      clients.push(
        await FrameClient.open(port, { fields: { "Sec-WebSocket-Protocol": protocol } }),
      );
    }
    assert.equal(server.websockets.size, 3);
    assert.equal(server.broadcast("to all"), 3);
    assert.equal(server.broadcast(Uint8Array.of(1, 2), ({ context }) => context === "a"), 2);
    for (const [i, client] of clients.entries()) {
      assert.equal(await client.text(), "1 to all");
      if (i !== 1) assert.equal(await client.text(), "2 \x01\x02");
      client.socket.destroy();
    }
    await until(() => server.websockets.size === 0, "They are gone");
    assert.equal(server.broadcast("nobody"), 0);
  });

  test("what is broadcast in one turn leaves in one write, in order with what is sent", async () => {
    const { server, port, sockets } = await withRoute({});
    const client = await FrameClient.open(port);
    const writes: number[] = [];
    server.addEventListener("sent", ({ bytes }) => writes.push(bytes));
    server.broadcast("one");
    void sockets[0]!.send("two");
    server.broadcast("three");
    for (const text of ["1 one", "1 two", "1 three"]) assert.equal(await client.text(), text);
    assert.deepEqual(writes, [5 + 5 + 7]);
    server.broadcast("last words");
    void sockets[0]!.close(1000);
    assert.equal(await client.text(), "1 last words");
    assert.equal((await client.next())?.op, 8);
    client.socket.destroy();
  });

  test("publish() reaches those who subscribed, until they close", async () => {
    const { server, port, sockets } = await withRoute({
      onMessage(ws, topic) {
        ws.subscribe(String(topic));
        return ws.send(`on ${[...ws.topics].join()}`);
      },
    });
    const one = await FrameClient.open(port, {
      rest: [{ op: 1, text: "x" }, { op: 1, text: "y" }],
    });
    const two = await FrameClient.open(port, { rest: [{ op: 1, text: "y" }] });
    assert.equal(await one.text(), "1 on x");
    assert.equal(await one.text(), "1 on x,y");
    assert.equal(await two.text(), "1 on y");
    assert.deepEqual(
      [server.publish("x", "1"), server.publish("y", "2"), server.publish("z", "3")],
      [1, 2, 0],
    );
    assert.equal(await one.text(), "1 1");
    assert.equal(await one.text(), "1 2");
    assert.equal(await two.text(), "1 2");
    sockets[0]!.unsubscribe("y");
    assert.equal(server.publish("y", "4"), 1);
    sockets[1]!.close();
    assert.equal(sockets[1]!.topics.size, 0);
    assert.equal(server.publish("y", "5"), 0);
    sockets[1]!.subscribe("y");
    assert.equal(server.publish("y", "6"), 0);
    one.socket.destroy();
    two.socket.destroy();
  });

  test("a prepared message is deflated once for all connections of an agreement", () => {
    const message = new EncodedMessage("x".repeat(5000));
    const agreement = {
      response: "",
      serverContextTakeover: false,
      clientContextTakeover: false,
      serverMaxWindowBits: 15,
      clientMaxWindowBits: 15,
      level: 6,
      memLevel: 8,
    };
    assert.equal(
      message.frameFor(agreement, deflateMessage),
      message.frameFor({ ...agreement }, deflateMessage),
    );
    assert.notEqual(
      message.frameFor(agreement, deflateMessage),
      message.frameFor({ ...agreement, level: 1 }, deflateMessage),
    );
    assert.ok(message.frameFor(agreement, deflateMessage).length < 100);
    const short = new EncodedMessage("x");
    assert.equal(short.frameFor(agreement, deflateMessage), short.frame);
  });

  const large = Number(process.env["HTTPSD_WS_CLIENTS"] ?? 0);
  test("1,000 clients receive every broadcast, in order", () => receiveAll(1_000, 50), 60_000);
  if (large > 0) {
    test(`${large} clients receive every broadcast, in order, three times`, async () => {
      for (let time = 0; time < 3; time++) await receiveAll(large, 100);
    }, 280_000);
  }
});

const ROUNDS = 20;
const BYTES = 16 * 1024;

/** Connects `count` clients, `slow` of which never read, and broadcasts to all. */
async function receiveAll(count: number, slow: number): Promise<void> {
  const before = residentMiB();
  const { server, port, errors, sockets, closes } = await withRoute(
    { limits: { maxBufferedBytes: (ROUNDS - 4) * BYTES }, timeouts: { closeMs: 500 } },
    { timeouts: { ...QUICK_TIMEOUTS, sendMs: 60_000 } }, // the slow ones go by what waits for them, not by time
  );
  const asleep = await Promise.all(Array.from({ length: slow }, () => paused(port)));
  await until(() => sockets.length === slow, "The slow ones are open");
  const readers: Reader[] = [];
  while (readers.length < count - slow) {
    const batch = Math.min(200, count - slow - readers.length);
    readers.push(...await Promise.all(Array.from({ length: batch }, () => Reader.open(port))));
  }
  await until(() => server.websockets.size === count, "All are open", 10_000);
  const open = residentMiB();

  // What the system buffers for those who do not read is filled, so that now their socket blocks.
  await Promise.all(sockets.slice(0, slow).map(fill));

  const payload = new Uint8Array(BYTES);
  const rounds: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    new DataView(payload.buffer).setUint32(0, round);
    const begun = performance.now();
    const receivers = server.broadcast(payload);
    assert.ok(receivers >= readers.length && receivers <= count);
    await until(
      () => readers.every(({ messages }) => messages === round),
      `Round ${round}`,
      30_000,
    );
    rounds.push(performance.now() - begun);
  }
  const peak = residentMiB();
  assert.ok(readers.every(({ inOrder }) => inOrder));
  assert.equal(server.websockets.size, readers.length);
  assert.equal(errors.filter(({ code }) => code === "WS_SLOW_CONSUMER").length, slow);
  await until(() => server.sessions.size === readers.length, "The slow ones are cut", 20_000);

  for (const socket of asleep) socket.destroy();
  for (const reader of readers) reader.socket.destroy();
  await until(() => server.sessions.size === 0, "All are gone", 20_000);
  sockets.length =
    closes.length =
    errors.length =
    readers.length =
    asleep.length =
      0;
  if (count <= 1_000) return;
  await new Promise((resolve) => setTimeout(resolve, 500));
  rounds.sort((a, b) => a - b);
  console.log(
    `${runtime}: ${count} clients, ${slow} of them asleep, ${ROUNDS} broadcasts of ${BYTES} bytes: ` +
      `${rounds[ROUNDS / 2]!.toFixed(0)} ms each (median; worst ${rounds.at(-1)!.toFixed(0)}); ` +
      `MiB before ${before.toFixed(0)}, open ${open.toFixed(0)}, peak ${peak.toFixed(0)}, ` +
      `after ${residentMiB().toFixed(0)}`,
  );
}

/** Sends until something stays behind. */
async function fill(ws: ServerWebSocket): Promise<void> {
  const message = new Uint8Array(64 * 1024);
  while (ws.bufferedAmount === 0) {
    void ws.send(message);
    for (let turn = 0; turn < 20 && ws.bufferedAmount > 0; turn++) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}

/** A client that counts the frames of {@linkcode receiveAll} and keeps none. */
class Reader {
  readonly socket: net.Socket;
  messages = 0;
  inOrder = true;
  #head = Buffer.alloc(0);
  #open = false;
  #at = 0; // how much of the frame under way has come

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("error", () => {});
  }

  static async open(port: number): Promise<Reader> {
    const socket = net.connect({ port, host: "127.0.0.1" });
    const reader = new Reader(socket);
    const opened = Promise.withResolvers<void>();
    socket.on("data", (bytes: Buffer) => {
      let rest = bytes;
      if (!reader.#open) {
        reader.#head = Buffer.concat([reader.#head, bytes]);
        const end = reader.#head.indexOf("\r\n\r\n");
        if (end < 0) return;
        rest = reader.#head.subarray(end + 4);
        reader.#open = true;
        opened.resolve();
      }
      reader.#count(rest);
    });
    socket.on("connect", () => socket.write(handshake("/ws")));
    await opened.promise;
    return reader;
  }

  /** Each frame is 4 bytes of header and BYTES of payload that begin with its number. */
  #count(bytes: Uint8Array): void {
    const FRAME = 4 + BYTES;
    for (let i = 0; i < bytes.length;) {
      const step = Math.min(FRAME - this.#at, bytes.length - i);
      const last = 7 - this.#at; // the low byte of the number
      if (last >= 0 && last < step) {
        this.inOrder &&= bytes[i + last] === this.messages + 1;
      }
      this.#at += step;
      i += step;
      if (this.#at < FRAME) continue;
      this.#at = 0;
      this.messages++;
    }
  }
}
