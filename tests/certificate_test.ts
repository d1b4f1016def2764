/** What servers know of certificates, held against the library that reads all of them. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { describe, test } from "bun:test";
import * as library from "@peculiar/x509";
import { normalizeAddress } from "../lib/endpoints.ts";
import { type Certificate, isIssuedBy, readCertificate } from "../lib/tls/certificate.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { normalizePattern } from "../lib/tls/names.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
} = library;

type Facts = Omit<Certificate, "name" | "subject" | "x509">;

/** The same by the library; throws where it cannot read the certificate. */
function expected(der: Uint8Array): Facts {
  const x509 = new X509Certificate(der);
  const parsed = new library.X509Certificate(Uint8Array.from(der));
  const items = parsed.getExtension(SubjectAlternativeNameExtension)?.names.items;
  const valuesOf = (wanted: string) =>
    items!.filter(({ type }) => type === wanted).map(({ value }) => value);
  const names = items === undefined
    ? parsed.subjectName.getField("CN").filter((name) => !NO_TEXT.test(name))
    : valuesOf("dns");
  const addresses = items === undefined ? [] : valuesOf("ip");
  const usages = parsed.getExtension(KeyUsagesExtension)?.usages ?? 0xff;
  const purposes = parsed.getExtension(ExtendedKeyUsageExtension)?.usages.map(String);
  const isAuthority = parsed.getExtension(BasicConstraintsExtension)?.ca ?? false;
  const isSelfIssued = x509.checkIssued(x509);
  const { name, namedCurve, modulusLength } = parsed.publicKey.algorithm as Algorithm & {
    namedCurve?: string;
    modulusLength?: number;
  };
  const algorithm = namedCurve === undefined ? name : `${name} ${namedCurve}`;
  return {
    key: { type: TYPES[algorithm], algorithm, bits: modulusLength },
    names: names.map(normalizePattern).filter((name) => name !== undefined),
    addresses: addresses.map(normalizeAddress).filter((address) => address !== undefined),
    isAuthority,
    mayIssue: isAuthority
      ? (usages & KeyUsageFlags.keyCertSign) !== 0
      : isSelfIssued && parsed.extensions.length === 0,
    mayAuthenticate: (usages & KeyUsageFlags.digitalSignature) !== 0,
    mayServe: purposes?.some((purpose) => PURPOSES.includes(purpose)) ?? true,
    isWeaklySigned: isWeak(parsed.signatureAlgorithm),
    isSelfIssued,
    critical: [...parsed.extensions].filter(({ critical }) => critical).map(({ type }) => type),
  };
}

const TYPES: Record<string, Certificate["key"]["type"]> = {
  "RSASSA-PKCS1-v1_5": "rsa",
  "ECDSA P-256": "ec-p256",
  "ECDSA P-384": "ec-p384",
  "ECDSA P-521": "ec-p521",
  Ed25519: "ed25519",
};
/** How the library gives a value that is no text: all of its bytes. */
const NO_TEXT = /^(?:[0-9a-f]{2}){2,}$/;
const PURPOSES = ["1.3.6.1.5.5.7.3.1", "2.5.29.37.0"];

function isWeak(algorithm: Algorithm & { hash?: Algorithm }): boolean {
  return algorithm.hash?.name === "SHA-1" || algorithm.name === "1.2.840.113549.1.1.4";
}

function ours(der: Uint8Array): Facts {
  const { name: _name, subject: _subject, x509: _x509, ...facts } = readCertificate(der, "a");
  return facts;
}

const SUBJECTS = [
  ...["CN=a.example", "C=DE, O=Example, CN=*.b.example, CN=B.example", "O=No name"],
  ...["CN=m\u00fcnchen.example", "CN=\u4f60.example", "E=a@b.example, CN=c", "CN=a.example.,CN=1"],
];
const ALT_NAMES: library.JsonGeneralNames[] = [
  [{ type: "dns", value: "a.example" }, { type: "dns", value: "*.b.example" }],
  [{ type: "ip", value: "192.0.2.1" }, { type: "ip", value: "2001:db8::1" }],
  [{ type: "ip", value: "::ffff:192.0.2.1" }, { type: "email", value: "a@b.example" }],
  [{ type: "url", value: "https://c.example/" }, { type: "dns", value: "not a name" }],
];
const RSA = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), saltLength: 32 };
const ALGORITHMS = [
  ...["P-256", "P-384"].map((namedCurve) => ({ name: "ECDSA", namedCurve, hash: "SHA-256" })),
  { name: "Ed25519" },
  { name: "RSASSA-PKCS1-v1_5", hash: "SHA-1", ...RSA },
  { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", ...RSA },
  { name: "RSA-PSS", hash: "SHA-1", ...RSA },
  { name: "RSA-PSS", hash: "SHA-256", ...RSA },
];
const { keyCertSign, digitalSignature, cRLSign, decipherOnly } = KeyUsageFlags;
const USAGES = [undefined, keyCertSign, digitalSignature, cRLSign, decipherOnly, 511];
const EXTENDED = [undefined, ["1.3.6.1.5.5.7.3.1"], ["1.3.6.1.5.5.7.3.2"], ["2.5.29.37.0"]];

const keys = await Promise.all(
  ALGORITHMS.map(async (algorithm) =>
    await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as CryptoKeyPair
  ),
);

/** Makes a self-signed certificate by chance. */
async function generated(random: Random): Promise<Uint8Array> {
  const which = random.below(ALGORITHMS.length);
  const ca = random.pick([undefined, true, false]);
  const [usage, purposes] = [random.pick(USAGES), random.pick(EXTENDED)];
  const extensions: library.Extension[] = [];
  if (usage !== undefined) extensions.push(new KeyUsagesExtension(usage, random.oneIn(2)));
  if (ca !== undefined) extensions.push(new BasicConstraintsExtension(ca, undefined, true));
  if (purposes !== undefined) extensions.push(new ExtendedKeyUsageExtension(purposes));
  if (random.oneIn(2)) {
    extensions.push(new SubjectAlternativeNameExtension(random.pick(ALT_NAMES)));
  }
  const certificate = await library.X509CertificateGenerator.createSelfSigned({
    name: random.pick(SUBJECTS),
    keys: keys[which]!,
    signingAlgorithm: ALGORITHMS[which]!,
    extensions: random.oneIn(9) ? [] : extensions,
  });
  return new Uint8Array(certificate.rawData);
}

describe("readCertificate()", () => {
  test("reads of 100 certificates what the library reads", async () => {
    for (let seed = 1; seed <= 100; seed++) {
      const der = await generated(new Random(seed));
      assert.deepEqual(ours(der), expected(der), `${seed}`);
    }
  }, 60_000);

  test("says of no damaged certificate what the library does not", async () => {
    let compared = 0;
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Random(seed);
      const damaged = await generated(random);
      damaged[random.below(damaged.length)] = random.below(256);
      const [known, theirs] = [attempt(() => ours(damaged)), attempt(() => expected(damaged))];
      if (known === undefined || theirs === undefined) continue; // each refuses what the other takes
      // An unknown algorithm is called otherwise, and an address is what its bytes are.
      assert.deepEqual(
        { ...known, key: known.key.type },
        { ...theirs, key: theirs.key.type },
        `${seed}: ${damaged}`,
      );
      compared++;
    }
    assert.ok(compared > 50, `${compared} were compared`);
  }, 60_000);

  test("takes nothing for a name that is no text", async () => {
    const { certDer } = await createCertificateAuthority({ name: "a.example" });
    const der = Buffer.from(certDer);
    assert.deepEqual(readCertificate(der, "a").names, ["a.example"]);
    for (let at = der.indexOf("a.example"); at > 0; at = der.indexOf("a.example", at + 1)) {
      der[at - 2] = 0x9a; // before its length: not UTF8String any more
    }
    assert.deepEqual(readCertificate(der, "a").names, []);
  });

  test("refuses what is cut off, at each byte", async () => {
    const { certDer } = await createCertificateAuthority();
    for (let length = 0; length < certDer.length; length++) {
      const code = "INVALID_CERTIFICATE";
      assert.throws(() => readCertificate(certDer.subarray(0, length), "a"), { code });
    }
  });

  test("calls it by its subject, else by its first name, else by its serial number", async () => {
    const named = async (name: string, extensions: library.Extension[] = []) => {
      const serialNumber = "0102";
      const made = { name, serialNumber, keys: keys[0]!, signingAlgorithm: ALGORITHMS[0]! };
      const certificate = await library.X509CertificateGenerator
        .createSelfSigned({ ...made, extensions });
      return readCertificate(new Uint8Array(certificate.rawData), "File a").name;
    };
    const names = new SubjectAlternativeNameExtension([{ type: "dns", value: "a.example" }]);
    assert.equal(await named("C=DE, O=B, CN=c"), "File a: certificate C=DE, O=B, CN=c");
    assert.equal(await named("", [names]), "File a: certificate a.example");
    assert.equal(await named(""), "File a: certificate 0102");
  });
});

describe("isIssuedBy()", () => {
  for (const [which, algorithm] of ALGORITHMS.entries()) {
    const { name, hash = "", namedCurve = "" } = algorithm as Record<string, unknown>;
    test(`verifies ${name} ${namedCurve} ${hash}, and finds a forgery`, async () => {
      const [issuerKeys, leafKeys] = [keys[which]!, keys[0]!];
      const issuer = await library.X509CertificateGenerator.createSelfSigned({
        name: "CN=issuer",
        keys: issuerKeys,
        signingAlgorithm: algorithm,
      });
      const leaf = await library.X509CertificateGenerator.create({
        subject: "CN=leaf",
        issuer: "CN=issuer",
        publicKey: leafKeys.publicKey,
        signingKey: issuerKeys.privateKey,
        signingAlgorithm: algorithm,
      });
      const read = (der: ArrayBuffer | Uint8Array) => readCertificate(new Uint8Array(der), "a");
      assert.equal(await isIssuedBy(read(leaf.rawData), read(issuer.rawData)), true);
      const forged = new Uint8Array(leaf.rawData.slice(0));
      forged[forged.length - 5]! ^= 1; // within the signature
      assert.equal(await isIssuedBy(read(forged), read(issuer.rawData)), false);
    });
  }
});

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
