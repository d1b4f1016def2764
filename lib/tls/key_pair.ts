/**
 * Key pairs of a certificate authority and of what it issues: made by WebCrypto, or read from PEM.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { ConfigError } from "../errors.ts";
import type { CertificateOptions } from "./authority_options.ts";

const ECDSA: EcKeyImportParams & EcKeyGenParams = { name: "ECDSA", namedCurve: "P-256" };
const RSA: RsaHashedKeyGenParams = {
  name: "RSASSA-PKCS1-v1_5",
  hash: "SHA-256",
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
};

/** Whether the keys are RSA keys. */
export function isRsa(keys: CryptoKeyPair): boolean {
  return keys.publicKey.algorithm.name === RSA.name;
}

/**
 * Makes the key pair that the options ask for, or reads their `key`.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` for a `key` that cannot be read or is of another kind
 */
export async function keyPairFor({ key, algorithm }: CertificateOptions): Promise<CryptoKeyPair> {
  if (key !== undefined) return await importKeyPair(key);
  const parameters = algorithm === "RSA 2048" ? RSA : ECDSA;
  return await crypto.subtle.generateKey(parameters, true, ["sign", "verify"]) as CryptoKeyPair;
}

/**
 * Reads a private key and makes a pair of it.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when it cannot be read or is of another kind
 */
export async function importKeyPair(pem: string): Promise<CryptoKeyPair> {
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

/** Writes the private key as PEM of PKCS#8. */
export async function exportPrivateKey(keys: CryptoKeyPair): Promise<string> {
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  const key = createPrivateKey({ key: pkcs8, type: "pkcs8", format: "der" });
  return key.export({ type: "pkcs8", format: "pem" }) as string;
}

/**
 * Parses the PEM of a private key.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when it cannot be read
 */
export function parsePrivateKey(pem: string): KeyObject {
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
