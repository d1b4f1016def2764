/** The httpd's events: their ids and data, when each comes, and that they cost nothing unheard. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { once } from "node:events";
import type { HttpsServerOptions } from "../lib/config.ts";
import { driverOf } from "../lib/http/session.ts";
import type { Http1Connection } from "../lib/http1/connection.ts";
import {
  type DataEvent,
  type DisconnectedEvent,
  EVENT_IDS,
  type ServerErrorEvent,
  type ServerEvent,
  type ServerEventType,
  type SessionEvent,
} from "../lib/events.ts";
import { HttpError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import type { HttpsServer } from "../lib/server.ts";
import { answering, GET, MODES, RawClient, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, turns, until } from "./support.ts";

assertRuntime();

stopServersAfterAll();

const HTTP_EVENTS = [
  "http:error",
  "http:start",
  "http:connected",
  "http:header",
  "http:headerssent",
  "http:data",
  "http:sent",
  "http:disconnected",
  "http:stop",
] as const;

const HTTPS_EVENTS = ["error", "start", "connected", "data", "sent", "disconnected", "stop"];

type Handler = (request: HttpdRequest) => Response | void | Promise<Response | void>;

/** Writes down what comes, from now on; bytes behind those events that count some. */
function record(server: HttpsServer, types: readonly string[]): string[] {
  const log: string[] = [];
  for (const type of types as ServerEventType[]) {
    server.addEventListener(type, (event: ServerEvent) => {
      const { bytes } = event as DataEvent;
      const { error } = event as ServerErrorEvent;
      const counted = type === "http:data" || type === "http:sent" ? ` ${bytes}` : "";
      log.push(type + (error instanceof HttpError ? ` ${error.status}` : counted));
    });
  }
  return log;
}

test("the ids are the original's, of esp_http_server_event_id_t", () => {
  assert.deepEqual(HTTP_EVENTS.map((type) => EVENT_IDS[type]), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

describe("for one GET", () => {
  for (const mode of MODES) {
    test(`both families come in the original's order, ${mode}`, async () => {
      const { server } = await answering((request) => request.send("Hello"), {}, mode);
      await server.stop();
      const log = record(server, [...HTTP_EVENTS, ...HTTPS_EVENTS]);
      await server.start();
      const client = await RawClient.connect(server.address.port, mode);
      client.send(GET("/"));
      await client.expect("Hello");
      client.end();
      await until(() => log.includes("disconnected"), "the session is over");
      await server.stop();
      assert.deepEqual(log, [
        ...["http:start", "start"],
        ...["connected", "http:connected", "data", "http:header"],
        ...["sent", "http:headerssent", "sent", "http:sent 5"],
        ...["http:disconnected", "disconnected"],
        ...["http:stop", "stop"],
      ]);
      client.destroy();
    });

    test(`events have server, session and id, ${mode}`, async () => {
      const { server, port } = await answering((request) => request.send("Hello"), {}, mode);
      const events: SessionEvent[] = [];
      for (const type of HTTP_EVENTS) {
        server.addEventListener(type, (event) => events.push(event as SessionEvent));
      }
      const client = await RawClient.connect(port, mode);
      client.send(GET("/"));
      await client.expect("Hello");
      const [session] = server.sessions;
      client.end();
      await until(() => server.sessions.size === 0, "the session is over");
      assert.deepEqual(events.map(({ id }) => id), [2, 3, 4, 6, 7]);
      for (const event of events) {
        assert.deepEqual([event.server === server, event.session === session], [true, true]);
        assert.equal(event.id, EVENT_IDS[event.type]);
      }
      assert.equal((events[4] as DisconnectedEvent).error, undefined);
      client.destroy();
    });
  }
});

describe("of bodies", () => {
  for (const mode of MODES) {
    test(`http:data counts what the handler reads, and what is thrown away, ${mode}`, async () => {
      const { server, port } = await answering(
        async (request) => {
          await request.recv(2);
          await request.recv(1);
          request.send();
        },
        {},
        mode,
      );
      const log = record(server, ["http:header", "http:data", "http:sent"]);
      const client = await RawClient.connect(port, mode);
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabcdefg");
      await client.expect("200");
      client.send("hij" + GET("/none"));
      await client.expect("404");
      const thrown = log.filter((entry) => entry.startsWith("http:data")).slice(2)
        .map((entry) => Number(entry.split(" ")[1]));
      assert.deepEqual(log.slice(0, 3), ["http:header", "http:data 2", "http:data 1"]);
      assert.equal(thrown.reduce((sum, bytes) => sum + bytes, 0), 7);
      client.destroy();
    });

    test(`http:sent counts each chunk, and 0 for the end, ${mode}`, async () => {
      const { server, port } = await answering(
        async (request) => {
          await request.sendChunk("abc");
          await request.sendChunk("de");
          request.end();
        },
        {},
        mode,
      );
      const log = record(server, HTTP_EVENTS);
      const client = await RawClient.connect(port, mode);
      client.send(GET("/"));
      await client.expect("0\r\n\r\n");
      assert.deepEqual(log, [
        ...["http:connected", "http:header", "http:headerssent"],
        ...["http:sent 3", "http:sent 2", "http:sent 0"],
      ]);
      client.destroy();
    });
  }
});

describe("http:error", () => {
  /** What is reported for one request, behind http:header. */
  async function logOf(bytes: string, handler: Handler, options: HttpsServerOptions = {}) {
    const { server, port } = await answering(handler, options);
    const log = record(server, HTTP_EVENTS);
    const client = await RawClient.connect(port);
    client.send(bytes);
    await until(() => log.some((entry) => entry.startsWith("http:error")), "the error is reported");
    client.destroy();
    await until(() => server.sessions.size === 0, "the session is over");
    return log.filter((entry) => /error|headerssent/.test(entry));
  }

  const send = (request: HttpdRequest) => request.send();
  const cases: [what: string, status: number, bytes: string, Handler?, HttpsServerOptions?][] = [
    ["an unknown path", 404, GET("/none")],
    ["an unknown method", 405, "PUT / HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["a head that cannot be read", 400, "GET\r\n\r\n"],
    ["a head that does not come", 408, "GET", send, { timeouts: { headersMs: 50 } }],
    ["a handler that throws", 500, GET("/"), () => {
      throw new Error("mine");
    }],
    ["a handler's own error", 418, GET("/"), (request) => request.sendError(418)],
    ["a handler that never answers", 503, GET("/"), () => new Promise(() => {}), {
      timeouts: { handlerMs: 50 },
    }],
    ["a detached request that is given up", 500, GET("/"), (request) => {
      request.detach();
      setTimeout(() => request.complete(), 1);
    }],
  ];
  for (const [what, status, bytes, handler = send, options] of cases) {
    test(`comes for ${what}, once, after the answer`, async () => {
      const log = await logOf(bytes, handler, options);
      assert.deepEqual(log, ["http:headerssent", `http:error ${status}`]);
    });
  }

  test("comes too when an error handler answered, with what it answered for", async () => {
    const { server, port } = await answering(send);
    server.onError(404, (_, request) => request!.status(303).send("Go"));
    server.onError(400, () => new Response("own", { status: 499 }));
    const log = record(server, ["http:error"]);
    const client = await RawClient.connect(port);
    client.send(GET("/none") + "BAD\r\n\r\n");
    await client.expect("499");
    await until(() => log.length === 2, "both are reported");
    assert.deepEqual(log, ["http:error 404", "http:error 400"]);
    client.destroy();
  });

  /** A server whose error answer takes its time to be read: an error handler's, or `sendError()`'s. */
  const answeringAtLength = async (byHandler: boolean) => {
    const long = "x".repeat(20_000_000);
    const served = await answering((request) => {
      if (byHandler) throw new HttpError(503, "HANDLER_FAILED", "mine");
      request.sendError(503, long);
    });
    served.server.onError(503, () => new Response(long, { status: 503 }));
    return served;
  };
  for (const [how, byHandler] of [["sendError()", false], ["an error handler", true]] as const) {
    test(`comes behind http:exchange when a client reads the answer of ${how} late`, async () => {
      const { server, port } = await answeringAtLength(byHandler);
      const log = record(server, ["http:headerssent", "http:exchange", "http:error"]);
      const client = await connectTcp(port);
      client.write(GET("/"));
      await until(() => log.includes("http:headerssent"), "the answer begins");
      await turns();
      assert.deepEqual(log, ["http:headerssent"]);
      client.resume();
      await until(() => log.length === 3, "both are reported");
      assert.deepEqual(log, ["http:headerssent", "http:exchange", "http:error 503"]);
      client.destroy();
    });

    test(`comes too when a client leaves within the answer of ${how}`, async () => {
      const { server, port } = await answeringAtLength(byHandler);
      const log = record(server, ["http:exchange", "http:error", "http:disconnected"]);
      const client = await connectTcp(port);
      client.write(GET("/"));
      await once(client, "readable");
      await turns();
      client.destroy();
      await until(() => log.includes("http:disconnected"), "the session is over");
      assert.deepEqual(log, ["http:exchange", "http:error 503", "http:disconnected"]);
    });
  }

  test("has the session and the address", async () => {
    const { server, port } = await answering(send);
    const { promise, resolve } = Promise.withResolvers<ServerErrorEvent>();
    server.addEventListener("http:error", resolve);
    const client = await RawClient.connect(port);
    client.send(GET("/none"));
    const event = await promise;
    assert.deepEqual(
      [event.session, event.remoteAddress, event.error.code],
      [[...server.sessions][0], "127.0.0.1", "ROUTE_NOT_FOUND"],
    );
    client.destroy();
  });
});

describe("switched on and off", () => {
  test("no event is made without a listener: adding none is the switch", async () => {
    const { server, port } = await answering((request) => request.send("x"));
    let made = 0;
    const { dispatchEvent } = server;
    server.dispatchEvent = (event) => (made++, dispatchEvent.call(server, event));
    const client = await RawClient.connect(port);
    client.send(GET("/") + GET("/none"));
    await client.expect("404");
    const [session] = server.sessions;
    const { wrote } = driverOf(session!) as Http1Connection;
    assert.deepEqual([made, wrote], [0, undefined]);
    const log = record(server, ["http:header"]);
    client.send(GET("/"));
    await until(() => log.length === 1, "who comes late hears the next");
    client.destroy();
  });

  test("a listener that throws harms no request, and becomes an error event", async () => {
    const { server, port, errors } = await answering((request) => request.send("x"));
    for (const type of HTTP_EVENTS) {
      if (type === "http:stop") continue; // behind it only the console hears of errors
      server.addEventListener(type, () => {
        throw new Error(type);
      });
    }
    const client = await RawClient.connect(port);
    client.send(GET("/") + GET("/none"));
    await client.expect("404");
    client.destroy();
    await until(() => server.sessions.size === 0, "the session is over");
    assert.ok(errors.length >= 8);
    for (const { code } of errors) assert.equal(code, "LISTENER_FAILED");
  });

  test("a listener that cuts the session does no harm", async () => {
    for (const type of ["http:connected", "http:header", "http:headerssent"] as const) {
      const { server, port } = await answering((request) => request.send("x"));
      const log = record(server, ["http:connected", "http:disconnected"]);
      server.addEventListener(type, ({ session }) => session.destroy());
      const client = await RawClient.connect(port);
      client.send(GET("/"));
      await client.rest().catch(() => "");
      await until(() => log.length === 2, "the session is over");
      assert.deepEqual(log, ["http:connected", "http:disconnected"]);
      client.destroy();
    }
  });
});
