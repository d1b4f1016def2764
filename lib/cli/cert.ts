/**
 * `httpsd cert`: a certificate of this machine's authority, as two files.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exportPkcs12, type IssuedCertificate } from "../tls/dev_certificates.ts";
import type { Values } from "./arguments.ts";
import { CommandError } from "./arguments.ts";
import { openAuthority } from "./authority.ts";
import type { Output } from "./output.ts";

/** Makes a certificate for names, and writes it beside its key; returns the exit code. */
export async function cert(
  names: readonly string[],
  { certs, client = false, out = "." }: Values,
  output: Output,
): Promise<number> {
  const { authority, caFile } = await openAuthority(certs);
  const issued = await authority.issue(
    client
      ? { usage: "client", subject: `CN=${escaped(names[0]!)}`, names: addresses(names) }
      : { names: [...names] },
  );
  await mkdir(out, { recursive: true });
  const base = join(out, fileName(names[0]!));
  const files = { certificate: `${base}.pem`, key: `${base}.key` };
  await create(files.key, issued.key, 0o600);
  await create(files.certificate, issued.cert, 0o644);
  const bundle = client ? await browserFile(base, names[0]!, issued) : undefined;
  output.say(
    { names, ...files, ...bundle, authority: caFile },
    `Certificate for ${names.join(", ")}: ${files.certificate}\nIts private key: ${files.key}\n` +
      (bundle === undefined
        ? `Trusted by those who trust ${caFile}: httpsd trust`
        : `Both for a browser: ${bundle.p12}, with the password ${bundle.password}`),
  );
  return 0;
}

/** Writes certificate and key as browsers import them, under a password that is made up. */
async function browserFile(
  base: string,
  name: string,
  { cert, key }: IssuedCertificate,
): Promise<{ p12: string; password: string }> {
  const password = randomBytes(9).toString("base64url");
  const p12 = `${base}.p12`;
  await create(p12, await exportPkcs12({ cert, key, passphrase: password, name }), 0o600);
  return { p12, password };
}

/** The e-mail addresses and URIs among names, which a client's certificate may have beside its subject. */
function addresses(names: readonly string[]): string[] {
  return names.filter((name) => name.includes("@") || name.includes("://"));
}

/** A value of a distinguished name (RFC 4514 section 2.4). */
function escaped(value: string): string {
  return value.replaceAll(/[\\",+;<>=#]/g, "\\$&");
}

function fileName(name: string): string {
  return name.replaceAll("*", "_wildcard").replaceAll(/[^\w.@-]/g, "_").replace(/^\.+/, "_");
}

/** Writes a file that must not be there: a key that is in use is not to be lost. */
async function create(file: string, content: string | Uint8Array, mode: number): Promise<void> {
  try {
    await writeFile(file, content, { flag: "wx", mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw new CommandError(`${file} exists: remove it, or name another directory with --out`);
  }
}
