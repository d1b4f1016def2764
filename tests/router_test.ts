/** Routes: which one a request goes to, what the table refuses, and changes while requests run. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { matchExact, matchWildcard, readerOf } from "../lib/httpd/matcher.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { Dispatcher } from "../lib/http/dispatcher.ts";
import { Router } from "../lib/http/router.ts";
import type { ServerHandle } from "../lib/http/server_handle.ts";
import { requestOf, takeFields } from "../lib/httpd/request.ts";
import { HttpdFace } from "../lib/httpd/face.ts";
import {
  GET,
  type Mode,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

stopServersAfterAll();

/** The numbers of `http_parser`, from DELETE 0 to UNLINK 32. */
const ORIGINAL_METHODS = [
  ...["DELETE", "GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS", "TRACE", "COPY", "LOCK"],
  ...["MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND"],
  ...["ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE"],
  ...["UNSUBSCRIBE", "PATCH", "PURGE", "MKCALENDAR", "LINK", "UNLINK"],
];

const noHandler = (): void => {};

/** A matcher of the program's, whose templates may look like anything. */
const sameText = (template: string, path: string): boolean => template === path;

/** Makes routes of the httpd API for the tables that have their matcher. */
const faces = new WeakMap<Router, HttpdFace>();

/** A table with routes given as `"GET /path"`. */
function table(routes: string[], matcher = matchExact, max = Infinity): Router {
  const router = new Router(matcher, max, readerOf(matcher));
  const failures = new Dispatcher(router, undefined);
  faces.set(
    router,
    new HttpdFace<ServerHandle>({
      requests: { requestOf, takeFields },
      server: undefined,
      uriMatch: matcher,
      maxResponseFields: 8,
      failures,
    }),
  );
  for (const route of routes) add(router, route);
  return router;
}

function add(router: Router, route: string): void {
  const [method, uri] = route.split(" ") as [string, string];
  router.add(faces.get(router)!.route({ method, uri, handler: noHandler }));
}

/** The route that a request goes to, or the methods to be allowed. */
function chosen(router: Router, request: string): unknown {
  const [method, path] = request.split(" ") as [string, string];
  const match = router.match(method, path);
  return match.route === undefined ? match.allow : `${match.route.method} ${match.route.uri}`;
}

/** Sends one request on a connection of its own and reads the whole answer. */
async function ask(port: number, request: string, mode: Mode = "plain"): Promise<WireResponse> {
  const client = await RawClient.connect(port, mode);
  client.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
  const [response] = readResponses(await client.rest(), [request.split(" ")[0]!]);
  client.destroy();
  return response!;
}

describe("match()", () => {
  test("the first route in the order of registration wins", () => {
    const router = table(["GET /a/b", "GET /a/*", "GET /*"].toReversed(), sameText);
    assert.equal(chosen(router, "GET /*"), "GET /*");
    const wild = table(["GET /a/b", "GET /a/*", "GET /*"], matchWildcard);
    assert.equal(chosen(wild, "GET /a/b"), "GET /a/b");
    assert.equal(chosen(wild, "GET /a/c"), "GET /a/*");
    assert.equal(chosen(wild, "GET /c"), "GET /*");
  });

  test("a path without a route allows nothing, one with others allows theirs", () => {
    const router = table(["GET /a", "PUT /a", "POST /b"]);
    assert.deepEqual(chosen(router, "GET /c"), []);
    assert.deepEqual(chosen(router, "DELETE /a"), ["GET", "PUT", "HEAD"]);
    assert.deepEqual(chosen(router, "GET /b"), ["POST"]);
  });

  test("HEAD goes to its own route, else to the first GET or ANY", () => {
    assert.equal(chosen(table(["GET /a", "HEAD /a"]), "HEAD /a"), "HEAD /a");
    assert.equal(chosen(table(["POST /a", "GET /a"]), "HEAD /a"), "GET /a");
    assert.deepEqual(chosen(table(["POST /a"]), "HEAD /a"), ["POST"]);
    assert.equal(chosen(table(["ANY /a"]), "HEAD /a"), "ANY /a");
    assert.equal(chosen(table(["GET /a", "ANY /*"], matchWildcard), "HEAD /a"), "GET /a");
  });

  test("ANY is for every method but CONNECT and TRACE, which a route must name", () => {
    const router = table(["ANY /a"]);
    for (const method of ORIGINAL_METHODS) {
      const named = method === "CONNECT" || method === "TRACE";
      assert.equal(chosen(router, `${method} /a`) === "ANY /a", !named, method);
    }
    const allow = chosen(router, "TRACE /a") as string[];
    assert.deepEqual(allow.includes("TRACE") || allow.includes("CONNECT"), false);
    assert.ok(allow.includes("GET") && allow.includes("HEAD") && allow.includes("UNLINK"));
    assert.equal(chosen(table(["ANY /a", "TRACE /a"].toReversed()), "TRACE /a"), "TRACE /a");
  });
});

describe("add()", () => {
  const exists = { code: "HANDLER_EXISTS" };

  test("takes each of the original's 33 methods, and no other word", () => {
    assert.equal(ORIGINAL_METHODS.length, 33);
    const router = table(ORIGINAL_METHODS.map((method) => `${method} /`));
    for (const method of ORIGINAL_METHODS) {
      assert.equal(chosen(router, `${method} /`), `${method} /`);
    }
    for (const method of ["get", "", "BREW", "TRACK"]) {
      assert.throws(() => add(router, `${method} /x`), { code: "INVALID_CONFIG" }, method);
    }
  });

  test("refuses what another route would always take, as the original's matcher says", () => {
    assert.throws(() => table(["GET /a", "GET /a"]), exists);
    assert.throws(() => table(["ANY /a", "GET /a"]), exists);
    assert.throws(() => table(["ANY /a", "ANY /a"]), exists);
    assert.throws(() => table(["GET /*", "GET /foo"], matchWildcard), exists);
    assert.throws(() => table(["GET /a/?", "GET /a"], matchWildcard), exists);
  });

  test("takes what would be taken only in part", () => {
    table(["GET /a", "ANY /a"]);
    table(["GET /a", "POST /a"]);
    table(["GET /foo", "GET /*"], matchWildcard);
    table(["GET /*", "POST /foo"], matchWildcard);
    table(["GET /*", "GET /foo"], sameText);
  });

  test("refuses the route after maxRoutes, until one is removed", () => {
    const eight = Array.from({ length: 8 }, (_, i) => `GET /${i}`);
    const router = table(eight, matchExact, 8);
    assert.throws(() => add(router, "GET /8"), { code: "HANDLERS_FULL" });
    router.remove("/3", "GET");
    assert.throws(() => router.remove("/3", "GET"), { code: "NOT_FOUND" });
    add(router, "GET /3");
    assert.throws(() => add(router, "GET /3"), exists);
    assert.throws(() => add(router, "GET /8"), { code: "HANDLERS_FULL" });
    for (const route of eight) router.remove(route.slice(4));
    assert.deepEqual(chosen(router, "GET /0"), []);
  });

  test("keeps a copy: a route that is changed afterwards stays as it was", () => {
    const router = table([]);
    const route = { uri: "/a", method: "GET", handler: noHandler };
    router.add(faces.get(router)!.route(route));
    route.uri = "/b";
    assert.equal(chosen(router, "GET /a"), "GET /a");
    assert.deepEqual(chosen(router, "GET /b"), []);
  });
});

/** What a table does for an operation, errors too. */
function outcome(router: Router, [deed, method, uri]: readonly [string, string, string]): unknown {
  if (deed === "match") return chosen(router, `${method} ${uri}`);
  try {
    if (deed === "add") router.add({ method, uri, handle: noHandler });
    else router.remove(uri, ...deed === "remove" ? [method] : []);
    return "done";
  } catch (error) {
    return (error as Error).message;
  }
}

describe("the table of a standard matcher", () => {
  /** Few pieces, so that paths meet, and beginnings that part within a piece. */
  const PIECES = ["/", "/a", "/ab", "/abc", "b", "/b", "//", "\u{1f600}", "\u{1f601}", "?", "*"];
  const ENDS = ["", "", "", "*", "?", "?*", "*?", "??", "**", "/", "/*", "/?*"];
  const METHODS = ["GET", "GET", "HEAD", "POST", "ANY", "CONNECT", "TRACE", "OPTIONS"];
  const DEEDS = ["match", "match", "match", "match", "add", "add", "remove", "remove all"];

  for (const matcher of [matchExact, matchWildcard]) {
    test(`${matcher.name}() does what its list does, on 300 generated tables`, () => {
      const seen = new Set<string>();
      for (let seed = 1; seed <= 300; seed++) {
        const random = new Random(seed);
        const path = () => Array.from({ length: random.below(4) }, () => random.pick(PIECES));
        const indexed = new Router(matcher, 40, readerOf(matcher));
        const listed = new Router(matcher, 40);
        for (let step = 0; step < 150; step++) {
          const deed = random.pick(step < 30 ? ["add"] : DEEDS);
          const uri = path().join("") + (deed === "match" ? "" : random.pick(ENDS));
          const operation = [deed, random.pick(METHODS), uri] as const;
          const expected = outcome(listed, operation);
          assert.deepEqual(outcome(indexed, operation), expected, `${seed}: ${operation}`);
          seen.add(`${deed} ${Array.isArray(expected) ? expected.length > 0 : `${expected}`[0]}`);
        }
      }
      // All kinds of answers have come: found, 405 and 404; done, refused and full; gone or not.
      for (const kind of ["match G", "match A", "match true", "match false", "add d", "add R"]) {
        assert.ok(seen.has(kind), `${kind} of ${[...seen]}`);
      }
      for (const kind of ["add T", "remove d", "remove T", "remove all d", "remove all T"]) {
        assert.ok(seen.has(kind), `${kind} of ${[...seen]}`);
      }
    });
  }

  test("is asked once for a path, and the matcher about none of 10,000 templates", () => {
    const router = new Router(() => assert.fail("asked"), Infinity, readerOf(matchWildcard));
    for (let i = 0; i < 10_000; i++) {
      router.add({ uri: `/${i % 100}/${i}/?*`, method: "GET", handle: noHandler });
    }
    assert.equal(chosen(router, "GET /7/9907/x"), "GET /7/9907/?*");
    assert.equal(chosen(router, "GET /7/9907"), "GET /7/9907/?*");
    assert.deepEqual(chosen(router, "GET /7/9908/"), []);
  });
});

describe("remove()", () => {
  test("takes away the one route of a template and method, or all of the template", () => {
    const router = table(["GET /a", "POST /a", "GET /b"]);
    router.remove("/a", "GET");
    assert.deepEqual(chosen(router, "GET /a"), ["POST"]);
    add(router, "GET /a");
    router.remove("/a");
    assert.deepEqual(chosen(router, "POST /a"), []);
    assert.equal(chosen(router, "GET /b"), "GET /b");
    assert.throws(() => router.remove("/a"), { code: "NOT_FOUND" });
    assert.throws(() => router.remove("/b", "POST"), { code: "NOT_FOUND" });
  });

  test("compares templates as text, whatever the matcher", () => {
    const router = table(["GET /*"], matchWildcard);
    assert.throws(() => router.remove("/a"), { code: "NOT_FOUND" });
    router.remove("/*");
  });
});

describe("a server's routes", () => {
  for (const mode of MODES) {
    test(`404 and 405 with Allow, ${mode}`, async () => {
      const { server, port } = await started(undefined, {}, mode);
      server.route({ uri: "/hello", method: "GET", handler: (request) => request.send("Hello") });
      assert.equal((await ask(port, GET("/hello"), mode)).body, "Hello");
      const post = await ask(port, "POST /hello HTTP/1.1\r\nHost: a\r\n\r\n", mode);
      assert.deepEqual(
        [post.status, post.fields["allow"], post.body],
        [405, "GET, HEAD", "Specified method is invalid for this resource"],
      );
      const none = await ask(port, GET("/Hello"), mode);
      assert.deepEqual([none.status, none.body], [404, "Nothing matches the given URI"]);
    });
  }

  test("all methods come to their routes on the wire, TRACE too", async () => {
    const { server, port } = await started(undefined);
    for (const method of ORIGINAL_METHODS) {
      if (method === "CONNECT") continue; // its target is an authority, which is no path
      const handler = (request: HttpdRequest) => request.header("X-Method", request.method).send();
      server.route({ uri: "/", method, handler });
    }
    const client = await RawClient.connect(port);
    const methods = ORIGINAL_METHODS.filter((method) => method !== "CONNECT");
    client.send(methods.map((method) => `${method} / HTTP/1.1\r\nHost: a\r\n\r\n`).join(""));
    await client.until(() => client.text.split("HTTP/1.1 200").length === methods.length + 1);
    const answers = readResponses(client.text, methods).map(({ fields }) => fields["x-method"]);
    assert.deepEqual(answers, methods);
    client.destroy();
  });

  test("a request under way keeps its route when that is removed", async () => {
    const { server, port } = await started(undefined);
    const { promise: removed, resolve: remove } = Promise.withResolvers<void>();
    const { promise: inside, resolve: enter } = Promise.withResolvers<void>();
    server.route({
      uri: "/",
      method: "GET",
      context: "kept",
      async handler(request) {
        enter();
        await removed;
        request.send(`${request.routeContext}`);
      },
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await inside;
    server.unroute("/");
    remove();
    await client.expect("kept");
    client.text = "";
    client.send(GET("/"));
    await client.expect("404");
    client.destroy();
  });

  test("a handler can remove itself and add another", async () => {
    const { server, port } = await started(undefined);
    server.route({
      uri: "/",
      method: "GET",
      handler(request) {
        server.unroute("/", "GET").route({
          uri: "/",
          method: "GET",
          handler: (next) => next.send("2"),
        });
        request.send("1");
      },
    });
    assert.equal((await ask(port, GET("/"))).body, "1");
    assert.equal((await ask(port, GET("/"))).body, "2");
  });

  test("the option uriMatch compares paths as sent, without the query", async () => {
    const seen: string[] = [];
    const { server, port } = await started(undefined, {
      uriMatch(template, path) {
        seen.push(path);
        return template.toLowerCase() === path.toLowerCase();
      },
    });
    server.route({ uri: "/A", method: "GET", handler: (request) => request.send(request.path) });
    assert.throws(
      () => server.route({ uri: "/a", method: "GET", handler: noHandler }),
      { code: "HANDLER_EXISTS" },
    );
    assert.equal((await ask(port, GET("/a?b=c"))).body, "/a");
    assert.equal((await ask(port, GET("/%61//.."))).status, 404);
    assert.deepEqual(seen, ["/a", "/a", "/%61//.."]);
  });

  test("a matcher that throws is a 500 for the client and an error event", async () => {
    const { server, port, errors } = await started(undefined, {
      uriMatch(_, path) {
        if (path === "/bad") throw new Error("no");
        return true;
      },
    });
    server.route({ uri: "/", method: "GET", handler: (request) => request.send("good") });
    assert.equal((await ask(port, GET("/bad"))).status, 500);
    assert.equal((await ask(port, GET("/good"))).body, "good");
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
    assert.throws(
      () => server.route({ uri: "/bad", method: "GET", handler: noHandler }),
      { message: "no" },
    );
  });

  test("the option maxRoutes bounds them", async () => {
    const { server } = await started(undefined, { limits: { maxRoutes: 1 } });
    server.route({ uri: "/", method: "GET", handler: noHandler });
    assert.throws(
      () => server.route({ uri: "/b", method: "GET", handler: noHandler }),
      { code: "HANDLERS_FULL" },
    );
  });
});
