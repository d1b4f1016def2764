/**
 * What the examples of the TLS front share: the development CA in the directory that `CERTS` names
 * (default: certs/), which examples/run.ts uses too.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import {
  type CertificateAuthority,
  type DevCertificates,
  devCertificates,
  openCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";

/** Where certificates lie. */
export const DIRECTORY: string = process.env["CERTS"] ??
  fileURLToPath(new URL("../certs", import.meta.url));

/** The development CA and the certificate for localhost, made when there are none. */
export async function devAuthority(): Promise<{
  authority: CertificateAuthority;
  localhost: DevCertificates;
}> {
  const localhost = await devCertificates(DIRECTORY);
  const key = await readFile(join(DIRECTORY, "ca.key"), "utf8");
  return { authority: await openCertificateAuthority({ cert: localhost.ca, key }), localhost };
}
