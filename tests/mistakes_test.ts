/**
 * A developer's mistakes are loud, at once: options that are not known or have the wrong type, in
 * every function that takes some; names of other servers; arguments that cannot be.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { type HttpsServerOptions, resolveConfig, resolveReload } from "../lib/config.ts";
import { ConfigError, HttpsdError } from "../lib/errors.ts";
import { HOST_NAMES, SERVER_NAMES, WEBSOCKET_NAMES } from "../lib/foreign_names.ts";
import { nearest } from "../lib/options.ts";
import { HttpsServer, serve } from "../lib/server.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { resolveRouteOptions, resolveSettings } from "../lib/websocket/options.ts";
import { GET, RawClient, readResponses } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates } from "./support.ts";

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

for (const taker of TAKERS) {
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
