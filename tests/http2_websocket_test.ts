/** WebSockets on streams of HTTP/2 (RFC 8441): the same routes, handlers and engine as on HTTP/1.1. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import type { HttpsServerOptions } from "../lib/config.ts";
import { upgradeWebSocket } from "../lib/websocket/mod.ts";
import type { CloseInfo, WebSocketOptions } from "../lib/websocket/mod.ts";
import {
  data,
  goaway,
  headers,
  Http2Client,
  requestFields,
  reset,
  Type,
  webSocketFields,
} from "./http2_client.ts";
import { TestClock } from "./test_clock.ts";
import type { Field } from "./http2_hpack.ts";
import { MODES, type Started, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { type ClientFrame, clientFrame } from "./websocket_cases.ts";
import { CLOSE, echo, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const VERSION: Field = ["sec-websocket-version", "13"];

/** Opens a stream for a WebSocket, and waits for its answer's head. */
async function open(client: Http2Client, fields = webSocketFields()): Promise<number> {
  const id = client.nextStreamId();
  client.send(headers(id, fields, { endStream: false }));
  await client.until(() => client.soFar(id).status > 0, "the answer");
  return id;
}

function send(client: Http2Client, id: number, frame: ClientFrame, endStream = false): void {
  client.send(data(id, clientFrame(frame), { endStream }));
}

/** The short frames that have come, as opcode and text. */
function frames(client: Http2Client, id: number): string[] {
  const { body } = client.soFar(id);
  const found: string[] = [];
  for (let at = 0; at + 2 <= body.length;) {
    const length = body[at + 1]!;
    assert.ok(length < 126, "A short frame");
    if (at + 2 + length > body.length) break;
    const opcode = body[at]! & 0x0f;
    const payload = body.subarray(at + 2, at + 2 + length);
    found.push(opcode === 8 ? `8 ${payload.readUInt16BE(0)}` : `${opcode} ${payload}`);
    at += 2 + length;
  }
  return found;
}

for (const mode of MODES) {
  const serving = async (
    websocket: WebSocketOptions,
    options: HttpsServerOptions = {},
  ): Promise<Started & { client: Http2Client; closes: CloseInfo[] }> => {
    const host = await withRoute(websocket, options, mode);
    const client = await Http2Client.connect(host.port, mode);
    await client.ready();
    return { ...host, client };
  };

  describe(`a WebSocket over HTTP/2, ${mode}`, () => {
    test("opens with 200, echoes, and closes in good order on both sides", async () => {
      const { client, closes } = await serving(echo);
      const id = await open(client);
      const { status, fields } = client.soFar(id);
      assert.equal(status, 200);
      for (const name of ["connection", "upgrade", "sec-websocket-accept", "content-length"]) {
        assert.ok(!(name in fields), name);
      }
      send(client, id, { op: 1, text: "hello" });
      await client.until(() => frames(client, id).length > 0, "the echo");
      assert.deepEqual(frames(client, id), ["1 hello"]);
      send(client, id, CLOSE, true);
      const answer = await client.answer(id);
      assert.deepEqual([frames(client, id).at(-1), answer.reset], ["8 1000", undefined]);
      await until(() => closes.length > 0, "onClose");
      assert.deepEqual([closes[0]!.code, closes[0]!.wasClean], [1000, true]);
    });

    test("echoes a message that is longer than all windows", async () => {
      const { client, closes } = await serving(echo);
      const id = await open(client);
      const message = clientFrame({ op: 2, repeat: ["ab", 2 ** 20] });
      let sent = 0;
      const granted = (streamId: number) =>
        client.frames.filter((frame) => frame.type === Type.WINDOW_UPDATE)
          .filter((frame) => frame.streamId === streamId)
          .reduce((sum, frame) => sum + frame.payload.readUInt32BE(), 0);
      while (sent < message.length) {
        const before = client.frames.length;
        const window = Math.min(262_144 + granted(id), 65_535 + granted(0));
        while (sent < Math.min(window, message.length)) {
          const piece = message.subarray(sent, Math.min(window, sent + 16_384));
          client.send(data(id, piece, { endStream: false }));
          sent += piece.length;
        }
        if (sent === message.length) break;
        await client.until(() => client.frames.length > before, "a window");
      }
      let [looked, echoed] = [0, 0];
      await client.until(() => {
        for (; looked < client.frames.length; looked++) {
          const { type, streamId, payload } = client.frames[looked]!;
          if (type === Type.DATA && streamId === id) echoed += payload.length;
        }
        return echoed >= 2 ** 20;
      }, "the echo");
      assert.deepEqual(closes, []);
    });

    test("goes beside requests and other sockets on one connection", async () => {
      const { client, server } = await serving(echo);
      server.route({ uri: "/", method: "GET", handler: (request) => request.send("page") });
      const ids = [await open(client), await open(client)];
      for (const id of ids) send(client, id, { op: 1, text: `socket ${id}` });
      assert.equal((await client.fetch()).body.toString(), "page");
      for (const id of ids) {
        await client.until(() => frames(client, id).length > 0, "the echo");
        assert.deepEqual(frames(client, id), [`1 socket ${id}`]);
      }
    });

    test("shows a fetch handler a GET that asks for an upgrade", async () => {
      const { port } = await started(
        (request) => {
          const { socket, response } = upgradeWebSocket(request);
          socket.onmessage = ({ data }) => socket.send(`${request.method} ${data}`);
          return response;
        },
        {},
        mode,
      );
      const client = await Http2Client.connect(port, mode);
      await client.ready();
      const id = await open(client);
      assert.equal(client.soFar(id).status, 200);
      send(client, id, { op: 1, text: "x" });
      await client.until(() => frames(client, id).length > 0, "the answer");
      assert.deepEqual(frames(client, id), ["1 GET x"]);
    });

    test("chooses a subprotocol and compresses", async () => {
      const { client } = await serving({ ...echo, protocols: ["b"], deflate: true });
      const id = await open(
        client,
        webSocketFields("/ws", {
          fields: [
            VERSION,
            ["sec-websocket-protocol", "a, b"],
            ["sec-websocket-extensions", "permessage-deflate"],
          ],
        }),
      );
      const { fields } = client.soFar(id);
      assert.equal(fields["sec-websocket-protocol"], "b");
      assert.match(fields["sec-websocket-extensions"]!, /^permessage-deflate/);
    });

    test("is refused with a status where it is no handshake", async () => {
      const { client } = await serving(echo);
      assert.equal(
        client.soFar(await open(client, webSocketFields("/ws", { fields: [] }))).status,
        400,
      );
      const old: Field[] = [["sec-websocket-version", "12"]];
      assert.equal(
        client.soFar(await open(client, webSocketFields("/ws", { fields: old }))).status,
        426,
      );
      assert.equal(client.soFar(await open(client, webSocketFields("/none"))).status, 404);
      assert.equal((await client.fetch({ path: "/ws" })).status, 426);
    });

    test("ends with its stream's reset, and no other", async () => {
      const { client, closes } = await serving(echo);
      const id = await open(client);
      const other = await open(client);
      client.send(Buffer.from([0, 0, 4, Type.RST_STREAM, 0, 0, 0, 0, id, 0, 0, 0, 8]));
      await until(() => closes.length > 0, "onClose");
      assert.deepEqual([closes[0]!.code, closes[0]!.wasClean], [1006, false]);
      send(client, other, { op: 1, text: "alive" });
      await client.until(() => frames(client, other).length > 0, "the echo");
    });

    test("resets its stream when the program cuts it", async () => {
      const { client } = await serving({ onMessage: (ws) => ws.destroy() });
      const id = await open(client);
      send(client, id, { op: 1, text: "x" });
      assert.equal((await client.answer(id)).reset, "CANCEL");
      await client.settled();
    });

    test("stops a client whose messages the program does not take, by its window", async () => {
      let take: () => void = () => {};
      const { client } = await serving({
        onMessage: (_, message) => {
          if (message === "take") return;
          return new Promise((resolve) => take = resolve);
        },
      }, { http2: { streamWindowBytes: 100_000 } });
      const id = await open(client);
      send(client, id, { op: 1, text: "first" });
      const long = Buffer.alloc(15_000, "x").toString();
      for (let i = 0; i < 6; i++) send(client, id, { op: 1, text: long });
      await client.settled();
      const before = client.count(Type.WINDOW_UPDATE, id);
      assert.equal(before, 0);
      const timer = setInterval(() => take(), 5);
      await client.until(() => client.count(Type.WINDOW_UPDATE, id) > 0, "the window");
      clearInterval(timer);
    });

    test("is as idle as one on HTTP/1.1: it makes room for a newcomer", async () => {
      const { client, server, port, closes } = await serving(echo, {
        limits: { maxConnections: 1 },
      });
      const id = await open(client);
      assert.deepEqual([...server.sessions].map(({ kind, state }) => [kind, state]), [
        ["websocket", "idle"],
      ]);
      const newcomer = await Http2Client.connect(port, mode);
      await newcomer.ready();
      await client.over();
      assert.deepEqual(frames(client, id), ["8 1001"]);
      assert.equal(client.goaway?.code, "NO_ERROR");
      await until(() => closes.length === 1, "onClose");
    });

    test("waits lingerMs for its client to end the stream, as on HTTP/1.1 to close", async () => {
      const timeouts = { sendMs: 600_000, lingerMs: 100 };
      const { client, closes } = await serving(echo, { timeouts });
      const id = await open(client);
      send(client, id, CLOSE);
      await until(() => closes.length === 1, "onClose");
      await client.until(() => client.soFar(id).reset !== undefined, "the reset");
      assert.deepEqual(frames(client, id), ["8 1000"]);
      assert.equal(client.soFar(id).reset, "NO_ERROR");
      assert.deepEqual(closes, [{ code: 1000, reason: "", wasClean: true, error: undefined }]);
    });

    test("has time where other handlers hold back the window of its connection", async () => {
      const clock = new TestClock();
      const http2 = { connectionWindowBytes: 65_535, streamWindowBytes: 65_535 };
      const { port, server, closes } = await withRoute(echo, { http2 }, mode, clock);
      const proceed = Promise.withResolvers<void>();
      server.route({ uri: "/hold", method: "POST", handler: () => proceed.promise });
      using client = await Http2Client.connect(port, mode);
      await client.ready();
      const id = await open(client);
      const message = clientFrame({ op: 1, text: "hello" });
      client.send(data(id, message.subarray(0, 6), { endStream: false }));
      const holder = client.nextStreamId();
      const fields = requestFields({ method: "POST", path: "/hold" });
      client.send(headers(holder, fields, { endStream: false }));
      for (const bytes of [16_384, 16_384, 16_384, 16_377]) {
        client.send(data(holder, new Uint8Array(bytes), { endStream: false }));
      }
      await client.settled();
      for (let i = 0; i < 30; i++) {
        await clock.advance(10_000);
        await client.settled();
      }
      assert.equal(closes.length, 0, client.story());
      client.send(reset(holder));
      client.send(data(id, message.subarray(6), { endStream: false }));
      await client.until(() => frames(client, id).some((frame) => frame === "1 hello"), "the echo");
      proceed.resolve();
    });

    for (
      const [what, options, last] of [
        ["limits.maxRequestsPerConnection", { limits: { maxRequestsPerConnection: 1 } }, false],
        ["its client's GOAWAY", {}, true],
      ] as const
    ) {
      test(`opens as the last request, by ${what}, and is said goodbye to by a stop`, async () => {
        const proceed = Promise.withResolvers<void>();
        const onUpgrade = () => proceed.promise;
        const { client, server, closes } = await serving({ ...echo, onUpgrade }, options);
        const id = client.nextStreamId();
        client.send(headers(id, webSocketFields(), { endStream: false }));
        if (last) client.send(goaway());
        await client.until(() => client.goaway !== undefined, "GOAWAY");
        proceed.resolve();
        await client.until(() => client.soFar(id).status > 0, "the answer");
        assert.equal(client.soFar(id).status, 200);
        send(client, id, { op: 1, text: "hello" });
        await client.until(() => frames(client, id).length > 0, "the echo");
        const stopped = server.stop({ drainMs: 60_000 });
        await client.until(() => frames(client, id).length > 1, "the Close");
        assert.deepEqual(frames(client, id), ["1 hello", "8 1001"]);
        send(client, id, CLOSE, true);
        await stopped;
        assert.deepEqual(closes.map(({ wasClean }) => wasClean), [true]);
      });
    }

    test("is said goodbye to when the server stops", async () => {
      const { client, server, closes } = await serving(echo);
      const id = await open(client);
      const stopped = server.stop({ drainMs: 4_000 });
      await client.until(() => frames(client, id).length > 0, "the Close");
      assert.deepEqual(frames(client, id), ["8 1001"]);
      send(client, id, CLOSE, true);
      await stopped;
      assert.equal(closes.length, 1);
    });
  });
}
