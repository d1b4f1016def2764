/** WebSocket clients that leave, the last request of a connection, and who makes room at the cap. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import type { HttpsServerOptions } from "../lib/config.ts";
import { Opcode, type ServerWebSocket } from "../lib/websocket/mod.ts";
import { MODES, RawClient, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { clientFrame } from "./websocket_cases.ts";
import { DEFLATE, sendAll, timed } from "./websocket_limits_support.ts";
import { CLOSE, echo, FrameClient, handshake, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

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
    await setImmediate(); // a rejection that is not handled would fail this file
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

  test("takes down the socket of another that cannot send to it, and is no error of either's", async () => {
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

  test("is distinguished from a program that has closed the socket itself", async () => {
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
