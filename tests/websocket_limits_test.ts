/**
 * What one client may not do to the others: take for ever over a message, have much inflated, or be
 * served alone; and what is no mistake of the program's: a client that leaves.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { constants, deflateRawSync } from "node:zlib";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { HttpsServer } from "../lib/server.ts";
import { Opcode, type ServerWebSocket, type WebSocketOptions } from "../lib/websocket/mod.ts";
import { type Mode, MODES, RawClient, stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { engineOf, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { clientFrame } from "./websocket_cases.ts";
import { CLOSE, echo, FrameClient, handshake, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

/** A route whose time goes as the test says; `came` resolves when so many bytes have come. */
async function timed(
  websocket: WebSocketOptions,
  mode: Mode = "plain",
  options: HttpsServerOptions = {},
) {
  const clock = new TestClock();
  const host = await withRoute(websocket, options, mode, clock);
  let bytes = 0;
  host.server.addEventListener("data", (event) => void (bytes += event.bytes));
  const came = (wanted: number) => until(() => bytes >= wanted, `${wanted} bytes have come`);
  return { ...host, clock, came: (more: number) => came(bytes + more), bytes: () => bytes };
}

/** Sends bytes and waits until the server has them. */
async function sendAll(
  { bytes }: { bytes: () => number },
  client: FrameClient,
  data: Uint8Array,
): Promise<void> {
  const before = bytes();
  client.send(data);
  await until(() => bytes() >= before + data.length, `${data.length} bytes have come`);
}

const READERS: Record<string, WebSocketOptions> = {
  "onMessage": echo,
  "onFrame": { onFrame: () => {} },
  "messages": {
    async onOpen(ws) {
      for await (const { body } of ws.messages) for await (const _ of body);
    },
  },
  "a loop": {
    async onOpen(ws) {
      for await (const message of ws) await ws.send(message);
    },
  },
};

/** The start of a masked text frame of `length` bytes, which do not follow. */
function head(length: number): Uint8Array {
  return clientFrame({ op: 1, repeat: ["41", length] }).subarray(0, length < 126 ? 6 : 8);
}

const UNFINISHED: Record<string, Uint8Array> = {
  "the first byte of a frame": Uint8Array.of(0x81),
  "half a header": Uint8Array.of(0x81, 0xfe, 0x01),
  "a header": head(100),
  "half a payload": clientFrame({ op: 1, repeat: ["41", 100] }).subarray(0, 50),
  "a fragment": clientFrame({ op: 1, text: "a", fin: false }),
  "a fragment and a Ping": Buffer.concat([
    clientFrame({ op: 1, text: "a", fin: false }),
    clientFrame({ op: 9 }),
  ]),
  "half a Ping": clientFrame({ op: 9, text: "ping" }).subarray(0, 8),
};

describe("a message that has begun", () => {
  for (const mode of MODES) {
    for (const [reader, websocket] of Object.entries(READERS)) {
      test(`must go on, read by ${reader} over ${mode}, and others are served`, async () => {
        const host = await timed({ ...websocket, timeouts: { closeMs: Infinity } }, mode);
        for (const [what, bytes] of Object.entries(UNFINISHED)) {
          const good = await FrameClient.open(host.port, { mode });
          const client = await FrameClient.open(host.port, { mode });
          await sendAll(host, client, bytes);
          await host.clock.advance(4_900);
          assert.equal(client.ended, false, what);
          await host.clock.advance(1_000);
          let frame = await client.next();
          if (frame?.op === 10) frame = await client.next();
          assert.deepEqual([frame?.op, frame?.payload.readUInt16BE(0)], [8, 1008], what);
          good.send({ op: 9, text: "still here" });
          assert.equal(await good.text(), "10 still here");
          good.socket.destroy();
          client.socket.destroy();
        }
        const codes = host.errors.map(({ code }) => code);
        const failed = codes.filter((code) => code === "WS_MESSAGE_TIMEOUT");
        assert.equal(failed.length, Object.keys(UNFINISHED).length);
        assert.ok(!codes.includes("WS_CALLBACK_FAILED"), "the program is not to blame");
      }, 15_000);
    }
  }

  test("must come at minMessageBytesPerSecond: 7 bytes in 1.5 s do not hold what came before", async () => {
    const host = await timed(echo);
    const client = await FrameClient.open(host.port);
    const frame = clientFrame({ op: 1, repeat: ["41", 60_000] });
    await sendAll(host, client, frame.subarray(0, 1_000)); // worth 4.2 s, and 5 s of grace
    let at = 1_000;
    for (let ms = 0; ms < 7_500; ms += 1_500) {
      await host.clock.advance(1_500);
      await sendAll(host, client, frame.subarray(at, at += 7));
    }
    assert.equal(client.ended, false);
    await host.clock.advance(3_000);
    assert.deepEqual((await client.close())[0], 1008);
    client.socket.destroy();
  });

  test("must be over after messageMs, at whatever speed", async () => {
    const host = await timed({
      ...echo,
      timeouts: { messageMs: 60_000 },
      limits: { minMessageBytesPerSecond: 0 },
    });
    const client = await FrameClient.open(host.port);
    const frame = clientFrame({ op: 1, repeat: ["41", 100] });
    for (let i = 0; i < 5; i++) {
      await sendAll(host, client, frame.subarray(i, i + 1));
      await host.clock.advance(11_000);
    }
    assert.equal(client.ended, false);
    await host.clock.advance(6_000);
    assert.deepEqual((await client.close())[0], 1008);
    client.socket.destroy();
  });

  test("begins anew with each message, and is not timed between them", async () => {
    const host = await timed({ ...echo, pingPeriodMs: Infinity, notAliveMs: Infinity });
    const client = await FrameClient.open(host.port);
    const frame = clientFrame({ op: 1, text: "ab" });
    for (let i = 0; i < 5; i++) {
      await sendAll(host, client, frame.subarray(0, 5));
      await host.clock.advance(4_000);
      client.send(Buffer.concat([frame.subarray(5), frame.subarray(0, 1)]));
      assert.equal(await client.text(), "1 ab");
      await host.clock.advance(4_000);
      client.send(frame.subarray(1));
      assert.equal(await client.text(), "1 ab");
      await host.clock.advance(3_600_000);
    }
    client.socket.destroy();
  });

  test("is not timed while the program holds it back", async () => {
    const holding = Promise.withResolvers<void>();
    const lengths: number[] = [];
    const host = await timed({
      async onMessage(_, message) {
        lengths.push(message.length);
        await holding.promise;
      },
    });
    const client = await FrameClient.open(host.port);
    const long = clientFrame({ op: 2, repeat: ["41", 70_000] });
    await sendAll(host, client, Buffer.concat([clientFrame({ op: 1, text: "a" }), long]));
    await sendAll(host, client, long.subarray(0, 1_000));
    await host.clock.advance(3_600_000);
    assert.equal(client.ended, false);
    holding.resolve();
    client.send(long.subarray(1_000));
    await until(() => lengths.length === 3, "all messages have come");
    assert.deepEqual(lengths, [1, 70_000, 70_000]);
    client.socket.destroy();
  });

  test("any speed and any time can be allowed", async () => {
    const host = await timed({
      ...echo,
      pingPeriodMs: Infinity,
      limits: { minMessageBytesPerSecond: 0 },
      timeouts: { messageMs: Infinity },
    });
    const client = await FrameClient.open(host.port);
    const frame = clientFrame({ op: 1, text: "ab" });
    await sendAll(host, client, frame.subarray(0, 3));
    await host.clock.advance(3_600_000);
    client.send(frame.subarray(3));
    assert.equal(await client.text(), "1 ab");
    client.socket.destroy();
  });
});

describe("a program that takes nothing of what waits", () => {
  const never = () => new Promise<never>(() => {});
  const programs: Record<string, WebSocketOptions> = {
    "onMessage": { onMessage: never },
    "onFrame": { onFrame: never },
    "onOpen": { onOpen: never },
    "messages": {
      async onOpen(ws) {
        for await (const _ of ws.messages) await never();
      },
    },
    "a loop": {
      async onOpen(ws) {
        for await (const _ of ws) await never();
      },
    },
  };
  const message = clientFrame({ op: 2, repeat: ["41", 50_000] });
  const flood = Buffer.concat(Array.from({ length: 40 }, () => message));
  const stopped = ({ server }: { server: HttpsServer }) =>
    until(
      () => [...server.sessions].some(({ connection }) => engineOf(connection).stopped),
      "the socket is stopped",
    );

  for (const mode of MODES) {
    for (const [program, websocket] of Object.entries(programs)) {
      test(`does not keep a client for ever that has left, in ${program} over ${mode}`, async () => {
        const host = await timed({ ...websocket, timeouts: { messageMs: 60_000 } }, mode);
        const client = await FrameClient.open(host.port, { mode });
        client.send(flood);
        client.socket.end();
        await stopped(host);
        await host.clock.advance(55_000);
        assert.equal(host.server.sessions.size, 1);
        await host.clock.advance(6_000);
        await until(() => host.server.sessions.size === 0, "the session is over");
        assert.equal(host.errors[0]?.code, "CONNECTION_TIMEOUT");
        client.socket.destroy();
      });
    }

    for (const [program, websocket] of Object.entries(programs)) {
      test(`has what is left of maxConnectionAgeMs, in ${program} over ${mode}`, async () => {
        const endless = { ...websocket, timeouts: { messageMs: Infinity } };
        const host = await timed(endless, mode, { limits: { maxConnectionAgeMs: 60_000 } });
        const client = await FrameClient.open(host.port, { mode });
        await host.clock.advance(10_000);
        client.send(flood);
        client.socket.end();
        await stopped(host);
        await host.clock.advance(45_000);
        assert.equal(host.server.sessions.size, 1);
        await host.clock.advance(12_000);
        await until(() => host.server.sessions.size === 0, "the session is over");
        assert.equal(host.errors[0]?.code, "CONNECTION_TIMEOUT");
        client.socket.destroy();
      });
    }

    test(`has sendMs at least, however old it is, over ${mode}`, async () => {
      const host = await timed({ onMessage: never }, mode, {
        limits: { maxConnectionAgeMs: 10_000 },
        timeouts: { sendMs: 30_000 },
      });
      const client = await FrameClient.open(host.port, { mode });
      await host.clock.advance(20_000);
      client.send(clientFrame({ op: 9 }));
      assert.equal((await client.next())?.op, 10); // it lives on
      client.send(flood);
      await stopped(host);
      await host.clock.advance(25_000);
      assert.deepEqual(host.errors, []);
      await host.clock.advance(10_000);
      assert.equal((await client.close())[0], 1011);
      client.socket.destroy();
    });

    test(`has its time anew whenever it takes something, over ${mode}`, async () => {
      let take: (() => void) | undefined;
      let taken = 0;
      const host = await timed({
        async onMessage() {
          taken++;
          await new Promise<void>((resolve) => take = resolve);
        },
      }, mode);
      const client = await FrameClient.open(host.port, { mode });
      client.send(flood);
      await stopped(host);
      for (let i = 1; i < 6; i++) {
        await host.clock.advance(200_000);
        take!();
        await until(() => taken === i + 1, "the next is taken");
      }
      assert.deepEqual(host.errors, []);
      await stopped(host);
      await host.clock.advance(301_000);
      assert.deepEqual((await client.close())[0], 1011);
      client.send(CLOSE);
      client.socket.end();
      await until(() => host.server.sessions.size === 0, "the closing handshake is over");
      client.socket.destroy();
    });
  }
});

const DEFLATE = { "Sec-WebSocket-Extensions": "permessage-deflate" };

/** A compressed message. */
function deflated(payload: Uint8Array): Uint8Array {
  const bytes = deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
  return clientFrame({ op: 2, rsv: 4, hex: bytes.toString("hex") });
}

describe("what a client has inflated", () => {
  const MIB = 1024 * 1024;
  const bomb = deflated(Buffer.alloc(MIB));

  for (const mode of MODES) {
    test(`is bounded by second, over ${mode}: it waits, and others are served`, async () => {
      let inflated = 0;
      const host = await timed({
        deflate: true,
        limits: { maxInflatedBytesPerSecond: 2 * MIB },
        onMessage(ws, message) {
          inflated += message.length;
          return message.length < MIB ? ws.send(message) : undefined;
        },
      }, mode);
      const client = await FrameClient.open(host.port, { mode, fields: DEFLATE });
      const good = await FrameClient.open(host.port, { mode, fields: DEFLATE });
      const bombs = Buffer.concat(Array.from({ length: 10 }, () => bomb));
      await sendAll(host, client, Buffer.concat([bombs, clientFrame({ op: 9 })]));
      const settlesAt = async (messages: number) => {
        await until(() => inflated >= messages * MIB, `${messages} messages are inflated`);
        for (let i = 0; i < 4; i++) {
          good.send({ op: 9, text: "good" });
          assert.equal(await good.text(), "10 good");
        }
        assert.equal(inflated, messages * MIB);
      };
      await settlesAt(3); // the third goes beyond it
      for (let second = 1; second <= 3; second++) {
        await host.clock.advance(1_000);
        await settlesAt(3 + 2 * second);
      }
      await host.clock.advance(1_000);
      assert.equal((await client.next())?.op, 10); // the Ping behind all of them
      assert.equal(inflated, 10 * MIB);
      assert.deepEqual(host.errors, []);
      client.send(CLOSE);
      assert.equal((await client.close())[0], 1000);
      for (const { socket } of [client, good]) socket.destroy();
    }, 15_000);
  }

  test("counts the window that context takeover brings along", async () => {
    let messages = 0;
    const host = await timed({
      deflate: { clientContextTakeover: true },
      limits: { maxInflatedBytesPerSecond: MIB },
      onMessage: () => void messages++,
    });
    const client = await FrameClient.open(host.port, { fields: DEFLATE });
    const first = deflated(Buffer.alloc(32 * 1024));
    const tiny = deflated(Buffer.alloc(1));
    await sendAll(host, client, Buffer.concat([first, ...Array<Uint8Array>(99).fill(tiny)]));
    await until(() => messages >= 32, "a second's worth is there");
    client.send({ op: 9 }); // behind what is not read yet
    await host.clock.advance(1_000);
    await until(() => messages >= 63, "another second's worth is there");
    assert.ok(messages < 70, `${messages}`);
    await host.clock.advance(2_000);
    assert.equal((await client.next())?.op, 10);
    assert.equal(messages, 100);
    client.socket.destroy();
  });

  test("takes turns with other clients, however much is allowed", async () => {
    const turns: number[] = [];
    let messages = 0;
    const host = await withRoute({
      deflate: true,
      limits: { maxInflatedBytesPerSecond: Infinity },
      onMessage: () => void messages++,
    });
    const client = await FrameClient.open(host.port, { fields: DEFLATE });
    client.send(Buffer.concat(Array.from({ length: 20 }, () => bomb)));
    while (messages < 20) {
      const before = messages;
      await setImmediate();
      turns.push(messages - before);
    }
    assert.ok(Math.max(...turns) <= 2, `${turns}`);
    client.socket.destroy();
  });
});

describe("many messages of one client", () => {
  const MESSAGES = 20_000;
  const flood = Buffer.concat(
    Array.from({ length: MESSAGES }, () => clientFrame({ op: 1, text: "a" })),
  );
  let seen = 0;
  const later = async (): Promise<void> => {
    await Promise.resolve();
    seen++;
  };
  const readers: Record<string, WebSocketOptions> = {
    "onMessage": { onMessage: () => void seen++ },
    "an async onMessage": { onMessage: later },
    "onFrame": { onFrame: () => void seen++ },
    "an async onFrame": { onFrame: later },
    "a loop": {
      async onOpen(ws) {
        for await (const _ of ws) seen++;
      },
    },
    "messages": {
      async onOpen(ws) {
        for await (const { body } of ws.messages) {
          await body.cancel();
          seen++;
        }
      },
    },
  };
  for (const mode of MODES) {
    for (const [reader, websocket] of Object.entries(readers)) {
      test(`are served in turns, read by ${reader} over ${mode}`, async () => {
        seen = 0;
        const host = await withRoute(websocket, {}, mode);
        const client = await FrameClient.open(host.port, { mode });
        client.send(flood);
        let most = 0;
        while (seen < MESSAGES) {
          const before = seen;
          await setImmediate();
          most = Math.max(most, seen - before);
        }
        assert.ok(most <= 1_000, `${most} between two turns`);
        client.send(CLOSE);
        assert.equal((await client.close())[0], 1000);
        assert.deepEqual(host.errors, []);
        client.socket.destroy();
      }, 15_000);
    }

    test(`keep no other client waiting, over ${mode}`, async () => {
      seen = 0;
      const host = await withRoute(
        {
          onMessage(ws, message) {
            seen++;
            return ws.send(message);
          },
        },
        {},
        mode,
      );
      const good = await FrameClient.open(host.port, { mode });
      const bad = await Promise.all(
        Array.from({ length: 4 }, () => FrameClient.open(host.port, { mode })),
      );
      for (const { socket } of bad) socket.pause();
      for (const client of bad) client.send(flood);
      await until(() => seen > 100, "the flood is there");
      const before = seen;
      good.send({ op: 1, text: "good" });
      assert.equal(await good.text(), "1 good");
      assert.ok(seen - before < 4 * MESSAGES / 2, `${seen - before} came first`);
      for (const { socket } of [good, ...bad]) socket.destroy();
    }, 15_000);
  }
});

describe("a client that leaves", () => {
  /** What a callback does, once its client is gone. */
  const callbacks: Record<string, (ws: ServerWebSocket) => unknown> = {
    "send": (ws) => ws.send("late"),
    "send a Blob": (ws) => ws.send(new Blob(["late"])),
    "send a frame": (ws) => ws.sendFrame({ opcode: Opcode.Text, payload: "late" }),
    "ping": (ws) => ws.ping(),
  };
  const leavings: Record<string, (client: FrameClient) => void> = {
    "with a Close": (client) => client.send(CLOSE),
    "with a FIN": (client) => client.socket.end(),
    "with a reset": (client) => client.socket.destroy(),
    "by breaking a rule": (client) => client.send(Uint8Array.of(0xff)),
  };
  for (const mode of MODES) {
    for (const [how, leave] of Object.entries(leavings)) {
      for (const deflate of [false, { threshold: 0, serverContextTakeover: true }]) {
        const compressed = deflate === false ? "" : ", compressed";
        test(`${how} over ${mode}${compressed} makes no mistake of the program's`, async () => {
          for (const [what, call] of Object.entries(callbacks)) {
            const failures: unknown[] = [];
            const done = Promise.withResolvers<void>();
            const host = await withRoute(
              {
                deflate,
                timeouts: { closeMs: 50 },
                async onMessage(ws) {
                  await ws.closed;
                  const sending = call(ws) as Promise<void>;
                  sending.then(done.resolve, (error) => {
                    failures.push(error.code);
                    done.resolve();
                  });
                  await sending;
                },
              },
              {},
              mode,
            );
            const fields: Record<string, string> = deflate === false ? {} : DEFLATE;
            const client = await FrameClient.open(host.port, { mode, fields });
            client.send({ op: 1, text: "a" });
            leave(client);
            await done.promise;
            await until(() => host.closes.length === 1, "the socket is over");
            assert.deepEqual(failures, ["WS_CLOSED"], what);
            const codes = host.errors.map(({ code }) => code);
            assert.ok(!codes.includes("WS_CALLBACK_FAILED"), `${what}: ${codes}`);
            client.socket.destroy();
          }
        }, 15_000);
      }
    }
  }

  test("in the middle of a streamed message makes none either", async () => {
    const over = Promise.withResolvers<void>();
    const host = await withRoute({
      async onOpen(ws) {
        try {
          for await (const { body } of ws.messages) for await (const _ of body);
        } finally {
          over.resolve();
        }
      },
    });
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "a", fin: false });
    await until(() => host.sockets.length === 1, "it is open");
    client.socket.end();
    await over.promise;
    await until(() => host.closes.length === 1, "the socket is over");
    assert.deepEqual(host.errors.map(({ code }) => code), []);
    client.socket.destroy();
  });

  test("with a streamed message that the program had not come to harms no process", async () => {
    const leaving = Promise.withResolvers<void>();
    const host = await withRoute({
      async onOpen(ws) {
        for await (const { body } of ws.messages) {
          await body.cancel();
          await leaving.promise;
          break; // which cancels the message that waits, and the client has cut
        }
      },
    });
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "a" }, { op: 1, text: "b", fin: false }, { op: 9 });
    assert.equal((await client.next())?.op, 10);
    client.socket.destroy();
    await until(() => host.closes.length === 1, "the socket is over");
    leaving.resolve();
    await setImmediate(); // a rejection that nobody handles would fail this file
    await setImmediate();
    assert.ok(!host.errors.some(({ code }) => code === "WS_CALLBACK_FAILED"));
  });

  test("while its message is compressed makes none either", async () => {
    const failures: string[] = [];
    const host = await withRoute({
      deflate: { threshold: 0, serverContextTakeover: true },
      async onMessage(ws) {
        const sending = ws.send("x".repeat(100_000));
        ws.session.destroy(); // as the client's reset would be heard
        await sending.catch((error) => {
          failures.push(error.code);
          throw error;
        });
      },
    });
    const client = await FrameClient.open(host.port, { fields: DEFLATE });
    client.send({ op: 1, text: "a" });
    await until(() => host.closes.length === 1, "the socket is over");
    assert.deepEqual(failures, ["WS_CLOSED"]);
    assert.ok(!host.errors.some(({ code }) => code === "WS_CALLBACK_FAILED"));
    client.socket.destroy();
  });

  test("and does not read is reported as that alone", async () => {
    const host = await withRoute({
      limits: { maxBufferedBytes: 1_000 },
      async onMessage(ws) {
        for (;;) {
          void ws.send(new Uint8Array(100_000));
          await ws.ping();
        }
      },
    });
    const client = await FrameClient.open(host.port);
    client.socket.pause();
    client.send({ op: 1, text: "a" });
    await until(() => host.errors.length > 0, "it is reported");
    client.socket.destroy();
    await until(() => host.closes.length === 1, "the socket is over");
    assert.deepEqual(host.errors.map(({ code }) => code), ["WS_SLOW_CONSUMER"]);
  });

  test("takes down the socket of another that cannot send to it, but blames nobody", async () => {
    const host = await withRoute({
      async onMessage(ws) {
        const other = host.sockets.find((socket) => socket !== ws)!;
        await other.closed;
        await other.send("relayed");
      },
    });
    const other = await FrameClient.open(host.port);
    const client = await FrameClient.open(host.port);
    other.socket.destroy();
    client.send({ op: 1, text: "a" });
    assert.equal((await client.close())[0], 1011);
    const codes = host.errors.map(({ code }) => code);
    assert.ok(codes.includes("WS_CLOSED") && !codes.includes("WS_CALLBACK_FAILED"), `${codes}`);
    client.socket.destroy();
  });

  test("is told from a program that has closed the socket itself", async () => {
    for (const close of ["close", "destroy"] as const) {
      const host = await withRoute({
        async onMessage(ws) {
          ws[close]();
          await ws.send("late");
        },
      });
      const client = await FrameClient.open(host.port);
      client.send({ op: 1, text: "a" });
      await until(() => host.errors.length > 0, "it is reported");
      assert.ok(host.errors.some(({ code }) => code === "WS_CALLBACK_FAILED"), close);
      client.socket.destroy();
    }
  });

  for (const mode of MODES) {
    test(`is let go though a callback holds what it had sent, over ${mode}`, async () => {
      const holding = Promise.withResolvers<void>();
      const handled: number[] = [];
      const host = await timed({
        async onMessage(_, message) {
          await holding.promise;
          handled.push(message.length);
        },
      }, mode);
      const client = await FrameClient.open(host.port, { mode });
      const frame = clientFrame({ op: 2, repeat: ["41", 40_000] });
      await sendAll(host, client, Buffer.concat([frame, frame, frame, frame]));
      client.socket.end();
      await until(() => host.sockets[0]!.session.connection.peerEnded, "the FIN is there");
      await host.clock.advance(4_000);
      assert.equal(host.server.sessions.size, 1);
      await host.clock.advance(2_000);
      await until(() => host.server.sessions.size === 0, "the session is over");
      holding.resolve();
      await until(() => host.closes.length === 1, "what was taken is handled");
      assert.deepEqual(handled.slice(0, 3), [40_000, 40_000, 40_000]);
      client.socket.destroy();
    });
  }
});

describe("sendFrame()", () => {
  test("inside a message, what would wait for its own end is rejected at once", async () => {
    const codes: string[] = [];
    const host = await withRoute({
      async onMessage(ws) {
        void ws.sendFrame({ opcode: Opcode.Text, payload: "a", final: false });
        const others = [
          () => ws.send("x"),
          () => ws.send(new Blob(["x"])),
          () => ws.sendFrame({ opcode: Opcode.Binary, final: false }),
        ];
        for (const other of others) await other().catch(({ code }) => codes.push(code));
        await ws.sendFrame({ opcode: Opcode.Continuation, payload: "b" });
        await ws.send("after");
      },
    });
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "go" });
    assert.deepEqual([await client.text(), await client.text()], ["1 a", "0 b"]);
    assert.equal(await client.text(), "1 after");
    assert.deepEqual(codes, ["WS_CANNOT_SEND", "WS_CANNOT_SEND", "WS_CANNOT_SEND"]);
    client.socket.destroy();
  });

  test("keeps its order behind a Blob that is still read", async () => {
    const host = await withRoute({
      async onMessage(ws) {
        const sent = [
          ws.send(new Blob(["blob"])),
          ws.sendFrame({ opcode: Opcode.Text, payload: "a", final: false }),
          ws.sendFrame({ opcode: Opcode.Continuation, payload: "b" }),
          ws.send("after"),
        ];
        await Promise.all(sent);
      },
    });
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "go" });
    const texts = [];
    for (let i = 0; i < 4; i++) texts.push(await client.text());
    assert.deepEqual(texts, ["2 blob", "1 a", "0 b", "1 after"]);
    client.socket.destroy();
  });

  test("with each frame as onFrame was given it, any message comes back whole", async () => {
    const random = new Random(7);
    const upTo = (limit: number) => random.below(limit);
    const host = await withRoute({
      maxPieceBytes: 100,
      onFrame: (ws, { opcode, final, payload }) =>
        opcode === Opcode.Close ? undefined : ws.sendFrame({ opcode, final, payload }),
    });
    const client = await FrameClient.open(host.port);
    for (let i = 0; i < 200; i++) {
      const op = 1 + upTo(2);
      const fragments = Array.from({ length: 1 + upTo(4) }, () => "41".repeat(upTo(350)));
      client.send(...fragments.map((hex, at) => ({
        op: at === 0 ? op : 0,
        fin: at === fragments.length - 1,
        hex,
      })));
      let back = "";
      let first = true;
      for (let fin = false; !fin; first = false) {
        const frame = await client.next();
        assert.equal(frame?.op, first ? op : 0);
        back += frame.payload.toString("hex");
        fin = frame.fin;
      }
      assert.equal(back, fragments.join(""));
    }
    assert.deepEqual(host.errors, []);
    client.socket.destroy();
  }, 15_000);
});

describe("the last request of a connection", () => {
  const lasts: Record<string, [HttpsServerOptions, Record<string, string>]> = {
    "by maxRequestsPerConnection": [{ limits: { maxRequestsPerConnection: 1 } }, {}],
    "by Connection: Upgrade, close": [{}, { Connection: "Upgrade, close" }],
    "by Connection: close, Upgrade": [{}, { Connection: "close, Upgrade" }],
    "by maxConnectionAgeMs": [{ limits: { maxConnectionAgeMs: 1_000 } }, {}],
  };
  for (const mode of MODES) {
    for (const [why, [options, fields]] of Object.entries(lasts)) {
      test(`${why} is upgraded, over ${mode}`, async () => {
        const host = await timed(echo, mode, options);
        const client = await RawClient.connect(host.port, mode);
        await until(() => host.server.sessions.size === 1, "the session is open");
        client.send("GET /ws HT");
        await host.came(0);
        await until(() => host.bytes() >= 10, "the request has begun");
        await host.clock.advance(2_000);
        client.send(handshake("/ws", fields).subarray(10));
        await client.expect(/^HTTP\/1\.1 101 [^]*\r\n\r\n/);
        client.send(clientFrame({ op: 1, text: "hello" }));
        await client.expect(/hello$/);
        await host.clock.advance(10_000);
        client.send(clientFrame({ op: 1, text: "again" }));
        await client.expect(/again$/);
        client.destroy();
      });
    }
  }
});

describe("use of a WebSocket", () => {
  for (const mode of MODES) {
    test(
      `is what it is sent, too: the one that gets nothing makes room, over ${mode}`,
      async () => {
        for (const use of ["send", "publish", "broadcast", "message"]) {
          const host = await withRoute({ onOpen: (ws) => ws.subscribe("all") }, {
            limits: { maxConnections: 2 },
          }, mode);
          const first = await FrameClient.open(host.port, { mode });
          const second = await FrameClient.open(host.port, { mode });
          await setImmediate();
          await setImmediate();
          const [ws, other] = host.sockets as [ServerWebSocket, ServerWebSocket];
          other.unsubscribe("all");
          if (use === "send") await ws.send("used");
          else if (use === "publish") host.server.publish("all", "used");
          else if (use === "broadcast") host.server.broadcast("used", (socket) => socket === ws);
          else first.send({ op: 1, text: "used" });
          if (use === "message") await until(() => host.errors.length === 0, "nothing fails");
          else assert.equal(await first.text(), "1 used");
          if (use === "message") {
            first.send({ op: 9 });
            assert.equal((await first.next())?.op, 10);
          }
          const third = RawClient.connect(host.port, mode);
          assert.equal((await second.close())[0], 1001, use);
          second.send(CLOSE);
          second.socket.end();
          assert.equal(first.ended, false);
          (await third).destroy();
          for (const { socket } of [first, second]) socket.destroy();
        }
      },
      15_000,
    );
  }
});

test("a callback's promise may be of a foreign kind", async () => {
  const foreign = {
    then(_: unknown, reject: (cause: Error) => void) {
      reject(new Error("foreign"));
    },
  } as unknown as Promise<void>;
  const host = await withRoute({ onMessage: () => foreign, onError: () => foreign });
  const client = await FrameClient.open(host.port);
  client.send({ op: 1, text: "a" });
  assert.equal((await client.close())[0], 1011);
  await until(() => host.errors.length === 2, "both are reported");
  assert.deepEqual(host.errors.map(({ code }) => code), [
    "WS_CALLBACK_FAILED",
    "WS_CALLBACK_FAILED",
  ]);
  client.socket.destroy();
});
