/**
 * Where certificates and keys come from: text, bytes or files; and the PEM in them (RFC 7468, and
 * the older form with headers of RFC 1421).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { asBuffer } from "../buffer.ts";
import { utf8 } from "../bytes.ts";
import { ConfigError } from "../errors.ts";

/** A certificate or key: PEM text, or PEM or DER bytes. */
export type PemOrDer = string | Uint8Array;

/**
 * A certificate or key, or the file that holds it: PEM text, PEM or DER bytes, a `file:` URL, or a
 * path, which is any string without `-----BEGIN`.
 */
export type Source = PemOrDer | URL;

/** What a {@linkcode Source} holds. */
export interface Material {
  /** What messages call it, as the subject of a sentence: `File /etc/tls/a.pem`, `Option cert`. */
  readonly name: string;
  /** The bytes as they were read: PEM or DER. */
  readonly bytes: Uint8Array;
  /** The absolute path of the file that it was read from. */
  readonly file?: string;
}

/** One block of a PEM text. */
export interface PemBlock {
  /** What the block is, such as `CERTIFICATE` or `EC PRIVATE KEY`. */
  readonly label: string;
  /** The lines from BEGIN to END, without spaces around them. */
  readonly text: string;
}

const PEM_BEGIN = "-----BEGIN ";
const PEM_DASHES = "-----";

/** The letters of base64, base64url and hexadecimal, without a dot, which most paths have. */
const BARE_SECRET = /^[A-Za-z0-9+/=_-]{32,}$/;

/**
 * Reads a source; `option` is the option that it was given as.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when a file cannot be read, or a text is neither PEM
 * nor a path; `INVALID_CONFIG` when it is no source at all
 */
export async function readSource(source: Source, option: string): Promise<Material> {
  if (source instanceof URL) return await readMaterial(pathOf(source, option), option);
  if (typeof source !== "string") return givenMaterial(source, `Option ${option}`);
  if (source.includes(PEM_BEGIN)) return givenMaterial(source, `Option ${option}`);
  if (source.trim() === "" || source.includes("\n")) throw neither(option);
  return await readMaterial(resolve(source), option, looksSecret(source));
}

/** Whether a source is the thing itself, and not where it is. */
export function isPemOrDer(source: unknown): source is PemOrDer {
  return typeof source !== "string" || source.includes(PEM_BEGIN);
}

/**
 * Whether a text may be a secret that was taken for a path, and so must not end up in a message: JSON
 * such as a JWK, or bare base64 or hexadecimal digits.
 */
function looksSecret(source: string): boolean {
  if (source.trimStart().startsWith("{")) return true;
  return BARE_SECRET.test(source) && (!source.startsWith("/") || /[+=]/.test(source));
}

function neither(option: string): ConfigError {
  return invalid(
    `Option ${option} is neither PEM nor the path of a file that can be read: give PEM text with ` +
      "its BEGIN and END lines, DER as bytes, or the file that holds it",
  );
}

/**
 * Takes text or bytes as they are; `name` is what messages call them.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when they are neither
 */
export function givenMaterial(source: PemOrDer, name: string): Material {
  if (typeof source === "string") return { name, bytes: utf8(source) };
  if (source instanceof Uint8Array) return { name, bytes: Uint8Array.from(source) };
  throw new ConfigError(
    "INVALID_CONFIG",
    `${name} is not a certificate or key: give PEM text, PEM or DER bytes, or the file that holds it`,
  );
}

/**
 * The blocks of a PEM text, without what is around them: bag attributes, comments, a
 * trailing NUL (which the original counts in). `undefined` when the bytes are not PEM.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when a block has no end
 */
export function pemBlocks({ name, bytes }: Material): PemBlock[] | undefined {
  const text = asBuffer(bytes).toString("latin1");
  let begin = text.indexOf(PEM_BEGIN);
  if (begin === -1) return undefined;
  const blocks: PemBlock[] = [];
  for (; begin !== -1; begin = text.indexOf(PEM_BEGIN, begin)) {
    const labelEnd = text.indexOf(PEM_DASHES, begin + PEM_BEGIN.length);
    const label = text.slice(begin + PEM_BEGIN.length, labelEnd);
    const endLine = `-----END ${label}-----`;
    const end = labelEnd === -1 ? -1 : text.indexOf(endLine, labelEnd);
    if (end === -1) {
      throw invalid(`${name} is cut off, its last END line is missing: write the file again`);
    }
    const lines = text.slice(begin, end).split("\n").map((line) => line.trim());
    blocks.push({ label, text: `${lines.join("\n")}${endLine}\n` });
    begin = end + endLine.length;
  }
  return blocks;
}

/** The DER in a block that has no headers. */
export function derOf({ text }: PemBlock): Uint8Array {
  const body = text.slice(text.indexOf("\n"), text.lastIndexOf("-----END "));
  return Uint8Array.from(Buffer.from(body, "base64"));
}

/** What the blocks are, for a message that misses something among them. */
export function labelsOf(blocks: readonly PemBlock[]): string {
  return [...new Set(blocks.map((block) => block.label))].join(", ");
}

/** A certificate or key that cannot be used. */
export function invalid(message: string, options?: ErrorOptions): ConfigError {
  return new ConfigError("INVALID_CERTIFICATE", message, options);
}

function pathOf(url: URL, option: string): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw invalid(
      `Option ${option} is a ${url.protocol} URL that names no file here: give a file: URL`,
      { cause },
    );
  }
}

async function readMaterial(
  file: string,
  option: string,
  isSecret: boolean = false,
): Promise<Material> {
  try {
    const { readFile } = await import("node:fs/promises"); // see lib/files.ts
    return { name: `File ${file}`, bytes: new Uint8Array(await readFile(file)), file };
  } catch (cause) {
    if (isSecret) throw neither(option); // the cause names the path too
    throw invalid(`File ${file} of option ${option} ${whyUnreadable(cause, file)}`, { cause });
  }
}

function whyUnreadable(error: unknown, file: string): string {
  const { name, code, message } = error as NodeJS.ErrnoException;
  if (name === "NotCapable") return `may not be read: run Deno with --allow-read=${file}`;
  if (code === "ENOENT") return "does not exist: correct the path";
  if (code === "EACCES") return "may not be read: let this process's user read it";
  if (code === "EISDIR") return "is a directory: name the file in it";
  return `cannot be read: ${message}`;
}
