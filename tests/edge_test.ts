/**
 * Requests without sockets: `server.fetch()` and the edge app answer as the server does on a
 * socket; then what is different there, what an edge app is told of the client, and the platforms.
 */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { X509Certificate } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createEdgeApp, type EdgeApp, type EdgeInfo, type EdgeOptions } from "../lib/edge/mod.ts";
import { HttpError, type HttpsdError } from "../lib/errors.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import type { RouteHandler } from "../lib/httpd/route.ts";
import type { Session } from "../lib/http/session.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { connectionInfo, HttpsServer } from "../mod.ts";
import { peerCertificate } from "../lib/tls/peer_certificate.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();

const ORIGIN = "http://a.example";

/** What the faces of the routes have in common. */
interface App {
  route(...args: Parameters<EdgeApp["route"]>): unknown;
  unroute(...args: Parameters<EdgeApp["unroute"]>): unknown;
  onError(...args: Parameters<EdgeApp["onError"]>): unknown;
}

/** A way to the routes. */
interface Face {
  readonly app: App;
  readonly errors: string[];
  readonly options: EdgeOptions;
  /** Asks for a path of ours. */
  ask(path: string, init?: RequestInit): Promise<Response>;
  close(): Promise<void>;
}

type FaceName = "a socket" | "server.fetch()" | "an edge app";

const OPTIONS: EdgeOptions = {
  limits: { maxBodyBytes: 1_000, maxResponseFields: 3 },
  uriMatch: matchWildcard,
};

/** Makes the routes' face of this name; the fetch handler is told nothing that not all of them know. */
async function open(
  name: FaceName,
  handler?: (request: Request, info: { session: Session }) => Response | Promise<Response>,
  options: EdgeOptions = {},
): Promise<Face> {
  const errors: string[] = [];
  const all = { ...OPTIONS, ...options };
  if (name === "an edge app") {
    const reportError = (error: HttpsdError) => void errors.push(error.code);
    const app = createEdgeApp({ ...all, reportError }, handler);
    const ask = (path: string, init?: RequestInit) => app.fetch(new Request(ORIGIN + path, init));
    return { app, errors, options: all, ask, close: () => Promise.resolve() };
  }
  const server = new HttpsServer({
    ...all,
    transportMode: "insecure",
    hostname: "127.0.0.1",
    port: 0,
  }, handler);
  server.addEventListener("error", ({ error }) => void errors.push(error.code));
  if (name === "server.fetch()") {
    const ask = (path: string, init?: RequestInit) =>
      server.fetch(new Request(ORIGIN + path, init));
    return { app: server, errors, options: all, ask, close: () => Promise.resolve() };
  }
  await server.start();
  const origin = `http://127.0.0.1:${server.address.port}`;
  const ask = (path: string, init?: RequestInit) => fetch(origin + path, init);
  return { app: server, errors, options: all, ask, close: () => server.stop({ drainMs: 0 }) };
}

const streamOf = (...pieces: string[]): ReadableStream<Uint8Array<ArrayBuffer>> =>
  new Blob(pieces).stream();

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
      test(`a handler that ${what} is answered with ${status}, and told of`, async () => {
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

    test("a WebSocket route tells who did not ask for one: 426", async () => {
      const { ask, app } = await opened();
      app.route({ uri: "/ws", websocket: {} });
      const response = await ask("/ws");
      assert.equal(response.status, 426);
      assert.equal(response.headers.get("upgrade"), "websocket");
      await response.text();
    });
  });
}

for (const name of ["server.fetch()", "an edge app"] as const) {
  /** A face with one route, for any path and method. */
  const answering = async (handler: RouteHandler) => {
    const face = await open(name);
    face.app.route({ uri: "/*", method: "ANY", handler });
    return face;
  };
  const aRequest = (init?: RequestInit) => new Request(ORIGIN, init);
  const fetchOf = ({ app }: Face) => (app as HttpsServer | EdgeApp).fetch;

  describe(`without a socket, ${name}`, () => {
    test("throws NOT_SUPPORTED for what needs one", async () => {
      const codes: Record<string, unknown> = {};
      const { ask } = await answering(async (request) => {
        const attempts: Record<string, () => unknown> = {
          rawHead: () => request.rawHead,
          connection: () => request.session.connection,
          send: () => request.session.send(new Uint8Array(1)),
          inform: () => request.inform(103, []),
          sendRaw: () => request.sendRaw("x"),
          ...(name === "an edge app" && { server: () => request.server }),
        };
        for (const [what, attempt] of Object.entries(attempts)) {
          try {
            await attempt();
            codes[what] = "nothing";
          } catch (error) {
            codes[what] = (error as HttpsdError).code;
          }
        }
        request.send();
      });
      await ask("/");
      assert.ok(Object.keys(codes).length >= 5);
      assert.deepEqual(new Set(Object.values(codes)), new Set(["NOT_SUPPORTED"]));
    });

    test("answers a WebSocket handshake with 501", async () => {
      const { ask, app } = await open(name);
      app.route({ uri: "/ws", websocket: {} });
      assert.equal((await ask("/ws", { headers: { upgrade: "websocket" } })).status, 501);
    });

    test("can be called without its object", async () => {
      const { fetch } = { fetch: fetchOf(await answering((request) => request.send("a"))) };
      assert.equal(await (await fetch(aRequest())).text(), "a");
    });

    test("knows the client as Deno and as Bun tell it", async () => {
      const face = await answering(({ session: { remoteAddress, remotePort }, send }) =>
        new Response(`${remoteAddress} ${remotePort} ${typeof send}`)
      );
      const told = async (...platform: unknown[]) =>
        (await (await fetchOf(face)(aRequest(), ...platform)).text()).replace(" function", "");
      assert.equal(await told({ remoteAddr: { hostname: "192.0.2.1", port: 7 } }), "192.0.2.1 7");
      assert.equal(await told({ requestIP: () => ({ address: "::1", port: 8 }) }), "::1 8");
      assert.equal(await told({ requestIP: () => null }), " 0");
      assert.equal(await told(), " 0");
      assert.equal(await told(undefined), " 0");
    });

    test("passes a Response without a body on as often as it is returned", async () => {
      const response = new Response(null, { status: 404 });
      const face = await open(name, () => response);
      for (let i = 0; i < 3; i++) assert.equal((await fetchOf(face)(aRequest())).status, 404);
    });

    test("gives the fetch handler the very Request, and passes its Response on", async () => {
      const request = aRequest();
      const response = new Response("a");
      let given: Request | undefined;
      const face = await open(name, (request) => {
        given = request;
        return response;
      });
      assert.equal(await fetchOf(face)(request), response);
      assert.equal(given, request);
      assert.equal((await fetchOf(face)(aRequest())).status, 500); // it was sent already
    });

    test("answers while the request still comes, and neither side runs ahead", async () => {
      const { ask } = await answering(async (request) => {
        for (let piece = await request.recv(); piece; piece = await request.recv()) {
          await request.sendChunk(piece);
        }
        request.end();
      });
      let pulled = 0;
      const PIECE = 100;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          pulled += PIECE;
          controller.enqueue(new Uint8Array(PIECE));
          if (pulled === 10 * PIECE) controller.close();
        },
      }, { highWaterMark: 0 });
      const init: RequestInit & { duplex: "half" } = { method: "POST", body, duplex: "half" };
      const response = await ask("/", init);
      assert.equal((await response.bytes()).length, 10 * PIECE);
    });

    test("makes a handler wait for who does not read", async () => {
      let sent = 0;
      const PIECE = 16 * 1024;
      const { ask } = await answering(async (request) => {
        while (sent < 64 * PIECE) {
          await request.sendChunk(new Uint8Array(PIECE));
          sent += PIECE;
        }
      });
      const reader = (await ask("/")).body!.getReader();
      await reader.read();
      for (let turn = 0; turn < 100; turn++) await new Promise((next) => setTimeout(next));
      assert.ok(sent <= 8 * PIECE, `${sent} bytes were taken`);
      await reader.cancel();
    });

    test("copies what is sent in chunks: the handler may use its bytes again", async () => {
      const { ask } = await answering(async (request) => {
        const bytes = new TextEncoder().encode("a");
        await request.sendChunk(bytes);
        bytes.fill(0);
        request.end();
      });
      assert.equal(await (await ask("/")).text(), "a");
    });

    test("tells the handler of a reader that goes away", async () => {
      const over = Promise.withResolvers<unknown>();
      const face = await answering(async (request) => {
        request.signal.addEventListener(
          "abort",
          () => over.resolve(request.signal.reason.cause.code),
        );
        await request.sendChunk("a");
        await over.promise;
        await request.sendChunk("b"); // goes nowhere
        request.end();
      });
      const reader = (await face.ask("/")).body!.getReader();
      await reader.read();
      await reader.cancel();
      assert.equal(await over.promise, "CONNECTION_CLOSED");
      assert.deepEqual(face.errors, []);
    });

    test("cancels the source of sendStream() when the reader goes away", async () => {
      const cancelled = Promise.withResolvers<void>();
      const { ask } = await answering((request) =>
        request.sendStream(
          new ReadableStream({
            start: (controller) => controller.enqueue(new Uint8Array(1)),
            cancel: () => cancelled.resolve(),
          }),
        )
      );
      const reader = (await ask("/")).body!.getReader();
      await reader.read();
      await reader.cancel();
      await cancelled.promise;
    });

    test("aborts with the request, which is answered with a 499", async () => {
      const { promise: begun, resolve: begin } = Promise.withResolvers<AbortSignal>();
      const face = await answering((request) => {
        begin(request.signal);
        return new Promise(() => {});
      });
      const abort = new AbortController();
      const answer = face.ask("/", { signal: abort.signal });
      const signal = await begun;
      assert.equal(signal.aborted, false);
      abort.abort();
      assert.equal((await answer).status, 499);
      assert.equal(signal.aborted, true);
      assert.deepEqual(face.errors, []);
    });

    test("rejects when the session is destroyed before there is an answer", async () => {
      const face = await answering((request) => request.session.destroy());
      await assert.rejects(face.ask("/"), { code: "CONNECTION_ABORTED" });
    });

    test("waits for no handler whose client is gone", async () => {
      const face = await open(name, undefined, { timeouts: { handlerMs: 20 } });
      face.app.route({ uri: "/", method: "GET", handler: () => new Promise(() => {}) });
      assert.equal((await face.ask("/", { signal: AbortSignal.abort() })).status, 499);
      await new Promise((later) => setTimeout(later, 60));
      assert.deepEqual(face.errors, []);
    });

    test("drops what is written to a session that was destroyed, and cancels its source", async () => {
      const cancelled = Promise.withResolvers<void>();
      const face = await answering((request) =>
        request.sendStream(
          new ReadableStream({
            pull(controller) {
              controller.enqueue(new Uint8Array(1));
              request.session.destroy();
            },
            cancel: () => cancelled.resolve(),
          }, { highWaterMark: 0 }),
        )
      );
      const response = await face.ask("/");
      await assert.rejects(response.text(), { code: "CONNECTION_ABORTED" });
      await cancelled.promise;
      assert.deepEqual(face.errors, []);
    });

    test("fails the body when the session is destroyed in the middle of it", async () => {
      const face = await answering(async (request) => {
        await request.sendChunk("a");
        request.session.destroy();
      });
      const response = await face.ask("/");
      await assert.rejects(response.text(), { code: "CONNECTION_ABORTED" });
    });

    test("keeps a context for the request, and frees it once", async () => {
      const freed: unknown[] = [];
      const sessions: Session[] = [];
      const { ask } = await answering(({ session }) => {
        sessions.push(session);
        session.setContext("a", (context) => freed.push(context));
        return new Response(String(session.context));
      });
      assert.equal(await (await ask("/")).text(), "a");
      assert.deepEqual(freed, ["a"]);
      sessions[0]?.setContext("late", (context) => freed.push(context));
      assert.deepEqual(freed, ["a", "late"]);
    });

    test("tells a handler whose request was read before that it was", async () => {
      const face = await answering(async (request) => {
        await request.recv();
      });
      const request = aRequest({ method: "POST", body: "a" });
      await request.text();
      assert.equal((await fetchOf(face)(request)).status, 500);
      assert.deepEqual(face.errors, ["BODY_USED"]);
    });

    test("fails the body of a client that ends in the middle of it", async () => {
      const face = await answering(async (request) => {
        while (await request.recv() !== undefined);
      });
      let pulled = false;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          if (pulled) controller.error(new Error("gone"));
          else controller.enqueue(new Uint8Array(1));
          pulled = true;
        },
      });
      const init: RequestInit & { duplex: "half" } = { method: "POST", body, duplex: "half" };
      assert.equal((await face.ask("/", init)).status, 400);
      assert.deepEqual(face.errors, ["BODY_INCOMPLETE"]);
    });
  });
}

describe("connectionInfo()", () => {
  test("knows requests on sockets and without, and no others", async () => {
    const infos: ReturnType<typeof connectionInfo>[] = [];
    const server = new HttpsServer(
      { transportMode: "insecure", hostname: "127.0.0.1", port: 0 },
      (request, { session }) => {
        const info = connectionInfo(request);
        assert.equal(info?.session, session);
        infos.push(info);
        assert.equal(connectionInfo(new Request(request)), undefined);
        return new Response();
      },
    );
    await server.start();
    try {
      await (await fetch(`http://127.0.0.1:${server.address.port}/`)).text();
      const remoteAddr = { hostname: "192.0.2.1", port: 7 };
      assert.equal((await server.fetch(new Request(ORIGIN), { remoteAddr })).status, 200);
    } finally {
      await server.stop();
    }
    const [socket, none] = infos;
    assert.equal(socket?.remoteAddress, "127.0.0.1");
    assert.ok((socket?.remotePort ?? 0) > 0);
    assert.equal(socket?.tls, undefined);
    assert.deepEqual([none?.remoteAddress, none?.remotePort], ["192.0.2.1", 7]);
    assert.equal(connectionInfo(new Request(ORIGIN)), undefined);
  });
});

describe("server.fetch()", () => {
  test("tells http:error and error events whether the server runs or not", async () => {
    const told: string[] = [];
    const server = new HttpsServer({ transportMode: "insecure" });
    server.addEventListener("error", ({ error }) => void told.push(`error ${error.code}`));
    server.addEventListener("http:error", ({ error }) => void told.push(`http ${error.code}`));
    server.route({
      uri: "/",
      method: "GET",
      handler: () => {
        throw new Error("boo");
      },
    });
    await server.fetch(new Request(ORIGIN));
    await server.fetch(new Request(`${ORIGIN}/b`));
    assert.deepEqual(told, ["error HANDLER_FAILED", "http HANDLER_FAILED", "http ROUTE_NOT_FOUND"]);
  });

  test("tells handlers when their answer is handed over, or that it was cut", async () => {
    const settled: Promise<string>[] = [];
    const server = new HttpsServer({ transportMode: "insecure" }, (request, info) => {
      settled.push(info.completed.then(() => "completed", (error) => error.code));
      if (request.url.endsWith("/cut")) info.session.destroy();
      return new Response(streamOf("a"));
    });
    await (await server.fetch(new Request(ORIGIN))).text();
    await assert.rejects(server.fetch(new Request(`${ORIGIN}/cut`)), {
      code: "CONNECTION_ABORTED",
    });
    assert.deepEqual(await Promise.all(settled), ["completed", "CONNECTION_ABORTED"]);
  });

  test("gives handlers the server", async () => {
    const server: HttpsServer = new HttpsServer(
      { transportMode: "insecure" },
      (_, info) => new Response(String(info.server === server)),
    );
    server.route({
      uri: "/route",
      method: "GET",
      handler: (request) => request.send(String(request.server === server)),
    });
    for (const path of ["/", "/route"]) {
      assert.equal(await (await server.fetch(new Request(ORIGIN + path))).text(), "true");
    }
  });
});

describe("an edge app", () => {
  test("says that TLS and sockets are not its own", () => {
    const { capabilities } = createEdgeApp();
    assert.equal(capabilities.tls, false);
    assert.equal(capabilities.webSocket, false);
  });

  for (
    const [what, options] of [
      ["port", { port: 443 }],
      ["limits.maxBodyBytes", { limits: { maxBodyBytes: -1 } }],
      ["trustForwardedCertificates", { trustForwardedCertificates: true }],
    ] as const
  ) {
    test(`refuses option ${what} as it was given`, () => {
      assert.throws(() => createEdgeApp(options as unknown as EdgeOptions), {
        code: "INVALID_CONFIG",
        message: new RegExp(what),
      });
    });
  }

  test("gives the fetch handler what the platform gave", async () => {
    let info: EdgeInfo | undefined;
    const app = createEdgeApp({}, (_, given) => {
      info = given;
      return new Response();
    });
    await app.fetch(new Request(ORIGIN), { KEY: "value" }, { waitUntil: true });
    assert.deepEqual(info?.platform, [{ KEY: "value" }, { waitUntil: true }]);
  });

  test("lives on when reportError throws", async () => {
    const reportError = () => {
      throw new Error("boo");
    };
    const app = createEdgeApp({ reportError }, () => {
      throw new Error("own");
    });
    const { error } = console;
    const logged: unknown[] = [];
    console.error = (...what) => void logged.push(what);
    try {
      assert.equal((await app.fetch(new Request(ORIGIN))).status, 500);
    } finally {
      console.error = error;
    }
    assert.equal(logged.length, 1);
  });
});

/** What an app is told of the TLS connection of a request. */
async function tlsOf(
  request: Request,
  options: EdgeOptions = {},
): Promise<Session["tls"] | undefined> {
  let tls: Session["tls"];
  const app = createEdgeApp(options, (_, { session }) => {
    tls = session.tls;
    return new Response();
  });
  assert.equal((await app.fetch(request)).status, 200);
  return tls;
}

describe("forwarded certificates", () => {
  let x509: X509Certificate;
  let clientCert: string;
  let xfcc: string;

  beforeAll(async () => {
    const ca = await createCertificateAuthority();
    const { cert } = await ca.issue({
      usage: "client",
      subject: "C=DE, O=Example, CN=pump 7",
      names: ["pump.example"],
    });
    const leaf = /-----BEGIN[^]*?-----END CERTIFICATE-----\n?/.exec(cert)![0];
    x509 = new X509Certificate(leaf);
    clientCert = `:${Buffer.from(x509.raw).toString("base64")}:`;
    xfcc = `By=spiffe://a;Hash=ab;Cert="${
      encodeURIComponent(leaf)
    }";Subject="CN=x,O=\\"y\\";z";URI=`;
  });

  const asking = (headers: Record<string, string>) => new Request(ORIGIN, { headers });

  for (const field of ["client-cert", "x-forwarded-client-cert"] as const) {
    const trusting: EdgeOptions = { trustForwardedCertificates: field };
    const good = () => field === "client-cert" ? clientCert : xfcc;

    test(`${field} gives what the certificate says`, async () => {
      const tls = await tlsOf(asking({ [field]: good() }), trusting);
      const certificate = tls?.peerCertificate;
      assert.equal(tls?.authorized, true);
      assert.equal(tls?.authorizationError, undefined);
      assert.equal(certificate?.subject, "C=DE, O=Example, CN=pump 7");
      assert.equal(certificate?.serialNumber, peerCertificate(x509.raw).serialNumber);
      assert.equal(certificate?.fingerprint256, x509.fingerprint256);
      assert.equal(certificate?.validTo.getTime(), new Date(x509.validTo).getTime());
      assert.equal(certificate?.validFrom.getTime(), new Date(x509.validFrom).getTime());
      assert.equal(certificate?.subjectAltName, x509.subjectAltName);
      assert.deepEqual(Buffer.from(certificate!.der), Buffer.from(x509.raw));
      assert.throws(() => certificate?.x509, { code: "NOT_SUPPORTED" });
    });

    test(`${field} is not believed unless it is named`, async () => {
      const other = field === "client-cert" ? "x-forwarded-client-cert" : "client-cert";
      assert.equal(await tlsOf(asking({ [field]: good() })), undefined);
      const wrong = { trustForwardedCertificates: other } as const;
      assert.equal(await tlsOf(asking({ [field]: good() }), wrong), undefined);
    });

    test(`${field} that is absent tells nothing`, async () => {
      assert.equal(await tlsOf(asking({}), trusting), undefined);
    });

    for (
      const [what, spoil] of [
        ["is no certificate", () => field === "client-cert" ? ":AAAA:" : "Cert=AAAA"],
        ["comes twice", (value) => `${value}, ${value}`],
        ["goes on", (value) => `${value},x`],
        ["is cut", (value) => value.slice(0, 40)],
        ["has other characters", (value) => value.replace("MII", "M!I")],
        ["has half an escape", () => field === "client-cert" ? ":%:" : 'Cert="%E0%A4%A"'],
        ["has no end", () => field === "client-cert" ? ":AAAA" : 'Cert="AAAA\\"'],
      ] as [string, (value: string) => string][]
    ) {
      test(`${field} that ${what} is no certificate`, async () => {
        const tls = await tlsOf(asking({ [field]: spoil(good()) }), trusting);
        assert.equal(tls?.peerCertificate, undefined);
        assert.equal(tls?.authorized, false);
        assert.match(tls?.authorizationError ?? "", /malformed/);
      });
    }
  }

  test("X-Forwarded-Client-Cert with two certificates in one element is none", async () => {
    const trusting: EdgeOptions = { trustForwardedCertificates: "x-forwarded-client-cert" };
    const tls = await tlsOf(asking({ "x-forwarded-client-cert": `${xfcc};${xfcc}` }), trusting);
    assert.equal(tls?.authorized, false);
  });

  test("a long field that is not one is refused in time", async () => {
    const trusting: EdgeOptions = { trustForwardedCertificates: "x-forwarded-client-cert" };
    const started = performance.now();
    for (
      const value of ['A="' + "\\\\".repeat(100_000), "A=;".repeat(60_000), "A".repeat(200_000)]
    ) {
      const tls = await tlsOf(asking({ "x-forwarded-client-cert": value }), trusting);
      assert.equal(tls?.authorized, false);
    }
    assert.ok(performance.now() - started < 2_000);
  });

  describe("Cloudflare's facts", () => {
    const CF = {
      tlsVersion: "TLSv1.3",
      tlsCipher: "AEAD-AES256-GCM-SHA384",
      httpProtocol: "HTTP/2",
    };
    const SHOWN = {
      certPresented: "1",
      certVerified: "SUCCESS",
      certRevoked: "0",
      certSubjectDN: "CN=pump 7",
      certIssuerDN: "CN=Fleet",
      certSerial: "0a",
      certFingerprintSHA256: "ab01",
      certNotBefore: "Jan  1 00:00:00 2026 GMT",
      certNotAfter: "Jan  1 00:00:00 2027 GMT",
    };
    const from = (cf: object, headers: Record<string, string> = {}) =>
      Object.assign(asking(headers), { cf });

    test("are told without a certificate", async () => {
      const tls = await tlsOf(from({ ...CF, tlsClientAuth: { certPresented: "0" } }));
      assert.equal(tls?.protocol, "TLSv1.3");
      assert.equal(tls?.cipher, "AEAD-AES256-GCM-SHA384");
      assert.equal(tls?.alpn, "h2");
      assert.equal(tls?.peerCertificate, undefined);
      assert.equal(tls?.authorized, false);
      assert.equal(await tlsOf(from({ tlsVersion: "" })), undefined); // plain HTTP
    });

    test("are told of a certificate whose bytes are not", async () => {
      const tls = await tlsOf(from({ ...CF, tlsClientAuth: SHOWN }));
      assert.equal(tls?.authorized, true);
      assert.equal(tls?.peerCertificate?.subject, "CN=pump 7");
      assert.equal(tls?.peerCertificate?.fingerprint256, "AB:01");
      assert.equal(tls?.peerCertificate?.validTo.toISOString(), "2027-01-01T00:00:00.000Z");
      assert.throws(() => tls?.peerCertificate?.der, { code: "NOT_SUPPORTED" });
    });

    test("are read of the certificate itself, where it is one", async () => {
      const tls = await tlsOf(
        from({ ...CF, tlsClientAuth: { ...SHOWN, certRFC9440: clientCert } }),
      );
      assert.equal(tls?.peerCertificate?.fingerprint256, x509.fingerprint256);
      const odd = await tlsOf(from({ ...CF, tlsClientAuth: { ...SHOWN, certRFC9440: ":AAAA:" } }));
      assert.equal(odd?.peerCertificate?.subject, "CN=pump 7");
    });

    for (
      const [what, facts, why] of [
        ["failed", { certVerified: "FAILED:self signed" }, "FAILED:self signed"],
        ["was revoked", { certRevoked: "1" }, "REVOKED"],
      ] as const
    ) {
      test(`do not authorize a certificate that ${what}`, async () => {
        const tls = await tlsOf(from({ ...CF, tlsClientAuth: { ...SHOWN, ...facts } }));
        assert.equal(tls?.authorized, false);
        assert.equal(tls?.authorizationError, why);
      });
    }

    test("give the address, which is the client's word elsewhere", async () => {
      const app = createEdgeApp({}, (_, { session }) => new Response(session.remoteAddress));
      const headers = { "cf-connecting-ip": "192.0.2.9" };
      assert.equal(await (await app.fetch(from(CF, headers))).text(), "192.0.2.9");
      assert.equal(await (await app.fetch(asking(headers))).text(), "");
    });
  });
});

const root = fileURLToPath(new URL("..", import.meta.url));
const example = join(root, "examples/edge.ts");
const directory = mkdtempSync(join(tmpdir(), "httpsd-edge-"));
const require = createRequire(import.meta.url);

/** Bundles a module for a platform that has nothing of Node's, and gives the text. */
function bundled(entry: string): string {
  const outfile = join(directory, "bundle.js");
  const bun = join(root, "node_modules/.bin/bun");
  const options = ["--target=browser", "--format=esm", "--external=node:*"];
  const { status, stderr } = spawnSync(bun, ["build", ...options, entry, `--outfile=${outfile}`], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return readFileSync(outfile, "utf8");
}

/** The modules of Node's that a bundle asks for. */
function nodeModules(bundle: string): string[] {
  return [...bundle.matchAll(/(?:from|import|require\(|import\()\s*"(node:[^"]+)"/g)]
    .map(([, name]) => name!);
}

test("nothing that an edge app imports is of Node", () => {
  assert.deepEqual(nodeModules(bundled(join(root, "lib/edge/mod.ts"))), []);
  assert.ok(nodeModules(bundled(join(root, "lib/server.ts"))).includes("node:tls")); // else it sees nothing
}, 20_000);

/** What curl gets. */
function curl(url: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync("curl", ["-sS", ...args, url], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout;
}

/** What the example answers, wherever it runs. */
function assertServes(origin: string, greeting: RegExp): void {
  assert.equal(curl(`${origin}/hello?name=x`), "Hello x\n");
  const head = curl(`${origin}/hello`, "-I").toLowerCase();
  assert.match(head, /^http\/1\.1 200 /);
  assert.match(head, /^content-length: 12\r$/m);
  const big = join(directory, "big");
  writeFileSync(big, "0123456789abcdef".repeat(64 * 1024));
  assert.equal(curl(`${origin}/echo`, "--data-binary", `@${big}`), readFileSync(big, "utf8"));
  assert.equal(curl(`${origin}/secret/a`, "-w", " %{http_code}").slice(-4), " 403");
  assert.match(curl(`${origin}/else`), greeting);
}

describe("the example", () => {
  let child: ChildProcess | undefined;

  afterAll(async () => {
    if (child !== undefined && child.exitCode === null) {
      child.kill();
      await once(child, "exit");
    }
    rmSync(directory, { recursive: true, force: true });
  });

  test(`is served by ${runtime} as its default export`, async () => {
    const entry = runtime === "deno" ? example : join(directory, "serve.ts");
    // Bun takes address and port from the default export itself.
    const onLoopback = `import app from ${JSON.stringify(example)};
      export default Object.assign(app, { hostname: "127.0.0.1", port: 0 });`;
    if (runtime === "bun") writeFileSync(entry, onLoopback);
    const args = runtime === "deno"
      ? ["serve", "-A", "--host", "127.0.0.1", "--port", "0", entry]
      : [entry];
    const { stdout, stderr } = child = spawn(process.execPath, args, { cwd: root });
    let output = "";
    const origin = await new Promise<string>((resolve, reject) => {
      for (const stream of [stdout, stderr]) {
        stream!.on("data", (bytes) => {
          output += bytes;
          const [found] = /http:\/\/127\.0\.0\.1:\d+/.exec(output) ?? [];
          if (found !== undefined) resolve(found);
        });
      }
      child!.once("exit", () => reject(new Error(`It ended: ${output}`)));
    });
    assertServes(origin, /^Hello 127\.0\.0\.1 at \/else, a TLS that/);
  }, 20_000);

  test("is served by workerd", async () => {
    const workerd = require("workerd") as { default: string };
    if (!existsSync(workerd.default)) {
      console.warn(`Skipped: there is no workerd at ${workerd.default}; npm install brings it`);
      return;
    }
    const { Miniflare } = require("miniflare") as { Miniflare: new (options: object) => Worker };
    const worker = new Miniflare({
      host: "127.0.0.1",
      port: 0,
      modules: true,
      script: bundled(example),
      compatibilityDate: "2026-04-01",
      cf: { tlsVersion: "TLSv1.3", tlsCipher: "AEAD-AES128-GCM-SHA256", httpProtocol: "HTTP/2" },
    });
    try {
      assertServes((await worker.ready).origin, /^Hello .+ at \/else, TLSv1\.3\n$/);
    } finally {
      await worker.dispose();
    }
  }, 60_000);
});

/** What of Miniflare is used here. */
interface Worker {
  readonly ready: Promise<URL>;
  dispose(): Promise<void>;
}
