/** What callbacks throw or reject with when a client leaves: an `error` event, never the process's end. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import process from "node:process";
import { createEdgeApp } from "../lib/edge/mod.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import { serverSentEvents } from "../lib/web/sse.ts";
import {
  answering,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { leaver } from "./response_support.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { start, turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

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
          await until(() => errors.length > 0, "the error is reported");
          await turns(); // for another that would be too many
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
    const args = runtime === "deno" ? ["eval", PINNED, program] : ["-e", program];
    const text = await start(process.execPath, args).done;
    assert.deepEqual(JSON.parse(text), {
      errors: ["HANDLER_FAILED any", "HANDLER_FAILED clone", "HANDLER_FAILED copy"],
      heard: [],
    });
  }, 30_000);

  test("a listener of request.signal, without a socket", async () => {
    const { server, errors } = await answering((request) => {
      request.signal.addEventListener("abort", fail);
      return new Promise(() => {});
    });
    const gone = new AbortController();
    const answer = server.fetch(new Request("http://a/", { signal: gone.signal }));
    await turns(); // until the handler runs
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
    await until(() => errors.length > 0, "the error is reported");
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
      await until(() => errors.length > 0, "the error is reported");
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
      await until(() => errors.length > 0, "the error is reported");
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
    await until(() => errors.length > 0, "the error is reported");
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
