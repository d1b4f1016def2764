/**
 * Certificates and keys for an upstream of `https:`, checked before the first request. The runtimes
 * look at them with each connection, and Deno leaves out what it cannot read.
 *
 * @module
 */
import { type Certificate, isPair, readCertificate } from "../tls/certificate.ts";
import { parseKey } from "../tls/private_key.ts";
import { derOf, givenMaterial, invalid, pemBlocks, type PemOrDer } from "../tls/source.ts";

/** How the upstream is reached over TLS; each member as `node:tls` takes it. */
export interface UpstreamTls {
  /** PEM certificates of the authorities that may have signed the upstream's. Default: the system's. */
  readonly ca?: string | Uint8Array | readonly (string | Uint8Array)[];
  /** This server's own certificate for the upstream, as PEM. Default: none. */
  readonly cert?: string | Uint8Array;
  /** The private key of {@linkcode UpstreamTls.cert}, as PEM. */
  readonly key?: string | Uint8Array;
  /** The name that the upstream's certificate must have. Default: the URL's. */
  readonly servername?: string;
}

/**
 * Checks that certificates and key can be read, and fit.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` naming the option, and `INVALID_CONFIG` for what is
 * neither text nor bytes
 */
export function assertUsable({ ca, cert, key }: UpstreamTls): void {
  const authorities = ca === undefined ? [] : [ca].flat() as PemOrDer[];
  if (ca !== undefined && authorities.length === 0) {
    throw invalid("Option tls.ca of proxy() is empty: give the CA's certificate, or leave it out");
  }
  for (const authority of authorities) certificatesIn(authority, "ca");
  if (cert === undefined && key === undefined) return;
  if (cert === undefined || key === undefined) {
    throw invalid("Options tls.cert and tls.key of proxy() belong together: give both");
  }
  const [own] = certificatesIn(cert, "cert");
  const material = givenMaterial(key, nameOf("key"));
  if (pemBlocks(material) === undefined) {
    throw invalid(`${material.name} has no BEGIN line: give the private key as PEM`);
  }
  if (isPair(own!, parseKey(material, undefined))) return;
  throw invalid("Option tls.key of proxy() is not the key of tls.cert: give that one");
}

/** The certificates in PEM; one at least. */
function certificatesIn(pem: PemOrDer, option: keyof UpstreamTls): Certificate[] {
  const material = givenMaterial(pem, nameOf(option));
  const blocks = pemBlocks(material)?.filter(({ label }) => label === "CERTIFICATE") ?? [];
  if (blocks.length === 0) {
    throw invalid(`${material.name} has no BEGIN CERTIFICATE line: give a certificate as PEM`);
  }
  return blocks.map((block) => readCertificate(derOf(block), material.name));
}

function nameOf(option: keyof UpstreamTls): string {
  return `Option tls.${option} of proxy()`;
}
