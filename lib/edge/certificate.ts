/**
 * A client's certificate as seen by what has ended TLS: the platform, or a proxy.
 *
 * @module
 */
import type { X509Certificate as NodeCertificate } from "node:crypto";
import { StateError } from "../errors.ts";
import type { PeerCertificate } from "../tls/peer_certificate.ts";
import { serialNumberOf, subjectAltNameOf } from "../tls/spelling.ts";
import { loadX509 } from "../tls/x509.ts";

/** The facts of a certificate that need no library. */
type Facts = Omit<PeerCertificate, "der" | "x509">;

/** A certificate as facts. */
class EdgeCertificate implements PeerCertificate {
  readonly subject: string;
  readonly issuer: string;
  readonly subjectAltName: string | undefined;
  readonly serialNumber: string;
  readonly fingerprint256: string;
  readonly validFrom: Date;
  readonly validTo: Date;
  readonly #der: Uint8Array | undefined;

  constructor(facts: Facts, der: Uint8Array | undefined) {
    this.subject = facts.subject;
    this.issuer = facts.issuer;
    this.subjectAltName = facts.subjectAltName;
    this.serialNumber = facts.serialNumber;
    this.fingerprint256 = facts.fingerprint256;
    this.validFrom = facts.validFrom;
    this.validTo = facts.validTo;
    this.#der = der;
  }

  get der(): Uint8Array {
    if (this.#der !== undefined) return this.#der;
    throw new StateError("NOT_SUPPORTED", "The platform gives facts only: the bytes are not known");
  }

  get x509(): NodeCertificate {
    throw new StateError("NOT_SUPPORTED", "There is no node:crypto here: parse der instead");
  }
}

/** A certificate of which only these facts are known. */
export function certificateOfFacts(facts: Facts): PeerCertificate {
  return new EdgeCertificate(facts, undefined);
}

/** Reads a DER certificate; rejects when it is none. */
export async function certificateOfDer(der: Uint8Array<ArrayBuffer>): Promise<PeerCertificate> {
  const { X509Certificate } = await loadX509();
  const parsed = new X509Certificate(der);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", der));
  const facts: Facts = {
    subject: parsed.subject,
    issuer: parsed.issuer,
    subjectAltName: subjectAltNameOf(parsed),
    serialNumber: serialNumberOf(parsed.serialNumber),
    fingerprint256: Array.from(digest, hexPair).join(":"),
    validFrom: parsed.notBefore,
    validTo: parsed.notAfter,
  };
  return new EdgeCertificate(facts, der);
}

/** A byte as node:crypto writes it in fingerprints. */
function hexPair(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, "0");
}
