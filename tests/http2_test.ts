/**
 * HTTP/2 on sockets, with TLS and without: requests and answers of every shape, streams beside each
 * other, and how a connection ends. The client has nothing of the server's own code.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import {
  Code,
  data,
  goaway,
  headers,
  Http2Client,
  requestFields,
  reset,
  Setting,
  Type,
} from "./http2_client.ts";
import {
  type Mode,
  MODES,
  RawClient,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { blocks, digestOf, engineOf, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

/** A promise and what settles it. */
function gate(): { opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}

const hello: FetchHandler = () => new Response("hello");

/** Serves with a handler in a mode, and connects a client. */
async function serving(
  mode: Mode,
  handler: FetchHandler | undefined,
  options: HttpsServerOptions = {},
  client: Parameters<typeof Http2Client.connect>[2] = {},
): Promise<Started & { client: Http2Client }> {
  const host = await started(handler, options, mode);
  return { ...host, client: await Http2Client.connect(host.port, mode, client) };
}

for (const mode of MODES) {
  describe(`HTTP/2, ${mode}`, () => {
    test("answers a GET", async () => {
      const { client } = await serving(mode, (request) => {
        const { method, url } = request;
        return Response.json({ method, url, host: request.headers.get("host") });
      });
      const answer = await client.fetch({ path: "/a?b=c", authority: "localhost:1" });
      assert.equal(answer.status, 200);
      assert.match(answer.fields["content-type"]!, /^application\/json/);
      assert.equal(answer.fields["content-length"], String(answer.body.length));
      assert.match(answer.fields["date"]!, / GMT$/);
      assert.deepEqual(JSON.parse(answer.body.toString()), {
        method: "GET",
        url: `${mode === "tls" ? "https" : "http"}://localhost:1/a?b=c`,
        host: "localhost:1",
      });
    });

    test("serves HTTP/1.1 on the same port", async () => {
      const { port } = await started(hello, {}, mode);
      const raw = await RawClient.connect(port, mode);
      raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      assert.match(await raw.rest(), /^HTTP\/1\.1 200 OK\r\n[^]*hello$/);
    });

    test("announces its limits, and acknowledges the client's settings", async () => {
      const { client } = await serving(mode, hello, { http2: { maxConcurrentStreams: 7 } });
      await client.ready();
      assert.equal(client.settings.get(Setting.MAX_CONCURRENT_STREAMS), 7);
      assert.equal(client.settings.get(Setting.INITIAL_WINDOW_SIZE), 262_144);
      assert.equal(client.settings.get(Setting.MAX_HEADER_LIST_SIZE), 16_384);
      assert.equal(client.settings.get(Setting.ENABLE_CONNECT_PROTOCOL), 1);
      assert.equal(client.settings.get(Setting.NO_RFC7540_PRIORITIES), 1);
    });

    test("reads a body", async () => {
      const { client } = await serving(mode, async (request) => new Response(await request.text()));
      const answer = await client.fetch({ method: "POST" }, "a body");
      assert.equal(answer.body.toString(), "a body");
    });

    test("streams both ways at once", async () => {
      const { client } = await serving(mode, (request) => new Response(request.body));
      const id = client.request({ method: "POST" }, "one", { endStream: false });
      await client.until(() => client.soFar(id).body.toString() === "one", "the first piece");
      client.send(data(id, "two", { endStream: true }));
      const answer = await client.answer(id);
      assert.equal(answer.body.toString(), "onetwo");
    });

    test("answers streams in the order in which they are ready", async () => {
      const slow = gate();
      const { client } = await serving(mode, async (request) => {
        if (request.url.endsWith("/slow")) await slow.opened;
        return new Response(new URL(request.url).pathname);
      });
      const first = client.request({ path: "/slow" });
      const second = await client.fetch({ path: "/fast" });
      assert.equal(second.body.toString(), "/fast");
      assert.equal(client.soFar(first).status, 0);
      slow.open();
      assert.equal((await client.answer(first)).body.toString(), "/slow");
    });

    test("sends a long body within the client's windows", async () => {
      const SIZE = 3_000_000;
      const body = Buffer.concat([...blocks(SIZE)]);
      const { client } = await serving(mode, () => new Response(body));
      const answer = await client.fetch();
      assert.equal(digestOf([answer.body]), digestOf([body]));
    });

    test("takes a long body within its own windows", async () => {
      const { port } = await started(
        async (request) => new Response(digestOf([await request.bytes()])),
        {},
        mode,
      );
      const client = await Http2Client.connect(port, mode);
      await client.ready();
      const id = client.request({ method: "POST" }, undefined, { endStream: false });
      const body = Buffer.concat([...blocks(200_000)]);
      for (let at = 0; at < body.length; at += 10_000) {
        const last = at + 10_000 >= body.length;
        client.send(data(id, body.subarray(at, at + 10_000), { endStream: last }));
      }
      assert.equal((await client.answer(id)).body.toString(), digestOf([body]));
    });

    test("gives back a stream's window only when its handler reads", async () => {
      const read = gate();
      const { client } = await serving(mode, async (request) => {
        await read.opened;
        return new Response(String((await request.bytes()).length));
      }, { http2: { streamWindowBytes: 40_000 } });
      await client.ready();
      const id = client.request({ method: "POST" }, new Uint8Array(16_000), { endStream: false });
      client.send(data(id, new Uint8Array(16_000), { endStream: false }));
      await client.settled();
      assert.equal(client.count(Type.WINDOW_UPDATE, id), 0);
      read.open();
      await client.until(() => client.count(Type.WINDOW_UPDATE, id) > 0, "the window");
      client.send(data(id, "end"));
      assert.equal((await client.answer(id)).body.toString(), "32003");
    });

    test("holds back what a client's window does not take, on that stream alone", async () => {
      const { client } = await serving(
        mode,
        (request) => new Response("x".repeat(request.url.endsWith("/long") ? 100 : 1)),
        {},
        { settings: [[Setting.INITIAL_WINDOW_SIZE, 10]], giveBack: false },
      );
      const long = client.request({ path: "/long" });
      assert.equal((await client.fetch({ path: "/short" })).body.toString(), "x");
      assert.equal(client.soFar(long).body.length, 10);
      client.send(windowUpdateOf(long, 90));
      assert.equal((await client.answer(long)).body.length, 100);
    });

    test("aborts request.signal when the client resets the stream, and serves the others", async () => {
      const aborted = gate();
      const { client, errors } = await serving(mode, async (request) => {
        if (!request.url.endsWith("/wait")) return new Response("other");
        const { promise, resolve } = Promise.withResolvers<Response>();
        request.signal.addEventListener("abort", () => {
          aborted.open();
          resolve(new Response("too late"));
        });
        return await promise;
      });
      const id = client.request({ path: "/wait" });
      await client.settled();
      client.send(reset(id, Code.CANCEL));
      await aborted.opened;
      assert.equal((await client.fetch()).body.toString(), "other");
      assert.deepEqual(errors, []);
      assert.equal(client.soFar(id).status, 0);
    });

    test("resets the stream of an answer that fails in the middle", async () => {
      const { client, errors } = await serving(mode, (request) => {
        if (!request.url.endsWith("/fails")) return new Response("other");
        let pulls = 0;
        return new Response(
          new ReadableStream({
            async pull(controller) {
              if (pulls++ === 0) return controller.enqueue(new Uint8Array(10));
              await new Promise((resolve) => setTimeout(resolve, 1));
              throw new Error("on purpose");
            },
          }),
        );
      });
      const answer = await client.fetch({ path: "/fails" });
      assert.equal(answer.reset, "INTERNAL_ERROR");
      assert.equal((await client.fetch()).body.toString(), "other");
      assert.equal(errors.length, 1);
    });

    test("sends interim responses and trailers, and reads trailers", async () => {
      const { server, client } = await serving(mode, undefined);
      server.route({
        uri: "/",
        method: "POST",
        async handler(request) {
          request.inform(103, [["Link", "</a.css>; rel=preload"]]);
          let text = "";
          for (let piece; (piece = await request.recv()) !== undefined;) {
            text += Buffer.from(piece).toString();
          }
          await request.sendChunk(text);
          request.end([["X-Sum", String(request.trailers)]]);
        },
      });
      const id = client.request({ method: "POST" }, "body", { endStream: false });
      client.send(headers(id, [["x-check", "1"]]));
      const answer = await client.answer(id);
      assert.deepEqual(answer.informational, [
        { status: 103, fields: { link: "</a.css>; rel=preload" } },
      ]);
      assert.equal(answer.body.toString(), "body");
      assert.deepEqual(answer.trailers, { "x-sum": "x-check,1" });
    });

    test("asks for a body that waits for 100 (Continue), when the handler does", async () => {
      const { client } = await serving(mode, async (request) => new Response(await request.text()));
      const id = client.nextStreamId();
      const fields = requestFields({ method: "POST", fields: [["expect", "100-continue"]] });
      client.send(headers(id, fields, { endStream: false }));
      await client.until(() => client.soFar(id).informational.length > 0, "100");
      assert.equal(client.soFar(id).informational[0]?.status, 100);
      client.send(data(id, "body"));
      assert.equal((await client.answer(id)).body.toString(), "body");
    });

    test("resets without an error a stream that is answered before its body has come", async () => {
      const { client } = await serving(mode, () => new Response("enough"), {
        limits: { maxDiscardedBytes: 1_000 },
      });
      await client.ready();
      const id = client.request({ method: "POST" }, "begin", { endStream: false });
      await client.until(() => client.soFar(id).ended, "the answer");
      client.send(data(id, new Uint8Array(2_000), { endStream: false }));
      await client.until(() => client.soFar(id).reset !== undefined, "the reset");
      assert.equal(client.soFar(id).reset, "NO_ERROR");
      assert.equal((await client.fetch()).body.toString(), "enough");
    });

    test("answers a client that ends in the middle of a body, and closes at once", async () => {
      const { client, server } = await serving(mode, (request) =>
        new Promise((resolve) => {
          request.signal.addEventListener("abort", () => resolve(new Response("late")));
        }));
      await client.ready();
      client.request({ method: "POST" }, "begin", { endStream: false });
      await client.settled();
      client.end();
      await client.over();
      await until(() => server.sessions.size === 0, "The session is over");
    });

    test("answers all of a client that has ended its side before anything was read", async () => {
      const { client } = await serving(mode, hello, {
        openFn: async (session) => {
          await until(() => engineOf(session.connection!).peerEnded, "The client has ended");
          return true;
        },
      });
      const ids = [client.request(), client.request()];
      client.end();
      await client.over();
      assert.deepEqual(ids.map((id) => client.soFar(id).status), [200, 200]);
    });

    test("sends no body to HEAD, nor with 204", async () => {
      const { client } = await serving(
        mode,
        ({ method }) =>
          method === "HEAD" ? new Response("hello") : new Response(null, { status: 204 }),
      );
      const head = await client.fetch({ method: "HEAD" });
      assert.deepEqual([head.status, head.fields["content-length"], head.body.length], [
        200,
        "5",
        0,
      ]);
      const none = await client.fetch();
      assert.deepEqual([none.status, none.body.length], [204, 0]);
    });

    test("refuses streams above the limit, and takes the next when a place is free", async () => {
      const wait = gate();
      const { client } = await serving(mode, async () => {
        await wait.opened;
        return new Response("x");
      }, { http2: { maxConcurrentStreams: 2 } });
      await client.ready();
      const ids = [client.request(), client.request(), client.request()];
      assert.equal((await client.answer(ids[2]!)).reset, "REFUSED_STREAM");
      wait.open();
      assert.equal((await client.answer(ids[0]!)).status, 200);
      assert.equal((await client.answer(ids[1]!)).status, 200);
      assert.equal((await client.fetch()).status, 200);
    });

    test("frees the place of a stream that was reset when its handler has settled", async () => {
      const wait = gate();
      const { client } = await serving(mode, async () => {
        await wait.opened;
        return new Response("x");
      }, { http2: { maxConcurrentStreams: 1 } });
      await client.ready();
      client.send(reset(client.request()));
      assert.equal((await client.fetch()).reset, "REFUSED_STREAM");
      wait.open();
      await client.settled();
      assert.equal((await client.fetch()).status, 200);
    });

    test("takes a request behind the reset of another, whose handler ends with its signal", async () => {
      const { client, errors } = await serving(mode, async (request) => {
        if (request.url.endsWith("/next")) return new Response("next");
        await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
        return new Response("too late");
      }, { http2: { maxConcurrentStreams: 1 } });
      await client.ready();
      const id = client.request({ path: "/waits" });
      await client.settled();
      const next = client.nextStreamId();
      client.send(reset(id), headers(next, requestFields({ path: "/next" })));
      assert.equal((await client.answer(next)).body.toString(), "next");
      assert.deepEqual(errors, []);
    });

    test("goes away in order: answers what is under way, and ignores what comes behind", async () => {
      const wait = gate();
      const seen: string[] = [];
      const { server, client } = await serving(mode, async (request) => {
        seen.push(new URL(request.url).pathname);
        await wait.opened;
        return new Response("last");
      });
      await client.ready();
      const id = client.request({ path: "/first" });
      await client.settled();
      const stopped = server.stop({ drainMs: 4_000 });
      await client.until(() => client.goaway !== undefined, "GOAWAY");
      assert.deepEqual(client.goaway, { lastStreamId: id, code: "NO_ERROR", debug: "" });
      client.request({ path: "/second" });
      await client.settled(); // it has been read
      wait.open();
      assert.equal((await client.answer(id)).body.toString(), "last");
      await client.over();
      await stopped;
      assert.deepEqual(seen, ["/first"]);
    });

    test("says how far it came to a client that goes away", async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      const { port } = await started(
        async () => {
          await promise;
          return new Response("well");
        },
        {},
        mode,
      );
      using client = await Http2Client.connect(port, mode);
      await client.ready();
      client.send(headers(1, requestFields()), goaway(), headers(3, requestFields()));
      await client.until(() => client.goaway !== undefined, "GOAWAY");
      assert.deepEqual([client.goaway!.code, client.goaway!.lastStreamId], ["NO_ERROR", 1]);
      await client.settled();
      resolve();
      assert.equal((await client.answer(1)).status, 200);
      await client.over();
      assert.equal(client.soFar(3).status, 0);
    });

    test("calls no handler for a session that a listener has destroyed", async () => {
      let calls = 0;
      const { port, server } = await started(
        () => {
          calls++;
          return new Response("well");
        },
        {},
        mode,
      );
      server.addEventListener("http:header", ({ session }) => session.destroy());
      using client = await Http2Client.connect(port, mode);
      client.send(headers(1, requestFields()));
      await client.over();
      assert.equal(calls, 0);
    });

    test("closes an idle session behind GOAWAY", async () => {
      const clock = new TestClock();
      const { port } = await started(hello, { timeouts: { idleMs: 200 } }, mode, clock);
      const client = await Http2Client.connect(port, mode);
      await client.fetch();
      await clock.until(() => client.goaway !== undefined, "GOAWAY");
      await client.over();
      assert.equal(client.goaway?.code, "NO_ERROR");
    });

    test("takes no more requests than maxRequestsPerConnection", async () => {
      const { client } = await serving(mode, hello, { limits: { maxRequestsPerConnection: 2 } });
      assert.equal((await client.fetch()).status, 200);
      assert.equal((await client.fetch()).status, 200);
      await client.over();
      assert.deepEqual(client.goaway?.lastStreamId, 3);
    });

    test("answers 503 for one that is late, and the others in time", async () => {
      const { client } = await serving(mode, async (request) => {
        if (request.url.endsWith("/late")) await new Promise(() => {});
        return new Response("in time");
      }, { timeouts: { handlerMs: 200 } });
      const late = client.request({ path: "/late" });
      assert.equal((await client.fetch()).status, 200);
      assert.equal((await client.answer(late)).status, 503);
    });

    test("answers 408 for a body that does not come in time", async () => {
      const { client } = await serving(
        mode,
        async (request) => new Response(await request.text()),
        { timeouts: { receiveMs: 200 } },
      );
      const id = client.request({ method: "POST" }, "begin", { endStream: false });
      assert.equal((await client.answer(id)).status, 408);
      assert.equal((await client.fetch({ method: "POST" }, "whole")).status, 200);
    });

    test("resets a stream whose client gives it no window in time", async () => {
      const { client } = await serving(
        mode,
        () => new Response("x".repeat(100)),
        { timeouts: { sendMs: 200 } },
        { settings: [[Setting.INITIAL_WINDOW_SIZE, 10]], giveBack: false },
      );
      assert.equal((await client.fetch()).reset, "CANCEL");
    });

    test("refuses heads that are too long, with a status", async () => {
      const { client } = await serving(mode, hello, {
        limits: { maxHeaderBytes: 500, maxUriBytes: 100 },
      });
      assert.equal((await client.fetch({ path: "/" + "x".repeat(200) })).status, 414);
      const fields = [["x", "y".repeat(600)]] as const;
      assert.equal((await client.fetch({ fields })).status, 431);
      assert.equal((await client.fetch()).status, 200);
    });

    test("refuses a malformed head with a reset", async () => {
      const { client, errors } = await serving(mode, hello);
      assert.equal((await client.fetch({ fields: [["Upper", "x"]] })).reset, "PROTOCOL_ERROR");
      assert.equal(
        (await client.fetch({ fields: [["connection", "close"]] })).reset,
        "PROTOCOL_ERROR",
      );
      assert.equal((await client.fetch()).status, 200);
      assert.deepEqual(errors.map(({ code }) => code), ["BAD_REQUEST", "BAD_REQUEST"]);
    });

    test("reports events in the order that HTTP/1.1 has", async () => {
      const host = await started(hello, {}, mode);
      const seen: string[] = [];
      for (
        const type of [
          "connected",
          "http:connected",
          "http:header",
          "http:headerssent",
          "http:sent",
          "http:disconnected",
          "disconnected",
        ] as const
      ) host.server.addEventListener(type, () => seen.push(type));
      const client = await Http2Client.connect(host.port, mode);
      await client.fetch();
      client.end();
      await until(() => seen.includes("disconnected"), "the end");
      assert.deepEqual(seen, [
        "connected",
        "http:connected",
        "http:header",
        "http:headerssent",
        "http:sent",
        "http:disconnected",
        "disconnected",
      ]);
    });

    test("lets one session go by its hooks, before anything is read", async () => {
      const { client } = await serving(mode, hello, { openFn: () => false });
      await client.until(() => client.closed || client.ended, "the end").catch(() => {});
      assert.equal(client.frames.length, 0);
    });
  });
}

function windowUpdateOf(streamId: number, increment: number): Uint8Array {
  const bytes = Buffer.alloc(13);
  bytes[2] = 4;
  bytes[3] = Type.WINDOW_UPDATE;
  bytes.writeUInt32BE(streamId, 5);
  bytes.writeUInt32BE(increment, 9);
  return bytes;
}

describe("the preface", () => {
  for (const size of [1, 3, 23, 24]) {
    test(`is found in pieces of ${size}`, async () => {
      const { port } = await started(hello);
      const client = await Http2Client.connect(port, "plain", {
        settings: null,
        acknowledge: false,
      });
      const bytes = Buffer.concat([
        Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
      ]);
      for (let at = 0; at < bytes.length; at += size) {
        client.send(bytes.subarray(at, at + size));
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      assert.equal((await client.fetch()).body.toString(), "hello");
    });
  }

  test("is no preface where it goes on as HTTP/1.1", async () => {
    const { port } = await started(({ method }) => new Response(method));
    const raw = await RawClient.connect(port);
    raw.send("P");
    await new Promise((resolve) => setTimeout(resolve, 5));
    raw.send("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert.match(await raw.rest(), /POST$/);
  });

  test("has the time that a head has", async () => {
    const { port } = await started(hello, { timeouts: { headersMs: 200 } });
    const raw = await RawClient.connect(port);
    raw.send("PRI * HT");
    assert.match(await raw.rest(), /^HTTP\/1\.1 408 /);
  });

  test("means nothing where HTTP/2 is turned off", async () => {
    const { port } = await started(hello, { http2: false });
    const raw = await RawClient.connect(port);
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert.match(await raw.rest(), /^HTTP\/1\.1 50[15] /);
  });
});

describe("http1: false", () => {
  for (const mode of MODES) {
    test(`serves HTTP/2 alone, ${mode}`, async () => {
      const { client } = await serving(mode, hello, { http1: false });
      assert.equal((await client.fetch()).status, 200);
    });
  }
});
