/**
 * What is measured: the rows, each with its contestants (a server each, the parameters are those of
 * bench/servers/work.ts), how they are loaded and measured, and its bars. The first contestant is
 * the one that ratios are against, and that answers have to be equal to.
 *
 * A bar holds a contestant: `speed` to at least so much of another's operations per CPU second,
 * `times` to at most so many times another's value, `more` to at most so much above another's,
 * `most` to at most that.
 */
import { askHttp2 } from "./answers.mjs";
import { answersTo, bodies, BODY_BYTES, client, GET, wrk } from "./loads.mjs";
import { idleMemory, lateness, startUp } from "./singles.mjs";
import { inRuns, inSlots } from "./turns.mjs";

const MB = 1024 * 1024;

const native = { name: "native", server: { front: "native" } };
const nodeTls = { name: "node:tls loop", server: { front: "nodeTls" } };
const fetch = { name: "httpsd fetch", ours: true, server: { front: "fetch" } };
const route = { name: "httpsd route", ours: true, server: { front: "route" } };
const hono = { name: "httpsd Hono", ours: true, server: { front: "hono" } };

/** Contestants with parameters for all their servers. */
const all = (parameters, ...contestants) =>
  contestants.map((each) => ({ ...each, server: { ...parameters, ...each.server } }));

/** A contestant by another name, with more to its server, or on one runtime only. */
const but = (contestant, name, server, more = {}) => ({
  ...contestant,
  name,
  server: { ...contestant.server, ...server },
  ...more,
});

const speed = (contestant, of, bun, deno) => ({
  kind: "speed",
  contestant: contestant.name,
  of: of.name,
  limits: { bun, deno },
});

const CLOSE = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

function post(path, fields, body) {
  const lines = [...fields, `Content-Length: ${body.length}`].map((line) => `${line}\r\n`).join("");
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n${body}`;
}

const LOOKING = post(
  "/a/path?and=query",
  ["Accept: text/plain"],
  "a body of some fifty bytes, which the handler reads",
);
const JSON_ECHO = post(
  "/",
  ["Content-Type: application/json"],
  '{"id":42,"name":"sensor-7","on":true,"values":[1.5,2.25,3],"place":{"room":"hall"}}',
);
const PIPELINED = 16;
const PARAMETERS = Array.from(
  { length: 10 },
  (_, i) => `GET /r${i}/item-42 HTTP/1.1\r\nHost: localhost\r\n\r\n`,
);

/** A row of small requests over HTTP/1.1. */
const requests = (name, title, contestants, texts, bars, options) => ({
  name,
  title,
  unit: "request",
  contestants,
  load: wrk(texts, options),
  measure: inSlots,
  bars,
});

/** A row of new connections. */
const handshakes = (name, title, contestants, { options, certificate, folder, bars }) => ({
  name,
  title,
  unit: "handshake",
  contestants,
  load: client("handshakes", options, {
    folder,
    // `Bun.serve` closes without the field that says so.
    answers: async (server) =>
      (await answersTo(server, [CLOSE], { certificate }))
        .map((text) => text.replace("connection: close\n", "")),
  }),
  measure: inSlots,
  bars,
});

const nativeSocket = { name: "native", server: { front: "nativeWebSocket" } };
const socket = { name: "httpsd", ours: true, server: { front: "webSocket" } };
const UPGRADE = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/** A row of WebSockets. */
const sockets = (name, title, { folder, work, deflate, connections, size, bars }) => ({
  name,
  title,
  unit: "message",
  contestants: all(
    { work, deflate },
    { ...nativeSocket, ...deflate && { runtime: "bun" } },
    socket,
  ),
  load: client("websocket", { work, deflate, size, connections }, {
    folder,
    // Which fields beside those of RFC 6455 come with a 101 is no part of what messages cost.
    answers: async (server) =>
      (await answersTo(server, [UPGRADE])).map((text) =>
        text.split("\n").filter((line) => /^(status|upgrade|connection|sec-)/.test(line))
          .join("\n").toLowerCase()
      ),
  }),
  measure: inSlots,
  bars,
});

/** Rows over HTTP/2. */
const overHttp2 = (folder) => [
  ...[[1, 0.9, 1.0], [10, 1.0, 2.5], [100, 1.2, 3.5]].map(([streams, bun, deno]) => ({
    name: `h2-hello-${streams}`,
    title: `HTTP/2 hello, ${streams} at a time on each of 8 connections`,
    unit: "request",
    contestants: all({ work: "hello", http2: true }, native, fetch, route),
    load: client("http2", { connections: 8, streams }, { folder, answers: askHttp2 }),
    measure: inSlots,
    bars: [speed(fetch, native, bun, deno)],
  })),
];

/** A row of idle connections. */
const idle = (connections, bars, http2 = false) => ({
  name: `${http2 ? "h2-" : ""}idle-${connections}`,
  title: `Memory of an idle TLS connection${http2 ? " with HTTP/2" : ""}, of ${
    connections.toLocaleString("en")
  }`,
  unit: "KB",
  contestants: all({ work: "hello", http2 }, native, fetch),
  measure: (contestants) => idleMemory(contestants, connections, http2),
  single: true,
  bars,
});

const manyNames = but(fetch, "httpsd, 1,000 names", { names: 1_000 });
const manyRoutes = [10, 1_000, 10_000].map((size) =>
  but(route, `httpsd, ${size.toLocaleString("en")} routes`, { size })
);

/** What is watched by observers of bench/servers/observers.ts. */
const watchedBy = (name, ...watched) => but(fetch, name, { watched });
const OBSERVERS = [
  ["event listened for", "event"],
  ["metrics", "metrics"],
  ["access log, thrown away", "log"],
  ["access log in JSON, thrown away", "json"],
  ["access log in a file", "file"],
  ["inspector", "inspector"],
  ["inspector, looked at", "looked"],
];
const allOn = watchedBy(
  "event, metrics, access log, inspector",
  "event",
  "metrics",
  "log",
  "inspector",
);

/** All rows; `folder` is for files of the run, `certificate` the files of a client's. */
export const rows = ({ folder, certificate }) => [
  requests(
    "hello",
    "Hello: a handler that reads nothing",
    all({ work: "hello" }, native, fetch, route, hono, nodeTls),
    [GET],
    [
      speed(fetch, native, 0.92, 0.62),
      speed(fetch, nodeTls, undefined, 0.87),
      speed(route, native, 1.0, 0.65),
    ],
  ),
  requests(
    "looking",
    "Looking: the handler reads the URL, a field and the body",
    all({ work: "looking" }, native, fetch),
    [LOOKING],
    [speed(fetch, native, 0.85, 0.6)],
  ),
  requests(
    "json",
    "JSON: 84 bytes parsed and answered",
    all({ work: "json" }, native, fetch),
    [JSON_ECHO],
    [speed(fetch, native, 0.85, 0.6)],
  ),
  requests(
    "pipelined",
    `Pipelined: ${PIPELINED} times hello in one write`,
    all({ work: "hello" }, native, fetch, route),
    [GET.repeat(PIPELINED)],
    [speed(fetch, native, 2.5, 2)],
    { worth: PIPELINED },
  ),
  requests(
    "parameters",
    "Ten routes with a parameter",
    all(
      { work: "parameters" },
      but(native, "native, Hono", { front: "nativeHono" }),
      but(native, "native, own router", { front: "nativeRoutes" }, { runtime: "bun" }),
      hono,
      route,
    ),
    PARAMETERS,
  ),
  requests(
    "telemetry",
    "Hello, watched",
    all({ work: "hello" }, fetch, ...OBSERVERS.map((each) => watchedBy(...each)), allOn),
    [GET],
    [speed(allOn, fetch, 0.91, 0.91)],
  ),
  requests(
    "opentelemetry",
    "Hello, with OpenTelemetry",
    all(
      { work: "hello" },
      fetch,
      watchedBy("its API alone", "api"),
      watchedBy("SDK, 1 % of the traces", "sampled"),
      watchedBy("SDK, all traces", "sdk"),
    ),
    [GET],
  ),
  requests(
    "routes",
    "Hello by routes, the last one asked for",
    all({ work: "hello" }, ...manyRoutes),
    [GET],
    manyRoutes.slice(1).map((many) => speed(many, manyRoutes[0], 0.95, 0.95)),
  ),
  {
    name: "download-1",
    title: "Downloads of 1 MB",
    unit: "MB",
    contestants: all({ work: "download", size: MB }, native, fetch, route),
    load: client("bodies", { connections: 8 }, {
      folder,
      answers: (server) => answersTo(server, [GET]),
    }),
    measure: inSlots,
    bars: [speed(fetch, native, 1.0, 0.95)],
  },
  {
    name: "download-100",
    title: "Downloads of 100 MB",
    unit: "MB",
    contestants: all({ work: "download", size: BODY_BYTES }, native, fetch, route),
    load: bodies({}),
    measure: inRuns,
    bars: [speed(fetch, native, 1.0, 0.95)],
  },
  {
    name: "upload-100",
    title: "Uploads of 100 MB",
    unit: "MB",
    contestants: all({ work: "upload" }, native, fetch),
    load: bodies({ upload: BODY_BYTES }),
    measure: inRuns,
    bars: [speed(fetch, native, 1.0, 0.95)],
  },
  handshakes(
    "handshakes",
    "Full handshakes",
    all({ work: "hello", once: true }, nodeTls, native, fetch, manyNames),
    {
      folder,
      options: { names: 1_000 },
      bars: [speed(fetch, nodeTls, 0.95, 0.9), speed(manyNames, fetch, 0.85, 0.9)],
    },
  ),
  handshakes(
    "resumed",
    "Resumed handshakes",
    all({ work: "hello", once: true }, nodeTls, native, fetch),
    { folder, options: { resume: true }, bars: [speed(fetch, nodeTls, 0.9, 0.85)] },
  ),
  handshakes(
    "mutual",
    "Mutual TLS: full handshakes with a client's certificate",
    all({ work: "hello", once: true, mutual: true }, nodeTls, fetch),
    {
      folder,
      options: { certificate: certificate.files },
      certificate: certificate.texts,
      bars: [speed(fetch, nodeTls, 0.9, 0.85)],
    },
  ),
  sockets("echo", "WebSocket echo, 128 bytes", {
    folder,
    work: "echo",
    connections: 64,
    size: 128,
    bars: [speed(socket, nativeSocket, 0.85, 0.85)],
  }),
  sockets("echo-deflate", "WebSocket echo, 2 KB compressed", {
    folder,
    work: "echo",
    deflate: true,
    connections: 64,
    size: 2_048,
  }),
  sockets("broadcast", "WebSocket broadcast to 1,000, 128 bytes", {
    folder,
    work: "broadcast",
    connections: 1_000,
    size: 128,
  }),
  ...overHttp2(folder),
  {
    name: "late",
    title: "Late ticks inside the server, and latencies, at half load",
    unit: "",
    contestants: all({ work: "hello", ticks: true }, native, fetch, route),
    load: wrk([GET]),
    measure: lateness,
    single: true,
    bars: [fetch, route].map(({ name }) => ({
      kind: "times",
      value: "late",
      contestant: name,
      of: native.name,
      limits: { bun: 1.2, deno: 1.2 },
    })),
  },
  idle(1_000),
  idle(10_000, [{
    kind: "most",
    value: "after",
    contestant: fetch.name,
    limits: { bun: 10, deno: 32 },
  }]),
  idle(1_000, [{
    kind: "most",
    value: "after",
    contestant: fetch.name,
    limits: { bun: 18, deno: 40 },
  }], true),
  {
    name: "start-up",
    title: "Start-up: import, serve, stop, exit",
    unit: "start",
    contestants: [
      { name: "native", program: "native" },
      { name: "native, TLS", program: "native_tls" },
      { name: "node:net, node:tls", program: "node" },
      { name: "httpsd, insecure", program: "insecure" },
      { name: "httpsd, PEM", program: "pem" },
    ],
    measure: startUp,
    single: true,
    bars: [
      {
        kind: "times",
        value: "milliseconds",
        contestant: "httpsd, insecure",
        of: "native",
        limits: { bun: 2, deno: 2 },
      },
      {
        kind: "more",
        value: "peak",
        contestant: "httpsd, insecure",
        of: "native",
        limits: { bun: 12, deno: 12 },
      },
      { kind: "most", value: "milliseconds", contestant: "httpsd, PEM", limits: { bun: 150 } },
    ],
  },
];
