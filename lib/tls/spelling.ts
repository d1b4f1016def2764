/**
 * The alternative names of a certificate as one line of text (RFC 5280 section 4.2.1.6).
 *
 * @module
 */
// The ASN.1 library under @peculiar/x509 reads decorator metadata: this import must come first.
import "reflect-metadata";
import { SubjectAlternativeNameExtension, type X509Certificate } from "@peculiar/x509";

/** `DNS:example.com, IP Address:127.0.0.1`, special ones quoted; `undefined` when there are none. */
export function subjectAltNameOf(certificate: X509Certificate): string | undefined {
  const extension = certificate.getExtension(SubjectAlternativeNameExtension);
  return extension?.names.items.map(oneAltName).join(", ");
}

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
