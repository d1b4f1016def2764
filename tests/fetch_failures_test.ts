/** What a fetch handler does wrong: its own error, and never a broken wire. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import type { HttpsdError } from "../lib/errors.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import { streamOf } from "./fetch_support.ts";
import {
  GET,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

describe("what a handler does wrong is its own error, and never a broken wire", () => {
  const bad = (response: Response): Response => response;
  const answered500: [what: string, handler: () => unknown, code: string][] = [
    ["undefined", () => undefined, "HANDLER_FAILED"],
    ["a string", () => "text", "HANDLER_FAILED"],
    ["null", () => null, "HANDLER_FAILED"],
    ["a used Response", async () => {
      const response = new Response("x");
      await response.text();
      return response;
    }, "HANDLER_FAILED"],
    ["a Response some of which was read", async () => {
      const response = new Response(streamOf(["mi", "ne"]));
      const reader = response.body!.getReader();
      await reader.read();
      reader.releaseLock();
      return response;
    }, "HANDLER_FAILED"],
    ["a Response whose pieces were read", async () => {
      const response = new Response(streamOf(["mi", "ne"]));
      for await (const piece of response.body!) assert.equal(piece.length, 2);
      return response;
    }, "HANDLER_FAILED"],
    ["a locked Response", () => {
      const response = new Response("x");
      response.body!.getReader();
      return response;
    }, "HANDLER_FAILED"],
    ["Response.error()", () => Response.error(), "HANDLER_FAILED"],
    ["a throw", () => {
      throw new Error("mine");
    }, "HANDLER_FAILED"],
    ["a throw of undefined", () => {
      throw undefined;
    }, "HANDLER_FAILED"],
    ["a rejection", () => Promise.reject(new Error("mine")), "HANDLER_FAILED"],
    ["a throw of an HttpError that has no error status", async () => {
      const { HttpError } = await import("../lib/errors.ts");
      throw new HttpError(42, "BAD_REQUEST", "mine");
    }, "BAD_REQUEST"],
    [
      "a Content-Length too small for bytes",
      () => bad(new Response("abcde", { headers: { "Content-Length": "4" } })),
      "BAD_RESPONSE",
    ],
    [
      "a Content-Length too large for bytes",
      () => bad(new Response("abcde", { headers: { "Content-Length": "6" } })),
      "BAD_RESPONSE",
    ],
    [
      "a Content-Length that is none",
      () => bad(new Response("abcde", { headers: { "Content-Length": "0x5" } })),
      "BAD_RESPONSE",
    ],
    [
      "a stream that fails before its first piece",
      () => new Response(streamOf([new Error("mine")])),
      "HANDLER_FAILED",
    ],
    ["a stream whose first piece is no bytes", () => new Response(streamOf([42])), "BAD_RESPONSE"],
    [
      "a stream whose first piece is nothing, and the second no bytes",
      () =>
        new Response(
          new ReadableStream({
            start(controller) {
              for (const piece of [undefined, 42]) controller.enqueue(piece as never);
            },
          }),
        ),
      "BAD_RESPONSE",
    ],
  ];
  for (const [what, handler, code] of answered500) {
    test(`${what}: 500, and the connection goes on`, async () => {
      let calls = 0;
      const { port, errors } = await started(
        (() => calls++ === 0 ? handler() : new Response("next")) as FetchHandler,
      );
      const client = await RawClient.connect(port);
      client.send(GET("/") + GET("/"));
      await client.expect("next");
      assert.deepEqual(readResponses(client.text).map(({ status }) => status), [500, 200]);
      assert.doesNotMatch(client.text, /mine/);
      assert.deepEqual(errors.map((error) => error.code), [code]);
      client.destroy();
    });
  }

  const cut: [what: string, handler: () => Response, sent: string, code: string][] = [
    [
      "a stream shorter than its Content-Length",
      () => new Response(streamOf(["ab", "cd"], 1), { headers: { "Content-Length": "5" } }),
      "abcd",
      "BAD_RESPONSE",
    ],
    [
      "a stream longer than its Content-Length",
      () => new Response(streamOf(["ab", "cd"], 1), { headers: { "Content-Length": "3" } }),
      "ab",
      "BAD_RESPONSE",
    ],
    [
      "a stream that fails after its first piece",
      () => new Response(streamOf(["ab", new Error("mine")], 1)),
      "2\r\nab\r\n",
      "HANDLER_FAILED",
    ],
    [
      "a stream that fails after a while",
      () => new Response(streamOf([new Error("mine")], 20)),
      "",
      "HANDLER_FAILED",
    ],
    [
      "a piece that is no bytes",
      () => new Response(streamOf(["ab", 42], 1)),
      "2\r\nab\r\n",
      "BAD_RESPONSE",
    ],
  ];
  for (const mode of MODES) {
    for (const [what, handler, sent, code] of cut) {
      test(`${what}: the connection is cut, ${mode}`, async () => {
        const { port, errors } = await started(handler, {}, mode);
        const client = await RawClient.connect(port, mode);
        client.send(GET("/") + GET("/evil"));
        const text = await client.rest();
        assert.equal(text.slice(text.indexOf("\r\n\r\n") + 4), sent);
        await until(() => errors.length > 0, "the error is reported");
        assert.deepEqual(errors.map((error) => error.code), [code]);
        client.destroy();
      });
    }
  }

  test("a stream that never ends for a client that is gone, given too late, is cancelled", async () => {
    const { promise: cancelled, resolve } = Promise.withResolvers<unknown>();
    const { port, server } = await started(async (_, { session }) => {
      await until(() => session.connection.closed, "the client is gone");
      return new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(10)),
          cancel: resolve,
        }),
      );
    }, { timeouts: { sendMs: 50 } });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await until(() => server.sessions.size > 0, "the session begins");
    client.destroy();
    assert.match((await cancelled as HttpsdError).code, /^CONNECTION_/);
  });
  test("a stream for HTTP/1.0 that fails ends in a reset: the part is not taken for all", async () => {
    const { port } = await started(() =>
      new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(Buffer.from("part")),
          async pull() {
            await begun.promise;
            throw new Error("The source broke");
          },
        }),
      )
    );
    const begun = Promise.withResolvers<void>();
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.0\r\n\r\n");
    await client.expect("part");
    begun.resolve();
    await until(() => client.closed || client.ended, "the end of the connection");
    assert.equal(client.ended, false);
    assert.equal(client.error?.code, "ECONNRESET");
  });

  test("a cut answer destroys none of those before it for a client that still sends", async () => {
    const whole = "w".repeat(150_000);
    const { promise: cut, resolve: hasCut } = Promise.withResolvers<void>();
    const { port } = await started((request) => {
      if (request.url.endsWith("/whole")) return new Response(whole);
      const pull = async (controller: ReadableStreamDefaultController) => {
        controller.enqueue(Buffer.from("part"));
        await turns(1);
        hasCut();
        throw new Error("The source broke");
      };
      return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }));
    }, { timeouts: { lingerMs: 60_000 } });
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send(GET("/whole") + GET("/cut"));
    client.send("POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    await cut;
    for (let piece = 0; piece < 20; piece++) {
      client.send("b".repeat(1_000));
      await turns(1);
    }
    client.socket.resume();
    await client.rest();
    assert.deepEqual([client.ended, client.error], [true, undefined]);
    client.destroy();
    assert.ok(client.text.includes(`\r\n\r\n${whole}HTTP/1.1 200 OK`), "the first is whole");
    assert.ok(client.text.endsWith("\r\n\r\n4\r\npart\r\n"), client.text.slice(-200));
  });

  test("info.completed resolves when the answer is written, rejects when the client has gone", async () => {
    const completed: Promise<void>[] = [];
    const { port } = await started((request, info) => {
      completed.push(info.completed);
      if (request.url.endsWith("/short")) return new Response("short");
      return new Response(new ReadableStream({ pull: (it) => it.enqueue(new Uint8Array(65_536)) }));
    });
    const client = await RawClient.connect(port);
    client.send(GET("/short"));
    await client.expect("short");
    await completed[0];
    client.send(GET("/endless"));
    await client.expect("chunked");
    client.destroy();
    await assert.rejects(completed[1]!, (error: HttpsdError) => error.name === "ConnectionError");
  });

  for (const mode of MODES) {
    test(`what a stream gave before it failed arrives, without an end, ${mode}`, async () => {
      const pieces = ["one", "two"];
      const { port } = await started(
        () =>
          new Response(
            new ReadableStream({
              pull(controller) {
                const piece = pieces.shift();
                if (piece === undefined) throw new Error("The source broke");
                controller.enqueue(Buffer.from(piece));
              },
            }, { highWaterMark: 0 }),
          ),
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      assert.match(await client.rest(), /3\r\none\r\n3\r\ntwo\r\n$/);
    });
  }

  test("HEAD without a body says nothing of a length that it does not know", async () => {
    const { port } = await started(() => new Response(null, { headers: { "x-a": "1" } }));
    const client = await RawClient.connect(port);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.doesNotMatch(await client.rest(), /content-length/i);
  });
});
