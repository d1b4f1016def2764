/**
 * What works on HTTP/1.1 works on HTTP/2, with no change in a handler: one test for each thing, since
 * the rooms above the driver have tests of their own.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { Hono } from "hono";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import { getConnInfo, type HttpsdEnv } from "../lib/hono/mod.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { serverSentEvents } from "../lib/web/sse.ts";
import { data, Http2Client, reset, Setting } from "./http2_client.ts";
import { type Mode, MODES, type Started, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { alice, clientCa, localhost, pairFor, serverCa } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();

const hello: FetchHandler = () => new Response("hello");

async function serving(
  handler: FetchHandler | undefined,
  options: Parameters<typeof started>[1] = {},
  mode: Mode = "plain",
): Promise<Started & { client: Http2Client }> {
  const host = await started(handler, options, mode);
  return { ...host, client: await Http2Client.connect(host.port, mode) };
}

describe("over HTTP/2", () => {
  test("a session keeps its context for all requests of its connection", async () => {
    const { client, port } = await serving((_, { session }) => {
      session.context = (session.context as number ?? 0) + 1;
      return new Response(`${session.context} ${session.requests}`);
    });
    assert.equal((await client.fetch()).body.toString(), "1 1");
    assert.equal((await client.fetch()).body.toString(), "2 2");
    const other = await Http2Client.connect(port);
    assert.equal((await other.fetch()).body.toString(), "1 1");
  });

  test("an error handler answers, and the connection goes on", async () => {
    const { client, server, errors } = await serving(() => {
      throw new Error("on purpose");
    });
    server.onError(500, (_, request) => request!.status(500).send("sorry"));
    for (let i = 0; i < 2; i++) {
      const answer = await client.fetch();
      assert.deepEqual([answer.status, answer.body.toString()], [500, "sorry"]);
    }
    assert.equal(client.goaway, undefined);
    assert.equal(errors.length, 2);
  });

  test("an error handler answers for an answer that HTTP does not allow, and the connection goes on", async () => {
    const { client, server } = await serving(() =>
      new Response("abc", { headers: { "content-length": "5" } })
    );
    server.onError(500, (_, request) => request!.status(500).send("sorry"));
    for (let i = 0; i < 2; i++) {
      const answer = await client.fetch();
      assert.deepEqual([answer.status, answer.body.toString()], [500, "sorry"]);
    }
    await client.settled();
    assert.equal(client.goaway, undefined);
  });

  const pieces = MODES.flatMap((mode) =>
    [2_000, 8_000, 16_000, 17_000, 40_000, 100_000].map((size) => [mode, size] as const)
  );
  for (const [mode, size] of pieces) {
    test(`a handler may use the memory of ${size} bytes again that were sent, ${mode}`, async () => {
      const COUNT = 60;
      const { client, server } = await serving(undefined, {}, mode);
      server.route({
        uri: "/",
        method: "GET",
        handler: async (request) => {
          const piece = new Uint8Array(size);
          for (let i = 0; i < COUNT; i++) await request.sendChunk(piece.fill(i));
          request.end();
        },
      });
      client.socket.pause(); // the socket takes no more in the midst of it
      const id = client.request();
      setTimeout(() => client.socket.resume(), 20);
      const { body } = await client.answer(id);
      assert.equal(body.length, COUNT * size);
      for (let i = 0; i < COUNT; i++) {
        const piece = body.subarray(i * size, (i + 1) * size);
        assert.ok(piece.every((byte) => byte === i), `Piece ${i} was changed`);
      }
    });
  }

  test("routes answer 404 and 405", async () => {
    const { client, server } = await serving(undefined);
    server.route({ uri: "/", method: "GET", handler: (request) => request.send("x") });
    assert.equal((await client.fetch({ path: "/none" })).status, 404);
    const wrong = await client.fetch({ method: "DELETE" });
    assert.deepEqual([wrong.status, wrong.fields["allow"]], [405, "GET, HEAD"]);
  });

  test("a detached request is answered later, beside others", async () => {
    let kept: HttpdRequest | undefined;
    const { client, server } = await serving(undefined);
    server.route({
      uri: "/",
      method: "GET",
      handler(request) {
        if (kept !== undefined) return request.send("at once");
        kept = request;
        request.detach();
      },
    });
    const id = client.request();
    await client.settled();
    assert.equal((await client.fetch()).body.toString(), "at once");
    kept!.send("later");
    assert.equal((await client.answer(id)).body.toString(), "later");
  });

  test("a detached request whose stream was reset is over when it is completed", async () => {
    let kept: HttpdRequest | undefined;
    const { client, server } = await serving(undefined, { http2: { maxConcurrentStreams: 1 } });
    server.route({
      uri: "/",
      method: "GET",
      handler(request) {
        kept = request;
        request.detach();
      },
    });
    await client.ready();
    const id = client.request();
    await client.settled();
    client.send(reset(id));
    await until(() => kept!.signal.aborted, "The signal is aborted");
    assert.equal((await client.fetch()).reset, "REFUSED_STREAM");
    kept!.complete();
    client.request();
    await client.settled();
    kept!.send("second");
    await client.until(() => client.frames.some(({ payload }) => `${payload}` === "second"), "it");
  });

  test("a detached request that is not answered in time gets 503", async () => {
    const { client, server } = await serving(undefined);
    server.route({ uri: "/", method: "GET", handler: (request) => request.detach(100) });
    assert.equal((await client.fetch()).status, 503);
  });

  test("info.completed resolves with the last byte, and rejects with a reset", async () => {
    const outcomes: string[] = [];
    const { client } = await serving(
      (request, info) => {
        const path = new URL(request.url).pathname;
        info.completed.then(
          () => outcomes.push(`${path} done`),
          () => outcomes.push(`${path} cut`),
        );
        return path === "/wait" ? new Promise(() => {}) : new Response("x".repeat(100));
      },
    );
    client.send(reset(client.request({ path: "/wait" })));
    await until(() => outcomes.length === 1, "The first is over");
    await client.fetch({ path: "/whole" });
    await until(() => outcomes.length === 2, "The second is over");
    assert.deepEqual(outcomes, ["/wait cut", "/whole done"]);
  });

  test("what needs raw bytes throws NOT_SUPPORTED", async () => {
    const { client, server } = await serving(undefined);
    const thrown: unknown[] = [];
    const attempt = async (call: () => unknown) => {
      try {
        await call();
      } catch (error) {
        thrown.push((error as { code: string }).code);
      }
    };
    server.route({
      uri: "/",
      method: "GET",
      async handler(request) {
        await attempt(() => request.session.send(new Uint8Array(1)));
        await attempt(() => request.rawHead);
        await attempt(() => request.sendRaw("x"));
        request.send("done");
      },
    });
    assert.equal((await client.fetch()).body.toString(), "done");
    assert.deepEqual(thrown, ["NOT_SUPPORTED", "NOT_SUPPORTED", "NOT_SUPPORTED"]);
  });

  test("session.close() and Connection: close go away behind what is under way", async () => {
    for (const how of ["session", "field"]) {
      const { client } = await serving((_, { session }) => {
        if (how === "session") session.close();
        return new Response("last", how === "field" ? { headers: { connection: "close" } } : {});
      });
      const answer = await client.fetch();
      assert.equal(answer.body.toString(), "last");
      assert.ok(!("connection" in answer.fields));
      await client.over();
      assert.deepEqual([client.goaway?.code, client.goaway?.lastStreamId], ["NO_ERROR", 1]);
    }
  });

  test("session.destroy() cuts the connection with all its streams", async () => {
    const { client } = await serving((request, { session }) => {
      if (request.url.endsWith("/cut")) session.destroy();
      return new Promise(() => {});
    });
    client.request();
    client.request({ path: "/cut" });
    await client.over();
    assert.equal(client.goaway, undefined);
  });

  test("an idle session makes room, and one with a request under way does not", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { client: busy, port } = await serving(async (request) => {
      if (request.url.endsWith("/wait")) await promise;
      return new Response("x");
    }, { limits: { maxConnections: 2 } });
    const id = busy.request({ path: "/wait" });
    const idle = await Http2Client.connect(port);
    await idle.fetch();
    const newcomer = await Http2Client.connect(port);
    assert.equal((await newcomer.fetch()).status, 200);
    await idle.over();
    assert.equal(idle.goaway?.code, "NO_ERROR");
    assert.equal(busy.goaway, undefined);
    resolve();
    assert.equal((await busy.answer(id)).status, 200);
  });

  test("where a newcomer waits, a session goes away behind its answer", async () => {
    const { client, port, server } = await serving(async (request) => {
      if (request.url.endsWith("/wait")) {
        await until(() => server.counters.waiting > 0, "A newcomer waits");
      }
      return new Response("x");
    }, { limits: { maxConnections: 1 } });
    const id = client.request({ path: "/wait" });
    await client.settled();
    const newcomer = await Http2Client.connect(port);
    assert.equal((await client.answer(id)).status, 200);
    await client.over();
    assert.equal(client.goaway?.lastStreamId, id);
    assert.equal((await newcomer.fetch()).status, 200);
  });

  test("files are served, with ranges and conditions", async () => {
    const directory = mkdtempSync(join(tmpdir(), "httpsd-http2-"));
    writeFileSync(join(directory, "a.txt"), "0123456789");
    const files = serveFiles(directory);
    const { client } = await serving((request) => files(request));
    const whole = await client.fetch({ path: "/a.txt" });
    assert.deepEqual([whole.status, whole.body.toString()], [200, "0123456789"]);
    const part = await client.fetch({ path: "/a.txt", fields: [["range", "bytes=2-4"]] });
    assert.deepEqual([part.status, part.body.toString()], [206, "234"]);
    const fields = [["if-none-match", whole.fields["etag"]!]] as const;
    assert.equal((await client.fetch({ path: "/a.txt", fields })).status, 304);
    rmSync(directory, { recursive: true });
  });

  test("events are sent one by one, and their source ends with the stream", async () => {
    let left = false;
    const { client } = await serving((request) =>
      serverSentEvents(request, async (sender) => {
        await sender.send({ data: "one" });
        await new Promise<void>((resolve) =>
          request.signal.addEventListener("abort", () => resolve())
        );
        left = true;
      })
    );
    const id = client.request();
    await client.until(() => client.soFar(id).body.toString().includes("one"), "an event");
    client.send(reset(id));
    await until(() => left, "The source ends");
  });

  test("answers are compressed", async () => {
    const text = "text ".repeat(1_000);
    const { client } = await serving((request) =>
      compress(new Response(text, { headers: { "content-type": "text/plain" } }), request)
    );
    const answer = await client.fetch({ fields: [["accept-encoding", "gzip"]] });
    assert.equal(answer.fields["content-encoding"], "gzip");
    assert.equal(gunzipSync(answer.body).toString(), text);
  });

  test("a Hono app answers, and knows its client", async () => {
    const app = new Hono<HttpsdEnv>();
    app.get("/address", (c) => c.text(getConnInfo(c).remote.address!));
    const { client } = await serving((request, info) => app.fetch(request, info));
    assert.equal((await client.fetch({ path: "/address" })).body.toString(), "127.0.0.1");
  });

  test("a handler is stopped by back-pressure, and others are not", async () => {
    let written = 0;
    const { client, server } = await serving(undefined, {});
    server.route({
      uri: "/long",
      method: "GET",
      async handler(request) {
        for (; written < 100; written++) await request.sendChunk(new Uint8Array(64 * 1024));
        request.end();
      },
    });
    server.route({ uri: "/", method: "GET", handler: (request) => request.send("short") });
    client.giveBack = false;
    const id = client.request({ path: "/long" });
    await client.until(() => client.soFar(id).body.length === 65_535, "the window");
    await client.settled();
    assert.ok(written <= 2, `${written} pieces were written`);
    client.send(reset(id));
    client.send(Uint8Array.from([0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0]));
    assert.equal((await client.fetch()).body.toString(), "short");
  });

  test("gRPC's shape: messages both ways at once, and trailers behind them", async () => {
    const { client, server } = await serving(undefined, {});
    server.route({
      uri: "/",
      method: "POST",
      async handler(request) {
        for (let piece; (piece = await request.recv()) !== undefined;) {
          await request.sendChunk(piece);
        }
        request.end([["Grpc-Status", "0"]]);
      },
    });
    const id = client.request({ method: "POST" }, "1", { endStream: false });
    for (const piece of ["2", "3"]) {
      await client.until(() => client.soFar(id).body.toString().endsWith(`${+piece - 1}`), "echo");
      client.send(data(id, piece, { endStream: piece === "3" }));
    }
    const answer = await client.answer(id);
    assert.deepEqual([answer.body.toString(), answer.trailers], ["123", { "grpc-status": "0" }]);
  });
});

describe("over HTTP/2 with TLS", () => {
  const tls = { ca: serverCa.cert };

  test("a client's certificate is seen", async () => {
    const { port } = await started(
      (_, { session }) => new Response(session.tls?.peerCertificate?.subject),
      { ...localhost, clientAuth: { ca: clientCa.cert, mode: "required" } },
      "tls",
    );
    const client = await Http2Client.connect(port, "tls", { tls: { ...tls, ...alice } });
    assert.equal((await client.fetch({ scheme: "https" })).body.toString(), "CN=alice");
  });

  test("a request for a host that the connection may not speak for gets 421, by itself", async () => {
    const { port } = await started(hello, {
      ...localhost,
      identities: [{
        ...await pairFor("a.example"),
        clientAuth: { ca: clientCa.cert, mode: "required" },
      }],
    }, "tls");
    const client = await Http2Client.connect(port, "tls", { tls });
    const wrong = await client.fetch({ scheme: "https", authority: "a.example" });
    assert.equal(wrong.status, 421);
    assert.equal((await client.fetch({ scheme: "https" })).status, 200);
    assert.equal(client.settings.get(Setting.ENABLE_CONNECT_PROTOCOL), 1);
  });
});
