/** What is said about a call with wrong arguments, at once and in words of ours. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import { requireClientCertificate } from "../lib/hono/mod.ts";
import { devCertificates } from "../lib/tls/dev_certificates.ts";
import { refuse } from "../lib/tls/cert_select.ts";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { type ServerSentEvent, serverSentEvents } from "../lib/web/sse.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import { ConfigError, HttpsdError } from "../lib/errors.ts";
import { HttpsServer, serve } from "../lib/server.ts";
import { GET, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { failureOf, idle, request, VALIBOT } from "./mistakes_support.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { certificates, start } from "./support.ts";

assertRuntime();
stopServersAfterAll();

describe("serve() and new HttpsServer()", () => {
  const app = { fetch: (request: Request) => new Response(new URL(request.url).pathname) };

  class App {
    readonly prefix = "app ";
    fetch(request: Request): Response {
      return new Response(this.prefix + new URL(request.url).pathname);
    }
  }

  /** What a server answers to a GET. */
  async function answer(server: HttpsServer): Promise<string | undefined> {
    const client = await RawClient.connect(server.address.port);
    client.send(GET("/x").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    const [response] = readResponses(await client.rest());
    client.destroy();
    return response?.body;
  }

  const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0 } as const;

  const forms: [form: string, run: () => Promise<HttpsServer>, body: string][] = [
    ["serve(options, handler)", () => serve(options, app.fetch), "/x"],
    ["serve(options, { fetch })", () => serve(options, app), "/x"],
    ["serve(options, app)", () => serve(options, new App()), "app /x"],
    ["serve({ …options, fetch })", () => serve({ ...options, ...app }), "/x"],
    ["new HttpsServer(options, app)", async () => {
      const server = new HttpsServer(options, new App());
      await server.start();
      return server;
    }, "app /x"],
    ["new HttpsServer({ …options, fetch })", async () => {
      const server = new HttpsServer({ ...options, ...app } as HttpsServerOptions);
      await server.start();
      return server;
    }, "/x"],
  ];
  for (const [form, run, body] of forms) {
    test(`take ${form}`, async () => {
      await using server = await run();
      assert.equal(await answer(server), body);
    });
  }

  const loose = serve as (...given: unknown[]) => Promise<HttpsServer>;
  const mistakes: [form: string, given: unknown[], message: RegExp][] = [
    ["no handler", [options], /^serve\(\) was given no handler: write serve\(options, \(request\)/],
    ["undefined", [options, undefined], /was given no handler/],
    ["a promise", [options, Promise.resolve(app)], /is a promise: await it$/],
    ["a module", [options, { default: app }], /is an object: give its default export$/],
    ["a text", [options, "hello"], /^The handler of serve\(\) is a string: write \(request\) =>/],
    ["null", [options, null], /^The handler of serve\(\) is null: write \(request\) =>/],
    ["an object", [options, {}], /is an object: write .* or give an object with fetch$/],
    ["a Response", [options, new Response("x")], /is an object: write/],
    ["a handler first", [app.fetch, options], /takes its options first: write serve\(\{ cert, key/],
    ["an app alone", [new App()], /was given an app, and no certificate: write serve\(\{ cert/],
    [
      "two handlers",
      [{ ...options, ...app }, app.fetch],
      /^Option fetch of serve\(\) is a handler/,
    ],
    ["fetch: 1", [{ ...options, fetch: 1 }, app.fetch], /^Option fetch is not known/],
    [
      "an Express app",
      [options, Object.assign(() => {}, { listen() {}, handle() {} })],
      /^The handler of serve\(\) is an app for node:http, .*: use Hono, or put httpsd before its/,
    ],
    ["a Koa app", [options, { listen() {}, callback() {} }], /is an app for node:http/],
    ["Bun's shape", [{ ...options, ...app, tls: {} }], /^Option tls .* write cert and key/],
    [
      "Bun's error",
      [{ ...options, ...app, error() {} }],
      /error .* write server\.onError\(handler\)/,
    ],
    [
      "Deno's onListen",
      [{ ...options, onListen() {} }, app.fetch],
      /onListen .* do it after await/,
    ],
    ["nothing", [], /^Options must be an object, not undefined$|no handler/],
  ];
  for (const [what, given, message] of mistakes) {
    test(`say what to write for ${what}`, async () => {
      const error = await failureOf(() => loose(...given));
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.code, "INVALID_CONFIG");
      assert.match(error.message, message);
    });
  }

  test("serve a default export of options and fetch with its certificate", async () => {
    const { cert, key } = await certificates();
    await using server = await serve({ cert, key, hostname: "127.0.0.1", port: 0, ...app });
    const client = await RawClient.connect(server.address.port, "tls");
    client.send(GET("/x"));
    await client.expect("\r\n\r\n/x");
    client.destroy();
  });
});

describe("A route", () => {
  const handler = () => {};
  const exact = { transportMode: "insecure" } as const;
  const wild = { ...exact, uriMatch: matchWildcard };
  const own = { ...exact, uriMatch: () => false };

  const mistakes: [route: unknown, message: RegExp, options?: HttpsServerOptions][] = [
    ["/x", /^route\(\) takes one object: write route\(\{ uri: "\/x", method: "GET", handler \}\)$/],
    [
      undefined,
      /^Options of route\(\) must be \{ uri, method, handler, context \}, not undefined$/,
    ],
    [[], /must be \{ uri, .*, not an array$/],
    [{ path: "/x", method: "GET", handler }, /^Option path of .* is not known here: write uri$/],
    [{ url: "/x", method: "GET", handler }, /write uri$/],
    [{ uri: "/x", methods: ["GET"], handler }, /write one route for each method, or method: "ANY"/],
    [{ uri: "/x", method: "GET", fetch: handler }, /fetch of .* write handler$/],
    [{ uri: "/x", method: "GET", hanlder: handler }, /hanlder of .* did you mean handler\?$/],
    [{ uri: "/x", method: "GET" }, /^Option handler of route\(\) is missing: give it$/],
    [{ uri: "/x", handler }, /^Option method of route\(\) is missing: give it$/],
    [{ method: "GET", handler }, /^Option uri of route\(\) is missing: give it$/],
    [
      { uri: "/x", method: "GET", handler: "x" },
      /handler of .* is a string: it must be a function$/,
    ],
    [{ uri: "/x", method: "get", handler }, /^Option method of .* is unknown: write "GET"$/],
    [{ uri: "/x", method: "any", handler }, /is unknown: write "ANY"$/],
    [{ uri: "/x", method: "BREW", handler }, /is unknown: use one of HTTP's, or "ANY"$/],
    [
      { uri: "/x", method: 1, handler },
      /^Option method of .* is 1: it must be a method, or "ANY"$/,
    ],
    [{ uri: 1, method: "GET", handler }, /^Option uri of .* is 1: it must be the path as text$/],
    [{ uri: /x/, method: "GET", handler }, /is an object: it must be the path as text$/],
    [{ uri: "", method: "GET", handler }, /is "": it must begin with a slash, as in "\/"$/],
    [{ uri: "x", method: "GET", handler }, /it must begin with a slash, as in "\/x"$/],
    [{ uri: "x", method: "GET", handler }, /it must begin with a slash, as in "\/x"$/, wild],
    [{ uri: "https://a/x", method: "GET", handler }, /begin with a slash, as in "\/x"$/],
    [{ uri: "*", method: "GET", handler }, /it must begin with a slash/],
    [{ uri: "/u/:id", method: "GET", handler }, /such as :id are not known: .* "\/u\/\*" and read/],
    [{ uri: "/u/:id/x", method: "GET", handler }, /such as :id are not known/, wild],
    [{ uri: "/u/{id}", method: "GET", handler }, /such as \{id\} are not known/],
    [
      { uri: "/x/*", method: "GET", handler },
      /special with uriMatch: matchWildcard only: give the/,
    ],
    [{ uri: "/*/x", method: "GET", handler }, /a \* is special at the end only/, wild],
    [{ uri: "/x?y=1", method: "GET", handler }, /a route is for a path: read the query/],
    [{ uri: "/x?y=1", method: "GET", handler }, /a route is for a path: read the query/, wild],
    [{ uri: "/x#y", method: "GET", handler }, /a route is for a path/],
    [{ uri: "/ä b", method: "GET", handler }, /compared as sent: write "\/%C3%A4%20b"$/],
    [{ uri: "/ws", websocket: {}, handler }, /^Option handler of .* goes without websocket/],
    [{ uri: "/ws", websocket: {}, method: "POST" }, /method of .* it must be "GET", or left out/],
    [{ uri: "/ws", websocket: true }, /websocket of .* it must be an object of WebSocketOptions$/],
    [
      { uri: "/ws", websocket: { message() {} } },
      /message of the WebSocket route .* write onMessage/,
    ],
    [{ uri: "ws", websocket: {} }, /it must begin with a slash/],
  ];
  for (const [route, message, options = exact] of mistakes) {
    test(`is refused: ${message.source.slice(0, 60)}`, () => {
      for (const host of [new HttpsServer(options), createEdgeApp(pickMatcher(options))]) {
        const refused = { code: "INVALID_CONFIG", message };
        assert.throws(() => host.route(route as never), refused);
        assert.doesNotMatch(message.source, VALIBOT);
      }
    });
  }

  const pickMatcher = ({ uriMatch }: HttpsServerOptions) =>
    uriMatch === undefined ? {} : { uriMatch };

  test("is taken where it can be reached", () => {
    const taken: [uri: string, method: string, options: HttpsServerOptions][] = [
      ["/", "GET", exact],
      ["*", "OPTIONS", exact],
      ["/a:b", "GET", exact],
      ["/x/*", "GET", wild],
      ["/x/?*", "GET", wild],
      ["/x/*?", "GET", wild],
      ["/x/?", "GET", wild],
      ["*", "ANY", wild],
      ["/*", "GET", wild],
      ["^/u/(.*)$", "GET", own],
      [":id", "GET", own],
    ];
    for (const [uri, method, options] of taken) {
      new HttpsServer(options).route({ uri, method, handler });
    }
    new HttpsServer(exact).route({ uri: "/ws", method: "GET", websocket: {} } as never);
  });

  test("of a matcher that answers neither true nor false is closed, and that is reported", async () => {
    for (const answer of [Promise.resolve(true), 1, "x", ["x"], undefined, null]) {
      const { server, port, errors } = await started(undefined, {
        uriMatch: () => answer as never,
      });
      server.route({ uri: "/x", method: "GET", handler: (request) => request.send("secret") });
      const client = await RawClient.connect(port);
      client.send(GET("/x").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
      assert.equal(readResponses(await client.rest())[0]?.status, 500);
      client.destroy();
      assert.deepEqual(errors.map(({ code }) => code), ["INVALID_CONFIG"]);
      assert.match(errors[0]!.message, /^Option uriMatch returned .*: return true or false$/);
    }
  });

  test("is removed by its uri", () => {
    assert.throws(() => idle().unroute({ uri: "/" } as never), {
      code: "NOT_FOUND",
      message: "unroute() takes the uri of a route, not an object: write unroute(uri, method)",
    });
  });
});

describe("onError()", () => {
  const mistakes: [given: unknown[], message: RegExp][] = [
    [
      ["500", () => {}],
      /^onError\(\) takes a status from 400 to 599, not a string: write onError\(500/,
    ],
    [
      [() => {}, 500],
      /takes a status from 400 to 599, not a function: .*or onError\(handler\) for/,
    ],
    [[], /^The handler of onError\(\) is undefined/],
    [[200, () => {}], /not 200/],
    [[600, () => {}], /not 600/],
    [[500], /^The handler of onError\(\) is undefined: give a function, or null to take it away$/],
    [[500, {}], /is an object/],
  ];
  for (const [given, message] of mistakes) {
    test(`refuses ${message.source}`, () => {
      for (const host of [idle(), createEdgeApp()]) {
        const onError = host.onError.bind(host) as (...given: unknown[]) => unknown;
        assert.throws(() => onError(...given), { code: "INVALID_CONFIG", message });
      }
    });
  }
});

describe("use()", () => {
  for (const given of [undefined, "/admin", {}, null]) {
    test(`refuses ${JSON.stringify(given)}`, () => {
      for (const host of [idle(), createEdgeApp()]) {
        assert.throws(() => host.use(given as never), {
          code: "INVALID_CONFIG",
          message: /^use\(\) takes a function, not .*: write use\(\(request, next\) => next\(\)\)/,
        });
      }
    });
  }
});

describe("addEventListener()", () => {
  const mistakes: [type: unknown, listener: unknown, message: RegExp][] = [
    ["conected", () => {}, /^There is no event "conected": did you mean connected\?$/],
    ["Error", () => {}, /^There is no event "Error": did you mean error\?$/],
    ["http:headers", () => {}, /did you mean http:header/],
    ["listening", () => {}, /^There is no event "listening": use error, start, connected/],
    ["toString", () => {}, /^There is no event "toString"/],
    [() => {}, undefined, /^There is no event a function: use error/],
    [
      "error",
      {},
      /^The listener for error is an object: give a function, or an object with handleE/,
    ],
    ["error", undefined, /^The listener for error is undefined/],
  ];
  for (const [type, listener, message] of mistakes) {
    test(`refuses ${message.source}`, () => {
      assert.throws(() => idle().addEventListener(type as "error", listener as never), {
        code: "INVALID_CONFIG",
        message,
      });
    });
  }
});

test("queueWork() of what is no function rejects", async () => {
  await assert.rejects(idle().queueWork("x" as never), {
    code: "INVALID_CONFIG",
    message: "queueWork() takes a function, not a string",
  });
});

describe("What other functions are given", () => {
  const loose = <F>(given: F) => given as (...given: unknown[]) => unknown;

  const mistakes: [what: string, run: () => unknown, message: RegExp][] = [
    [
      "serveFiles({ root })",
      () => loose(serveFiles)({ root: "." }),
      /must be a path or a file: URL/,
    ],
    ["serveFiles()", () => loose(serveFiles)(), /^The root of serveFiles\(\) must be .*undefined/],
    ['serveFiles("")', () => loose(serveFiles)(""), /not an empty text/],
    ["an http: root", () => serveFiles(new URL("http://a/")), /not http:/],
    ["index: false", () => serveFiles(".", { index: false as never }), /or undefined for none$/],
    ["dotfiles", () => serveFiles(".", { dotfiles: ["well-known"] }), /begin with a dot$/],
    ["contentTypes", () => serveFiles(".", { contentTypes: { ".md": "text/x" } }), /without dot/],
    ["compress(options)", () => loose(compress)({ threshold: 1 }), /write compress\(response, req/],
    ["a list of events", () => loose(serverSentEvents)(request, []), /is an array: give an async/],
    ["no request", () => loose(serverSentEvents)(async () => {}), /a function for a request/],
    ["an empty rule", () => requireClientCertificate({ san: "" }), /san of .* must not be empty/],
    ["no rule", () => requireClientCertificate({ san: [] }), /san of .* must not be empty/],
    [
      "a rule that is not set",
      () => loose(requireClientCertificate)({ issuer: undefined }),
      /^Option issuer of requireClientCertificate\(\) is undefined: leave it out, or name someone$/,
    ],
    ["an alert", () => loose(refuse)("no"), /^The alert of refuse\(\) is a string: use/],
    ["no directory", () => loose(devCertificates)(), /must be a path, not undefined: write devC/],
    ["a URL", () => loose(devCertificates)(new URL("file:///x")), /must be a path, not an object/],
  ];
  for (const [what, run, message] of mistakes) {
    test(`${what} is refused`, async () => {
      const error = await failureOf(run);
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.code, "INVALID_CONFIG");
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, VALIBOT);
    });
  }

  const events: [event: unknown, message: RegExp][] = [
    ["text", /^The event is a string: send \{ data/],
    [{ dat: "x" }, /^The event's dat is not known: use data, event, id, retry$/],
    [{ data: { x: 1 } }, /^The event's data is an object: give text/],
    [{ data: 1 }, /^The event's data is 1: give text/],
    [{ retry: "1" }, /^The event's retry must be whole ms, not a string$/],
    [Promise.resolve({ data: "x" }), /^The event is a promise/],
  ];
  for (const [event, message] of events) {
    test(`the event ${JSON.stringify(event)} is refused`, async () => {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const { body } = serverSentEvents(request, async ({ send }) => {
        resolve(await failureOf(() => send(event as ServerSentEvent)));
      });
      const error = await promise;
      await body!.cancel();
      assert.ok(error instanceof HttpsdError, String(error));
      assert.equal(error.code, "BAD_RESPONSE");
      assert.match(error.message, message);
    });
  }

  test("keepAliveMs: Infinity sends no comments", async () => {
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const { body } = serverSentEvents(request, () => over, { keepAliveMs: Infinity });
    setTimeout(end, 50); // a timer of that time would send one each millisecond
    assert.equal(await new Response(body).text(), ":\n\n");
  });
});

describe("devCertificates() says why a directory cannot be used", () => {
  const dir = mkdtempSync(join(tmpdir(), "httpsd-mistakes-"));
  afterAll(() => rmSync(dir, { recursive: true }));

  test("a file in its way", async () => {
    writeFileSync(join(dir, "file"), "");
    await assert.rejects(devCertificates(join(dir, "file", "certs")), {
      code: "INVALID_CERTIFICATE",
      message: /file(?:\/\S+)? is, or lies below, a file: name a directory$/,
    });
  });

  test("a place where it may not be", async () => {
    const asRoot = process.getuid?.() === 0;
    if (!asRoot) mkdirSync(join(dir, "shut"), { mode: 0o500 });
    await assert.rejects(devCertificates(asRoot ? "/sys/httpsd" : join(dir, "shut", "certs")), {
      code: "INVALID_CERTIFICATE",
      message: /: this process may not read and write \/\S+: let its user do so, or name another$/,
    });
  });

  test("a broken key in it", async () => {
    writeFileSync(join(dir, "ca.key"), "broken");
    await assert.rejects(devCertificates(dir), {
      code: "INVALID_CERTIFICATE",
      message: /: a file in it is broken, delete it \(The private key cannot be read: .*\)$/,
    });
  });

  if (runtime !== "deno") return; // only Deno has a sandbox
  test("a sandbox", async () => {
    const module = new URL("../lib/tls/dev_certificates.ts", import.meta.url);
    const script = join(dir, "sandboxed.ts");
    const places = JSON.stringify(join(dir, "sandbox"));
    writeFileSync(
      script,
      `import { devCertificates } from ${JSON.stringify(module)};
       await devCertificates(${places}).catch(({ message }) => console.log(message));`,
    );
    const config = fileURLToPath(new URL("../deno.json", import.meta.url));
    const args = ["run", "--no-prompt", "--allow-env", PINNED, "--config", config, script];
    const output = await start(process.execPath, args).done;
    assert.match(
      output,
      /: Deno may not use it, run it with --allow-read=\/\S+ --allow-write=\/\S+/,
    );
  }, 30_000);
});
