/** The exchange loop on real sockets: order, framing, deadlines, and clients that come and go. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import type { HttpsdError } from "../lib/errors.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import {
  answering,
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
import { engineOf, residentMiB, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();

stopServersAfterAll();

const echoPath: FetchHandler = (request) => new Response(new URL(request.url).pathname);

describe("keep-alive and close", () => {
  test("a connection serves one request after the other", async () => {
    const { port, server } = await started(echoPath);
    const client = await RawClient.connect(port);
    for (const path of ["/1", "/22", "/333"]) {
      client.text = "";
      client.send(GET(path));
      await client.expect(path);
      const [response] = readResponses(client.text);
      assert.equal(response?.status, 200);
      assert.equal(response?.fields["content-length"], String(path.length));
      assert.equal(response?.fields["connection"], undefined);
      assert.match(response?.fields["date"] ?? "", /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/);
    }
    assert.equal([...server.sessions][0]?.requests, 3);
    client.destroy();
  });

  test("Connection: close from the client ends the connection, and nothing behind is served", async () => {
    let calls = 0;
    const { port } = await started(() => new Response(`${++calls}`));
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET("/evil"));
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map(({ body }) => body), ["1"]);
    assert.equal(responses[0]?.fields["connection"], "close");
    assert.equal(calls, 1);
    client.destroy();
  });

  test("Connection: close from the handler does the same", async () => {
    let calls = 0;
    const { port } = await started(() =>
      new Response(`${++calls}`, { headers: { Connection: "close" } })
    );
    const client = await RawClient.connect(port);
    client.send(GET("/1") + GET("/2"));
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map(({ body }) => body), ["1"]);
    assert.equal(responses[0]?.fields["connection"], "close");
    assert.equal(calls, 1);
    client.destroy();
  });

  test("session.close() in a handler makes its answer the last", async () => {
    const { port } = await started((_, { session }) => {
      session.close();
      return new Response("bye");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/1") + GET("/2"));
    const responses = readResponses(await client.rest());
    assert.equal(responses.length, 1);
    assert.equal(responses[0]?.fields["connection"], "close");
    client.destroy();
  });

  test("HTTP/1.0 closes, unless the client asks to keep the connection", async () => {
    const { port } = await started(echoPath);
    const client = await RawClient.connect(port);
    client.send("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n");
    const [first, second] = readResponses(await client.rest());
    assert.deepEqual([first?.body, first?.fields["connection"]], ["/1", "keep-alive"]);
    assert.deepEqual([second?.body, second?.fields["connection"]], ["/2", "close"]);
    client.destroy();
  });

  test("a stream for HTTP/1.0 ends with the connection, also when it asks to be kept", async () => {
    const { port } = await started(() => new Response(streamOf("AB", "CD")));
    for (const field of ["", "Connection: keep-alive\r\n"]) {
      const client = await RawClient.connect(port);
      client.send(`GET / HTTP/1.0\r\n${field}\r\n`);
      const [response] = readResponses(await client.rest());
      assert.equal(response?.body, "ABCD");
      assert.equal(response?.fields["connection"], "close");
      assert.equal(response?.fields["transfer-encoding"], undefined);
      assert.equal(response?.fields["content-length"], undefined);
      client.destroy();
    }
  });
});

/** A stream that gives its pieces one timer turn apart. */
function streamOf(...pieces: string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const rest = [...pieces];
  return new ReadableStream({
    async pull(controller) {
      await sleep(1);
      const piece = rest.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(new TextEncoder().encode(piece));
    },
  });
}

describe("pipelining", () => {
  const paths = Array.from({ length: 100 }, (_, i) => `/${i}`);

  for (const mode of MODES) {
    test(`100 requests in one write are answered in order, the slow first one first, ${mode}`, async () => {
      let running = 0;
      const { port } = await started(
        async (request) => {
          assert.equal(++running, 1, "one at a time");
          const { pathname } = new URL(request.url);
          if (pathname === "/0") await sleep(50);
          running--;
          return new Response(pathname);
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(paths.map(GET).join(""));
      await client.expect("\r\n\r\n/99");
      assert.deepEqual(readResponses(client.text).map(({ body }) => body), paths);
      client.destroy();
    });
  }

  test("50,000 requests that are answered at once do not grow the stack", async () => {
    const { port } = await answering((request) => request.send("x"));
    const client = await RawClient.connect(port);
    client.send(GET("/").repeat(49_999));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.equal((await client.rest()).split("HTTP/1.1 200 ").length - 1, 50_000);
    client.destroy();
  }, 30_000);

  test("a client that pipelines for ever while a handler sleeps is stopped", async () => {
    const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
    const { port, server } = await started(async () => {
      await asleep;
      return new Response("x");
    });
    const client = await RawClient.connect(port);
    const block = Buffer.from(GET("/").repeat(1000));
    let sent = 0;
    const push = () => {
      while (sent < 2 ** 26 && client.socket.write(block)) sent += block.length;
    };
    client.socket.on("drain", push);
    push();
    await until(
      () => [...server.sessions].some(({ connection }) => engineOf(connection).queuedBytes > 0),
      "bytes queue",
    );
    for (let before = -1; before !== sent;) {
      before = sent;
      await turns(50);
    }
    assert.ok(sent < 2 ** 25, `took ${sent} bytes`);
    const session = [...server.sessions][0]!;
    assert.ok(
      engineOf(session.connection).queuedBytes <= 2 ** 20,
      `${engineOf(session.connection).queuedBytes} bytes`,
    );
    assert.equal(session.requests, 1);
    client.destroy();
    wake();
  });
});

describe("responses without a body", () => {
  test("HEAD, 204 and 304 have none, whatever the handler gives", async () => {
    const { port } = await answering((request) => {
      const status = Number(request.query.get("status") ?? 200);
      request.status(status).send("12345");
    });
    const client = await RawClient.connect(port);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET("/?status=204") + GET("/?status=304"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const responses = readResponses(await client.rest(), ["HEAD"]);
    assert.deepEqual(responses.map((r) => [r.status, r.fields["content-length"], r.body]), [
      [200, "5", ""],
      [204, undefined, ""],
      [304, undefined, ""],
      [200, "5", "12345"],
    ]);
    client.destroy();
  });

  test("a fetch handler's HEAD says how long the body would be, and cancels a stream", async () => {
    let cancelled = 0;
    const { port } = await started((request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/bytes") return new Response("12345");
      if (pathname === "/304") return new Response(null, { status: 304, headers: { ETag: '"a"' } });
      if (pathname === "/304/5") {
        return new Response(null, { status: 304, headers: { "Content-Length": "5" } });
      }
      return new Response(new ReadableStream({ cancel: () => void cancelled++ }));
    });
    const client = await RawClient.connect(port);
    const paths = ["/bytes", "/stream", "/304", "/304/5"];
    client.send(paths.map((path) => `HEAD ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(""));
    await client.expect(/(HTTP[^]*){4}\r\n\r\n$/);
    const responses = readResponses(client.text, ["HEAD", "HEAD", "HEAD", "HEAD"]);
    assert.deepEqual(responses.map((r) => [r.status, r.fields["content-length"]]), [
      [200, "5"],
      [200, undefined],
      [304, undefined],
      [304, "5"],
    ]);
    assert.equal(cancelled, 1);
    client.destroy();
  });

  test("an informational status is no answer", async () => {
    const { port, errors } = await answering((request) => request.status(101).send());
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("500 Internal Server Error");
    assert.deepEqual(errors.map(({ code }) => code), ["BAD_RESPONSE"]);
    client.destroy();
  });
});

describe("Expect: 100-continue", () => {
  const POST = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

  test("is answered once the body is wanted, and only once", async () => {
    const { promise: wanted, resolve: want } = Promise.withResolvers<void>();
    const { port } = await started(async (request) => {
      await wanted;
      return new Response(await request.text());
    });
    const client = await RawClient.connect(port);
    client.send(POST);
    await turns();
    assert.equal(client.text, "");
    want();
    await client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    for (const byte of "12345") client.send(byte);
    await client.expect("\r\n\r\n12345");
    assert.deepEqual(readResponses(client.text).map(({ status }) => status), [100, 200]);
    client.text = "";
    client.send(GET("/"));
    await client.expect("200 OK");
    client.destroy();
  });

  test("is never answered when the body is not wanted: the connection closes", async () => {
    let calls = 0;
    const { port } = await answering((request) => {
      calls++;
      request.send("no");
    });
    const client = await RawClient.connect(port);
    client.send(POST);
    const [response] = readResponses(await client.rest());
    assert.deepEqual([response?.status, response?.fields["connection"]], [200, "close"]);
    client.send(GET("/"));
    assert.equal(calls, 1);
    client.destroy();
  });

  test("matters not where there is no body", async () => {
    const { port } = await answering(async (request) => {
      assert.equal(await request.recv(), undefined);
      request.send("x");
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n" + GET("/"));
    await client.expect(/(x[^]*){2}/);
    const responses = readResponses(client.text);
    assert.deepEqual(responses.map(({ status }) => status), [200, 200]);
    client.destroy();
  });

  test("an unknown expectation is refused with 417", async () => {
    const { port } = await started(echoPath);
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n" + GET("/evil"));
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map((r) => [r.status, r.fields["connection"]]), [[417, "close"]]);
    client.destroy();
  });
});

describe("bodies that are not read", () => {
  const POST = (length: number) =>
    `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`;

  test("are thrown away up to maxDiscardedBytes, and the connection goes on", async () => {
    const { port } = await answering((request) => request.send("ok"), {
      limits: { maxDiscardedBytes: 100_000 },
    });
    const client = await RawClient.connect(port);
    client.send(POST(100_000) + GET("/").repeat(2_000).slice(0, 100_000).padEnd(100_000, "x"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map(({ status }) => status), [200, 200]);
    client.destroy();
  });

  test("on GET are no second request either", async () => {
    const paths: string[] = [];
    const { port } = await started((request) => {
      paths.push(new URL(request.url).pathname);
      assert.equal(request.body, null);
      return new Response("ok");
    });
    const client = await RawClient.connect(port);
    const smuggled = GET("/evil");
    client.send(
      `GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
    );
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.equal(readResponses(await client.rest()).length, 2);
    assert.deepEqual(paths, ["/1", "/2"]);
    client.destroy();
  });

  for (const mode of MODES) {
    test(`a client that sends 10 MB past the answer still reads it all, ${mode}`, async () => {
      const answer = "x".repeat(300_000);
      const { port } = await answering(
        (request) => request.send(answer),
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(POST(10_000_000));
      const piece = new Uint8Array(100_000);
      for (let i = 0; i < 100; i++) {
        client.send(piece);
        await sleep(1);
      }
      const [response] = readResponses(await client.rest());
      assert.equal(response?.body, answer);
      client.destroy();
    });
  }

  test("a client that stalls in such a body is given up", async () => {
    const { port } = await answering((request) => request.send("ok"), {
      timeouts: { receiveMs: 100 },
    });
    const client = await RawClient.connect(port);
    client.send(POST(10) + "12345");
    assert.equal(readResponses(await client.rest())[0]?.status, 200);
    client.destroy();
  });

  test("session.close() does not wait for them", async () => {
    const { port, server } = await answering((request) => request.send("ok"));
    const client = await RawClient.connect(port);
    client.send(POST(10) + "12345");
    await client.expect("ok");
    for (const session of server.sessions) session.close();
    await client.rest();
    client.destroy();
  });
});

describe("half-closed clients", () => {
  for (const mode of MODES) {
    test(`a request and FIN in one gets its answer, ${mode}`, async () => {
      const { port } = await started(
        async (request) => {
          await sleep(20);
          return new Response(await request.text());
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
      client.end();
      const [response] = readResponses(await client.rest());
      assert.equal(response?.body, "abc");
      client.destroy();
    });
  }

  test("pipelined requests and FIN get their answers", async () => {
    const { port } = await started(echoPath);
    const client = await RawClient.connect(port);
    client.send(GET("/1") + GET("/2") + GET("/3"));
    client.end();
    const bodies = readResponses(await client.rest()).map(({ body }) => body);
    assert.deepEqual(bodies, ["/1", "/2", "/3"]);
  });

  test("a long download goes on as long as the client reads", async () => {
    const clock = new TestClock();
    const answer = () => new Response(new Uint8Array(30_000_000));
    const { port } = await started(answer, { timeouts: { sendMs: 3_000 } }, "plain", clock);
    const client = await RawClient.connect(port);
    let received = 0;
    client.socket.removeAllListeners("data");
    // Three times as long in all as the server waits for the next read.
    client.socket.on("data", (bytes) => {
      const megabytes = Math.floor(received / 1_000_000);
      received += bytes.length;
      if (Math.floor(received / 1_000_000) === megabytes) return;
      client.socket.pause();
      void clock.advance(300).then(() => client.socket.resume());
    });
    client.send(GET("/"));
    client.end();
    await client.until(() => client.ended || client.closed);
    assert.ok(received > 30_000_000, `got ${received}`);
  }, 20_000);

  test("FIN in the middle of a head or between requests just closes", async () => {
    const { port, errors } = await started(echoPath);
    for (const text of ["", "GET / HT", "\r\n", GET("/")]) {
      const client = await RawClient.connect(port);
      client.send(text);
      client.end();
      const answer = await client.rest();
      assert.equal(readResponses(answer).length, text === GET("/") ? 1 : 0);
      await client.until(() => client.closed);
    }
    assert.deepEqual(errors, []);
  });
});

describe("deadlines", () => {
  /** The only session of a server, once there is one. */
  async function sessionOf({ server }: Started) {
    await until(() => server.sessions.size === 1, "the session is there");
    return [...server.sessions][0]!;
  }

  /** Sends text, and waits until the server has it. */
  async function arrived(client: RawClient, host: Started, text: string): Promise<void> {
    let bytes = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    const count = (event: { bytes: number }): void => {
      bytes += event.bytes;
      if (bytes >= text.length) resolve();
    };
    host.server.addEventListener("data", count);
    client.send(text);
    await promise;
    host.server.removeEventListener("data", count);
  }

  test("an idle connection is closed after idleMs, also after a request", async () => {
    const clock = new TestClock();
    const host = await started(echoPath, { timeouts: { idleMs: 10_000 } }, "plain", clock);
    const client = await RawClient.connect(host.port);
    await sessionOf(host);
    await clock.advance(9_000);
    assert.equal(client.ended, false);
    await clock.advance(3_000);
    assert.equal(await client.rest(), "");
    client.destroy();
    await until(() => host.server.sessions.size === 0, "the first is gone");
    const second = await RawClient.connect(host.port);
    await sessionOf(host);
    await clock.advance(6_000);
    second.send(GET("/"));
    await second.expect("\r\n\r\n/");
    await clock.advance(6_000);
    assert.equal(second.ended, false, "the deadline begins anew");
    await clock.advance(6_000);
    assert.equal(readResponses(await second.rest()).length, 1);
    second.destroy();
  });

  for (const mode of MODES) {
    test(`headersMs is for the whole head, however it drips in, ${mode}`, async () => {
      const clock = new TestClock();
      const host = await started(echoPath, { timeouts: { headersMs: 10_000 } }, mode, clock);
      const client = await RawClient.connect(host.port, mode);
      client.send(GET("/first"));
      await client.expect("/first");
      client.text = "";
      for (const piece of ["GET / HTTP/1.1\r\n", "X: y\r\n", "X:", " y\r\n"]) {
        await arrived(client, host, piece);
        assert.equal(client.text, "");
        await clock.advance(3_000); // less than the deadline, four times
      }
      await client.rest();
      const [response] = readResponses(client.text);
      assert.deepEqual([response?.status, response?.fields["connection"]], [408, "close"]);
      assert.deepEqual(host.errors.map(({ code }) => code), ["REQUEST_TIMEOUT"]);
      client.destroy();
    });
  }

  test("receiveMs is for each byte of a body that is waited for", async () => {
    const clock = new TestClock();
    const host = await started(
      async (request) => new Response(await request.text()),
      { timeouts: { receiveMs: 10_000 }, limits: { minBodyBytesPerSecond: 0 } },
      "plain",
      clock,
    );
    const slow = await RawClient.connect(host.port);
    await arrived(slow, host, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for (const byte of "abcdefgh") {
      await clock.advance(4_000);
      await arrived(slow, host, byte);
    }
    await slow.expect("abcdefgh");
    const stalled = await RawClient.connect(host.port);
    await arrived(stalled, host, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc");
    await clock.advance(12_000);
    const [response] = readResponses(await stalled.rest());
    assert.deepEqual([response?.status, response?.fields["connection"]], [408, "close"]);
    assert.ok(host.errors.every(({ code }) => code === "REQUEST_TIMEOUT"), String(host.errors));
    slow.destroy();
    stalled.destroy();
  });

  test("a handler that takes its time has no deadline", async () => {
    const clock = new TestClock();
    const { promise: answered, resolve: answer } = Promise.withResolvers<Response>();
    const host = await started(
      () => answered,
      {
        timeouts: { idleMs: 1_000, headersMs: 1_000, receiveMs: 1_000, sendMs: 1_000 },
      },
      "plain",
      clock,
    );
    const client = await RawClient.connect(host.port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc");
    const session = await sessionOf(host);
    await until(() => session.busy, "the handler runs");
    await clock.advance(20_000);
    answer(new Response("late"));
    await client.expect("late");
    client.destroy();
  });

  test("sendMs cuts a client that does not read", async () => {
    const { promise: cancelled, resolve } = Promise.withResolvers<unknown>();
    const { port, server } = await started(() =>
      new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(65_536)),
          cancel: resolve,
        }),
      ), { timeouts: { sendMs: 200 } });
    const { promise: disconnected, resolve: over } = Promise.withResolvers<HttpsdError>();
    server.addEventListener("disconnected", ({ error }) => over(error!));
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send(GET("/"));
    assert.equal((await cancelled as HttpsdError).code, "CONNECTION_TIMEOUT");
    assert.equal((await disconnected).code, "CONNECTION_TIMEOUT");
    client.destroy();
  });

  test("an error handler that never ends does not hold the connection", async () => {
    const { port, server } = await started(undefined, {
      timeouts: { headersMs: 50, sendMs: 100 },
    });
    for (const status of [400, 408]) server.onError(status, () => new Promise(() => {}));
    for (const text of ["GET / HT", "BAD\r\n\r\n"]) {
      const client = await RawClient.connect(port);
      const over = new Promise((resolve) =>
        server.addEventListener("disconnected", resolve, { once: true })
      );
      client.send(text);
      await over;
      client.destroy();
    }
  });

  test("the deadline of an answer ends with its head, not with the body's next byte", async () => {
    const clock = new TestClock();
    const { port, errors } = await started(
      (request) => new Response(request.body),
      { timeouts: { handlerMs: 10_000 }, limits: { minBodyBytesPerSecond: 0 } },
      "plain",
      clock,
    );
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    await client.expect("ab");
    await clock.advance(20_000);
    client.send("cd");
    await client.expect("cd");
    assert.deepEqual(errors, []);
    client.destroy();
  });

  test("a client that has ended its side is not waited on by a handler that never ends", async () => {
    const { port, server } = await started(() => new Promise(() => {}), {
      timeouts: { sendMs: 100 },
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    client.end();
    await client.until(() => client.ended || client.closed);
    await until(() => server.sessions.size === 0, "the session ends");
  });
});

describe("refused requests", () => {
  test("a broken body fails the handler's read; its answer is the last, and one error is reported", async () => {
    const failed: string[] = [];
    const { port, errors } = await started(async (request) => {
      await request.text().catch((error) => failed.push(error.code));
      await sleep(50);
      return new Response("still here");
    });
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nX");
    for (let i = 0; i < 5; i++) {
      await sleep(5);
      client.send(GET("/evil"));
    }
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map((r) => [r.status, r.body]), [[200, "still here"]]);
    assert.equal(responses[0]?.fields["connection"], "close");
    assert.deepEqual(failed, ["BAD_FRAMING"]);
    assert.deepEqual(errors.map(({ code }) => code), ["BAD_FRAMING"]);
    client.destroy();
  });

  test("a broken body that the handler does not catch is answered with its status", async () => {
    const { port } = await started(async (request) => new Response(await request.text()), {
      limits: { maxBodyBytes: 10 },
    });
    const client = await RawClient.connect(port);
    client.send(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nf\r\n",
    );
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map((r) => [r.status, r.fields["connection"]]), [[413, "close"]]);
    client.destroy();
  });

  test("a bad request behind a slow one is refused in its turn", async () => {
    const { port } = await started(async () => {
      await sleep(50);
      return new Response("slow");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/") + "BAD\r\n\r\n" + GET("/evil"));
    const responses = readResponses(await client.rest());
    assert.deepEqual(responses.map(({ status }) => status), [200, 400]);
    client.destroy();
  });

  test("a body in one-byte chunks is held in no more memory than another", async () => {
    const { port, server } = await started(() => new Promise(() => {}));
    const before = residentMiB();
    const chunk = Buffer.from("1\r\nA\r\n".repeat(10_000));
    const clients = await Promise.all(Array.from({ length: 20 }, () => RawClient.connect(port)));
    for (const client of clients) {
      client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (let i = 0; i < 7; i++) client.send(chunk);
    }
    await until(() => {
      const sessions = [...server.sessions];
      return sessions.length === 20 &&
        sessions.every(({ connection }) => engineOf(connection).queuedBytes > 0);
    }, "all bodies are held");
    await turns(50);
    const grown = residentMiB() - before;
    for (const client of clients) client.destroy();
    assert.ok(grown < 60, `grew by ${grown} MiB`);
  });
});
