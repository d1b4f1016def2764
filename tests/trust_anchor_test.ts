/** What policies know of the certificates that they trust, held against the library that reads all. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, test } from "bun:test";
import * as library from "@peculiar/x509";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { readTrustAnchor } from "../lib/tls/trust_anchor.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension } = library;

/** Certificates with each kind of extension that says who may issue; the last has none. */
const certificates = new Map<string, Uint8Array>();
const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
  "sign",
  "verify",
]) as CryptoKeyPair;
for (const ca of [true, false, undefined]) {
  for (
    const usage of [undefined, KeyUsageFlags.keyCertSign, KeyUsageFlags.digitalSignature, 511]
  ) {
    const certificate = await library.X509CertificateGenerator.createSelfSigned({
      name: "C=DE, O=Example, CN=Trusted",
      keys,
      extensions: [
        ...usage === undefined ? [] : [new KeyUsagesExtension(usage, true)],
        ...ca === undefined ? [] : [new BasicConstraintsExtension(ca, ca ? 1 : undefined, true)],
      ],
    });
    certificates.set(`CA:${ca}, usage ${usage}`, new Uint8Array(certificate.rawData));
  }
}

const { certDer } = await createCertificateAuthority();

/** What the library makes of a certificate; throws where it cannot be read. */
function expected(der: Uint8Array): boolean {
  const x509 = new X509Certificate(der);
  const parsed = new library.X509Certificate(Uint8Array.from(der));
  const usages = parsed.getExtension(KeyUsagesExtension)?.usages;
  return parsed.getExtension(BasicConstraintsExtension)?.ca
    ? usages === undefined || (usages & KeyUsageFlags.keyCertSign) !== 0
    : x509.checkIssued(x509) && parsed.extensions.length === 0;
}

describe("readTrustAnchor()", () => {
  for (const [name, der] of certificates) {
    test(`knows whether ${name} may issue`, () => {
      const anchor = readTrustAnchor(der, "File a");
      assert.equal(anchor.mayIssue, expected(der));
      assert.equal(anchor.name, "File a: certificate C=DE, O=Example, CN=Trusted");
    });
  }

  test("says of no damaged certificate what the library does not", () => {
    const answers = new Set<boolean>();
    for (const der of [...certificates.values(), certDer]) {
      for (let seed = 1; seed <= 20; seed++) {
        const random = new Random(seed);
        const damaged = Uint8Array.from(der);
        damaged[random.below(damaged.length)] = random.below(256);
        const [ours, theirs] = [
          () => readTrustAnchor(damaged, "a").mayIssue,
          () => expected(damaged),
        ].map(attempt);
        if (ours === undefined || theirs === undefined) continue; // each refuses what the other takes
        assert.equal(ours, theirs, `${seed}: ${damaged}`);
        answers.add(ours);
      }
    }
    assert.equal(answers.size, 2);
  });

  test("refuses what is cut off, at each byte", () => {
    for (let length = 0; length < certDer.length; length++) {
      const code = "INVALID_CERTIFICATE";
      assert.throws(() => readTrustAnchor(certDer.subarray(0, length), "a"), { code });
    }
  });
});

function attempt(read: () => boolean): boolean | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
