/**
 * Nothing is lost and nothing counted twice: after requests of every kind, over HTTP/1.1 and HTTP/2,
 * with aborts, refusals and upgrades, the events, the lines of the log, the histogram and the
 * counters say what the clients have counted. HTTPSD_REQUESTS=10000 makes it the long proof.
 */
import assert from "node:assert/strict";
import { test } from "bun:test";
import process from "node:process";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import { accessLog } from "../lib/telemetry/access_log.ts";
import { metrics } from "../lib/telemetry/metrics.ts";
import { Http2Client, reset } from "./http2_client.ts";
import { GET, type Mode, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { FrameClient } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const REQUESTS = Number(process.env["HTTPSD_REQUESTS"] ?? 200);
const SEED = Number(process.env["HTTPSD_SEED"] ?? 20261127);
const TEST_MS = 20_000 + 50 * REQUESTS;

/** A server, and how clients do things to it; each gives how many requests it has made. */
async function setUp(mode: Mode) {
  const arrived = new Map<string, () => void>();
  const host = await started(undefined, {
    uriMatch: matchWildcard,
  }, mode);
  const { server, port } = host;
  const route = (method: string, uri: string, handler: (path: string) => unknown) =>
    server.route({ uri, method, handler: ({ path }) => handler(path) as never });
  route("GET", "/hello", () => new Response("hello"));
  route("GET", "/late/*", async () => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return new Response("late");
  });
  route("GET", "/throws", () => {
    throw new Error("meant");
  });
  server.route({
    uri: "/half",
    method: "GET",
    handler: async (request) => {
      await request.sendChunk("half");
      throw new Error("meant");
    },
  });
  server.route({
    uri: "/post",
    method: "POST",
    handler: async (request) => request.send(await request.recv()),
  });
  server.route({
    uri: "/hangs/*",
    method: "GET",
    handler: async (request) => {
      if (request.path.endsWith("b")) await request.sendChunk("begun");
      arrived.get(request.path)?.();
      await new Promise((_, reject) =>
        request.signal.addEventListener("abort", () => reject(request.signal.reason))
      );
    },
  });
  server.route({ uri: "/ws", websocket: { onMessage: (ws, message) => ws.send(message) } });

  let ids = 0;
  /** A path whose request hangs, and a promise that it has come. */
  const hanging = (half: boolean) => {
    const path = `/hangs/${++ids}${half ? "b" : "a"}`;
    const came = new Promise<void>((resolve) => arrived.set(path, resolve));
    return { path, came: came.then(() => void arrived.delete(path)) };
  };

  const connection = () => RawClient.connect(port, mode);
  /** Sends what is answered in so many responses. */
  const answered = async (client: RawClient, bytes: string, statuses: number): Promise<number> => {
    client.text = "";
    client.send(bytes);
    await client.until(() => client.text.split("HTTP/1.1 ").length > statuses);
    return statuses;
  };
  let kept: RawClient | undefined;
  const keptAlive = async () =>
    kept !== undefined && !kept.ended && !kept.closed ? kept : kept = await connection();
  let streams: Http2Client | undefined;
  const http2 = async () => {
    if (streams !== undefined && !streams.ended && !streams.closed) return streams;
    streams = await Http2Client.connect(port, mode);
    return await streams.ready();
  };
  const refused = async (bytes: string): Promise<number> => {
    const client = await connection();
    client.send(bytes);
    await client.rest();
    client.destroy();
    return 1;
  };

  const kinds: (() => Promise<number>)[] = [
    async () => await answered(await keptAlive(), GET("/hello"), 1),
    async () => await answered(await keptAlive(), GET("/none"), 1),
    async () => await answered(await keptAlive(), GET("/late/1") + GET("/hello") + GET("/none"), 3),
    async () => await answered(await keptAlive(), "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    async () =>
      await answered(
        await keptAlive(),
        "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        1,
      ),
    async () => await answered(await keptAlive(), GET("/throws"), 1),
    () => refused(GET("/half")),
    () => refused("NO HEAD AT ALL\r\n\r\n"),
    () => refused("GET / HTTP/1.1\r\n\r\n"),
    () => refused(`GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(40_000)}\r\n\r\n`),
    async () => { // a head that is cut is none
      const client = await connection();
      client.send("GET /hello HTTP/1.1\r\nHo");
      client.destroy();
      return 0;
    },
    async () => {
      const half = ids % 2 === 0;
      const { path, came } = hanging(half);
      const client = await connection();
      client.send(GET("/hello") + GET(path));
      await came;
      client.destroy();
      return 2;
    },
    async () => {
      const client = await FrameClient.open(port, { mode });
      client.send({ op: 1, text: "hello" });
      client.socket.destroy();
      return 1;
    },
    async () => {
      const client = await http2();
      const ids = ["/hello", "/none", "/late/2", "/throws", "/half"].map((path) =>
        client.request({ path })
      );
      for (const id of ids) await client.answer(id);
      return ids.length;
    },
    async () => {
      const client = await http2();
      await client.answer(client.request({ path: "/post" }, "body"));
      await client.answer(client.request({ path: `/${"x".repeat(9_000)}` })); // 414
      return 2;
    },
    async () => {
      const client = await http2();
      const { path, came } = hanging(ids % 2 === 0);
      const id = client.request({ path });
      await came;
      client.send(reset(id));
      await client.settled();
      return 1;
    },
    async () => {
      const client = await Http2Client.connect(port, mode);
      await client.ready();
      const both = [hanging(true), hanging(false)];
      for (const { path } of both) client.request({ path });
      await Promise.all(both.map(({ came }) => came));
      client.destroy();
      return 2;
    },
  ];
  const close = () => {
    kept?.destroy();
    streams?.destroy();
  };
  return { ...host, kinds, close };
}

for (const mode of MODES) {
  test(`${REQUESTS} requests and more are counted alike, ${mode}`, async () => {
    const { server, kinds, close } = await setUp(mode);
    let events = 0;
    let lines = 0;
    server.addEventListener("http:exchange", () => void events++);
    const log = accessLog(server, { sink: (text) => void (lines += text.split("\n").length - 1) });
    const exposed = metrics(server);
    const random = new Random(SEED);
    let sent = 0;
    for (const kind of kinds) sent += await kind();
    while (sent < REQUESTS) sent += await random.pick(kinds)();
    close();
    await until(() => server.sessions.size === 0, "all sessions have ended");
    await log.stop();
    const histogram = [
      ...exposed.text().matchAll(/^http_server_request_duration_seconds_count.* (\d+)$/gm),
    ]
      .reduce((sum, [, count]) => sum + Number(count), 0);
    const { total, active, byClass } = server.stats().requests;
    const ended = Object.values(byClass).reduce((sum, count) => sum + count, 0);
    assert.deepEqual(
      { events, lines, written: log.written, histogram, total, ended, active },
      {
        events: sent,
        lines: sent,
        written: sent,
        histogram: sent,
        total: sent,
        ended: sent,
        active: 0,
      },
    );
    assert.ok(byClass.none > 0 && byClass["1xx"] > 0 && byClass["5xx"] > 0);
  }, TEST_MS);
}
