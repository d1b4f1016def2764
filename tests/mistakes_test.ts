/**
 * A developer's mistakes are loud, at once: options that are not known or have the wrong type, in
 * every function that takes some; names of other servers.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { CLUSTER_NAMES, resolveCluster } from "../lib/cluster/options.ts";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { hsts, redirectToHttps, requireClientCertificate } from "../lib/hono/mod.ts";
import { ClientAuth } from "../lib/tls/client_auth.ts";
import {
  createCertificateAuthority,
  openCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { serverSentEvents } from "../lib/web/sse.ts";
import { resolveConfig, resolveReload } from "../lib/config.ts";
import { ESP_IDF_NAMES } from "../lib/httpd/esp_idf_options.ts";
import { ConfigError, HttpsdError } from "../lib/errors.ts";
import { EDGE_NAMES } from "../lib/edge/options.ts";
import { HOST_NAMES, serverNames, WEBSOCKET_NAMES } from "../lib/foreign_names.ts";
import { nearest } from "../lib/options.ts";
import { HttpsServer } from "../lib/server.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { resolveRouteOptions, resolveSettings } from "../lib/websocket/options.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { failureOf, idle, request, VALIBOT } from "./mistakes_support.ts";
import { assertRuntime } from "./runtime.ts";

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
  ...[
    "globalUserContextFree",
    "hostname",
    "reusePort",
    "path",
    "pathMode",
    "fd",
    "tlsVersion",
    "proxyProtocol",
    "profile",
    "signal",
  ],
];

const IDENTITY = ["cert", "key", "pfx", "passphrase", "allowExpired"];

const SETTINGS = [
  ...["protocols", "deflate", "pingPeriodMs", "notAliveMs", "limits", "timeouts"],
];

const TAKERS: readonly Taker[] = [
  {
    name: "new HttpsServer()",
    options: Object.keys(DEFAULTS),
    inside: [...IN_GROUPS, ...WITHOUT_DEFAULT],
    foreign: serverNames(),
    take: (options) => new HttpsServer(options),
  },
  {
    name: "limits",
    options: Object.keys(DEFAULTS.limits),
    foreign: {
      ...serverNames(),
      idleMs: "write timeouts: { idleMs }",
      port: "write it beside the groups, not inside",
    },
    take: (limits) => resolveConfig({ limits }),
  },
  {
    name: "timeouts",
    options: Object.keys(DEFAULTS.timeouts),
    foreign: {
      ...serverNames(),
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
    foreign: serverNames(),
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
    foreign: serverNames(),
    take: (options) => resolveReload(options),
  },
  { name: "stop()", options: ["drainMs", "newcomersMs"], take: (options) => idle().stop(options) },
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
    name: "cluster()",
    options: ["workers", "mode", "signals", "nameLogs", "log", "runtimeArgs", "timeouts"],
    inside: ["startMs", "drainMs", "restartMs", "maxRestartMs", "steadyMs"],
    foreign: CLUSTER_NAMES,
    take: resolveCluster,
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
