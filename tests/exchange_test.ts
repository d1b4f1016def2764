/** `http:exchange`: one event for each request and its answer, whatever becomes of them. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { HttpError } from "../lib/errors.ts";
import type { ExchangeReport } from "../lib/http/exchange_report.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import type { RouteHandler } from "../lib/httpd/route.ts";
import { type HttpsServer, HttpsServer as Server } from "../lib/server.ts";
import { data, headers, Http2Client, reset, webSocketFields } from "./http2_client.ts";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { handshake } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

/** Keeps what is reported from now on. */
function exchangesOf(server: HttpsServer): ExchangeReport[] {
  const exchanges: ExchangeReport[] = [];
  server.addEventListener("http:exchange", ({ exchange }) => void exchanges.push(exchange));
  return exchanges;
}

/** One exchange in a line: what ended how. */
function line(exchange: ExchangeReport): string {
  const { method = "-", target = "-", route = "-", status = "-", ended, error } = exchange;
  const { requestBytes = "?", responseBytes = "?" } = exchange;
  return `${method} ${target} ${route} ${status} ${requestBytes}/${responseBytes} ${ended}` +
    (error === undefined ? "" : ` ${error.code}`);
}

/** Waits for the client to leave. */
function left(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(signal.reason), { once: true })
  );
}

/** Routes of every kind of end. */
function withRoutes(server: HttpsServer): void {
  const get = (uri: string, handler: RouteHandler<HttpsServer>) =>
    server.route({ uri, method: "GET", handler });
  get("/hello", (request) => request.send("hello"));
  get("/items/*", () => new Response("item"));
  get("/thrown", () => {
    throw new Error("thrown");
  });
  get("/teapot", () => {
    throw new HttpError(418, "BAD_REQUEST", "A teapot");
  });
  get("/half", async (request) => {
    await request.sendChunk("half");
    throw new Error("in the middle");
  });
  get("/never", ({ signal }) => left(signal));
  get("/begun", async (request) => {
    await request.sendChunk("begun");
    await left(request.signal);
  });
  server.route({
    uri: "/body",
    method: "POST",
    handler: async (request) => request.send(await request.recv()),
  });
  server.route({ uri: "/ws", websocket: { onMessage: (ws, message) => ws.send(message) } });
}

for (const mode of MODES) {
  const serving = async (options: Parameters<typeof started>[1] = {}) => {
    const host = await started(undefined, { uriMatch: matchWildcard, ...options }, mode);
    withRoutes(host.server);
    return { ...host, exchanges: exchangesOf(host.server) };
  };

  describe(`http:exchange over HTTP/1.1, ${mode}`, () => {
    const ends: Record<string, { send: string; expect: string | RegExp; line: string }> = {
      "a whole answer": {
        send: GET("/hello?a=1"),
        expect: "hello",
        line: "GET /hello?a=1 /hello 200 0/5 whole",
      },
      "a template, not the path": {
        send: GET("/items/17"),
        expect: "item",
        line: "GET /items/17 /items/* 200 0/4 whole",
      },
      "a body": {
        send: "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        expect: /\r\n\r\nbody$/,
        line: "POST /body /body 200 4/4 whole",
      },
      "HEAD": {
        send: "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        expect: "\r\n\r\n",
        line: "HEAD /hello /hello 200 0/0 whole",
      },
      "no route": {
        send: GET("/none"),
        expect: "404",
        line: "GET /none - 404 0/18 whole ROUTE_NOT_FOUND",
      },
      "no such method": {
        send: "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        expect: "405",
        line: "PUT /hello - 405 0/50 whole METHOD_NOT_ALLOWED",
      },
      "a handler that throws": {
        send: GET("/thrown"),
        expect: "500",
        line: "GET /thrown /thrown 500 0/22 whole HANDLER_FAILED",
      },
      "a handler that throws a status": {
        send: GET("/teapot"),
        expect: "418",
        line: "GET /teapot /teapot 418 0/8 whole BAD_REQUEST",
      },
      "a handler that throws in the middle": {
        send: GET("/half"),
        expect: "half",
        line: "GET /half /half 200 0/4 server HANDLER_FAILED",
      },
      "a head that is wrong": {
        send: "GET / HTTP/1.1\nHost: a\r\n\r\n",
        expect: "400",
        line: "- - - 400 0/? whole BAD_REQUEST",
      },
      "a head that is too large": {
        send: `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(40_000)}\r\n\r\n`,
        expect: "431",
        line: "- - - 431 0/? whole HEADERS_TOO_LARGE",
      },
      "an upgrade": {
        send: handshake("/ws").toString("latin1"),
        expect: "101",
        line: "GET /ws /ws 101 0/0 whole",
      },
    };
    for (const [name, { send, expect, line: expected }] of Object.entries(ends)) {
      test(`${name}`, async () => {
        const { port, exchanges } = await serving();
        const client = await RawClient.connect(port, mode);
        client.send(send);
        await client.expect(expect);
        await until(() => exchanges.length > 0, "the event");
        client.destroy();
        await turns();
        const shown = exchanges.map(line);
        // The texts of standard answers are not what is tested here.
        const loose = (text: string) =>
          text.replace(/ 4\d\d 0\/\S+| 5\d\d 0\/\S+/, (found) => found.replace(/\d+$|\?$/, "*"));
        assert.deepEqual(shown.map(loose), [loose(expected)]);
        assert.equal(exchanges[0]!.version, "1.1");
        assert.equal(exchanges[0]!.upgraded, name === "an upgrade");
      });
    }

    test("a client that leaves before the answer, and one that leaves within it", async () => {
      const { port, exchanges } = await serving();
      for (const path of ["/never", "/begun"]) {
        const client = await RawClient.connect(port, mode);
        client.send(GET(path));
        if (path === "/begun") await client.expect("begun");
        else await turns();
        client.destroy();
      }
      await until(() => exchanges.length === 2, "both events");
      const [never, begun] = exchanges.toSorted((a, b) => a.target! > b.target! ? -1 : 1);
      assert.match(line(never!), /^GET \/never \/never - 0\/0 client CONNECTION_/);
      assert.match(line(begun!), /^GET \/begun \/begun 200 0\/5 client CONNECTION_/);
      assert.deepEqual([never!.firstByteMs, begun!.firstByteMs! >= 0], [undefined, true]);
    });

    test("the server stops: it is the one that cut the request", async () => {
      const { server, port, exchanges } = await serving();
      const client = await RawClient.connect(port, mode);
      client.send(GET("/never"));
      await until(() => server.stats().requests.active === 1, "the request is there");
      await server.stop({ drainMs: 0 });
      assert.deepEqual(exchanges.map(line), [
        "GET /never /never - 0/0 server CONNECTION_ABORTED",
      ]);
      client.destroy();
    });

    test("a head that is cut in the middle is no exchange", async () => {
      const { server, port, exchanges } = await serving();
      const client = await RawClient.connect(port, mode);
      client.send("GET /hello HTTP/1.1\r\nHo");
      await turns();
      client.destroy();
      await until(() => server.sessions.size === 0, "the session is over");
      assert.deepEqual(exchanges, []);
      assert.equal(server.stats().requests.total, 0);
    });

    test("pipelined requests, and one behind them that is cut", async () => {
      const { port, exchanges } = await serving();
      const client = await RawClient.connect(port, mode);
      client.send(GET("/hello?1") + GET("/none") + GET("/hello?3") + GET("/never"));
      await until(() => exchanges.length === 3, "three events");
      client.destroy();
      await until(() => exchanges.length === 4, "the fourth");
      assert.deepEqual(exchanges.map(({ target, ended }) => `${target} ${ended}`), [
        ...["/hello?1 whole", "/none whole", "/hello?3 whole", "/never client"],
      ]);
    });

    test("comes behind the other events of its request, and before the session's end", async () => {
      const { server, port } = await serving();
      const log: string[] = [];
      for (
        const type of ["http:header", "http:sent", "http:exchange", "http:disconnected"] as const
      ) {
        server.addEventListener(type, () => void log.push(type));
      }
      const client = await RawClient.connect(port, mode);
      client.send(GET("/hello") + GET("/never"));
      await client.expect("hello");
      await turns();
      client.destroy();
      await until(() => log.includes("http:disconnected"), "the session is over");
      assert.deepEqual(log, [
        ...["http:header", "http:sent", "http:exchange"],
        ...["http:header", "http:exchange", "http:disconnected"],
      ]);
    });
  });

  describe(`http:exchange over HTTP/2, ${mode}`, () => {
    test("whole answers, errors, resets and refused requests", async () => {
      const { port, exchanges } = await serving();
      using client = await Http2Client.connect(port, mode);
      await client.ready();
      await client.answer(client.request({ path: "/hello" }));
      await client.answer(client.request({ path: "/body" }, "body"));
      await client.answer(client.request({ path: "/none" }));
      await client.answer(client.request({ path: "/half" }));
      const id = client.request({ path: "/never" });
      await client.settled();
      client.send(reset(id));
      await client.settled();
      await client.answer(client.request({ path: "/" + "x".repeat(9_000) }));
      await until(() => exchanges.length === 6, "six events");
      const loose = (text: string) =>
        text.replace(/ 4\d\d 0\/\d+/, (found) => found.replace(/\d+$/, "*"));
      assert.deepEqual(exchanges.map(line).map(loose), [
        "GET /hello /hello 200 0/5 whole",
        "POST /body /body 200 4/4 whole",
        "GET /none - 404 0/* whole ROUTE_NOT_FOUND",
        "GET /half /half 200 0/4 server HANDLER_FAILED",
        "GET /never /never - 0/0 client CONNECTION_RESET",
        "- - - 414 0/* whole URI_TOO_LONG",
      ]);
      assert.deepEqual(new Set(exchanges.map(({ version }) => version)), new Set(["2"]));
    });

    test("HEAD has ended when its head was sent, whatever the handler still does", async () => {
      const { port, exchanges } = await serving();
      using client = await Http2Client.connect(port, mode);
      await client.ready();
      await client.answer(client.request({ method: "HEAD", path: "/begun" }));
      await until(() => exchanges.length === 1, "the event");
      client.destroy();
      await turns();
      assert.deepEqual(exchanges.map(line), ["HEAD /begun /begun 200 0/0 whole"]);
    });

    test("a WebSocket is one, with the status that was sent", async () => {
      const { server, port, exchanges } = await serving();
      const log: string[] = [];
      for (const type of ["websocket:open", "websocket:close"] as const) {
        server.addEventListener(
          type,
          ({ ws, session }) => void log.push(`${type} ${ws.session === session}`),
        );
      }
      using client = await Http2Client.connect(port, mode);
      await client.ready();
      const id = client.nextStreamId();
      client.send(headers(id, webSocketFields(), { endStream: false }));
      await client.until(() => client.soFar(id).status > 0, "the answer");
      assert.deepEqual(exchanges.map(line), ["GET /ws /ws 200 0/0 whole"]);
      assert.equal(exchanges[0]!.upgraded, true);
      client.send(data(id, Uint8Array.of(0x88, 0x80, 0, 0, 0, 0), { endStream: true }));
      await until(() => log.length === 2, "both events");
      assert.deepEqual(log, ["websocket:open true", "websocket:close true"]);
      assert.equal(exchanges.length, 1);
    });

    test("a connection that is reset ends each of its requests", async () => {
      const { server, port, exchanges } = await serving();
      const client = await Http2Client.connect(port, mode);
      await client.ready();
      for (let i = 0; i < 5; i++) client.request({ path: `/never?${i}` });
      await until(() => server.stats().requests.active === 5, "they are there");
      client.destroy();
      await until(() => exchanges.length === 5, "five events");
      assert.deepEqual(new Set(exchanges.map(({ ended }) => ended)), new Set(["client"]));
      const { active, cutByClient, byClass } = server.stats().requests;
      assert.deepEqual([active, cutByClient, byClass.none], [0, 5, 5]);
    });
  });
}

describe("the report", () => {
  test("has times of the server's clock, and the deadline's 503", async () => {
    const clock = new TestClock();
    const { server, port } = await started(
      () => new Promise(() => {}),
      { timeouts: { handlerMs: 1_500 } },
      "plain",
      clock,
    );
    const exchanges = exchangesOf(server);
    const client = await RawClient.connect(port);
    const before = Date.now();
    client.send(GET("/"));
    await until(() => server.stats().requests.active === 1, "the request is there");
    await clock.advance(2_000);
    await client.expect("503");
    const [exchange] = exchanges;
    assert.equal(line(exchange!).replace(/0\/\d+/, "0/*"), "GET / - 503 0/* whole HANDLER_TIMEOUT");
    assert.ok(exchange!.durationMs >= 1_500 && exchange!.firstByteMs! >= 1_500);
    assert.ok(exchange!.receivedAt >= before && exchange!.receivedAt <= Date.now());
    client.destroy();
  });

  test("has fields, the session, and a trace context that was checked", async () => {
    const { server, port } = await started(() => new Response("x"));
    const exchanges = exchangesOf(server);
    const client = await RawClient.connect(port);
    const trace = "0af7651916cd43dd8448eb211c80319c";
    const parent = "b7ad6b7169203331";
    const wrong = [
      `00-${trace}-${parent}-01-more`,
      `ff-${trace}-${parent}-01`,
      `00-${"0".repeat(32)}-${parent}-01`,
      `00-${trace}-${"0".repeat(16)}-01`,
      `00-${trace.toUpperCase()}-${parent}-01`,
      `00-${trace}-${parent}-1`,
      "",
      `00-${trace}-${parent}-01\r\ntraceparent: 00-${trace}-${parent}-01`,
    ];
    const right = [
      `00-${trace}-${parent}-01\r\ntracestate: a=1,b@c=2\r\ntracestate: d=3`,
      `01-${trace}-${parent}-00-more\r\ntracestate: not valid`,
    ];
    for (const value of [...wrong, ...right]) {
      client.send(`GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\ntraceparent: ${value}\r\n\r\n`);
    }
    await until(() => exchanges.length === 10, "all events");
    assert.deepEqual(
      exchanges.slice(0, 8).map((exchange) => exchange.trace),
      Array(8).fill(undefined),
    );
    assert.deepEqual(exchanges.slice(8).map((exchange) => exchange.trace), [
      { traceId: trace, parentId: parent, flags: 1, sampled: true, state: "a=1,b@c=2,d=3" },
      { traceId: trace, parentId: parent, flags: 0, sampled: false, state: "" },
    ]);
    assert.equal(exchanges[0]!.get("User-Agent"), "me");
    assert.equal(exchanges[0]!.host, "a");
    assert.equal(exchanges[0]!.session, [...server.sessions][0]);
    client.destroy();
  });

  test("counts what was written of a long answer that nobody read to its end", async () => {
    const { server, port } = await started(() => new Response(new Uint8Array(30_000_000)));
    const exchanges = exchangesOf(server);
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send(GET("/"));
    await until(() => server.stats().bytes.sent > 0, "some was sent");
    await turns();
    client.destroy();
    await until(() => exchanges.length === 1, "the event");
    const { responseBytes, ended } = exchanges[0]!;
    assert.equal(ended, "client");
    assert.ok(responseBytes! > 0 && responseBytes! < 30_000_000, String(responseBytes));
  });

  test("of requests without a socket: server.fetch(), and an edge app by observe()", async () => {
    const server = new Server({ transportMode: "insecure" }, () => new Response("passed on"));
    server.route({ uri: "/route", method: "GET", handler: (request) => request.send("routed") });
    const exchanges = exchangesOf(server);
    const app = createEdgeApp({ reportError: () => {} }, () => new Response("passed on"));
    app.route({ uri: "/route", method: "GET", handler: (request) => request.send("routed") });
    const observed: ExchangeReport[] = [];
    const stop = app.observe({
      begin: () => ({ ended: (exchange) => void observed.push(exchange) }),
    });
    for (const [face, seen] of [[server, exchanges], [app, observed]] as const) {
      await (await face.fetch(new Request("http://a/route"))).text();
      await (await face.fetch(new Request("http://a/other?q"))).text();
      const tooLong = { method: "POST", body: "x", headers: { "content-length": "99999999999" } };
      await (await face.fetch(new Request("http://a/long", tooLong))).text();
      assert.deepEqual(seen.map(line).map((text) => text.replace(/413 .* whole/, "413 whole")), [
        "GET /route /route 200 0/6 whole",
        "GET /other?q - 200 0/? whole",
        "POST /long - 413 whole BODY_TOO_LARGE",
      ]);
    }
    stop();
    await app.fetch(new Request("http://a/route"));
    assert.equal(observed.length, 3);
  });

  test("a listener that throws, and an observer that does, affect nothing", async () => {
    const { server, port, errors } = await started(() => new Response("fine"));
    server.addEventListener("http:exchange", () => {
      throw new Error("a listener");
    });
    server.observe({
      begin: () => ({
        run: () => {
          throw new Error("run");
        },
        ended: () => {
          throw new Error("ended");
        },
      }),
    });
    server.observe({
      begin: () => {
        throw new Error("begin");
      },
    });
    const runs: string[] = [];
    class Follower {
      run(handle: () => void): void {
        handle();
        handle(); // the second call does nothing
        this.ran();
      }
      ran(): void {
        runs.push("ran");
      }
    }
    server.observe({ begin: () => new Follower() });
    const client = await RawClient.connect(port);
    client.send(GET("/") + GET("/"));
    await client.expect(/fine[^]*fine/);
    assert.equal(server.stats().requests.total, 2);
    assert.equal(runs.length, 2);
    assert.deepEqual(errors.map(({ code }) => code).sort(), [
      ...Array(6).fill("HOOK_FAILED"),
      ...Array(2).fill("LISTENER_FAILED"),
    ]);
    assert.throws(() => server.observe({} as never), { code: "INVALID_CONFIG" });
    client.destroy();
  });

  test("is made only where something listens", async () => {
    const { server, port } = await started(() => new Response("x"));
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("200");
    const { total, active, byClass } = server.stats().requests;
    assert.deepEqual([total, active, byClass["2xx"]], [1, 0, 1]);
    const exchanges = exchangesOf(server);
    client.send(GET("/second"));
    await until(() => exchanges.length === 1, "the event");
    assert.equal(exchanges[0]!.target, "/second");
    client.destroy();
  });
});
