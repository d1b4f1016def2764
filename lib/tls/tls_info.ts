/**
 * What the handshake agreed on, as plain facts that outlive the socket.
 *
 * @module
 */
// The ASN.1 library under @peculiar/x509 reads decorator metadata: this import must come first.
import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { X509Certificate as ParsedCertificate } from "@peculiar/x509";
import type { ClientVerdict } from "./client_auth.ts";
import { serialNumberOf } from "./serial_number.ts";
import { subjectAltNameOf } from "./spelling.ts";

/** A client's certificate, parsed when first looked at. */
export class PeerCertificate {
  /** The certificate as DER bytes. */
  readonly der: Uint8Array;
  #x509: X509Certificate | undefined;
  #parsed: ParsedCertificate | undefined;

  /** Wraps a DER certificate; `x509` is the same as `node:crypto` parses it, where that is there. */
  constructor(der: Uint8Array, x509?: X509Certificate) {
    this.der = der;
    this.#x509 = x509;
  }

  /**
   * The certificate as `node:crypto` parses it, for all that has no property here. Do not compare
   * its `subject`: Deno does not escape what a name may contain.
   */
  get x509(): X509Certificate {
    return this.#x509 ??= new X509Certificate(this.der);
  }

  /**
   * The subject's distinguished name as it stands in the certificate: `C=DE, O=Example, CN=pump 7`,
   * with `\` before commas and other special characters in a value.
   */
  get subject(): string {
    return this.#names.subject;
  }

  /** The issuer's distinguished name, as {@linkcode PeerCertificate.subject}. */
  get issuer(): string {
    return this.#names.issuer;
  }

  /** The subject's alternative names: `DNS:example.com, IP Address:127.0.0.1`, special ones quoted. */
  get subjectAltName(): string | undefined {
    return subjectAltNameOf(this.#names);
  }

  /** The serial number in upper-case hexadecimal pairs, without leading pairs of zeros. */
  get serialNumber(): string {
    return serialNumberOf(this.x509.serialNumber);
  }

  /** The SHA-256 fingerprint of the DER bytes: upper-case hexadecimal pairs with colons. */
  get fingerprint256(): string {
    return this.x509.fingerprint256;
  }

  /** When the certificate begins to be valid. */
  get validFrom(): Date {
    return new Date(this.x509.validFrom);
  }

  /** When the certificate ends to be valid. */
  get validTo(): Date {
    return new Date(this.x509.validTo);
  }

  get #names(): ParsedCertificate {
    return this.#parsed ??= new ParsedCertificate(Uint8Array.from(this.der));
  }
}

/** The facts of one TLS connection. */
export interface TlsInfo {
  /** The protocol version, such as `TLSv1.3`. */
  readonly protocol: string;
  /** The cipher suite by its IANA or OpenSSL name, such as `TLS_AES_256_GCM_SHA384`. */
  readonly cipher: string;
  /** The server name that the client asked for (SNI, RFC 6066), in lower case. */
  readonly sni: string | undefined;
  /** The application protocol agreed on (ALPN, RFC 7301). */
  readonly alpn: string | undefined;
  /** Whether an earlier session was resumed. */
  readonly resumed: boolean;
  /** The client's certificate, if it showed one. */
  readonly peerCertificate: PeerCertificate | undefined;
  /** Whether the client's certificate was asked for, shown, and stands up to the client CAs. */
  readonly authorized: boolean;
  /** Why a shown certificate does not stand; `undefined` when none was shown or it stands. */
  readonly authorizationError: string | undefined;
}

/** Reads the facts from a socket whose handshake is over; `sni` is what the ClientHello asked for. */
export function readTlsInfo(
  socket: TLSSocket,
  client: ClientVerdict,
  sni: string | undefined,
): TlsInfo {
  return {
    protocol: socket.getProtocol() ?? "unknown",
    cipher: socket.getCipher()?.name ?? "unknown",
    sni,
    alpn: socket.alpnProtocol || undefined,
    resumed: socket.isSessionReused(),
    peerCertificate: client.certificate,
    authorized: client.authorized,
    authorizationError: client.error,
  };
}
