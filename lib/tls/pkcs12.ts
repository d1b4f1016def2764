/**
 * Reads PKCS#12 files (RFC 7292), known as `.p12` and `.pfx`: a private key and certificates behind
 * one passphrase. The cryptography is WebCrypto's, by way of pkijs, which is loaded only here.
 *
 * Encryption is PBES2 with AES (RFC 8018), which OpenSSL 3, Windows and Java write today. Older
 * files (3DES, RC2) are refused with the command that renews them.
 *
 * @module
 */
import type {
  AuthenticatedSafe,
  CertBag,
  PKCS8ShroudedKeyBag,
  PrivateKeyInfo,
  SafeBag,
} from "pkijs";
import { ConfigError } from "../errors.ts";
import { invalid, type Material } from "./source.ts";

/** What a PKCS#12 file holds. */
export interface Pkcs12Contents {
  /** The certificates in DER; the format gives them no order. */
  readonly certificates: readonly Uint8Array[];
  /** The private key in DER of PKCS#8, still encrypted with the passphrase if it is in the file. */
  readonly key: Uint8Array;
}

// Bag types (RFC 7292 section 4.2) and the one type of certificate that TLS knows.
const KEY_BAG = "1.2.840.113549.1.12.10.1.1";
const SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2";
const CERT_BAG = "1.2.840.113549.1.12.10.1.3";
const X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";

/**
 * Reads a PKCS#12 file. Without a `passphrase` the empty one is tried.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when it is not a PKCS#12 file, when the passphrase does
 * not fit its integrity check (MAC), or when it holds no certificate or not exactly one key;
 * `NOT_SUPPORTED` when it is encrypted with a legacy algorithm
 */
export async function readPkcs12(
  { name, bytes }: Material,
  passphrase: string = "",
): Promise<Pkcs12Contents> {
  const password = Uint8Array.from(new TextEncoder().encode(passphrase)).buffer;
  const safe = await openSafe(name, bytes, password);
  const bags = await decryptBags(safe, name, password);
  const certificates = bags.filter(isCertificate).map((bag) => certificateOf(bag.bagValue));
  const keys = bags.filter(isKey).map((bag) => new Uint8Array(bag.bagValue.toSchema().toBER()));
  if (certificates.length === 0) {
    throw invalid(`${name} has no certificate: export it again with its certificate`);
  }
  if (keys.length !== 1) {
    throw invalid(`${name} has ${keys.length} private keys: export it again with the one to use`);
  }
  return { certificates, key: keys[0]! };
}

/** Parses the outer shell and checks its MAC, which fails when the passphrase is wrong. */
async function openSafe(
  name: string,
  bytes: Uint8Array,
  password: ArrayBuffer,
): Promise<AuthenticatedSafe> {
  const { PFX } = await import("pkijs");
  let pfx: InstanceType<typeof PFX>;
  try {
    pfx = PFX.fromBER(Uint8Array.from(bytes).buffer);
  } catch (cause) {
    throw invalid(`${name} is not a PKCS#12 file: give a .p12 or .pfx file in DER`, { cause });
  }
  if (pfx.macData === undefined) {
    throw invalid(`${name} has no MAC that protects it: export it again with one`);
  }
  try {
    await pfx.parseInternalValues({ password, checkIntegrity: true });
  } catch (cause) {
    throw invalid(`${name} does not open: correct option passphrase, or export it again`, {
      cause,
    });
  }
  return pfx.parsedValue!.authenticatedSafe!;
}

/** Decrypts the bags. The passphrase is right by now: what fails is the algorithm. */
async function decryptBags(
  safe: AuthenticatedSafe,
  name: string,
  password: ArrayBuffer,
): Promise<SafeBag[]> {
  try {
    await safe.parseInternalValues({ safeContents: safe.safeContents.map(() => ({ password })) });
  } catch (cause) {
    throw new ConfigError(
      "NOT_SUPPORTED",
      `${name} is encrypted with an algorithm that is not supported: renew it with "openssl ` +
        'pkcs12 -legacy -in old.p12 -nodes | openssl pkcs12 -export -out new.p12"',
      { cause },
    );
  }
  const contents: { value: { safeBags: SafeBag[] } }[] = safe.parsedValue.safeContents;
  return contents.flatMap(({ value }) => value.safeBags);
}

/** The certificate as it was signed: encoding it again could change it. */
function certificateOf({ certValue }: CertBag): Uint8Array {
  const octets = certValue as Extract<CertBag["certValue"], { valueBlock: unknown }>;
  return Uint8Array.from(octets.valueBlock.valueHexView);
}

function isKey(bag: SafeBag): bag is SafeBag<PrivateKeyInfo | PKCS8ShroudedKeyBag> {
  return bag.bagId === KEY_BAG || bag.bagId === SHROUDED_KEY_BAG;
}

function isCertificate(bag: SafeBag): bag is SafeBag<CertBag> {
  return bag.bagId === CERT_BAG && (bag.bagValue as CertBag).certId === X509_CERTIFICATE;
}
