/**
 * What must be known of a certificate to serve it (RFC 5280): its key, its names, what it is for,
 * and what issued it. On Deno, node:crypto alone does not know all of it, so `@peculiar/x509` reads too.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import type { X509Certificate as ParsedCertificate } from "@peculiar/x509";
import { normalizeAddress } from "../endpoints.ts";
import { normalizePattern } from "./names.ts";
import { invalid } from "./source.ts";
import { x509Library } from "./x509.ts";

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
  /** Whether its key may sign handshakes (key usage `digitalSignature`, or no key usage). */
  readonly mayAuthenticate: boolean;
  /** Whether it may identify servers (extended key usage `serverAuth`, or none). */
  readonly mayServe: boolean;
  /** Whether it is signed with a hash that can be forged: MD5 or SHA-1. */
  readonly isWeaklySigned: boolean;
  /** Whether it was issued to itself, as a root is. */
  readonly isSelfIssued: boolean;
  /** The certificate as `@peculiar/x509` has it. */
  readonly parsed: ParsedCertificate;
}

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";
const MD5_WITH_RSA = "1.2.840.113549.1.1.4";

/** WebCrypto on Deno verifies no signature by a longer RSA key. */
const MAX_VERIFIABLE_RSA_BITS = 4096;

/**
 * Reads a certificate in DER; `source` is what messages call the place it comes from. The library must
 * have been loaded.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE`
 */
export function readCertificate(der: Uint8Array, source: string): Certificate {
  const library = x509Library();
  try {
    const x509 = new X509Certificate(der);
    const parsed = new library.X509Certificate(Uint8Array.from(der));
    const { names, addresses } = namesOf(parsed);
    const usages = parsed.getExtension(library.ExtendedKeyUsageExtension)?.usages.map(String);
    const keyUsages = parsed.getExtension(library.KeyUsagesExtension)?.usages;
    const { digitalSignature } = library.KeyUsageFlags;
    const isAuthority = parsed.getExtension(library.BasicConstraintsExtension)?.ca ?? false;
    return {
      name: `${source}: certificate ${parsed.subject || names[0] || parsed.serialNumber}`,
      x509,
      key: keyOf(parsed),
      names,
      addresses,
      isAuthority,
      mayAuthenticate: keyUsages === undefined || (keyUsages & digitalSignature) !== 0,
      mayServe: usages === undefined || usages.includes(SERVER_AUTH) ||
        usages.includes(ANY_EXTENDED_KEY_USAGE),
      isWeaklySigned: isWeak(parsed.signatureAlgorithm),
      isSelfIssued: x509.checkIssued(x509),
      parsed,
    };
  } catch (cause) {
    throw invalid(`${source} is no certificate in PEM or DER, or is damaged: export it again`, {
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
  if (type === undefined || bits > MAX_VERIFIABLE_RSA_BITS) return true;
  return await certificate.parsed.verify({
    publicKey: issuer.parsed.publicKey,
    signatureOnly: true,
  });
}

/** Applications look at the common name only where there is no SAN (RFC 6125 section 6.4.4). */
function namesOf(parsed: ParsedCertificate): Pick<Certificate, "names" | "addresses"> {
  const san = parsed.getExtension(x509Library().SubjectAlternativeNameExtension);
  if (san === null) return { names: normalNames(parsed.subjectName.getField("CN")), addresses: [] };
  const items = san.names.items;
  return {
    names: normalNames(items.filter(({ type }) => type === "dns").map(({ value }) => value)),
    addresses: items.filter(({ type }) => type === "ip").map(({ value }) => normalizeAddress(value))
      .filter((address) => address !== undefined),
  };
}

/** A name that is no host name matches nothing, so it is left out. */
function normalNames(names: readonly string[]): string[] {
  return names.map(normalizePattern).filter((name) => name !== undefined);
}

function keyOf(parsed: ParsedCertificate): CertificateKey {
  const { name, namedCurve, modulusLength } = parsed.publicKey.algorithm as Algorithm & {
    namedCurve?: string;
    modulusLength?: number;
  };
  return {
    type: keyTypeOf(name, namedCurve),
    algorithm: namedCurve === undefined ? name : `${name} ${namedCurve}`,
    bits: modulusLength,
  };
}

function keyTypeOf(name: string, curve: string | undefined): KeyType | undefined {
  if (name === "RSASSA-PKCS1-v1_5") return "rsa";
  if (name === "Ed25519") return "ed25519";
  if (name !== "ECDSA") return undefined;
  const types: Record<string, KeyType> = {
    "P-256": "ec-p256",
    "P-384": "ec-p384",
    "P-521": "ec-p521",
  };
  return types[curve ?? ""];
}

function isWeak(algorithm: Algorithm & { hash?: Algorithm }): boolean {
  return algorithm.hash?.name === "SHA-1" || algorithm.name === MD5_WITH_RSA;
}
