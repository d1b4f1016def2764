/** Tests of lib/tls/dev_certificates.ts, with OpenSSL as the judge. */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  type CertificateAuthority,
  createCertificateAuthority,
  devCertificates,
  type IssueOptions,
  openCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";
import { peerCertificate } from "../lib/tls/peer_certificate.ts";
import { assertRuntime, PINNED } from "./runtime.ts";

assertRuntime();

const DAY_MS = 86_400_000;
const certificatesModule = new URL("../lib/tls/dev_certificates.ts", import.meta.url).href;

let directory: string;
let ca: CertificateAuthority;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "httpsd-certificates-"));
  ca = await createCertificateAuthority({ name: "Test CA", days: 30 });
});

afterAll(() => rm(directory, { recursive: true }));

function openssl(args: string[], input = ""): string {
  const { status, stdout, stderr } = spawnSync("openssl", args, { input, encoding: "utf8" });
  assert.equal(status, 0, `openssl ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

function text(pem: string): string {
  return openssl(["x509", "-noout", "-text"], pem);
}

/** Runs `openssl verify` in strict mode and returns what it says. */
async function verify(cert: string, root: string, args: string[] = []): Promise<string> {
  const rootFile = join(directory, "verify-root.pem");
  const certFile = join(directory, "verify-cert.pem");
  await writeFile(rootFile, root);
  await writeFile(certFile, cert);
  const all = ["verify", "-x509_strict", "-CAfile", rootFile, "-untrusted", certFile, ...args];
  const { stdout, stderr } = spawnSync("openssl", [...all, certFile], { encoding: "utf8" });
  return stdout + stderr;
}

async function rejectsWith(code: string, promise: Promise<unknown>): Promise<void> {
  await assert.rejects(promise, (error: Error) => {
    assert.equal((error as Error & { code?: string }).code, code);
    assert.match(error.message, /^[A-Z].*[^.]$/);
    return true;
  });
}

describe("createCertificateAuthority()", () => {
  test("makes a version 3 root that may sign certificates and nothing else", async () => {
    const root = text(ca.cert);
    assert.match(root, /Version: 3/);
    assert.match(root, /Basic Constraints: critical\s+CA:TRUE/);
    assert.match(root, /Key Usage: critical\s+Certificate Sign, CRL Sign\n/);
    assert.match(root, /Subject: CN = Test CA/);
    assert.match(await verify(ca.cert, ca.cert), /: OK/);
  });

  test("gives every certificate a serial number of its own", async () => {
    const leaves = await Promise.all([ca.issue(), ca.issue()]);
    const serials = [ca, ...leaves].map(({ cert }) => new X509Certificate(cert).serialNumber);
    assert.equal(new Set(serials).size, 3);
  });

  test("refuses a name that is empty or longer than a common name", async () => {
    await rejectsWith("INVALID_CONFIG", createCertificateAuthority({ name: "" }));
    await rejectsWith("INVALID_CONFIG", createCertificateAuthority({ name: "x".repeat(65) }));
  });
});

describe("issue()", () => {
  test("makes a server certificate that OpenSSL accepts for its names", async () => {
    const { cert } = await ca.issue();
    for (const name of [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]]) {
      assert.match(await verify(cert, ca.cert, ["-purpose", "sslserver", ...name]), /: OK/);
    }
    assert.match(await verify(cert, ca.cert, ["-verify_ip", "::1"]), /: OK/);
    assert.match(await verify(cert, ca.cert, ["-verify_hostname", "a.example"]), /mismatch/);
    assert.match(await verify(cert, ca.cert, ["-purpose", "sslclient"]), /purpose/);
  });

  test("writes the extensions of a leaf", async () => {
    const leaf = text((await ca.issue()).cert);
    assert.match(leaf, /Version: 3/);
    assert.match(leaf, /Basic Constraints: critical\s+CA:FALSE/);
    assert.match(leaf, /Key Usage: critical\s+Digital Signature\n/);
    assert.match(leaf, /Extended Key Usage: \s+TLS Web Server Authentication\n/);
    assert.match(leaf, /Public-Key: \(256 bit\)/);
    const authority = /Authority Key Identifier: \s+(\S+)/.exec(leaf)?.[1];
    assert.equal(authority, /Subject Key Identifier: \s+(\S+)/.exec(text(ca.cert))?.[1]);
  });

  test("makes a client certificate with a subject", async () => {
    const { cert } = await ca.issue({ usage: "client", subject: "CN=alice, O=Acme" });
    assert.match(text(cert), /Subject: CN = alice, O = Acme/);
    assert.match(await verify(cert, ca.cert, ["-purpose", "sslclient"]), /: OK/);
    assert.match(await verify(cert, ca.cert, ["-purpose", "sslserver"]), /purpose/);
  });

  test("sorts names into DNS names, addresses, e-mail addresses and URIs", async () => {
    const names = ["*.example.org", "10.0.0.1", "::ffff:1.2.3.4", "a@example.org", "spiffe://x/y"];
    assert.match(
      text((await ca.issue({ names })).cert),
      /DNS:\*\.example\.org, IP Address:10\.0\.0\.1, IP Address:0:0:0:0:0:FFFF:102:304, email:a@example\.org, URI:spiffe:\/\/x\/y\n/,
    );
  });

  test("takes many names, and a first name longer than a common name", async () => {
    const names = Array.from({ length: 100 }, (_, i) => `${"a".repeat(60)}.host-${i}.example.org`);
    const { cert } = await ca.issue({ names });
    assert.match(await verify(cert, ca.cert, ["-verify_hostname", names[99]!]), /: OK/);
  });

  test("returns a PKCS#8 key and the DER that fit the certificate", async () => {
    const { cert, key, certDer } = await ca.issue();
    assert.match(key, /^-----BEGIN PRIVATE KEY-----\n/);
    const parsed = new X509Certificate(certDer);
    assert.equal(parsed.fingerprint256, new X509Certificate(cert).fingerprint256);
    assert.ok(parsed.checkPrivateKey(createPrivateKey(key)));
  });

  test("returns the serial number as a client's certificate has it", async () => {
    const { key } = ca;
    let shortened = 0; // begins with a zero, which Deno's node:crypto leaves out
    while (shortened < 2) { // one in sixteen does
      const { certDer, serialNumber } = await ca.issue({ key });
      assert.equal(serialNumber, peerCertificate(certDer).serialNumber);
      if (/^0[^0]/.test(serialNumber)) shortened++;
    }
    assert.equal(ca.serialNumber, peerCertificate(ca.certDer).serialNumber);
    assert.match(text(ca.cert), RegExp(ca.serialNumber.match(/../g)!.join(":"), "i"));
  }, 20_000);

  test("makes RSA keys on request", async () => {
    const { cert } = await ca.issue({ algorithm: "RSA 2048" });
    assert.match(text(cert), /Public-Key: \(2048 bit\)/);
    assert.match(text(cert), /Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
    assert.match(await verify(cert, ca.cert), /: OK/);
  }, 20_000);

  test("lets an RSA authority sign for an ECDSA key", async () => {
    const rsa = await createCertificateAuthority({ algorithm: "RSA 2048" });
    const { cert } = await rsa.issue();
    assert.match(text(cert), /sha256WithRSAEncryption/);
    assert.match(await verify(cert, rsa.cert), /: OK/);
  }, 20_000);

  test("certifies the key it is given", async () => {
    const first = await ca.issue();
    const second = await ca.issue({ key: first.key });
    assert.notEqual(second.cert, first.cert);
    assert.ok(new X509Certificate(second.cert).checkPrivateKey(createPrivateKey(first.key)));
  });

  test("starts validity an hour ago and ends it `days` later", async () => {
    const { validFrom, validTo } = new X509Certificate((await ca.issue({ days: 10 })).cert);
    const from = Date.parse(validFrom);
    assert.ok(Math.abs(from - (Date.now() - 3_600_000)) < 60_000, validFrom);
    assert.equal(Date.parse(validTo) - from, 10 * DAY_MS);
  });

  test("makes certificates that are expired or not yet valid", async () => {
    const expired = await ca.issue({ notAfter: new Date(Date.now() - 1000) });
    assert.match(await verify(expired.cert, ca.cert), /certificate has expired/);
    const early = await ca.issue({ notBefore: new Date(Date.now() + DAY_MS), days: 1 });
    assert.match(await verify(early.cert, ca.cert), /certificate is not yet valid/);
  });

  const refused: [string, IssueOptions][] = [
    ["more than 397 days", { days: 398 }],
    ["no days", { days: 0 }],
    ["days that are no number", { days: NaN }],
    ["an end before the start", { notBefore: new Date(2), notAfter: new Date(1) }],
    ["an invalid date", { notBefore: new Date(NaN) }],
    ["a name in Unicode", { names: ["münchen.example"] }],
    ["an empty name", { names: [""] }],
    ["neither name nor subject", { usage: "client" }],
    ["a subject without attributes", { subject: "alice" }],
    ["a subject with an unknown attribute", { subject: "NONSENSE=alice" }],
  ];
  for (const [what, options] of refused) {
    test(`refuses ${what}`, () => rejectsWith("INVALID_CONFIG", ca.issue(options)));
  }

  test("refuses a key that cannot be read", async () => {
    await rejectsWith("INVALID_CERTIFICATE", ca.issue({ key: "no key" }));
    const ed25519 = openssl(["genpkey", "-algorithm", "ed25519"]);
    await rejectsWith("INVALID_CERTIFICATE", ca.issue({ key: ed25519 }));
  });
});

describe("issueAuthority()", () => {
  test("makes chains that a client with the root alone verifies", async () => {
    const middle = await ca.issueAuthority({ name: "Middle CA" });
    const low = await middle.issueAuthority({ name: "Low CA" });
    const { cert } = await low.issue();
    assert.equal(cert.match(/BEGIN CERTIFICATE/g)?.length, 3);
    assert.match(await verify(cert, ca.cert), /: OK/);
    const alone = cert.slice(0, cert.indexOf("-----END") + "-----END CERTIFICATE-----\n".length);
    assert.match(await verify(alone, ca.cert), /unable to get local issuer/);
  });
});

describe("openCertificateAuthority()", () => {
  test("issues as the authority that was saved", async () => {
    const opened = await openCertificateAuthority(ca);
    const { cert } = await opened.issue();
    assert.equal(opened.cert, ca.cert);
    assert.equal(cert.match(/BEGIN CERTIFICATE/g)?.length, 1);
    assert.match(await verify(cert, ca.cert), /: OK/);
  });

  test("keeps an intermediate's chain", async () => {
    const middle = await ca.issueAuthority({ name: "Middle CA" });
    const { cert } = await (await openCertificateAuthority(middle)).issue();
    assert.match(await verify(cert, ca.cert), /: OK/);
  });

  test("opens what OpenSSL made", async () => {
    const keyFile = join(directory, "openssl.key");
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    const usage = ["-addext", "keyUsage=critical,keyCertSign"];
    const subject = ["-subj", "/O=Org/CN=OpenSSL CA"];
    const cert = openssl(["req", "-x509", ...curve, "-keyout", keyFile, ...subject, ...usage]);
    const opened = await openCertificateAuthority({ cert, key: await readFile(keyFile, "utf8") });
    assert.match(await verify((await opened.issue()).cert, cert), /: OK/);
  });

  test("refuses a leaf, a key of another authority, and garbage", async () => {
    const other = await createCertificateAuthority();
    await rejectsWith("INVALID_CERTIFICATE", openCertificateAuthority(await ca.issue()));
    await rejectsWith("INVALID_CERTIFICATE", openCertificateAuthority({ ...ca, key: other.key }));
    await rejectsWith("INVALID_CERTIFICATE", openCertificateAuthority({ ...ca, cert: "garbage" }));
  });
});

describe("devCertificates()", () => {
  test("makes a directory with a pair for localhost, keys for the owner only", async () => {
    const certs = join(directory, "new", "certs");
    const made = await devCertificates(certs);
    assert.deepEqual((await readdir(certs)).sort(), [
      "ca.key",
      "ca.pem",
      "localhost.key",
      "localhost.pem",
    ]);
    for (const file of ["ca.key", "localhost.key"]) {
      assert.equal((await stat(join(certs, file))).mode & 0o777, 0o600);
    }
    assert.equal(made.cert, await readFile(made.certFile, "utf8"));
    assert.equal(made.key, await readFile(made.keyFile, "utf8"));
    assert.equal(made.ca, await readFile(made.caFile, "utf8"));
    assert.match(await verify(made.cert, made.ca, ["-verify_hostname", "localhost"]), /: OK/);
  });

  test("returns what is there", async () => {
    const certs = join(directory, "kept");
    const first = await devCertificates(certs);
    await rm(join(certs, "ca.key")); // not needed to serve
    assert.deepEqual(await devCertificates(certs), first);
  });

  test("replaces a leaf that expires soon, keeping key and authority", async () => {
    const certs = join(directory, "expiring");
    const first = await devCertificates(certs);
    const authority = await openCertificateAuthority({
      cert: first.ca,
      key: await readFile(join(certs, "ca.key"), "utf8"),
    });
    await writeFile(first.certFile, (await authority.issue({ key: first.key, days: 20 })).cert);
    const second = await devCertificates(certs);
    assert.equal(second.ca, first.ca);
    assert.equal(second.key, first.key);
    assert.match(openssl(["x509", "-noout", "-checkend", "8640000"], second.cert), /will not/);
    assert.match(await verify(second.cert, second.ca), /: OK/);
  });

  test("replaces certificates that are torn, missing or of another authority", async () => {
    const certs = join(directory, "torn");
    const first = await devCertificates(certs);
    await writeFile(first.certFile, first.cert.slice(0, 200));
    const second = await devCertificates(certs);
    assert.match(await verify(second.cert, first.ca), /: OK/);

    await rm(first.caFile);
    const third = await devCertificates(certs);
    assert.match(await verify(third.cert, third.ca), /: OK/);

    await writeFile(first.certFile, (await ca.issue({ key: first.key })).cert);
    const fourth = await devCertificates(certs);
    assert.match(await verify(fourth.cert, fourth.ca), /: OK/);
  });

  test("never replaces a key, not even a broken one", async () => {
    const certs = join(directory, "broken-key");
    const { keyFile } = await devCertificates(certs);
    await writeFile(keyFile, "mine");
    await rejectsWith("INVALID_CERTIFICATE", devCertificates(certs));
    assert.equal(await readFile(keyFile, "utf8"), "mine");
  });

  test("explains a directory that cannot be used", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");
    await rejectsWith("INVALID_CERTIFICATE", devCertificates(join(file, "certs")));
  });

  test("leaves fitting pairs when processes start at once", async () => {
    const certs = join(directory, "raced");
    const script = join(directory, "raced.ts");
    await writeFile(
      script,
      `import { devCertificates } from ${JSON.stringify(certificatesModule)};
      const { cert, key, ca } = await devCertificates(${JSON.stringify(certs)});
      console.log(JSON.stringify({ cert, key, ca }));`,
    );
    const results = await Promise.all(Array.from({ length: 4 }, () => runScript(script)));
    const kept = await devCertificates(certs);
    for (const { cert, key, ca } of [...results, kept]) {
      assert.equal(key, kept.key);
      assert.ok(new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)));
      assert.match(await verify(cert, kept.ca), /: OK/);
      assert.match(await verify(kept.cert, ca), /: OK/);
    }
    assert.equal((await readdir(certs)).length, 4);
  }, 60_000);
});

async function runScript(file: string): Promise<Record<"cert" | "key" | "ca", string>> {
  const config = new URL("../deno.json", import.meta.url).pathname;
  const args = "Deno" in globalThis ? ["run", "-A", PINNED, "--config", config, file] : [file];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => output += chunk);
  const [status] = await once(child, "close");
  assert.equal(status, 0);
  return JSON.parse(output);
}
