/**
 * Writes PKCS#12 files (RFC 7292), in which browsers and systems import a certificate with its key, in
 * strict DER (X.690), since not every importer reads more. Encryption is PBES2 with AES-256 and PBKDF2
 * with SHA-256 (RFC 8018), as OpenSSL 3 writes by default; salts are short enough for every runtime.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createHmac, createPrivateKey, X509Certificate } from "node:crypto";
import * as v from "valibot";
import { checkOptions, members } from "../options.ts";
import { ISSUED_BESIDES } from "./authority_options.ts";
import { invalid } from "./source.ts";

/** What a PKCS#12 file is made of. */
export interface Pkcs12Options {
  /** PEM of the certificate, and of the intermediates below its root. */
  readonly cert: string;
  /** PEM of its private key. */
  readonly key: string;
  /** What the file is encrypted with. One that is not random protects little. */
  readonly passphrase: string;
  /** What browsers call the certificate in their lists. Default: its subject. */
  readonly name?: string;
}

const OPTIONS = members({
  ...ISSUED_BESIDES, // what issue() returned may be spread into the options
  cert: v.string("must be PEM text"),
  key: v.string("must be PEM text"),
  passphrase: v.pipe(v.string("must be text"), v.minLength(1, "must be text that is not empty")),
  name: v.optional(
    v.pipe(v.string("must be text"), v.maxLength(64, "must have 64 characters at most")),
  ),
});

// Object identifiers in DER: PKCS#1 to #12 have most of them below 1.2.840.113549.1.
const PKCS = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01];
const DATA = [...PKCS, 7, 1];
const ENCRYPTED_DATA = [...PKCS, 7, 6];
const PBKDF2 = [...PKCS, 5, 12];
const PBES2 = [...PKCS, 5, 13];
const FRIENDLY_NAME = [...PKCS, 9, 20];
const LOCAL_KEY_ID = [...PKCS, 9, 21];
const X509_CERTIFICATE = [...PKCS, 9, 22, 1];
const SHROUDED_KEY_BAG = [...PKCS, 12, 10, 1, 2];
const CERT_BAG = [...PKCS, 12, 10, 1, 3];
const HMAC_SHA256 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
const SHA256 = [0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 2, 1];
const AES256_CBC = [0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 42];

const ITERATIONS = 10_000;
const MAC_ITERATIONS = 2_048;
const SALT_BYTES = 16;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * Returns the bytes of a `.p12` file.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option; `INVALID_CERTIFICATE` when certificate or
 * key cannot be read, or do not fit each other
 */
export async function exportPkcs12(options: Pkcs12Options): Promise<Uint8Array<ArrayBuffer>> {
  const { cert, key, passphrase, name } = checkOptions("exportPkcs12()", OPTIONS, options);
  const { certificates, keyDer } = read(cert, key);
  const leaf = certificates[0]!;
  const keyId = Buffer.from(leaf.fingerprint.replaceAll(":", ""), "hex");
  const attributes = setOf(
    sequence(oid(LOCAL_KEY_ID), setOf(octets(keyId))),
    sequence(
      oid(FRIENDLY_NAME),
      setOf(der(0x1e, utf16be(name ?? leaf.subject.replaceAll("\n", ", ").slice(0, 64)))),
    ),
  );
  const certificateBags = certificates.map(({ raw }, i) =>
    sequence(
      oid(CERT_BAG),
      explicit(sequence(oid(X509_CERTIFICATE), explicit(octets(raw)))),
      ...(i === 0 ? [attributes] : []),
    )
  );
  const key8 = await encrypted(keyDer, passphrase);
  const keyBag = sequence(
    oid(SHROUDED_KEY_BAG),
    explicit(sequence(key8.algorithm, octets(key8.content))),
    attributes,
  );
  const shown = await encrypted(sequence(...certificateBags), passphrase);
  const safe = sequence(
    sequence(
      oid(ENCRYPTED_DATA),
      explicit(
        sequence(integer(0), sequence(oid(DATA), shown.algorithm, der(0x80, shown.content))),
      ),
    ),
    sequence(oid(DATA), explicit(octets(sequence(keyBag)))),
  );
  const file = sequence(
    integer(3),
    sequence(oid(DATA), explicit(octets(safe))),
    macOf(safe, passphrase),
  );
  return Uint8Array.from(file);
}

/** Encrypts by a passphrase: what to decrypt it with, and the content (RFC 8018 section 6.2). */
async function encrypted(
  plain: Uint8Array<ArrayBuffer>,
  passphrase: string,
): Promise<{ algorithm: Uint8Array; content: Uint8Array }> {
  const { subtle } = crypto;
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const iv = crypto.getRandomValues(new Uint8Array(16));
  const secret = await subtle.importKey("raw", Buffer.from(passphrase, "utf8"), "PBKDF2", false, [
    "deriveKey",
  ]);
  const key = await subtle.deriveKey(
    { name: "PBKDF2", hash: "SHA-256", salt, iterations: ITERATIONS },
    secret,
    { name: "AES-CBC", length: 256 },
    false,
    ["encrypt"],
  );
  const content = new Uint8Array(await subtle.encrypt({ name: "AES-CBC", iv }, key, plain));
  const derivation = sequence(
    octets(salt),
    integer(ITERATIONS),
    sequence(oid(HMAC_SHA256), NULL),
  );
  const parameters = sequence(
    sequence(oid(PBKDF2), derivation),
    sequence(oid(AES256_CBC), octets(iv)),
  );
  return { algorithm: sequence(oid(PBES2), parameters), content };
}

/** The MAC of the file, under a key derived as PKCS#12 does (RFC 7292 appendix B.2, for 32 bytes). */
function macOf(safe: Uint8Array, passphrase: string): Uint8Array {
  const BLOCK = 64;
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const password = utf16be(`${passphrase}\0`);
  const filled = (bytes: Uint8Array) =>
    Buffer.alloc(Math.ceil(bytes.length / BLOCK) * BLOCK, bytes);
  const MAC_KEY = 3;
  let key: Uint8Array = Buffer.concat([
    Buffer.alloc(BLOCK, MAC_KEY),
    filled(salt),
    filled(password),
  ]);
  for (let i = 0; i < MAC_ITERATIONS; i++) key = createHash("sha256").update(key).digest();
  const digest = createHmac("sha256", key).update(safe).digest();
  return sequence(
    sequence(sequence(oid(SHA256), NULL), octets(digest)),
    octets(salt),
    integer(MAC_ITERATIONS),
  );
}

function read(
  cert: string,
  key: string,
): { certificates: X509Certificate[]; keyDer: Uint8Array<ArrayBuffer> } {
  let certificates: X509Certificate[];
  let fits: boolean;
  let keyDer: Uint8Array<ArrayBuffer>;
  try {
    certificates = (cert.match(PEM) ?? []).map((pem) => new X509Certificate(pem));
    const privateKey = createPrivateKey(key);
    fits = certificates[0]?.checkPrivateKey(privateKey) ?? false;
    keyDer = Uint8Array.from(privateKey.export({ type: "pkcs8", format: "der" }));
  } catch (cause) {
    throw invalid("The certificate or its key cannot be read: give PEM of both", { cause });
  }
  if (fits) return { certificates, keyDer };
  throw invalid("The first certificate is not that of the key: give those that belong together");
}

const NULL = Uint8Array.of(0x05, 0);

function sequence(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return der(0x30, Buffer.concat(parts));
}

/** A SET OF, whose members are in the order of their bytes (X.690 section 11.6). */
function setOf(...parts: readonly Uint8Array[]): Uint8Array {
  return der(0x31, Buffer.concat([...parts].sort(Buffer.compare)));
}

/** The context-specific tag 0 around another value. */
function explicit(value: Uint8Array): Uint8Array {
  return der(0xa0, value);
}

function octets(bytes: Uint8Array): Uint8Array {
  return der(0x04, bytes);
}

function oid(bytes: readonly number[]): Uint8Array {
  return der(0x06, Uint8Array.from(bytes));
}

/** An integer below 32,768 that is not negative. */
function integer(value: number): Uint8Array {
  return der(0x02, value < 128 ? Uint8Array.of(value) : Uint8Array.of(value >> 8, value & 255));
}

/** A value in DER; of less than 16 MiB. */
function der(tag: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const { length } = content;
  const lengthBytes = length < 0x80
    ? [length]
    : length < 0x100
    ? [0x81, length]
    : length < 0x10000
    ? [0x82, length >> 8, length & 255]
    : [0x83, length >> 16, (length >> 8) & 255, length & 255];
  return Uint8Array.from([tag, ...lengthBytes, ...content]);
}

/** Two bytes for each character, as in a BMPString. */
function utf16be(text: string): Uint8Array {
  return Buffer.from(text, "utf16le").swap16();
}
