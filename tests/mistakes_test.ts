/**
 * A developer's mistakes are loud, at once: options that are not known or have the wrong type, in
 * every function that takes some; names of other servers; arguments that cannot be.
 */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Readable } from "node:stream";
import WsClient from "ws";
import type { OutgoingFrame } from "../lib/websocket/socket.ts";
import { fileURLToPath } from "node:url";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { hsts, redirectToHttps, requireClientCertificate } from "../lib/hono/mod.ts";
import { ClientAuth } from "../lib/tls/client_auth.ts";
import {
  createCertificateAuthority,
  devCertificates,
  openCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";
import { refuse } from "../lib/tls/cert_select.ts";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { type ServerSentEvent, serverSentEvents } from "../lib/web/sse.ts";
import { type HttpsServerOptions, resolveConfig, resolveReload } from "../lib/config.ts";
import { ESP_IDF_NAMES } from "../lib/httpd/esp_idf_options.ts";
import { ConfigError, HttpsdError } from "../lib/errors.ts";
import { EDGE_NAMES } from "../lib/edge/options.ts";
import { HOST_NAMES, SERVER_NAMES, WEBSOCKET_NAMES } from "../lib/foreign_names.ts";
import { nearest } from "../lib/options.ts";
import { HttpsServer, serve } from "../lib/server.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { resolveRouteOptions, resolveSettings } from "../lib/websocket/options.ts";
import { GET, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { certificates, start, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

/** A function that takes options, as a JavaScript program may call it. */
interface Taker {
  readonly name: string;
  /** The names of its options. */
  readonly options: readonly string[];
  /** The names in its groups of options, which may be meant too. */
  readonly inside?: readonly string[];
  /** What must be given besides. */
  readonly needed?: object;
  /** Names of others that it has advice for. */
  readonly foreign?: Readonly<Record<string, string>>;
  /** What it takes besides objects. */
  readonly others?: readonly unknown[];
  take(options: never): unknown;
}

const DEFAULTS = resolveConfig({});
const IN_GROUPS = [
  ...Object.keys(DEFAULTS.limits),
  ...Object.keys(DEFAULTS.timeouts),
  ...Object.keys(DEFAULTS.http2),
];
const WITHOUT_DEFAULT = [
  ...["cert", "key", "pfx", "passphrase", "cacert", "ciphers", "certSelect", "tlsUserData"],
  ...["verifyClient", "userCallback", "openFn", "closeFn", "globalUserContext"],
  ...["globalUserContextFree", "hostname", "tlsVersion", "proxyProtocol", "profile", "signal"],
];
const idle = (): HttpsServer => new HttpsServer({ transportMode: "insecure" });
const IDENTITY = ["cert", "key", "pfx", "passphrase", "allowExpired"];
const SETTINGS = [
  ...["protocols", "deflate", "pingPeriodMs", "notAliveMs", "limits", "timeouts"],
];

const TAKERS: readonly Taker[] = [
  {
    name: "new HttpsServer()",
    options: Object.keys(DEFAULTS),
    inside: IN_GROUPS,
    foreign: SERVER_NAMES,
    take: (options) => new HttpsServer(options),
  },
  {
    name: "limits",
    options: Object.keys(DEFAULTS.limits),
    foreign: {
      ...SERVER_NAMES,
      idleMs: "write timeouts: { idleMs }",
      port: "write it beside the groups, not inside",
    },
    take: (limits) => resolveConfig({ limits }),
  },
  {
    name: "timeouts",
    options: Object.keys(DEFAULTS.timeouts),
    foreign: {
      ...SERVER_NAMES,
      maxBodyBytes: "write limits: { maxBodyBytes }",
      port: "write it beside the groups, not inside",
    },
    take: (timeouts) => resolveConfig({ timeouts }),
  },
  {
    name: "limits of a WebSocket route",
    options: Object.keys(resolveRouteOptions({}).limits),
    foreign: { ...WEBSOCKET_NAMES, closeMs: "write timeouts: { closeMs }" },
    take: (limits) => resolveRouteOptions({ limits }),
  },
  {
    name: "timeouts of a WebSocket route",
    options: Object.keys(resolveRouteOptions({}).timeouts),
    foreign: { ...WEBSOCKET_NAMES, onOpen: "write it beside the groups, not inside" },
    take: (timeouts) => resolveRouteOptions({ timeouts }),
  },
  {
    name: 'profile: "esp-idf"',
    options: ESP_IDF_NAMES,
    inside: [...Object.keys(DEFAULTS), ...WITHOUT_DEFAULT, ...IN_GROUPS],
    needed: { profile: "esp-idf" },
    foreign: SERVER_NAMES,
    take: (options) => resolveConfig(options),
  },
  {
    name: "limits of createEdgeApp()",
    options: ["maxRoutes", "maxResponseFields", "maxBodyBytes"],
    foreign: {
      ...EDGE_NAMES,
      maxConnections: "is for servers with sockets, leave it out",
      handlerMs: "write timeouts: { handlerMs }",
      uriMatch: "write it beside the groups, not inside",
    },
    take: (limits) => createEdgeApp({ limits }),
  },
  {
    name: "identities",
    options: [...IDENTITY, "names", "alpnProtocols", "clientAuth"],
    foreign: HOST_NAMES,
    take: (options) => resolveConfig({ identities: [options] }),
  },
  {
    name: "clientAuth",
    options: ["ca", "mode"],
    needed: { ca: "x" },
    foreign: { requestCert: "", rejectUnauthorized: "" },
    others: [null],
    take: (clientAuth) => resolveConfig({ clientAuth }),
  },
  {
    name: "proxyProtocol",
    options: ["trustedProxies", "mode"],
    needed: { trustedProxies: [] },
    take: (proxyProtocol) => resolveConfig({ proxyProtocol }),
  },
  {
    name: "keepAlive",
    options: ["idleMs"],
    needed: { idleMs: 1 },
    others: [true],
    take: (keepAlive) => resolveConfig({ keepAlive }),
  },
  {
    name: "reload()",
    options: [...IDENTITY, "identities", "clientAuth"],
    foreign: SERVER_NAMES,
    take: (options) => resolveReload(options),
  },
  { name: "stop()", options: ["drainMs"], take: (options) => idle().stop(options) },
  { name: "loadIdentity()", options: IDENTITY, take: loadIdentity },
  {
    name: "a WebSocket route",
    options: [
      ...[...SETTINGS, "onUpgrade", "onOpen", "onMessage", "onFrame"],
      ...["maxPieceBytes", "manualControlFrames", "onPing", "onPong", "onClose", "onError"],
    ],
    foreign: WEBSOCKET_NAMES,
    take: (options) => resolveRouteOptions(options),
  },
  {
    name: "upgradeWebSocket()",
    options: SETTINGS,
    foreign: { ...WEBSOCKET_NAMES, onMessage: "" },
    take: (options) => resolveSettings(options, {}),
  },
  {
    name: "deflate",
    options: [
      ...["threshold", "serverContextTakeover", "clientContextTakeover", "serverMaxWindowBits"],
      ...["clientMaxWindowBits", "level", "memLevel"],
    ],
    others: [true],
    take: (deflate) => resolveRouteOptions({ deflate }),
  },
];

const CERTIFICATE = ["days", "notBefore", "notAfter", "algorithm", "key"];
const RULES = ["san", "issuer", "fingerprint256", "verify"];
const ca = await createCertificateAuthority({ name: "Mistakes CA" });
const request = new Request("https://a.example/");
const page = () => new Response("x".repeat(2_000), { headers: { "content-type": "text/html" } });

const MORE_TAKERS: readonly Taker[] = [
  {
    name: "ClientAuth",
    options: ["ca", "mode"],
    needed: { ca: ca.cert },
    take: (options) => new ClientAuth(options),
  },
  {
    name: "createEdgeApp()",
    options: [
      ...["uriMatch", "limits", "timeouts", "reportError", "trustForwardedCertificates"],
    ],
    foreign: {
      ...EDGE_NAMES,
      maxConcurrentStreams: "is for servers with sockets, leave it out",
      port: "is for servers with sockets, leave it out",
      openFn: "is for servers with sockets, leave it out",
      clientAuth: "is for servers with sockets, leave it out",
    },
    take: createEdgeApp,
  },
  {
    name: "serveFiles()",
    options: [
      ...["prefix", "index", "listing", "fallback", "dotfiles", "keyFiles", "cacheControl"],
      ...["precompressed", "contentTypes", "maxRanges"],
    ],
    foreign: { root: "serveFiles(root, options)", showDotfiles: 'write dotfiles: "all"' },
    take: (options) => serveFiles(".", options),
  },
  {
    name: "compress()",
    options: ["codings", "threshold"],
    foreign: { encoding: 'write codings: ["gzip"]' },
    take: (options) => compress(page(), request, options),
  },
  {
    name: "serverSentEvents()",
    options: ["keepAliveMs", "maxBufferedBytes", "headers"],
    foreign: { heartbeat: "write keepAliveMs" },
    take: (options) => void serverSentEvents(request, async () => {}, options).body?.cancel(),
  },
  {
    name: "hsts()",
    options: ["maxAgeSeconds", "includeSubDomains", "preload"],
    foreign: { maxAge: "write maxAgeSeconds" },
    take: hsts,
  },
  {
    name: "redirectToHttps()",
    options: ["port", "hostname"],
    foreign: { host: "write hostname" },
    take: redirectToHttps,
  },
  {
    name: "requireClientCertificate()",
    options: RULES,
    foreign: { fingerprint: "write fingerprint256", subject: 'subject === "CN=…"' },
    take: requireClientCertificate,
  },
  {
    name: "createCertificateAuthority()",
    options: [...CERTIFICATE, "name"],
    foreign: { cn: "write name" },
    take: createCertificateAuthority,
  },
  {
    name: "issue()",
    options: [...CERTIFICATE, "names", "usage", "subject"],
    foreign: { cn: 'write subject: "CN=…"', name: 'or subject: "CN=…"', san: "write names" },
    take: (options) => ca.issue(options),
  },
  {
    name: "issueAuthority()",
    options: [...CERTIFICATE, "name"],
    foreign: { cn: "write name" },
    take: (options) => ca.issueAuthority(options),
  },
  {
    name: "openCertificateAuthority()",
    options: ["cert", "key"],
    needed: { cert: ca.cert, key: ca.key },
    take: openCertificateAuthority,
  },
];

/** The error that a function throws or rejects with; none when it takes what it is given. */
async function failureOf(run: () => unknown): Promise<unknown> {
  try {
    const result = await run();
    if (result instanceof HttpsServer) await result.stop({ drainMs: 0 });
    return undefined;
  } catch (error) {
    return error;
  }
}

/** The error of options that are refused. */
async function refusal(taker: Taker, options: unknown): Promise<ConfigError> {
  const error = await failureOf(() => taker.take(options as never));
  assert.ok(error instanceof ConfigError, `${taker.name} took it, or failed with ${error}`);
  return error;
}

/** Names with a letter left out, twice, in another case, or in its neighbour's place. */
function* misspellings(name: string): Generator<string> {
  yield name.toLowerCase();
  yield name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  for (let i = 1; i < name.length; i++) {
    yield name.slice(0, i) + name.slice(i + 1);
    yield name.slice(0, i) + name[i] + name.slice(i);
    if (i > 1) yield name.slice(0, i - 1) + name[i] + name[i - 1] + name.slice(i + 1);
  }
}

/** What valibot says by itself. */
const VALIBOT = /Invalid|Expected|received|\b(?:string|strict)_?object\b|never|undefined but/;

/** Values of every type, none of which is a good option of any function. */
const VALUES: readonly unknown[] = [
  ...[NaN, -1, 0.5, 2 ** 53, -Infinity, "", "x", "\u0000", true, false, null, 1n],
  ...[Symbol("x"), [], [1], [null], {}, { x: 1 }, new Map(), new Date(NaN), /x/, Promise.resolve()],
  ...[() => {}, new Uint8Array(), new URL("https://a/")],
];

for (const taker of [...TAKERS, ...MORE_TAKERS]) {
  const { name, options, inside = [], needed = {}, foreign = {}, others = [] } = taker;
  describe(`The options of ${name}`, () => {
    test("that are misspelt are refused with the name that was meant", async () => {
      for (const option of options) {
        for (const wrong of misspellings(option)) {
          if (options.includes(wrong)) continue;
          const { code, message } = await refusal(taker, { ...needed, [wrong]: 1 });
          assert.equal(code, "INVALID_CONFIG", message);
          assert.ok(message.includes(wrong), message);
          if (Object.hasOwn(foreign, wrong)) continue; // its own advice is tested below
          const [, meant = ""] = /did you mean (?:\w+: \{ )?(\w+)(?: \})?\?$/.exec(message) ?? [];
          const known = [...options, ...inside];
          assert.ok(known.includes(meant), `${wrong}: ${message}`);
          if (meant === option) continue;
          const others = [nearest(wrong, known), nearest(wrong, known.toReversed())];
          assert.ok(others.includes(meant), `${wrong}: ${message}`);
        }
      }
    });

    test("that are like no other are refused with what there is", async () => {
      for (const wrong of ["qqqqqqqq", "", "__proto", "constructor", "toString", "0"]) {
        const { code, message } = await refusal(taker, { ...needed, [wrong]: undefined, qq: 1 });
        assert.equal(code, "INVALID_CONFIG");
        assert.match(message, /^Option \S* ?(?:of .+ )?is not known/);
      }
    });

    test("of other servers are refused with what to write here", async () => {
      for (const [theirs, advice] of Object.entries(foreign)) {
        if (options.includes(theirs)) continue;
        const { message } = await refusal(taker, { ...needed, [theirs]: { x: 1 } });
        assert.ok(message.includes(theirs) && message.endsWith(advice), `${theirs}: ${message}`);
        assert.doesNotMatch(message, /did you mean/);
      }
    });

    test("of a wrong type are refused in words of ours, or taken", async () => {
      let refused = 0;
      for (const option of options) {
        for (const value of VALUES) {
          const given = { transportMode: "insecure", ...needed, [option]: value };
          if (name !== "new HttpsServer()") {
            delete (given as { transportMode?: string }).transportMode;
          }
          const error = await failureOf(() => taker.take(given as never));
          if (error === undefined) continue;
          refused++;
          assert.ok(error instanceof HttpsdError, `${option}: ${error}`);
          assert.doesNotMatch(error.message, VALIBOT);
          assert.match(error.message, /^[A-Z].*[^.]$/s);
          if (error.code === "INVALID_CONFIG") assert.ok(error.message.includes(option));
        }
      }
      assert.ok(refused > 5 * options.length, `only ${refused} were refused`);
    });

    test("that are no object at all are refused", async () => {
      for (
        const value of [null, 1, "x", true, [], new Map(), Promise.resolve({}), new URL("x:y")]
      ) {
        if (others.includes(value)) continue;
        const { code, message } = await refusal(taker, value);
        assert.equal(code, "INVALID_CONFIG");
        assert.match(message, /must be|needs|must have/);
        assert.doesNotMatch(message, VALIBOT);
      }
    });
  });
}

test("reload() says which options it cannot change", () => {
  assert.throws(() => resolveReload({ port: 1 } as object), {
    code: "INVALID_CONFIG",
    message: "Option port of reload() cannot be reloaded: it is set once, when the server is made",
  });
});

test("options written outside their group are refused with where they go", () => {
  const wrong: [options: object, message: string][] = [
    [
      { maxConnections: 1 },
      "Option maxConnections is not known here: write limits: { maxConnections }",
    ],
    [
      { maxOpenSockets: 1 },
      "Option maxOpenSockets is not known here: write limits: { maxConnections }",
    ],
    [
      { max_open_sockets: 1 },
      "Option max_open_sockets is not known here: write limits: { maxConnections }",
    ],
    [
      { maxConcurrentStreams: 1 },
      "Option maxConcurrentStreams is not known here: write http2: { maxConcurrentStreams }",
    ],
    [{ drainMs: 1 }, "Option drainMs is not known here: write timeouts: { drainMs }"],
    [{ maxBodyByte: 1 }, "Option maxBodyByte is not known: did you mean limits: { maxBodyBytes }?"],
    [
      { limits: { idleMs: 1 } },
      "Option limits.idleMs is not known here: write timeouts: { idleMs }",
    ],
    [
      { timeouts: { idleTimeout: 1 } },
      "Option timeouts.idleTimeout is not known here: write timeouts: { idleMs }, in ms",
    ],
    [
      { limits: { port: 1 } },
      "Option limits.port is not known here: write it beside the groups, not inside",
    ],
    [{ limits: 1 }, "Option limits is 1: it must be an object of options"],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => resolveConfig(options), { code: "INVALID_CONFIG", message });
  }
});

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

test("a hook that answers neither true nor false is written to the console where nobody listens", async () => {
  const openFn = (() => {}) as () => never;
  const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0, openFn } as const;
  await using server = new HttpsServer(options);
  await server.start();
  const lines = await consoleOf(async () => {
    const client = await RawClient.connect(server.address.port);
    await client.rest();
    client.destroy();
  });
  const [line] = lines as [HttpsdError];
  assert.equal(lines.length, 1);
  assert.equal(line.code, "HOOK_FAILED");
  assert.match(line.message, /^Hook openFn answered undefined, .*: return true or false$/);
});

/** What is written to `console.error` meanwhile. */
async function consoleOf(run: () => Promise<void>): Promise<unknown[]> {
  const lines: unknown[] = [];
  const { error } = console;
  console.error = (line) => void lines.push(line);
  try {
    await run();
  } finally {
    console.error = error;
  }
  return lines;
}

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
      assert.match(errors[0]!.message, /^Option uriMatch answered .*: return true or false$/);
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
    [[() => {}], /^onError\(\) takes a status from 400 to 599, not a function: write onError\(500/],
    [["500", () => {}], /not a string/],
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

/** A request whose methods take anything, as a JavaScript program may call them. */
type Loose = Record<keyof HttpdRequest, (...given: unknown[]) => unknown>;

/** What a handler does wrong before anything is sent. */
const UNSENT: [what: string, run: (request: Loose) => unknown, code: string, message: RegExp][] = [
  [
    "send({})",
    (r) => r.send({}),
    "BAD_RESPONSE",
    /^send\(\) takes text or bytes, and was given an o/,
  ],
  ["send(42)", (r) => r.send(42), "BAD_RESPONSE", /was given 42: use sendJson\(\), or String\(\)$/],
  ["send(true)", (r) => r.send(true), "BAD_RESPONSE", /was given true: use sendJson/],
  ["send(null)", (r) => r.send(null), "BAD_RESPONSE", /was given null/],
  ["send([])", (r) => r.send([]), "BAD_RESPONSE", /was given an array: use sendJson/],
  ["send(1n)", (r) => r.send(1n), "BAD_RESPONSE", /was given a bigint/],
  ["send(f)", (r) => r.send(() => "x"), "BAD_RESPONSE", /was given a function/],
  [
    "send(promise)",
    (r) => r.send(Promise.resolve("x")),
    "BAD_RESPONSE",
    /a promise: await it first$/,
  ],
  [
    "send(Response)",
    (r) => r.send(new Response("x")),
    "BAD_RESPONSE",
    /return it from the handler$/,
  ],
  ["send(stream)", (r) => r.send(new Blob(["x"]).stream()), "BAD_RESPONSE", /use sendStream\(\)$/],
  [
    "send(Blob)",
    (r) => r.send(new Blob(["x"])),
    "BAD_RESPONSE",
    /use sendStream\(blob\.stream\(\)/,
  ],
  [
    "send(ArrayBuffer)",
    (r) => r.send(new ArrayBuffer(1)),
    "BAD_RESPONSE",
    /new Uint8Array\(buffer\)$/,
  ],
  [
    "send(Uint16Array)",
    (r) => r.send(new Uint16Array(1)),
    "BAD_RESPONSE",
    /a Uint8Array of its buf/,
  ],
  [
    "sendJson()",
    (r) => r.sendJson(undefined),
    "BAD_RESPONSE",
    /undefined, which is no JSON: send nu/,
  ],
  ["sendJson(f)", (r) => r.sendJson(() => 1), "BAD_RESPONSE", /a function, which is no JSON/],
  ["sendJson(promise)", (r) => r.sendJson(Promise.resolve(1)), "BAD_RESPONSE", /await it first$/],
  ["sendJson(1n)", (r) => r.sendJson(1n), "HANDLER_FAILED", /^The handler threw$/],
  ["sendChunk(42)", (r) => r.sendChunk(42), "BAD_RESPONSE", /^sendChunk\(\) takes text or bytes/],
  [
    "sendChunk(promise)",
    (r) => r.sendChunk(Promise.resolve("x")),
    "BAD_RESPONSE",
    /await it first$/,
  ],
  ["sendRaw({})", (r) => r.sendRaw({}), "BAD_RESPONSE", /^sendRaw\(\) takes text or bytes/],
  [
    "sendStream(text)",
    (r) => r.sendStream("x"),
    "BAD_RESPONSE",
    /a ReadableStream, .*: use send\(\)$/,
  ],
  [
    "sendStream({})",
    (r) => r.sendStream({}),
    "BAD_RESPONSE",
    /give ReadableStream\.from\(source\)/,
  ],
  ["sendStream(node)", (r) => r.sendStream(Readable.from([])), "BAD_RESPONSE", /Readable\.toWeb\(/],
  [
    "sendStream(_, '1')",
    (r) => r.sendStream(new Blob(["x"]).stream(), "1"),
    "BAD_RESPONSE",
    /^The length of sendStream\(\) is a string: give bytes, or leave it out$/,
  ],
  [
    "sendError('404')",
    (r) => r.sendError("404"),
    "BAD_RESPONSE",
    /a string is no error's: use a num/,
  ],
  ["sendError(200)", (r) => r.sendError(200), "BAD_RESPONSE", /^Status 200 is no error's/],
  [
    "sendError(_, {})",
    (r) => r.sendError(404, {}),
    "BAD_RESPONSE",
    /text of sendError\(\) is an obj/,
  ],
  [
    "status('200')",
    (r) => r.status("200"),
    "BAD_RESPONSE",
    /^Status a string is no answer: use a num/,
  ],
  ["status(101)", (r) => r.status(101), "BAD_RESPONSE", /^Status 101 is no answer/],
  ["status(NaN)", (r) => r.status(NaN), "BAD_RESPONSE", /^Status NaN is no answer/],
  [
    "type(undefined)",
    (r) => r.type(undefined),
    "BAD_RESPONSE",
    /^Field Content-Type is undefined: gi/,
  ],
  [
    "header(_, 1)",
    (r) => r.header("X", 1),
    "BAD_RESPONSE",
    /^Field X is 1: give text, such as Stri/,
  ],
  ["header(_, null)", (r) => r.header("X", null), "BAD_RESPONSE", /^Field X is null: give text/],
  [
    "header(undefined)",
    (r) => r.header(undefined, "x"),
    "BAD_RESPONSE",
    /^Field name is undefined: g/,
  ],
  ["inform(200)", (r) => r.inform(200, []), "BAD_RESPONSE", /^Status 200 is no interim one/],
  [
    "inform(103, {})",
    (r) => r.inform(103, { a: "b" }),
    "BAD_RESPONSE",
    /^Fields are an object: give pa/,
  ],
  ["end({})", (r) => r.end({ a: "b" }), "BAD_RESPONSE", /^Fields are an object: give pairs/],
  [
    "recv(0)",
    (r) => r.recv(0),
    "INVALID_CONFIG",
    /^recv\(\) takes the most bytes to give, .*not 0$/,
  ],
  ["recv('1')", (r) => r.recv("1"), "INVALID_CONFIG", /not a string$/],
  ["recv(NaN)", (r) => r.recv(NaN), "INVALID_CONFIG", /not NaN$/],
  [
    "detach('1')",
    (r) => r.detach("1"),
    "INVALID_CONFIG",
    /^detach\(\) takes a deadline in ms, .*stri/,
  ],
  ["detach(0)", (r) => r.detach(0), "INVALID_CONFIG", /not 0$/],
  ["complete()", (r) => r.complete(), "NOT_DETACHED", /is not detached: call detach\(\) before$/],
  ["returning text", () => "x", "HANDLER_FAILED", /a string, .*: return new Response\(text\)$/],
  ["returning {}", () => ({}), "HANDLER_FAILED", /an object, .*: return Response\.json\(value\)$/],
  ["returning null", () => null, "HANDLER_FAILED", /returned null, .*: return one$/],
  ["returning 1", () => 1, "HANDLER_FAILED", /returned 1, which is no Response: return one$/],
  ["returning itself", (r) => r.status(201), "HANDLER_FAILED", /returned an object/],
  [
    "returning nothing",
    () => {},
    "HANDLER_FAILED",
    /without a whole response: send one, await what/,
  ],
];

/** What a handler does wrong after `send("first")`. */
const SECOND: [what: string, run: (request: Loose) => unknown, code?: string][] = [
  ["send()", (r) => r.send("second")],
  ["sendJson()", (r) => r.sendJson({})],
  ["sendChunk()", (r) => r.sendChunk("second")],
  ["sendRaw()", (r) => r.sendRaw("second")],
  ["sendStream()", (r) => r.sendStream(new Blob(["second"]).stream())],
  ["sendError()", (r) => r.sendError(404)],
  ["status()", (r) => r.status(404)],
  ["header()", (r) => r.header("X", "x")],
  ["type()", (r) => r.type("x/y")],
  ["inform()", (r) => r.inform(103, [])],
  ["detach()", (r) => r.detach()],
  ["returning a Response", () => new Response("second")],
  ["returning a stream", () => new Response(new Blob(["second"]).stream())],
  ["returning text", () => "second", "HANDLER_FAILED"],
  ["a throw", () => {
    throw new Error("second");
  }, "HANDLER_FAILED"],
  ["complete()", (r) => r.complete(), "NOT_DETACHED"],
];

describe("A handler's mistake", () => {
  /** How a handler may come to its mistake: with its call, later, and without waiting for it. */
  const ways: Record<string, (run: () => unknown) => unknown> = {
    "at once": (run) => run(),
    "later": async (run) => {
      await Promise.resolve();
      return await run();
    },
    "without waiting": (run) => void run(),
  };

  /** The console and the answer, where nobody listens; and that the next request is served. */
  async function outcome(handler: (request: Loose) => unknown) {
    await using server = new HttpsServer({
      transportMode: "insecure",
      hostname: "127.0.0.1",
      port: 0,
    });
    server.route({ uri: "/bad", method: "GET", handler: handler as never });
    server.route({ uri: "/good", method: "GET", handler: (request) => request.send("good") });
    await server.start();
    let text = "";
    const lines = await consoleOf(async () => {
      const client = await RawClient.connect(server.address.port);
      client.send(GET("/bad") + GET("/good").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
      text = await client.rest();
      client.destroy();
    });
    return { answers: readResponses(text), errors: lines as HttpsdError[] };
  }

  for (const [what, run, code, message] of UNSENT) {
    for (const [way, call] of Object.entries(ways)) {
      if (way === "without waiting" && what.startsWith("returning")) continue;
      test(`${what} ${way} is a whole 500 and in the console`, async () => {
        const { answers, errors } = await outcome((request) => call(() => run(request)));
        assert.deepEqual(answers.map(({ status }) => status), [500, 200]);
        assert.doesNotMatch(answers[0]!.body, /takes|given|promise/, "the client is told why");
        const found = errors.find((error) => error.code === code);
        assert.ok(found !== undefined, String(errors.map((error) => error.code)));
        assert.match(found.message, message);
        assert.ok(errors.length === 1 || way === "without waiting", String(errors));
      });
    }
  }

  for (const [what, run, code = "ALREADY_SENT"] of SECOND) {
    for (const [way, call] of Object.entries(ways)) {
      if (way === "without waiting" && what.startsWith("returning")) continue;
      test(`${what} ${way} after an answer leaves that whole, and is in the console`, async () => {
        const { answers, errors } = await outcome((request) => {
          request.send("first");
          return call(() => run(request));
        });
        assert.deepEqual(answers.map(({ status, body }) => [status, body]), [
          [200, "first"],
          [200, "good"],
        ]);
        assert.deepEqual(errors.map((error) => error.code), [code]);
      });
    }
  }

  test("after detach() is a 500, and reported, without waiting too", async () => {
    const { answers, errors } = await outcome((request) => {
      request.detach();
      setTimeout(() => void request.sendChunk(42), 1);
    });
    assert.deepEqual(answers.map(({ status }) => status), [500, 200]);
    assert.deepEqual(errors.map(({ code }) => code), ["BAD_RESPONSE"]);
  });

  test("is told to an edge app's reportError, and answered in the same way", async () => {
    for (const [what, run, code] of UNSENT) {
      const errors: HttpsdError[] = [];
      const app = createEdgeApp({ reportError: (error) => void errors.push(error) });
      app.route({ uri: "/", method: "GET", handler: ((r: Loose) => run(r)) as never });
      const { status } = await app.fetch(new Request("http://a/"));
      assert.equal(status, 500, what);
      const expected = /^(?:inform|sendRaw)/.test(what) ? [code, "NOT_SUPPORTED"] : [code];
      assert.ok(errors.length === 1 && expected.includes(errors[0]!.code), `${what}: ${errors}`);
    }
    for (const [what, run, code = "ALREADY_SENT"] of SECOND) {
      const errors: HttpsdError[] = [];
      const app = createEdgeApp({ reportError: (error) => void errors.push(error) });
      const handler = (request: Loose) => {
        request.send("first");
        return run(request);
      };
      app.route({ uri: "/", method: "GET", handler: handler as never });
      const response = await app.fetch(new Request("http://a/"));
      assert.equal(await response.text(), "first", what);
      await until(() => errors.length === 1, `${what} is reported`);
      assert.equal(errors[0]!.code, code, what);
    }
  });
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

describe("A mistake with WebSockets", () => {
  interface LooseSocket {
    send(...given: unknown[]): Promise<void>;
    sendFrame(...given: unknown[]): Promise<void>;
    ping(...given: unknown[]): Promise<void>;
    close(...given: unknown[]): void;
    subscribe(...given: unknown[]): void;
  }
  type Server = Record<"broadcast" | "publish", (...given: unknown[]) => number>;

  const mistakes: [what: string, run: (ws: LooseSocket, server: Server) => unknown, RegExp][] = [
    ["send(42)", (ws) => ws.send(42), /^send\(\) takes text or bytes, and was given 42: use JSON/],
    ["send({})", (ws) => ws.send({}), /was given an object: use JSON\.stringify/],
    ["send()", (ws) => ws.send(), /was given undefined/],
    ["send(promise)", (ws) => ws.send(Promise.resolve("x")), /a promise: await it first$/],
    ["compres", (ws) => ws.send("x", { compres: true }), /compres of send\(\) .* mean compress\?$/],
    ["compress: 1", (ws) => ws.send("x", { compress: 1 }), /is 1: it must be true or false$/],
    ["sendFrame({})", (ws) => ws.sendFrame({}), /^Option opcode of sendFrame\(\) is missing: give/],
    [
      "fin",
      (ws) => ws.sendFrame({ opcode: 1, fin: false }),
      /fin of sendFrame\(\) .* write final$/,
    ],
    ["opcode: 3", (ws) => ws.sendFrame({ opcode: 3 }), /opcode .* is 3: it must be one of Opcode$/],
    [
      "a number",
      (ws) => ws.sendFrame({ opcode: 1, payload: 1 }),
      /^sendFrame\(\) takes text or byt/,
    ],
    [
      "a piece",
      (ws) => ws.sendFrame({ opcode: 1, payload: "x", remaining: 5 }),
      /remaining .* is 5: it must be 0: send a piece of a frame as a fragment$/,
    ],
    ["ping(1)", (ws) => ws.ping(1), /takes text or bytes, and was given 1/],
    ["close('bye')", (ws) => ws.close("bye"), /^Close code bye may not be sent/],
    ["close(_, {})", (ws) => ws.close(1000, {}), /^The close reason is no text/],
    ["subscribe(1)", (ws) => ws.subscribe(1), /^subscribe\(\) takes a topic as text, not 1$/],
    [
      "publish(1)",
      (_, server) => server.publish(1, "x"),
      /^publish\(\) takes a topic as text, not/,
    ],
    [
      "publish('x')",
      (_, server) => server.publish("x"),
      /^publish\(\) takes text or bytes, .* undef/,
    ],
    ["broadcast(1)", (_, server) => server.broadcast(1), /^broadcast\(\) takes text or bytes/],
    [
      "a filter",
      (_, server) => server.broadcast("x", {}),
      /^The filter of broadcast\(\) is an objec/,
    ],
    [
      "an async filter",
      (_, server) => server.broadcast("secret", () => Promise.resolve(false)),
      /^The filter of broadcast\(\) answered a promise: return true or false$/,
    ],
    [
      "a truthy filter",
      (_, server) => server.broadcast("secret", () => 1),
      /^The filter of broadcast\(\) answered 1: return true or false$/,
    ],
  ];
  for (const [what, run, message] of mistakes) {
    for (const waits of [true, false]) {
      test(`${what} closes the socket and is reported, ${waits ? "waited for" : "or not"}`, async () => {
        const { server, port, errors } = await started(undefined);
        server.route({
          uri: "/ws",
          websocket: {
            onMessage(ws) {
              const result = run(ws as never, server as never);
              return waits ? result as Promise<void> : undefined;
            },
          },
        });
        const client = new WsClient(`ws://127.0.0.1:${port}/ws`);
        const received: string[] = [];
        client.on("message", (data) => received.push(String(data)));
        await once(client, "open");
        client.send("go");
        const [code] = await once(client, "close");
        assert.equal(code, 1011);
        assert.deepEqual(received, []);
        assert.deepEqual(errors.map((error) => error.code), ["WS_CALLBACK_FAILED"]);
        assert.match((errors[0]!.cause as Error).message, message);
      });
    }
  }

  test("is none where a whole frame goes back as it came", async () => {
    const { server, port } = await started(undefined);
    server.route({
      uri: "/ws",
      websocket: { onFrame: (ws, frame) => ws.sendFrame(frame as OutgoingFrame) },
    });
    const client = new WsClient(`ws://127.0.0.1:${port}/ws`);
    await once(client, "open");
    client.send("back");
    const [data] = await once(client, "message");
    assert.equal(String(data), "back");
    client.terminate();
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

describe("devCertificates() tells why a directory cannot be used", () => {
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
    const args = ["run", "--no-prompt", "--allow-env", "--config", config, script];
    const output = await start(process.execPath, args).done;
    assert.match(
      output,
      /: Deno may not use it, run it with --allow-read=\/\S+ --allow-write=\/\S+/,
    );
  }, 30_000);
});
