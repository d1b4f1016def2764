/**
 * The gate's last step under TLS: the handshake itself is the runtime's own; here it is judged.
 *
 * @module
 */
import { TlsError } from "../../errors.ts";
import { type ClientVerdict, NOT_ASKED } from "../../tls/client_policy.ts";
import { certificateRefused } from "../../tls/tls_errors.ts";
import type { HandshakeEnd, Secured } from "../arrival.ts";

/** Lets a client in whose handshake has succeeded, or refuses it for its certificate. */
export function concludeHandshake(secured: Omit<Secured, "client">, end: HandshakeEnd): void {
  const { wire, handshake, context: { clientAuth } } = secured;
  const client = clientAuth?.judge(handshake) ?? NOT_ASKED;
  if (clientAuth?.required && !client.authorized) {
    wire.destroy();
    end.failed(unauthorized(client));
  } else {
    end.secured({ ...secured, client });
  }
}

function unauthorized({ error }: ClientVerdict): TlsError {
  if (error !== undefined) return certificateRefused(error);
  return new TlsError("TLS_CLIENT_CERT_REQUIRED", "The client showed no certificate");
}
