/**
 * One way to shake hands: an identity and everything else that decides a handshake, around the
 * runtime's own `tls.Server`, which never listens: it is given the sockets of connections whose
 * ClientHello has been read. A context never changes; rotation puts another in its place.
 *
 * @module
 */
import { constants } from "node:crypto";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import {
  createSecureContext,
  createServer,
  type SecureVersion,
  type Server,
  type TLSSocket,
} from "node:tls";
import { ACME_TLS } from "../alpn.ts";
import { ConfigError, TlsError } from "../errors.ts";
import { alpnList, type BunTls, nativeContext } from "../runtime/bun_sockets.ts";
import { type TlsParent, tlsParent } from "../runtime/tls_parent.ts";
import type { ClientHello } from "./client_hello.ts";
import type { ClientPolicy } from "./client_policy.ts";
import { type Identity, keyPemOf } from "./loaded_identity.ts";
import { certificateRefused, toTlsError } from "./tls_errors.ts";

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
  /** The policy for client certificates; `undefined`: none is asked for. */
  readonly clientAuth: ClientPolicy | undefined;
  /** What is the same for all contexts. */
  readonly settings: TlsSettings;
}

/** Receives the end of a handshake: one of the two is called, once. */
export interface HandshakeOutcome {
  /** Takes over the socket of a handshake that succeeded. */
  secured(socket: TLSSocket): void;
  /** Takes the error of one that failed; the runtime has sent its alert and destroys the socket. */
  failed(error: TlsError): void;
}

const VERSION_NUMBERS: Record<string, number> = { "TLSv1.2": 0x0303, "TLSv1.3": 0x0304 };

/** Whether client and server share a version. Deno answers the lack of one with the wrong alert. */
export function sharesVersion(
  { minVersion, maxVersion }: TlsSettings,
  hello: ClientHello,
): boolean {
  const [oldest, newest] = [VERSION_NUMBERS[minVersion]!, VERSION_NUMBERS[maxVersion]!];
  return hello.versions.some((version) => version >= oldest && version <= newest);
}

/**
 * Checks settings that the runtime would otherwise reject in the first handshake.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the runtime knows none of the `ciphers`
 */
export function assertSettings({ ciphers }: TlsSettings): void {
  if (ciphers === undefined) return;
  try {
    createSecureContext({ ciphers });
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `Option ciphers holds no cipher suite that this runtime knows: ${ciphers}`,
      { cause },
    );
  }
}

/**
 * The runtimes' own handshake timer is off: the gate keeps the time, and Deno would run the timer on
 * after a failed handshake, and hold all of the socket until it fires. (0 would be their default.)
 */
const NO_TIMER = -1;

/** Where a socket keeps the outcome that its handshake is for; a `WeakMap` costs the collector. */
const OUTCOME = Symbol("outcome");

type Shaking = Duplex & { [OUTCOME]?: HandshakeOutcome };

/** An immutable TLS configuration that can accept sockets. */
export class SecurityContext {
  /** The certificate and key that it shows. */
  readonly identity: Identity;
  /** The application protocols that it speaks. */
  readonly alpnProtocols: readonly string[];
  /** The policy for client certificates; `undefined`: none is asked for. */
  readonly clientAuth: ClientPolicy | undefined;
  readonly #settings: TlsSettings;
  readonly #parent: TlsParent;
  #server: Server | undefined;
  #bunTls: BunTls | undefined;

  /** Keeps the options; the runtime's context is made with the first handshake. */
  constructor(options: ContextOptions, parent: TlsParent = tlsParent) {
    this.#parent = parent;
    this.identity = options.identity;
    this.alpnProtocols = options.alpnProtocols;
    this.clientAuth = options.clientAuth;
    this.#settings = options.settings;
  }

  /** Whether it serves nothing but ACME's TLS-ALPN challenge (RFC 8737), which is not a request. */
  get isChallenge(): boolean {
    return this.alpnProtocols.length === 1 && this.alpnProtocols[0] === ACME_TLS;
  }

  /** Whether another context shakes hands in the same way. */
  equals(other: SecurityContext): boolean {
    return this.identity.certPem === other.identity.certPem &&
      keyPemOf(this.identity) === keyPemOf(other.identity) &&
      this.alpnProtocols.join("\0") === other.alpnProtocols.join("\0") &&
      this.clientAuth === other.clientAuth &&
      this.#settings === other.#settings;
  }

  /**
   * Shakes hands over `stream`, which may have had bytes unshifted into it. A socket shares the
   * context's server if it is known again when that calls back; any other stream, which the runtime
   * hides behind a wrapper, gets its own.
   * Never throws: an identity that the runtime does not take fails this handshake.
   */
  accept(stream: Duplex, outcome: HandshakeOutcome): void {
    try {
      this.#serverFor(stream, outcome).emit("connection", stream as Socket);
    } catch (cause) {
      const error = new TlsError("TLS_ERROR", "The runtime cannot use the certificate", { cause });
      queueMicrotask(() => outcome.failed(error));
    }
  }

  #serverFor(stream: Duplex, outcome: HandshakeOutcome): Server {
    if (!(stream instanceof Socket) || !this.#parent.works) {
      return this.#createServer(() => outcome);
    }
    (stream as Shaking)[OUTCOME] = outcome;
    return this.#server ??= this.#createServer((socket) => this.#outcomeOf(socket));
  }

  #outcomeOf(socket: TLSSocket): HandshakeOutcome | undefined {
    return (this.#parent.of(socket) as Shaking | undefined)?.[OUTCOME];
  }

  /**
   * By what Bun's own sockets shake hands; made when first asked for. A method, since what prints
   * properties would show the key.
   *
   * @throws {Error} Bun's, if it does not take the identity
   */
  bunTls(): BunTls {
    if (this.#bunTls === undefined) {
      const { requestCert = false, rejectUnauthorized = false } = this.clientAuth?.tlsOptions ?? {};
      const { secureOptions, ...options } = this.#options;
      const context = createSecureContext({
        ...options,
        // A `tls.Server` sets this by itself.
        secureOptions: secureOptions | constants.SSL_OP_CIPHER_SERVER_PREFERENCE,
      });
      this.#bunTls = {
        secureContext: nativeContext(context),
        ...(this.alpnProtocols.length > 0 && { ALPNProtocols: alpnList(this.alpnProtocols) }),
        requestCert,
        rejectUnauthorized,
      };
    }
    return this.#bunTls;
  }

  /** What a native context is made of. */
  get #options() {
    const { minVersion, maxVersion, ciphers, sessionTickets } = this.#settings;
    return {
      cert: this.identity.certPem,
      key: keyPemOf(this.identity),
      minVersion,
      maxVersion,
      ...this.clientAuth?.tlsOptions,
      ...(ciphers !== undefined && { ciphers }),
      // Node would let TLS 1.2 clients renegotiate, at the price of a handshake each time.
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION |
        (sessionTickets ? 0 : constants.SSL_OP_NO_TICKET),
    };
  }

  #createServer(outcomeOf: (socket: TLSSocket) => HandshakeOutcome | undefined): Server {
    const { alpnProtocols } = this;
    const server = createServer({
      ...this.#options,
      handshakeTimeout: NO_TIMER,
      allowHalfOpen: true,
      ...(alpnProtocols.length > 0 && { ALPNProtocols: [...alpnProtocols] }),
    });
    server.on("secureConnection", (socket) => {
      const outcome = outcomeOf(socket);
      if (outcome !== undefined) return outcome.secured(socket);
      // A client that leaves early does not cause this: its socket is destroyed already.
      if (!socket.destroyed) this.#parent.giveUp();
      socket.destroy();
    });
    server.on("tlsClientError", (cause, socket) => {
      // Deno refuses a certificate by hanging up; only the socket has the reason.
      const refusal = socket.authorizationError as unknown;
      const error = refusal ? certificateRefused(String(refusal), { cause }) : toTlsError(cause);
      outcomeOf(socket)?.failed(error);
    });
    return server;
  }
}
