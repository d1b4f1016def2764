/**
 * No private key and no passphrase can be seen in anything that a program is handed, however it is
 * loaded, printed or copied; nor in any error.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { inspect } from "node:util";
import { describe, test } from "bun:test";
import { connectionInfo } from "../lib/fetch/connection_info.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import { EVENT_IDS, type ServerEventType } from "../lib/events.ts";
import { HttpsServer } from "../lib/server.ts";
import { ClientAuth } from "../lib/tls/client_auth.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import type { IdentityOptions } from "../lib/tls/options.ts";
import { assertRuntime } from "./runtime.ts";
import { startScript, until } from "./support.ts";
import { alice, clientCa, file, localhost, openssl, pairFor, sClient } from "./tls_support.ts";

assertRuntime();

const PASSPHRASE = "correct-horse-battery-staple";
const keyFile = file(localhost.key);
const certFile = file(localhost.cert);
const encrypted = openssl([
  ...["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", keyFile, "-passout", `pass:${PASSPHRASE}`],
]);
const keyObject = createPrivateKey(localhost.key);
const pkcs8 = keyObject.export({ type: "pkcs8", format: "der" });
const sec1 = keyObject.export({ type: "sec1", format: "der" });
const scalar = Buffer.from(keyObject.export({ format: "jwk" }).d!, "base64url");

/** A PKCS#12 file; made by a file name, as it is no text. */
function pkcs12(): Uint8Array {
  const path = file("");
  openssl([
    ...["pkcs12", "-export", "-inkey", keyFile, "-in", certFile, "-out", path],
    ...["-passout", `pass:${PASSPHRASE}`],
  ]);
  return readFileSync(path);
}
const p12 = pkcs12();

/** What must never be seen: parts of the key in each spelling, so that a part of it is found too. */
const FORBIDDEN = new Map<string, string>([["the passphrase", PASSPHRASE]]);
for (let at = 0; at + 8 <= scalar.length; at += 4) {
  const part = scalar.subarray(at, at + 8);
  FORBIDDEN.set(`bytes ${at} as numbers`, [...part].join(","));
  FORBIDDEN.set(`bytes ${at} in hexadecimal`, part.toString("hex"));
}
const texts = { scalar, pkcs8, sec1, encrypted: derOf(encrypted), p12 };
for (const [name, bytes] of Object.entries(texts)) {
  const text = Buffer.from(bytes).toString("base64");
  // Of a plain key, only the number is secret: what is before and behind it is in certificates too.
  const number = Buffer.from(bytes).indexOf(scalar);
  const [from, to] = number < 0
    ? [48, text.length]
    : [Math.ceil(number / 3) * 4, Math.floor((number + scalar.length) / 3) * 4];
  for (let at = from; at + 12 <= to; at += 12) {
    const part = text.slice(at, at + 12);
    FORBIDDEN.set(`${name} at ${at} in base64`, part);
    FORBIDDEN.set(`${name} at ${at} in base64url`, part.replaceAll("+", "-").replaceAll("/", "_"));
  }
}

function derOf(pem: string): Uint8Array {
  return Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64");
}

/** Fails when `text` has any of it, whatever is between the numbers, digits or letters. */
function assertClean(text: string, what: string): void {
  const flat = text.replace(/"?\d+"?: ?(?=\d+\b)/g, "").replace(/[\s"'\\]|\bn\b/g, "");
  const bare = flat.replaceAll(":", "").toLowerCase();
  for (const [name, secret] of FORBIDDEN) {
    const isSeen = flat.includes(secret) || (/hexa/.test(name) && bare.includes(secret));
    assert.ok(!isSeen, `${what} shows ${name}`);
  }
}

/** All the ways in which `thing` can be printed or copied. */
function* printings(thing: unknown): Iterable<[how: string, text: string]> {
  const scope = globalThis as {
    Bun?: { inspect(it: unknown, options: object): string };
    Deno?: { inspect(it: unknown, options: object): string };
  };
  const everything = {
    depth: 12,
    showHidden: true,
    getters: true,
    maxArrayLength: null,
    maxStringLength: null,
    iterableLimit: Infinity,
    strAbbreviateSize: Infinity,
  };
  yield ["inspect", inspect(thing, { depth: Infinity })];
  yield ["inspect of all", inspect(thing, everything)];
  yield ["the console", (scope.Bun ?? scope.Deno)!.inspect(thing, { depth: 8 })];
  yield ["the console, all", (scope.Bun ?? scope.Deno)!.inspect(thing, everything)];
  yield ["String", attempt(() => String(thing))];
  yield ["JSON", attempt(() => JSON.stringify(thing, acyclic()))];
  yield ["structuredClone", attempt(() => inspect(structuredClone(thing), everything))];
  yield ["spread", attempt(() => inspect({ ...(thing as object) }, everything))];
  yield ["entries", attempt(() => inspect(Object.entries(thing as object), everything))];
  if (thing instanceof Error) {
    yield ["stack", `${thing.stack}`];
    if (thing.cause !== undefined) yield* printings(thing.cause);
    if (thing instanceof AggregateError) {
      for (const error of thing.errors) yield* printings(error);
    }
  }
}

function attempt(print: () => string): string {
  try {
    return `${print()}`;
  } catch (error) {
    return inspect(error); // it cannot be copied or written, and says why
  }
}

/** A replacer that leaves out what is there already. */
function acyclic(): (key: string, value: unknown) => unknown {
  const seen = new Set<unknown>();
  return (_, value) => {
    if (typeof value === "bigint") return String(value);
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return undefined;
    seen.add(value);
    return value;
  };
}

function assertNothingSeen(things: Readonly<Record<string, unknown>>): void {
  for (const [name, thing] of Object.entries(things)) {
    for (const [how, text] of printings(thing)) assertClean(text, `${name}, printed by ${how},`);
  }
}

const cryptoKey = await crypto.subtle.importKey(
  "pkcs8",
  Uint8Array.from(pkcs8),
  { name: "ECDSA", namedCurve: "P-256" },
  true,
  ["sign"],
);

const p12File = file("");
writeFileSync(p12File, p12);

/** Every way to load the one key. */
const LOADINGS: Readonly<Record<string, IdentityOptions>> = {
  "PEM text": localhost,
  "PEM bytes": { cert: localhost.cert, key: Buffer.from(localhost.key) },
  "DER": { cert: localhost.cert, key: Uint8Array.from(pkcs8) },
  "SEC1 in DER": { cert: localhost.cert, key: Uint8Array.from(sec1) },
  "one text": { cert: localhost.cert + localhost.key },
  "encrypted PEM": { cert: localhost.cert, key: encrypted, passphrase: PASSPHRASE },
  "encrypted DER": { cert: localhost.cert, key: derOf(encrypted), passphrase: PASSPHRASE },
  "PKCS#12": { pfx: p12, passphrase: PASSPHRASE },
  "a PKCS#12 file": { pfx: p12File, passphrase: PASSPHRASE },
  "files": { cert: certFile, key: keyFile },
  "file URLs": { cert: pathToFileURL(certFile), key: pathToFileURL(keyFile) },
  "a key object": { cert: localhost.cert, key: keyObject },
  "a CryptoKey": { cert: localhost.cert, key: cryptoKey },
  "a KeyProvider": { cert: localhost.cert, key: { load: () => localhost.key } },
  "a function": {
    cert: localhost.cert,
    key: () => Promise.resolve(encrypted),
    passphrase: PASSPHRASE,
  },
};

describe("What must not be seen", () => {
  test("is found by this test, in each form", () => {
    const seen = (thing: unknown) =>
      [...printings(thing)].filter(([, text]) => {
        try {
          assertClean(text, "it");
          return false;
        } catch {
          return true;
        }
      }).map(([how]) => how);
    const holders: unknown[] = [
      { keyPem: localhost.key },
      { nested: { deep: { key: [encrypted] } } },
      { key: Uint8Array.from(pkcs8) },
      { key: Buffer.from(sec1) },
      { key: scalar.toString("hex") },
      { key: [...scalar] },
      { passphrase: PASSPHRASE },
      new Error(`Cannot read ${localhost.key}`),
      new Error("x", { cause: new Error(`bad ${PASSPHRASE}`) }),
    ];
    for (const holder of holders) assert.ok(seen(holder).length > 0, inspect(holder));
    assert.deepEqual(seen({ cert: localhost.cert }), []);
  });
});

describe("No key and no passphrase is seen", () => {
  for (const [how, options] of Object.entries(LOADINGS)) {
    test(`in an identity from ${how}`, async () => {
      const identity = await loadIdentity(options);
      assertNothingSeen({ identity, holder: { identity, list: [identity] } });
    });

    test(`in what a server hands out, its key from ${how}`, async () => {
      const things: Record<string, unknown> = {};
      const server = new HttpsServer(
        {
          hostname: "127.0.0.1",
          port: 0,
          timeouts: { drainMs: 0 },
          expiryNoticeDays: 365,
          watch: true,
          clientAuth: { ca: clientCa.cert, mode: "optional" },
          identities: [{ ...options, names: ["other.example"] }],
          certSelect: (hello, handshake) => void Object.assign(things, { hello, handshake }),
          verifyClient: (certificate) => {
            things["verified"] = certificate;
            return true;
          },
          userCallback: (change) => void (things[`change ${change.state}`] = change),
          globalUserContext: "shared",
          ...options,
        },
        (request, info) => {
          Object.assign(things, { request, info, connection: connectionInfo(request) });
          return new Response("answered");
        },
      );
      for (const type of Object.keys(EVENT_IDS) as ServerEventType[]) {
        server.addEventListener(type, (event) => void (things[`event ${type}`] ??= event));
      }
      things["new server"] = server;
      server.route({
        uri: "/routed",
        method: "GET",
        handler: (request) => {
          things["routed"] = request;
          return request.send("answered");
        },
      });
      await server.start();
      try {
        const { port } = server.address;
        const { status } = await sClient(port, { client: alice });
        assert.equal(status, 200);
        await sClient(port, { target: "/routed" });
        await sClient(port, { args: ["-alpn", "nonsense"] });
        await until(() => "event error" in things && "event expiring" in things, "all is reported");
        Object.assign(things, {
          server,
          capabilities: server.capabilities,
          address: server.address,
        });
        await server.reload({ ...options });
        assertNothingSeen(things);
      } finally {
        await server.stop();
      }
      assertNothingSeen({ server, stop: things["event stop"] });
      const expected = [
        "hello",
        "handshake",
        "verified",
        "request",
        "info",
        "connection",
        "routed",
      ];
      for (const name of expected) assert.ok(things[name] !== undefined, name);
    }, 20_000);
  }

  test("in what console.log really writes", async () => {
    const { href } = new URL("../mod.ts", import.meta.url);
    const child = startScript(`
      const { HttpsServer, loadIdentity } = await import(${JSON.stringify(href)});
      const pair = ${JSON.stringify(localhost)};
      const identity = await loadIdentity(pair);
      console.log(identity, [identity], { identity }, JSON.stringify(identity));
      console.dir(identity, { depth: null, showHidden: true });
      console.table?.(identity);
      const server = new HttpsServer(
        { hostname: "127.0.0.1", port: 0, expiryNoticeDays: 365, ...pair },
        () => new Response(),
      );
      const expiring = new Promise((resolve) => server.addEventListener("expiring", (event) => {
        console.log(event);
        console.log(event.identity);
        resolve();
      }));
      await server.start();
      await expiring;
      console.log(server);
      await server.stop();
      console.log("over", process.argv.length > 99 ? pair : "");
    `);
    const output = await child.done;
    assert.match(output, /over/);
    assert.match(output, /fingerprint256/);
    assertClean(output, "The console");
  }, 10_000);

  test("in the other public objects", async () => {
    assertNothingSeen({ clientAuth: new ClientAuth({ ca: clientCa.cert }) });
    const other = await pairFor("a.example");
    const server = new HttpsServer({ ...LOADINGS["encrypted PEM"], identities: [other] });
    assertNothingSeen({ server });
  });
});

describe("No key and no passphrase is seen in an error", () => {
  const cert = localhost.cert;
  const hex = scalar.toString("hex");
  const jwk = JSON.stringify(keyObject.export({ format: "jwk" }));
  const body = localhost.key.split("\n").slice(1, -2).join("");
  const throwing = () => {
    throw new Error("The vault is closed");
  };
  const wrong: Readonly<Record<string, unknown>> = {
    "a wrong passphrase": { cert, key: encrypted, passphrase: `${PASSPHRASE}!` },
    "a missing passphrase": { cert, key: encrypted },
    "a wrong passphrase of DER": { cert, key: derOf(encrypted), passphrase: `${PASSPHRASE}!` },
    "a wrong passphrase of PKCS#12": { pfx: p12, passphrase: `${PASSPHRASE}!` },
    "a damaged PKCS#12": { pfx: p12.slice(0, -9), passphrase: PASSPHRASE },
    "a key for another certificate": { ...alice, key: localhost.key },
    "a key in place of the certificate": { cert: localhost.key, key: localhost.key },
    "a key that is cut off": { cert, key: localhost.key.slice(0, 120) },
    "a key without its END": { cert, key: localhost.key.replace(/-----END[^]*/, "") },
    "a key without its lines": { cert, key: body },
    "a key without its lines, in lines": {
      cert,
      key: localhost.key.split("\n").slice(1, -2).join("\n"),
    },
    "a key in base64url": { cert, key: body.replaceAll("+", "-").replaceAll("/", "_") },
    "a key as hexadecimal": { cert, key: hex },
    "a key as upper-case hexadecimal": { cert, key: hex.toUpperCase() },
    "a key's number as base64": { cert, key: scalar.toString("base64") },
    "a key as JWK": { cert, key: jwk },
    "a key as JWK in lines": { cert, key: JSON.stringify(JSON.parse(jwk), null, 2) },
    "a key whose bytes are damaged": { cert, key: Uint8Array.from(pkcs8).fill(0, 0, 12) },
    "a key whose text is damaged": { cert, key: localhost.key.replace("MI", "MM") },
    "a key object of the public kind": { cert, key: createPublicKey(localhost.cert) },
    "an array of keys": { cert, key: [localhost.key] },
    "a passphrase that is no text": { cert, key: encrypted, passphrase: [PASSPHRASE] },
    "a key as pfx": { pfx: localhost.key, passphrase: PASSPHRASE },
    "a name that is not known": { cert, key: localhost.key, secret: localhost.key },
    "both kinds": { cert, key: localhost.key, pfx: p12, passphrase: PASSPHRASE },
    "a provider that throws": { cert, key: { load: throwing } },
    "a provider of nonsense": { cert, key: () => ({ key: localhost.key }) },
    "a provider of a damaged key": { cert, key: () => localhost.key.slice(0, 150) },
    "options that are a key": localhost.key,
  };
  for (const [what, options] of Object.entries(wrong)) {
    test(what, async () => {
      const errors: Record<string, unknown> = {};
      const keep = (name: string) => (error: unknown) => void (errors[name] = error);
      await loadIdentity(options as IdentityOptions).catch(keep("loadIdentity()"));
      try {
        const given = typeof options === "string" ? options : {
          hostname: "127.0.0.1",
          port: 0,
          ...options as HttpsServerOptions,
        };
        const server = new HttpsServer(given as HttpsServerOptions, () => new Response());
        await server.start();
        await server.stop();
      } catch (error) {
        keep("start()")(error);
      }
      const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, ...localhost });
      await server.start();
      await server.reload(options as HttpsServerOptions).catch(keep("reload()"));
      await server.stop();
      assert.ok(Object.keys(errors).length >= 2, "It is refused");
      assertNothingSeen(errors);
    });
  }

  test("of a watched file that turns bad", async () => {
    const [cert, key] = [file(localhost.cert), file(localhost.key)];
    const server = new HttpsServer(
      { hostname: "127.0.0.1", port: 0, cert, key, watch: true, watchIntervalMs: 10 },
      () => new Response(),
    );
    const events: Event[] = [];
    server.addEventListener("error", (event) => events.push(event));
    await server.start();
    try {
      for (const content of [localhost.key.slice(0, 130), body, jwk, encrypted]) {
        const { length } = events;
        writeFileSync(key, content);
        await until(() => events.length > length, "the failure is reported");
      }
      rmSync(key);
      await until(() => events.length > 4, "the failure is reported");
    } finally {
      await server.stop();
    }
    for (const [index, event] of events.entries()) {
      assertNothingSeen({ [`event ${index}`]: event, error: (event as ErrorEvent).error });
    }
  }, 10_000);
});
