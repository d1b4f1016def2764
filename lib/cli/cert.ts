/**
 * `httpsd cert`: a certificate of this machine's authority, as two files.
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
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
  output.say(
    { names, ...files, authority: caFile },
    `Certificate for ${names.join(", ")}: ${files.certificate}\nIts private key: ${files.key}\n` +
      `Trusted by those who trust ${caFile}: httpsd trust`,
  );
  return 0;
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
async function create(file: string, text: string, mode: number): Promise<void> {
  try {
    await writeFile(file, text, { flag: "wx", mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw new CommandError(`${file} exists: remove it, or name another directory with --out`);
  }
}
