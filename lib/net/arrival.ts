/**
 * An accepted socket until it is a connection: what the steps of the gate ask of it, whichever
 * sockets the runtime is asked for. Those of `node:net` are in node_arrival.ts, Bun's own in
 * bun_arrival.ts.
 *
 * @module
 */
import type { Endpoints } from "../endpoints.ts";
import type { TlsError } from "../errors.ts";
import type { ClientVerdict } from "../tls/client_policy.ts";
import type { SecurityContext } from "../tls/context.ts";
import type { Handshaken } from "../tls/handshaken.ts";
import type { Wire } from "./wire.ts";

/** An accepted socket. */
export interface Arrival {
  /** The addresses as they were; a socket that was reset at once has none. */
  readonly endpoints: Endpoints;
  /** Reports to `guest` from now on, and no longer to the one before. */
  reportTo(guest: ArrivalGuest): void;
  /** Begins to read. */
  read(): void;
  /** Reads no more; `bytes`, which were read, come first to what reads next. */
  hold(bytes: Uint8Array): void;
  /** Has the system look whether the peer is still there, after `idleMs` of silence. */
  keepAlive(idleMs: number): void;
  /** The socket as it is, without TLS, to be opened at once. */
  plain(): Wire;
  /** Shakes hands as `context` has it. Never throws. */
  shakeHands(context: SecurityContext, end: HandshakeEnd): void;
  /** Cuts it, whatever it has become; the guest is told when it is closed. May be called again. */
  destroy(): void;
}

/** What an arrival reports to. */
export interface ArrivalGuest {
  /** Bytes have come, after {@linkcode Arrival.read}. */
  onData(bytes: Uint8Array): void;
  /** The client has ended its side; not always reported where bytes wait before that. */
  onEnd(): void;
  /** The socket has failed. */
  onError(error: Error): void;
  /** The socket is closed, whatever it has become: called once, and never within a call of ours. */
  onClose(): void;
}

/** A socket after its handshake, and what the handshake was decided by. */
export interface Secured {
  /** The bytes within TLS. */
  readonly wire: Wire;
  /** What the socket knows of its handshake. */
  readonly handshake: Handshaken;
  /** What the handshake was decided by. */
  readonly context: SecurityContext;
  /** The verdict on the client's certificate. */
  readonly client: ClientVerdict;
}

/** How a handshake ends; exactly one of the two is called, once. */
export interface HandshakeEnd {
  /** It succeeded, and the client may come in. */
  secured(secured: Secured): void;
  /** It failed; destroying the arrival lets the runtime's alert out first. */
  failed(error: TlsError): void;
}
