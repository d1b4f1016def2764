/** Foreign clients (the runtime's own, the package ws), compression, and upgrades in fetch handlers. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import WsClient from "ws";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import {
  type UpgradedWebSocket,
  upgradeWebSocket,
  type WebSocketDeflateOptions,
} from "../lib/websocket/mod.ts";
import { MODES, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates, until } from "./support.ts";
import { clientFrame } from "./websocket_cases.ts";
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

/** Messages that compress well, badly, and across one another. */
const MESSAGES: (string | Uint8Array)[] = [
  "",
  "short",
  "the same words over and over; ".repeat(2_000),
  "the same words over and over; ".repeat(2_000),
  "ünïcödé ✓ ".repeat(500),
  Uint8Array.from({ length: 70_000 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 0xff),
  new Uint8Array(300_000),
];

function inHex(message: string | Uint8Array): string {
  return typeof message === "string" ? `t${message}` : `b${Buffer.from(message).toString("hex")}`;
}

const AGREEMENTS: [name: string, options: WebSocketDeflateOptions][] = [
  ["no takeover", {}],
  ["the server's takeover", { serverContextTakeover: true, threshold: 0 }],
  ["the client's takeover", { clientContextTakeover: true }],
  ["both takeovers", { serverContextTakeover: true, clientContextTakeover: true, threshold: 0 }],
  ["the smallest windows", { serverMaxWindowBits: 9, clientMaxWindowBits: 9, threshold: 0 }],
];

describe("the runtime's own WebSocket", () => {
  for (const [name, deflate] of [["no compression", undefined], ...AGREEMENTS] as const) {
    test(`gets every message back, ${name}`, async () => {
      const { port, closes } = await withRoute({ ...echo, deflate: deflate ?? false });
      const client = new WebSocket(`ws://127.0.0.1:${port}/ws`);
      client.binaryType = "arraybuffer";
      const got: string[] = [];
      client.onopen = () => MESSAGES.forEach((m) => client.send(m as string));
      client.onmessage = ({ data }) => {
        got.push(inHex(typeof data === "string" ? data : new Uint8Array(data)));
        if (got.length === MESSAGES.length) client.close(4000, "done");
      };
      const closed = await new Promise<CloseEvent>((resolve) => client.onclose = resolve);
      assert.deepEqual(got, MESSAGES.map(inHex));
      assert.deepEqual([closed.code, closed.reason, closed.wasClean], [4000, "done", true]);
      await until(() => closes.length === 1, "onClose is called");
      assert.equal(closes[0]?.wasClean, true);
    });
  }
});

for (const mode of MODES) {
  describe(`the package ws, ${mode}`, () => {
    for (const [name, deflate] of AGREEMENTS) {
      test(`gets every message back, ${name}`, async () => {
        const { port } = await withRoute({ ...echo, deflate }, {}, mode);
        const { ca } = await certificates();
        const scheme = mode === "tls" ? "wss" : "ws";
        const client = new WsClient(`${scheme}://localhost:${port}/ws`, {
          ca,
          perMessageDeflate: { threshold: 0 },
          lookup: (_name: string, options: { all?: boolean }, done: LookupDone) =>
            options.all
              ? done(null, [{ address: "127.0.0.1", family: 4 }])
              : done(null, "127.0.0.1", 4),
        } as WsClient.ClientOptions);
        const got: string[] = [];
        client.on("message", (data: Buffer, isBinary: boolean) => {
          got.push(inHex(isBinary ? data : data.toString()));
          if (got.length === MESSAGES.length) client.close(1000);
        });
        await once(client, "open");
        for (const message of MESSAGES) client.send(message);
        await once(client, "close");
        assert.match(client.extensions, /permessage-deflate/);
        assert.deepEqual(got, MESSAGES.map(inHex));
      });
    }
  });
}

type LookupDone = (error: null, address: unknown, family?: number) => void;

describe("compression on the wire", () => {
  const OFFER = { "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits" };

  test("is used from the threshold on, and as asked", async () => {
    const { port } = await withRoute({
      deflate: { threshold: 100 },
      async onOpen(ws) {
        await ws.send("x".repeat(99));
        await ws.send("x".repeat(100));
        await ws.send("x".repeat(99), { compress: true });
        await ws.send("x".repeat(100), { compress: false });
      },
    });
    const client = await FrameClient.open(port, { fields: OFFER });
    const rsv = [];
    for (let i = 0; i < 4; i++) rsv.push((await client.next())?.rsv);
    assert.deepEqual(rsv, [0, 4, 4, 0]);
    client.socket.destroy();
  });

  test("with a context, sends keep their order and the Close comes last", async () => {
    const { port } = await withRoute({
      deflate: { serverContextTakeover: true, threshold: 100 },
      onOpen(ws) {
        void ws.send("x".repeat(200_000));
        void ws.send("short");
        void ws.send(new Blob(["blob"]));
        void ws.send("x".repeat(500));
        ws.close(4001);
      },
    });
    const client = await FrameClient.open(port, { fields: OFFER });
    const frames = [];
    for (let i = 0; i < 4; i++) {
      const frame = await client.next();
      frames.push([frame?.op, frame?.rsv]);
    }
    assert.deepEqual(frames, [[1, 4], [1, 0], [2, 0], [1, 4]]);
    assert.equal((await client.close())[0], 4001);
    client.socket.destroy();
  });

  test("a bomb is closed with 1009", async () => {
    const { port, errors } = await withRoute({
      ...echo,
      deflate: true,
      limits: { maxPayloadBytes: 100_000 },
    });
    const client = await FrameClient.open(port, { fields: OFFER });
    const { deflateRawSync, constants } = await import("node:zlib");
    const bomb = deflateRawSync(new Uint8Array(50_000_000), {
      finishFlush: constants.Z_SYNC_FLUSH,
    });
    client.send({ op: 2, rsv: 4, hex: bomb.subarray(0, -4).toString("hex") });
    assert.equal((await client.close())[0], 1009);
    assert.equal(errors[0]?.code, "WS_TOO_LARGE");
    client.socket.destroy();
  });
});

describe("upgradeWebSocket()", () => {
  function serve(
    use: (socket: UpgradedWebSocket) => void,
    settings?: Parameters<typeof upgradeWebSocket>[1],
  ): ReturnType<typeof started> {
    return started((request) => {
      const { socket, response } = upgradeWebSocket(request, settings);
      use(socket);
      return response;
    });
  }

  test("gives a socket as browsers have it", async () => {
    const log: unknown[] = [];
    const closed = Promise.withResolvers<CloseEvent>();
    const { server, port } = await serve((socket) => {
      log.push(socket.readyState, socket.url.startsWith("ws://a/ws"));
      assert.throws(() => socket.send("early"), { name: "InvalidStateError" });
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        log.push("open", socket.readyState === socket.OPEN, socket.protocol);
        socket.send("welcome");
      };
      socket.onmessage = ({ data }) => {
        log.push(data);
        socket.send(data);
      };
      socket.addEventListener("close", closed.resolve);
    }, { protocols: ["p"] });
    const client = await FrameClient.open(port, {
      fields: { "Sec-WebSocket-Protocol": "p" },
      rest: [{ op: 1, text: "a" }, { op: 2, hex: "01" }],
    });
    for (const text of ["1 welcome", "1 a", "2 \x01"]) assert.equal(await client.text(), text);
    assert.equal(server.websockets.size, 1);
    client.send({ op: 8, hex: closePayload(3000, "bye") });
    assert.deepEqual(await client.close(), [3000, "bye"]);
    client.socket.end();
    const event = await closed.promise;
    assert.deepEqual([event.code, event.reason, event.wasClean], [3000, "bye", true]);
    assert.deepEqual(log.slice(0, 6), [0, true, "open", true, "p", "a"]);
    assert.deepEqual(new Uint8Array(log[6] as ArrayBuffer), Uint8Array.of(1));
  });

  test("binary messages are Blobs by default, and Blobs can be sent", async () => {
    const { port } = await serve((socket) => {
      socket.onmessage = ({ data }) => {
        assert.ok(data instanceof Blob);
        socket.send(data);
        socket.send("behind");
      };
    });
    const client = await FrameClient.open(port, { rest: [{ op: 2, hex: "0102" }] });
    assert.equal(await client.text(), "2 \x01\x02");
    assert.equal(await client.text(), "1 behind");
    client.socket.destroy();
  });

  for (const how of ["throws", "rejects"]) {
    test(`a listener that ${how} closes with 1011 and is reported`, async () => {
      const seen: ErrorEvent[] = [];
      const { port, errors } = await serve((socket) => {
        socket.onerror = (event) => void seen.push(event);
        socket.addEventListener("message", () => {
          if (how === "throws") throw new Error("mine");
          return Promise.reject(new Error("mine"));
        });
      });
      const client = await FrameClient.open(port, { rest: [{ op: 1, text: "a" }] });
      assert.equal((await client.close())[0], 1011);
      assert.equal(errors[0]?.code, "WS_CALLBACK_FAILED");
      assert.equal(seen[0]?.error, errors[0]);
      client.socket.destroy();
    });
  }

  test("fields of the response, and a rebuilt one, reach the client", async () => {
    const { port } = await started((request) => {
      const { response } = upgradeWebSocket(request);
      const headers = new Headers(response.headers);
      headers.set("Set-Cookie", "a=b");
      headers.set("Content-Length", "5");
      return new Response(null, { status: response.status, headers });
    });
    const client = await FrameClient.open(port);
    assert.match(client.head, /^set-cookie: a=b\r$/im);
    assert.doesNotMatch(client.head, /content-length/i);
    assert.equal(client.head.match(/^connection/gim)?.length, 1);
    client.socket.destroy();
  });

  test("another response refuses, and the socket fails", async () => {
    const codes: number[] = [];
    const handler: FetchHandler = (request) => {
      const { socket } = upgradeWebSocket(request);
      socket.onclose = ({ code }) => void codes.push(code);
      if (request.url.endsWith("throw")) throw new Error("mine");
      return new Response("no", { status: 403 });
    };
    const { port } = await started(handler);
    const [refused] = readResponses(await refusedHandshake(port, handshake("/")));
    assert.equal(refused?.status, 403);
    const [failed] = readResponses(await refusedHandshake(port, handshake("/throw")));
    assert.equal(failed?.status, 500);
    assert.deepEqual(codes, [1006, 1006]);
  });

  test("what is no handshake throws an error that is the answer", async () => {
    const { port } = await serve(() => {});
    const upgrade = { upgrade: "websocket", connection: "Upgrade" };
    const answers: [Record<string, string | undefined>, number, Record<string, string>?][] = [
      [{ Upgrade: undefined, Connection: undefined }, 426, upgrade],
      [{ "Sec-WebSocket-Version": "8" }, 426, { ...upgrade, "sec-websocket-version": "13" }],
      [{ "Sec-WebSocket-Key": "x" }, 400],
    ];
    for (const [fields, status, answer = {}] of answers) {
      const [response] = readResponses(await refusedHandshake(port, handshake("/", fields)));
      assert.equal(response?.status, status);
      for (const [field, value] of Object.entries(answer)) {
        assert.equal(response.fields[field], value);
      }
    }
  });

  test("a request that is not the handler's own cannot be upgraded", async () => {
    const codes: unknown[] = [];
    const { port } = await started((request) => {
      for (const other of [request.clone(), request, request]) {
        try {
          upgradeWebSocket(other);
          codes.push("upgraded");
        } catch (error) {
          codes.push((error as { code: string }).code);
        }
      }
      return new Response();
    });
    await refusedHandshake(port, handshake("/"));
    assert.deepEqual(codes, ["NOT_UPGRADABLE", "upgraded", "NOT_UPGRADABLE"]);
  });

  test("close() before the handshake's answer closes after it", async () => {
    const { port } = await serve((socket) => socket.close(4000, "changed my mind"));
    const client = await FrameClient.open(port);
    assert.deepEqual(await client.close(), [4000, "changed my mind"]);
    client.send(clientFrame(CLOSE));
    await client.end();
    client.socket.destroy();
  });
});
