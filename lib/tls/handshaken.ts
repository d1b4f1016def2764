/**
 * What is read from a socket whose handshake is over, whichever kind of socket it is.
 *
 * @module
 */
import type { X509Certificate } from "node:crypto";

/** What a socket knows of its handshake, as the `TLSSocket` of `node:tls` says it. */
export interface Handshaken {
  /** The application protocol agreed on. */
  readonly alpnProtocol: string | false | null;
  /** Whether the client's certificate was asked for and verified. */
  readonly authorized: boolean;
  /** Why not, in OpenSSL's words. */
  readonly authorizationError: unknown;
  /** The protocol version. */
  getProtocol(): string | null;
  /** The cipher suite. */
  getCipher(): { readonly name: string } | undefined;
  /** Whether an earlier session was resumed. */
  isSessionReused(): boolean;
  /** The client's certificate. */
  getPeerCertificate(): { readonly raw?: Uint8Array } | undefined;
  /** The same, as `node:crypto` parses it. */
  getPeerX509Certificate(): X509Certificate | undefined;
}
