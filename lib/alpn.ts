/**
 * The protocols with a name of their own in ALPN (RFC 7301): every check of such a name reads this
 * file, and lib/protocols.ts has the driver of each. Other names may be negotiated as well:
 * HTTP/1.1 is spoken under them.
 *
 * @module
 */

/** HTTP/1.1: the protocol that is spoken if none is negotiated, unless it is turned off. */
export const HTTP1 = "http/1.1";

/** HTTP/2. */
export const HTTP2 = "h2";

/** The protocol of ACME's TLS-ALPN challenge (RFC 8737), which is over with the handshake. */
export const ACME_TLS = "acme-tls/1";

/** The name of a protocol with a driver of its own. */
export type ServedProtocol = typeof HTTP1 | typeof HTTP2 | typeof ACME_TLS;

/** Which versions of HTTP a server speaks. */
export interface ServedVersions {
  /** Whether HTTP/1.1 is served. */
  readonly http1: boolean;
  /** Whether HTTP/2 is served. */
  readonly http2: boolean;
}

/** The names of the versions that a server speaks, the preferred first. */
export function servedNames({ http1, http2 }: ServedVersions): string[] {
  return [...(http2 ? [HTTP2] : []), ...(http1 ? [HTTP1] : [])];
}

/** Whether a protocol may be offered to clients under this name. */
export function isServed(name: string, { http1, http2 }: ServedVersions): boolean {
  if (name === ACME_TLS) return true;
  return name === HTTP2 ? http2 : http1;
}
