/**
 * OpenTelemetry on the way out: a collector of our own gets the spans and metrics of a server in a
 * process of its own, from an SDK on both runtimes, and from Deno by itself.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { propagation } from "@opentelemetry/api";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { instrument } from "../lib/telemetry/otel.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { until } from "./support.ts";
import { FrameClient, handshake } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const TIMEOUT_MS = 60_000; // another process, with an SDK, on a busy machine
const root = fileURLToPath(new URL("..", import.meta.url));

interface Attribute {
  readonly key: string;
  readonly value: Record<string, string | number | boolean>;
}

interface ExportedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly links?: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly status?: { readonly code?: number };
}

interface DataPoint {
  readonly attributes: readonly Attribute[];
  readonly count?: string | number;
  readonly explicitBounds?: readonly number[];
  readonly asInt?: string | number;
  readonly asDouble?: number;
}

interface ExportedMetric {
  readonly name: string;
  readonly unit: string;
  readonly histogram?: { readonly dataPoints: readonly DataPoint[] };
  readonly sum?: { readonly dataPoints: readonly DataPoint[] };
}

/** What a collector was sent. */
interface Collected {
  readonly spans: ExportedSpan[];
  readonly metrics: ExportedMetric[];
}

/** Runs the program beside a collector, and gives what came there. */
async function collect(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Collected> {
  const collected: Collected = { spans: [], metrics: [] };
  const collector = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(pieces).toString());
      for (const { scopeSpans } of body.resourceSpans ?? []) {
        for (const { spans } of scopeSpans) collected.spans.push(...spans);
      }
      for (const { scopeMetrics } of body.resourceMetrics ?? []) {
        for (const { metrics } of scopeMetrics) collected.metrics.push(...metrics);
      }
      response.setHeader("content-type", "application/json");
      response.end("{}");
    });
  });
  collector.listen(0, "127.0.0.1");
  await once(collector, "listening");
  const { port } = collector.address() as AddressInfo;
  const file = "tests/clients/otel_server.ts";
  const command = runtime === "deno"
    ? ["run", "-A", "--no-check", "--quiet", "--node-modules-dir=manual", file]
    : [file];
  const child = spawn(process.execPath, [...command, ...args], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      ...process.env,
      ...env,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    },
  });
  try {
    const [code] = await once(child, "close");
    assert.equal(code, 0);
  } finally {
    child.kill("SIGKILL");
    collector.closeAllConnections();
    collector.close();
  }
  return collected;
}

function valuesOf(attributes: readonly Attribute[]): Record<string, string | number | boolean> {
  return Object.fromEntries(attributes.map(({ key, value }) => {
    const [text] = Object.values(value);
    return [key, "intValue" in value || "doubleValue" in value ? Number(text) : text!];
  }));
}

function theSpan({ spans }: Collected, name: string, more: Record<string, unknown> = {}) {
  const found = spans.filter((span) => {
    const values = valuesOf(span.attributes);
    return span.name === name &&
      Object.entries(more).every(([key, value]) => values[key] === value);
  });
  assert.equal(found.length, 1, `${found.length} spans ${name} of ${spans.map((s) => s.name)}`);
  return found[0]!;
}

const SERVER = 2;
const ERROR = 2;

/** What any exporter must have got. */
function assertWhole(collected: Collected): void {
  // A request of a client that is traced, with its template for a name, and what it started.
  const item = theSpan(collected, "GET /items/*");
  assert.deepEqual([item.traceId, item.parentSpanId], ["1".repeat(32), "2".repeat(16)]);
  assert.equal(item.kind, SERVER);
  const values = valuesOf(item.attributes);
  for (
    const [key, value] of Object.entries({
      "http.request.method": "GET",
      "http.route": "/items/*",
      "http.response.status_code": 200,
      "http.response.body.size": 4,
      "url.path": "/items/17",
      "url.query": "secret",
      "url.scheme": "https",
      "server.address": "localhost",
      "client.address": "127.0.0.1",
      "network.protocol.version": "1.1",
    })
  ) assert.equal(values[key], value, key);
  const took = Number(BigInt(item.endTimeUnixNano) - BigInt(item.startTimeUnixNano)) / 1e6;
  assert.ok(took >= 4 && took < 30_000, `${took} ms`);
  const load = theSpan(collected, "load");
  assert.deepEqual([load.traceId, load.parentSpanId], [item.traceId, item.spanId]);
  const plain = theSpan(collected, "GET", { "url.path": "/plain" });
  assert.equal(theSpan(collected, "inside").parentSpanId, plain.spanId);
  assert.ok(!plain.parentSpanId, "A request without a traceparent begins a trace");
  const second = theSpan(collected, "GET", { "url.path": "/second" });
  assert.ok(!second.parentSpanId, "Also one that begins when the one before it has ended");

  // A method that is not known, and a handler that fails.
  const brew = theSpan(collected, "HTTP");
  const brewed = valuesOf(brew.attributes);
  assert.equal(brewed["http.request.method"], "_OTHER");
  const broken = theSpan(collected, "GET /broken");
  assert.equal(broken.status?.code, ERROR);
  assert.equal(valuesOf(broken.attributes)["error.type"], "500");
  assert.notEqual(item.status?.code, ERROR);

  // Handshakes, which the requests link to; one has failed.
  const handshakes = collected.spans.filter(({ name }) => name === "TLS handshake");
  assert.equal(handshakes.length, 6);
  const linked = handshakes.find(({ spanId }) => spanId === item.links?.[0]?.spanId);
  assert.ok(linked !== undefined, "The request links to its handshake");
  assert.match(String(valuesOf(linked.attributes)["tls.client.ja4"]), /^t1\dd/);
  const failed = handshakes.filter(({ status }) => status?.code === ERROR);
  assert.deepEqual(failed.map(({ attributes }) => valuesOf(attributes)["error.type"]), [
    "TLS_SELECTION_FAILED",
  ]);

  // A WebSocket, which links to its request.
  const upgrade = theSpan(collected, "GET", { "url.path": "/ws" });
  assert.equal(valuesOf(upgrade.attributes)["http.response.status_code"], 101);
  const webSocket = theSpan(collected, "WebSocket");
  assert.equal(webSocket.links?.[0]?.spanId, upgrade.spanId);
  assert.ok(!webSocket.parentSpanId);

  // Metrics.
  const duration = collected.metrics.filter(({ name }) => name === "http.server.request.duration")
    .at(-1);
  assert.equal(duration?.unit, "s");
  const points = duration?.histogram?.dataPoints ?? [];
  assert.equal(points.reduce((sum, { count }) => sum + Number(count), 0), 7);
  assert.equal(points[0]?.explicitBounds?.[0], 0.005);
  const routed = points.find(({ attributes }) => valuesOf(attributes)["http.route"] === "/items/*");
  assert.equal(valuesOf(routed!.attributes)["http.response.status_code"], 200);
  const active = collected.metrics.filter(({ name }) => name === "http.server.active_requests")
    .at(-1)?.sum?.dataPoints ?? [];
  assert.ok(active.length > 0);
  for (const { asInt = 0, asDouble = 0 } of active) assert.equal(Number(asInt) + asDouble, 0);
}

describe("a collector gets spans and metrics", () => {
  test("of an SDK", async () => {
    assertWhole(await collect(["sdk"]));
  }, TIMEOUT_MS);

  if (runtime === "deno") {
    test("of Deno, with nothing else", async () => {
      assertWhole(await collect([], { OTEL_DENO: "true" }));
    }, TIMEOUT_MS);
  }
});

describe("instrument()", () => {
  test("without an SDK affects nothing, also of an edge app, and ends", async () => {
    const { server, port, errors } = await started(() => new Response("hello"));
    const stop = instrument(server);
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("hello");
    stop();
    stop();
    client.send(GET("/"));
    await client.expect(/hello[^]*hello/);
    client.destroy();
    assert.deepEqual(errors, []);
    const app = createEdgeApp({}, () => new Response("hello"));
    instrument(app);
    assert.equal(await (await app.fetch(new Request("https://a.example/"))).text(), "hello");
  });

  test("gives a propagator all lines of a field, and one that throws counts nothing", async () => {
    const { server, port, errors } = await started(() => new Response("hello"));
    const seen: unknown[] = [];
    let active = 0;
    const meter = {
      createHistogram: () => ({ record: () => {} }),
      createUpDownCounter: () => ({ add: (value: number) => void (active += value) }),
    };
    const stop = instrument(server, { meterProvider: { getMeter: () => meter } } as never);
    propagation.setGlobalPropagator({
      inject: () => {},
      fields: () => [],
      extract: (context, carrier, getter) => {
        const names = ["traceparent", "tracestate", "baggage", "other"];
        seen.push(...names.map((name) => getter.get(carrier, name)));
        if (seen.length > 4) throw new Error("extract");
        return context;
      },
    });
    try {
      const client = await RawClient.connect(port);
      client.send(
        "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 1\r\ntracestate: a=1\r\nbaggage: x=1\r\n" +
          "Traceparent: 2\r\nTracestate: b=2\r\nBaggage: y=2\r\n\r\n",
      );
      await client.expect("hello");
      assert.deepEqual(seen, ["1,2", "a=1,b=2", "x=1,y=2", undefined]);
      client.send(GET("/"));
      await client.expect(/hello[^]*hello/);
      client.destroy();
    } finally {
      propagation.disable();
      stop();
    }
    assert.deepEqual(errors.map(({ code }) => code), ["HOOK_FAILED"]);
    assert.equal(active, 0);
  });

  test("shows no secrets of a query, and ends the spans of WebSockets when it ends", async () => {
    const { server, port } = await started(() => new Response("hello"));
    server.route({ uri: "/ws", websocket: { onMessage: () => {} } });
    const open: string[] = [];
    const queries: unknown[] = [];
    const tracer = {
      startSpan(name: string, { attributes }: { attributes: Record<string, unknown> }) {
        open.push(name);
        if ("url.query" in attributes) queries.push(attributes["url.query"]);
        const end = () => void open.splice(open.indexOf(name), 1);
        return { end, isRecording: () => false, spanContext: () => ({}) };
      },
    };
    const stop = instrument(server, { tracerProvider: { getTracer: () => tracer } } as never);
    const client = await RawClient.connect(port);
    const query = "a=1&sig=a%26b&xsig=2&Signature=&AWSAccessKeyId=x&sig=y";
    client.send(GET(`/?${query}`));
    await client.expect("hello");
    client.destroy();
    assert.deepEqual(queries, [
      "a=1&sig=REDACTED&xsig=2&Signature=REDACTED&AWSAccessKeyId=REDACTED&sig=REDACTED",
    ]);
    const sockets = await Promise.all([1, 2].map(() => FrameClient.open(port)));
    assert.deepEqual(open, ["WebSocket", "WebSocket"]);
    sockets[0]!.socket.destroy();
    await until(() => open.length === 1, "one has ended");
    stop();
    assert.deepEqual(open, []);
    sockets[1]!.socket.destroy();
    server.addEventListener("websocket:open", ({ session }) => session.destroy());
    instrument(server, { tracerProvider: { getTracer: () => tracer } } as never);
    const late = await RawClient.connect(port);
    late.send(handshake("/ws"));
    await late.rest().catch(() => "");
    late.destroy();
    assert.deepEqual(open, []);
  });

  test("refuses wrong options", async () => {
    const { server } = await started(() => new Response("hello"));
    const wrong = { code: "INVALID_CONFIG" };
    assert.throws(() => instrument(server, { tracerProvider: {} } as never), wrong);
    assert.throws(() => instrument(server, { tracer: 1 } as never), /write tracerProvider/);
    assert.throws(() => instrument(server, { handshakes: 1 } as never), wrong);
    assert.throws(() => instrument({} as never), wrong);
  });
});
