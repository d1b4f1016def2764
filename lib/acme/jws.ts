/**
 * Keys that sign requests, and the signatures (RFC 8555 section 6.2, RFC 7515).
 *
 * @module
 */
import { calculateJwkThumbprint, type CryptoKey, FlattenedSign, importJWK, type JWK } from "jose";
import { Buffer } from "node:buffer";
import { createPrivateKey, type KeyObject } from "node:crypto";
import { utf8 } from "../bytes.ts";
import { ConfigError } from "../errors.ts";
import { exportPrivateKey, keyPairFor } from "../tls/key_pair.ts";
import type { ExternalAccount } from "./types.ts";

/** A key that can sign. */
export interface Signer {
  /** The algorithm (RFC 7518 section 3.1). */
  readonly alg: string;
  /** The public key, with nothing of the private one. */
  readonly jwk: JWK;
  /** The digest of the public key in base64url (RFC 7638). */
  readonly thumbprint: string;
  /** The private key. */
  readonly key: CryptoKey;
}

/** The name of the key in a protected header: the account's URL, or the key itself. */
export type KeyName = { readonly kid: string } | { readonly jwk: JWK };

/** What a curve signs with, by what JWK calls it. */
const CURVES: ReadonlyMap<string | undefined, string> = new Map([
  ["P-256", "ES256"],
  ["P-384", "ES384"],
]);

const MIN_RSA_BYTES = 256;

/** Makes a private key for an account, P-256: PEM of PKCS#8. */
export async function newAccountKey(): Promise<string> {
  return await exportPrivateKey(await keyPairFor({}));
}

/**
 * Checks the PEM of a private key that is to sign; `option` is what messages call it.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when it cannot be read or cannot sign
 */
export function readSigningKey(pem: string, option: string): JWK & { alg: string } {
  const jwk = parseKey(pem, option).export({ format: "jwk" }) as JWK;
  const isLong = jwk.kty === "RSA" && Buffer.from(jwk.n!, "base64url").length >= MIN_RSA_BYTES;
  const alg = isLong ? "RS256" : CURVES.get(jwk.crv);
  if (alg !== undefined) return { ...jwk, alg };
  throw new ConfigError(
    "INVALID_CERTIFICATE",
    `Option ${option} is a key of another kind: give P-256, P-384, or RSA of 2048 bits or more`,
  );
}

function parseKey(pem: string, option: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      `Option ${option} cannot be read: give PEM of an unencrypted private key`,
      { cause },
    );
  }
}

/** Makes a signer of a key that was checked. */
export async function signerOf({ alg, ...secret }: JWK & { alg: string }): Promise<Signer> {
  const { kty, crv, x, y, n, e } = secret;
  const jwk: JWK = kty === "RSA" ? { kty, n: n!, e: e! } : { kty: kty!, crv: crv!, x: x!, y: y! };
  return {
    alg,
    jwk,
    thumbprint: await calculateJwkThumbprint(jwk),
    key: await importJWK(secret, alg) as CryptoKey,
  };
}

/** Signs a request: the body of a POST. An empty `payload` asks for what is there (POST-as-GET). */
export async function sign(
  payload: string,
  signer: Signer,
  name: KeyName,
  url: URL,
  nonce: string | undefined,
): Promise<string> {
  const { alg, key } = signer;
  const header = { alg, ...name, url: url.href, ...(nonce === undefined ? {} : { nonce }) };
  return JSON.stringify(
    await new FlattenedSign(utf8(payload)).setProtectedHeader(header).sign(key),
  );
}

/** Proves the control of an external account, for `url` (RFC 8555 section 7.3.4). */
export async function bindAccount(
  { kid, hmacKey }: ExternalAccount,
  signer: Signer,
  url: URL,
): Promise<object> {
  return await new FlattenedSign(utf8(JSON.stringify(signer.jwk)))
    .setProtectedHeader({ alg: "HS256", kid, url: url.href })
    .sign(Uint8Array.from(Buffer.from(hmacKey, "base64url")));
}
