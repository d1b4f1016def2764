/**
 * Certificates and keys of every kind, made by openssl.
 *
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "bun:test";
import { ConfigError, type ConfigErrorCode } from "../lib/errors.ts";
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from "../lib/tls/dev_certificates.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import type { IdentityOptions } from "../lib/tls/options.ts";
import { PREPARED_MS } from "./runtime.ts";

/** Self-signed certificates by kind of key: `<kind>.pem` with `<kind>.key`. */
const KEY_OPTIONS: Record<string, string[]> = {
  "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
  "rsa-1024": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
  "rsa-3072": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
  "rsa-pss": ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
  "ec-p224": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"],
  "ec-p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
  "ec-p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
  "ec-p521": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
  "secp256k1": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
  "brainpool": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"],
  "ed25519": ["-algorithm", "ED25519"],
  "ed448": ["-algorithm", "ED448"],
};

export let directory: string;
export let root: CertificateAuthority;
export let intermediate: CertificateAuthority;
export let leaf: IssuedCertificate;
export let leafFile: string;
export let leafKeyFile: string;

/** Has certificates and keys of every kind made before the tests of a file, and removed after them. */
export function identityFilesForAll(): void {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "httpsd-identity-"));
    for (const [kind, options] of Object.entries(KEY_OPTIONS)) {
      openssl("genpkey", ...options, "-out", path(`${kind}.key`));
      selfSigned(kind, kind);
    }
    root = await createCertificateAuthority({ name: "root" });
    intermediate = await root.issueAuthority({ name: "intermediate" });
    leaf = await intermediate.issue({ names: ["localhost", "*.Example.com", "127.0.0.1", "::1"] });
    leafFile = write("leaf.pem", leaf.cert);
    leafKeyFile = write("leaf.key", leaf.key);
    write("leaf-alone.pem", leaf.cert.slice(0, leaf.cert.indexOf("-----END") + 26));
    write("cas.pem", root.cert + intermediate.cert);
  }, PREPARED_MS);

  afterAll(() => rmSync(directory, { recursive: true, force: true }));
}

/** Expects a refusal whose message starts with, and so names, the file or option. */
export function refused(
  options: IdentityOptions,
  code: ConfigErrorCode,
  named: string,
  says: RegExp,
): Promise<ConfigError> {
  const start = named.startsWith("Option ") ? named : `File ${named}`;
  return rejects(loadIdentity(options), code, says, start);
}

export async function rejects(
  promise: Promise<unknown>,
  code: ConfigErrorCode,
  says: RegExp,
  start = "",
): Promise<ConfigError> {
  const error = await promise.then(() => assert.fail("It was accepted"), (reason) => reason);
  assert.ok(error instanceof ConfigError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, says);
  assert.ok(error.message.startsWith(start), error.message);
  return error;
}

interface SelfSignedOptions {
  authority?: boolean;
  san?: string | undefined;
  extensions?: string[];
  options?: string[];
}

/** Writes `<name>.pem` for the key of `kind`. */
export function selfSigned(name: string, kind: string, given: SelfSignedOptions = {}): void {
  const { authority, san, extensions, options } = {
    authority: false,
    san: "DNS:localhost",
    extensions: [],
    ...given,
  };
  const all = [`basicConstraints=critical,CA:${authority ? "TRUE" : "FALSE"}`, ...extensions];
  if (san !== undefined) all.push(`subjectAltName=${san}`);
  const added = all.flatMap((extension) => ["-addext", extension]);
  const subject = ["-subj", "/CN=localhost", "-days", "9", ...added, ...(options ?? [])];
  openssl("req", "-x509", "-key", path(`${kind}.key`), "-out", path(`${name}.pem`), ...subject);
}

export function openssl(...args: string[]): string {
  return execFileSync("openssl", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

export function path(name: string): string {
  return join(directory, name);
}

export function write(name: string, content: string): string {
  writeFileSync(path(name), content);
  return path(name);
}
