/**
 * Whether anything is known of the client's TLS connection; what, is in `tls.ts`, which most apps
 * never need.
 *
 * @module
 */
import type { ForwardedField } from "./forwarded.ts";

/** What Cloudflare reports in `request.cf`. */
export interface CloudflareProperties {
  readonly httpProtocol?: string;
  readonly tlsVersion?: string;
  readonly tlsCipher?: string;
  readonly tlsClientAuth?: CloudflareClientAuth;
}

/** What Cloudflare reports of the client's certificate; all empty where there is none. */
export interface CloudflareClientAuth {
  readonly certPresented?: string;
  readonly certVerified?: string;
  readonly certRevoked?: string;
  readonly certSubjectDN?: string;
  readonly certIssuerDN?: string;
  readonly certSerial?: string;
  readonly certFingerprintSHA256?: string;
  readonly certNotBefore?: string;
  readonly certNotAfter?: string;
  readonly certRFC9440?: string;
}

/** What Cloudflare reports of a request, on Cloudflare. */
export function cloudflareProperties(request: Request): CloudflareProperties | undefined {
  return (request as Request & { readonly cf?: CloudflareProperties }).cf;
}

/** Whether the platform reports something, or a proxy is trusted to. */
export function isTlsKnown(request: Request, trusted: ForwardedField | undefined): boolean {
  return trusted !== undefined || !!cloudflareProperties(request)?.tlsVersion;
}
