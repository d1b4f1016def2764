/** Certificates and keys that are refused when they are loaded, and what the messages say. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { chmodSync, readFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "bun:test";
import { createCertificateAuthority, type IssuedCertificate } from "../lib/tls/dev_certificates.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import type { IdentityOptions } from "../lib/tls/options.ts";
import {
  directory,
  identityFilesForAll,
  intermediate,
  leaf,
  leafFile,
  leafKeyFile,
  openssl,
  path,
  refused,
  root,
  selfSigned,
  write,
} from "./identity_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
identityFilesForAll();

describe("loadIdentity() refuses sources:", () => {
  test("none", async () => {
    await refused({}, "INVALID_CERTIFICATE", "Option cert", /missing/);
    await refused({ cert: [], key: leaf.key }, "INVALID_CERTIFICATE", "Option cert", /missing/);
  });

  test("with a critical extension that only Deno's TLS does not know", async () => {
    const acme = `1.3.6.1.5.5.7.1.31=critical,DER:0420${"00".repeat(32)}`;
    for (const [name, extension] of [["acme", acme], ["tlsfeature", "tlsfeature=critical,5"]]) {
      selfSigned(name!, "ec-p256", { extensions: [extension!] });
      const pair = { cert: path(`${name}.pem`), key: path("ec-p256.key") };
      if (runtime !== "deno") await loadIdentity(pair);
      else await refused(pair, "NOT_SUPPORTED", pair.cert, /critical extension 1\.3\..* Bun$/);
    }
    selfSigned("known", "ec-p256", {
      san: "critical,DNS:localhost",
      extensions: [
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=critical,serverAuth",
        "crlDistributionPoints=critical,URI:http://a.example/",
        "tlsfeature=5",
      ],
    });
    await loadIdentity({ cert: path("known.pem"), key: path("ec-p256.key") });
  });

  test("a file that does not exist, is a directory, or is elsewhere", async () => {
    const missing = path("missing.pem");
    await refused({ cert: missing }, "INVALID_CERTIFICATE", missing, /does not exist/);
    const noKey = { cert: leafFile, key: missing };
    await refused(noKey, "INVALID_CERTIFICATE", missing, /option key does not exist/);
    await refused({ cert: directory }, "INVALID_CERTIFICATE", directory, /is a directory/);
    for (const url of ["https://localhost/a.pem", "file://elsewhere/a.pem"]) {
      if (url.startsWith("file:") && process.platform === "win32") continue;
      await refused({ cert: new URL(url) }, "INVALID_CERTIFICATE", "Option cert", /file: URL/);
    }
  });

  test("a file that this process may not read", async () => {
    const secret = write("secret.pem", leaf.cert);
    chmodSync(secret, 0o000);
    const message = await loadInChild(secret, runtime === "deno" ? ["--allow-all"] : []);
    assert.match(message, /^INVALID_CERTIFICATE File .*secret\.pem .*may not be read: let/);
  }, 20_000);

  test("a file outside of Deno's sandbox", async () => {
    if (runtime !== "deno") return;
    const allowed = `--allow-read=${new URL("..", import.meta.url).pathname}`;
    const message = await loadInChild(leafFile, [allowed, "--allow-env", "--allow-sys"]);
    assert.match(message, /^INVALID_CERTIFICATE File .*leaf\.pem .*may not be read: run Deno with/);
    assert.ok(message.includes(`--allow-read=${leafFile}`), message);
  }, 20_000);

  test("what holds something else, or nothing", async () => {
    const swapped = { cert: leafKeyFile, key: leafFile };
    await refused(swapped, "INVALID_CERTIFICATE", leafKeyFile, /no certificate, .* PRIVATE KEY/);
    const noKey = { cert: leafFile, key: leafFile };
    await refused(noKey, "INVALID_CERTIFICATE", leafFile, /no private key, it has CERTIFICATE/);
    await refused({ cert: leafFile }, "INVALID_CERTIFICATE", leafFile, /give it in option key/);
    const empty = write("empty.pem", "");
    await refused({ cert: empty }, "INVALID_CERTIFICATE", empty, /not a certificate/);
    const emptyKey = { cert: leafFile, key: empty };
    await refused(emptyKey, "INVALID_CERTIFICATE", empty, /not a private key/);
  });

  test("a PEM that is cut off or damaged", async () => {
    const half = leaf.cert.slice(0, 200);
    await refused({ cert: half }, "INVALID_CERTIFICATE", "Option cert", /cut off/);
    const cutKey = { cert: leafFile, key: leaf.key.slice(0, 100) };
    await refused(cutKey, "INVALID_CERTIFICATE", "Option key", /cut off/);
    const damaged = leaf.cert.replace(/^.*MII/m, "AAA");
    await refused({ cert: damaged }, "INVALID_CERTIFICATE", "Option cert", /damaged/);
    const damagedKey = { cert: leafFile, key: leaf.key.replace("MI", "AA") };
    await refused(damagedKey, "INVALID_CERTIFICATE", "Option key", /not a private key/);
    // Linear, however many blocks begin.
    const beginnings = "-----BEGIN CERTIFICATE-----\n".repeat(100_000);
    await refused({ cert: beginnings }, "INVALID_CERTIFICATE", "Option cert", /damaged|cut off/);
  });

  test("what is no source, without telling a secret that was taken for a path", async () => {
    for (const cert of [5, null, {}, true]) {
      const options = { cert } as unknown as IdentityOptions;
      await refused(options, "INVALID_CONFIG", "Option cert", /give PEM/);
    }
    const secret = createPrivateKey(leaf.key).export({ type: "pkcs8", format: "der" });
    for (const key of [secret.toString("base64"), secret.toString("base64url"), "a\nb", " "]) {
      const options = { cert: leafFile, key };
      const error = await refused(options, "INVALID_CERTIFICATE", "Option key", /neither PEM/);
      assert.ok(key === " " || !error.message.includes(key));
      assert.equal(error.cause, undefined);
    }
  });
});

describe("loadIdentity() refuses certificates:", () => {
  for (const kind of ["rsa-pss", "ec-p224", "secp256k1", "brainpool", "ed448"]) {
    test(`${kind}, which the runtime's TLS does not serve`, async () => {
      const cert = path(`${kind}.pem`);
      const error = await refused(
        { cert, key: path(`${kind}.key`) },
        "NOT_SUPPORTED",
        cert,
        /P-256/,
      );
      assert.ok(error.message.includes(runtime));
    });
  }

  test("RSA that is too short", async () => {
    const short = { cert: path("rsa-1024.pem"), key: path("rsa-1024.key") };
    await refused(short, "INVALID_CERTIFICATE", short.cert, /1024 bits.*2048/);
  });

  test("the wrong pair", async () => {
    for (const kind of ["ec-p384", "rsa", "ed25519"]) {
      const key = path(`${kind}.key`);
      const pair = { cert: leafFile, key };
      const error = await refused(pair, "INVALID_CERTIFICATE", leafFile, /pair/);
      assert.ok(error.message.includes(key));
    }
    const other = await intermediate.issue();
    const pair = { cert: leaf.cert, key: other.key };
    await refused(pair, "INVALID_CERTIFICATE", "Option cert", /CN=localhost .*Option key.*pair/);
    const rsa = { cert: path("rsa.pem"), key: path("rsa-3072.key") };
    await refused(rsa, "INVALID_CERTIFICATE", rsa.cert, /pair/);
  });

  test("expired, unless that is allowed", async () => {
    const expired = pairOf(await root.issue({ notAfter: new Date("2026-01-02T03:04:05Z") }));
    await refused(expired, "INVALID_CERTIFICATE", "Option cert", /expired on 2026-01-02T03:04:05/);
    const { validTo } = await loadIdentity({ ...expired, allowExpired: true });
    assert.equal(validTo.toISOString(), "2026-01-02T03:04:05.000Z");
  });

  test("expired or not yet valid intermediates", async () => {
    const old = await root.issueAuthority({ notAfter: new Date("2026-01-02"), name: "old CA" });
    const young = await root.issueAuthority({
      notBefore: new Date("2999-01-02"),
      name: "young CA",
    });
    const byOld = pairOf(await old.issue());
    await refused(byOld, "INVALID_CERTIFICATE", "Option cert", /CN=old CA expired/);
    assert.equal((await loadIdentity({ ...byOld, allowExpired: true })).chain.length, 2);
    await refused(
      pairOf(await young.issue()),
      "INVALID_CERTIFICATE",
      "Option cert",
      /CN=young CA is not/,
    );
  });

  test("but not for an old root behind the chain", async () => {
    const old = await createCertificateAuthority({ notAfter: new Date("2026-01-02") });
    const { cert, key } = await old.issue();
    assert.equal((await loadIdentity({ cert: [cert, old.cert], key })).chain.length, 2);
  });

  test("not yet valid", async () => {
    const early = pairOf(await root.issue({ notBefore: new Date("2999-01-02T00:00:00Z") }));
    const says = /not valid before 2999-01-02/;
    await refused(early, "INVALID_CERTIFICATE", "Option cert", says);
    await refused({ ...early, allowExpired: true }, "INVALID_CERTIFICATE", "Option cert", says);
  });

  test("for clients only, for signing only, or an authority's", async () => {
    const client = pairOf(await root.issue({ usage: "client", names: ["a.example"] }));
    await refused(client, "INVALID_CERTIFICATE", "Option cert", /extendedKeyUsage=serverAuth/);
    await refused(pairOf(intermediate), "INVALID_CERTIFICATE", "Option cert", /CA:TRUE/);
    const key = path("ec-p256.key");
    selfSigned("usage", "ec-p256", { extensions: ["keyUsage=critical,keyAgreement"] });
    const cert = path("usage.pem");
    await refused({ cert, key }, "INVALID_CERTIFICATE", cert, /keyUsage=digitalSignature/);
  });

  test("but not a self-signed one that calls itself an authority, as openssl req -x509 makes", async () => {
    selfSigned("quick", "ec-p256", { authority: true });
    await loadIdentity({ cert: path("quick.pem"), key: path("ec-p256.key") });
  });

  test("but not for servers among other things, or for anything", async () => {
    for (const usage of ["clientAuth,serverAuth", "anyExtendedKeyUsage"]) {
      selfSigned("usages", "ec-p256", { extensions: [`extendedKeyUsage=${usage}`] });
      await loadIdentity({ cert: path("usages.pem"), key: path("ec-p256.key") });
    }
  });

  test("signed with SHA-1 or MD5", async () => {
    for (const hash of ["-sha1", "-md5"]) {
      selfSigned("weak", "rsa", { options: [hash] });
      const weak = { cert: path("weak.pem"), key: path("rsa.key") };
      await refused(weak, "INVALID_CERTIFICATE", weak.cert, /MD5 or SHA-1/);
    }
  });

  test("a chain out of order, with a gap, or with a stranger", async () => {
    const [own, above] = leaf.cert.split(/(?<=-----END CERTIFICATE-----\n)/) as [string, string];
    const refuse = (cert: string, says: RegExp) =>
      refused({ cert, key: leaf.key }, "INVALID_CERTIFICATE", "Option cert", says);
    await refuse(above + own, /CN=intermediate does not match the private key/);
    await refuse(own + root.cert + above, /CN=localhost was not issued by the next one, CN=root/);
    await refuse(own + root.cert, /CN=localhost was not issued by/);
    await refuse(own + above + own, /CN=intermediate was not issued by/);
    await refuse(own + own, /CN=localhost was not issued by/);
  });

  test("a chain with a namesake of the issuer", async () => {
    const namesake = await root.issueAuthority({ name: "intermediate" });
    const options = { cert: [leaf.certDer, namesake.cert], key: leaf.key };
    await refused(options, "INVALID_CERTIFICATE", "Option cert", /was not issued by/);
  });

  test("a chain with a forged signature", async () => {
    const own = Uint8Array.from(leaf.certDer);
    own[own.length - 1]! ^= 1;
    const options = { cert: [own, intermediate.cert], key: leaf.key };
    await refused(options, "INVALID_CERTIFICATE", "Option cert", /was not issued by/);
  });

  test("but no chain by an issuer whose key only clients need to know", async () => {
    for (const kind of ["ec-p521", "rsa-3072", "ed448", "brainpool"]) {
      const chain = issuedBy(kind);
      assert.equal((await loadIdentity({ cert: chain, key: path("ec-p256.key") })).chain.length, 2);
    }
  });
});

/** Loads a certificate in a child without privileges; resolves with the error's code and message. */
async function loadInChild(cert: string, options: string[]): Promise<string> {
  const script = write(
    "load.ts",
    `import { loadIdentity } from ${
      JSON.stringify(new URL("../lib/tls/identity.ts", import.meta.url))
    };
    await loadIdentity({ cert: ${JSON.stringify(cert)} }).then(
      () => console.log("loaded"),
      ({ code, message }) => console.log(code, message),
    );`,
  );
  const root = new URL("..", import.meta.url).pathname;
  const runFlags = runtime === "deno"
    ? [
      "run",
      "--quiet",
      "--no-prompt",
      `--config=${root}deno.json`,
      "--node-modules-dir=manual",
      ...options,
    ]
    : options;
  chmodSync(directory, 0o755);
  const nobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  const child = spawn(process.execPath, [...runFlags, script], {
    ...nobody,
    cwd: root,
    env: { ...process.env, HOME: directory, DENO_DIR: path("deno") },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  await once(child, "close");
  return output;
}

/** What of a certificate is an identity's. */
function pairOf({ cert, key }: IssuedCertificate): IdentityOptions {
  return { cert, key };
}

/** A certificate for `ec-p256.key` by a CA with this kind of key, followed by the CA's. */
function issuedBy(kind: string): string {
  const key = path(`${kind}.key`);
  const ca = path(`${kind}-ca.pem`);
  const request = path("issued.csr");
  const cert = path("issued.pem");
  const csr = ["-key", path("ec-p256.key"), "-subj", "/CN=localhost"];
  openssl("req", "-x509", "-key", key, "-subj", "/CN=CA", "-days", "9", "-out", ca);
  openssl("req", "-new", ...csr, "-out", request);
  openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", key, "-days", "9", "-out", cert);
  return readFileSync(cert, "utf8") + readFileSync(ca, "utf8");
}
