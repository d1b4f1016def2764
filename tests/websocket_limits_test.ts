/**
 * What one client may not do to the others: take for ever over a message, have much inflated, or be
 * served alone.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { constants, deflateRawSync } from "node:zlib";
import type { HttpsServer } from "../lib/server.ts";
import type { WebSocketOptions } from "../lib/websocket/mod.ts";
import { MODES, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { engineOf, until } from "./support.ts";
import { clientFrame } from "./websocket_cases.ts";
import { DEFLATE, sendAll, timed } from "./websocket_limits_support.ts";
import { CLOSE, echo, FrameClient, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

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
