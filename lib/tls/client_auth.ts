/**
 * Client certificates: who must show one, whom it must come from, and when a resumed session may
 * stand for the certificate that was checked when it began (design decision 3).
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { ConfigError } from "../errors.ts";
import type { PemOrDer } from "./identity.ts";
import { pemText } from "./pem.ts";
import { PeerCertificate } from "./tls_info.ts";

/** A policy for client certificates. */
export interface ClientAuthOptions {
  /** The certificates that clients' certificates must be issued by, as PEM or DER. */
  readonly ca: PemOrDer | readonly PemOrDer[];
  /**
   * `"required"`: no connection without a certificate that stands. `"optional"`: `authorized` says
   * whether one was shown and stands. Default: `"required"`.
   */
  readonly mode?: "required" | "optional";
}

/** What is known of a client's certificate after a handshake. */
export interface ClientVerdict {
  /** The certificate, if one was shown. */
  readonly certificate: PeerCertificate | undefined;
  /** Whether it stands. */
  readonly authorized: boolean;
  /** Why it does not. */
  readonly error: string | undefined;
}

/** The verdict of a connection whose client was not asked for a certificate. */
export const NOT_ASKED: ClientVerdict = {
  certificate: undefined,
  authorized: false,
  error: undefined,
};

/** The certificates that one policy remembers; the one unseen for longest makes room. */
const MAX_REMEMBERED = 50_000;

/**
 * A checked policy. Contexts that share it share what it remembers, so that rotating the server's
 * certificate does not cost the clients their sessions; another set of CAs is another policy.
 */
export class ClientAuth {
  /** The CA certificates as PEM. */
  readonly ca: readonly string[];
  /** Whether a certificate must be shown. */
  readonly required: boolean;
  /** The leaf certificates that stood in a full handshake, and until when (ms since the epoch). */
  readonly #stood = new Map<string, number>();

  /**
   * Checks a policy.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE` when a CA certificate cannot be read or has expired
   */
  constructor(options: ClientAuthOptions) {
    const sources = Array.isArray(options.ca) ? options.ca : [options.ca];
    this.ca = sources.flatMap((source) => readAuthorities(source));
    this.required = (options.mode ?? "required") === "required";
  }

  /**
   * Judges a client after its handshake. The runtime's own word counts only in a full handshake:
   * Deno checks no certificate when a session is resumed, and lets a session of any server of the
   * process be resumed at any other. So a resumed session stands only for a certificate that stood
   * here before and has not expired since. Bun is held to the same rule.
   */
  judge(socket: TLSSocket): ClientVerdict {
    const der = socket.getPeerCertificate()?.raw;
    if (der === undefined) return NOT_ASKED;
    const certificate = new PeerCertificate(der);
    const authorized = socket.isSessionReused()
      ? this.#stands(certificate)
      : socket.authorized && this.#remember(certificate);
    const error = authorized ? undefined : String(socket.authorizationError ?? "NOT_VERIFIED");
    return { certificate, authorized, error };
  }

  #stands(certificate: PeerCertificate): boolean {
    const until = this.#stood.get(certificate.fingerprint256);
    if (until === undefined || until < Date.now()) return false;
    return this.#remember(certificate);
  }

  #remember(certificate: PeerCertificate): true {
    const key = certificate.fingerprint256;
    this.#stood.delete(key);
    this.#stood.set(key, certificate.validTo.getTime());
    if (this.#stood.size > MAX_REMEMBERED) {
      this.#stood.delete(this.#stood.keys().next().value!);
    }
    return true;
  }
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function readAuthorities(source: PemOrDer): string[] {
  const text = pemText(source);
  let authorities: X509Certificate[];
  try {
    authorities = text === undefined
      ? [new X509Certificate(source)]
      : (text.match(PEM_CERTIFICATE) ?? []).map((block) => new X509Certificate(block));
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "Option clientAuth.ca is no certificate in PEM or DER: give the CA's certificate",
      { cause },
    );
  }
  if (authorities.length === 0) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "Option clientAuth.ca holds no BEGIN CERTIFICATE line: give the CA's certificate as PEM",
    );
  }
  for (const { subject, validTo } of authorities) {
    if (new Date(validTo).getTime() >= Date.now()) continue;
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      `The client CA ${subject} expired on ${validTo}: give its successor`,
    );
  }
  return authorities.map((authority) => authority.toString());
}
