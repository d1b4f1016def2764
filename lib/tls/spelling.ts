/**
 * How facts of a certificate are spelled, whatever has parsed it (RFC 5280 sections 4.1.2.2 and
 * 4.2.1.6).
 *
 * @module
 */
import type { SubjectAlternativeNameExtension, X509Certificate } from "@peculiar/x509";

/**
 * Spells a serial number as OpenSSL does, so that it can be looked up in a list: pairs of upper-case
 * hexadecimal digits, without leading pairs of zeros. (Deno leaves out a single leading zero too,
 * Cloudflare none.)
 */
export function serialNumberOf(hex: string): string {
  const digits = hex.toUpperCase().replace(/^0+(?=.)/, "");
  return digits.length % 2 === 0 ? digits : `0${digits}`;
}

/** Spells the alternative names: `DNS:example.com, IP Address:127.0.0.1`, special ones quoted. */
export function subjectAltNameOf(certificate: X509Certificate): string | undefined {
  const extension = certificate.getExtension<SubjectAlternativeNameExtension>(SUBJECT_ALT_NAME);
  return extension?.names.items.map(oneAltName).join(", ");
}

const SUBJECT_ALT_NAME = "2.5.29.17"; // RFC 5280 section 4.2.1.6

/** The kinds of alternative names as node:crypto calls them. */
const ALT_NAME_KINDS: Record<string, string> = {
  dns: "DNS",
  ip: "IP Address",
  email: "email",
  url: "URI",
  dn: "DirName",
  id: "Registered ID",
  upn: "UPN",
  guid: "GUID",
};

/** A value that could be taken for more than one name is quoted. */
function oneAltName({ type, value }: { type: string; value: string }): string {
  const plain = /^[\w.:/@*-]*$/.test(value);
  return `${ALT_NAME_KINDS[type] ?? type}:${plain ? value : JSON.stringify(value)}`;
}
