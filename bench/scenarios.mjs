/**
 * What is measured: for each scenario its rows (a server each, the parameters are those of
 * bench/servers/work.ts), the load, the metric, and the bars. The first row is the control that the
 * ratios are against. `runtime`: only on that one.
 */
import { atHalfRate, beside, client, h2load, h2loadRequests, idle, wrk } from "./loads.mjs";
import { plural } from "./report.mjs";

const MB = 1024 * 1024;

const perCpuSecond = ({ operations, cpu }) => operations / cpu;

/** How a result becomes a number, what its columns are, and whether more is better. */
export const metrics = {
  rate: {
    value: perCpuSecond,
    columns: (unit) => [
      [`${plural(unit)} per CPU second`, perCpuSecond, 0],
      ["per second", ({ operations, seconds }) => operations / seconds, 0],
    ],
  },
  latency: {
    value: ({ p99 }) => p99,
    lessIsBetter: true,
    columns: () => [
      ["rate", ({ rate }) => rate, 0],
      ["p50, µs", ({ p50 }) => p50, 0],
      ["p99, µs", ({ p99 }) => p99, 0],
    ],
  },
  memory: {
    value: ({ after }) => after / 1024,
    lessIsBetter: true,
    columns: () => [
      ["KB, garbage collected", ({ after }) => after / 1024, 1],
      ["KB before that", ({ before }) => before / 1024, 1],
    ],
  },
};

const native = { name: "native", server: { front: "native" } };
const nodeHttps = { name: "node:https", server: { front: "nodeHttps" } };
const nodeTls = { name: "node:tls loop", server: { front: "nodeTls" } };
const fetch = { name: "httpsd fetch", server: { front: "fetch" } };
const route = { name: "httpsd route", server: { front: "route" } };
const hono = { name: "httpsd Hono", server: { front: "hono" } };
const webSocket = { name: "httpsd", server: { front: "webSocket" } };
const nativeWebSocket = { name: "native", server: { front: "nativeWebSocket" } };

/** Rows with parameters for all their servers. */
const rows = (parameters, ...all) =>
  all.map((row) => ({ ...row, server: { ...parameters, ...row.server } }));
/** A row by another name, with more to its server, or anything else of its own. */
const but = (row, name, { server, ...more }) => ({
  ...row,
  name,
  server: { ...row.server, ...server },
  ...more,
});

/** A ratio that is to be reached, per runtime: `row` against `of`. */
const bar = (row, of, by) => ({ row: row.name, of: of.name, by });

const socketScenario = (name, title, work, deflate, bars) => ({
  name,
  title,
  unit: "message",
  rows: rows(
    { work, deflate },
    { ...nativeWebSocket, ...deflate && { runtime: "bun" } },
    webSocket,
  ),
  load: client("websocket", {
    work,
    deflate,
    size: deflate ? 2_048 : 128,
    connections: work === "echo" ? 64 : 1_000,
  }),
  bars,
});

/** Over HTTP/2, beside the native HTTP/2. */
const overHttp2 = ({ upload }) => [
  ...[
    { streams: 1, by: { bun: 0.9, deno: 1.0 } },
    { streams: 10, by: { bun: 1.0, deno: 2.5 } },
    { streams: 100, by: { bun: 1.2, deno: 3.5 } },
  ].map(({ streams, by }) => ({
    name: `h2-hello-${streams}`,
    title: `HTTP/2 hello, ${streams} ${streams === 1 ? "stream" : "streams"} per connection`,
    unit: "request",
    rows: rows({ work: "hello", http2: true }, native, fetch, route),
    load: h2loadRequests({ streams }),
    bars: [bar(fetch, native, by)],
  })),
  ...[
    { name: "h2-download-1", title: "HTTP/2 downloads of 1 MB", work: "download", size: MB },
    { name: "h2-download-100", title: "HTTP/2 downloads of 100 MB", work: "download" },
    { name: "h2-upload-100", title: "HTTP/2 uploads of 100 MB", work: "upload", upload },
  ].map(({ name, title, work, size = 100 * MB, upload }) => ({
    name,
    title,
    unit: "MB",
    rows: rows({ work, size, http2: true }, native, fetch),
    load: h2load({ size, upload, streams: 1 }),
    bars: [bar(fetch, native, { bun: 0.9, deno: 1.0 })],
  })),
  {
    name: "h2-memory-1000",
    title: "HTTP/2 memory per idle connection, of 1,000",
    metric: "memory",
    rounds: 1,
    rows: rows({ work: "hello", http2: true }, native, fetch),
    load: idle(1_000, { http2: true }),
    bars: [{ row: fetch.name, by: { bun: 18, deno: 40 } }],
  },
];

const manyNames = but(fetch, "httpsd, 1,000 names", { server: { names: 1_000 } });

/** `files`: the paths of what the loads send. */
export const scenarios = ({ upload, certificate }) => [
  {
    name: "hello",
    title: "Hello: a handler that reads nothing",
    unit: "request",
    rows: rows({ work: "hello" }, native, fetch, route, hono, nodeHttps, nodeTls),
    load: wrk(),
    bars: [
      bar(fetch, native, { bun: 1.0 }),
      bar(fetch, nodeHttps, { deno: 1.8 }),
      bar(fetch, nodeTls, { deno: 0.9 }),
    ],
  },
  {
    name: "looking",
    title: "Looking: the handler reads the URL, a field and the body",
    unit: "request",
    rows: rows({ work: "looking" }, native, fetch, nodeHttps),
    load: wrk({ script: "looking.lua", path: "/a/path?and=query" }),
    bars: [bar(fetch, native, { bun: 0.9 }), bar(fetch, nodeHttps, { deno: 1.5 })],
  },
  {
    name: "json",
    title: "JSON echo: 90 bytes parsed and answered",
    unit: "request",
    rows: rows({ work: "json" }, native, fetch, nodeHttps),
    load: wrk({ script: "json.lua" }),
  },
  {
    name: "routes",
    title: "Ten routes with a parameter",
    unit: "request",
    rows: rows(
      { work: "routes" },
      but(native, "native, Hono", { server: { front: "nativeHono" } }),
      hono,
      route,
      but(native, "native, own router", { server: { front: "nativeRoutes" }, runtime: "bun" }),
    ),
    load: wrk({ script: "routes.lua" }),
  },
  {
    name: "pipelined",
    title: "Pipelined hello: 16 requests in one write",
    unit: "request",
    rows: rows({ work: "hello" }, native, fetch, route),
    load: wrk({ script: "pipeline.lua" }),
    bars: [bar(fetch, native, { bun: 1.2, deno: 5 })],
  },
  {
    name: "download-1",
    title: "Downloads of 1 MB",
    unit: "MB",
    rows: rows({ work: "download", size: MB }, native, fetch, nodeHttps),
    load: h2load({ size: MB }),
  },
  {
    name: "download-100",
    title: "Downloads of 100 MB",
    unit: "MB",
    rows: rows({ work: "download", size: 100 * MB }, native, fetch, nodeHttps),
    load: h2load({ size: 100 * MB }),
    bars: [bar(fetch, native, { bun: 0.95, deno: 0.8 })],
  },
  {
    name: "upload-100",
    title: "Uploads of 100 MB",
    unit: "MB",
    rows: rows({ work: "upload" }, native, fetch, nodeHttps),
    load: h2load({ size: 100 * MB, upload }),
    bars: [bar(fetch, native, { bun: 0.95, deno: 0.8 })],
  },
  {
    name: "handshakes",
    title: "Full handshakes",
    unit: "handshake",
    rows: [
      ...rows({ work: "once" }, nodeTls),
      ...rows({ work: "hello" }, native, nodeHttps, fetch, manyNames),
    ],
    load: client("handshakes", { names: 1_000 }),
    bars: [
      bar(fetch, nodeTls, { bun: 0.9, deno: 0.95 }),
      bar(manyNames, fetch, { bun: 0.85, deno: 0.9 }),
    ],
  },
  {
    name: "resumed",
    title: "Resumed handshakes",
    unit: "handshake",
    rows: [
      ...rows({ work: "once" }, nodeTls),
      ...rows({ work: "hello" }, native, nodeHttps, fetch),
    ],
    load: client("handshakes", { resume: true }),
  },
  {
    name: "mutual",
    title: "Mutual TLS: full handshakes with a client certificate",
    unit: "handshake",
    rows: [
      ...rows({ work: "once", mutual: true }, nodeTls),
      ...rows({ work: "hello", mutual: true }, nodeHttps, fetch),
    ],
    load: client("handshakes", { certificate }),
  },
  {
    name: "latency",
    title: "Latency at half of the own peak rate",
    metric: "latency",
    rows: rows({ work: "hello" }, native, fetch, route, nodeHttps),
    load: atHalfRate(),
    bars: [bar(fetch, native, { bun: 1.1, deno: 1.1 })],
  },
  ...[1_000, 10_000].map((connections) => ({
    name: `memory-${connections}`,
    title: `Memory per idle connection, of ${connections.toLocaleString("en")}`,
    metric: "memory",
    rounds: 1,
    rows: rows({ work: "hello" }, native, fetch, nodeHttps),
    load: idle(connections),
    bars: [{ row: fetch.name, by: { bun: 16, deno: 36 } }],
  })),
  socketScenario("echo", "WebSocket echo, 128 bytes", "echo", false, [
    bar(webSocket, nativeWebSocket, { bun: 0.9, deno: 1.0 }),
  ]),
  socketScenario("echo-deflate", "WebSocket echo, 2 KB compressed", "echo", true),
  socketScenario("broadcast", "WebSocket broadcast to 1,000, 128 bytes", "broadcast", false, [
    bar(webSocket, nativeWebSocket, { bun: 0.7, deno: 1.0 }),
  ]),
  socketScenario(
    "broadcast-deflate",
    "WebSocket broadcast to 1,000, 2 KB compressed",
    "broadcast",
    true,
  ),
  {
    name: "slow",
    title: "Hello beside 200 clients that do not read their 100 MB",
    unit: "request",
    rows: rows({ work: "mixed" }, native, fetch).flatMap((row) => [
      row,
      {
        ...row,
        name: `${row.name}, beside`,
        load: beside({ connections: 200, path: "/large", stalled: true }, wrk()),
      },
    ]),
    load: wrk(),
  },
  ...overHttp2({ upload }),
];

/** How cost grows: for each point the server and the load, in one round; `label` writes a point. */
export const growths = [
  {
    name: "by-connections",
    title: "Hello by open connections",
    unit: "request",
    points: [10, 100, 1_000, 10_000],
    rows: rows({ work: "hello" }, native, fetch),
    load: (connections) => client("requests", { connections }),
  },
  {
    name: "by-names",
    title: "Full handshakes by names, a certificate each",
    unit: "handshake",
    points: [1, 10, 100, 1_000, 10_000],
    rows: rows({ work: "hello" }, fetch),
    server: (names) => ({ names }),
    // Long enough for the first handshake of each name, which makes its certificate ready.
    load: (names) => client("handshakes", { names, warmUp: 3 + names / 500 }),
  },
  {
    name: "by-routes",
    title: "Hello by routes, the last one asked for",
    unit: "request",
    points: [1, 10, 100, 1_000],
    rows: rows({ work: "hello" }, route),
    server: (size) => ({ size }),
    load: () => wrk(),
  },
  {
    name: "by-size",
    title: "Downloads by size of the body",
    unit: "MB",
    points: [1, 10, 100, 1_024, 10_240, 102_400].map((kilobytes) => kilobytes * 1024),
    label: (size) => size < MB ? `${size / 1024} KB` : `${size / MB} MB`,
    rows: rows({ work: "download" }, native, fetch),
    server: (size) => ({ size }),
    // Small ones by time: Deno.serve takes 40 ms for some (Nagle), too long for a number of them.
    load: (size) => size < MB ? wrk({ worth: size / MB }) : h2load({ size }),
  },
];
