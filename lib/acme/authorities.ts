/**
 * The authorities that a CA's own certificate is verified by.
 *
 * @module
 */
import { readCertificate } from "../tls/certificate.ts";
import { derOf, invalid, pemBlocks, readSource, type Source } from "../tls/source.ts";
import { certificatePem } from "./pem.ts";

/**
 * Reads authorities, and gives them as PEM.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when there is none, or one cannot be read
 */
export async function readAuthorities(ca: Source): Promise<string> {
  const material = await readSource(ca, "ca");
  const blocks = pemBlocks(material)?.filter(({ label }) => label === "CERTIFICATE");
  const certificates = blocks?.map(derOf) ?? [material.bytes];
  if (certificates.length === 0) {
    throw invalid(`${material.name} has no certificate: give the authority's`);
  }
  return certificates.map((der) => {
    readCertificate(der, material.name);
    return certificatePem(der);
  }).join("");
}
