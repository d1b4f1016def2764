/**
 * A policy for client certificates, as the server applies it: which are verified, and when a resumed
 * session counts for the certificate that was verified when it began (docs/security.md).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { ConfigError } from "../errors.ts";
import { runtime } from "../runtime/current.ts";
import { type Certificate, readCertificate } from "./certificate.ts";
import { firstElement } from "./der.ts";
import type { ClientAuthOptions, WrittenClientAuth } from "./options.ts";
import { type PeerCertificate, peerCertificate } from "./peer_certificate.ts";
import { derOf, invalid, type Material, pemBlocks, readSource, type Source } from "./source.ts";
import type { Handshaken } from "./handshaken.ts";
import { digestOf } from "./watch.ts";
import { loadX509 } from "./x509.ts";

/** A policy, and the files that it was read from. */
export interface LoadedPolicy {
  /** The policy. */
  readonly policy: ClientPolicy;
  /** The absolute paths of the files. */
  readonly files: readonly string[];
  /** A digest of their contents as they were read, to notice changes. */
  readonly digest: string;
}

/** What is known of a client's certificate after a handshake. */
export interface ClientVerdict {
  /** The certificate, if one was shown. */
  readonly certificate: PeerCertificate | undefined;
  /** Whether it was verified. */
  readonly authorized: boolean;
  /** Why it was rejected; `undefined` when it was not. */
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

/** When a certificate is valid, in ms since 1970; `NaN` for what cannot be read. */
interface Validity {
  readonly from: number;
  readonly to: number;
}

/** Deno's TLS takes no longer message; Bun's would. */
const MAX_CERTIFICATE_BYTES = 2 ** 16 - 1;

/** What a {@linkcode ClientPolicy} is made of. */
export interface PolicyParts {
  /** The certificates of the option `ca`, read and checked. */
  readonly certificates: readonly Certificate[];
  /** Whether a certificate must be shown. */
  readonly required: boolean;
}

/**
 * A checked policy. Contexts that share it share what it remembers, so that rotating the server's
 * certificate does not cost the clients their sessions.
 */
export class ClientPolicy {
  /** The certificates of the option `ca` as PEM. */
  readonly ca: readonly string[];
  /** Whether a certificate must be shown. */
  readonly required: boolean;
  /** Those of them that may issue others. */
  readonly #authorities: readonly string[];
  /** Digests of the others, each of which lets in only itself. */
  readonly #pinned: ReadonlySet<string>;
  /** The certificates that were verified in a full handshake, by their digests. */
  readonly #verified = new Map<string, Validity>();

  /**
   * Makes a policy. What was verified by one of `previous` counts as verified by this one too if it
   * has all of that one's CAs.
   *
   * @throws {ConfigError} `NOT_SUPPORTED` on Bun for an intermediate CA without its root
   */
  constructor({ certificates, required }: PolicyParts, previous: Iterable<ClientPolicy> = []) {
    const issuing = certificates.filter(({ mayIssue }) => mayIssue);
    this.ca = certificates.map(pemOf);
    this.required = required;
    this.#authorities = issuing.map(pemOf);
    this.#pinned = new Set(
      certificates.filter(({ mayIssue }) => !mayIssue).map(({ x509 }) => digest(x509.raw)),
    );
    assertAnchors(issuing);
    for (const narrower of previous) {
      if (!narrower.ca.every((authority) => this.ca.includes(authority))) continue;
      for (const [shown, validity] of narrower.#verified) this.#verified.set(shown, validity);
    }
  }

  /** The same for policies that ask for the same. */
  get key(): string {
    return [this.required, ...this.ca.toSorted()].join("\n");
  }

  /**
   * The options of `tls.createServer()` that ask for what this policy judges. Where certificates are
   * pinned, the runtime must let a handshake end that it would refuse: Bun knows no pinned ones, and
   * Deno takes them for authorities, so that the owner of one could issue others.
   */
  get tlsOptions(): { ca: string[]; requestCert: true; rejectUnauthorized: boolean } {
    return {
      // Without any, the runtime would take the system's.
      ca: [...(this.#authorities.length > 0 ? this.#authorities : this.ca)],
      requestCert: true,
      rejectUnauthorized: this.required && this.#pinned.size === 0,
    };
  }

  /**
   * Judges a client after its handshake; never throws. The runtime's own verdict counts only in a full
   * handshake: Deno verifies no certificate when a session is resumed, and lets a session of any
   * server of the process be resumed at any other. So a resumed session is accepted only with a
   * certificate that was verified here before. Bun is held to the same rule. A certificate that was
   * verified before is not parsed again, which takes longer than all else here; only its dates count.
   */
  judge(socket: Handshaken, now: number = Date.now()): ClientVerdict {
    let certificate: PeerCertificate | undefined;
    let error: string | undefined;
    try {
      certificate = shownOn(socket);
      if (certificate === undefined) return NOT_ASKED;
      const shown = digest(certificate.der);
      const validity = this.#verified.get(shown) ?? validityOf(certificate);
      error = objectionTo(certificate.der) ?? untimely(validity, now) ??
        this.#objection(socket, shown);
      if (error === undefined) this.#remember(shown, validity);
    } catch {
      error = "CERT_UNREADABLE"; // the runtimes parse more leniently in the handshake than here
    }
    return { certificate, authorized: error === undefined, error };
  }

  #objection(socket: Handshaken, shown: string): string | undefined {
    if (socket.isSessionReused()) {
      return this.#verified.has(shown) ? undefined : "SESSION_NOT_VERIFIED";
    }
    if (this.#pinned.has(shown)) return undefined;
    if (this.#authorities.length === 0) return "UNABLE_TO_VERIFY_LEAF_SIGNATURE";
    return socket.authorized ? undefined : String(socket.authorizationError ?? "NOT_VERIFIED");
  }

  #remember(digest: string, validity: Validity): void {
    this.#verified.delete(digest);
    this.#verified.set(digest, validity);
    if (this.#verified.size > MAX_REMEMBERED) {
      this.#verified.delete(this.#verified.keys().next().value!);
    }
  }
}

/** The certificate that a client showed, asked for in the way that costs this runtime less. */
function shownOn(socket: Handshaken): PeerCertificate | undefined {
  if (runtime.name === "deno") {
    const x509 = socket.getPeerX509Certificate();
    return x509 && peerCertificate(x509.raw, x509);
  }
  const der = socket.getPeerCertificate()?.raw;
  return der && peerCertificate(der);
}

function validityOf({ validFrom, validTo }: PeerCertificate): Validity {
  return { from: validFrom.getTime(), to: validTo.getTime() };
}

/** Why every policy rejects a certificate, whatever the runtime has found; `undefined`: it does not. */
function objectionTo(der: Uint8Array): string | undefined {
  if (der.length > MAX_CERTIFICATE_BYTES) return "CERT_TOO_LARGE";
  if (!hasExtensions(der)) return "CERT_WITHOUT_EXTENSIONS";
  return undefined;
}

/** The same for its dates, written so that one that cannot be read fails. */
function untimely({ from, to }: Validity, now: number): string | undefined {
  if (!(to >= now)) return "CERT_HAS_EXPIRED";
  if (!(from <= now)) return "CERT_NOT_YET_VALID";
  return undefined;
}

/**
 * Whether a certificate is of version 3 (RFC 5280 section 4.1.2.1). Older ones cannot say what they
 * are for; Deno refuses them, Bun does not.
 */
function hasExtensions(der: Uint8Array): boolean {
  const { content: body } = firstElement(firstElement(der).content);
  return VERSION_3.every((byte, index) => body[index] === byte);
}

/** `[0] EXPLICIT INTEGER 2`, the first field of a certificate of version 3. */
const VERSION_3 = [0xa0, 3, 2, 1, 2];

/**
 * Reads and checks a policy, files too; its options were checked before.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` naming the file or option when a certificate cannot be
 * read or has expired; `NOT_SUPPORTED` on Bun for an intermediate CA without its root
 */
export async function loadPolicy(
  { ca, mode, option = "clientAuth.ca" }: WrittenClientAuth,
  previous: Iterable<ClientPolicy> = [],
): Promise<LoadedPolicy> {
  const materials = await Promise.all(listOf(ca).map((source) => readSource(source, option)));
  const certificates = readAuthorities(materials, option);
  await loadX509(); // which reads clients' certificates when a handler looks at them
  const contents = new Map<string, Uint8Array>();
  for (const { file, bytes } of materials) if (file !== undefined) contents.set(file, bytes);
  const parts = { certificates, required: mode !== "optional" };
  return {
    policy: new ClientPolicy(parts, previous),
    files: [...contents.keys()],
    digest: digestOf([...contents.values()]),
  };
}

/** The sources of an option `ca`, which may be one or several. */
export function listOf(ca: ClientAuthOptions["ca"]): readonly Source[] {
  return Array.isArray(ca) ? ca as readonly Source[] : [ca as Source];
}

/**
 * Reads all certificates of the sources, and checks them.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` naming the file or option when one cannot be read or has
 * expired
 */
export function readAuthorities(materials: readonly Material[], option: string): Certificate[] {
  if (materials.length === 0) {
    throw invalid(`Option ${option} is empty: give the CA's certificate`);
  }
  return materials.flatMap((material) => {
    const certificates = pemBlocks(material)?.filter(({ label }) => label === "CERTIFICATE")
      .map(derOf) ?? [material.bytes];
    if (certificates.length === 0) {
      throw invalid(`${material.name} has no BEGIN CERTIFICATE line: give the CA's certificate`);
    }
    return certificates.map((der) => readAuthority(der, material.name));
  });
}

function readAuthority(der: Uint8Array, source: string): Certificate {
  const certificate = readCertificate(der, source);
  const { x509, name } = certificate;
  if (x509.validToDate < new Date()) {
    throw invalid(`${name} expired on ${x509.validToDate.toISOString()}: give its successor`);
  }
  return certificate;
}

/** Bun trusts no intermediate authority by itself: each needs its issuers, up to the root. */
function assertAnchors(issuing: readonly Certificate[]): void {
  if (runtime.name !== "bun") return;
  for (const { name, x509, isSelfIssued } of issuing) {
    if (isSelfIssued || issuing.some((issuer) => x509.checkIssued(issuer.x509))) continue;
    throw new ConfigError(
      "NOT_SUPPORTED",
      `${name} is an intermediate authority's, which Bun does not trust without its root: give the ` +
        "certificates of its issuers too",
    );
  }
}

function pemOf({ x509 }: Certificate): string {
  return x509.toString();
}

function digest(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("hex");
}
