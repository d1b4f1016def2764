/**
 * The certificates that a policy for client certificates trusts (RFC 5280). What must be known of them
 * is little, so that a policy can be made at once, without the library that reads whole certificates.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { extensionsOf, firstElement } from "./der.ts";
import { invalid } from "./source.ts";

/** A trusted certificate, read. */
export interface TrustAnchor {
  /** What messages call the place that it comes from. */
  readonly source: string;
  /** What messages call it, as the subject of a sentence. */
  readonly name: string;
  /** The certificate as `node:crypto` has it. */
  readonly x509: X509Certificate;
  /**
   * Whether certificates may be issued by it: basic constraints and key usage allow it, or it is a
   * root of before there were extensions (X.509 version 1).
   */
  readonly mayIssue: boolean;
  /** Whether it was issued to itself, as a root is. */
  readonly isSelfIssued: boolean;
}

/** The object identifiers of extensions (section 4.2.1) in DER, in hexadecimal. */
const KEY_USAGE = "551d0f";
const BASIC_CONSTRAINTS = "551d13";

/** `keyCertSign`, the sixth bit of key usage, behind the byte that says how many bits are unused. */
const KEY_CERT_SIGN = 0x04;

const BOOLEAN = 0x01;
const BIT_STRING = 0x03;

/**
 * Reads a trusted certificate in DER; `source` is what messages call the place it comes from.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when it cannot be read or has expired
 */
export function readTrustAnchor(der: Uint8Array, source: string): TrustAnchor {
  const anchor = parse(der, source);
  const { x509, name } = anchor;
  if (x509.validToDate < new Date()) {
    throw invalid(`${name} expired on ${x509.validToDate.toISOString()}: give its successor`);
  }
  return anchor;
}

function parse(der: Uint8Array, source: string): TrustAnchor {
  try {
    const x509 = new X509Certificate(der);
    const extensions = extensionsOf(x509.raw);
    const isSelfIssued = x509.checkIssued(x509);
    return {
      source,
      name: `${source}: certificate ${subjectOf(x509)}`,
      x509,
      mayIssue: extensions.size === 0 ? isSelfIssued : maySign(extensions),
      isSelfIssued,
    };
  } catch (cause) {
    throw invalid(`${source} is no certificate in PEM or DER, or is damaged: export it again`, {
      cause,
    });
  }
}

function subjectOf(x509: X509Certificate): string {
  try {
    return x509.subject.split("\n").join(", ") || x509.serialNumber;
  } catch {
    return x509.serialNumber; // Deno spells no name that has values of unusual types
  }
}

/** Whether basic constraints (section 4.2.1.9) and key usage (4.2.1.3) let it issue certificates. */
function maySign(extensions: ReadonlyMap<string, Uint8Array>): boolean {
  const constraints = extensions.get(BASIC_CONSTRAINTS);
  if (constraints === undefined) return false;
  const { content } = firstElement(constraints);
  if (content.length === 0) return false; // the default: no authority
  const ca = firstElement(content);
  if (ca.tag !== BOOLEAN || ca.content[0] === 0) return false;
  const usage = extensions.get(KEY_USAGE);
  if (usage === undefined) return true;
  const { tag, content: bits } = firstElement(usage);
  if (tag !== BIT_STRING) throw new SyntaxError("Key usage is no bit string");
  const unused = bits.length === 2 ? bits[0]! : 0;
  return (((bits[1] ?? 0) >> unused << unused) & KEY_CERT_SIGN) !== 0;
}
