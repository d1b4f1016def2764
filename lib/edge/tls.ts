/**
 * The facts of the client's TLS connection where the platform or a proxy has ended it. Loaded with
 * the first request of which there are any.
 *
 * @module
 */
import type { PeerCertificate } from "../tls/peer_certificate.ts";
import { serialNumberOf } from "../tls/spelling.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { certificateOfDer, certificateOfFacts } from "./certificate.ts";
import { derOfClientCert, type ForwardedField, readForwarded } from "./forwarded.ts";
import {
  type CloudflareClientAuth,
  type CloudflareProperties,
  cloudflareProperties,
} from "./tls_known.ts";

/** The names of application protocols by what Cloudflare calls them. */
const ALPN: Readonly<Record<string, string>> = {
  "HTTP/1.1": "http/1.1",
  "HTTP/2": "h2",
  "HTTP/3": "h3",
};

/** The facts of a request, from the platform and the field that a proxy is trusted to set. */
export async function tlsOf(
  request: Request,
  trusted: ForwardedField | undefined,
): Promise<TlsInfo | undefined> {
  const cf = cloudflareProperties(request);
  const platform = cf?.tlsVersion ? await cloudflareTls(cf) : undefined;
  if (trusted === undefined) return platform;
  const { certificate, error } = await readForwarded(request.headers, trusted);
  if (platform === undefined && certificate === undefined && error === undefined) return undefined;
  return {
    ...(platform ?? UNKNOWN),
    peerCertificate: certificate,
    authorized: certificate !== undefined,
    authorizationError: error,
  };
}

/** What is not known of a connection whose other end is the proxy's. */
const UNKNOWN: TlsInfo = {
  protocol: "unknown",
  cipher: "unknown",
  sni: undefined,
  alpn: undefined,
  resumed: false,
  peerCertificate: undefined,
  authorized: false,
  authorizationError: undefined,
  hello: undefined,
  handshakeMs: undefined,
};

async function cloudflareTls(cf: CloudflareProperties): Promise<TlsInfo> {
  const { tlsClientAuth: client } = cf;
  const shown = client?.certPresented === "1" ? client : undefined;
  const verified = shown?.certVerified === "SUCCESS" && shown.certRevoked !== "1";
  const revoked = shown?.certRevoked === "1" ? "REVOKED" : undefined;
  return {
    ...UNKNOWN,
    protocol: cf.tlsVersion ?? UNKNOWN.protocol,
    cipher: cf.tlsCipher ?? UNKNOWN.cipher,
    alpn: ALPN[cf.httpProtocol ?? ""],
    peerCertificate: shown && await cloudflareCertificate(shown),
    authorized: verified,
    authorizationError: shown && !verified ? revoked ?? shown.certVerified : undefined,
  };
}

/** The certificate itself, or what Cloudflare reports of it where that is too large for a field. */
async function cloudflareCertificate(shown: CloudflareClientAuth): Promise<PeerCertificate> {
  if (shown.certRFC9440) {
    try {
      return await certificateOfDer(derOfClientCert(shown.certRFC9440));
    } catch {
      // A client can show what our library cannot read: then what Cloudflare read of it is reported.
    }
  }
  return certificateOfFacts({
    subject: shown.certSubjectDN ?? "",
    issuer: shown.certIssuerDN ?? "",
    subjectAltName: undefined,
    serialNumber: serialNumberOf(shown.certSerial ?? ""),
    fingerprint256: (shown.certFingerprintSHA256 ?? "").toUpperCase().replace(/..(?=.)/g, "$&:"),
    validFrom: new Date(shown.certNotBefore ?? NaN),
    validTo: new Date(shown.certNotAfter ?? NaN),
  });
}
