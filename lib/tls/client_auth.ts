/**
 * Client certificates: who must show one, whom it must come from, and when a resumed session may
 * stand for the certificate that was checked when it began (design decision 3).
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { checkOptions } from "../options.ts";
import { runtime } from "../runtime/current.ts";
import { readCertificate } from "./certificate.ts";
import { CLIENT_AUTH } from "./identity_options.ts";
import { derOf, givenMaterial, invalid, pemBlocks, type PemOrDer } from "./source.ts";
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

/** Deno's TLS takes no longer message; Bun's would. */
const MAX_CERTIFICATE_BYTES = 2 ** 16 - 1;

/**
 * A checked policy. Contexts that share it share what it remembers, so that rotating the server's
 * certificate does not cost the clients their sessions.
 */
export class ClientAuth {
  /** The CA certificates as PEM. */
  readonly ca: readonly string[];
  /** Whether a certificate must be shown. */
  readonly required: boolean;
  /** Digests of the certificates that stood in a full handshake. */
  readonly #stood = new Set<string>();

  /**
   * Checks a policy. What stood under one of `previous` stands under this one too if it has all of
   * that one's CAs.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE` when a CA certificate cannot be read or has expired;
   * `INVALID_CONFIG` naming the option
   */
  constructor(options: ClientAuthOptions, previous: Iterable<ClientAuth> = []) {
    const { ca, mode } = checkOptions("ClientAuth", CLIENT_AUTH, options);
    const sources = (Array.isArray(ca) ? ca : [ca]) as readonly PemOrDer[];
    this.ca = sources.flatMap(readAuthorities);
    if (this.ca.length === 0) {
      throw invalid("Option clientAuth.ca is empty: give the CA's certificate");
    }
    this.required = mode === "required";
    for (const narrower of previous) {
      if (!narrower.ca.every((authority) => this.ca.includes(authority))) continue;
      for (const digest of narrower.#stood) this.#stood.add(digest);
    }
  }

  /** The same for policies that ask for the same. */
  get key(): string {
    return [this.required, ...this.ca.toSorted()].join("\n");
  }

  /**
   * Judges a client after its handshake; never throws. The runtime's own word counts only in a full
   * handshake: Deno checks no certificate when a session is resumed, and lets a session of any
   * server of the process be resumed at any other. So a resumed session stands only for a
   * certificate that stood here before. Bun is held to the same rule.
   *
   * @internal
   */
  judge(socket: TLSSocket): ClientVerdict {
    let certificate: PeerCertificate | undefined;
    let error: string | undefined;
    try {
      certificate = shownOn(socket);
      if (certificate === undefined) return NOT_ASKED;
      const digest = createHash("sha256").update(certificate.der).digest("hex");
      error = objectionTo(certificate) ?? this.#runtimeObjection(socket, digest);
      if (error === undefined) this.#remember(digest);
    } catch {
      error = "CERT_UNREADABLE"; // the runtimes parse more leniently in the handshake than here
    }
    return { certificate, authorized: error === undefined, error };
  }

  #runtimeObjection(socket: TLSSocket, digest: string): string | undefined {
    if (socket.isSessionReused()) {
      return this.#stood.has(digest) ? undefined : "SESSION_NOT_VERIFIED";
    }
    return socket.authorized ? undefined : String(socket.authorizationError ?? "NOT_VERIFIED");
  }

  #remember(digest: string): void {
    this.#stood.delete(digest);
    this.#stood.add(digest);
    if (this.#stood.size > MAX_REMEMBERED) this.#stood.delete(this.#stood.keys().next().value!);
  }
}

/** The certificate that a client showed, in the way that costs the runtime less than the other. */
function shownOn(socket: TLSSocket): PeerCertificate | undefined {
  if (runtime.name === "deno") {
    const x509 = socket.getPeerX509Certificate();
    return x509 && new PeerCertificate(x509.raw, x509);
  }
  const der = socket.getPeerCertificate()?.raw;
  return der && new PeerCertificate(der);
}

/** What no policy lets pass, whatever the runtime says; `undefined` when there is nothing. */
function objectionTo({ der, validFrom, validTo }: PeerCertificate): string | undefined {
  const now = new Date();
  if (der.length > MAX_CERTIFICATE_BYTES) return "CERT_TOO_LARGE";
  if (!hasExtensions(der)) return "CERT_WITHOUT_EXTENSIONS";
  // Written so that a date that cannot be read fails.
  if (!(validTo >= now)) return "CERT_HAS_EXPIRED";
  if (!(validFrom <= now)) return "CERT_NOT_YET_VALID";
  return undefined;
}

/**
 * Whether a certificate is of version 3 (RFC 5280 section 4.1.2.1). Older ones cannot say what they
 * are for; Deno refuses them, Bun does not.
 */
function hasExtensions(der: Uint8Array): boolean {
  const toBeSigned = headerBytes(der, 0);
  const version = toBeSigned + headerBytes(der, toBeSigned);
  return VERSION_3.every((byte, index) => der[version + index] === byte);
}

/** `[0] EXPLICIT INTEGER 2`, the first field of a certificate of version 3. */
const VERSION_3 = [0xa0, 3, 2, 1, 2];

/** How long the tag and length at `offset` are (X.690 section 8.1). */
function headerBytes(der: Uint8Array, offset: number): number {
  const length = der[offset + 1] ?? 0;
  return length < 0x80 ? 2 : 2 + (length & 0x7f);
}

/** All certificates of a source, checked, each as PEM. */
function readAuthorities(source: PemOrDer): string[] {
  const material = givenMaterial(source, "Option clientAuth.ca");
  const authorities = pemBlocks(material)?.filter(({ label }) => label === "CERTIFICATE")
    .map(derOf) ?? [material.bytes];
  if (authorities.length === 0) {
    throw invalid("Option clientAuth.ca has no BEGIN CERTIFICATE line: give the CA's certificate");
  }
  return authorities.map(readAuthority);
}

function readAuthority(der: Uint8Array): string {
  const { x509, name } = readCertificate(der, "Option clientAuth.ca");
  if (x509.validToDate < new Date()) {
    throw invalid(`${name} expired on ${x509.validToDate.toISOString()}: give its successor`);
  }
  return x509.toString();
}
