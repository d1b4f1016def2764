/** Observers and listeners that end what they watch, or are not what they should be. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createEdgeApp } from "../lib/edge/mod.ts";
import type { ExchangeObservation, ExchangeReport } from "../lib/http/exchange_report.ts";
import { upgradeWebSocket } from "../lib/websocket/mod.ts";
import type { HttpsServer } from "../lib/server.ts";
import { data, headers, Http2Client, reset, webSocketFields } from "./http2_client.ts";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";
import { handshake } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

function line({ path, status, ended, error }: ExchangeReport): string {
  return [path ?? "-", status ?? "-", ended, error?.code].filter((part) => part !== undefined).join(
    " ",
  );
}

/** What an observer and the listeners are told. */
function told(server: HttpsServer): string[] {
  const log: string[] = [];
  server.observe({
    begin: () => ({ ended: (exchange) => void log.push(`observed ${line(exchange)}`) }),
  });
  server.addEventListener("http:exchange", ({ exchange }) => void log.push(line(exchange)));
  server.addEventListener("disconnected", () => void log.push("disconnected"));
  return log;
}

/** Sends a request that is answered or cut, and gives what came of it. */
async function asked(port: number, version: string, path: string, mode: "plain" | "tls") {
  if (version === "1.1") {
    const client = await RawClient.connect(port, mode);
    client.send(path === "" ? "BAD\r\n\r\n" : GET(path));
    const text = await client.rest().catch(() => "");
    client.destroy();
    return Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0);
  }
  using client = await Http2Client.connect(port, mode);
  await client.ready();
  const id = client.request({ path: path === "" ? `/${"x".repeat(9_000)}` : path });
  await client.until(() => client.ended || client.closed, "the end of the connection");
  return client.soFar(id).status;
}

/** Asks for a WebSocket, and waits for the end of the connection. */
async function upgradeAt(port: number, version: string, path: string, mode: "plain" | "tls") {
  if (version === "1.1") {
    const client = await RawClient.connect(port, mode);
    client.send(handshake(path));
    await client.rest().catch(() => "");
    return client.destroy();
  }
  using client = await Http2Client.connect(port, mode);
  await client.ready();
  client.send(headers(client.nextStreamId(), webSocketFields(path), { endStream: false }));
  await client.until(() => client.ended || client.closed, "the end of the connection");
}

for (const mode of MODES) {
  for (const version of ["1.1", "2"]) {
    describe(`an observer, as a request begins over HTTP/${version}, ${mode},`, () => {
      for (const path of ["/", "/never", ""]) {
        test(`destroys the session: ${path || "of an unread head"}`, async () => {
          const { server, port } = await started(
            (request) =>
              new URL(request.url).pathname === "/" ? new Response("x") : new Promise(() => {}),
            {},
            mode,
          );
          server.observe({
            begin: ({ session }) => {
              session.destroy();
              return undefined;
            },
          });
          const log = told(server);
          assert.equal(await asked(port, version, path, mode), 0);
          await until(() => server.sessions.size === 0, "the session is over");
          const ended = `${path || "-"} - server CONNECTION_ABORTED`;
          assert.deepEqual(log, [ended, "disconnected", `observed ${ended}`]);
          const { total, active, cutByServer } = server.stats().requests;
          assert.deepEqual([total, active, cutByServer], [1, 0, 1]);
        });
      }

      test("closes the session, and the request is answered", async () => {
        const { server, port } = await started(() => new Response("x"), {}, mode);
        server.observe({
          begin: ({ session }) => {
            session.close();
            return undefined;
          },
        });
        assert.equal(await asked(port, version, "/", mode), 200);
      });
    });
  }

  describe(`a listener that destroys the session of an upgrade, ${mode},`, () => {
    const told = { "http:exchange": [], "websocket:open": ["websocket:open", "websocket:close"] };
    for (const version of ["1.1", "2"]) {
      for (const kind of ["route", "handler"]) {
        for (const [type, events] of Object.entries(told)) {
          test(`at ${type} opens no WebSocket of a ${kind}, HTTP/${version}`, async () => {
            const log: string[] = [];
            const { server, port, errors } = await started(
              (request) => {
                const { socket, response } = upgradeWebSocket(request);
                socket.onopen = () => void log.push("open");
                socket.onclose = () => void log.push(`closed ${socket.readyState}`);
                return response;
              },
              {},
              mode,
            );
            const [onOpen, onClose] = ["open", "close"].map((name) => () => void log.push(name));
            server.route({ uri: "/route", websocket: { onOpen: onOpen!, onClose: onClose! } });
            for (const event of ["websocket:open", "websocket:close"] as const) {
              server.addEventListener(event, () => void log.push(event));
            }
            server.addEventListener("http:exchange", ({ exchange: { upgraded, ended } }) => {
              log.push(`${upgraded} ${ended}`);
            });
            server.addEventListener(
              type as "http:exchange",
              ({ session }) => session.destroy(),
            );
            await upgradeAt(port, version, `/${kind}`, mode);
            await turns();
            const closed = kind === "handler" ? ["closed 3"] : [];
            assert.deepEqual(log, ["true whole", ...events, ...closed]);
            assert.equal(server.stats().websockets.open, 0);
            assert.deepEqual(errors, []);
          });
        }
      }
    }
  });
}

test("nobody is told that an error was answered when the client has reset the stream", async () => {
  const { server, port, errors } = await started(async (request) => {
    await request.text();
    return new Response("x");
  });
  const log = told(server);
  server.addEventListener("http:error", ({ error }) => void log.push(error.code));
  using client = await Http2Client.connect(port);
  await client.ready();
  const id = client.nextStreamId();
  client.send(headers(id, [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "a"],
  ], { endStream: false }));
  client.send(data(id, Uint8Array.of(1), { endStream: false }));
  await until(() => server.stats().requests.active === 1, "it is there");
  client.send(reset(id));
  await until(() => errors.length === 1, "the handler has failed");
  await turns();
  const ended = "/ - client CONNECTION_RESET";
  assert.deepEqual(log, [`observed ${ended}`, ended]);
});

describe("an observer that is written wrongly affects nothing:", () => {
  const failing = () => Promise.reject(new Error("async"));
  const WRONG: readonly (readonly [what: string, begin: () => unknown, failures: number])[] = [
    ["begin() that gives null", () => null, 0],
    ["begin() that rejects", failing, 1],
    ["ended() that rejects", () => ({ ended: failing }), 1],
    ["run() that rejects", () => ({ run: failing }), 1],
  ];
  for (const [what, begin, failures] of WRONG) {
    test(what, async () => {
      const { server, errors } = await started(() => new Response("x"));
      server.observe({ begin: begin as () => ExchangeObservation | undefined });
      assert.equal(await (await server.fetch(new Request("http://a/"))).text(), "x");
      await until(() => errors.length === failures, "it is reported");
      assert.ok(errors.every(({ code }) => code === "HOOK_FAILED"));
    });
  }

  test("one of an edge app that ends the session as its request begins", async () => {
    const app = createEdgeApp({}, () => new Response("x"));
    const ended: string[] = [];
    app.observe({
      begin: ({ session }) => {
        session.destroy();
        return { ended: (exchange) => void ended.push(line(exchange)) };
      },
    });
    await assert.rejects(app.fetch(new Request("http://a/")), { code: "CONNECTION_ABORTED" });
    assert.deepEqual(ended, ["/ - server CONNECTION_ABORTED"]);
  });
});

describe("an observer of ends alone", () => {
  test("is told of each one while it observes, and of none that it only saw begin", async () => {
    const waits = Promise.withResolvers<Response>();
    const { server } = await started((request) =>
      request.url.endsWith("/late") ? waits.promise : new Response("x")
    );
    const ended: string[] = [];
    const stop = server.observe({ ended: (exchange) => void ended.push(line(exchange)) });
    await server.fetch(new Request("http://a/1"));
    const late = server.fetch(new Request("http://a/late"));
    await server.fetch(new Request("http://a/2"));
    stop();
    waits.resolve(new Response("late"));
    await late;
    await server.fetch(new Request("http://a/3"));
    assert.deepEqual(ended, ["/1 200 whole", "/2 200 whole"]);
  });

  test("harms no request, and is reported, when it throws or rejects", async () => {
    const { server, errors } = await started(() => new Response("x"));
    server.observe({
      ended() {
        throw new Error("thrown");
      },
    });
    server.observe({ ended: () => Promise.reject(new Error("async")) as never });
    assert.equal(await (await server.fetch(new Request("http://a/"))).text(), "x");
    await until(() => errors.length === 2, "both are reported");
    assert.ok(errors.every(({ code }) => code === "HOOK_FAILED"));
  });

  test("is refused when ended is no function", async () => {
    const { server } = await started(() => new Response("x"));
    for (const wrong of [{ ended: 5 }, { begin: () => undefined, ended: 5 }, { begin: 5 }]) {
      assert.throws(() => server.observe(wrong as never), { code: "INVALID_CONFIG" });
    }
  });
});
