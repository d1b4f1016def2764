/** Errors and their handlers, detached requests, queued work, and handlers that are slow. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import { HttpError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { connected, last, textFor } from "./dispatcher_support.ts";
import {
  answering,
  GET,
  MODES,
  RawClient,
  readResponses,
  sleep,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

describe("error handlers", () => {
  /** What makes the server itself answer with a status, before there is a request. */
  const unread: [status: number, bytes: string, options?: HttpsServerOptions][] = [
    [400, "GET / HTTP/1.1\r\nHost a\r\n\r\n"],
    [408, "GET / HT", { timeouts: { headersMs: 60 } }],
    [413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", {
      limits: { maxBodyBytes: 8 },
    }],
    [414, `GET /${"x".repeat(64)} HTTP/1.1\r\nHost: a\r\n\r\n`, { limits: { maxUriBytes: 32 } }],
    [431, `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(64)}\r\n\r\n`, {
      limits: { maxHeaderBytes: 64 },
    }],
    [505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"],
  ];

  for (const mode of MODES) {
    for (const [status, bytes, options] of unread) {
      test(`answer ${status} where there is no request, and the connection closes, ${mode}`, async () => {
        const { server, port } = await answering((request) => request.send(), options, mode);
        const calls: unknown[] = [];
        server.onError(status, (error, request, session) => {
          calls.push([error.status, request, session.remoteAddress]);
          return new Response("own", { status, headers: { "X-Own": "yes" } });
        });
        const [own] = readResponses(await textFor(port, bytes, mode));
        assert.deepEqual(
          [own?.status, own?.body, own?.fields["x-own"], own?.fields["connection"]],
          [status, "own", "yes", "close"],
        );
        assert.deepEqual(calls, [[status, undefined, "127.0.0.1"]]);
        server.onError(status, null);
        const [standard] = readResponses(await textFor(port, bytes, mode));
        assert.equal(standard?.status, status);
        assert.notEqual(standard?.body, "own");
      });
    }
  }

  for (const status of [400, 401, 403, 404, 405, 408, 411, 413, 414, 431, 500, 501, 505]) {
    test(`answer a thrown ${status} instead of the standard answer, with the request`, async () => {
      const { server, port } = await answering((request) => {
        if (request.path !== "/bad") return request.send("good");
        throw new HttpError(status, "BAD_REQUEST", "thrown");
      });
      server.onError(status, (error, request) => {
        assert.equal(error.message, "thrown");
        request!.status(status).send(`own for ${request!.path}`);
      });
      const text = await textFor(port, GET("/bad") + last(GET("/")));
      const [bad, next] = readResponses(text);
      assert.deepEqual([bad?.status, bad?.body], [status, "own for /bad"]);
      if (status === 500) assert.deepEqual([next, bad?.fields["connection"]], [undefined, "close"]);
      else assert.equal(next?.body, "good");
    });
  }

  test("may answer with another status, as the captive portal's 303", async () => {
    const { server, port } = await answering((request) => request.send());
    server.onError(404, (_, request) => request!.status(303).header("Location", "/").send("Go"));
    const [answer] = readResponses(await textFor(port, last(GET("/none"))));
    assert.deepEqual([answer?.status, answer?.fields["location"]], [303, "/"]);
  });

  for (const mode of MODES) {
    test(`keep the connection, with the unread body out of the way, ${mode}`, async () => {
      const { server, port } = await answering((request) => request.send("next"), {}, mode);
      server.onError(404, (_, request) => request!.status(404).send("own"));
      const post = "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n";
      const text = await textFor(port, post + GET("/evil").padEnd(35, "x") + last(GET("/")), mode);
      assert.deepEqual(readResponses(text).map(({ body }) => body), ["own", "next"]);
    });
  }

  const failing: [how: string, handler: () => Response | void | Promise<Response | void>][] = [
    ["throws", () => {
      throw new Error("handler");
    }],
    ["rejects", () => Promise.reject(new Error("handler"))],
    ["answers nothing", () => {}],
    ["returns what is no response", () => "x" as unknown as Response],
  ];
  for (const [how, handler] of failing) {
    test(`that ${how} are replaced by the standard answer, and reported`, async () => {
      const { server, port, errors } = await answering((request) => request.send());
      server.onError(404, handler).onError(400, handler);
      const [unrouted] = readResponses(await textFor(port, last(GET("/none"))));
      assert.deepEqual([unrouted?.status, unrouted?.body], [404, "Nothing matches the given URI"]);
      assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
      const [unread] = readResponses(await textFor(port, "GET\r\n\r\n"));
      assert.deepEqual([unread?.status, unread?.body], [400, "Bad request syntax"]);
    });
  }

  test("that answer in part are cut", async () => {
    const { server, port, errors } = await answering((request) => request.send());
    server.onError(404, async (_, request) => await request!.sendChunk("part"));
    assert.ok((await textFor(port, GET("/none"))).endsWith("4\r\npart\r\n"));
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
  });

  test("of 500 are not asked about themselves", async () => {
    let calls = 0;
    const { server, port, errors } = await answering(() => {
      throw new Error("handler");
    });
    server.onError(500, () => {
      calls++;
      throw new Error("error handler");
    });
    const [answer] = readResponses(await textFor(port, GET("/")));
    assert.deepEqual([answer?.status, calls, errors.length], [500, 1, 2]);
  });

  test("405 keeps its Allow in the standard answer, and gives it to the handler", async () => {
    const { server, port } = await answering((request) => request.send());
    const put = "PUT / HTTP/1.1\r\nHost: a\r\n\r\n";
    const [standard] = readResponses(await textFor(port, last(put)));
    assert.equal(standard?.fields["allow"], "GET, POST, HEAD");
    server.onError(
      405,
      ({ fields }, request) => request!.status(405).header("X-Allow", fields[0]![1]).send(),
    );
    const [own] = readResponses(await textFor(port, last(put)));
    assert.equal(own?.fields["x-allow"], "GET, POST, HEAD");
  });
});

describe("a detached request", () => {
  for (const mode of MODES) {
    test(`is answered later, in its turn, its body out of the way, ${mode}`, async () => {
      const { promise, resolve } = Promise.withResolvers<HttpdRequest>();
      const { port } = await answering(
        (request) => {
          if (request.path !== "/slow") return request.send(request.path);
          request.detach();
          resolve(request);
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      const evil = GET("/evil");
      client.send(
        `POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: ${evil.length}\r\n\r\n${evil}` +
          last(GET("/next")),
      );
      const request = await promise;
      assert.equal(client.text, "");
      request.send("late");
      request.complete(); // of no effect: it is answered
      const bodies = readResponses(await client.rest()).map(({ body }) => body);
      assert.deepEqual(bodies, ["late", "/next"]);
      client.destroy();
    });
  }

  test("without an answer is a 503 at its deadline, and its signal is aborted", async () => {
    let request: HttpdRequest | undefined;
    const { port, errors } = await answering((detached) => {
      if (detached.path !== "/") return detached.send("next");
      request = detached;
      if (detached.rawQuery === "") void request.signal; // else it is asked for afterwards only
      request.detach(100);
    });
    for (const path of ["/", "/?later"]) {
      const [late, next] = readResponses(await textFor(port, GET(path) + last(GET("/2"))));
      assert.deepEqual([late?.status, next?.body], [503, "next"]);
      assert.equal(request?.signal.aborted, true);
      assert.equal(request?.sent, true);
    }
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_TIMEOUT", "HANDLER_TIMEOUT"]);
  });

  test("that is completed without an answer is a 500, through its error handler", async () => {
    const { server, port } = await answering((request) => {
      request.detach();
      setTimeout(() => request.complete(), 1);
    });
    server.onError(500, (_, request) => request!.status(500).send("own"));
    const [answer] = readResponses(await textFor(port, GET("/")));
    assert.deepEqual([answer?.status, answer?.body], [500, "own"]);
  });

  test("that is completed in the middle of its answer is cut", async () => {
    const { port } = await answering(async (request) => {
      request.detach();
      await request.sendChunk("part");
      setTimeout(() => request.complete(), 1);
    });
    assert.ok((await textFor(port, GET("/"))).endsWith("part\r\n"));
  });

  test("whose client is gone is aborted; answering it does no harm", async () => {
    const { promise, resolve } = Promise.withResolvers<HttpdRequest>();
    const host = await answering((request) => {
      request.detach();
      resolve(request);
    });
    const { client } = await connected(host);
    client.send(GET("/"));
    const request = await promise;
    const { signal } = request;
    client.destroy();
    await until(() => signal.aborted, "the signal is aborted");
    request.send("nobody");
    await until(() => host.server.sessions.size === 0, "the session is over");
    request.complete();
    assert.deepEqual(host.errors, []);
  });

  for (const way of ["completed", "left by its handler"]) {
    test(`whose client is gone may be ${way} without an answer: no failure`, async () => {
      const { promise, resolve } = Promise.withResolvers<HttpdRequest>();
      const host = await answering(async (request) => {
        if (way === "completed") request.detach();
        else await request.sendChunk("part");
        resolve(request);
        while (way !== "completed" && !request.signal.aborted) await sleep(5);
      });
      const { client } = await connected(host);
      client.send(GET("/"));
      const request = await promise;
      client.end(); // no reset, which would close the connection by itself
      await until(() => request.signal.aborted, "the signal is aborted");
      if (way === "completed") request.complete();
      await until(() => host.server.sessions.size === 0, "the session is over");
      assert.deepEqual(host.errors, []);
    });
  }

  test("does not outlive stop()", async () => {
    const { promise, resolve } = Promise.withResolvers<HttpdRequest>();
    const { server, port } = await answering((request) => {
      request.detach();
      resolve(request);
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    const request = await promise;
    await server.stop({ drainMs: 50 });
    assert.equal(server.sessions.size, 0);
    request.send("nobody");
    client.destroy();
  });
});

describe("queueWork()", () => {
  test("runs in order, each after the current event, and resolves with the result", async () => {
    const { server } = await answering((request) => request.send());
    const log: number[] = [];
    const results = [1, 2, 3].map((n) => server.queueWork(() => (log.push(n), n)));
    assert.deepEqual(log, []);
    assert.deepEqual(await Promise.all(results), [1, 2, 3]);
    assert.deepEqual(log, [1, 2, 3]);
    assert.equal(await server.queueWork(async () => (await sleep(1), "later")), "later");
  });

  test("from inside work waits for the next turn, and does not starve the server", async () => {
    const { server, port } = await answering((request) => request.send("served"));
    let rounds = 0;
    const again = (): void => {
      rounds++;
      if (rounds < 1_000_000) void server.queueWork(again);
    };
    void server.queueWork(again);
    const [answer] = readResponses(await textFor(port, last(GET("/"))));
    assert.equal(answer?.body, "served");
    const before = rounds;
    await until(() => rounds > before, "the work goes on");
    rounds = 1_000_000;
  });

  test("rejects with QUEUE_FULL at once beyond maxQueuedWork; what was taken is run", async () => {
    const { server } = await answering((request) => request.send(), {
      limits: { maxQueuedWork: 6 },
    });
    let ran = 0;
    const results = await Promise.allSettled(
      Array.from({ length: 16 }, () => server.queueWork(() => void ran++)),
    );
    const full = results.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
    assert.deepEqual([ran, full.length], [6, 10]);
    for (const { reason } of full) assert.equal(reason.code, "QUEUE_FULL");
    await server.queueWork(() => {});
  });

  test("work that throws, and whose promise is not held, becomes an error event", async () => {
    const { server, errors } = await answering((request) => request.send());
    void server.queueWork(() => {
      throw new Error("sync");
    });
    void server.queueWork(() => Promise.reject(new Error("async")));
    await assert.rejects(
      server.queueWork(() => {
        throw new Error("held");
      }),
      { message: "held" },
    );
    await until(() => errors.length === 3, "all are reported");
    for (const { code } of errors) assert.equal(code, "HOOK_FAILED");
  });
});

describe("slow handlers", () => {
  for (const mode of MODES) {
    test(`two of them never delay a third connection, ${mode}`, async () => {
      const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
      const { server, port } = await answering(
        async (request) => {
          if (request.path === "/long") await asleep;
          request.send(request.path);
        },
        {},
        mode,
      );
      const slow = await Promise.all([1, 2].map(() => RawClient.connect(port, mode)));
      for (const client of slow) client.send(last(GET("/long")));
      await until(() => [...server.sessions].filter(({ busy }) => busy).length === 2, "both run");
      for (let i = 0; i < 3; i++) {
        const [quick] = readResponses(await textFor(port, last(GET("/quick")), mode));
        assert.equal(quick?.body, "/quick");
      }
      for (const client of slow) assert.equal(client.text, "");
      wake();
      for (const client of slow) {
        assert.equal(readResponses(await client.rest())[0]?.body, "/long");
        client.destroy();
      }
    });
  }
});

describe("what a request names twice, or names wrongly", () => {
  for (const mode of MODES) {
    test(`of two hosts the target's is meant, whichever face looks, over ${mode}`, async () => {
      const host = await started(
        (request) => Response.json([request.url, request.headers.get("host")]),
        {},
        mode,
      );
      host.server.route({
        uri: "/httpd",
        method: "GET",
        handler: ({ uri, headers }) => Response.json([uri, headers.get("host")]),
      });
      const { port } = host.server.address;
      const scheme = mode === "tls" ? "https" : "http";
      for (const path of ["/fetch", "/httpd"]) {
        const ask = `GET http://b:81${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
        const [answer] = readResponses(await textFor(port, last(ask), mode), ["GET"]);
        const url = path === "/fetch" ? `${scheme}://b:81${path}` : `http://b:81${path}`;
        assert.deepEqual(JSON.parse(answer!.body), [url, "b:81"]);
      }
    });
  }

  test("an unknown transfer coding is distinguished from an unknown method", async () => {
    const host = await started(() => new Response());
    const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    const [coding] = readResponses(await textFor(host.port, head), ["POST"]);
    const [method] = readResponses(await textFor(host.port, head.replace("POST", "BREW")), [
      "POST",
    ]);
    assert.deepEqual([coding?.status, coding?.body], [
      501,
      "Server does not support this transfer coding",
    ]);
    assert.deepEqual([method?.status, method?.body], [501, "Server does not support this method"]);
    await until(() => host.errors.length === 2, "both are reported");
    assert.deepEqual(host.errors.map(({ code }) => code), ["UNKNOWN_CODING", "NOT_IMPLEMENTED"]);
  });
});
