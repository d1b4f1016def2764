/**
 * One way to shake hands: an identity and everything else that a handshake is decided by, around
 * the runtime's own `tls.Server`, which never listens but is fed with sockets (design decision 1).
 * A context never changes; rotation puts another in its place.
 *
 * @module
 */
import { constants } from "node:crypto";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer, type SecureVersion, type Server, type TLSSocket } from "node:tls";
import type { ClientAuth } from "./client_auth.ts";
import type { Identity } from "./identity.ts";

/** What every context of a server is made with. */
export interface TlsSettings {
  /** The oldest protocol version accepted. */
  readonly minVersion: SecureVersion;
  /** The newest protocol version accepted. */
  readonly maxVersion: SecureVersion;
  /** The cipher suites up to TLS 1.2 in OpenSSL's notation; `undefined`: the runtime's own. */
  readonly ciphers: string | undefined;
  /** Whether sessions may be resumed with tickets. */
  readonly sessionTickets: boolean;
}

/** What a {@linkcode SecurityContext} is made of. */
export interface ContextOptions {
  /** The certificate and key to show. */
  readonly identity: Identity;
  /** The application protocols spoken, in order of preference; empty: ALPN is not used. */
  readonly alpnProtocols: readonly string[];
  /** Whom client certificates must come from; `undefined`: none is asked for. */
  readonly clientAuth: ClientAuth | undefined;
  /** What is the same for all contexts. */
  readonly settings: TlsSettings;
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
  /** The certificate and key that it shows. */
  readonly identity: Identity;
  /** The application protocols that it speaks. */
  readonly alpnProtocols: readonly string[];
  /** Whom client certificates must come from. */
  readonly clientAuth: ClientAuth | undefined;
  readonly #settings: TlsSettings;
  #server: Server | undefined;
  /** Handshakes under way, by the socket that each TLS socket stands on. */
  readonly #handshakes = new WeakMap<Duplex, HandshakeOutcome>();

  /** Keeps the options; the runtime's context is made with the first handshake. */
  constructor(options: ContextOptions) {
    this.identity = options.identity;
    this.alpnProtocols = options.alpnProtocols;
    this.clientAuth = options.clientAuth;
    this.#settings = options.settings;
  }

  /**
   * Shakes hands over `stream`, which may have had bytes unshifted into it. A socket shares the
   * context's server; any other stream, which the runtime hides behind a wrapper, gets its own.
   */
  accept(stream: Duplex, outcome: HandshakeOutcome): void {
    if (stream instanceof Socket) {
      this.#handshakes.set(stream, outcome);
      this.#server ??= this.#createServer((socket) => this.#outcomeOf(socket));
      this.#server.emit("connection", stream);
    } else {
      this.#createServer(() => outcome).emit("connection", stream as Socket);
    }
  }

  #outcomeOf(socket: TLSSocket): HandshakeOutcome | undefined {
    const parent = (socket as TLSSocket & { _parent?: Duplex })._parent;
    return parent === undefined ? undefined : this.#handshakes.get(parent);
  }

  #createServer(outcomeOf: (socket: TLSSocket) => HandshakeOutcome | undefined): Server {
    const { identity, alpnProtocols, clientAuth } = this;
    const { minVersion, maxVersion, ciphers, sessionTickets } = this.#settings;
    const server = createServer({
      cert: identity.certPem,
      key: identity.keyPem,
      minVersion,
      maxVersion,
      allowHalfOpen: true,
      ...(alpnProtocols.length > 0 && { ALPNProtocols: [...alpnProtocols] }),
      ...(clientAuth !== undefined && {
        ca: [...clientAuth.ca],
        requestCert: true,
        rejectUnauthorized: clientAuth.required,
      }),
      ...(ciphers !== undefined && { ciphers }),
      ...(!sessionTickets && { secureOptions: constants.SSL_OP_NO_TICKET }),
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
