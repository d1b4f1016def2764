/**
 * One vocabulary for what BoringSSL (Bun), rustls (Deno) and the socket say of a failed handshake.
 *
 * @module
 */
import { TlsError, type TlsErrorCode } from "../errors.ts";

interface Meaning {
  readonly code: TlsErrorCode;
  readonly message: string;
}

const MEANINGS: ReadonlyMap<string, Meaning> = new Map(
  ([
    ["TLS_NO_ALPN", "Client and server share no application protocol", [
      "ERR_SSL_NO_APPLICATION_PROTOCOL",
    ]],
    ["TLS_CLIENT_CERT_REQUIRED", "The client showed no certificate", [
      "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE",
    ]],
    ["TLS_VERSION", "Client and server share no TLS version", [
      "ERR_SSL_UNSUPPORTED_PROTOCOL",
      "ERR_SSL_VERSION_TOO_LOW",
    ]],
    ["TLS_NO_SHARED_PARAMETERS", "Client and server share no cipher suite or group", [
      "ERR_SSL_NO_SHARED_CIPHER",
      "ERR_SSL_NO_SHARED_GROUP",
      "ERR_SSL_NO_COMMON_SIGNATURE_ALGORITHMS",
    ]],
    ["TLS_NOT_TLS", "The client does not speak TLS", [
      "ERR_SSL_WRONG_VERSION_NUMBER",
      "ERR_SSL_HTTP_REQUEST",
      "ERR_SSL_HTTPS_PROXY_REQUEST",
    ]],
    ["TLS_CLIENT_CERT_INVALID", "The client's certificate does not stand", [
      "ERR_SSL_CERTIFICATE_VERIFY_FAILED",
      "CERT_HAS_EXPIRED",
      "CERT_NOT_YET_VALID",
      "CERT_REVOKED",
      "CERT_UNTRUSTED",
      "CERT_REJECTED",
      "CERT_SIGNATURE_FAILURE",
      "DEPTH_ZERO_SELF_SIGNED_CERT",
      "INVALID_CA",
      "INVALID_PURPOSE",
      "PATH_LENGTH_EXCEEDED",
      "SELF_SIGNED_CERT_IN_CHAIN",
      "UNABLE_TO_GET_ISSUER_CERT",
      "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
      "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    ]],
    ["TLS_PEER_CLOSED", "The client closed before the handshake was over", [
      "ECONNRESET",
      "EPIPE",
      "ECONNABORTED",
    ]],
  ] as [TlsErrorCode, string, string[]][]).flatMap(([code, message, causes]) =>
    causes.map((cause): [string, Meaning] => [cause, { code, message }])
  ),
);

/** The error that stands for what the runtime said, which becomes its `cause`. */
export function toTlsError(cause: Error): TlsError {
  const said = (cause as NodeJS.ErrnoException).code ?? "";
  const meaning = MEANINGS.get(said);
  if (meaning !== undefined) return new TlsError(meaning.code, meaning.message, { cause });
  if (/_ALERT_/.test(said)) {
    return new TlsError("TLS_PEER_ALERT", `The client sent an alert: ${cause.message}`, { cause });
  }
  return new TlsError("TLS_ERROR", `The handshake failed: ${cause.message}`, { cause });
}
