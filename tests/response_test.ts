/** How answers are written: to clients that have left, that read or do not, over any transport. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { HttpError, type HttpsdError } from "../lib/errors.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { type ServerSentEvent, serverSentEvents } from "../lib/web/sse.ts";
import {
  answering,
  latin1,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { leaver } from "./response_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

/** So many writes in a row without a turn of the event loop starve it. */
const STARVING = 300_000;

/** A write loop that gives up where nothing else would stop it. */
class EndlessWriter {
  /** What ended the loop. */
  readonly ended: Promise<HttpsdError | "starved">;
  writes = 0;
  readonly #write: (request: HttpdRequest) => Promise<unknown>;
  #end!: (how: HttpsdError | "starved") => void;

  constructor(write: (request: HttpdRequest) => Promise<unknown>) {
    this.#write = write;
    this.ended = new Promise((resolve) => this.#end = resolve);
  }

  readonly handler = async (request: HttpdRequest): Promise<void> => {
    let writesInTurn = 0;
    const counting = setInterval(() => writesInTurn = 0, 1);
    try {
      for (;;) {
        this.writes++;
        if (++writesInTurn > STARVING) return this.#end("starved");
        await this.#write(request);
      }
    } catch (error) {
      this.#end(error as HttpsdError);
      throw error;
    } finally {
      clearInterval(counting);
    }
  };
}

const BYTES = new Uint8Array(1_000).fill(97);

/** How a handler can write for ever. */
const WRITES: Record<string, (request: HttpdRequest) => Promise<unknown>> = {
  "sendChunk()": (request) => request.sendChunk(BYTES),
  "sendChunk() of a text": (request) => request.sendChunk("a"),
  "sendChunk() with a length": (request) => {
    if (!request.sent) request.header("Content-Length", "9007199254740991");
    return request.sendChunk(BYTES);
  },
  "sendRaw()": (request) => request.sendRaw(BYTES),
  "sendStream()": (request) => request.sendStream(endless()),
};

function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: (controller) => controller.enqueue(BYTES) }, {
    highWaterMark: 0,
  });
}

describe("a handler that writes for ever", () => {
  const requests = {
    "a GET": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an HTTP/1.0 GET": "GET / HTTP/1.0\r\n\r\n",
    "a HEAD": "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
  };
  for (const mode of MODES) {
    for (const [what, request] of Object.entries(requests)) {
      for (const [how, write] of Object.entries(WRITES)) {
        if (what === "a HEAD" && how === "sendRaw()") continue; // which knows no HEAD
        if (what === "a HEAD" && how === "sendStream()") continue; // which ends with the head
        test(`${how} to ${what} gets CONNECTION_CLOSED after a reset, ${mode}`, async () => {
          const writer = new EndlessWriter(write);
          const { server, port, errors } = await answering(writer.handler, {}, mode);
          const { client, reset } = await leaver(port, mode);
          client.send(request);
          await client.expect(how === "sendRaw()" ? "a" : "\r\n\r\n");
          reset();
          const end = await writer.ended;
          assert.notEqual(end, "starved");
          assert.equal((end as HttpsdError).code, "CONNECTION_CLOSED");
          await until(() => server.sessions.size === 0, "the session is over");
          assert.deepEqual(errors, []);
        });
      }
    }
  }

  test("holds up no timer while its client reads", async () => {
    const writer = new EndlessWriter(WRITES["sendChunk() of a text"]!);
    const { port } = await answering(writer.handler);
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("a\r\n1\r\na");
    await turns();
    client.destroy();
    assert.equal((await writer.ended as HttpsdError).code, "CONNECTION_CLOSED");
  });

  for (const mode of MODES) {
    test(`gets CONNECTION_CLOSED when its client reads no more, ${mode}`, async () => {
      const writer = new EndlessWriter(WRITES["sendChunk()"]!);
      const { server, port } = await answering(writer.handler, { timeouts: { sendMs: 200 } }, mode);
      const { client, stall, reset } = await leaver(port, mode);
      stall();
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      assert.equal((await writer.ended as HttpsdError).code, "CONNECTION_CLOSED");
      await until(() => server.sessions.size === 0, "the session is over");
      reset();
    });
  }

  test("and goes on whatever it gets holds up no timer", async () => {
    let writes = 0;
    let over = false;
    const rejections = new Set<string>();
    const { server, port } = await answering(async (request) => {
      while (!over && writes < 3 * STARVING) {
        writes++;
        await request.sendChunk("a").catch((error) => rejections.add(error.code));
      }
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("a\r\n1\r\na");
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session is over");
    await turns();
    over = true;
    assert.ok(writes < 3 * STARVING, "it starved the event loop");
    assert.deepEqual([...rejections], ["CONNECTION_CLOSED"]);
  });

  test("without waiting does not end the process when its client leaves", async () => {
    const { server, port, errors } = await answering((request) => {
      request.detach();
      for (let i = 0; i < 200; i++) void request.sendChunk(new Uint8Array(100_000));
      void request.sendStream(endless()).catch(() => {});
    });
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session is over");
    await turns(); // for rejections that nothing handles
    assert.deepEqual(errors.map(({ code }) => code), ["ALREADY_SENT"]); // of the stream
  });

  test("events, and looks at no answer, holds up no timer when its client has left", async () => {
    let sent = 0;
    let over = false;
    const { server, port, errors } = await started((request) =>
      serverSentEvents(request, async ({ send }) => {
        while (!over && ++sent < 3 * STARVING) await send({ data: "a" });
      })
    );
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("data: a");
    client.destroy();
    await until(() => server.sessions.size === 0, "the session is over");
    await turns();
    over = true;
    assert.ok(sent < 3 * STARVING, "it starved the event loop");
    assert.deepEqual(errors, []);
  });

  test("in an error handler is no error when its client leaves", async () => {
    const { server, port, errors } = await answering(() => {
      throw new HttpError(404, "ROUTE_NOT_FOUND", "Not here");
    });
    const { promise, resolve } = Promise.withResolvers<string>();
    server.onError(404, async (_error, request) => {
      try {
        for (;;) await request!.sendChunk("a");
      } catch (error) {
        resolve((error as HttpsdError).code);
        throw error;
      }
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("a\r\n1\r\na");
    client.socket.resetAndDestroy();
    assert.equal(await promise, "CONNECTION_CLOSED");
    await until(() => server.sessions.size === 0, "the session is over");
    assert.deepEqual(errors.map(({ code }) => code), ["ROUTE_NOT_FOUND"]);
  });

  for (const name of ["sendChunk()", "sendStream()"]) {
    test(`${name} without a socket gets CONNECTION_CLOSED when the reader leaves`, async () => {
      const writer = new EndlessWriter(WRITES[name]!);
      const errors: HttpsdError[] = [];
      const app = createEdgeApp({ reportError: (error) => void errors.push(error) });
      app.route({ uri: "/", method: "GET", handler: writer.handler });
      const reader = (await app.fetch(new Request("http://a/"))).body!.getReader();
      await reader.read();
      await reader.cancel();
      const end = await writer.ended;
      assert.notEqual(end, "starved");
      assert.equal((end as HttpsdError).code, "CONNECTION_CLOSED");
      assert.deepEqual(errors, []);
    });
  }
});

describe("205", () => {
  const FIELD = /\r\nContent-Length: 0\r\n/;

  for (
    const [how, answer] of Object.entries<(request: HttpdRequest) => unknown>({
      "send()": (request) => request.status(205).send("a body"),
      "sendChunk()": async (request) => {
        await request.status(205).sendChunk("a body");
        request.end();
      },
      "sendStream()": (request) => request.status(205).sendStream(new Blob(["a body"]).stream()),
    })
  ) {
    test(`by ${how} has no body, and says so`, async () => {
      const { port, errors } = await answering(async (request) => void await answer(request));
      const client = await RawClient.connect(port);
      client.send(latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2)));
      await client.until(() => client.text.split(FIELD).length === 3);
      const responses = readResponses(client.text);
      assert.deepEqual(responses.map(({ status, body }) => [status, body]), [[205, ""], [205, ""]]);
      assert.deepEqual(errors, []);
      client.destroy();
    });
  }

  test("without a socket has none either", async () => {
    const app = createEdgeApp();
    app.route({
      uri: "/",
      method: "GET",
      handler: (request) => request.status(205).send("a body"),
    });
    const response = await app.fetch(new Request("http://a/"));
    assert.deepEqual([response.status, response.body], [205, null]);
  });
});

describe("a stream that waits for its source", () => {
  /** A stream that gives one chunk, and then nothing more. */
  function quiet(cancelled: (reason: unknown) => void): ReadableStream<Uint8Array<ArrayBuffer>> {
    return new ReadableStream({
      start: (controller) => controller.enqueue(new Uint8Array(10)),
      cancel: cancelled,
    });
  }

  /** What answers with a quiet stream. */
  const answers: Record<string, (cancelled: (reason: unknown) => void) => FetchHandler> = {
    "a Response's body": (cancelled) => () => new Response(quiet(cancelled)),
    "events of an iterator": (cancelled) => (request) =>
      serverSentEvents(request, {
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise<IteratorResult<ServerSentEvent>>(() => {}),
          return: (value?: unknown) => {
            cancelled(undefined);
            return Promise.resolve({ done: true as const, value });
          },
        }),
      }),
    "Hono's stream()": (cancelled) => (request) =>
      new Hono().get("/", (c) =>
        stream(c, async (out) => {
          out.onAbort(() => cancelled(undefined));
          await out.write("0123456789");
          await new Promise(() => {});
        })).fetch(request) as Promise<Response>,
  };

  for (const mode of MODES) {
    for (const [what, answer] of Object.entries(answers)) {
      test(`is cancelled soon after FIN: ${what}, ${mode}`, async () => {
        const { promise, resolve } = Promise.withResolvers<unknown>();
        const { server, port, errors } = await started(answer(resolve), {
          timeouts: { lingerMs: 100 },
        }, mode);
        const client = await RawClient.connect(port, mode);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.expect(/\r\n\r\n./);
        client.end();
        await promise;
        await until(() => server.sessions.size === 0, "the session is over");
        assert.deepEqual(errors, []);
        client.destroy();
      });
    }

    test(`is cancelled soon after FIN: sendStream(), ${mode}`, async () => {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const host = await answering((request) => request.sendStream(quiet(resolve)), {
        timeouts: { lingerMs: 100 },
      }, mode);
      const client = await RawClient.connect(host.port, mode);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.expect(/\r\n\r\n./);
      client.end();
      await promise;
      await until(() => host.server.sessions.size === 0, "the session is over");
      assert.deepEqual(host.errors, []);
      client.destroy();
    });
  }

  test("is cancelled soon, too, when FIN comes before it and it gives nothing", async () => {
    const { promise: cancelled, resolve: cancel } = Promise.withResolvers<unknown>();
    const { port, errors } = await started(async (request) => {
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      return new Response(new ReadableStream({ cancel }));
    }, { timeouts: { lingerMs: 100 } });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.end();
    await cancelled;
    assert.deepEqual(errors, []);
    client.destroy();
  });

  test("is not taken for whole by an HTTP/1.0 client that still reads", async () => {
    const { port, errors } = await started(() => new Response(quiet(() => {})), {
      timeouts: { lingerMs: 100 },
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.end();
    await client.rest().catch(() => {});
    await client.until(() => client.closed);
    assert.equal(client.ended, false, "it was reset, and did not end");
    assert.deepEqual(errors, []);
  });

  test("holds no place for a client that has left", async () => {
    const { server, port } = await started(
      (request) =>
        new URL(request.url).pathname === "/" ? new Response(quiet(() => {})) : new Response("in"),
      { timeouts: { lingerMs: 100 }, limits: { maxConnections: 5, lruPurge: false } },
    );
    for (let i = 0; i < 5; i++) {
      const client = await RawClient.connect(port);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.expect(/\r\n\r\n./);
      client.end();
    }
    assert.ok(server.sessions.size > 0, "some are still there");
    const newcomer = await RawClient.connect(port);
    newcomer.send("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
    await newcomer.expect("\r\n\r\nin");
    newcomer.destroy();
  });

  for (const mode of MODES) {
    test(`gives a half-closed client all of what comes steadily, ${mode}`, async () => {
      const clock = new TestClock();
      const { port, errors } = await started(
        () => {
          let left = 20;
          return new Response(
            new ReadableStream({
              async pull(controller) {
                await clock.advance(25); // in all, five times as long as a pause may be
                controller.enqueue(Uint8Array.of(97));
                if (--left === 0) controller.close();
              },
            }, { highWaterMark: 0 }),
          );
        },
        { timeouts: { lingerMs: 2_000, sendMs: 100 } },
        mode,
        clock,
      );
      const client = await RawClient.connect(port, mode);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      client.end();
      const [response] = readResponses(await client.rest());
      assert.equal(response!.body, "a".repeat(20));
      assert.deepEqual(errors, []);
      client.destroy();
    });
  }

  test("is cancelled, however many there are of one request", async () => {
    const reasons: unknown[] = [];
    const { server, port } = await answering(async (request) => {
      request.sendStream(quiet((reason) => reasons.push(reason))).catch(() => {});
      // The second is refused; what it was given is cancelled for that, and not with the client.
      await assert.rejects(request.sendStream(quiet((reason) => reasons.push(reason))), {
        code: "ALREADY_SENT",
      });
      request.detach();
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect(/\r\n\r\n./);
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session is over");
    await until(() => reasons.length === 2, "both are cancelled");
  });

  test("is cancelled when its handler fails meanwhile", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const { port, errors } = await answering(async (request) => {
      request.sendStream(quiet(resolve)).catch(() => {});
      await turns(5);
      throw new Error("meanwhile");
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.rest();
    await promise;
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
    client.destroy();
  });
});

for (const mode of MODES) {
  for (const framing of ["a length", "chunks"]) {
    for (const size of [3_000, 8_192, 60_000, 65_536, 200_000]) {
      const what = `${size} bytes again that were sent with ${framing}, ${mode}`;
      test(`A handler may use the memory of ${what}`, async () => {
        const COUNT = 60;
        const { port } = await answering(
          async (request) => {
            const piece = new Uint8Array(size);
            if (framing === "a length") request.header("Content-Length", `${COUNT * size}`);
            for (let i = 0; i < COUNT; i++) await request.sendChunk(piece.fill(97 + i % 26));
            request.end();
          },
          {},
          mode,
        );
        const client = await RawClient.connect(port, mode);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        const [{ body }] = readResponses(await client.rest()) as [WireResponse];
        assert.equal(body.length, COUNT * size);
        for (let i = 0; i < COUNT; i++) {
          const sent = String.fromCharCode(97 + i % 26).repeat(size);
          assert.ok(body.slice(i * size, (i + 1) * size) === sent, `Piece ${i} was changed`);
        }
      });
    }
  }
}
