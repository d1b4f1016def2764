/**
 * The protocols that are known by a name of their own in ALPN (RFC 7301), and whether they are
 * served: every check of such a name reads this table, and lib/protocols.ts has the driver of each
 * that is served. A name that is not here may be agreed on as well: HTTP/1.1 is spoken under it.
 *
 * @module
 */
const KNOWN = {
  "http/1.1": true,
  /** ACME's TLS-ALPN challenge (RFC 8737), which is over with the handshake. */
  "acme-tls/1": true,
  h2: false,
} as const;

/** The name of a protocol that is served in a way of its own. */
export type ServedProtocol = {
  [Name in keyof typeof KNOWN]: (typeof KNOWN)[Name] extends true ? Name : never;
}[keyof typeof KNOWN];

/** The protocol that is spoken where none is agreed on. */
export const HTTP1 = "http/1.1" satisfies ServedProtocol;

/** The protocol of ACME's TLS-ALPN challenge (RFC 8737). */
export const ACME_TLS = "acme-tls/1" satisfies ServedProtocol;

/** Whether a protocol may be offered to clients under this name. */
export function isServable(name: string): boolean {
  return !Object.hasOwn(KNOWN, name) || KNOWN[name as keyof typeof KNOWN];
}
