/**
 * Identities: every form a certificate and key come in, made by openssl; and that the runtime's TLS
 * really serves them.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer as createNetServer } from "node:net";
import { createServer } from "node:tls";
import { pathToFileURL } from "node:url";
import { describe, test } from "bun:test";
import type { ConfigErrorCode } from "../lib/errors.ts";
import type { KeyType } from "../lib/tls/certificate.ts";
import type { ClientHello } from "../lib/tls/client_hello.ts";
import { ClientHelloReader } from "../lib/tls/client_hello_reader.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { filesDigestOf, type Identity, keyPemOf } from "../lib/tls/loaded_identity.ts";
import type { IdentityOptions } from "../lib/tls/options.ts";
import type { KeySource } from "../lib/tls/private_key.ts";
import { canVerify } from "../lib/tls/signing.ts";
import cases from "./cases/client_hello.json" with { type: "json" };
import {
  identityFilesForAll,
  intermediate,
  leaf,
  leafFile,
  leafKeyFile,
  openssl,
  path,
  refused,
  rejects,
  root,
  selfSigned,
  write,
} from "./identity_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
identityFilesForAll();

const PASSPHRASE = "sécret";

const SERVED: KeyType[] = ["rsa", "ec-p256", "ec-p384", "ec-p521", "ed25519"];

describe("loadIdentity() says", () => {
  test("what it has loaded", async () => {
    const identity = await loadIdentity({ cert: leaf.cert, key: leaf.key });
    const parsed = new X509Certificate(leaf.certDer);
    assert.deepEqual(identity.names, ["localhost", "*.example.com"]);
    assert.deepEqual(identity.addresses, ["127.0.0.1", "::1"]);
    assert.equal(identity.keyType, "ec-p256");
    assert.equal(identity.fingerprint256, parsed.fingerprint256);
    assert.equal(identity.leaf.fingerprint256, parsed.fingerprint256);
    assert.deepEqual(identity.chain.map(commonName), ["localhost", "intermediate"]);
    assert.deepEqual(identity.validFrom, parsed.validFromDate);
    assert.deepEqual(identity.validTo, parsed.validToDate);
    assert.match(keyPemOf(identity), /^-----BEGIN PRIVATE KEY-----/);
    assert.equal(identity.certPem.match(/BEGIN CERTIFICATE/g)?.length, 2);
    assert.deepEqual(identity.files, []);
  });

  test("the files it has read, once each", async () => {
    const both = write("both.pem", leaf.key + leaf.cert);
    const apart = await loadIdentity({ cert: leafFile, key: pathToFileURL(leafKeyFile) });
    const together = await loadIdentity({ cert: both });
    const twice = await loadIdentity({ cert: both, key: both });
    assert.deepEqual(apart.files, [leafFile, leafKeyFile]);
    assert.deepEqual(together.files, [both]);
    assert.deepEqual(twice.files, [both]);
    assert.equal(filesDigestOf(twice), filesDigestOf(together));
    assert.notEqual(filesDigestOf(apart), filesDigestOf(together));
    assert.ok([apart, together, twice].every((identity) => keyPemOf(identity) === keyPemOf(apart)));
  });

  test("names by the SAN, and by the common name only without one", async () => {
    selfSigned("san", "ec-p256", { san: "DNS:a.example,DNS:*.com,DNS:bad name,IP:10.0.0.1" });
    selfSigned("only-ip", "ec-p256", { san: "IP:2001:db8::1" });
    selfSigned("no-san", "ec-p256", { san: undefined });
    const key = path("ec-p256.key");
    const [san, onlyIp, noSan] = await Promise.all(
      ["san", "only-ip", "no-san"].map((name) => loadIdentity({ cert: path(`${name}.pem`), key })),
    );
    assert.deepEqual(san!.names, ["a.example"]);
    assert.deepEqual(san!.addresses, ["10.0.0.1"]);
    assert.deepEqual(onlyIp!.names, []);
    assert.deepEqual(onlyIp!.addresses, ["2001:db8::1"]);
    assert.deepEqual(noSan!.names, ["localhost"]);
  });
});

describe("loadIdentity() reads certificates", () => {
  const forms: Record<string, () => NonNullable<IdentityOptions["cert"]>> = {
    "as PEM text": () => leaf.cert,
    "as PEM bytes": () => Buffer.from(leaf.cert),
    "from a path": () => leafFile,
    "from a file: URL": () => pathToFileURL(leafFile),
    "with a trailing NUL": () => `${leaf.cert}\0`,
    "with CRLF and a byte order mark": () => `\ufeff${leaf.cert.replaceAll("\n", "\r\n")}`,
    "with text around the blocks": () => `Bag Attributes\n  a: 1\n${leaf.cert}\ntrailing`,
    "with spaces before the lines": () => leaf.cert.replaceAll(/^/gm, "    "),
    "in parts, PEM and DER": () => [leaf.certDer, intermediate.cert],
    "in parts, with the root": () => [leafFile, root.cert],
  };
  for (const [name, cert] of Object.entries(forms)) {
    test(name, async () => {
      const identity = await loadIdentity({ cert: cert(), key: leaf.key });
      assert.deepEqual(identity.chain.slice(0, 2).map(commonName), ["localhost", "intermediate"]);
    });
  }

  test("as DER of the leaf alone", async () => {
    const identity = await loadIdentity({ cert: leaf.certDer, key: leaf.key });
    assert.equal(identity.chain.length, 1);
  });
});

describe("loadIdentity() reads keys", () => {
  const P8 = ["pkcs8", "-topk8"];
  const RSA = ["rsa", "-traditional"];
  const aes = ["-aes256", "-passout", `pass:${PASSPHRASE}`];
  const pbes2 = ["-v2", "aes-256-cbc", "-passout", `pass:${PASSPHRASE}`];
  const der = ["-outform", "DER"];
  const forms: [name: string, kind: KeyType, command: string[], encrypted?: "encrypted"][] = [
    ["PKCS#8", "rsa", [...P8, "-nocrypt"]],
    ["PKCS#8", "ec-p256", [...P8, "-nocrypt"]],
    ["PKCS#8", "ed25519", [...P8, "-nocrypt"]],
    ["PKCS#8 DER", "rsa", [...P8, "-nocrypt", ...der]],
    ["PKCS#8 DER", "ec-p384", [...P8, "-nocrypt", ...der]],
    ["PKCS#8 DER", "ed25519", [...P8, "-nocrypt", ...der]],
    ["PKCS#8 with AES", "rsa", [...P8, ...pbes2], "encrypted"],
    ["PKCS#8 with AES", "ec-p256", [...P8, ...pbes2], "encrypted"],
    ["PKCS#8 with AES", "ed25519", [...P8, ...pbes2], "encrypted"],
    ["PKCS#8 with AES in DER", "ec-p256", [...P8, ...pbes2, ...der], "encrypted"],
    ["PKCS#1", "rsa", RSA],
    ["PKCS#1 DER", "rsa", [...RSA, ...der]],
    ["PKCS#1 with AES, traditional", "rsa", [...RSA, ...aes], "encrypted"],
    ["SEC1", "ec-p256", ["ec"]],
    ["SEC1", "ec-p521", ["ec"]],
    ["SEC1 DER", "ec-p256", ["ec", ...der]],
    ["SEC1 DER", "ec-p384", ["ec", ...der]],
    ["SEC1 with AES, traditional", "ec-p256", ["ec", ...aes], "encrypted"],
  ];
  for (const [name, kind, command, encrypted] of forms) {
    test(`${name}, ${kind}`, async () => {
      const file = path("form.key");
      openssl(...command, "-in", path(`${kind}.key`), "-out", file);
      const cert = path(`${kind}.pem`);
      for (const key of [file, readFileSync(file)]) { // an unneeded passphrase does no harm
        const identity = await loadIdentity({ cert, key, passphrase: PASSPHRASE });
        assert.equal(identity.keyType, kind);
        assert.deepEqual(
          publicDer(keyPemOf(identity)),
          publicDer(readFileSync(path(`${kind}.key`))),
        );
      }
      if (encrypted) {
        await refused({ cert, key: file }, "INVALID_CERTIFICATE", file, /encrypted.*passphrase/);
        const wrong = { cert, key: file, passphrase: "wrong" };
        await refused(wrong, "INVALID_CERTIFICATE", file, /correct option passphrase/);
      } else {
        assert.equal((await loadIdentity({ cert, key: file })).keyType, kind);
      }
    });
  }

  test("with spaces around the lines", async () => {
    const key = leaf.key.replaceAll(/^/gm, "    ").replaceAll("\n", " \r\n");
    assert.equal((await loadIdentity({ cert: leaf.cert, key })).keyType, "ec-p256");
  });

  test("behind EC parameters, certificates, attributes and a byte order mark", async () => {
    const parameters = openssl("ecparam", "-name", "prime256v1");
    const sec1 = openssl("ec", "-in", path("ec-p256.key"));
    const cert = path("ec-p256.pem");
    const text = `\ufeffBag Attributes\n${readFileSync(cert)}${parameters}Key: 1\n${sec1}\n\0`;
    assert.equal((await loadIdentity({ cert, key: text })).keyType, "ec-p256");
  });
});

describe("loadIdentity() takes keys from elsewhere", () => {
  const load = (key: KeySource, passphrase?: string) =>
    loadIdentity({ cert: leaf.cert, key, ...(passphrase !== undefined && { passphrase }) });
  const importKey = (extractable: boolean) =>
    crypto.subtle.importKey(
      "pkcs8",
      new Uint8Array(createPrivateKey(leaf.key).export({ type: "pkcs8", format: "der" })),
      { name: "ECDSA", namedCurve: "P-256" },
      extractable,
      ["sign"],
    );

  test("KeyObject, CryptoKey, functions and objects that give them", async () => {
    const expected = keyPemOf(await load(leaf.key));
    const provider = new class {
      #key = leaf.key;
      load(): string {
        return this.#key;
      }
    }();
    const sources: KeySource[] = [
      createPrivateKey(leaf.key),
      await importKey(true),
      () => leaf.key,
      async () => Buffer.from(await Promise.resolve(leaf.key)),
      () => createPrivateKey(leaf.key),
      { load: () => importKey(true) },
      provider,
    ];
    for (const source of sources) assert.equal(keyPemOf(await load(source)), expected);
  });

  test("encrypted, from a provider", async () => {
    const file = path("provided.key");
    openssl("pkcs8", "-topk8", "-in", leafKeyFile, "-out", file, "-passout", `pass:${PASSPHRASE}`);
    const identity = await load(() => readFileSync(file), PASSPHRASE);
    assert.equal(identity.keyType, "ec-p256");
    assert.deepEqual(identity.files, []);
  });

  test("but no CryptoKey that may not be extracted", async () => {
    const key = await importKey(false);
    await rejects(load(key), "NOT_SUPPORTED", /^Option key is a CryptoKey.*extractable: true/);
    await rejects(load(() => key), "NOT_SUPPORTED", /^The key provider's answer is a CryptoKey/);
  });

  test("but no public key", async () => {
    await rejects(load(createPublicKey(leaf.key)), "INVALID_CERTIFICATE", /public key.*private/);
  });

  test("and says what a provider did wrong", async () => {
    const cause = new Error("vault is sealed");
    const failing = () => Promise.reject(cause);
    const throwing = () => {
      throw cause;
    };
    for (const provider of [failing, throwing, { load: failing }]) {
      const error = await rejects(load(provider), "INVALID_CERTIFICATE", /vault is sealed/);
      assert.equal(error.cause, cause);
    }
    await rejects(load(() => "path.key"), "INVALID_CERTIFICATE", /^The key provider's answer/);
    const nothing = (() => undefined) as unknown as () => string;
    await rejects(load(nothing), "INVALID_CONFIG", /^The key provider's answer/);
  });
});

describe("loadIdentity() reads PKCS#12", () => {
  const pkcs12 = (name: string, ...options: string[]) => {
    const file = path(name);
    const password = options.includes("-passout") ? [] : ["-passout", `pass:${PASSPHRASE}`];
    openssl("pkcs12", "-export", "-out", file, ...password, ...options);
    return file;
  };
  const ofLeaf = () => ["-inkey", leafKeyFile, "-in", path("leaf-alone.pem")];

  test("without chain, as file and as bytes", async () => {
    const file = pkcs12("plain.p12", ...ofLeaf());
    for (const pfx of [file, pathToFileURL(file), readFileSync(file)]) {
      const identity = await loadIdentity({ pfx, passphrase: PASSPHRASE });
      assert.deepEqual(identity.chain.map(commonName), ["localhost"]);
      assert.deepEqual(identity.files, pfx instanceof Uint8Array ? [] : [file]);
      assert.deepEqual(publicDer(keyPemOf(identity)), publicDer(leaf.key));
    }
  });

  test("with the chain in whatever order", async () => {
    const pfx = pkcs12("chain.p12", ...ofLeaf(), "-certfile", path("cas.pem"));
    const identity = await loadIdentity({ pfx, passphrase: PASSPHRASE });
    assert.deepEqual(identity.chain.map(commonName), ["localhost", "intermediate", "root"]);
    assert.deepEqual(Buffer.from(identity.leaf.raw), Buffer.from(leaf.certDer));
  });

  test("of every kind of key", async () => {
    for (const kind of SERVED) {
      const files = ["-inkey", path(`${kind}.key`), "-in", path(`${kind}.pem`)];
      const pfx = pkcs12(`${kind}.p12`, ...files);
      assert.equal((await loadIdentity({ pfx, passphrase: PASSPHRASE })).keyType, kind);
    }
  });

  test("with an empty passphrase, and with nothing encrypted", async () => {
    const empty = pkcs12("empty.p12", ...ofLeaf(), "-passout", "pass:");
    assert.equal((await loadIdentity({ pfx: empty })).keyType, "ec-p256");
    const open = pkcs12("open.p12", ...ofLeaf(), "-keypbe", "NONE", "-certpbe", "NONE");
    assert.equal((await loadIdentity({ pfx: open, passphrase: PASSPHRASE })).keyType, "ec-p256");
  });

  test("and says what is wrong with it", async () => {
    const pfx = pkcs12("good.p12", ...ofLeaf());
    for (const passphrase of ["wrong", undefined]) {
      const options = passphrase === undefined ? { pfx } : { pfx, passphrase };
      await refused(options, "INVALID_CERTIFICATE", pfx, /correct option passphrase/);
    }
    const refuse = (name: string, code: ConfigErrorCode, says: RegExp, ...options: string[]) => {
      const file = pkcs12(name, ...options);
      return refused({ pfx: file, passphrase: PASSPHRASE }, code, file, says);
    };
    const legacy = ["-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"];
    await refuse("3des.p12", "NOT_SUPPORTED", /openssl pkcs12 -legacy/, ...ofLeaf(), ...legacy);
    await refuse("mac.p12", "INVALID_CERTIFICATE", /no MAC/, ...ofLeaf(), "-nomac");
    const onlyKey = ["-nocerts", "-inkey", leafKeyFile];
    await refuse("key.p12", "INVALID_CERTIFICATE", /no certificate/, ...onlyKey);
    const onlyCertificate = ["-nokeys", "-in", path("leaf-alone.pem")];
    await refuse("cert.p12", "INVALID_CERTIFICATE", /0 private keys/, ...onlyCertificate);

    const damaged = readFileSync(pfx);
    damaged[damaged.length >> 1]! ^= 1;
    await refused(
      { pfx: damaged, passphrase: PASSPHRASE },
      "INVALID_CERTIFICATE",
      "Option pfx",
      /export it again|not a PKCS#12/,
    );
    await refused({ pfx: leafFile }, "INVALID_CERTIFICATE", leafFile, /not a PKCS#12 file/);
    const options = { pfx, passphrase: PASSPHRASE, key: leaf.key };
    await refused(options, "INVALID_CONFIG", "Option pfx", /leave out/);
  });
});

describe("canVerify()", () => {
  for (const { name, hex } of cases.captured) {
    test(`on ${name}`, async () => {
      const result = new ClientHelloReader().push(Buffer.from(hex, "hex"));
      assert.ok(result.state === "hello");
      const speaksTls12 = result.hello.versions.some((version) => version >= 0x0303);
      for (const kind of SERVED) {
        // Deno's and Bun's TLS 1.3 clients list no P-521 group, which only TLS 1.2 asks for.
        assert.equal(canVerify(result.hello, (await served(kind)).keyType), speaksTls12, kind);
      }
    });
  }

  test("looks at the curves of a TLS 1.2 client", async () => {
    const identity = await served("ec-p384");
    const hello = { versions: [0x0303], cipherSuites: [0xc02b], signatureAlgorithms: [0x0503] };
    const withGroups = (groups: number[]) => ({ ...hello, groups }) as unknown as ClientHello;
    assert.equal(canVerify(withGroups([29, 24]), identity.keyType), true);
    assert.equal(canVerify(withGroups([29, 23]), identity.keyType), false);
    assert.equal(canVerify(withGroups([]), identity.keyType), true);
  });

  // What it says is what the runtime's handshake comes to.
  const clients: [name: string, options: string[], suited: KeyType[]][] = [
    ["TLS 1.3", ["-tls1_3"], SERVED],
    ["TLS 1.2", ["-tls1_2"], SERVED],
    ["TLS 1.3, RSA-PSS only", ["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"], ["rsa"]],
    ["TLS 1.3, PKCS#1 only", ["-tls1_3", "-sigalgs", "RSA+SHA256"], []],
    ["TLS 1.3, P-256 only", ["-tls1_3", "-sigalgs", "ECDSA+SHA256"], ["ec-p256"]],
    ["TLS 1.3, Ed25519 only", ["-tls1_3", "-sigalgs", "ed25519"], ["ed25519"]],
    ["TLS 1.2, PKCS#1 only", ["-tls1_2", "-sigalgs", "RSA+SHA256"], ["rsa"]],
    ["TLS 1.2, P-521 only", ["-tls1_2", "-sigalgs", "ECDSA+SHA512"], ["ec-p521"]],
    ["TLS 1.2, RSA suites", ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], ["rsa"]],
    [
      "TLS 1.2, ECDSA suites",
      ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
      ["ec-p256", "ec-p384", "ec-p521", "ed25519"],
    ],
  ];
  for (const [name, options, suited] of clients) {
    test(`foretells the handshake of a client with ${name}`, async () => {
      for (const kind of SERVED) {
        const { suits, handshake } = await connect(await served(kind), options);
        assert.equal(suits, suited.includes(kind), kind);
        if (suits) assert.ok(handshake, `${kind}: the handshake failed`);
        // BoringSSL signs with any hash in TLS 1.2, Deno's TLS only with the curve's own.
        else if (!(runtime === "bun" && name === "TLS 1.2, P-521 only")) {
          assert.ok(!handshake, `${kind}: the handshake succeeded`);
        }
      }
    }, 20_000);
  }
});

/** Loads the self-signed certificate of a kind. */
function served(kind: string): Promise<Identity> {
  return loadIdentity({ cert: path(`${kind}.pem`), key: path(`${kind}.key`) });
}

/** Lets openssl connect to a server with this identity. */
async function connect(
  identity: Identity,
  options: string[],
): Promise<{ suits: boolean | undefined; handshake: boolean }> {
  let suits: boolean | undefined;
  let handshake = false;
  const inner = createServer({ cert: identity.certPem, key: keyPemOf(identity) });
  inner.on("tlsClientError", (_, socket) => socket.destroy());
  inner.on("secureConnection", (socket) => {
    handshake = true;
    socket.on("error", () => {}); // openssl leaves without a goodbye
    socket.end();
  });
  const over = Promise.withResolvers<void>();
  const server = createNetServer((socket) => {
    socket.on("error", () => {}).on("close", () => over.resolve());
    const reader = new ClientHelloReader();
    const peek = (chunk: Buffer) => {
      const result = reader.push(chunk);
      if (result.state === "need") return;
      socket.pause();
      socket.off("data", peek);
      suits = result.state === "hello" && canVerify(result.hello, identity.keyType);
      socket.unshift(reader.bytes);
      inner.emit("connection", socket);
    };
    socket.on("data", peek);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, ...options], {
    stdio: ["pipe", "ignore", "ignore"], // stdin stays open, or openssl would leave at once
  });
  await Promise.all([once(client, "close"), over.promise]);
  server.close();
  return { suits, handshake };
}

function commonName({ subject }: X509Certificate): string {
  return subject.replace(/^.*CN=/s, "");
}

function publicDer(key: string | Buffer): Buffer {
  return createPublicKey(key).export({ type: "spki", format: "der" });
}
