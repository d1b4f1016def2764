/**
 * What the handshake agreed on, as plain facts that outlive the socket.
 *
 * @module
 */
import type { ClientHello } from "./client_hello.ts";
import type { ClientVerdict } from "./client_policy.ts";
import type { Handshaken } from "./handshaken.ts";
import type { PeerCertificate } from "./peer_certificate.ts";

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
  /** Whether the client's certificate was asked for, shown, and verified by the client CAs. */
  readonly authorized: boolean;
  /** Why a shown certificate was rejected; `undefined` when none was shown or it was verified. */
  readonly authorizationError: string | undefined;
  /**
   * What the client offered: its versions, application protocols, cipher suites and others, and its
   * JA4 fingerprint; `undefined` where a platform ends TLS.
   */
  readonly hello: ClientHello | undefined;
  /**
   * How long it took from the accepted socket to the end of the handshake, in ms; `undefined` where
   * a platform ends TLS.
   */
  readonly handshakeMs: number | undefined;
}

/** Reads the facts from a socket whose handshake is over. */
export function readTlsInfo(
  socket: Handshaken,
  client: ClientVerdict,
  hello: ClientHello | undefined,
  handshakeMs: number,
): TlsInfo {
  return {
    protocol: socket.getProtocol() ?? "unknown",
    cipher: socket.getCipher()?.name ?? "unknown",
    sni: hello?.serverName,
    alpn: socket.alpnProtocol || undefined,
    resumed: socket.isSessionReused(),
    peerCertificate: client.certificate,
    authorized: client.authorized,
    authorizationError: client.error,
    hello,
    handshakeMs,
  };
}
