/**
 * The client's certificate in a field that the proxy sets which has ended TLS: `Client-Cert` (RFC
 * 9440), or Envoy's `X-Forwarded-Client-Cert`. If the proxy does not remove or replace such a
 * field, the client controls it, so one is read only when the deployer names it.
 *
 * @module
 */
import type { PeerCertificate } from "../tls/peer_certificate.ts";
import { certificateOfDer } from "./certificate.ts";

/** The field that a proxy is trusted to set. */
export type ForwardedField = "client-cert" | "x-forwarded-client-cert";

/** What a field said. */
export interface ForwardedCertificate {
  /** The certificate, which the proxy has verified. */
  readonly certificate: PeerCertificate | undefined;
  /** Why there is none, although there is a field. */
  readonly error: string | undefined;
}

/** Reads a field; one that is malformed gives no certificate. */
export async function readForwarded(
  headers: Headers,
  field: ForwardedField,
): Promise<ForwardedCertificate> {
  const value = headers.get(field);
  if (value === null || value === "") return { certificate: undefined, error: undefined };
  try {
    const der = field === "client-cert" ? derOfClientCert(value) : derOfXfcc(value);
    return { certificate: await certificateOfDer(der), error: undefined };
  } catch {
    // It came from the network, so it is refused without details.
    return { certificate: undefined, error: `The field ${field} is malformed` };
  }
}

/** A byte sequence of Structured Fields (RFC 9440 section 2.1, RFC 9651 section 3.3.5). */
export function derOfClientCert(value: string): Uint8Array<ArrayBuffer> {
  const [, base64] = /^:([A-Za-z0-9+/]+={0,2}):$/.exec(value) ?? [];
  if (base64 === undefined) throw new SyntaxError("The field is not a byte sequence");
  return fromBase64(base64);
}

/** One `Key=value` of an element, with what ends it. */
const XFCC_PAIR = /([A-Za-z]+)=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^;,"]*))(;|$)/y;

const PEM_BEGIN = "-----BEGIN CERTIFICATE-----";
const PEM_END = "-----END CERTIFICATE-----";
/** What is between the two: a line's end, then base64 in lines. */
const PEM_BODY = /^\s[A-Za-z0-9+/=\s]+$/;

/**
 * The `Cert` of the only element. Several would be the clients of several proxies, of which none
 * can be said to be the one that is meant.
 */
function derOfXfcc(value: string): Uint8Array<ArrayBuffer> {
  let certificate: string | undefined;
  XFCC_PAIR.lastIndex = 0;
  while (XFCC_PAIR.lastIndex < value.length) {
    const pair = XFCC_PAIR.exec(value);
    if (pair === null) throw new SyntaxError("The field has several elements, or is malformed");
    const [, key, quoted, plain] = pair;
    if (key?.toLowerCase() !== "cert") continue;
    if (certificate !== undefined) throw new SyntaxError("The element has several certificates");
    certificate = quoted?.replace(/\\(.)/g, "$1") ?? plain;
  }
  return derOfPem(decodeURIComponent(certificate ?? ""));
}

/** The one certificate of a PEM text, which begins with it and has nothing behind it. */
function derOfPem(text: string): Uint8Array<ArrayBuffer> {
  const pem = text.trimEnd();
  const body = pem.slice(PEM_BEGIN.length, -PEM_END.length);
  if (!pem.startsWith(PEM_BEGIN) || !pem.endsWith(PEM_END) || !PEM_BODY.test(body)) {
    throw new SyntaxError("The element has no certificate");
  }
  return fromBase64(body.replace(/\s/g, ""));
}

function fromBase64(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
