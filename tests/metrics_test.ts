/** Metrics: what they count, that Prometheus' own parsers take them, and that series are bounded. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import { Exposition } from "../lib/telemetry/exposition.ts";
import { type Metrics, metrics } from "../lib/telemetry/metrics.ts";
import { HttpsServer } from "../mod.ts";
import { Http2Client } from "./http2_client.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, gone, until } from "./support.ts";
import { sClient, startServer } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();

const folder = mkdtempSync(join(tmpdir(), "httpsd-metrics-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs Prometheus' own tool, and gives what it complains about. */
function promtool(args: readonly string[], input = ""): string {
  const { error, status, stdout, stderr } = spawnSync("promtool", args, {
    input,
    encoding: "utf8",
  });
  if (error !== undefined) assert.fail("There is no promtool: apt-get install prometheus");
  return status === 0 ? stderr : `${status}: ${stdout}${stderr}`;
}

/** The value of the one sample with this name whose labels contain these. */
function sample(text: string, name: string, ...labels: string[]): number | undefined {
  const found = text.split("\n").filter((line) =>
    (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) &&
    labels.every((label) => line.includes(label))
  );
  assert.ok(found.length <= 1, `${found.length} samples of ${name}`);
  return found.length === 0 ? undefined : Number(found[0]!.split(" ").at(-1));
}

const seriesOf = (text: string): number =>
  text.split("\n").filter((line) => line.startsWith("http_server_request_duration_seconds_count"))
    .length;

/** How many requests the histogram has counted. */
function counted(it: Metrics): number {
  return it.text().split("\n")
    .filter((line) => line.startsWith("http_server_request_duration_seconds_count"))
    .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

describe("metrics()", () => {
  test("count requests by method, status, route and version, and Prometheus takes them", async () => {
    await using host = await startServer({ uriMatch: matchWildcard });
    const { server, port } = host;
    const it = metrics(server);
    server.route({ uri: "/items/*", method: "GET", handler: (request) => request.send("item") });
    server.route({ uri: '/odd"\\route', method: "GET", handler: (request) => request.send("") });
    for (const target of ["/items/1", "/items/2", "/other"]) await sClient(port, { target });
    const garbage = await connectTcp(port);
    garbage.write("not TLS at all\r\n\r\n");
    await gone(garbage);
    garbage.destroy();
    await until(() => host.errors.length > 0, "the handshake has failed");
    const text = it.text();
    const count = "http_server_request_duration_seconds_count";
    const labels = ['http_request_method="GET"', 'url_scheme="https"'];
    labels.push('http_response_status_code="200"', 'network_protocol_version="1.1"');
    assert.equal(sample(text, count, ...labels, 'http_route="/items/*"'), 2);
    assert.equal(counted(it), 3);
    const bucket = "http_server_request_duration_seconds_bucket";
    assert.equal(sample(text, bucket, 'http_route="/items/*"', 'le="+Inf"'), 2);
    assert.ok(!text.includes("/items/1") && !text.includes("/other"));
    assert.equal(sample(text, "httpsd_tls_handshake_failures_total", 'code="TLS_NOT_TLS"'), 1);
    assert.equal(sample(text, "httpsd_tls_handshakes_total", 'resumed="false"'), 3);
    const expiry = sample(text, "httpsd_certificate_expiry_timestamp_seconds", 'name="localhost"');
    assert.ok(expiry! > Date.now() / 1000);
    assert.equal(promtool(["check", "metrics"], text), "");
    assert.equal(readOpenMetrics(it.text("openmetrics")), "");
  });

  test("put durations into the buckets of the conventions", async () => {
    const waits = [0, 30, 80];
    const { server, port } = await started(async (request) => {
      const ms = Number(new URL(request.url).pathname.slice(1));
      await new Promise((resolve) => setTimeout(resolve, ms));
      return new Response("late");
    });
    const it = metrics(server);
    const client = await RawClient.connect(port);
    for (const ms of waits) client.send(GET(`/${ms}`));
    await until(() => counted(it) === waits.length, "all are counted");
    client.destroy();
    const text = it.text();
    const bounds = [...text.matchAll(/_bucket\{.*le="([^"]+)"\} (\d+)/g)];
    assert.deepEqual(bounds.map(([, bound]) => bound), [
      ...["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75"],
      ...["1", "2.5", "5", "7.5", "10", "+Inf"],
    ]);
    const counts = bounds.map(([, , count]) => Number(count));
    assert.deepEqual(counts, counts.toSorted((a, b) => a - b)); // cumulative
    assert.ok(counts[2]! <= 1 && counts[4]! <= 2 && counts.at(-1) === 3, String(counts));
    const sum = sample(text, "http_server_request_duration_seconds_sum");
    assert.ok(sum! >= 0.109, String(sum));
  });

  test("have few series, whatever methods, paths, names and versions clients send", async () => {
    const { server, port } = await started(undefined, { uriMatch: matchWildcard });
    server.route({ uri: "/a/*", method: "ANY", handler: (request) => request.send("a") });
    const it = metrics(server);
    const random = () => Math.random().toString(36).slice(2, 9);
    let sent = 0;
    for (let i = 0; i < 60; i++) {
      const client = await RawClient.connect(port);
      const method = i % 3 === 0 ? random().toUpperCase() : ["BREW", "GET", "PURGE"][i % 3]!;
      client.send(
        `${method} /${i % 2 ? "a/" : ""}${random()}?${random()} HTTP/1.${i % 10}\r\n` +
          `Host: ${random()}.example\r\nUser-Agent: ${random()}\r\nConnection: close\r\n\r\n`,
      );
      await client.rest();
      client.destroy();
      sent++;
    }
    using client = await Http2Client.connect(port);
    await client.ready();
    for (let i = 0; i < 20; i++, sent++) {
      await client.answer(client.request({ path: `/a/${random()}`, authority: random() }));
    }
    await until(() => counted(it) === sent, "all are counted");
    const text = it.text();
    assert.ok(seriesOf(text) < 20, `${seriesOf(text)} series`);
    assert.ok(text.includes('http_request_method="_OTHER"'));
    assert.ok(!/PURGE|BREW|example/.test(text));
    assert.equal(promtool(["check", "metrics"], text), "");
  });

  test("have one series for requests without a route and with an empty one", async () => {
    const { server, port } = await started((request, info) => {
      if (request.url.endsWith("/empty")) info.route = "";
      return new Response("hello");
    });
    const it = metrics(server);
    const client = await RawClient.connect(port);
    client.send(GET("/") + GET("/empty") + GET("/empty"));
    await until(() => counted(it) === 3, "all are counted");
    client.destroy();
    assert.equal(seriesOf(it.text()), 1);
    assert.ok(!it.text().includes("http_route"));
  });

  test("count what is beyond maxSeries in one more", async () => {
    const { server, port } = await started((request) => {
      return new Response(null, { status: Number(new URL(request.url).pathname.slice(1)) });
    });
    const it = metrics(server, { maxSeries: 10 });
    const client = await RawClient.connect(port);
    for (let status = 400; status < 500; status++) client.send(GET(`/${status}`));
    await until(() => counted(it) === 100, "all are counted");
    client.destroy();
    const text = it.text();
    assert.equal(seriesOf(text), 11);
    const count = "http_server_request_duration_seconds_count";
    assert.equal(sample(text, count, 'otel_metric_overflow="true"'), 90);
    assert.equal(readOpenMetrics(it.text("openmetrics")), "");
  });

  test("are answered on a route and on a listener of their own, in the format asked for", async () => {
    const { server, port } = await started(() => new Response("hello"));
    const it = metrics(server);
    server.route({
      uri: "/metrics",
      method: "GET",
      handler: (request) => it.response(request.get("accept")),
    });
    const { port: own } = await started(it.fetch);
    for (const [at, path] of [[port, "/metrics"], [own, "/"]] as const) {
      const url = `http://127.0.0.1:${at}${path}`;
      const plain = await fetch(url);
      assert.equal(plain.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
      assert.equal(promtool(["check", "metrics"], await plain.text()), "");
      const accept = "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
      const open = await fetch(url, { headers: { accept } });
      const type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
      assert.equal(open.headers.get("content-type"), type);
      assert.ok((await open.text()).endsWith("\n# EOF\n"));
    }
    const post = await fetch(`http://127.0.0.1:${own}/`, { method: "POST", body: "x" });
    assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET, HEAD"]);
    await post.text();
    it.stop();
    const before = counted(it);
    await (await fetch(`http://127.0.0.1:${port}/`)).text();
    assert.equal(counted(it), before);
  });

  test("of an edge app have the histogram alone; options are checked", async () => {
    const app = createEdgeApp({}, () => new Response("hello"));
    const it = metrics(app);
    await app.fetch(new Request("https://a.example/"));
    assert.equal(counted(it), 1);
    assert.ok(!it.text().includes("httpsd_"));
    assert.equal(promtool(["check", "metrics"], it.text()), "");
    const server = new HttpsServer({ transportMode: "insecure" });
    const wrong = { code: "INVALID_CONFIG" };
    assert.throws(() => metrics(server, { path: "/metrics" } as never), wrong);
    assert.throws(() => metrics(server, { maxSeries: 0 }), wrong);
    assert.throws(() => metrics({} as never), wrong);
  });
});

test("what labels and helps may contain is escaped", () => {
  for (const format of ["prometheus", "openmetrics"] as const) {
    const exposition = new Exposition(format);
    const odd = 'back\\slash "quotes"\nline é \u{1F600}';
    exposition.gauge({ name: "odd", help: `A sentence with ${odd}.` }, [[1, { odd }]]);
    exposition.counter({ name: "none", help: "No samples." }, []);
    exposition.histogram({ name: "h", help: "None." }, [1], []);
    const text = exposition.end();
    assert.equal(text.split("\n").length, format === "openmetrics" ? 9 : 8);
    if (format === "prometheus") assert.equal(promtool(["check", "metrics"], text), "");
    else assert.equal(readOpenMetrics(text), "");
  }
});

/** Has Prometheus read OpenMetrics as a block of data, for which each sample needs a time. */
function readOpenMetrics(text: string): string {
  const file = join(folder, "open.txt");
  const timed = text.replace(/^([^#\n].*)$/gm, "$1 1700000000.000");
  writeFileSync(file, timed);
  return promtool(["tsdb", "create-blocks-from", "openmetrics", file, join(folder, "data")]);
}
