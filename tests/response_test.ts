/** How answers are written: to clients that have left, that read or do not, over any transport. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import process from "node:process";
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
  type Mode,
  MODES,
  RawClient,
  readResponses,
  sleep,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { openRelay, start, until } from "./support.ts";

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
    const turns = setInterval(() => writesInTurn = 0, 1);
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
      clearInterval(turns);
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

/** A client, and what it can do to its connection. */
interface Leaver {
  readonly client: RawClient;
  /** Resets the connection. */
  reset(): void;
  /** Reads no more. */
  stall(): void;
}

/** A client behind a relay: a TLS socket can neither reset the one under it, nor stop it on Deno. */
async function leaver(port: number, mode: Mode): Promise<Leaver> {
  const relay = await openRelay(port);
  const connecting = RawClient.connect(relay.port, mode);
  const { client: ours, server: theirs } = await relay.accept();
  ours.pipe(theirs);
  theirs.pipe(ours);
  const client = await connecting;
  return {
    client,
    reset() {
      theirs.resetAndDestroy();
      client.destroy();
      void relay[Symbol.asyncDispose]();
    },
    stall() {
      theirs.unpipe();
      theirs.pause();
    },
  };
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
        test(`${how} to ${what} is told CONNECTION_CLOSED after a reset, ${mode}`, async () => {
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
    for (let turns = 0; turns < 20; turns++) await sleep(1);
    client.destroy();
    assert.equal((await writer.ended as HttpsdError).code, "CONNECTION_CLOSED");
  });

  for (const mode of MODES) {
    test(`is told CONNECTION_CLOSED when its client reads no more, ${mode}`, async () => {
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

  test("and goes on whatever it is told holds up no timer", async () => {
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
    for (let turns = 0; turns < 20; turns++) await sleep(1);
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
    await sleep(20); // for rejections that nothing handles
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
    for (let turns = 0; turns < 20; turns++) await sleep(1);
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
    test(`${name} without a socket is told CONNECTION_CLOSED when the reader leaves`, async () => {
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
      const { port, errors } = await started(
        () => {
          let left = 20;
          return new Response(
            new ReadableStream({
              async pull(controller) {
                await sleep(25); // in all, five times as long as a pause may be
                controller.enqueue(Uint8Array.of(97));
                if (--left === 0) controller.close();
              },
            }, { highWaterMark: 0 }),
          );
        },
        { timeouts: { lingerMs: 2_000, sendMs: 100 } },
        mode,
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
      await sleep(10);
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

describe("what a handler's callback throws when the client leaves becomes an error event", () => {
  const thrown = new Error("from a callback");
  const fail = (): never => {
    throw thrown;
  };
  const endlessly = () => new ReadableStream({ pull: () => new Promise<void>(() => {}) });

  const handlers: Record<string, FetchHandler> = {
    "a listener of request.signal": (request) => {
      request.signal.addEventListener("abort", fail);
      return new Response(endlessly());
    },
    "request.signal.onabort": (request) => {
      request.signal.onabort = fail;
      return new Response(endlessly());
    },
    "an async listener of request.signal": (request) => {
      request.signal.addEventListener("abort", () => Promise.reject(thrown));
      return new Response(endlessly());
    },
    "cancel() of a body": () => new Response(new ReadableStream({ cancel: fail })),
    "cancel() of a body, later": () =>
      new Response(new ReadableStream({ cancel: () => Promise.reject(thrown) })),
    "return() of an iterator of events": (request) =>
      serverSentEvents(request, {
        [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: fail }),
      }),
    "a listener of an event stream's signal": (request) =>
      serverSentEvents(request, ({ signal }) => {
        signal.addEventListener("abort", fail);
        return new Promise(() => {});
      }),
  };

  for (const mode of MODES) {
    for (const leaves of ["FIN", "a reset"]) {
      for (const [what, handler] of Object.entries(handlers)) {
        test(`${what}, after ${leaves}, ${mode}`, async () => {
          const { server, port, errors } = await started(
            handler,
            { timeouts: { lingerMs: 100 } },
            mode,
          );
          const { client, reset } = await leaver(port, mode);
          client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
          await client.expect("\r\n\r\n");
          if (leaves === "FIN") client.end();
          else reset();
          await until(() => server.sessions.size === 0, "the session is over");
          await until(() => errors.length > 0, "the error is told");
          await sleep(10); // for another that would be too many
          assert.deepEqual(errors.map(({ code, cause }) => [code, cause]), [
            ["HANDLER_FAILED", thrown],
          ]);
          client.destroy();
        });
      }
    }
  }

  test("a listener of request.signal, when the handler takes too long", async () => {
    const { port, errors } = await started((request) => {
      request.signal.addEventListener("abort", fail);
      return new Promise(() => {});
    }, { timeouts: { handlerMs: 50 } });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.equal(readResponses(await client.rest())[0]!.status, 503);
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED", "HANDLER_TIMEOUT"]);
    client.destroy();
  });

  test("a listener of a signal that follows from request.signal", async () => {
    // In a process of its own, since bun test takes uncaught exceptions itself.
    const program = `
      import { HttpsServer } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
      const heard = [];
      process.on("uncaughtException", (error) => heard.push(error.message));
      const server = new HttpsServer({
        transportMode: "insecure", hostname: "127.0.0.1", port: 0,
        timeouts: { lingerMs: 100 },
      }, (request) => {
        const fail = (what) => () => { throw new Error(what); };
        AbortSignal.any([request.signal]).addEventListener("abort", fail("any"));
        new Request(request).signal.addEventListener("abort", fail("copy"));
        request.clone().signal.addEventListener("abort", fail("clone"));
        return new Response(new ReadableStream());
      });
      const errors = [];
      server.addEventListener("error", ({ error }) => {
        errors.push(error.code + " " + error.cause.message);
        if (errors.length < 3) return;
        console.log(JSON.stringify({ errors: errors.sort(), heard }));
        process.exit();
      });
      await server.start();
      const gone = new AbortController();
      const url = "http://127.0.0.1:" + server.address.port;
      await fetch(url, { signal: gone.signal });
      gone.abort();`;
    const args = runtime === "deno" ? ["eval", program] : ["-e", program];
    const text = await start(process.execPath, args).done;
    assert.deepEqual(JSON.parse(text), {
      errors: ["HANDLER_FAILED any", "HANDLER_FAILED clone", "HANDLER_FAILED copy"],
      heard: [],
    });
  });

  test("a listener of request.signal, without a socket", async () => {
    const { server, errors } = await answering((request) => {
      request.signal.addEventListener("abort", fail);
      return new Promise(() => {});
    });
    const gone = new AbortController();
    const answer = server.fetch(new Request("http://a/", { signal: gone.signal }));
    await sleep(10);
    gone.abort();
    await answer;
    assert.deepEqual(errors.map(({ cause }) => cause), [thrown]);
  });

  test("cancel() of a body, without a socket", async () => {
    const { server, errors } = await answering((request) =>
      request.sendStream(new ReadableStream({ cancel: fail }))
    );
    const answer = await server.fetch(new Request("http://a/"));
    await answer.body!.cancel();
    await until(() => errors.length > 0, "the error is told");
    assert.deepEqual(errors.map(({ cause }) => cause), [thrown]);
  });

  test("and such a signal is the platform's in all else", async () => {
    const seen: unknown[] = [];
    const { port } = await started((request) => {
      if (new URL(request.url).pathname === "/") return new Promise(() => {});
      const { signal } = request;
      const listener = { handleEvent: (event: Event) => void seen.push(event.type) };
      const removed = () => void seen.push("removed");
      signal.addEventListener("abort", listener);
      signal.addEventListener("abort", listener); // twice is once
      signal.addEventListener("abort", removed);
      signal.removeEventListener("abort", removed);
      signal.onabort = function (this: unknown) {
        seen.push(this === signal);
      };
      seen.push(
        signal instanceof AbortSignal,
        signal.constructor === AbortSignal,
        Object.prototype.toString.call(signal),
        typeof signal.onabort,
        AbortSignal.any([signal]).aborted,
      );
      const other = new EventTarget();
      other.addEventListener("x", () => seen.push("heard"), { signal });
      other.dispatchEvent(new Event("x"));
      signal.addEventListener("abort", () => other.dispatchEvent(new Event("x")));
      const cut = fetch(`http://127.0.0.1:${port}/`, { signal }).then(
        () => "fetched",
        (error) => error === signal.reason,
      );
      void cut.then((how) => seen.push(how));
      return new Response(endlessly());
    }, { timeouts: { lingerMs: 50 } });
    const client = await RawClient.connect(port);
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("\r\n\r\n");
    client.destroy();
    await until(() => seen.length === 9, "all is seen");
    const kind = "[object AbortSignal]";
    assert.deepEqual(seen, [true, true, kind, "function", false, "heard", "abort", true, true]);
  });

  test("and the program's own listener for uncaught exceptions is left alone", async () => {
    const heard: unknown[] = [];
    const listener = (error: unknown): void => void heard.push(error);
    process.on("uncaughtException", listener);
    try {
      const { port, errors } = await started(handlers["a listener of request.signal"]!, {
        timeouts: { lingerMs: 100 },
      });
      const client = await RawClient.connect(port);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.expect("\r\n\r\n");
      client.destroy();
      await until(() => errors.length > 0, "the error is told");
      assert.deepEqual(heard, []);
      assert.ok(process.listeners("uncaughtException").includes(listener));
    } finally {
      process.off("uncaughtException", listener);
    }
  });
});

describe("a rejection of a thenable that is no Promise is not lost", () => {
  const cause = new Error("from a thenable");
  /** What some libraries return; it has no catch(). */
  const rejecting = () => ({
    // deno-lint-ignore no-explicit-any
    then: (_: unknown, reject: (error: Error) => void): any => void setTimeout(reject, 1, cause),
  });

  const options: Record<string, Parameters<typeof started>[1]> = {
    closeFn: { closeFn: rejecting as () => void },
    "an error listener's": {},
    "a context's free": {},
  };
  for (const [what, option] of Object.entries(options)) {
    test(what, async () => {
      const { server, port, errors } = await started((_request, { session }) => {
        if (what === "a context's free") session.setContext({}, rejecting);
        return new Response("x");
      }, option);
      if (what === "an error listener's") {
        server.addEventListener("connected", rejecting as () => void);
      }
      const client = await RawClient.connect(port);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.expect("\r\n\r\nx");
      client.destroy();
      await until(() => errors.length > 0, "the error is told");
      assert.deepEqual(errors.map((error) => error.cause), [cause]);
    });
  }

  test("a handler's", async () => {
    const { port, errors } = await started(rejecting as unknown as FetchHandler);
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.equal(readResponses(await client.rest())[0]!.status, 500);
    assert.deepEqual(errors.map((error) => error.cause), [cause]);
    client.destroy();
  });

  test("certSelect's", async () => {
    const { port, errors } = await started(() => new Response("x"), {
      certSelect: rejecting as never,
    }, "tls");
    await assert.rejects(RawClient.connect(port, "tls"));
    await until(() => errors.length > 0, "the error is told");
    assert.equal(errors[0]!.cause, cause);
  });

  test("an edge app's reportError's is written to the console", async () => {
    const { error } = console;
    const written: unknown[] = [];
    console.error = (...args: unknown[]) => void written.push(...args);
    try {
      const app = createEdgeApp({ reportError: rejecting as () => void }, () => {
        throw new Error("the handler's");
      });
      assert.equal((await app.fetch(new Request("http://a/"))).status, 500);
      await until(() => written.includes(cause), "it is written");
    } finally {
      console.error = error;
    }
  });
});
