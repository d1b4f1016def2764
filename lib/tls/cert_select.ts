/**
 * The hook `certSelect`: what it is called with, what it may return, and how that is checked
 * (original: `cert_select_cb`).
 *
 * @module
 */
import { isServed, type ServedVersions } from "../alpn.ts";
import type { Endpoints } from "../endpoints.ts";
import { ConfigError, TlsError } from "../errors.ts";
import { shown } from "../options.ts";
import { ClientAuth } from "./client_auth.ts";
import type { ClientHello } from "./client_hello.ts";
import { Identity } from "./loaded_identity.ts";

/** What a `certSelect` hook may return besides an identity. */
export interface ContextSelection {
  /** The identity to show. */
  readonly identity: Identity;
  /** The application protocols to speak. Default: the server's. */
  readonly alpnProtocols?: readonly string[];
  /** The policy for client certificates; `null`: none is asked for. Default: the server's. */
  readonly clientAuth?: ClientAuth | null;
}

/** The alert that a refused client gets (RFC 8446 section 6). */
export type RefusalAlert = "unrecognized_name" | "access_denied";

let makeRefused: (alert: RefusalAlert) => Refused;

/** A `certSelect` hook's refusal; made with {@linkcode refuse}. */
export class Refused {
  readonly #alert: RefusalAlert;

  static {
    makeRefused = (alert) => new Refused(alert);
  }

  private constructor(alert: RefusalAlert) {
    this.#alert = alert;
  }

  /** The alert to send. */
  get alert(): RefusalAlert {
    return this.#alert;
  }
}

/**
 * What a `certSelect` hook returns to refuse the connection with a TLS alert.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for an alert that cannot be sent
 */
export function refuse(alert: RefusalAlert = "unrecognized_name"): Refused {
  if (alert !== "unrecognized_name" && alert !== "access_denied") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The alert of refuse() is ${shown(alert)}: use "unrecognized_name" or "access_denied"`,
    );
  }
  return makeRefused(alert);
}

/** What a `certSelect` hook returns; nothing: the server's own selection decides. */
export type CertSelection = Identity | ContextSelection | Refused | undefined | null | void;

/** What a `certSelect` hook knows of the connection. */
export interface HandshakeInfo extends Endpoints {
  /** The option `tlsUserData` (original: `ssl_userdata`). */
  readonly tlsUserData: unknown;
}

/** Chooses a certificate for a ClientHello (original: `cert_select_cb`). */
export type CertSelect = (
  hello: ClientHello,
  handshake: HandshakeInfo,
) => CertSelection | Promise<CertSelection>;

/** What a hook has chosen, checked. */
export interface CheckedSelection {
  /** The identity to show. */
  readonly identity: Identity;
  /** The application protocols to speak; `undefined`: the server's. */
  readonly alpnProtocols: readonly string[] | undefined;
  /** The policy for client certificates; `null`: none is asked for; `undefined`: the server's. */
  readonly clientAuth: ClientAuth | null | undefined;
}

/**
 * Checks what a hook has returned as its choice, which may be anything.
 *
 * @throws {TlsError} `TLS_SELECTION_FAILED` when it cannot be used
 */
export function checkSelection(
  answer: Identity | ContextSelection,
  served: ServedVersions,
): CheckedSelection {
  if (answer instanceof Identity) {
    return { identity: answer, alpnProtocols: undefined, clientAuth: undefined };
  }
  const { identity, alpnProtocols, clientAuth } = answer;
  // Unknown members are refused: a security check may depend on them.
  const usable = identity instanceof Identity &&
    Object.keys(answer).every((name) => MEMBERS.has(name)) &&
    (clientAuth === undefined || clientAuth === null || clientAuth instanceof ClientAuth) &&
    (alpnProtocols === undefined || areServed(alpnProtocols, served));
  if (usable) return { identity, alpnProtocols, clientAuth };
  throw new TlsError(
    "TLS_SELECTION_FAILED",
    "Hook certSelect returned what cannot be used: return what loadIdentity() gave, or refuse()",
  );
}

const MEMBERS: ReadonlySet<string> = new Set<keyof ContextSelection>([
  "identity",
  "alpnProtocols",
  "clientAuth",
]);

/** Whether these are ALPN names, of 1 to 255 bytes (RFC 7301 section 3.1), that can be served. */
export function areServed(protocols: unknown, served: ServedVersions): boolean {
  return Array.isArray(protocols) &&
    protocols.every((name) =>
      typeof name === "string" && /^[\x20-\x7e]{1,255}$/.test(name) && isServed(name, served)
    );
}
