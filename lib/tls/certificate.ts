/**
 * What must be known of a certificate to serve it (RFC 5280): its key, its names, what it is for,
 * and what issued it. On Deno, node:crypto alone does not know all of it, so its DER is read too.
 *
 * @module
 */
import { type KeyObject, X509Certificate } from "node:crypto";
import { normalizeAddress } from "../endpoints.ts";
import {
  type CertificateFields,
  type Element,
  elementsOf,
  fieldsOf,
  firstElement,
  identifierOf,
  TAG,
  textOf,
} from "./der.ts";
import { normalizePattern } from "./names.ts";
import { invalid } from "./source.ts";
import { serialNumberOf } from "./spelling.ts";
import { loadX509 } from "./x509.ts";

/** The kinds of key that Deno and Bun both serve. */
export type KeyType = "rsa" | "ec-p256" | "ec-p384" | "ec-p521" | "ed25519";

/** A certificate's public key. */
export interface CertificateKey {
  /** The kind of key; `undefined` when no runtime serves it. */
  readonly type: KeyType | undefined;
  /** What the key is called in messages, such as `ECDSA K-256`. */
  readonly algorithm: string;
  /** The length of an RSA modulus in bits. */
  readonly bits: number | undefined;
}

/** A certificate, read. */
export interface Certificate {
  /** What messages call it, as the subject of a sentence. */
  readonly name: string;
  /** Its subject as messages spell it; its serial number where it has none. */
  readonly subject: string;
  /** The certificate as `node:crypto` has it. */
  readonly x509: X509Certificate;
  /** Its public key. */
  readonly key: CertificateKey;
  /** The DNS names it is for, in normal form; the common name counts only without a SAN. */
  readonly names: readonly string[];
  /** The IP addresses it is for, in normal form. */
  readonly addresses: readonly string[];
  /** Whether it may issue certificates (basic constraints). */
  readonly isAuthority: boolean;
  /**
   * Whether certificates may be issued by it: basic constraints and key usage allow it, or it is a
   * root of before there were extensions (X.509 version 1).
   */
  readonly mayIssue: boolean;
  /** Whether its key may sign handshakes (key usage `digitalSignature`, or no key usage). */
  readonly mayAuthenticate: boolean;
  /** Whether it may identify servers (extended key usage `serverAuth`, or none). */
  readonly mayServe: boolean;
  /** Whether it is signed with a hash that can be forged: MD5 or SHA-1. */
  readonly isWeaklySigned: boolean;
  /** Whether it was issued to itself, as a root is. */
  readonly isSelfIssued: boolean;
  /** The object identifiers of its critical extensions. */
  readonly critical: readonly string[];
}

// Extensions (RFC 5280 section 4.2.1).
const KEY_USAGE = "2.5.29.15";
const SUBJECT_ALT_NAME = "2.5.29.17";
const BASIC_CONSTRAINTS = "2.5.29.19";
const EXTENDED_KEY_USAGE = "2.5.29.37";

// Purposes of extended key usage (section 4.2.1.12).
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const ANY_PURPOSE = "2.5.29.37.0";

// Bits of key usage (section 4.2.1.3), in its first byte.
const DIGITAL_SIGNATURE = 0x80;
const KEY_CERT_SIGN = 0x04;

/**
 * Reads a certificate in DER; `source` is what messages call the place it comes from.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE`
 */
export function readCertificate(der: Uint8Array, source: string): Certificate {
  try {
    const x509 = new X509Certificate(der);
    const fields = fieldsOf(der);
    const { extensions } = fields;
    const named = namesOf(fields);
    const usage = keyUsageOf(extensions.get(KEY_USAGE));
    const isAuthority = isCa(extensions.get(BASIC_CONSTRAINTS));
    const isSelfIssued = x509.checkIssued(x509);
    const subject = subjectOf(x509) || named.names[0] || serialNumberOf(x509.serialNumber);
    return {
      name: `${source}: certificate ${subject}`,
      subject,
      x509,
      key: keyOf(fields),
      ...named,
      isAuthority,
      mayIssue: isAuthority ? (usage & KEY_CERT_SIGN) !== 0 : isSelfIssued && extensions.size === 0,
      mayAuthenticate: (usage & DIGITAL_SIGNATURE) !== 0,
      mayServe: servesBy(extensions.get(EXTENDED_KEY_USAGE)),
      isWeaklySigned: isWeak(fields.signatureAlgorithm),
      isSelfIssued,
      critical: fields.critical,
    };
  } catch (cause) {
    throw invalid(`${source} is not a certificate in PEM or DER, or is damaged: export it again`, {
      cause,
    });
  }
}

/**
 * Whether `issuer` issued `certificate`: names and key identifiers fit, and so does the signature,
 * unless it was made with a key that no runtime's WebCrypto knows.
 */
export async function isIssuedBy(certificate: Certificate, issuer: Certificate): Promise<boolean> {
  if (!certificate.x509.checkIssued(issuer.x509)) return false;
  const { type, bits = 0 } = issuer.key;
  if (type === undefined || isVerified(certificate.x509, issuer.x509)) return true;
  if (bits > MAX_VERIFIABLE_RSA_BITS) return true;
  const { X509Certificate: Parsed } = await loadX509();
  const publicKey = new Parsed(Uint8Array.from(issuer.x509.raw)).publicKey;
  return await new Parsed(Uint8Array.from(certificate.x509.raw))
    .verify({ publicKey, signatureOnly: true });
}

/** Whether a private key is a certificate's own. */
export function isPair({ x509, key: { type } }: Certificate, key: KeyObject): boolean {
  // The runtimes throw rather than return false when they do not know the kind of key.
  const expected = type === "rsa" || type === "ed25519" ? type : "ec";
  return type !== undefined && key.asymmetricKeyType === expected && x509.checkPrivateKey(key);
}

/** WebCrypto on Deno verifies no signature by a longer RSA key. */
const MAX_VERIFIABLE_RSA_BITS = 4096;

/**
 * Whether `node:crypto` verifies a signature, which is enough. Where it does not, WebCrypto decides:
 * both runtimes find no signature by RSASSA-PSS valid, and Deno throws for P-521 and long RSA keys.
 */
function isVerified(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    return false;
  }
}

/** The subject in one line; empty where there is none, or Deno cannot spell it. */
function subjectOf(x509: X509Certificate): string {
  try {
    return x509.subject?.split("\n").join(", ") ?? "";
  } catch {
    return "";
  }
}

/** The first byte of key usage; without the extension all that may be. */
function keyUsageOf(extension: Uint8Array | undefined): number {
  if (extension === undefined) return 0xff;
  const { tag, content } = firstElement(extension);
  if (tag !== TAG.bitString) throw new SyntaxError("Key usage is not a bit string");
  const [unused = 0, bits = 0] = content;
  return content.length === 2 ? bits >> unused << unused : bits;
}

/** Whether basic constraints (section 4.2.1.9) make it an authority. */
function isCa(extension: Uint8Array | undefined): boolean {
  const [ca] = extension === undefined ? [] : elementsOf(firstElement(extension).content);
  return ca?.tag === TAG.boolean && ca.content[0] !== 0;
}

function servesBy(extension: Uint8Array | undefined): boolean {
  if (extension === undefined) return true;
  const purposes = elementsOf(firstElement(extension).content).map(identifierOf);
  return purposes.includes(SERVER_AUTH) || purposes.includes(ANY_PURPOSE);
}

// Kinds of alternative names (section 4.2.1.6).
const DNS_NAME = 0x82;
const IP_ADDRESS = 0x87;

/** Applications look at the common name only where there is no SAN (RFC 6125 section 6.4.4). */
function namesOf(
  { commonNames, extensions }: CertificateFields,
): Pick<Certificate, "names" | "addresses"> {
  const extension = extensions.get(SUBJECT_ALT_NAME);
  if (extension === undefined) return { names: normalNames(commonNames), addresses: [] };
  const items = elementsOf(firstElement(extension).content);
  return {
    names: normalNames(items.filter(({ tag }) => tag === DNS_NAME).map(textOf)),
    addresses: items.filter(({ tag }) => tag === IP_ADDRESS)
      .map(({ content }) => normalizeAddress(addressOf(content)))
      .filter((address) => address !== undefined),
  };
}

/** An address of 4 or 16 bytes as text; of another length, none. */
function addressOf(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => bytes[2 * i]! * 256 + bytes[2 * i + 1]!);
  return bytes.length === 16 ? groups.map((group) => group.toString(16)).join(":") : "";
}

/** A name that is not a host name matches nothing, so it is left out. */
function normalNames(names: readonly string[]): string[] {
  return names.map(normalizePattern).filter((name) => name !== undefined);
}

// Algorithms of keys (RFC 3279, 5480, 8410).
const RSA = "1.2.840.113549.1.1.1";
const ELLIPTIC = "1.2.840.10045.2.1";
const KEYS: Readonly<Record<string, Omit<CertificateKey, "bits">>> = {
  [RSA]: { type: "rsa", algorithm: "RSASSA-PKCS1-v1_5" },
  "1.2.840.113549.1.1.10": { type: undefined, algorithm: "RSA-PSS" },
  "1.2.840.10045.3.1.7": { type: "ec-p256", algorithm: "ECDSA P-256" },
  "1.3.132.0.34": { type: "ec-p384", algorithm: "ECDSA P-384" },
  "1.3.132.0.35": { type: "ec-p521", algorithm: "ECDSA P-521" },
  "1.3.132.0.10": { type: undefined, algorithm: "ECDSA K-256" },
  "1.3.101.112": { type: "ed25519", algorithm: "Ed25519" },
  "1.3.101.113": { type: undefined, algorithm: "Ed448" },
};

function keyOf({ keyAlgorithm, publicKey }: CertificateFields): CertificateKey {
  const algorithm = identifierOf(keyAlgorithm[0]!);
  const id = algorithm === ELLIPTIC ? identifierOf(keyAlgorithm[1]!) : algorithm;
  return {
    ...KEYS[id] ?? { type: undefined, algorithm: algorithm === ELLIPTIC ? `ECDSA ${id}` : id },
    bits: algorithm === RSA ? bitsOf(firstElement(firstElement(publicKey).content)) : undefined,
  };
}

/** How many bits the bytes of an RSA modulus have; a zero may be before them. */
function bitsOf({ content }: Element): number {
  return 8 * (content[0] === 0 ? content.length - 1 : content.length);
}

// Algorithms of signatures (RFC 3279, 4055).
const PSS = "1.2.840.113549.1.1.10";
const SHA1 = "1.3.14.3.2.26";
const WEAK = [
  "1.2.840.113549.1.1.4", // MD5 with RSA
  "1.2.840.113549.1.1.5", // SHA-1 with RSA
  "1.2.840.10045.4.1", // SHA-1 with ECDSA
];

function isWeak([algorithm, parameters]: readonly Element[]): boolean {
  const id = identifierOf(algorithm!);
  if (id !== PSS) return WEAK.includes(id);
  const given = parameters === undefined ? [] : elementsOf(parameters.content);
  const hash = given.find(({ tag }) => tag === PSS_HASH);
  // Without a hash it is SHA-1 (RFC 4055 section 3.1).
  return hash === undefined ||
    identifierOf(firstElement(firstElement(hash.content).content)) === SHA1;
}

/** Marks the hash among the parameters of RSASSA-PSS: `[0]`. */
const PSS_HASH = 0xa0;
