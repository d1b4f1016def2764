/**
 * What is certified: a key, and the request that it signs (RFC 2986, RFC 8555 section 7.4); and the
 * certificate that answers tls-alpn-01 (RFC 8737 section 3).
 *
 * @module
 */
import type { JsonGeneralName } from "@peculiar/x509";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { exportPrivateKey, keyPairFor } from "../tls/key_pair.ts";
import { loadX509, type X509Library } from "../tls/x509.ts";
import { isAddress } from "./names.ts";
import { certificatePem } from "./pem.ts";
import type { OrderOptions } from "./types.ts";

/** A request for a certificate. */
export interface CertificateRequest {
  /** The request: DER in base64url. */
  readonly csr: string;
  /** PEM of the PKCS#8 private key that it is for. */
  readonly privateKey: string;
}

/**
 * Makes a request for these names, by `privateKey` or a new key of `keyType`.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when the key cannot be read
 */
export async function requestFor(
  names: readonly string[],
  { privateKey, keyType = "ECDSA P-256" }: Pick<OrderOptions, "privateKey" | "keyType">,
): Promise<CertificateRequest> {
  const library = await loadX509();
  const keys = await keyPairFor({
    algorithm: keyType,
    ...(privateKey === undefined ? {} : { key: privateKey }),
  });
  const request = await library.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: { hash: "SHA-256", ...keys.privateKey.algorithm },
    extensions: [alternativeNames(library, names)],
  });
  return {
    csr: Buffer.from(request.rawData).toString("base64url"),
    privateKey: await exportPrivateKey(keys),
  };
}

function alternativeNames(library: X509Library, names: readonly string[]) {
  return new library.SubjectAlternativeNameExtension(
    names.map((value): JsonGeneralName => ({ type: isAddress(value) ? "ip" : "dns", value })),
  );
}

/** The acmeIdentifier extension, and the header of an OCTET STRING with 32 bytes. */
const ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31";
const DIGEST_HEADER = [0x04, 0x20];

/** How long the certificate of a challenge is valid, in ms, from an hour ago on. */
const CHALLENGE_MS = 24 * 3_600_000;
const HOUR_MS = 3_600_000;

/** Makes the certificate that proves a name by `keyAuthorization`. */
export async function challengeCertificate(
  name: string,
  keyAuthorization: string,
): Promise<{ certificate: string; privateKey: string }> {
  const library = await loadX509();
  const keys = await keyPairFor({});
  const digest = createHash("sha256").update(keyAuthorization).digest();
  const notBefore = new Date(Date.now() - HOUR_MS);
  const certificate = await library.X509CertificateGenerator.createSelfSigned({
    keys,
    notBefore,
    notAfter: new Date(notBefore.getTime() + CHALLENGE_MS),
    extensions: [
      alternativeNames(library, [name]),
      new library.Extension(
        ACME_IDENTIFIER,
        true,
        Uint8Array.from([...DIGEST_HEADER, ...digest]),
      ),
    ],
  });
  return {
    certificate: certificatePem(new Uint8Array(certificate.rawData)),
    privateKey: await exportPrivateKey(keys),
  };
}
