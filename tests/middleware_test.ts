/**
 * What runs around all answers: `use()`, `onError()` for all statuses, and the option
 * `responseFields`, on every face of the routes, and on both versions of HTTP.
 */
import assert from "node:assert/strict";
import { afterEach, describe, test } from "bun:test";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { createEdgeApp, type EdgeOptions } from "../lib/edge/mod.ts";
import { HttpError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { HttpsServer } from "../lib/server.ts";
import { type Face, type FaceName, open, streamOf } from "./edge_support.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const FACES: FaceName[] = ["a socket", "server.fetch()", "an edge app"];

for (const name of FACES) {
  describe(`on ${name}`, () => {
    const faces: Face[] = [];
    async function opened(
      handler?: (request: Request) => Response | Promise<Response>,
      options: EdgeOptions = {},
    ): Promise<Face> {
      const face = await open(name, handler, options);
      faces.push(face);
      return face;
    }
    afterEach(async () => {
      await Promise.all(faces.splice(0).map((face) => face.close()));
    });

    test("use() runs in order around a route, a fetch handler and a 404", async () => {
      const face = await opened();
      const steps: string[] = [];
      for (const which of ["a", "b"]) {
        face.app.use(async (request, next) => {
          steps.push(`${which} ${request.path}`);
          await next();
          steps.push(`${which} after`);
        });
      }
      face.app.route({ uri: "/x", method: "GET", handler: (request) => request.send("x") });
      assert.equal(await (await face.ask("/x")).text(), "x");
      await until(() => steps.length === 4, "both are over"); // what is sent may come before
      assert.equal((await face.ask("/none")).status, 404);
      await until(() => steps.length === 8, "both are over");
      assert.deepEqual(steps, [
        ...["a /x", "b /x", "b after", "a after"],
        ...["a /none", "b /none", "b after", "a after"],
      ]);
      const fetching = await opened(() => new Response("fetched"));
      fetching.app.use((_, next) => next());
      assert.equal(await (await fetching.ask("/")).text(), "fetched");
      assert.deepEqual([...face.errors, ...fetching.errors], []);
    });

    test("use() may answer itself, by a Response or the request's methods", async () => {
      const face = await opened(() => new Response("secret"));
      face.app.use((request, next) => {
        if (request.path === "/send") return request.sendError(401, "no");
        if (request.path === "/response") return new Response("no", { status: 403 });
        return next();
      });
      assert.equal((await face.ask("/send")).status, 401);
      assert.equal((await face.ask("/response")).status, 403);
      assert.equal(await (await face.ask("/")).text(), "secret");
      assert.deepEqual(face.errors, []);
    });

    test("use() is given the Response that is not sent yet, and may change or replace it", async () => {
      const face = await opened(() => new Response("old", { headers: { "X-Old": "1" } }));
      face.app.use(async (request, next) => {
        const response = await next();
        if (request.path === "/same") return response;
        const text = await response!.text();
        return new Response(`${text} and new`, { headers: response!.headers });
      });
      assert.equal(await (await face.ask("/same")).text(), "old");
      const replaced = await face.ask("/");
      assert.equal(await replaced.text(), "old and new");
      assert.equal(replaced.headers.get("x-old"), "1");
    });

    test("fields that use() sets are in every answer, and its own are kept", async () => {
      const face = await opened(undefined, { limits: { maxResponseFields: 5 } });
      face.app.use((request, next) => {
        request.header("X-A", "outer").header("Vary", "Origin").setCookie("a", "1");
        return next();
      });
      face.app.use((request, next) => {
        request.header("X-A", "inner");
        return next();
      });
      const add = (uri: string, handler: (request: HttpdRequest) => Response | void) =>
        face.app.route({ uri, method: "GET", handler });
      add("/send", (request) => request.header("Set-Cookie", "b=2").send("x"));
      add("/own", (request) => request.header("X-A", "own").send("x"));
      add("/response", () => new Response("x", { headers: { "Vary": "Accept" } }));
      add("/null", () => NOTHING);
      add("/stream", () => new Response(streamOf("x", "y")));
      add("/fails", () => {
        throw new Error("planted");
      });
      const paths = ["/send", "/response", "/null", "/null", "/stream", "/fails", "/none"];
      for (const path of paths) {
        const response = await face.ask(path);
        await response.text();
        assert.equal(response.headers.get("x-a"), "inner", path);
        assert.equal(
          response.headers.get("vary"),
          path === "/response" ? "Accept, Origin" : "Origin",
          path,
        );
        assert.deepEqual(
          response.headers.getSetCookie().map((cookie) => cookie.split(";")[0]),
          path === "/send" ? ["b=2", "a=1"] : ["a=1"],
          path,
        );
      }
      assert.equal((await face.ask("/own")).headers.get("x-a"), "own");
      assert.deepEqual([...NOTHING.headers], []);
      assert.deepEqual(face.errors, ["HANDLER_FAILED"]);
    });

    test("all handlers of a request see the same object, with the route's context", async () => {
      const face = await opened();
      const users = new WeakMap<HttpdRequest, string>();
      face.app.use((request, next) => {
        users.set(request as HttpdRequest, "ada");
        request.status(201);
        return next();
      });
      face.app.route({
        uri: "/",
        method: "GET",
        context: { greeting: "hello" },
        handler: (request) => {
          const { greeting } = request.routeContext as { greeting: string };
          request.send(`${greeting} ${users.get(request)}`);
        },
      });
      const response = await face.ask("/");
      assert.deepEqual([response.status, await response.text()], [201, "hello ada"]);
    });

    const failures: [what: string, middleware: Parameters<Face["app"]["use"]>[0]][] = [
      ["throws", () => {
        throw new Error("planted");
      }],
      ["rejects", () => Promise.reject(new Error("planted"))],
      ["ends without an answer", () => {}],
      ["calls next() twice", async (_, next) => {
        await next();
        await next();
      }],
      ["returns what is no Response", () => "x" as never],
    ];
    for (const [what, middleware] of failures) {
      test(`use() that ${what} is answered with 500 and reported`, async () => {
        const face = await opened(() => new Response("x"));
        face.app.use(middleware);
        const response = await face.ask("/");
        await response.text();
        assert.deepEqual([response.status, face.errors], [500, ["HANDLER_FAILED"]]);
        assert.equal((await face.ask("/")).status, 500, "the server goes on");
      });
    }

    const readers: [what: string, read: (request: HttpdRequest<unknown>) => Promise<unknown>][] = [
      ["all of a body", (request) => request.bytes()],
      ["some of a body", (request) => request.recv(2)],
      ["from the stream of a body", async (request) => {
        const reader = request.body.getReader();
        await reader.read();
        reader.releaseLock();
      }],
    ];
    for (const [what, read] of readers) {
      test(`use() that reads ${what} leaves none to a fetch handler, which fails`, async () => {
        for (const length of [9, 900]) {
          const face = await opened(async (request) => new Response(await request.text()));
          face.app.use(async (request, next) => {
            await read(request);
            return next();
          });
          const response = await face.ask("/", { method: "POST", body: "x".repeat(length) });
          assert.equal(response.status, 500, await response.text());
          assert.deepEqual(face.errors, [name === "a socket" ? "BODY_USED" : "HANDLER_FAILED"]);
          const quiet = await opened(() => new Response("unread"));
          quiet.app.use(async (request, next) => {
            await read(request);
            return next();
          });
          const unread = await quiet.ask("/", { method: "POST", body: "x".repeat(length) });
          assert.equal(await unread.text(), "unread");
          assert.deepEqual(quiet.errors, []);
        }
      });
    }

    test("use() may catch what a handler throws, and answer", async () => {
      const face = await opened(() => Promise.reject(new Error("planted")));
      face.app.use(async (request, next) => {
        try {
          return await next();
        } catch (error) {
          if (request.path === "/response") return new Response(String(error), { status: 502 });
          return request.status(503).send(String(error));
        }
      });
      assert.equal((await face.ask("/response")).status, 502);
      const response = await face.ask("/");
      assert.deepEqual([response.status, await response.text()], [503, "Error: planted"]);
      assert.deepEqual(face.errors, []);
    });

    test("use() that does not await next() has it awaited", async () => {
      const face = await opened(async () => {
        await Promise.resolve();
        return new Response("later");
      });
      face.app.use((_, next) => void next());
      assert.equal(await (await face.ask("/")).text(), "later");
      const failing = await opened(() => Promise.reject(new Error("planted")));
      failing.app.use((_, next) => void next());
      assert.equal((await failing.ask("/")).status, 500);
      assert.deepEqual([...face.errors, ...failing.errors], ["HANDLER_FAILED"]);
    });

    test("what fails behind an answer of use() that does not wait is reported", async () => {
      const face = await opened(() => Promise.reject(new Error("planted")));
      face.app.use((_, next) => {
        void next();
        return new Response("at once");
      });
      assert.equal(await (await face.ask("/")).text(), "at once");
      assert.deepEqual(face.errors, ["HANDLER_FAILED"]);
    });

    test("onError(handler) answers all statuses that have no handler of their own", async () => {
      const face = await opened();
      face.app.route({
        uri: "/teapot",
        method: "GET",
        handler: () => {
          throw new HttpError(418, "BAD_REQUEST", "tea");
        },
      });
      face.app.onError((error) => new Response(`all ${error.status}`, { status: error.status }));
      face.app.onError(404, (_, request) => request!.status(404).send("own 404"));
      const said = async (path: string, init?: RequestInit) => {
        const response = await face.ask(path, init);
        return [response.status, await response.text()];
      };
      assert.deepEqual(await said("/teapot"), [418, "all 418"]);
      assert.deepEqual(await said("/teapot", { method: "POST" }), [405, "all 405"]);
      assert.deepEqual(await said("/none"), [404, "own 404"]);
      face.app.onError(null);
      assert.equal((await said("/teapot"))[0], 418);
      assert.notEqual((await said("/teapot"))[1], "all 418");
      assert.deepEqual(await said("/none"), [404, "own 404"]);
    });

    test("responseFields are in every answer that has not its own", async () => {
      const face = await opened(
        (request) => new Response("x", request.url.endsWith("/own") ? { headers: OWN } : {}),
        { responseFields: { "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY" } },
      );
      const fields = async (path: string, init?: RequestInit) => {
        const { headers } = await face.ask(path, init);
        return [headers.get("x-frame-options"), headers.get("x-content-type-options")];
      };
      assert.deepEqual(await fields("/"), ["DENY", "nosniff"]);
      assert.deepEqual(await fields("/own"), ["SAMEORIGIN", "nosniff"]);
      assert.deepEqual(await fields("/", { method: "HEAD" }), ["DENY", "nosniff"]);
      const tooLong = { method: "POST", body: "x".repeat(1_001) };
      assert.deepEqual(await fields("/", tooLong), ["DENY", "nosniff"]);
      const text = await face.ask("/");
      assert.match(text.headers.get("content-type") ?? "text/plain", /^text\/plain/);
    });
  });
}

const OWN = { "X-Frame-Options": "SAMEORIGIN" };

/** A Response that a program returns again and again. */
const NOTHING = new Response(null, { status: 204 });

describe("responseFields", () => {
  test("are in answers to requests that cannot be read", async () => {
    const { port } = await started(undefined, { responseFields: { "X-Frame-Options": "DENY" } });
    for (const request of ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", GET("/none")]) {
      const client = await RawClient.connect(port);
      client.send(request);
      await client.expect("X-Frame-Options: DENY\r\n");
      client.destroy();
    }
  });

  test("and use() are the same over HTTP/2", async () => {
    const { server, port } = await started(() => new Response("x"), {
      responseFields: { "X-Frame-Options": "DENY" },
    });
    server.use((request, next) => {
      request.header("X-Version", "any");
      return request.path === "/fails" ? Promise.reject(new Error("planted")) : next();
    });
    server.addEventListener("error", () => {});
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    for (const [path, status, own] of [["/", 200, "any"], ["/fails", 500, undefined]] as const) {
      const stream = client.request({ ":path": path });
      const [headers] = await once(stream, "response") as [Record<string, unknown>];
      stream.resume();
      assert.deepEqual(
        [headers[":status"], headers["x-frame-options"], headers["x-version"]],
        [status, "DENY", own],
      );
    }
    client.destroy();
  });

  test("of a wrong shape are refused", () => {
    const mistakes: [given: unknown, message: RegExp][] = [
      ["X: y", /^Option responseFields is a string: it must be an object of fields$/],
      [[["X", "y"]], /must be an object of fields/],
      [{ "X-A": 1 }, /must have the names and values of fields/],
      [{ "X-A": "a\r\nb" }, /must have the names and values of fields/],
      [{ "X A": "a" }, /must have the names and values of fields/],
      [{ "Content-Type": "a" }, /must not have Content-Type, Date, or what frames/],
      [{ "content-length": "0" }, /must not have Content-Type, Date, or what frames/],
    ];
    for (const [responseFields, message] of mistakes) {
      for (const make of [createEdgeApp, (given: object) => new HttpsServer(given)]) {
        assert.throws(() => make({ responseFields } as never), { code: "INVALID_CONFIG" });
      }
      assert.throws(() => new HttpsServer({ responseFields } as never), { message });
    }
  });
});
