/**
 * A developer's mistakes are loud, at once: options that are not known or have the wrong type, in
 * every function that takes some; names of other servers; arguments that cannot be.
 */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { hsts, redirectToHttps, requireClientCertificate } from "../lib/hono/mod.ts";
import { ClientAuth } from "../lib/tls/client_auth.ts";
import {
  createCertificateAuthority,
  devCertificates,
  openCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";
import { refuse } from "../lib/tls/selection.ts";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { type ServerSentEvent, serverSentEvents } from "../lib/web/sse.ts";
import { type HttpsServerOptions, resolveConfig, resolveReload } from "../lib/config.ts";
import { ConfigError, HttpsdError } from "../lib/errors.ts";
import { HOST_NAMES, SERVER_NAMES, WEBSOCKET_NAMES } from "../lib/foreign_names.ts";
import { nearest } from "../lib/options.ts";
import { HttpsServer, serve } from "../lib/server.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { resolveRouteOptions, resolveSettings } from "../lib/websocket/options.ts";
import { GET, RawClient, readResponses } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { certificates, start } from "./support.ts";

assertRuntime();

/** A function that takes options, as a JavaScript program may call it. */
interface Taker {
  readonly name: string;
  /** The names of its options. */
  readonly options: readonly string[];
  /** What must be given besides. */
  readonly needed?: object;
  /** Names of others that it has advice for. */
  readonly foreign?: Readonly<Record<string, string>>;
  /** What it takes besides objects. */
  readonly others?: readonly unknown[];
  take(options: never): unknown;
}

const idle = (): HttpsServer => new HttpsServer({ transportMode: "insecure" });
const IDENTITY = ["cert", "key", "pfx", "passphrase", "allowExpired"];
const SETTINGS = [
  ...["protocols", "deflate", "maxPayloadBytes", "maxFragments", "maxBufferedBytes"],
  ...["maxPingsPerSecond", "pingPeriodMs", "notAliveMs", "idleTimeoutMs", "closeTimeoutMs"],
];

const TAKERS: readonly Taker[] = [
  {
    name: "new HttpsServer()",
    options: Object.keys(resolveConfig({})),
    foreign: SERVER_NAMES,
    take: (options) => new HttpsServer(options),
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
      ...[...SETTINGS, "onUpgrade", "upgradeTimeoutMs", "onOpen", "onMessage", "onFrame"],
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
      ...["uriMatch", "maxUriHandlers", "maxRespHeaders", "maxBodyBytes", "handlerTimeoutMs"],
      ...["reportError", "trustForwardedCertificates"],
    ],
    foreign: {
      ...SERVER_NAMES,
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
  const { name, options, needed = {}, foreign = {}, others = [] } = taker;
  describe(`The options of ${name}`, () => {
    test("that are misspelt are refused with the name that was meant", async () => {
      for (const option of options) {
        for (const wrong of misspellings(option)) {
          if (options.includes(wrong)) continue;
          const { code, message } = await refusal(taker, { ...needed, [wrong]: 1 });
          assert.equal(code, "INVALID_CONFIG", message);
          assert.ok(message.includes(wrong), message);
          if (Object.hasOwn(foreign, wrong)) continue; // its own advice is tested below
          const meant = /did you mean (\w+)\?$/.exec(message)?.[1] ?? "";
          assert.ok(options.includes(meant), `${wrong}: ${message}`);
          assert.ok([option, nearest(wrong, options)].includes(meant), `${wrong}: ${message}`);
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
