/** The same routes give the same answers on a socket, by `server.fetch()` and by an edge app. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import type { EdgeOptions } from "../lib/edge/mod.ts";
import { HttpError, type HttpsdError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import type { RouteHandler } from "../lib/httpd/route.ts";
import { type Face, type FaceName, open, streamOf } from "./edge_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns } from "./support.ts";

assertRuntime();

/** Where a request ends that its handler failed. */
async function failed(face: Face, path = "/"): Promise<[status: number, codes: string[]]> {
  const response = await face.ask(path);
  await response.body?.cancel();
  return [response.status, face.errors];
}

for (const name of ["a socket", "server.fetch()", "an edge app"] as const) {
  const isSocket = name === "a socket";
  const faces: Face[] = [];
  const opened = async (
    ...rest: Parameters<typeof open> extends [FaceName, ...infer R] ? R : never
  ) => {
    const face = await open(name, ...rest);
    faces.push(face);
    return face;
  };
  /** A face with one GET route, for any path. */
  const answering = async (handler: RouteHandler, method = "GET", options: EdgeOptions = {}) => {
    const face = await opened(undefined, options);
    face.app.route({ uri: "/*", method, handler });
    return face;
  };

  describe(`routes by ${name}`, () => {
    afterAll(async () => {
      await Promise.all(faces.map((face) => face.close()));
    });

    test("see the request", async () => {
      let seen: HttpdRequest | undefined;
      const { ask } = await answering((request) => {
        seen = request;
        request.send();
      });
      await (await ask("/a/b?c=d%20e&f", { headers: { "X-A": "1", cookie: 'g="h"; i=j' } })).text();
      assert.equal(seen?.method, "GET");
      assert.equal(seen?.uri, "/a/b?c=d%20e&f");
      assert.equal(seen?.path, "/a/b");
      assert.equal(seen?.rawQuery, "c=d%20e&f");
      assert.equal(seen?.query.get("c"), "d e");
      assert.match(seen?.host ?? "", isSocket ? /^127\.0\.0\.1:\d+$/ : /^a\.example$/);
      assert.equal(seen?.get("X-a"), "1");
      assert.equal(seen?.get("not a name"), undefined);
      assert.deepEqual(seen?.getAll("x-a"), ["1"]);
      assert.equal(seen?.headers.get("x-a"), "1");
      assert.ok(seen?.rawHeaders.some(([name, value]) => /^x-a$/i.test(name) && value === "1"));
      assert.deepEqual([...seen?.cookies ?? []], [["g", "h"], ["i", "j"]]);
      assert.equal(seen?.sent, true);
      assert.ok((seen?.session.id ?? 0) > 0);
    });

    test("send a whole answer, with status, type and fields", async () => {
      const { ask } = await answering((request) =>
        request.status(201).type("text/plain").header("X-A", "1").header("X-A", "2").send("ü")
      );
      const response = await ask("/");
      assert.equal(response.status, 201);
      assert.equal(response.headers.get("content-type"), "text/plain");
      assert.equal(response.headers.get("x-a"), "1, 2");
      assert.equal(response.headers.get("content-length"), "2");
      assert.equal(await response.text(), "ü");
    });

    test("send JSON, and several cookies", async () => {
      const { ask } = await answering((request) =>
        request.header("Set-Cookie", "a=1").header("Set-Cookie", "b=2").sendJson({ a: [1] })
      );
      const response = await ask("/");
      assert.deepEqual(response.headers.getSetCookie(), ["a=1", "b=2"]);
      assert.deepEqual(await response.json(), { a: [1] });
    });

    test("answer HEAD with GET's head", async () => {
      const { ask } = await answering((request) => request.send("12345"));
      const response = await ask("/", { method: "HEAD" });
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-length"), "5");
      assert.equal(await response.text(), "");
    });

    test("answer HEAD to what is sent in chunks, and to a Response", async () => {
      const { ask, app, errors } = await opened();
      app.route({
        uri: "/chunks",
        method: "GET",
        handler: async (request) => {
          await request.sendChunk("a");
          request.end();
        },
      });
      app.route({ uri: "/response", method: "GET", handler: () => new Response("b") });
      for (const path of ["/chunks", "/response"]) {
        const response = await ask(path, { method: "HEAD" });
        assert.deepEqual([response.status, await response.text()], [200, ""]);
      }
      assert.deepEqual(errors, []);
    });

    test("return a Response", async () => {
      const { ask } = await answering(() =>
        new Response(streamOf("a", "b"), { status: 202, headers: { "X-A": "1" } })
      );
      const response = await ask("/");
      assert.deepEqual([response.status, response.headers.get("x-a")], [202, "1"]);
      assert.equal(await response.text(), "ab");
    });

    test("404, and 405 with Allow", async () => {
      const { ask, app } = await opened();
      app.route({ uri: "/a", method: "GET", handler: (request) => request.send() });
      app.route({ uri: "/a", method: "PUT", handler: (request) => request.send() });
      const missing = await ask("/b");
      assert.equal(missing.status, 404);
      assert.equal(await missing.text(), "Nothing matches the given URI");
      const wrong = await ask("/a", { method: "DELETE" });
      assert.equal(wrong.status, 405);
      assert.equal(wrong.headers.get("allow"), "GET, PUT, HEAD");
      await wrong.text();
      app.unroute("/a", "PUT");
      assert.equal((await ask("/a", { method: "PUT" })).status, 405);
    });

    test("what no route answers goes to the fetch handler, with the session", async () => {
      const { ask } = await opened((request, { session }) =>
        new Response(`${request.method} ${new URL(request.url).pathname} ${typeof session.id}`)
      );
      assert.equal(await (await ask("/x", { method: "POST", body: "a" })).text(), "POST /x number");
    });

    test("error handlers answer, until they are taken away", async () => {
      const { ask, app } = await opened();
      app.onError(404, (error, request) => new Response(`${error.code} ${request?.path}`));
      assert.equal(await (await ask("/b")).text(), "ROUTE_NOT_FOUND /b");
      app.onError(404, (_, request) => request?.status(404).send("own"));
      assert.equal(await (await ask("/b")).text(), "own");
      app.onError(404, null);
      assert.equal(await (await ask("/b")).text(), "Nothing matches the given URI");
    });

    test("an error handler that throws leaves the standard answer", async () => {
      const face = await opened();
      face.app.onError(404, () => {
        throw new Error("boo");
      });
      assert.deepEqual(await failed(face), [404, ["HANDLER_FAILED"]]);
    });

    for (
      const [what, handler, status, code] of [
        [
          "throws",
          () => {
            throw new Error("secret");
          },
          500,
          "HANDLER_FAILED",
        ],
        ["rejects", () => Promise.reject(new Error("secret")), 500, "HANDLER_FAILED"],
        ["answers nothing", () => {}, 500, "HANDLER_FAILED"],
        ["returns no Response", (() => "text") as unknown as RouteHandler, 500, "HANDLER_FAILED"],
        ["returns Response.error()", () => Response.error(), 500, "HANDLER_FAILED"],
        [
          "throws an HttpError",
          () => {
            throw new HttpError(409, "BAD_REQUEST", "Not now");
          },
          409,
          "BAD_REQUEST",
        ],
        [
          "splits the response",
          (request) => {
            request.header("X-A", "1\r\nX-B: 2").send();
          },
          500,
          "BAD_RESPONSE",
        ],
        [
          "names a field so that it splits",
          (request) => {
            request.header("X-A: 1\r\nX-B", "2").send();
          },
          500,
          "BAD_RESPONSE",
        ],
        [
          "splits the reason",
          (request) => {
            request.status(200, "OK\r\nX-B: 2").send();
          },
          500,
          "BAD_RESPONSE",
        ],
        [
          "adds too many fields",
          (request) => {
            for (let i = 0; i < 4; i++) request.header(`X-${i}`, "1");
          },
          500,
          "BAD_RESPONSE",
        ],
        ["sends an interim status", (request) => request.status(102).send(), 500, "BAD_RESPONSE"],
        [
          "lies about the length",
          (request) => {
            request.header("Content-Length", "2").send("abc");
          },
          500,
          "BAD_RESPONSE",
        ],
      ] as [string, RouteHandler, number, string][]
    ) {
      test(`a handler that ${what} is answered with ${status}, and reported`, async () => {
        const face = await answering(handler);
        const response = await face.ask("/");
        const text = await response.text();
        assert.deepEqual([response.status, face.errors], [status, [code]]);
        assert.equal(response.headers.has("x-b"), false);
        assert.doesNotMatch(text, /secret/);
      });
    }

    test("a second answer throws ALREADY_SENT where it is given", async () => {
      const codes: unknown[] = [];
      const { ask } = await answering(async (request) => {
        request.send("first");
        for (
          const again of [
            () => request.send("second"),
            () => request.status(500),
            () => request.sendError(500),
          ]
        ) {
          try {
            again();
          } catch (error) {
            codes.push((error as HttpsdError).code);
          }
        }
        await request.sendChunk("third").catch((error) => codes.push(error.code));
      });
      assert.equal(await (await ask("/")).text(), "first");
      assert.deepEqual(codes, Array(4).fill("ALREADY_SENT"));
    });

    test("sendError() answers with the standard text or its own, and the fields set", async () => {
      const { ask } = await answering((request) =>
        request.header("X-A", "1").sendError(403, request.query.get("text") ?? undefined)
      );
      const standard = await ask("/");
      assert.deepEqual([standard.status, standard.headers.get("x-a")], [403, "1"]);
      assert.match(await standard.text(), /^Request forbidden/);
      assert.equal(await (await ask("/?text=own")).text(), "own");
    });

    test("fields of the connection are not the handler's to send", async () => {
      const { ask } = await answering((request) =>
        request.header("Transfer-Encoding", "gzip").header("Keep-Alive", "x").header("TE", "x")
          .send("whole")
      );
      const response = await ask("/");
      assert.equal(await response.text(), "whole");
      assert.notEqual(response.headers.get("transfer-encoding"), "gzip");
      assert.equal(response.headers.has("keep-alive"), false);
      assert.equal(response.headers.has("te"), false);
    });

    test("204 and 304 have no body", async () => {
      const { ask, errors } = await answering((request) =>
        request.status(Number(request.rawQuery)).send("not sent")
      );
      for (const status of [204, 304]) {
        const response = await ask(`/?${status}`);
        assert.deepEqual([response.status, await response.text()], [status, ""]);
      }
      assert.deepEqual(errors, []);
    });

    test("sendStream() sends a stream, with its length where that is known", async () => {
      const { ask } = await answering((request) =>
        request.sendStream(streamOf("abc", "de"), request.rawQuery === "" ? undefined : 5)
      );
      const known = await ask("/?known");
      assert.equal(known.headers.get("content-length"), "5");
      assert.equal(await known.text(), "abcde");
      assert.equal(await (await ask("/")).text(), "abcde");
    });

    for (const length of [2, 10]) {
      test(`a body that is not as long as the ${length} bytes promised is cut`, async () => {
        const face = await answering(async (request) => {
          await request.header("Content-Length", String(length)).sendChunk("a");
          await request.sendChunk("bcd");
          request.end();
        });
        // On a socket of Bun's client, a cut that comes at once is a failed fetch().
        await assert.rejects(async () => await (await face.ask("/")).text());
        assert.deepEqual(face.errors, ["BAD_RESPONSE"]);
      });
    }

    test("a source that fails cuts the body", async () => {
      const face = await answering((request) => {
        let pulled = 0;
        return request.sendStream(
          new ReadableStream({
            pull(controller) {
              if (pulled++ === 0) controller.enqueue(new Uint8Array(10));
              else controller.error(new Error("boo"));
            },
          }),
        );
      });
      await assert.rejects(async () => await (await face.ask("/")).text());
      assert.deepEqual(face.errors, ["HANDLER_FAILED"]);
    });

    test("recv() reads the body in pieces of the size asked for", async () => {
      const { ask } = await answering(async (request) => {
        const sizes: number[] = [];
        for (let piece = await request.recv(4); piece; piece = await request.recv(4)) {
          sizes.push(piece.length);
        }
        request.sendJson(sizes);
      }, "POST");
      const response = await ask("/", { method: "POST", body: "0123456789" });
      assert.deepEqual(await response.json(), [4, 4, 2]);
    });

    test("body is a stream, and none is an empty one", async () => {
      const { ask } = await answering(async (request) => {
        request.send(`${request.contentLength}:${await new Response(request.body).text()}`);
      }, "ANY");
      const declared = isSocket ? "3" : "undefined"; // a Request is not sent, so has no such field
      const put = await ask("/", { method: "PUT", body: "abc" });
      assert.equal(await put.text(), `${declared}:abc`);
      assert.equal(await (await ask("/")).text(), "undefined:");
    });

    test("a body that is too long is refused, whether its length is declared or not", async () => {
      const face = await answering(async (request) => {
        while (await request.recv() !== undefined);
        request.send();
      }, "POST");
      const long = "x".repeat(1_001);
      const declared = await face.ask("/", { method: "POST", body: long });
      assert.equal(declared.status, 413);
      await declared.text();
      const body = streamOf(long);
      const init: RequestInit & { duplex: "half" } = { method: "POST", body, duplex: "half" };
      const streamed = await face.ask("/", init);
      assert.equal(streamed.status, 413);
      await streamed.text();
      assert.ok(face.errors.length >= 2);
      assert.ok(face.errors.every((code) => code === "BODY_TOO_LARGE"));
    });

    test("a detached request is answered later", async () => {
      const { ask } = await answering((request) => {
        request.detach();
        setTimeout(() => request.send("late"), 5);
      });
      assert.equal(await (await ask("/")).text(), "late");
    });

    test("a detached request that is not answered in time is a 503, and its signal aborted", async () => {
      let signal: AbortSignal | undefined;
      const face = await answering((request) => {
        signal = request.signal;
        request.detach(20);
      });
      assert.deepEqual(await failed(face), [503, ["HANDLER_TIMEOUT"]]);
      assert.equal(signal?.aborted, true);
    });

    test("complete() ends a detached request with a 500", async () => {
      const face = await answering((request) => {
        request.detach();
        request.complete();
      });
      assert.deepEqual(await failed(face), [500, ["HANDLER_FAILED"]]);
    });

    test("a handler that takes longer than handlerMs is given up: 503", async () => {
      const face = await answering(() => new Promise(() => {}), "GET", {
        timeouts: { handlerMs: 20 },
      });
      assert.deepEqual(await failed(face), [503, ["HANDLER_TIMEOUT"]]);
    });

    test("a Response that comes after handlerMs is let go of", async () => {
      const { promise: cancelled, resolve: cancel } = Promise.withResolvers<void>();
      const face = await answering(
        async ({ signal }) => {
          await new Promise<void>((resolve) => signal.onabort = () => resolve());
          return new Response(new ReadableStream({ cancel: () => cancel() }));
        },
        "GET",
        { timeouts: { handlerMs: 20 } },
      );
      assert.deepEqual(await failed(face), [503, ["HANDLER_TIMEOUT"]]);
      await cancelled;
      await turns();
      assert.deepEqual(face.errors, ["HANDLER_TIMEOUT"]);
    });

    test("a WebSocket route answers 426 to a request for none", async () => {
      const { ask, app } = await opened();
      app.route({ uri: "/ws", websocket: {} });
      const response = await ask("/ws");
      assert.equal(response.status, 426);
      assert.equal(response.headers.get("upgrade"), "websocket");
      await response.text();
    });
  });
}
