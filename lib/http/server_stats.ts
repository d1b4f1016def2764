/**
 * The counters of a server, as `server.stats()` gives them.
 *
 * @module
 */
import type { ErrorCode, HttpsdError } from "../errors.ts";

/** How often each error happened that did, by its code. */
export type CountsByCode = Readonly<Partial<Record<ErrorCode, number>>>;

/** One certificate in force. */
export interface CertificateStats {
  /** The names that it is for. */
  readonly names: readonly string[];
  /** The SHA-256 fingerprint of the certificate. */
  readonly fingerprint256: string;
  /** From when on it is valid. */
  readonly validFrom: Date;
  /** When it expires. */
  readonly validTo: Date;
}

/** A certificate that the source of certificates renews. */
export interface RenewalStats {
  /** The names, or IP addresses, that it is for. */
  readonly names: readonly string[];
  /** The SHA-256 fingerprint of the certificate in force; `undefined`: there is none yet. */
  readonly fingerprint256: string | undefined;
  /** When it is to be renewed, or got; `undefined`: when a client asks for the name. */
  readonly renewAt: Date | undefined;
  /** Why the last attempt failed; `undefined`: it did not. */
  readonly error: HttpsdError | undefined;
}

/**
 * What a server does and has done: counters that are always on. Those that say "now" go up and
 * down; the others only grow, from when the server was made, also over `stop()` and `start()`.
 */
export interface ServerStats {
  /** Sockets. */
  readonly connections: {
    /** How many were accepted. */
    readonly accepted: number;
    /** How many were closed to make room for another. */
    readonly purged: number;
    /** How many were refused before their session, and not for their handshake: by the reason. */
    readonly refused: CountsByCode;
    /** How many are open now, those at the gate included. */
    readonly open: number;
    /** How many wait now for one of those to close. */
    readonly waiting: number;
    /** What those that are open do now. */
    readonly states: {
      /** On their way through the gate: PROXY header, ClientHello, handshake. */
      readonly handshaking: number;
      /** The hooks have not let the session in. */
      readonly opening: number;
      /** Waiting for a request. */
      readonly idle: number;
      /** Inside a request. */
      readonly busy: number;
      /** Speaking `websocket` and nothing else. */
      readonly websocket: number;
      /** Nothing is read any more. */
      readonly closing: number;
    };
  };
  /** TLS handshakes. */
  readonly handshakes: {
    /** How many were full. */
    readonly full: number;
    /** How many resumed an earlier session. */
    readonly resumed: number;
    /** How many failed, by the code of their error. */
    readonly failed: CountsByCode;
  };
  /** Requests, those of `server.fetch()` included. */
  readonly requests: {
    /** How many have begun. */
    readonly total: number;
    /** How many are under way now. */
    readonly active: number;
    /** How many have ended, by the class of the status; `none`: without one. */
    readonly byClass: {
      readonly none: number;
      readonly "1xx": number;
      readonly "2xx": number;
      readonly "3xx": number;
      readonly "4xx": number;
      readonly "5xx": number;
    };
    /** How many of them have no whole answer, since the client broke off. */
    readonly cutByClient: number;
    /** How many of them have no whole answer, since this side broke off. */
    readonly cutByServer: number;
  };
  /** WebSockets. */
  readonly websockets: {
    /** How many were opened. */
    readonly opened: number;
    /** How many are open now. */
    readonly open: number;
  };
  /** Bytes of sessions, without TLS. */
  readonly bytes: {
    /** How many have come. */
    readonly received: number;
    /** How many were sent. */
    readonly sent: number;
    /** How many have come and wait now to be read. */
    readonly unread: number;
    /** How many wait now to be sent. */
    readonly unsent: number;
  };
  /** How late the event loop is with what it has to do, measured once a second while it listens. */
  readonly eventLoop: {
    /** In the last second, in ms. */
    readonly lagMs: number;
    /** The most in a second of the last minute, in ms. */
    readonly maxLagMs: number;
  };
  /** Whether the server speaks TLS. */
  readonly secure: boolean;
  /** The certificates in force; none while the server does not run, and in plain mode. */
  readonly certificates: readonly CertificateStats[];
  /** What the source of certificates renews, also what it could not get yet. */
  readonly renewals: readonly RenewalStats[];
}
