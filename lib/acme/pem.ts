/**
 * Certificates as text (RFC 7468).
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** The PEM of a certificate in DER. */
export function certificatePem(der: Uint8Array): string {
  const lines = Buffer.from(der).toString("base64").match(/.{1,64}/g)!;
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
