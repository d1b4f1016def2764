/**
 * A client's certificate as handlers see it (RFC 5280).
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import type { X509Certificate as ParsedCertificate } from "@peculiar/x509";
import { serialNumberOf, subjectAltNameOf } from "./spelling.ts";
import { x509Library } from "./x509.ts";

/** A client's certificate. */
export interface PeerCertificate {
  /** The certificate as DER bytes. */
  readonly der: Uint8Array;
  /**
   * The certificate as `node:crypto` parses it, for all that has no property here. Do not compare
   * its `subject`: Deno does not escape what a name may contain.
   */
  readonly x509: X509Certificate;
  /**
   * The subject's distinguished name as the certificate has it: `C=DE, O=Example, CN=pump 7`, with
   * `\` before commas and other special characters in a value.
   */
  readonly subject: string;
  /** The issuer's distinguished name, written as {@linkcode PeerCertificate.subject} is. */
  readonly issuer: string;
  /** The subject's alternative names: `DNS:example.com, IP Address:127.0.0.1`, special ones quoted. */
  readonly subjectAltName: string | undefined;
  /** The serial number in upper-case hexadecimal pairs, without leading pairs of zeros. */
  readonly serialNumber: string;
  /** The SHA-256 fingerprint of the DER bytes: upper-case hexadecimal pairs with colons. */
  readonly fingerprint256: string;
  /** The start of the certificate's validity. */
  readonly validFrom: Date;
  /** When the certificate expires. */
  readonly validTo: Date;
}

/** Wraps a DER certificate; `x509` is the same as `node:crypto` parses it, if that has been done. */
export function peerCertificate(der: Uint8Array, x509?: X509Certificate): PeerCertificate {
  return new LazyCertificate(der, x509);
}

/** A certificate that is parsed when it is first looked at. */
class LazyCertificate implements PeerCertificate {
  readonly der: Uint8Array;
  #x509: X509Certificate | undefined;
  #parsed: ParsedCertificate | undefined;

  constructor(der: Uint8Array, x509: X509Certificate | undefined) {
    this.der = der;
    this.#x509 = x509;
  }

  get x509(): X509Certificate {
    return this.#x509 ??= new X509Certificate(this.der);
  }

  get subject(): string {
    return this.#names.subject;
  }

  get issuer(): string {
    return this.#names.issuer;
  }

  get subjectAltName(): string | undefined {
    return subjectAltNameOf(this.#names);
  }

  get serialNumber(): string {
    return serialNumberOf(this.x509.serialNumber);
  }

  get fingerprint256(): string {
    return this.x509.fingerprint256;
  }

  get validFrom(): Date {
    return new Date(this.x509.validFrom);
  }

  get validTo(): Date {
    return new Date(this.x509.validTo);
  }

  get #names(): ParsedCertificate {
    if (this.#parsed === undefined) {
      const { X509Certificate } = x509Library();
      this.#parsed = new X509Certificate(Uint8Array.from(this.der));
    }
    return this.#parsed;
  }
}
