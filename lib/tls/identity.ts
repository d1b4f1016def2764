/**
 * Reads certificate chains and their private keys, and checks them before any client sees them
 * (RFC 5280). Deno's TLS accepts invalid ones here and then fails every handshake with a message
 * about protocol versions, so the runtime's checks are not relied on.
 *
 * @module
 */
import type { KeyObject } from "node:crypto";
import { runtime } from "../runtime/current.ts";
import { ConfigError } from "../errors.ts";
import {
  type Certificate,
  isIssuedBy,
  isPair,
  type KeyType,
  readCertificate,
} from "./certificate.ts";
import { type Identity, makeIdentity } from "./loaded_identity.ts";
import { assertIdentityOptions, type IdentityOptions } from "./options.ts";
import { findKey, type LoadedKey, loadKey, parseKey } from "./private_key.ts";
import {
  derOf,
  invalid,
  labelsOf,
  type Material,
  pemBlocks,
  readSource,
  type Source,
} from "./source.ts";

/**
 * Reads a certificate chain and its key, and checks that clients will accept them: that they are a
 * pair, in order, valid now, and made for servers.
 *
 * A key provider is waited for as long as it takes.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` naming the file or option and what to do;
 * `NOT_SUPPORTED` for a key, key object or PKCS#12 encryption that the runtime cannot use;
 * `INVALID_CONFIG` for an option that is not known, and for both `pfx` and `cert` or `key`
 */
export async function loadIdentity(options: IdentityOptions): Promise<Identity> {
  assertIdentityOptions(options);
  return await readIdentity(options);
}

/**
 * Loads an identity whose options were checked before.
 *
 * @throws {ConfigError} as {@linkcode loadIdentity}
 */
export async function readIdentity(options: IdentityOptions): Promise<Identity> {
  const { chain, key, materials } = options.pfx === undefined
    ? await loadPair(options)
    : await loadPfx(options.pfx, options);
  const leaf = chain[0]!;
  const keyType = servableKeyType(leaf);
  assertPair(leaf, key);
  assertServerCertificate(leaf);
  assertExtensions(leaf);
  assertValidity(chain, options.allowExpired ?? false);
  await assertLinked(chain);
  return makeIdentity({ chain, key: key.key, keyType, materials });
}

interface Loaded {
  readonly chain: readonly Certificate[];
  readonly key: LoadedKey;
  readonly materials: readonly Material[];
}

async function loadPair(options: IdentityOptions): Promise<Loaded> {
  const { cert = [], passphrase } = options;
  const sources = Array.isArray(cert) ? cert as readonly Source[] : [cert as Source];
  if (sources.length === 0) {
    throw invalid("Option cert is missing: give cert and key, or pfx");
  }
  const materials = await Promise.all(sources.map((source) => readSource(source, "cert")));
  const chain = materials.flatMap(readCertificates);
  servableKeyType(chain[0]!); // or the message would be that the key is unreadable, which is less precise
  const key = options.key === undefined
    ? keyAmong(materials, passphrase)
    : await loadKey(options.key, passphrase);
  return { chain, key, materials: key.material ? [...materials, key.material] : materials };
}

async function loadPfx(pfx: Source, options: IdentityOptions): Promise<Loaded> {
  if (options.cert !== undefined || options.key !== undefined) {
    throw new ConfigError(
      "INVALID_CONFIG",
      "Option pfx has certificate and key: leave out cert and key, or pfx",
    );
  }
  const { passphrase = "" } = options;
  const material = await readSource(pfx, "pfx");
  const { readPkcs12 } = await import("./pkcs12.ts"); // most programs have PEM
  const { certificates, key: der } = await readPkcs12(material, passphrase);
  const key = parseKey({ name: material.name, bytes: der }, passphrase);
  const unordered = certificates.map((certificate) => readCertificate(certificate, material.name));
  const chain = await inOrder(unordered, key);
  return { chain, key: { key, name: material.name, material }, materials: [material] };
}

function readCertificates(material: Material): Certificate[] {
  const blocks = pemBlocks(material);
  if (blocks === undefined) return [readCertificate(material.bytes, material.name)];
  const certificates = blocks.filter(({ label }) => label === "CERTIFICATE");
  if (certificates.length === 0) {
    const found = labelsOf(blocks);
    throw invalid(
      `${material.name} has no certificate, it has ${found}: give the certificate's file`,
    );
  }
  return certificates.map((block) => readCertificate(derOf(block), material.name));
}

/** The key that is in the same source as the certificates. */
function keyAmong(materials: readonly Material[], passphrase: string | undefined): LoadedKey {
  const material = materials.find((candidate) => findKey(pemBlocks(candidate) ?? []) !== undefined);
  if (material === undefined) {
    const names = materials.map(({ name }) => name).join(", ");
    throw invalid(`${names} has no private key: give it in option key`);
  }
  return { key: parseKey(material, passphrase), name: material.name, material };
}

/** PKCS#12 keeps certificates in no order: the key's own first, then each one's issuer. */
async function inOrder(certificates: Certificate[], key: KeyObject): Promise<Certificate[]> {
  const rest = [...certificates];
  const chain: Certificate[] = [];
  let next = rest.findIndex((certificate) => isPair(certificate, key));
  while (next !== -1) {
    const [certificate] = rest.splice(next, 1);
    chain.push(certificate!);
    const issued = await Promise.all(rest.map((candidate) => isIssuedBy(certificate!, candidate)));
    next = issued.indexOf(true);
  }
  return [...chain, ...rest]; // assertPair and assertLinked report those that do not belong
}

const MIN_RSA_BITS = 2048; // CA/Browser Forum; Deno's TLS takes no less either
const MAX_RSA_BITS = 8192; // of the cryptography under both runtimes

function servableKeyType(
  { name, key: { type, algorithm, bits = MIN_RSA_BITS } }: Certificate,
): KeyType {
  if (type === undefined || bits > MAX_RSA_BITS) {
    const size = bits > MAX_RSA_BITS ? ` of ${bits} bits` : "";
    throw new ConfigError(
      "NOT_SUPPORTED",
      `${name} has a key of type ${algorithm}${size}, which ${runtime.name}'s TLS cannot use: use ECDSA ` +
        `P-256, P-384 or P-521, Ed25519, or RSA of ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits`,
    );
  }
  if (bits < MIN_RSA_BITS) {
    throw invalid(
      `${name} has an RSA key of ${bits} bits, which is too short to be safe: use ` +
        `${MIN_RSA_BITS} bits, or ECDSA P-256`,
    );
  }
  return type;
}

function assertPair(leaf: Certificate, { key, name }: LoadedKey): void {
  if (isPair(leaf, key)) return;
  throw invalid(
    `${leaf.name} does not match the private key, ${name}: give the pair that was made together, the ` +
      "server's own certificate first",
  );
}

function assertServerCertificate(leaf: Certificate): void {
  // What `openssl req -x509` makes has CA:TRUE; clients that trust it know it as a leaf.
  if (leaf.isAuthority && !leaf.isSelfIssued) {
    throw invalid(
      `${leaf.name} is a certificate authority's (CA:TRUE), which many clients refuse from a ` +
        "server: issue one with basicConstraints=CA:FALSE",
    );
  }
  if (!leaf.mayServe) {
    throw invalid(
      `${leaf.name} is not made for servers: issue one with extendedKeyUsage=serverAuth`,
    );
  }
  if (!leaf.mayAuthenticate) {
    throw invalid(
      `${leaf.name} may not sign handshakes: issue one with keyUsage=digitalSignature`,
    );
  }
}

/**
 * The critical extensions that rustls knows: key usage, alternative names, basic and name constraints,
 * CRL distribution points, extended key usage. A server's own certificate with another one starts,
 * and then fails every handshake without a reason; those behind it are only passed on.
 */
const KNOWN_TO_RUSTLS: readonly string[] = [15, 17, 19, 30, 31, 37].map((id) => `2.5.29.${id}`);

/** What RFC 8737 puts into the certificate that answers a tls-alpn-01 challenge. */
const ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31";

function assertExtensions({ name, critical }: Certificate): void {
  if (runtime.name !== "deno") return;
  const unknown = critical.find((id) => !KNOWN_TO_RUSTLS.includes(id));
  if (unknown === undefined) return;
  const cure = unknown === ACME_IDENTIFIER
    ? "prove the name by http-01 or dns-01, or serve it on Bun"
    : "issue one without it, or serve it on Bun";
  throw new ConfigError(
    "NOT_SUPPORTED",
    `${name} has the critical extension ${unknown}, with which ${runtime.name}'s TLS fails every ` +
      `handshake: ${cure}`,
  );
}

/** A root at the end is not checked: clients use their own copy. */
function assertValidity(chain: readonly Certificate[], allowExpired: boolean): void {
  const now = new Date();
  for (const { name, x509, isSelfIssued, isWeaklySigned } of chain) {
    if (isSelfIssued && x509 !== chain[0]!.x509) continue;
    if (x509.validFromDate > now) {
      const from = x509.validFromDate.toISOString();
      throw invalid(`${name} is not valid before ${from}: wait, or set this machine's clock`);
    }
    if (x509.validToDate < now && !allowExpired) {
      throw invalid(`${name} expired on ${x509.validToDate.toISOString()}: renew it`);
    }
    if (isWeaklySigned) {
      throw invalid(`${name} is signed with MD5 or SHA-1, which clients refuse: issue a new one`);
    }
  }
}

async function assertLinked(chain: readonly Certificate[]): Promise<void> {
  for (const [index, issuer] of chain.entries()) {
    const certificate = chain[index - 1];
    if (certificate === undefined || await isIssuedBy(certificate, issuer)) continue;
    throw invalid(
      `${certificate.name} was not issued by the next one, ${issuer.subject}: put the ` +
        "server's own certificate first and behind each the one that issued it, nothing else",
    );
  }
}
