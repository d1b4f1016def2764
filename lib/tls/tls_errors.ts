/**
 * One vocabulary for what BoringSSL (Bun), rustls (Deno) and the socket report of a failed handshake.
 *
 * @module
 */
import { TlsError, type TlsErrorCode } from "../errors.ts";

const REJECTED = "The client's certificate was rejected";

/** Matched in this order against the runtime's `code: message`. */
const MEANINGS: readonly (readonly [RegExp, TlsErrorCode, string])[] = [
  [/ALPN|APPLICATION_PROTOCOL/, "TLS_NO_ALPN", "Client and server share no application protocol"],
  [
    /PEER_DID_NOT_RETURN_A_CERTIFICATE/,
    "TLS_CLIENT_CERT_REQUIRED",
    "The client showed no certificate",
  ],
  // After its hello a client sends only one message that can be long: its certificate.
  [/HandshakePayloadTooLarge|EXCESSIVE_MESSAGE_SIZE/, "TLS_CLIENT_CERT_INVALID", REJECTED],
  // The one signature that a server checks is the client's proof that it owns its certificate.
  [/BAD_SIGNATURE|KEY_USAGE_BIT_INCORRECT/, "TLS_CLIENT_CERT_INVALID", REJECTED],
  [
    /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_|PATH_LENGTH_)|CERTIFICATE_VERIFY_FAILED/,
    "TLS_CLIENT_CERT_INVALID",
    REJECTED,
  ],
  [
    /UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW/,
    "TLS_VERSION",
    "Client and server share no TLS version",
  ],
  [
    /peer is incompatible|NO_SHARED_|NO_COMMON_|WRONG_CURVE/,
    "TLS_NO_SHARED_PARAMETERS",
    "Client and server share no cipher suite, group or signature algorithm",
  ],
  [
    /^(ECONNRESET|EPIPE|ECONNABORTED):/,
    "TLS_PEER_CLOSED",
    "The client closed before the handshake was over",
  ],
  [/_ALERT_/, "TLS_PEER_ALERT", "The client sent an alert"],
  // OpenSSL's clients do not encrypt the alert with which they refuse the server's certificate, and
  // BoringSSL takes it for a record that is too short.
  [/BAD_PACKET_LENGTH/, "TLS_PEER_ALERT", "The client sent an alert, or a broken record"],
];

/** Translates the runtime's error, which becomes the `cause`. */
export function toTlsError(cause: Error): TlsError {
  const text = `${(cause as NodeJS.ErrnoException).code}: ${cause.message}`;
  const meaning = MEANINGS.find(([pattern]) => pattern.test(text));
  if (meaning === undefined) {
    return new TlsError("TLS_ERROR", `The handshake failed: ${cause.message}`, { cause });
  }
  const [, code, message] = meaning;
  return new TlsError(code, `${message}: ${cause.message}`, { cause });
}

/** Makes the error for a client certificate that was rejected; `reason` is why, in OpenSSL's words. */
export function certificateRefused(reason: string, options?: ErrorOptions): TlsError {
  return new TlsError("TLS_CLIENT_CERT_INVALID", `${REJECTED}: ${reason}`, options);
}
