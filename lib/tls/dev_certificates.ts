/**
 * Certificates for the desk and for tests: a certificate authority that issues X.509 version 3
 * certificates (RFC 5280), and a directory that keeps one for `localhost`.
 *
 * Nothing here is for the public web: no revocation, no renewal in the background, and keys lie in
 * files.
 *
 * @module
 */
// The ASN.1 library under @peculiar/x509 reads decorator metadata: this import must come first.
import "reflect-metadata";
import {
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  X509Certificate as ParsedCertificate,
} from "node:crypto";
import { link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { isIPv4, isIPv6 } from "node:net";
import { join } from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import * as v from "valibot";
import { assertRuntime } from "../runtime/capabilities.ts";
import { ConfigError } from "../errors.ts";
import { adviceFrom, checkOptions, members, oneOf, shown, text } from "../options.ts";
import { runtime } from "../runtime/current.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Browsers refuse leaf certificates that live longer than 398 days. */
const MAX_LEAF_DAYS = 397;
const DEFAULT_LEAF_DAYS = 365;
const DEFAULT_AUTHORITY_DAYS = 3650;
const RENEW_BEFORE_MS = 30 * DAY_MS;
const MAX_COMMON_NAME = 64; // RFC 5280 appendix A.1: ub-common-name

/** The kind of key pair to make. */
export type KeyAlgorithm = "ECDSA P-256" | "RSA 2048";

/** When a certificate is valid, and the key that it is for. */
export interface CertificateOptions {
  /** Days from `notBefore` to `notAfter`. Default: 365; for an authority 3650. */
  days?: number;
  /** First moment of validity. Default: an hour ago, or `days` before `notAfter` if earlier. */
  notBefore?: Date;
  /** Last moment of validity. Default: `days` after `notBefore`. */
  notAfter?: Date;
  /** The kind of key pair to make when no `key` is given. Default: `"ECDSA P-256"`. */
  algorithm?: KeyAlgorithm;
  /** The private key to certify, PEM of PKCS#8: P-256 or RSA. Default: a new one. */
  key?: string;
}

/** What a certificate authority is made of. */
export interface CertificateAuthorityOptions extends CertificateOptions {
  /** The common name. Default: `"httpsd development CA"`. */
  name?: string;
}

/** What a leaf certificate is made of. */
export interface IssueOptions extends CertificateOptions {
  /**
   * The subject alternative names: DNS names (also wildcards), IP addresses, e-mail addresses (with
   * an `@`) and URIs (with `://`). Default: `["localhost", "127.0.0.1", "::1"]` for a server, none
   * for a client.
   */
  names?: string[];
  /** The side that the certificate is for (extended key usage). Default: `"server"`. */
  usage?: "server" | "client";
  /** The subject, as in `"CN=alice,O=Acme"` (RFC 4514). Default: the first name as common name. */
  subject?: string;
}

/** A certificate with its private key. */
export interface IssuedCertificate {
  /** PEM: the certificate, followed by the intermediates below the root, ready to be served. */
  readonly cert: string;
  /** PEM of the PKCS#8 private key. */
  readonly key: string;
  /** DER of the certificate alone. */
  readonly certDer: Uint8Array;
}

/** A root or an intermediate that issues certificates. Its `cert` is what clients shall trust. */
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

/** A certificate for `localhost` and the authority to trust for it, as texts and as files. */
export interface DevCertificates {
  /** PEM of the certificate for `localhost`, `127.0.0.1` and `::1`. */
  readonly cert: string;
  /** PEM of its PKCS#8 private key. */
  readonly key: string;
  /** PEM of the authority that browsers and clients have to trust. */
  readonly ca: string;
  /** Where `cert` lies: `localhost.pem`. */
  readonly certFile: string;
  /** Where `key` lies: `localhost.key`. */
  readonly keyFile: string;
  /** Where `ca` lies: `ca.pem`. */
  readonly caFile: string;
}

const date = v.optional(
  v.custom<Date>(
    (value) => value instanceof Date && !Number.isNaN(value.getTime()),
    "must be a Date that is none of the invalid ones",
  ),
);

/** X.509 cannot write years beyond 9999 (RFC 5280 section 4.1.2.5). */
const MAX_DAYS = 2_000_000;
const DAYS_MESSAGE = `must be a number of days, more than 0 and at most ${MAX_DAYS}`;

const CERTIFICATE_ENTRIES = {
  days: v.optional(v.pipe(
    v.number(DAYS_MESSAGE),
    v.check((days) => days > 0 && days <= MAX_DAYS, DAYS_MESSAGE),
  )),
  notBefore: date,
  notAfter: date,
  algorithm: v.optional(oneOf("ECDSA P-256", "RSA 2048")),
  key: v.optional(v.string("must be PEM text")),
};

const VALIDITY_NAMES = {
  validity: "write days",
  validDays: "write days",
  expires: "write notAfter",
  validFrom: "write notBefore",
  validTo: "write notAfter",
  keyType: "write algorithm",
  keySize: 'write algorithm: "RSA 2048"',
};

const AUTHORITY_OPTIONS = members({ ...CERTIFICATE_ENTRIES, name: v.optional(text) }, {
  advice: adviceFrom(VALIDITY_NAMES, {
    cn: "write name",
    commonName: "write name",
    subject: "write name",
    pathLength: "leave it out: there is no limit",
  }),
  shape: "an object of CertificateAuthorityOptions",
});

const ISSUE_OPTIONS = members({
  ...CERTIFICATE_ENTRIES,
  names: v.optional(v.array(v.string("must be names"), "must be an array of names")),
  usage: v.optional(oneOf("server", "client")),
  subject: v.optional(text),
}, {
  advice: adviceFrom(VALIDITY_NAMES, {
    name: 'write names: ["…"], or subject: "CN=…"',
    cn: 'write subject: "CN=…"',
    commonName: 'write subject: "CN=…"',
    organization: 'write subject: "CN=…,O=…"',
    san: "write names",
    altNames: "write names",
    subjectAltName: "write names",
    hosts: "write names",
    domains: "write names",
    dns: "write names",
    ips: "write names",
    client: 'write usage: "client"',
    extKeyUsage: "write usage",
  }),
  shape: "an object of IssueOptions",
});

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
  const keys = await keyPairFor(options);
  return authority(await certifyAuthority(options, keys, undefined), keys, "");
}

/** What an authority is read from; a certificate that was issued has its DER besides. */
const PAIR = members({
  cert: v.string("must be PEM text"),
  key: v.string("must be PEM text"),
  certDer: v.optional(v.unknown()),
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
      "The certificate is no authority: pass one whose basic constraints say CA:TRUE",
    );
  }
  if (!certificate.checkPrivateKey(parsePrivateKey(key))) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "The authority's private key does not fit its certificate: pass the key it was made with",
    );
  }
  const isRoot = certificate.checkIssued(certificate);
  const keys = await importKeyPair(key);
  return authority(new X509Certificate(certificate.raw), keys, isRoot ? "" : cert);
}

/**
 * Returns the certificates kept in `directory`, and makes what is missing, does not fit or expires
 * within 30 days: `ca.pem`, `ca.key`, `localhost.pem` and `localhost.key`. The directory is made if
 * need be; key files get mode 0600.
 *
 * A key that is there is never replaced, and certificates are made for the keys that are there. So
 * processes that start at once agree on the keys, and every pair fits whoever wrote it last.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when the directory cannot be read or written, or when
 * a key in it cannot be used, saying why and what to do; `INVALID_CONFIG` when it is no path;
 * `NOT_SUPPORTED` on a runtime that is too old.
 */
export async function devCertificates(directory: string): Promise<DevCertificates> {
  assertRuntime();
  if (typeof directory !== "string" || directory === "") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The directory of devCertificates() must be a path, not ${
        directory === "" ? "an empty text" : shown(directory)
      }: write devCertificates("certs")`,
    );
  }
  const caFile = join(directory, "ca.pem");
  const certFile = join(directory, "localhost.pem");
  const keyFile = join(directory, "localhost.key");
  try {
    const kept = await readKept(caFile, certFile, keyFile);
    if (kept !== undefined) return { ...kept, caFile, certFile, keyFile };

    await mkdir(directory, { recursive: true });
    const ca = await keptAuthority(caFile, join(directory, "ca.key"));
    const leaf = await ca.issue({ key: await keptKey(keyFile) });
    await replaceFile(certFile, leaf.cert);
    return { cert: leaf.cert, key: leaf.key, ca: ca.cert, caFile, certFile, keyFile };
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      `Certificates cannot be kept in ${directory}: ${whyUnusable(cause, directory)}`,
      { cause },
    );
  }
}

/** What is wrong with a directory, and what to do. */
function whyUnusable(cause: unknown, directory: string): string {
  const { name, code, path, message } = cause as NodeJS.ErrnoException;
  const what = path ?? directory;
  if (cause instanceof ConfigError) return `a file in it is broken, delete it (${message})`;
  if (name === "NotCapable") {
    return `Deno may not use it, run it with --allow-read=${directory} --allow-write=${directory}`;
  }
  switch (code) {
    case "EACCES":
    case "EPERM":
      return `this process may not read and write ${what}: let its user do so, or name another`;
    case "EROFS":
      return `${what} lies on a file system that is read-only: name another directory`;
    case "ENOTDIR":
    case "EEXIST":
      return `${what} is, or lies below, a file: name a directory`;
    case "ENOSPC":
    case "EDQUOT":
      return "there is no space left: make some, or name another directory";
    default:
      return `${runtime.name} ${runtime.version} says: ${message ?? cause}`;
  }
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
    cert: chain || pemOf(certificate),
    key: await exportPrivateKey(keys),
    certDer: new Uint8Array(certificate.rawData),
    async issue(options: IssueOptions = {}): Promise<IssuedCertificate> {
      checkOptions("issue()", ISSUE_OPTIONS, options);
      const leafKeys = await keyPairFor(options);
      const leaf = await certifyLeaf(options, leafKeys, issuer);
      return {
        cert: pemOf(leaf) + chain,
        key: await exportPrivateKey(leafKeys),
        certDer: new Uint8Array(leaf.rawData),
      };
    },
    async issueAuthority(options: CertificateAuthorityOptions = {}): Promise<CertificateAuthority> {
      checkOptions("issueAuthority()", AUTHORITY_OPTIONS, options);
      const subKeys = await keyPairFor(options);
      const sub = await certifyAuthority(options, subKeys, issuer);
      return authority(sub, subKeys, pemOf(sub) + chain);
    },
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
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(leafKeyUsage(keys), true),
    new ExtendedKeyUsageExtension([
      usage === "server" ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth,
    ]),
  ];
  if (names.length > 0) {
    extensions.push(new SubjectAlternativeNameExtension(names.map(generalName)));
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
  return new Name([{ CN: [first.slice(0, MAX_COMMON_NAME)] }]);
}

function parseSubject(subject: string): Name {
  const message =
    `The subject "${subject}" is no distinguished name: write it as in "CN=alice,O=Acme"`;
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

const ECDSA: EcKeyImportParams & EcKeyGenParams = { name: "ECDSA", namedCurve: "P-256" };
const RSA: RsaHashedKeyGenParams = {
  name: "RSASSA-PKCS1-v1_5",
  hash: "SHA-256",
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
};

function isRsa(keys: CryptoKeyPair): boolean {
  return keys.publicKey.algorithm.name === RSA.name;
}

async function keyPairFor({ key, algorithm }: CertificateOptions): Promise<CryptoKeyPair> {
  if (key !== undefined) return await importKeyPair(key);
  const parameters = algorithm === "RSA 2048" ? RSA : ECDSA;
  return await crypto.subtle.generateKey(parameters, true, ["sign", "verify"]) as CryptoKeyPair;
}

async function importKeyPair(pem: string): Promise<CryptoKeyPair> {
  const privateKey = parsePrivateKey(pem);
  const parameters = privateKey.asymmetricKeyType === "rsa" ? RSA : ECDSA;
  const pkcs8 = new Uint8Array(privateKey.export({ type: "pkcs8", format: "der" }));
  const spki = new Uint8Array(createPublicKey(pem).export({ type: "spki", format: "der" }));
  try {
    return {
      privateKey: await crypto.subtle.importKey("pkcs8", pkcs8, parameters, true, ["sign"]),
      publicKey: await crypto.subtle.importKey("spki", spki, parameters, true, ["verify"]),
    };
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "The private key is neither P-256 nor RSA: pass one that is",
      { cause },
    );
  }
}

async function exportPrivateKey(keys: CryptoKeyPair): Promise<string> {
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return PemConverter.encode(pkcs8, "PRIVATE KEY") + "\n";
}

function pemOf(certificate: X509Certificate): string {
  return certificate.toString("pem") + "\n";
}

function parsePrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "The private key cannot be read: pass PEM of an unencrypted P-256 or RSA key",
      { cause },
    );
  }
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

type Kept = Pick<DevCertificates, "ca" | "cert" | "key">;

/** The files' texts, if all are there, fit each other and will still do for a while. */
async function readKept(
  caFile: string,
  certFile: string,
  keyFile: string,
): Promise<Kept | undefined> {
  const ca = await readIfThere(caFile);
  const cert = await readIfThere(certFile);
  const key = await readIfThere(keyFile);
  if (ca === undefined || cert === undefined || key === undefined) return undefined;
  const issuer = currentCertificate(ca);
  const leaf = currentCertificate(cert);
  if (issuer === undefined || leaf === undefined) return undefined;
  const fits = leaf.verify(issuer.publicKey) && leaf.checkPrivateKey(parsePrivateKey(key));
  return fits ? { ca, cert, key } : undefined;
}

/** The authority in the files; a new certificate for its key if the old one will not do. */
async function keptAuthority(caFile: string, keyFile: string): Promise<CertificateAuthority> {
  const key = await keptKey(keyFile);
  const cert = await readIfThere(caFile);
  if (cert !== undefined && currentCertificate(cert)?.checkPrivateKey(parsePrivateKey(key))) {
    return await openCertificateAuthority({ cert, key });
  }
  const ca = await createCertificateAuthority({ key });
  await replaceFile(caFile, ca.cert);
  return ca;
}

/** Parses a certificate; nothing if it is unreadable or expires soon, so that it gets replaced. */
function currentCertificate(pem: string): ParsedCertificate | undefined {
  let certificate: ParsedCertificate;
  try {
    certificate = new ParsedCertificate(pem);
  } catch {
    return undefined;
  }
  return Date.parse(certificate.validTo) - Date.now() > RENEW_BEFORE_MS ? certificate : undefined;
}

/** The key in the file; a new one is put there only if nobody else has put one in the meantime. */
async function keptKey(file: string): Promise<string> {
  const kept = await readIfThere(file);
  if (kept !== undefined) return kept;
  const temporary = await writeTemporary(file, await exportPrivateKey(await keyPairFor({})));
  try {
    await link(temporary, file); // unlike rename(), fails if the file exists
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  } finally {
    await rm(temporary);
  }
  return await readFile(file, "utf8");
}

async function replaceFile(file: string, text: string): Promise<void> {
  await rename(await writeTemporary(file, text), file);
}

/** Writes a new file beside `file`, for its owner only when it is a key. */
async function writeTemporary(file: string, text: string): Promise<string> {
  const temporary = `${file}.${crypto.randomUUID()}.tmp`;
  await writeFile(temporary, text, { flag: "wx", mode: file.endsWith(".key") ? 0o600 : 0o644 });
  return temporary;
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
