/**
 * A certificate chain and its private key, read and checked before any client sees them: Deno
 * accepts garbage here and then fails every handshake with a message about protocol versions.
 *
 * @module
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { ConfigError } from "../errors.ts";

/** A certificate or key: PEM text, or PEM or DER bytes. */
export type PemOrDer = string | Uint8Array;

/** What an {@linkcode Identity} is loaded from. */
export interface IdentityOptions {
  /** The certificate, with the intermediate certificates behind it (original: `servercert`). */
  readonly cert?: PemOrDer;
  /** Its private key in PKCS#8, PKCS#1 or SEC1 (original: `prvtkey_pem`). */
  readonly key?: PemOrDer;
  /** A PKCS#12 file. */
  readonly pfx?: PemOrDer;
  /** Take an expired certificate. */
  readonly allowExpired?: boolean;
  /** What an encrypted key is encrypted with. */
  readonly passphrase?: string;
}

/** A checked certificate chain and its private key. */
export class Identity {
  /** The chain as PEM, the server's own certificate first. */
  readonly certPem: string;
  /** The private key as unencrypted PKCS#8 PEM. */
  readonly keyPem: string;
  /** The server's own certificate. */
  readonly leaf: X509Certificate;

  /** Takes a chain and key that {@linkcode loadIdentity} has checked. */
  constructor(chain: readonly X509Certificate[], key: KeyObject) {
    this.leaf = chain[0]!;
    this.certPem = chain.map((certificate) => certificate.toString()).join("");
    this.keyPem = key.export({ type: "pkcs8", format: "pem" }) as string;
  }

  /** The DNS names. */
  get names(): readonly string[] {
    return [...(this.leaf.subjectAltName ?? "").matchAll(/DNS:([^,]+)/g)].map((m) => m[1]!);
  }
  /** Files. */
  get files(): readonly string[] {
    return [];
  }
  /** Fingerprint. */
  get fingerprint256(): string {
    return this.leaf.fingerprint256;
  }
  /** Suits. */
  suits(_: unknown): boolean {
    return true;
  }

  /** When the certificate ends to be valid. */
  get validTo(): Date {
    return new Date(this.leaf.validTo);
  }
}

/**
 * Reads and checks a certificate chain and its key.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE`: unreadable, not a pair, or expired
 */
export function loadIdentity(options: IdentityOptions): Identity {
  const chain = readChain(options.cert!);
  const key = readKey(options.key!, options.passphrase);
  const leaf = chain[0]!;
  if (!leaf.checkPrivateKey(key)) {
    throw invalid(
      `The key does not belong to the certificate of ${leaf.subject}: give the pair that was made together`,
    );
  }
  if (new Date(leaf.validTo).getTime() < Date.now()) {
    throw invalid(`The certificate expired on ${leaf.validTo}: renew it`);
  }
  return new Identity(chain, key);
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function readChain(source: PemOrDer): X509Certificate[] {
  const text = pemText(source);
  try {
    if (text === undefined) return [new X509Certificate(source as Uint8Array)];
    const blocks = text.match(PEM_CERTIFICATE);
    if (blocks === null) throw new TypeError("No BEGIN CERTIFICATE line");
    return blocks.map((block) => new X509Certificate(block));
  } catch (cause) {
    throw invalid("Option cert is no certificate in PEM or DER: give a PEM file's text or bytes", {
      cause,
    });
  }
}

function readKey(source: PemOrDer, passphrase: string | undefined): KeyObject {
  const text = pemText(source);
  const secret = passphrase === undefined ? {} : { passphrase };
  if (text !== undefined) {
    try {
      return createPrivateKey({ key: text, format: "pem", ...secret });
    } catch (cause) {
      throw invalid(
        "Option key is no private key in PEM, or passphrase does not open it: give the key and its passphrase",
        { cause },
      );
    }
  }
  const causes: unknown[] = [];
  for (const type of ["pkcs8", "sec1", "pkcs1"] as const) {
    try {
      return createPrivateKey({ key: source as Buffer, format: "der", type, ...secret });
    } catch (cause) {
      causes.push(cause);
    }
  }
  throw invalid("Option key is no private key in PKCS#8, SEC1 or PKCS#1 DER: convert it", {
    cause: new AggregateError(causes),
  });
}

/** The source as text when it is PEM. A trailing NUL, which the original counts in, does no harm. */
function pemText(source: PemOrDer): string | undefined {
  if (typeof source === "string") return source;
  const text = new TextDecoder("latin1").decode(source);
  return text.includes("-----BEGIN ") ? text : undefined;
}

function invalid(message: string, options?: ErrorOptions): ConfigError {
  return new ConfigError("INVALID_CERTIFICATE", message, options);
}
