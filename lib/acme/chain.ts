/**
 * The chain that a CA gives (RFC 8555 section 9.1), held to what was ordered: it is a stranger's file,
 * from which nothing but certificates is taken.
 *
 * @module
 */
import { createPrivateKey } from "node:crypto";
import { AcmeError } from "../errors.ts";
import { utf8 } from "../bytes.ts";
import { type Certificate, readCertificate } from "../tls/certificate.ts";
import { derOf, pemBlocks } from "../tls/source.ts";
import { loadX509 } from "../tls/x509.ts";
import { certificatePem } from "./pem.ts";
import { type Answer, badAnswer } from "./transport.ts";

/** The media type of a chain. */
export const CHAIN_TYPE = "application/pem-certificate-chain";

/** The longest chain that any CA has, doubled. */
const MAX_CERTIFICATES = 10;

/** A chain: the certificate, then its intermediates. */
export type Chain = readonly [Certificate, ...Certificate[]];

/**
 * Reads a chain.
 *
 * @throws {AcmeError} `ACME_BAD_ANSWER` when it is none
 */
export function chainOf(answer: Answer): Chain {
  if (answer.mediaType !== CHAIN_TYPE) throw badAnswer(answer.url, `is no ${CHAIN_TYPE}`);
  try {
    const name = "The answer";
    const blocks = pemBlocks({ name, bytes: utf8(answer.body) }) ?? [];
    const isChain = blocks.every(({ label }) => label === "CERTIFICATE");
    if (isChain && blocks.length <= MAX_CERTIFICATES) {
      const [leaf, ...others] = blocks.map((block) => readCertificate(derOf(block), name));
      if (leaf !== undefined) return [leaf, ...others];
    }
  } catch (cause) {
    throw badAnswer(answer.url, "has a certificate that cannot be read", cause);
  }
  throw badAnswer(answer.url, `is not PEM of 1 to ${MAX_CERTIFICATES} certificates alone`);
}

/** The chain as PEM. */
export function pemOf(chain: Chain): string {
  return chain.map(({ x509 }) => certificatePem(x509.raw)).join("");
}

/** From when to when a certificate is valid, in ms since 1970. */
export function validityOf({ x509 }: Certificate): { notBefore: number; notAfter: number } {
  return { notBefore: Date.parse(x509.validFrom), notAfter: Date.parse(x509.validTo) };
}

/**
 * Holds a certificate to what was ordered.
 *
 * @throws {AcmeError} `ACME_WRONG_CERTIFICATE`
 */
export function assertOrdered(
  certificate: Certificate,
  names: readonly string[],
  privateKey: string,
  now: number,
): void {
  const certified = [...certificate.names, ...certificate.addresses];
  const missing = names.find((name) => !certified.includes(name));
  if (missing !== undefined) throw wrong(`is not for ${missing}`);
  if (!certificate.x509.checkPrivateKey(createPrivateKey(privateKey))) {
    throw wrong("is for another key");
  }
  const { notBefore, notAfter } = validityOf(certificate);
  if (!(notBefore < notAfter && now < notAfter)) {
    throw wrong("is expired already: check this machine's clock");
  }
}

function wrong(what: string): AcmeError {
  return new AcmeError("ACME_WRONG_CERTIFICATE", `The certificate that the CA issued ${what}`);
}

/** The common name of what issued the last certificate of a chain. */
export async function topIssuer(chain: Chain): Promise<string | undefined> {
  const { X509Certificate } = await loadX509();
  const parsed = new X509Certificate(Uint8Array.from(chain.at(-1)!.x509.raw));
  return parsed.issuerName.getField("CN")[0];
}
