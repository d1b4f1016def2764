/** The original's pytest cases of `ws_echo_server` and `wss_server`, and the page in Chromium. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createServer as createEchoServer } from "../examples/ws_echo_server.ts";
import { createServer as createWssServer, type WssOptions } from "../examples/wss_server.ts";
import type { HttpsServer } from "../lib/server.ts";
import { Page, testWithChromium } from "./chromium.ts";
import { readResponses } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates, until } from "./support.ts";
import { CLOSE, FrameClient, handshake, refusedHandshake } from "./websocket_support.ts";

assertRuntime();

const quiet = (): void => {};

async function startEcho(): Promise<HttpsServer> {
  const server = createEchoServer(
    { hostname: "127.0.0.1", port: 0, transportMode: "insecure" },
    { log: quiet },
  );
  await server.start();
  return server;
}

describe("ws_echo_server", () => {
  test("main: echoes frames, sends from the work queue, and echoes the Pong to its own Ping", async () => {
    await using server = await startEcho();
    const client = await FrameClient.open(server.address.port);
    for (let round = 0; round < 2; round++) {
      client.send({ op: 1, text: "Hello" }, { op: 2, hex: "0102ff" }, { op: 9, text: "data" });
      const texts = new Set([await client.text(), await client.text(), await client.text()]);
      assert.deepEqual(texts, new Set(["1 Hello", "2 \x01\x02�", "10 data"]));
      client.send({ op: 1, text: "Trigger async" });
      assert.equal(await client.text(), "1 Async data");
      client.send({ op: 1, text: "Ping" });
      assert.equal(await client.text(), "9 Ping");
      client.send({ op: 10, text: "Ping" });
      assert.equal(await client.text(), "10 Ping");
    }
    client.send({ op: 1, fin: false, text: "frag" }, { op: 0, text: "ment" }, CLOSE);
    assert.equal((await client.next())?.fin, false);
    assert.equal((await client.next())?.op, 0);
    assert.deepEqual(await client.close(), [1000, ""]);
    client.socket.destroy();
  });

  test("partial: 200 bytes come back as fragments of 64, 64, 64 and 8", async () => {
    await using server = await startEcho();
    const client = await FrameClient.open(server.address.port, { path: "/ws_partial" });
    for (let round = 0; round < 2; round++) {
      client.send({ op: 1, repeat: ["41", 200] });
      const frames = [];
      for (let i = 0; i < 4; i++) {
        const frame = await client.next();
        frames.push([frame?.op, frame?.fin, frame?.payload.length]);
      }
      assert.deepEqual(frames, [[1, false, 64], [0, false, 64], [0, false, 64], [0, true, 8]]);
    }
    client.socket.destroy();
  });

  test("auth: lets in with a valid token only, and says welcome first", async () => {
    await using server = await startEcho();
    const { port } = server.address;
    const answer = await refusedHandshake(port, handshake("/auth?token=invalid"));
    assert.equal(readResponses(answer)[0]?.status, 401);
    const client = await FrameClient.open(port, { path: "/auth?token=valid" });
    const welcome = "1 Welcome to the WebSocket Echo Server (post-handshake)!";
    assert.equal(await client.text(), welcome);
    client.socket.destroy();
  });
});

/** The original's times, a hundred times faster. */
const FAST: WssOptions = { pingPeriodMs: 50, notAliveMs: 100, helloMs: 100, pulseMs: 100 };

async function startWss(
  options: WssOptions = FAST,
): Promise<{ server: HttpsServer; log: string[] }> {
  const { cert, key } = await certificates();
  const log: string[] = [];
  const server = createWssServer(
    { hostname: "127.0.0.1", port: 0, cert, key, timeouts: { lingerMs: 50, handshakeMs: 5_000 } },
    { ...options, log: (line) => void log.push(line) },
  );
  await server.start();
  return { server, log };
}

/** What never comes by itself, for tests of something else, or of clients that may be slow. */
const NEVER = 600_000;

/**
 * The opcodes that come to a client until they are `enough`, which makes it close; it answers Pings
 * unless asked not to.
 */
async function live(
  client: FrameClient,
  enough: (frames: string[]) => boolean,
  answers = true,
): Promise<string[]> {
  const frames: string[] = [];
  let closing = false;
  for (let frame = await client.next(); frame !== undefined; frame = await client.next()) {
    frames.push(`${frame.op} ${frame.payload}`);
    if (frame.op === 9 && answers) client.send({ op: 10, hex: frame.payload.toString("hex") });
    if (closing || !enough(frames)) continue;
    closing = true;
    client.send(CLOSE);
  }
  client.socket.destroy();
  return frames;
}

describe("wss_server", () => {
  test("echoes text and answers a Ping with its data", async () => {
    const { server, log } = await startWss({
      pingPeriodMs: NEVER,
      notAliveMs: NEVER,
      helloMs: NEVER,
      pulseMs: NEVER,
    });
    await using _stopping = server;
    const client = await FrameClient.open(server.address.port, { mode: "tls" });
    client.send({ op: 1, text: "Espressif" }, { op: 9, text: "payload" });
    assert.equal(await client.text(), "1 Espressif");
    assert.equal(await client.text(), "10 payload");
    assert.match(log[0]!, /^New client connected \d+$/);
    client.socket.destroy();
  });

  test("echoes frames of any length, in whatever fragments, and greets in between", async () => {
    const { server } = await startWss({ ...FAST, pingPeriodMs: 5_000, notAliveMs: 10_000 });
    await using _stopping = server;
    const client = await FrameClient.open(server.address.port, { mode: "tls" });
    client.send({ op: 1, repeat: ["41", 100_000] });
    client.send({ op: 2, fin: false, repeat: ["42", 70_000] }, { op: 0, repeat: ["43", 70_000] });
    const messages: [number, number][] = [];
    let op = 0;
    let bytes = 0;
    let greetings = 0;
    while (messages.length < 2 || greetings < 2) {
      const frame = await client.next();
      assert.ok(frame !== undefined);
      if (frame.op !== 0) op = frame.op;
      bytes += frame.payload.length;
      if (!frame.fin) continue;
      if (frame.payload.toString() === "Hello client") greetings++;
      else messages.push([op, bytes]);
      bytes = 0;
    }
    assert.deepEqual(messages, [[1, 100_000], [2, 140_000]]);
    client.socket.destroy();
  });

  test("three clients that answer Pings stay, and are greeted", async () => {
    const { server } = await startWss({ ...FAST, notAliveMs: 4_000 });
    await using _stopping = server;
    const count = (frames: string[], start: string) =>
      frames.filter((frame) => frame.startsWith(start)).length;
    const enough = (frames: string[]) =>
      count(frames, "1 Hello client") >= 3 && count(frames, "9") >= 3;
    const clients = [];
    for (let i = 0; i < 3; i++) {
      clients.push(live(await FrameClient.open(server.address.port, { mode: "tls" }), enough));
    }
    for (const frames of await Promise.all(clients)) {
      assert.ok(enough(frames));
      assert.equal(frames.at(-1)?.[0], "8");
    }
  });

  test("a silent client is found not alive and closed", async () => {
    const { server, log } = await startWss();
    await using _stopping = server;
    const client = await FrameClient.open(server.address.port, { mode: "tls" });
    const frames = await live(client, () => false, false);
    assert.ok(frames.some((frame) => frame.startsWith("9")));
    await until(() => log.length === 3, "It is logged");
    assert.match(
      log.join("\n"),
      /^New client connected (\d+)\nClient not alive, closing \1\nClient disconnected \1$/,
    );
  });

  test("the page's socket refuses other pages", async () => {
    const { server } = await startWss();
    await using _stopping = server;
    const { port } = server.address;
    const open = (Origin: string) =>
      FrameClient.open(port, {
        mode: "tls",
        path: "/chat",
        fields: { Origin, Host: `localhost:${port}` },
      });
    await assert.rejects(open("https://evil.example"), /403/);
    const client = await open(`https://localhost:${port}`);
    assert.match(await client.text(), /"welcome"/);
    client.socket.destroy();
  });

  testWithChromium("the page in Chromium sees others come, write, and pong", async () => {
    const { server } = await startWss({ ...FAST, pingPeriodMs: 5_000, notAliveMs: 10_000 });
    await using _stopping = server;
    const { port } = server.address;
    const { ca } = await certificates();
    await using page = await Page.open(`https://localhost:${port}/`, ca);
    await page.until(`document.getElementById("state").textContent.startsWith("Connected")`);
    await page.evaluate(`document.getElementById("add").click()`);
    const client = await FrameClient.open(port, { mode: "tls", path: "/chat" });
    client.send({ op: 1, text: "<b>Hello page</b>" });
    await page.until(`document.querySelectorAll("#clients li").length === 3`);
    await page.until(
      `document.querySelector("#log .said")?.textContent.endsWith("<b>Hello page</b>")`,
    );
    await page.until(`document.querySelectorAll("#clients .alive").length >= 2`);
    await page.until(`document.getElementById("log").textContent.includes("Hello client")`);
    await page.evaluate(
      `document.forms[0].text.value = "Hello all"; document.forms[0].requestSubmit()`,
    );
    let text = await client.text();
    while (!text.includes(`"text":"Hello all"`)) text = await client.text();
    client.socket.end();
    client.socket.destroy();
    await page.until(`document.querySelectorAll("#clients li").length === 2`);
    assert.deepEqual(page.complaints, []);
  });
});
