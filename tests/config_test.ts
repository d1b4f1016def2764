/** Options: their defaults, what is refused and how, and certificates as `start()` sees them. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { type HttpsServerOptions, resolveConfig } from "../lib/config.ts";
import { ConfigError } from "../lib/errors.ts";
import { HttpsServer } from "../lib/server.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates } from "./support.ts";

assertRuntime();
stopServersAfterAll();

/** Options as a JavaScript program may give them. */
const loose = (options: object): HttpsServerOptions => options as HttpsServerOptions;

/** The error that refuses the options. */
function refusal(options: object): ConfigError {
  try {
    resolveConfig(loose(options));
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error;
  }
  assert.fail(`${JSON.stringify(options)} was taken`);
}

describe("resolveConfig()", () => {
  test("fills in the defaults, by the transport mode", () => {
    const secure = resolveConfig({});
    assert.deepEqual(
      [secure.port, secure.transportMode, secure.alpnProtocols, secure.limits.maxBodyBytes],
      [443, "secure", ["h2", "http/1.1"], 128 * 2 ** 20],
    );
    assert.equal(resolveConfig({ transportMode: "insecure" }).port, 80);
    assert.equal(resolveConfig({ port: 0 }).port, 0);
  });

  test("takes undefined for an option that is left out", () => {
    assert.equal(resolveConfig(loose({ port: undefined, hostname: undefined })).port, 443);
  });

  test("takes options that an object inherits, or computes", () => {
    class Settings {
      hostname = "127.0.0.1";
      get port() {
        return 1;
      }
      describe() {
        return "a method is no option";
      }
    }
    const below = Object.create({ port: 1, hostname: "127.0.0.1", limits: { maxRoutes: 2 } });
    for (const options of [below, new Settings()]) {
      const { port, hostname } = resolveConfig(loose(options));
      assert.deepEqual([port, hostname], [1, "127.0.0.1"]);
    }
    assert.equal(resolveConfig(below).limits.maxRoutes, 2);
    const esp = Object.create({ profile: "esp-idf", maxUriHandlers: 3 });
    assert.equal(resolveConfig(esp).limits.maxRoutes, 3);
    assert.match(refusal(Object.create({ prot: 1 })).message, /did you mean port/);
    below.port = undefined;
    assert.equal(resolveConfig(below).port, 443);
  });

  test("takes the ends of each range, and Infinity where there is no end", () => {
    const config = resolveConfig({
      port: 65_535,
      limits: { maxBodyBytes: Infinity, maxDiscardedBytes: 0 },
      timeouts: { drainMs: 0, lingerMs: 1, idleMs: 2 ** 31 - 1 },
    });
    assert.equal(config.limits.maxBodyBytes, Infinity);
    assert.equal(config.timeouts.drainMs, 0);
  });

  test("returns a frozen copy: the caller's object is not changed and not read again", () => {
    const protocols = ["http/1.1"];
    const options = Object.freeze({ port: 1, alpnProtocols: protocols });
    const config = resolveConfig(options);
    assert.deepEqual(options, { port: 1, alpnProtocols: ["http/1.1"] });
    assert.ok(Object.isFrozen(config));
    protocols.push("x");
    assert.deepEqual(config.alpnProtocols, ["http/1.1"]);
  });

  test("returns frozen copies of the groups, in whichever way they are written", () => {
    const groups = {
      limits: { maxBodyBytes: 1 },
      timeouts: { idleMs: 1 },
      http2: { maxConcurrentStreams: 1 },
    };
    for (const options of [groups, { ...groups, profile: "esp-idf" as const }]) {
      const config = resolveConfig(options);
      const { limits, timeouts, http2 } = config;
      for (const group of [limits, timeouts, http2]) assert.ok(Object.isFrozen(group));
      groups.limits.maxBodyBytes = 2;
      assert.equal(limits.maxBodyBytes, 1);
      groups.limits.maxBodyBytes = 1;
      assert.equal(limits.maxHeaderFields, 100); // what is left out has its default
    }
    for (const options of [{}, { http2: true }]) {
      assert.ok(Object.isFrozen(resolveConfig(options).http2));
    }
  });

  const bad: [options: object, message: string | RegExp][] = [
    [{ port: -1 }, "Option port is -1: it must be a port, 0 to 65535"],
    [{ port: 65_536 }, "Option port is 65536: it must be a port, 0 to 65535"],
    [{ port: 1.5 }, "Option port is 1.5: it must be a port, 0 to 65535"],
    [{ port: NaN }, "Option port is NaN: it must be a port, 0 to 65535"],
    [{ port: Infinity }, "Option port is Infinity: it must be a port, 0 to 65535"],
    [{ port: "443" }, "Option port is a string: it must be a port, 0 to 65535"],
    [{ port: null }, "Option port is null: it must be a port, 0 to 65535"],
    [{ port: {} }, "Option port is an object: it must be a port, 0 to 65535"],
    [{ hostname: "" }, "Option hostname is a string: it must not be empty"],
    [{ hostname: 127 }, "Option hostname is 127: it must be a name or address"],
    [
      { transportMode: "plain" },
      'Option transportMode is a string: it must be "secure" or "insecure"',
    ],
    [{ alpnProtocols: "h2" }, "Option alpnProtocols is a string: it must be an array"],
    [{ alpnProtocols: [1] }, "Option alpnProtocols.0 is 1: it must be protocol names"],
    [{ alpnProtocols: [""] }, /^Option alpnProtocols\.0 is a string: it must be protocol names of/],
    [
      { timeouts: { handshakeMs: 0 } },
      "Option timeouts.handshakeMs is 0: it must be a time in ms, 1 to 2147483647",
    ],
    [
      { timeouts: { lingerMs: 2 ** 31 } },
      "Option timeouts.lingerMs is 2147483648: it must be a time in ms, 1 to 2147483647",
    ],
    [
      { timeouts: { drainMs: -1 } },
      "Option timeouts.drainMs is -1: it must be a time in ms, 0 to 2147483647",
    ],
    [
      { limits: { maxBodyBytes: -1 } },
      "Option limits.maxBodyBytes is -1: it must be a size in bytes, 0 or more",
    ],
    [
      { limits: { maxUriBytes: 0 } },
      "Option limits.maxUriBytes is 0: it must be a size in bytes, 1 or more",
    ],
    [
      { limits: { maxHeaderBytes: "1" } },
      "Option limits.maxHeaderBytes is a string: it must be a size in bytes, 1 or more",
    ],
    [
      { limits: { maxHeaderFields: 65_536 } },
      "Option limits.maxHeaderFields is 65536: it must be a count, 1 to 65535",
    ],
    [{ limits: { backlog: 0 } }, "Option limits.backlog is 0: it must be a count, 1 to 65535"],
    [{ signal: {} }, "Option signal is an object: it must be an AbortSignal"],
    [{ passphrase: 1 }, "Option passphrase is 1: it must be text"],
    [{ prot: 443 }, "Option prot is not known: did you mean port?"],
  ];
  for (const [options, message] of bad) {
    test(`refuses ${Object.keys(options)[0]}: ${String(message).slice(0, 60)}`, () => {
      const error = refusal(options);
      assert.equal(error.code, "INVALID_CONFIG");
      if (typeof message === "string") assert.equal(error.message, message);
      else assert.match(error.message, message);
    });
  }

  test("shows no string in its message, as it may be a secret", () => {
    const { message } = refusal({ port: "hunter2" });
    assert.doesNotMatch(message, /hunter2/);
  });

  test("refuses options that are no object", () => {
    for (const options of [undefined, null, 443, "x"]) {
      assert.throws(() => resolveConfig(loose(options as unknown as object)), {
        code: "INVALID_CONFIG",
        message: /^Options must be an object/,
      });
    }
  });

  test("is what the constructor throws by", () => {
    assert.throws(() => new HttpsServer({ port: -1 }), { code: "INVALID_CONFIG" });
  });
});

describe("start() checks the certificate and key", () => {
  /** What `start()` rejects with. */
  async function startFails(options: HttpsServerOptions): Promise<Error & { code?: string }> {
    const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, ...options });
    try {
      await server.start();
    } catch (error) {
      assert.equal(server.state, "idle");
      return error as Error;
    }
    await server.stop();
    assert.fail("It started");
  }

  test("missing, garbage, or not a pair", async () => {
    const { cert, key } = await certificates();
    const other = await (await createCertificateAuthority()).issue();
    const bad: [options: HttpsServerOptions, message: RegExp][] = [
      [{}, /cert and key/],
      [{ cert, key: other.key }, /key.*belong|pair|match/i],
      [{ cert: "garbage\n", key }, /cert|file/i],
      [{ cert: new Uint8Array(100), key }, /cert/i],
      [{ cert, key: new Uint8Array(100) }, /key/i],
      [{ cert, key: cert }, /key/i],
      [{ cert: key, key }, /cert/i],
    ];
    for (const [options, message] of bad) {
      const error = await startFails(options);
      assert.equal(error.code, "INVALID_CERTIFICATE", error.message);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /garbage/);
    }
  });

  test("expired, unless that is allowed", async () => {
    const authority = await createCertificateAuthority();
    const { cert, key } = await authority.issue({ notAfter: new Date(Date.now() - 1000) });
    const error = await startFails({ cert, key });
    assert.equal(error.code, "INVALID_CERTIFICATE");
    assert.match(error.message, /expired/);
    await started(() => new Response("x"), { cert, key, allowExpired: true }, "tls");
  });

  test("in PEM and DER: PKCS#8, SEC1, PKCS#1, encrypted; each is served", async () => {
    const authority = await createCertificateAuthority();
    const ec = await authority.issue();
    const rsa = await authority.issue({ algorithm: "RSA 2048" });
    const der = (key: string, type: "pkcs8" | "sec1" | "pkcs1") =>
      new Uint8Array(createPrivateKey(key).export({ format: "der", type } as never) as never);
    const secret = { cipher: "aes-256-cbc", passphrase: "secret" };
    const encrypted = createPrivateKey(ec.key).export({ format: "pem", type: "pkcs8", ...secret });
    const forms: HttpsServerOptions[] = [
      { cert: ec.cert, key: ec.key },
      { cert: new Uint8Array(new X509Certificate(ec.cert).raw), key: der(ec.key, "pkcs8") },
      { cert: ec.cert, key: der(ec.key, "sec1") },
      { cert: rsa.cert, key: der(rsa.key, "pkcs1") },
      { cert: rsa.cert, key: createPrivateKey(rsa.key).export({ format: "pem", type: "pkcs1" }) },
      { cert: new TextEncoder().encode(ec.cert), key: new TextEncoder().encode(ec.key) },
      { cert: ec.cert, key: encrypted, passphrase: "secret" },
    ].map((form) => loose(form));
    for (const form of forms) {
      const { port } = await started(() => new Response("x"), form, "tls");
      const client = await RawClient.connect(port, "tls", { ca: authority.cert });
      client.send(GET("/"));
      await client.expect("200 OK");
      client.destroy();
    }
    for (const passphrase of [undefined, "wrong"]) {
      const error = await startFails(
        loose({ cert: ec.cert, key: encrypted, ...(passphrase && { passphrase }) }),
      );
      assert.equal(error.code, "INVALID_CERTIFICATE");
      assert.match(error.message, /passphrase/);
    }
  });
});
