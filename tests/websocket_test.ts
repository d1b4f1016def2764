/** WebSocket routes on real sockets: handshake, messages, callbacks, the ways of reading, frames. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import WsClient from "ws";
import { Opcode, type WebSocketFrame, type WebSocketOptions } from "../lib/websocket/mod.ts";
import { MODES, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { residentMiB, turns, until } from "./support.ts";
import { type ClientFrame, clientFrame } from "./websocket_cases.ts";
import {
  CLOSE,
  closePayload,
  echo,
  FrameClient,
  handshake,
  refusedHandshake,
  withRoute,
} from "./websocket_support.ts";

assertRuntime();

stopServersAfterAll();

describe("handshake", () => {
  test("answers 101 as RFC 6455 has it", async () => {
    const { port } = await withRoute({ ...echo, protocols: ["b", "a"] });
    const client = await FrameClient.open(port, { fields: { "Sec-WebSocket-Protocol": "a, b" } });
    assert.deepEqual(client.head.trimEnd().split("\r\n").sort(), [
      "Connection: Upgrade",
      "HTTP/1.1 101 Switching Protocols",
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
      "Sec-WebSocket-Protocol: a",
      "Upgrade: websocket",
    ]);
    client.socket.destroy();
  });

  test("leaves the subprotocol out when they share none", async () => {
    const { port } = await withRoute({ ...echo, protocols: ["a"] });
    const client = await FrameClient.open(port, { fields: { "Sec-WebSocket-Protocol": "b" } });
    assert.doesNotMatch(client.head, /^sec-websocket-protocol/im);
    client.socket.destroy();
  });

  const refusals: [
    name: string,
    fields: Record<string, string | undefined>,
    line: string | undefined,
    status: number,
    body: string | undefined,
    answer?: Record<string, string>,
  ][] = [
    [
      "no version",
      { "Sec-WebSocket-Version": undefined },
      undefined,
      400,
      "Missing Sec-WebSocket-Version header",
    ],
    [
      "version 12",
      { "Sec-WebSocket-Version": "12" },
      undefined,
      426,
      "WebSocket version not supported",
      { "sec-websocket-version": "13", upgrade: "websocket", connection: "Upgrade" },
    ],
    [
      "no key",
      { "Sec-WebSocket-Key": undefined },
      undefined,
      400,
      "Missing Sec-WebSocket-Key header",
    ],
    [
      "a bad key",
      { "Sec-WebSocket-Key": "short" },
      undefined,
      400,
      "Invalid Sec-WebSocket-Key header",
    ],
    ["HTTP/1.0", {}, "GET /ws HTTP/1.0", 400, "WebSocket handshake needs HTTP/1.1"],
    ["a plain GET", { Upgrade: undefined, Connection: undefined }, undefined, 426, undefined, {
      upgrade: "websocket",
      connection: "Upgrade",
    }],
    ["another protocol", { Upgrade: "h2c" }, undefined, 400, undefined],
    ["POST", {}, "POST /ws HTTP/1.1", 405, undefined, { allow: "GET, HEAD" }],
    ["a path without a route", {}, "GET /other HTTP/1.1", 404, undefined],
  ];
  for (const [name, fields, line, status, body, answer = {}] of refusals) {
    test(`refuses ${name} with ${status}, and the connection lives on`, async () => {
      const { port } = await withRoute(echo);
      const close = { ...fields, Connection: fields["Connection"] ?? "close" };
      const both = Buffer.concat([
        handshake("/ws", fields, line),
        handshake("/ws", { ...close, Upgrade: undefined }),
      ]);
      const [first, second] = readResponses(await refusedHandshake(port, both));
      assert.equal(first?.status, status);
      if (body !== undefined) assert.equal(first.body, body);
      for (const [field, value] of Object.entries(answer)) {
        assert.equal(first.fields[field], value);
      }
      assert.equal(second?.status, name === "HTTP/1.0" ? undefined : 426);
    });
  }

  test("an upgrade on an ordinary route runs its handler", async () => {
    const { port } = await started(() => new Response("plain"));
    const [response] = readResponses(await refusedHandshake(port, handshake("/ws")));
    assert.equal(response?.status, 200);
    assert.equal(response?.body, "plain");
  });

  for (const when of ["now", "later"]) {
    test(`onUpgrade refuses with a Response, ${when}`, async () => {
      const { port, sockets } = await withRoute({
        ...echo,
        async onUpgrade(request) {
          if (when === "later") await new Promise((resolve) => setTimeout(resolve, 5));
          request.header("Set-Cookie", "a=b");
          if (request.query.get("token") === "valid") return;
          return new Response("no entry", { status: 401 });
        },
      });
      const [response] = readResponses(await refusedHandshake(port, handshake("/ws?token=x")));
      assert.equal(response?.status, 401);
      assert.equal(response?.body, "no entry");
      assert.equal(sockets.length, 0);
      const client = await FrameClient.open(port, {
        path: "/ws?token=valid",
        rest: [{ op: 1, text: "a" }],
      });
      assert.equal(await client.text(), "1 a");
      assert.match(client.head, /^set-cookie: a=b\r$/im);
      client.socket.destroy();
    });
  }

  test("an onUpgrade that throws is a 500, one that never ends a 503", async () => {
    const { server, port, errors } = await withRoute({
      onUpgrade() {
        throw new Error("mine");
      },
    });
    server.route({
      uri: "/never",
      websocket: { onUpgrade: () => new Promise<void>(() => {}), timeouts: { upgradeMs: 50 } },
    });
    const [failed] = readResponses(await refusedHandshake(port, handshake("/ws")));
    assert.equal(failed?.status, 500);
    const [late] = readResponses(await refusedHandshake(port, handshake("/never")));
    assert.equal(late?.status, 503);
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED", "HANDLER_TIMEOUT"]);
  });

  test("a request that was answered with 503 before its route is asked opens nothing", async () => {
    let asked = 0;
    const { server, port, errors, sockets } = await withRoute({ onUpgrade: () => void asked++ }, {
      timeouts: { handlerMs: 50 },
    });
    server.route({ uri: "/plain", websocket: {} });
    const passed: Promise<unknown>[] = [];
    server.use(async ({ signal }, next) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      await turns(); // as where what speaks WebSocket is still being loaded
      const passing = next();
      passed.push(passing);
      return await passing;
    });
    for (const path of ["/ws", "/plain"]) {
      const [late] = readResponses(await refusedHandshake(port, handshake(path)));
      assert.equal(late?.status, 503);
    }
    await until(() => passed.length === 2, "The routes are asked");
    await Promise.all(passed);
    assert.equal(asked, 0);
    assert.equal(sockets.length, 0);
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_TIMEOUT", "HANDLER_TIMEOUT"]);
  });

  test("a client that leaves during onUpgrade opens nothing", async () => {
    const begun = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    const { server, port, sockets } = await withRoute({
      async onUpgrade({ signal }) {
        begun.resolve();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        left.resolve();
      },
    });
    const client = await RawClient.connect(port);
    client.send(handshake("/ws"));
    await begun.promise;
    client.destroy();
    await left.promise;
    await until(() => server.sessions.size === 0, "The session is over");
    assert.equal(sockets.length, 0);
    assert.equal(server.websockets.size, 0);
  });

  test("options that cannot be meant are refused when the route is added", async () => {
    const { server } = await started(undefined);
    const refused: [WebSocketOptions, RegExp][] = [
      [
        { limits: { maxPayloadBytes: 0 } },
        /maxPayloadBytes of .* is 0: it must be a size in bytes/,
      ],
      [{ protocols: ["a b"] }, /protocols\.0 of .* is a string: it must be a token/],
      [{ onFrame() {}, onMessage() {} }, /onFrame of .* excludes onMessage/],
      [{ onFrame() {}, deflate: true }, /deflate of .* goes with whole messages/],
      [{ manualControlFrames: true }, /manualControlFrames of .* needs onFrame/],
      [{ deflate: { level: 12 } }, /deflate\.level of .* is 12/],
      [
        { onmessage() {} } as WebSocketOptions,
        /onmessage of .* is not known: did you mean onMessage/,
      ],
    ];
    for (const [websocket, message] of refused) {
      assert.throws(() => server.route({ uri: "/ws", websocket }), {
        code: "INVALID_CONFIG",
        message,
      });
    }
  });
});

for (const mode of MODES) {
  describe(`messages, ${mode}`, () => {
    test("echoes text and binary of all lengths, whole and in order", async () => {
      const { port } = await withRoute(echo, {}, mode);
      const client = await FrameClient.open(port, { mode });
      for (const length of [0, 1, 125, 126, 65535, 65536, 200_000]) {
        client.send({ op: 1, repeat: ["61", length] }, { op: 2, repeat: ["fe", length] });
        const text = await client.next();
        assert.deepEqual([text?.op, text?.fin, text?.payload.length], [1, true, length]);
        assert.ok(text?.payload.every((byte) => byte === 0x61));
        const binary = await client.next();
        assert.deepEqual([binary?.op, binary?.fin, binary?.payload.length], [2, true, length]);
        assert.ok(binary?.payload.every((byte) => byte === 0xfe));
      }
      client.socket.destroy();
    });

    test("frames in the handshake's segment are not lost", async () => {
      const { port } = await withRoute(echo, {}, mode);
      const rest = [{ op: 1, text: "one" }, { op: 9, text: "p" }, { op: 2, hex: "0102" }, CLOSE];
      const client = await FrameClient.open(port, { mode, rest });
      assert.equal(await client.text(), "1 one");
      assert.equal(await client.text(), "10 p");
      assert.equal(await client.text(), "2 \x01\x02");
      assert.deepEqual(await client.close(), [1000, ""]);
      await client.end();
    });

    test("byte by byte, with fragments and control frames between them", async () => {
      const { port } = await withRoute(echo, {}, mode);
      const client = await FrameClient.open(port, { mode, bytewise: true });
      await client.trickle(Buffer.concat([
        clientFrame({ op: 1, fin: false, text: "Grü" }),
        clientFrame({ op: 9, text: "now" }),
        clientFrame({ op: 0, fin: false, hex: "c3" }),
        clientFrame({ op: 10, text: "unasked" }),
        clientFrame({ op: 0, hex: "9f" }),
        clientFrame(CLOSE),
      ]));
      assert.equal(await client.text(), "10 now");
      assert.equal(await client.text(), "1 Grüß");
      assert.deepEqual(await client.close(), [1000, ""]);
      await client.end();
    });

    test("a broken rule is reported with its code, and ends the connection", async () => {
      const { port, closes, errors } = await withRoute(
        { ...echo, limits: { maxPayloadBytes: 100 } },
        {},
        mode,
      );
      const broken: [ClientFrame, number, string][] = [
        [{ op: 1, text: "a", mask: null }, 1002, "WS_PROTOCOL"],
        [{ op: 1, text: "a", rsv: 4 }, 1002, "WS_PROTOCOL"],
        [{ op: 0, text: "a" }, 1002, "WS_PROTOCOL"],
        [{ op: 8, hex: closePayload(1006) }, 1002, "WS_PROTOCOL"],
        [{ op: 1, hex: "ff" }, 1007, "WS_INVALID_DATA"],
        [{ op: 2, repeat: ["00", 101] }, 1009, "WS_TOO_LARGE"],
      ];
      for (const [frame, code, name] of broken) {
        const client = await FrameClient.open(port, { mode });
        client.send({ op: 1, text: "ok" }, frame, { op: 1, text: "never" });
        assert.equal(await client.text(), "1 ok");
        assert.equal((await client.close())[0], code);
        await client.end();
        client.socket.end();
        await until(() => closes.length > 0, "onClose is called");
        const info = closes.pop();
        assert.equal(info?.wasClean, false);
        assert.equal(info?.error?.code, name);
        assert.equal(errors.pop()?.code, name);
      }
    });
  });
}

describe("callbacks", () => {
  test("run one after another, in order, and pings are answered meanwhile", async () => {
    const log: string[] = [];
    const gate = Promise.withResolvers<void>();
    const { port } = await withRoute({
      async onOpen() {
        log.push("open");
        await gate.promise;
        log.push("opened");
      },
      async onMessage(ws, message) {
        log.push(`begin ${message}`);
        await new Promise((resolve) => setImmediate(resolve));
        log.push(`end ${message}`);
        void ws.send(message);
      },
      onClose: () => void log.push("close"),
    });
    const rest = [{ op: 1, text: "1" }, { op: 1, text: "2" }, { op: 9, text: "alive?" }, CLOSE];
    const client = await FrameClient.open(port, { rest });
    assert.equal(await client.text(), "10 alive?");
    assert.deepEqual(log, ["open"]);
    gate.resolve();
    assert.equal(await client.text(), "1 1");
    assert.equal(await client.text(), "1 2");
    assert.deepEqual(await client.close(), [1000, ""]);
    client.socket.end();
    await until(() => log.includes("close"), "onClose is called");
    assert.deepEqual(log, ["open", "opened", "begin 1", "end 1", "begin 2", "end 2", "close"]);
  });

  for (const name of ["onOpen", "onMessage", "onPing", "onPong"] as const) {
    for (const how of ["throws", "rejects"]) {
      test(`${name} that ${how} closes with 1011 and is reported`, async () => {
        const fail = () => {
          if (how === "throws") throw new Error("mine");
          return Promise.reject(new Error("mine"));
        };
        const seen: unknown[] = [];
        const { port, errors, closes } = await withRoute({
          [name]: fail,
          onError: (_, error) => void seen.push(error),
        });
        const client = await FrameClient.open(port);
        client.send({ op: 1, text: "a" }, { op: 10 }, { op: 9 });
        let frame = await client.next();
        while (frame?.op === 10) frame = await client.next();
        assert.equal(frame?.op, 8);
        assert.equal(frame.payload.readUInt16BE(0), 1011);
        client.send({ op: 8, hex: closePayload(1011) });
        client.socket.end();
        await until(() => closes.length === 1, "onClose is called");
        assert.equal(errors[0]?.code, "WS_CALLBACK_FAILED");
        assert.deepEqual(seen, [errors[0]]);
        assert.equal((errors[0]?.cause as Error).message, "mine");
        assert.deepEqual([closes[0]?.code, closes[0]?.wasClean], [1011, true]);
      });
    }
  }

  test("onClose and onError that throw are reported, and nothing else happens", async () => {
    const { server, port, errors } = await withRoute({
      ...echo,
      onError() {
        throw new Error("error");
      },
      onClose() {
        throw new Error("close");
      },
    });
    const client = await FrameClient.open(port);
    client.send({ op: 3 });
    assert.equal((await client.close())[0], 1002);
    client.socket.end();
    await until(() => errors.length === 3, "All three are reported");
    const codes = errors.map(({ code }) => code).sort();
    assert.deepEqual(codes, ["WS_CALLBACK_FAILED", "WS_CALLBACK_FAILED", "WS_PROTOCOL"]);
    await until(() => server.sessions.size === 0, "The session is over");
  });

  test("a slow handler stops the client, not the server's memory", async () => {
    const gate = Promise.withResolvers<void>();
    let handled = 0;
    const { port, sockets } = await withRoute({
      async onMessage() {
        await gate.promise;
        handled++;
      },
    });
    const client = await FrameClient.open(port);
    const before = residentMiB();
    const frame = clientFrame({ op: 2, repeat: ["aa", 60_000] });
    const frames = 1500; // 90 MB
    for (let i = 0; i < frames; i++) client.send(frame);
    await until(() => sockets.length === 1, "It is open");
    await turns(50);
    assert.ok(client.socket.writableLength > 60_000_000, "The client was not stopped");
    assert.ok(residentMiB() - before < 150, `Took ${residentMiB() - before} MiB`);
    gate.resolve();
    await until(() => handled === frames, "All are handled", 10_000);
    client.socket.destroy();
  }, 20_000);
});

describe("reading without callbacks", () => {
  test("an iterator gives the messages in order and ends with the socket", async () => {
    const got: unknown[] = [];
    const { port, closes } = await withRoute({
      async onOpen(ws) {
        for await (const message of ws) {
          got.push(message);
          await ws.send(message);
        }
        got.push("end");
      },
    });
    const client = await FrameClient.open(port);
    client.send({ op: 1, text: "a" }, { op: 2, hex: "01" }, { op: 1, text: "b" }, CLOSE);
    for (const expected of ["1 a", "2 \x01", "1 b"]) assert.equal(await client.text(), expected);
    assert.deepEqual(await client.close(), [1000, ""]);
    client.socket.end();
    await until(() => closes.length === 1 && got.length === 4, "It has ended");
    assert.deepEqual(got, ["a", Uint8Array.of(1), "b", "end"]);
    assert.equal(closes[0]?.wasClean, true);
  });

  test("an iterator that was left can be taken up again", async () => {
    const { port } = await withRoute({
      async onOpen(ws) {
        for await (const message of ws) {
          void ws.send(`first ${message}`);
          break;
        }
        for await (const message of ws) void ws.send(`then ${message}`);
      },
    });
    const client = await FrameClient.open(port, {
      rest: [{ op: 1, text: "a" }, { op: 1, text: "b" }],
    });
    assert.equal(await client.text(), "1 first a");
    assert.equal(await client.text(), "1 then b");
    client.socket.destroy();
  });

  for (const deflate of [false, true]) {
    test(`messages as streams, ${deflate ? "compressed" : "plain"}`, async () => {
      const got: [string, number][] = [];
      const { port } = await withRoute({
        deflate,
        limits: { maxPayloadBytes: 50_000_000 },
        async onOpen(ws) {
          for await (const { type, body } of ws.messages) {
            let length = 0;
            for await (const chunk of body) length += chunk.length;
            got.push([type, length]);
            void ws.send("read");
          }
          got.push(["end", 0]);
        },
      });
      if (deflate) {
        const client = new WsClient(`ws://127.0.0.1:${port}/ws`);
        client.on("open", () => {
          client.send("x".repeat(100_000));
          client.send(Buffer.alloc(0));
          client.send(Buffer.alloc(3_000_000), () => client.close());
        });
      } else {
        const client = await FrameClient.open(port);
        client.send({ op: 1, repeat: ["78", 100_000] }, { op: 2 });
        client.send({ op: 2, fin: false, repeat: ["00", 2_999_999] }, { op: 9 }, {
          op: 0,
          hex: "00",
        });
        client.send(CLOSE);
        client.socket.resume();
      }
      await until(() => got.length === 4, "All were read");
      assert.deepEqual(got, [["text", 100_000], ["binary", 0], ["binary", 3_000_000], ["end", 0]]);
    });
  }

  test("a body that is not read stops the client; cancelled, it is skipped", async () => {
    const gate = Promise.withResolvers<void>();
    const types: string[] = [];
    const { port } = await withRoute({
      limits: { maxPayloadBytes: Infinity },
      async onOpen(ws) {
        for await (const { type, body } of ws.messages) {
          types.push(type);
          await gate.promise;
          await body.cancel();
        }
      },
    });
    const client = await FrameClient.open(port);
    const piece = new Uint8Array(1_000_000);
    client.socket.write(Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x02, 0xfa, 0xf0, 0x80, 0, 0, 0, 0]));
    for (let i = 0; i < 50; i++) client.socket.write(piece);
    client.send({ op: 1, text: "behind" });
    await turns(50);
    assert.ok(client.socket.writableLength > 30_000_000, "The client was not stopped");
    gate.resolve();
    await until(() => types.length === 2, "The next message came");
    assert.deepEqual(types, ["binary", "text"]);
    client.socket.destroy();
  });

  test("messages that are not read are thrown away, and pings answered", async () => {
    const { port } = await withRoute({ onOpen: (ws) => void ws.send("news") });
    const client = await FrameClient.open(port);
    const unread = clientFrame({ op: 2, repeat: ["00", 100_000] });
    for (let i = 0; i < 50; i++) client.send(unread);
    client.send({ op: 9, text: "behind" });
    assert.equal(await client.text(), "1 news");
    assert.equal(await client.text(), "10 behind");
    client.socket.destroy();
  });

  test("reading in two ways throws BODY_USED", async () => {
    const { port, sockets } = await withRoute(echo);
    const client = await FrameClient.open(port);
    await until(() => sockets.length === 1, "It is open");
    assert.throws(() => sockets[0]![Symbol.asyncIterator](), { code: "BODY_USED" });
    assert.throws(() => sockets[0]!.messages, { code: "BODY_USED" });
    client.socket.destroy();
  });
});

describe("frames", () => {
  test("onFrame is given each frame, long ones in pieces of a fixed length", async () => {
    const frames: WebSocketFrame[] = [];
    const { port } = await withRoute({
      maxPieceBytes: 64,
      onFrame: (_, frame) => void frames.push(frame),
    });
    const client = await FrameClient.open(port);
    await client.trickle(Buffer.concat([
      clientFrame({ op: 1, fin: false, repeat: ["41", 200] }),
      clientFrame({ op: 9 }),
      clientFrame({ op: 10, text: "pong" }),
      clientFrame({ op: 0, text: "end" }),
      clientFrame({ op: 2 }),
      clientFrame({ op: 2, repeat: ["00", 128] }),
      clientFrame(CLOSE),
    ]));
    assert.equal((await client.next())?.op, 10);
    assert.deepEqual(await client.close(), [1000, ""]);
    assert.deepEqual(
      frames.map((
        { opcode, final, payload, remaining },
      ) => [opcode, final, payload.length, remaining]),
      [
        [1, false, 64, 136],
        [0, false, 64, 72],
        [0, false, 64, 8],
        [0, false, 8, 0],
        [10, true, 4, 0],
        [0, true, 3, 0],
        [2, true, 0, 0],
        [2, false, 64, 64],
        [0, true, 64, 0],
      ],
    );
    client.socket.destroy();
  });

  test("with manualControlFrames nothing is answered but by the program", async () => {
    const seen: number[] = [];
    const { port, closes } = await withRoute({
      manualControlFrames: true,
      onFrame(ws, { opcode, payload }) {
        seen.push(opcode);
        if (opcode === Opcode.Ping && payload.length > 0) {
          return ws.sendFrame({ opcode: Opcode.Pong, payload: new Uint8Array(payload) });
        }
        if (opcode === Opcode.Close) ws.close();
        return;
      },
    });
    const client = await FrameClient.open(port);
    client.send({ op: 9 }, { op: 9, text: "answered" }, { op: 10 }, CLOSE);
    assert.equal(await client.text(), "10 answered");
    assert.deepEqual(await client.close(), [undefined, ""]);
    await client.end();
    client.socket.end();
    assert.deepEqual(seen, [9, 9, 10, 8]);
    await until(() => closes.length === 1, "onClose is called");
    assert.deepEqual([closes[0]?.code, closes[0]?.wasClean], [1000, true]);
  });

  test("a Close that the program leaves unanswered is answered after it", async () => {
    const { port } = await withRoute({ manualControlFrames: true, onFrame() {} });
    const client = await FrameClient.open(port, {
      rest: [{ op: 8, hex: closePayload(4000, "x") }],
    });
    assert.deepEqual(await client.close(), [4000, "x"]);
    client.socket.destroy();
  });

  test("sendFrame() keeps other messages out of a fragmented one, not control frames", async () => {
    const { server, port } = await withRoute({
      async onOpen(ws) {
        await ws.sendFrame({ opcode: Opcode.Text, payload: "a", final: false });
        const others = [
          ws.send("x"),
          ws.send(new Blob(["x"])),
          ws.sendFrame({ opcode: Opcode.Text }),
        ];
        assert.equal(server.broadcast("all"), 1);
        await ws.ping("p");
        assert.ok(ws.bufferedAmount > 0);
        for (const other of others) await assert.rejects(other, { code: "WS_CANNOT_SEND" });
        await ws.sendFrame({ opcode: Opcode.Continuation, payload: "b", final: false });
        await ws.sendFrame({ opcode: Opcode.Continuation, payload: "c" });
        await assert.rejects(ws.sendFrame({ opcode: Opcode.Continuation }), {
          code: "WS_CANNOT_SEND",
        });
        await assert.rejects(ws.ping("x".repeat(126)), { code: "WS_CANNOT_SEND" });
        await assert.rejects(
          ws.sendFrame({ opcode: 8 as 9, payload: "" }),
          { code: "WS_CANNOT_SEND" },
        );
        assert.throws(() => ws.close(1005), { code: "WS_CANNOT_SEND" });
        await ws.send("last");
      },
    });
    const client = await FrameClient.open(port);
    const frames = [];
    for (let i = 0; i < 6; i++) {
      const frame = await client.next();
      frames.push([frame?.op, frame?.fin, frame?.payload.toString()]);
    }
    assert.deepEqual(frames, [
      [1, false, "a"],
      [9, true, "p"],
      [0, false, "b"],
      [0, true, "c"],
      [1, true, "all"],
      [1, true, "last"],
    ]);
    client.socket.destroy();
  });
});
