/** Starting and stopping at every moment, and the httpd API's routes. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Server } from "node:net";
import { HttpError, type HttpsdError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { HttpsServer, serve } from "../lib/server.ts";
import {
  GET,
  MODES,
  RawClient,
  readResponses,
  sleep,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const PLAIN = {
  hostname: "127.0.0.1",
  port: 0,
  transportMode: "insecure",
  timeouts: { lingerMs: 300 },
} as const;

function plain(handler = () => new Response("x"), options = {}): HttpsServer {
  return new HttpsServer({ ...PLAIN, ...options }, handler);
}

async function assertRefused(port: number): Promise<void> {
  await assert.rejects(RawClient.connect(port), { code: "ECONNREFUSED" });
}

describe("start()", () => {
  test("listens at the address that it gives, and is running then", async () => {
    const server = plain();
    assert.equal(server.state, "idle");
    assert.throws(() => server.address, { code: "NOT_STARTED" });
    const starting = server.start();
    assert.equal(server.state, "starting");
    assert.throws(() => server.address, { code: "NOT_STARTED" });
    await starting;
    assert.equal(server.state, "running");
    assert.equal(server.address.hostname, "127.0.0.1");
    const client = await RawClient.connect(server.address.port);
    client.send(GET("/"));
    await client.expect("200 OK");
    client.destroy();
    await server.stop();
    assert.equal(server.state, "idle");
    assert.throws(() => server.address, { code: "NOT_STARTED" });
  });

  test("throws ALREADY_STARTED on a server that starts, runs or stops", async () => {
    const server = plain();
    const starting = server.start();
    await assert.rejects(server.start(), { code: "ALREADY_STARTED" });
    await starting;
    await assert.rejects(server.start(), { code: "ALREADY_STARTED" });
    const client = await RawClient.connect(server.address.port);
    await until(() => server.sessions.size > 0, "the session begins");
    const stopping = server.stop();
    await assert.rejects(server.start(), { code: "ALREADY_STARTED" });
    client.destroy();
    await stopping;
  });

  test("that fails leaves a server that can be started", async () => {
    const { port } = await started(undefined);
    const server = plain(undefined, { port });
    await assert.rejects(server.start(), { code: "ADDRESS_IN_USE", name: "ListenError" });
    assert.equal(server.state, "idle");
    await assert.rejects(server.start(), { code: "ADDRESS_IN_USE" });
    await assert.rejects(
      new HttpsServer({ hostname: "127.0.0.1", port: 0 }).start(),
      { code: "INVALID_CERTIFICATE" },
    );
  });

  test("serve() starts, and a server can be started again after it was stopped", async () => {
    const server = await serve(PLAIN, () => new Response("x"));
    for (let i = 0; i < 3; i++) {
      const client = await RawClient.connect(server.address.port);
      client.send(GET("/"));
      await client.expect("200 OK");
      const { port } = server.address;
      await server.stop({ drainMs: 0 });
      await assertRefused(port);
      if (i < 2) await server.start();
    }
  });
});

describe("stop()", () => {
  test("on an idle server does nothing, and twice is once", async () => {
    const server = plain();
    let stops = 0;
    server.addEventListener("stop", () => stops++);
    await server.stop();
    await server.start();
    const first = server.stop();
    assert.equal(server.stop(), first);
    await first;
    await server.stop();
    assert.equal(stops, 1);
  });

  test("while the server starts makes start() reject with NOT_STARTED, and nothing listens", async () => {
    const events: string[] = [];
    const server = plain();
    for (const type of ["start", "stop"] as const) {
      server.addEventListener(type, () => void events.push(type));
    }
    const starting = server.start();
    const rejected = assert.rejects(starting, { code: "NOT_STARTED" });
    await server.stop();
    await rejected;
    assert.equal(server.state, "idle");
    assert.deepEqual(events, []);
    await server.start();
    await server.stop();
    assert.deepEqual(events, ["start", "stop"]);
  });

  test("in the moment between listening and running ends the start too", async () => {
    const server = plain();
    const { emit } = Server.prototype;
    let stopped: Promise<void> | undefined;
    const stopOnceListening = (tries: number): void => {
      if (stopped !== undefined || tries === 0) return;
      try {
        if (server.address.port > 0) stopped = server.stop();
      } catch {
        queueMicrotask(() => stopOnceListening(tries - 1)); // it does not know its address yet
      }
    };
    Server.prototype.emit = function (this: Server, ...given: Parameters<typeof emit>) {
      const heard = emit.apply(this, given);
      if ((given[0] as unknown) === "listening") stopOnceListening(100);
      return heard;
    };
    try {
      await assert.rejects(server.start(), { code: "NOT_STARTED" });
    } finally {
      Server.prototype.emit = emit;
    }
    await stopped;
    assert.equal(server.state, "idle");
    await server.start();
    await server.stop();
    assert.equal(server.state, "idle");
  });

  test("in a start listener stops", async () => {
    const server = plain();
    let stopped: Promise<void> | undefined;
    server.addEventListener("start", () => void (stopped = server.stop()));
    await server.start();
    await stopped;
    assert.equal(server.state, "idle");
  });

  for (const mode of MODES) {
    test(`lets requests under way end, closes idle connections, ${mode}`, async () => {
      const { promise: gate, resolve: open } = Promise.withResolvers<void>();
      const { server, port } = await started(
        async () => {
          await gate;
          return new Response("whole");
        },
        {},
        mode,
      );
      const idle = await RawClient.connect(port, mode);
      const halfHead = await RawClient.connect(port, mode);
      halfHead.send("GET / HT");
      const busy = await RawClient.connect(port, mode);
      busy.send(GET("/1") + GET("/2"));
      await until(() => server.sessions.size === 3, "three sessions");
      await until(() => [...server.sessions].some((session) => session.busy), "one is busy");
      const stopping = server.stop();
      await Promise.all([idle.rest(), halfHead.rest()]);
      await assertRefused(port);
      assert.equal(server.state, "stopping");
      open();
      const responses = readResponses(await busy.rest());
      assert.deepEqual(responses.map(({ body }) => body), ["whole"]);
      assert.equal(responses[0]?.fields["connection"], "close");
      for (const client of [idle, halfHead, busy]) client.end();
      await stopping;
      assert.equal(server.sessions.size, 0);
    });

    test(`cuts what is not over in drainMs, ${mode}`, async () => {
      const reasons: unknown[] = [];
      const { server, port, errors } = await started(
        (request) => {
          request.signal.addEventListener(
            "abort",
            () => reasons.push(request.signal.reason.cause.code),
          );
          if (request.url.endsWith("/never")) return new Promise(() => {});
          return new Response(
            new ReadableStream({
              async pull(controller) {
                await sleep(5);
                controller.enqueue(new Uint8Array(10));
              },
            }),
          );
        },
        { timeouts: { drainMs: 600_000 } },
        mode,
      );
      const clients = await Promise.all(
        ["/never", "/stream", "/never"].map(async (path) => {
          const client = await RawClient.connect(port, mode);
          client.send(GET(path));
          return client;
        }),
      );
      await until(() => [...server.sessions].filter(({ busy }) => busy).length === 3, "all busy");
      const began = performance.now();
      await server.stop({ drainMs: 100 }); // the handlers never end: nothing else ends it
      const took = performance.now() - began;
      assert.ok(took >= 90, `took ${took} ms`);
      assert.deepEqual(reasons, Array(3).fill("CONNECTION_ABORTED"));
      await Promise.all(clients.map((client) => client.rest()));
      assert.deepEqual(errors, []);
    });
  }

  test("with drainMs 0 cuts at once", async () => {
    const { server, port } = await started(() => new Promise(() => {}), {
      timeouts: { drainMs: 600_000 },
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
    await server.stop({ drainMs: 0 });
    await client.rest();
  });

  test("of a stopped second call does not lengthen the first", async () => {
    const { server, port } = await started(() => new Promise(() => {}));
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
    await Promise.all([server.stop({ drainMs: 50 }), server.stop({ drainMs: 600_000 })]);
    client.destroy();
  });

  test("in a handler, not awaited, lets that handler answer", async () => {
    const { server, port } = await started((_, { server }) => {
      void server.stop();
      return new Response("last words");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    const [response] = readResponses(await client.rest());
    assert.deepEqual([response?.body, response?.fields["connection"]], ["last words", "close"]);
    client.destroy();
    await until(() => server.state === "idle", "the server stops");
  });

  test("in a handler, awaited, takes the whole of drainMs and no more", async () => {
    const { server, port } = await started(async (_, { server }) => {
      await server.stop({ drainMs: 100 });
      return new Response("too late");
    }, { timeouts: { drainMs: 600_000 } });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.until(() => client.ended || client.closed);
    assert.equal(client.text, "");
    await until(() => server.state === "idle", "the server stops");
  });

  test("leaves no error behind from handlers that fail after it", async () => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const { server, port, errors } = await started(async (request) => {
      await gate;
      request.signal.throwIfAborted();
      return new Response("x");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
    await server.stop({ drainMs: 0 });
    open();
    await turns();
    assert.deepEqual(errors, []);
    client.destroy();
  });

  test("await using stops", async () => {
    let port: number;
    {
      await using server = await serve(PLAIN, () => new Response("x"));
      port = server.address.port;
    }
    await assertRefused(port);
  });
});

describe("finished", () => {
  test("resolves when the server has stopped, for those that ask before and after", async () => {
    const server = plain();
    const steps: string[] = [];
    server.addEventListener("stop", () => void steps.push("stop"));
    const asked = server.finished.then(() => steps.push("finished"));
    await server.start();
    assert.equal(server.finished, server.finished);
    await turns(10);
    assert.deepEqual(steps, []);
    await server.stop();
    await Promise.all([asked, server.finished]);
    assert.deepEqual(steps, ["stop", "finished"]);
    await server.start();
    let again = false;
    const second = server.finished.then(() => again = true);
    await turns(10);
    assert.equal(again, false, "it runs again");
    await server.stop();
    await second;
  });

  test("resolves when the server is stopped by its signal, and when its start fails", async () => {
    const controller = new AbortController();
    const server = plain(undefined, { signal: controller.signal });
    await server.start();
    controller.abort();
    await server.finished;
    assert.equal(server.state, "idle");
    const taken = plain();
    await taken.start();
    const failing = plain(undefined, { port: taken.address.port });
    const { finished } = failing;
    await assert.rejects(failing.start(), { code: "ADDRESS_IN_USE" });
    await finished;
    await taken.stop();
  });
});

describe("the option signal", () => {
  test("that is aborted already makes start() throw its reason", async () => {
    const server = plain(undefined, { signal: AbortSignal.abort(new Error("why")) });
    await assert.rejects(server.start(), { message: "why" });
    assert.equal(server.state, "idle");
  });

  test("that is aborted while the server starts makes start() throw, and nothing listens", async () => {
    const controller = new AbortController();
    const server = plain(undefined, { signal: controller.signal });
    const starting = server.start();
    controller.abort(new Error("why"));
    await assert.rejects(starting, { message: "why" });
    assert.equal(server.state, "idle");
    assert.throws(() => server.address, { code: "NOT_STARTED" });
  });

  test("stops the server when it is aborted", async () => {
    const controller = new AbortController();
    const server = await serve({ ...PLAIN, signal: controller.signal }, () => new Response("x"));
    const { port } = server.address;
    controller.abort();
    assert.equal(server.state, "stopping");
    await server.stop();
    await assertRefused(port);
  });
});

describe("routes", () => {
  async function withRoute(
    handler: (request: HttpdRequest) => Response | void | Promise<Response | void>,
    options = {},
  ): Promise<Started> {
    const host = await started(undefined, options);
    for (const method of ["GET", "POST"]) host.server.route({ uri: "/a", method, handler });
    return host;
  }

  /** The statuses, fields and bodies that answer the requests, on one connection. */
  async function ask(port: number, requests: string): Promise<ReturnType<typeof readResponses>> {
    const client = await RawClient.connect(port);
    client.send(requests);
    client.end();
    const responses = readResponses(await client.rest());
    client.destroy();
    return responses;
  }

  const POST = (body: string) =>
    `POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

  test("match path and method exactly; others are 404, or 405 with Allow", async () => {
    const { port } = await withRoute((request) => request.send(request.path));
    const [hit, query, ...rest] = await ask(
      port,
      GET("/a") + GET("/a?b") + GET("/") + GET("/A") + GET("/a/") + GET("/%61"),
    );
    assert.deepEqual([hit?.status, hit?.body, query?.status], [200, "/a", 200]);
    assert.equal(hit?.fields["content-type"], "text/html");
    assert.deepEqual(rest.map(({ status }) => status), [404, 404, 404, 404]);
    const [wrong] = await ask(port, "PUT /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert.equal(wrong?.status, 405);
    assert.match(wrong?.fields["allow"] ?? "", /GET/);
    assert.match(wrong?.fields["allow"] ?? "", /POST/);
  });

  test("recv() gives the body in pieces of at most max, and then undefined", async () => {
    const { port } = await withRoute(async (request) => {
      const pieces: number[] = [];
      for (let piece = await request.recv(4); piece; piece = await request.recv(4)) {
        pieces.push(piece.length);
      }
      assert.equal(await request.recv(), undefined);
      request.send(pieces.join());
    });
    assert.equal((await ask(port, POST("1234567890")))[0]?.body, "4,4,2");
  });

  test("two reads at a time: the second throws BODY_USED", async () => {
    const { promise: refused, resolve } = Promise.withResolvers<void>();
    const { port } = await withRoute(async (request) => {
      const first = request.recv();
      await assert.rejects(request.recv(), { code: "BODY_USED" });
      resolve();
      request.send(await first);
    });
    const client = await RawClient.connect(port);
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    await refused; // before there is anything to read
    client.send("abc");
    await client.expect("\r\n\r\nabc");
    client.destroy();
  });

  test("send() and everything after it throws ALREADY_SENT; the answer stays", async () => {
    const codes: string[] = [];
    const { port, errors } = await withRoute(async (request) => {
      const note = (error: HttpsdError) => void codes.push(error.code);
      request.send("first");
      for (
        const again of [
          () => request.send("second"),
          () => void request.status(201),
          () => void request.header("a", "b"),
          () => void request.type("a/b"),
        ]
      ) {
        try {
          again();
        } catch (error) {
          note(error as HttpsdError);
        }
      }
      await request.sendChunk("third").catch(note);
      request.end();
    });
    const [one, two, ...rest] = await ask(port, GET("/a") + GET("/a"));
    assert.deepEqual([one?.body, two?.body, rest.length], ["first", "first", 0]);
    assert.deepEqual(codes, Array(10).fill("ALREADY_SENT"));
    // What a promise brings is reported too, since it may have been left alone.
    assert.deepEqual(errors.map(({ code }) => code), Array(2).fill("ALREADY_SENT"));
  });

  test("sendChunk() and end() stream; end() alone is an empty answer", async () => {
    const { port } = await withRoute(async (request) => {
      request.status(201, "Made").type("text/plain").header("X-A", "b");
      if (request.query.has("empty")) return request.end();
      await request.sendChunk("ab");
      await request.sendChunk("");
      await request.sendChunk(new Uint8Array([0x63]));
      request.end();
      request.end();
    });
    const [stream, empty, ...rest] = await ask(port, GET("/a") + GET("/a?empty"));
    assert.deepEqual([stream?.status, stream?.body, empty?.body], [201, "abc", ""]);
    assert.equal(stream?.fields["transfer-encoding"], "chunked");
    assert.equal(stream?.fields["content-type"], "text/plain");
    assert.equal(stream?.fields["x-a"], "b");
    assert.equal(rest.length, 0);
  });

  test("chunks and an end that are not awaited leave whole and in order", async () => {
    const { port, errors } = await withRoute((request) => {
      for (const letter of "abcd") void request.sendChunk(letter.repeat(1_000_000));
      request.end();
    });
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send(GET("/a") + GET("/a"));
    await turns(); // fills what the kernel takes
    client.socket.resume();
    await client.until(() => client.text.split("\r\n0\r\n\r\n").length === 3);
    const bodies = readResponses(client.text).map(({ body }) => body.replace(/(.)\1*/g, "$1"));
    assert.deepEqual(bodies, ["abcd", "abcd"]);
    assert.deepEqual(errors, []);
    client.destroy();
  });

  test("a long answer sent at once cannot be added to while it waits for the client", async () => {
    const codes: string[] = [];
    const { port } = await withRoute(async (request) => {
      request.send("x".repeat(5_000_000));
      await request.sendChunk("evil").catch(({ code }) => codes.push(code));
      request.end();
    });
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send(GET("/a"));
    await turns(); // fills what the kernel takes
    client.socket.resume();
    await client.until(() => client.text.length > 5_000_000);
    assert.equal(readResponses(client.text)[0]?.body, "x".repeat(5_000_000));
    assert.deepEqual(codes, ["ALREADY_SENT"]);
    client.destroy();
  });

  test("errors thrown with a status or fields that cannot be sent are answered with 500", async () => {
    const bad: [status: number, field: string][] = [
      [200, "x"],
      [99, "x"],
      [600, "x"],
      [1000, "x"],
      [NaN, "x"],
      [404, "a\r\nX-Evil: 1"],
    ];
    for (const [status, value] of bad) {
      const { port, errors } = await withRoute(() => {
        throw new HttpError(status, "BAD_REQUEST", "mine", { fields: [["X-A", value]] });
      });
      const responses = await ask(port, GET("/a"));
      assert.deepEqual(responses.map(({ status }) => status), [500], String(status));
      assert.equal(responses[0]?.fields["x-evil"], undefined);
      assert.ok(errors.length >= 1);
    }
  });

  test("a field that HTTP does not allow throws BAD_RESPONSE, and nothing of it is sent", async () => {
    const bad: ((request: HttpdRequest) => void)[] = [
      (request) => void request.header("X-A", "b\r\nX-Evil: 1"),
      (request) => void request.header("X-A", "b\nX-Evil: 1"),
      (request) => void request.header("X-A\r\nX-Evil", "1"),
      (request) => void request.header("X A", "1"),
      (request) => void request.header("", "1"),
      (request) => void request.header("X-A", "\0"),
      (request) => void request.header("X-A", "\u0100"),
      (request) => void request.type("a/b\r\nX-Evil: 1"),
      (request) => request.status(200, "OK\r\nX-Evil: 1").send("x"),
      (request) => request.status(99).send("x"),
      (request) => request.status(1000).send("x"),
      (request) => request.status(NaN).send("x"),
    ];
    for (const set of bad) {
      const { port, errors } = await withRoute((request) => {
        assert.throws(() => set(request), { code: "BAD_RESPONSE" });
        set(request);
      });
      const responses = await ask(port, GET("/a"));
      assert.deepEqual(responses.map(({ status }) => status), [500], String(set));
      assert.equal(responses[0]?.fields["x-evil"], undefined);
      assert.deepEqual(errors.map(({ code }) => code), ["BAD_RESPONSE"]);
    }
  });

  test("a handler that ends without an answer is answered with 500", async () => {
    const { port, errors } = await withRoute(() => {});
    const responses = await ask(port, GET("/a") + GET("/a"));
    assert.deepEqual(responses.map(({ status }) => status), [500, 500]);
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED", "HANDLER_FAILED"]);
  });

  test("a handler that ends in the middle of a stream is cut", async () => {
    const { port, errors } = await withRoute((request) => request.sendChunk("ab"));
    const client = await RawClient.connect(port);
    client.send(GET("/a"));
    const text = await client.rest();
    assert.ok(text.endsWith("\r\n\r\n2\r\nab\r\n"), text);
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
    client.destroy();
  });

  test("a returned Response is sent", async () => {
    const { port } = await withRoute(() => Response.json({ a: 1 }, { status: 202 }));
    const [response] = await ask(port, GET("/a"));
    assert.deepEqual([response?.status, response?.body], [202, '{"a":1}']);
  });

  test("an answer followed by a Response or a throw stays whole, and the error is reported", async () => {
    const { port, errors } = await withRoute((request) => {
      request.send("whole".repeat(100_000));
      if (request.query.has("throw")) throw new Error("mine");
      return new Response("two");
    });
    const responses = await ask(port, GET("/a") + GET("/a?throw"));
    assert.deepEqual(responses.map(({ status, body }) => [status, body.length]), [
      [200, 500_000],
      [200, 500_000],
    ]);
    assert.deepEqual(errors.map(({ code }) => code).sort(), ["ALREADY_SENT", "HANDLER_FAILED"]);
  });
});
