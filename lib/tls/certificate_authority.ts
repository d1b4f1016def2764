/**
 * A certificate authority that issues X.509 version 3 certificates (RFC 5280), for development and
 * tests.
 *
 * @module
 */
import { X509Certificate as ParsedCertificate } from "node:crypto";
import { isIPv4, isIPv6 } from "node:net";
import type {
  Extension,
  JsonGeneralName,
  KeyUsageFlags,
  Name,
  X509Certificate,
} from "@peculiar/x509";
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import { checkOptions, members } from "../options.ts";
import { assertRuntime } from "../runtime/capabilities.ts";
import {
  AUTHORITY_OPTIONS,
  type CertificateAuthorityOptions,
  type CertificateOptions,
  ISSUE_OPTIONS,
  ISSUED_BESIDES,
  type IssueOptions,
} from "./authority_options.ts";
import { exportPrivateKey, importKeyPair, isRsa, keyPairFor, parsePrivateKey } from "./key_pair.ts";
import { serialNumberOf } from "./spelling.ts";
import { loadX509, x509Library } from "./x509.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Browsers refuse leaf certificates that are valid for longer than 398 days. */
const MAX_LEAF_DAYS = 397;
const DEFAULT_LEAF_DAYS = 365;
const DEFAULT_AUTHORITY_DAYS = 3650;
const MAX_COMMON_NAME = 64; // RFC 5280 appendix A.1: ub-common-name

/** A certificate with its private key. */
export interface IssuedCertificate {
  /** PEM: the certificate, followed by the intermediates below the root, ready to be served. */
  readonly cert: string;
  /** PEM of the PKCS#8 private key. */
  readonly key: string;
  /** DER of the certificate alone. */
  readonly certDer: Uint8Array;
  /**
   * The serial number, for lists of those that are revoked: spelled as a client's certificate has it
   * (`peerCertificate.serialNumber`), which `node:crypto` does not do on all runtimes.
   */
  readonly serialNumber: string;
}

/** A root or an intermediate that issues certificates. Its `cert` is what clients have to trust. */
export interface CertificateAuthority extends IssuedCertificate {
  /**
   * Issues a certificate for a server or a client, valid at most 397 days.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a name, subject or validity that cannot be used,
   * `INVALID_CERTIFICATE` for a `key` that cannot be read.
   */
  issue(options?: IssueOptions): Promise<IssuedCertificate>;
  /**
   * Issues an intermediate authority, whose leaves carry it in their `cert`. The intermediate's own
   * `cert` likewise holds its chain below the root.
   *
   * @throws {ConfigError} As {@linkcode issue}.
   */
  issueAuthority(options?: CertificateAuthorityOptions): Promise<CertificateAuthority>;
}

/**
 * Makes a root certificate authority.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for a name or validity that cannot be used,
 * `INVALID_CERTIFICATE` for a `key` that cannot be read, `NOT_SUPPORTED` on a runtime that is too old.
 */
export async function createCertificateAuthority(
  options: CertificateAuthorityOptions = {},
): Promise<CertificateAuthority> {
  assertRuntime();
  checkOptions("createCertificateAuthority()", AUTHORITY_OPTIONS, options);
  await loadX509();
  const keys = await keyPairFor(options);
  return authority(await certifyAuthority(options, keys, undefined), keys, "");
}

/** What an authority is read from; a certificate that was issued has more besides. */
const PAIR = members({
  cert: v.string("must be PEM text"),
  key: v.string("must be PEM text"),
  ...ISSUED_BESIDES,
  issue: v.optional(v.unknown()),
  issueAuthority: v.optional(v.unknown()),
});

/**
 * Reads an authority back from PEM, to issue more with it: `ca.pem` and `ca.key`, say.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when certificate or key cannot be read, do not fit
 * each other, or when the certificate may not issue others.
 */
export async function openCertificateAuthority(
  pair: { cert: string; key: string },
): Promise<CertificateAuthority> {
  assertRuntime();
  const { cert, key } = checkOptions("openCertificateAuthority()", PAIR, pair);
  const certificate = parseCertificate(cert);
  if (!certificate.ca) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "The certificate is not an authority's: pass one whose basic constraints say CA:TRUE",
    );
  }
  if (!certificate.checkPrivateKey(parsePrivateKey(key))) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "The authority's private key does not match its certificate: pass the key it was made with",
    );
  }
  const isRoot = certificate.checkIssued(certificate);
  const keys = await importKeyPair(key);
  const { X509Certificate } = await loadX509();
  return authority(new X509Certificate(certificate.raw), keys, isRoot ? "" : cert);
}

/** A certificate with the keys that it is for: what signs others. */
interface Issuer {
  readonly certificate: X509Certificate;
  readonly keys: CryptoKeyPair;
}

/** `chain` is what every issued leaf carries along: this authority and those above, no root. */
async function authority(
  certificate: X509Certificate,
  keys: CryptoKeyPair,
  chain: string,
): Promise<CertificateAuthority> {
  const issuer: Issuer = { certificate, keys };
  return {
    ...await issued(certificate, keys, chain || pemOf(certificate)),
    async issue(options: IssueOptions = {}): Promise<IssuedCertificate> {
      checkOptions("issue()", ISSUE_OPTIONS, options);
      const leafKeys = await keyPairFor(options);
      const leaf = await certifyLeaf(options, leafKeys, issuer);
      return await issued(leaf, leafKeys, pemOf(leaf) + chain);
    },
    async issueAuthority(options: CertificateAuthorityOptions = {}): Promise<CertificateAuthority> {
      checkOptions("issueAuthority()", AUTHORITY_OPTIONS, options);
      const subKeys = await keyPairFor(options);
      const sub = await certifyAuthority(options, subKeys, issuer);
      return authority(sub, subKeys, pemOf(sub) + chain);
    },
  };
}

/** A certificate with its key; `cert` is its PEM with that of its chain. */
async function issued(
  certificate: X509Certificate,
  keys: CryptoKeyPair,
  cert: string,
): Promise<IssuedCertificate> {
  return {
    cert,
    key: await exportPrivateKey(keys),
    certDer: new Uint8Array(certificate.rawData),
    serialNumber: serialNumberOf(certificate.serialNumber),
  };
}

async function certifyAuthority(
  options: CertificateAuthorityOptions,
  keys: CryptoKeyPair,
  issuer: Issuer | undefined,
): Promise<X509Certificate> {
  const name = options.name ?? "httpsd development CA";
  if (name === "" || name.length > MAX_COMMON_NAME) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The authority's name has ${name.length} characters: use 1 to ${MAX_COMMON_NAME}`,
    );
  }
  const { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, Name } = x509Library();
  const extensions = [
    new BasicConstraintsExtension(true, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
  ];
  const validity = validityOf(options, DEFAULT_AUTHORITY_DAYS);
  return await certify(new Name([{ CN: [name] }]), validity, keys, issuer, extensions);
}

async function certifyLeaf(
  options: IssueOptions,
  keys: CryptoKeyPair,
  issuer: Issuer,
): Promise<X509Certificate> {
  const usage = options.usage ?? "server";
  const names = options.names ?? (usage === "server" ? ["localhost", "127.0.0.1", "::1"] : []);
  const validity = validityOf(options, DEFAULT_LEAF_DAYS);
  if (validity.notAfter.getTime() - validity.notBefore.getTime() > MAX_LEAF_DAYS * DAY_MS) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The certificate would be valid for more than ${MAX_LEAF_DAYS} days: clients refuse that`,
    );
  }
  const x509 = x509Library();
  const { clientAuth, serverAuth } = x509.ExtendedKeyUsage;
  const extensions: Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(leafKeyUsage(keys), true),
    new x509.ExtendedKeyUsageExtension([usage === "server" ? serverAuth : clientAuth]),
  ];
  if (names.length > 0) {
    extensions.push(new x509.SubjectAlternativeNameExtension(names.map(generalName)));
  }
  return await certify(leafSubject(options.subject, names), validity, keys, issuer, extensions);
}

/** Signs a certificate for `keys`; without an issuer, with `keys` themselves: a root. */
async function certify(
  subject: Name,
  validity: Validity,
  keys: CryptoKeyPair,
  issuer: Issuer | undefined,
  extensions: Extension[],
): Promise<X509Certificate> {
  const {
    AuthorityKeyIdentifierExtension,
    SubjectKeyIdentifierExtension,
    X509CertificateGenerator,
  } = x509Library();
  const issuerKeyId = issuer?.certificate.getExtension(SubjectKeyIdentifierExtension)?.keyId;
  return await X509CertificateGenerator.create({
    ...validity,
    subject,
    issuer: issuer?.certificate.subjectName ?? subject,
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    extensions: [
      ...extensions,
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      issuerKeyId === undefined
        ? await AuthorityKeyIdentifierExtension.create((issuer?.keys ?? keys).publicKey)
        : new AuthorityKeyIdentifierExtension(issuerKeyId),
    ],
  });
}

interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

function validityOf(options: CertificateOptions, defaultDays: number): Validity {
  const days = options.days ?? defaultDays;
  // An hour ago, for clients whose clocks are behind.
  let notBefore = options.notBefore ?? new Date(Date.now() - HOUR_MS);
  const notAfter = options.notAfter ?? new Date(notBefore.getTime() + days * DAY_MS);
  if (options.notBefore === undefined) {
    notBefore = new Date(Math.min(notBefore.getTime(), notAfter.getTime() - days * DAY_MS));
  }
  if (!(notBefore < notAfter)) { // also when `days` lead to an Invalid Date
    throw new ConfigError(
      "INVALID_CONFIG",
      "The certificate's notBefore is not earlier than its notAfter: swap or correct them",
    );
  }
  return { notBefore, notAfter };
}

/** TLS 1.2 key exchange by RSA encrypts with the certificate's key; nothing else does. */
function leafKeyUsage(keys: CryptoKeyPair): KeyUsageFlags {
  const { KeyUsageFlags } = x509Library();
  return isRsa(keys)
    ? KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment
    : KeyUsageFlags.digitalSignature;
}

function leafSubject(subject: string | undefined, names: string[]): Name {
  if (subject !== undefined) return parseSubject(subject);
  const [first] = names;
  if (first === undefined) {
    throw new ConfigError("INVALID_CONFIG", "The certificate has no name: pass names or subject");
  }
  // Clients match the alternative names; the common name is for people, so it may be cut.
  const { Name } = x509Library();
  return new Name([{ CN: [first.slice(0, MAX_COMMON_NAME)] }]);
}

function parseSubject(subject: string): Name {
  const message =
    `The subject "${subject}" is not a distinguished name: write it as in "CN=alice,O=Acme"`;
  const { Name } = x509Library();
  let name: Name;
  try {
    name = new Name(subject);
  } catch (cause) {
    throw new ConfigError("INVALID_CONFIG", message, { cause });
  }
  // The library reads what has no "=" as a name without attributes.
  if (name.toJSON().length === 0) throw new ConfigError("INVALID_CONFIG", message);
  return name;
}

/** Sorts a name into the kinds of RFC 5280 section 4.2.1.6. */
function generalName(name: string): JsonGeneralName {
  if (!/^[!-~]+$/.test(name)) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The name "${name}" is not printable ASCII without spaces: write it in punycode`,
    );
  }
  if (isIPv6(name)) return { type: "ip", value: new URL(`http://[${name}]`).hostname.slice(1, -1) };
  if (isIPv4(name)) return { type: "ip", value: name };
  if (name.includes("://")) return { type: "url", value: name };
  if (name.includes("@")) return { type: "email", value: name };
  return { type: "dns", value: name };
}

function pemOf(certificate: X509Certificate): string {
  return certificate.toString("pem") + "\n";
}

function parseCertificate(pem: string): ParsedCertificate {
  try {
    return new ParsedCertificate(pem);
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "The certificate cannot be read: pass PEM of an X.509 certificate",
      { cause },
    );
  }
}
