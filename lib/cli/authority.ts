/**
 * This machine's own certificate authority: one for all directories, made when it is first needed.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type CertificateAuthority,
  devCertificates,
  openCertificateAuthority,
} from "../tls/dev_certificates.ts";
import { defaultDirectory } from "./authority_directory.ts";

/** The authority and where it is kept. */
export interface LocalAuthority {
  readonly directory: string;
  /** Where its certificate lies. */
  readonly caFile: string;
  readonly authority: CertificateAuthority;
}

/**
 * Opens the authority in a directory; makes what is missing.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when the directory cannot be used
 */
export async function openAuthority(directory = defaultDirectory()): Promise<LocalAuthority> {
  const { ca, caFile } = await devCertificates(directory);
  const key = await readFile(join(directory, "ca.key"), "utf8");
  return { directory, caFile, authority: await openCertificateAuthority({ cert: ca, key }) };
}
