/** lib/proxy/: WebSockets that are passed on, from HTTP/1.1 and HTTP/2. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import net from "node:net";
import type { Tunnel } from "../lib/http/tunnel.ts";
import { proxy } from "../lib/proxy/mod.ts";
import { Splice } from "../lib/proxy/splice.ts";
import { data, headers, Http2Client, webSocketFields } from "./http2_client.ts";
import { MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { ask, behind, listening, request, stopUpstreamsAfterAll, urlOf } from "./proxy_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { clientFrame } from "./websocket_cases.ts";
import { CLOSE, echo, FrameClient, handshake, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();
stopUpstreamsAfterAll();

describe("WebSockets", () => {
  for (const mode of MODES) {
    test(`pass both ways, subprotocol and closing handshake included: ${mode}`, async () => {
      const upstream = await withRoute({ ...echo, protocols: ["chat"] });
      const front = await started(proxy(`http://127.0.0.1:${upstream.port}`), {}, mode);
      const client = await FrameClient.open(front.port, {
        mode,
        fields: { "Sec-WebSocket-Protocol": "other, chat" },
        rest: [{ op: 1, text: "early" }],
      });
      assert.match(client.head, /sec-websocket-protocol: chat\r\n/i);
      assert.equal(await client.text(), "1 early");
      client.send({ op: 1, text: "7".repeat(500_000) });
      assert.equal((await client.next())?.payload.length, 500_000);
      client.send(CLOSE);
      assert.deepEqual(await client.close(), [1000, ""]);
      await until(() => client.ended, "the end");
      assert.deepEqual([...front.errors, ...upstream.errors], []);
    });
  }
  test("are not cut where a client reads slowly, but when it reads no more", () => {
    const now = 1_000;
    let isCut = false;
    const tunnel = {
      clock: { now: () => now },
      deadline: 0,
      readUntil: now + 1,
      after: (ms: number) => now + ms,
      destroy: () => isCut = true,
    };
    const splice = new Splice(tunnel as unknown as Tunnel, new net.Socket(), new Uint8Array(), 100);
    splice.expired();
    assert.deepEqual([tunnel.deadline, isCut], [now + 1, false]);
    tunnel.readUntil = now;
    splice.expired();
    assert.equal(isCut, true);
  });

  test("on a stream of HTTP/2", async () => {
    const upstream = await withRoute(echo);
    const front = await started(proxy(`http://127.0.0.1:${upstream.port}`), {}, "tls");
    const client = await Http2Client.connect(front.port, "tls");
    const id = client.nextStreamId();
    client.send(headers(id, webSocketFields("/ws", { scheme: "https" }), { endStream: false }));
    await client.until(() => client.soFar(id).status > 0, "the answer");
    assert.equal(client.soFar(id).status, 200);
    client.send(data(id, clientFrame({ op: 1, text: "over two" }), { endStream: false }));
    await client.until(() => client.soFar(id).body.length >= 10, "the echo");
    assert.equal(client.soFar(id).body.subarray(2).toString(), "over two");
    client.socket.destroy();
  });
  test("on a stream of HTTP/2, however much goes to the upstream", async () => {
    let received = 0;
    const upstream = await withRoute({
      onMessage: (_, message) => void (received += message.length),
    });
    const front = await started(proxy(`http://127.0.0.1:${upstream.port}`), {}, "tls");
    using client = await Http2Client.connect(front.port, "tls");
    const id = client.nextStreamId();
    client.send(headers(id, webSocketFields("/ws", { scheme: "https" }), { endStream: false }));
    await client.until(() => client.soFar(id).status === 200, "the answer");
    for (let i = 1; i <= 200; i++) { // three times what its connection's window takes
      client.send(data(id, clientFrame({ op: 1, text: "x".repeat(16_000) }), { endStream: false }));
      await until(() => received === i * 16_000, `message ${i}`);
    }
    assert.deepEqual(front.errors, []);
  });
  test("with extensions that the two ends agree on", async () => {
    const upstream = await withRoute({ ...echo, deflate: true });
    const front = await started(proxy(`http://127.0.0.1:${upstream.port}`));
    const client = await FrameClient.open(front.port, {
      fields: { "Sec-WebSocket-Extensions": "permessage-deflate" },
    });
    assert.match(client.head, /sec-websocket-extensions: permessage-deflate/i);
    client.send(CLOSE);
    await until(() => client.ended, "the end");
  });
  test("that the upstream refuses get its answer", async () => {
    const { port } = await behind((_, response) => response.writeHead(403).end("no"));
    const client = await RawClient.connect(port);
    client.send(handshake("/ws"));
    await client.until(() => client.text.endsWith("no") || client.text.includes("no\r\n"));
    assert.match(client.text, /^HTTP\/1\.1 403 /);
    client.destroy();
  });
  test("that are malformed do not reach the upstream", async () => {
    let asked = 0;
    const { port } = await behind((_, response) => void (asked++, response.end()));
    const { status } = await ask(
      port,
      request("GET /", { Upgrade: "websocket", Connection: "upgrade, close" }),
    );
    assert.deepEqual([status, asked], [400, 0]);
  });
  test("whose upstream answers with another key get 502", async () => {
    const upstream = await listening(net.createServer((socket) => {
      socket.once(
        "data",
        () =>
          socket.write(
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
          ),
      );
    }));
    const { port, errors } = await started(proxy(urlOf(upstream)));
    const client = await RawClient.connect(port);
    client.send(handshake("/ws"));
    await client.until(() => client.text.includes("\r\n\r\n"));
    assert.match(client.text, /^HTTP\/1\.1 502 /);
    assert.deepEqual(errors.map(({ code }) => code), ["UPSTREAM_FAILED"]);
    client.destroy();
  });
  test("end on both sides when one leaves, or nothing comes", async () => {
    const closed: string[] = [];
    const upstream = await withRoute({ onClose: (_, { code }) => void closed.push(String(code)) });
    const front = await started(
      proxy(`http://127.0.0.1:${upstream.port}`, { timeouts: { webSocketIdleMs: 100 } }),
    );
    const quiet = await FrameClient.open(front.port);
    await until(() => quiet.ended && closed.length === 1, "the deadline");
    const leaves = await FrameClient.open(front.port);
    leaves.socket.destroy();
    await until(() => closed.length === 2, "the upstream's end");
    const stays = await FrameClient.open(front.port);
    for (const ws of upstream.server.websockets) ws.destroy();
    await until(() => stays.ended, "the client's end");
  });
});
