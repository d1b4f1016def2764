/**
 * One way to shake hands: an identity and everything else that a handshake is decided by, around
 * the runtime's own `tls.Server`, which never listens but is fed with sockets (design decision 1).
 * A context never changes; rotation puts another in its place.
 *
 * @module
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer, type SecureVersion, type Server, type TLSSocket } from "node:tls";
import type { Identity } from "./identity.ts";

/** What a {@linkcode SecurityContext} is made of. */
export interface ContextOptions {
  /** The certificate and key to show. */
  readonly identity: Identity;
  /** The application protocols spoken, in order of preference; empty: ALPN is not used. */
  readonly alpnProtocols: readonly string[];
  /** The oldest protocol version accepted. */
  readonly minVersion: SecureVersion;
  /** The newest protocol version accepted. */
  readonly maxVersion: SecureVersion;
}

/** How a handshake ended; exactly one of the two is called, once. */
export interface HandshakeOutcome {
  /** It succeeded; the socket is the application's now. */
  secured(socket: TLSSocket): void;
  /** It failed; the runtime has sent its alert and destroys the socket. */
  failed(error: Error): void;
}

/** An immutable TLS configuration that can accept sockets. */
export class SecurityContext {
  readonly #options: ContextOptions;
  readonly #server: Server;
  /** Handshakes under way, by the socket that each TLS socket stands on. */
  readonly #handshakes = new WeakMap<Duplex, HandshakeOutcome>();

  /** Builds the runtime's context; the identity is valid already. */
  constructor(options: ContextOptions) {
    this.#options = options;
    this.#server = this.#createServer((socket) => {
      const parent = (socket as TLSSocket & { _parent?: Duplex })._parent;
      return parent === undefined ? undefined : this.#handshakes.get(parent);
    });
  }

  /**
   * Shakes hands over `stream`, which may have had bytes unshifted into it. A socket shares the
   * context's server; any other stream, which the runtime hides behind a wrapper, gets its own.
   */
  accept(stream: Duplex, outcome: HandshakeOutcome): void {
    if (stream instanceof Socket) {
      this.#handshakes.set(stream, outcome);
      this.#server.emit("connection", stream);
    } else {
      this.#createServer(() => outcome).emit("connection", stream as Socket);
    }
  }

  #createServer(outcomeOf: (socket: TLSSocket) => HandshakeOutcome | undefined): Server {
    const { identity, alpnProtocols, minVersion, maxVersion } = this.#options;
    const server = createServer({
      cert: identity.certPem,
      key: identity.keyPem,
      minVersion,
      maxVersion,
      allowHalfOpen: true,
      ...(alpnProtocols.length > 0 && { ALPNProtocols: [...alpnProtocols] }),
    });
    server.on("secureConnection", (socket) => {
      const outcome = outcomeOf(socket);
      if (outcome === undefined) socket.destroy();
      else outcome.secured(socket);
    });
    server.on("tlsClientError", (error, socket) => outcomeOf(socket)?.failed(error));
    return server;
  }
}
