/**
 * Certificates for development and for tests: a certificate authority, and a directory that keeps a
 * certificate for `localhost`.
 *
 * Nothing here is for the public web: no revocation, no renewal in the background, and keys lie in
 * files.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../errors.ts";
import { shown } from "../options.ts";
import { assertRuntime } from "../runtime/capabilities.ts";
import { runtime } from "../runtime/current.ts";
import { createFile, readIfThere, replaceFile } from "../whole_files.ts";
import {
  type CertificateAuthority,
  createCertificateAuthority,
  openCertificateAuthority,
} from "./certificate_authority.ts";
import type { CertificateSource } from "./certificate_source.ts";
import type { Identity } from "./loaded_identity.ts";
import { exportPrivateKey, keyPairFor, parsePrivateKey } from "./key_pair.ts";

export type {
  CertificateAuthorityOptions,
  CertificateOptions,
  IssueOptions,
  KeyAlgorithm,
} from "./authority_options.ts";
export {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
  openCertificateAuthority,
} from "./certificate_authority.ts";
export { exportPkcs12, type Pkcs12Options } from "./pkcs12_export.ts";

/** Whoever may read the directory may have the certificates. */
const CERTIFICATE_MODE = 0o644;

const RENEW_BEFORE_MS = 30 * 24 * 3_600_000;

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

/**
 * Returns the certificates kept in `directory`, and makes what is missing, does not fit or expires
 * within 30 days: `ca.pem`, `ca.key`, `localhost.pem` and `localhost.key`. The directory is created
 * if it does not exist; key files get mode 0600.
 *
 * A key that is there is never replaced, and certificates are made for the keys that are there. So
 * processes that start at once agree on the keys, and every pair fits whichever process wrote it
 * last.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when the directory cannot be read or written, or when
 * a key in it cannot be used, saying why and what to do; `INVALID_CONFIG` when it is not a path;
 * `NOT_SUPPORTED` on a runtime that is too old.
 */
export async function devCertificates(directory: string): Promise<DevCertificates> {
  assertRuntime();
  assertDirectory("devCertificates", directory);
  const caFile = join(directory, "ca.pem");
  const certFile = join(directory, "localhost.pem");
  const keyFile = join(directory, "localhost.key");
  try {
    const kept = await readKept(caFile, certFile, keyFile);
    if (kept !== undefined) return { ...kept, caFile, certFile, keyFile };

    await mkdir(directory, { recursive: true });
    const ca = await keptAuthority(caFile, join(directory, "ca.key"));
    const leaf = await ca.issue({ key: await keptKey(keyFile) });
    await replaceFile(certFile, leaf.cert, CERTIFICATE_MODE);
    return { cert: leaf.cert, key: leaf.key, ca: ca.cert, caFile, certFile, keyFile };
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      `Certificates cannot be kept in ${directory}: ${whyUnusable(cause, directory)}`,
      { cause },
    );
  }
}

/**
 * Makes a source of the certificates kept in `directory`, as {@linkcode devCertificates} keeps them,
 * for the option `certificates`: it is shown to clients that ask for `localhost` or for no name.
 * What is missing is made when the server starts. On a public name, put `automaticCertificates()` in
 * its place.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the directory is not a path. The start fails as
 * {@linkcode devCertificates} does.
 */
export function devCertificateSource(directory: string): CertificateSource {
  assertDirectory("devCertificateSource", directory);
  let identity: Identity | undefined;
  const covers = (name: string) =>
    identity !== undefined && (identity.names.includes(name) || identity.addresses.includes(name));
  return {
    async start() {
      const { loadIdentity } = await import("./identity.ts"); // most programs have loaded it before
      const { cert, key } = await devCertificates(directory);
      identity = await loadIdentity({ cert, key });
    },
    select: ({ serverName }) =>
      serverName === undefined || covers(serverName) ? identity : undefined,
    covers,
    identities: () => identity === undefined ? [] : [identity],
  };
}

function assertDirectory(callee: string, directory: unknown): void {
  if (typeof directory === "string" && directory !== "") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `The directory of ${callee}() must be a path, not ${
      directory === "" ? "an empty text" : shown(directory)
    }: write ${callee}("certs")`,
  );
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
      return `${runtime.name} ${runtime.version} reports: ${message ?? cause}`;
  }
}

type Kept = Pick<DevCertificates, "ca" | "cert" | "key">;

/** The texts of the files, if all exist, belong together and do not expire soon. */
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

/** The authority in the files; a new certificate for its key if the old one cannot be used. */
async function keptAuthority(caFile: string, keyFile: string): Promise<CertificateAuthority> {
  const key = await keptKey(keyFile);
  const cert = await readIfThere(caFile);
  if (cert !== undefined && currentCertificate(cert)?.checkPrivateKey(parsePrivateKey(key))) {
    return await openCertificateAuthority({ cert, key });
  }
  const ca = await createCertificateAuthority({ key });
  await replaceFile(caFile, ca.cert, CERTIFICATE_MODE);
  return ca;
}

/** Parses a certificate; nothing if it is unreadable or expires soon, so that it is replaced. */
function currentCertificate(pem: string): X509Certificate | undefined {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch {
    return undefined;
  }
  return Date.parse(certificate.validTo) - Date.now() > RENEW_BEFORE_MS ? certificate : undefined;
}

/** The key in the file; a new one is put there only if no other process has done so meanwhile. */
async function keptKey(file: string): Promise<string> {
  const kept = await readIfThere(file);
  if (kept !== undefined) return kept;
  await createFile(file, await exportPrivateKey(await keyPairFor({})), 0o600);
  return await readFile(file, "utf8");
}
