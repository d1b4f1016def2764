/**
 * The gate's last step under TLS: the handshake, by the runtime's own TLS.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { TlsError } from "../../errors.ts";
import {
  detectTlsFlow,
  type Flow,
  handleFlow,
  PacedSocket,
  pausingFlow,
  type TlsFlow,
} from "../../runtime/read_switch.ts";
import { type ClientVerdict, NOT_ASKED } from "../../tls/client_policy.ts";
import type { SecurityContext } from "../../tls/context.ts";
import { certificateRefused } from "../../tls/tls_errors.ts";

/** A socket after its handshake, and what the handshake was decided by. */
export interface Secured {
  /** The socket over the raw one. */
  readonly socket: TLSSocket;
  /** Stops and starts its bytes. */
  readonly flow: Flow;
  /** What the handshake was decided by. */
  readonly context: SecurityContext;
  /** The verdict on the client's certificate. */
  readonly client: ClientVerdict;
}

/** How a handshake ends; exactly one of the two is called, once. */
export interface HandshakeEnd {
  /** It succeeded, and the client may come in. */
  secured(secured: Secured): void;
  /** It failed; destroying `stream` lets the runtime's alert out first. */
  failed(error: TlsError, stream: Duplex): void;
}

/** Shakes hands over a raw socket, into which the ClientHello was unshifted. */
export function shakeHands(
  raw: Socket,
  context: SecurityContext,
  tlsFlow: TlsFlow = detectTlsFlow(raw),
  end: HandshakeEnd,
): void {
  const paced = tlsFlow === "paced" ? new PacedSocket(raw) : undefined;
  const stream: Duplex = paced ?? raw;
  stream.allowHalfOpen = false; // or Deno does not see a client that leaves in the handshake
  context.accept(stream, {
    secured(socket) {
      stream.allowHalfOpen = socket.allowHalfOpen = true;
      const flow = paced ?? (tlsFlow === "handle" ? handleFlow(raw) : pausingFlow(socket));
      const client = context.clientAuth?.judge(socket) ?? NOT_ASKED;
      if (context.clientAuth?.required && !client.authorized) {
        socket.destroy();
        end.failed(unauthorized(client), raw);
      } else {
        end.secured({ socket, flow, context, client });
      }
    },
    failed: (error) => end.failed(error, stream),
  });
}

function unauthorized({ error }: ClientVerdict): TlsError {
  if (error !== undefined) return certificateRefused(error);
  return new TlsError("TLS_CLIENT_CERT_REQUIRED", "The client showed no certificate");
}
