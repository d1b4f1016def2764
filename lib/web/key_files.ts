/**
 * Files that hold a private key, by their names and by what is in them. A directory that is served
 * by mistake is often the one in which the server's own certificates lie.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { contentTypeOf } from "./content_types.ts";
import { type Located, openLocated } from "./disk.ts";

/** Names that mean a private key or a store of them, compressed or not. */
const KEY_NAME = /\.(?:key|p12|pfx|p8|pk8|ppk|jks)(?:\.(?:br|gz|zst))?$/i;

const PEM_KEY = /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----/;

/** How far a file is searched. A key with a long chain of certificates before it takes a tenth. */
const SEARCHED_BYTES = 128 * 1024;

/** How many answers are kept; the oldest makes room. */
const MAX_KEPT = 10_000;

/** How long a file must be unchanged, in ms, before the next change is sure to change its times. */
const SETTLED_MS = 2_000;

/** Whether files hold private keys; what was found out is kept as long as the file is unchanged. */
export class KeyFiles {
  readonly #kept = new Map<string, boolean>();

  /**
   * Whether a located file holds a private key: by its name or that of the file it leads to, or by a
   * PEM private key in its first 128 KiB, which is looked for in text and in what has no known media
   * type.
   *
   * @throws the system's error when it cannot be read, such as `EACCES`
   */
  async has(name: string, found: Located): Promise<boolean> {
    const names = [name, basename(found.path)];
    if (names.some((each) => KEY_NAME.test(each))) return true;
    if (!names.some(mayBePem)) return false;
    const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = found.stats;
    const key = [dev, ino, size, mtimeNs, ctimeNs].join();
    const known = this.#kept.get(key);
    if (known !== undefined) return known;
    const holdsKey = await holdsPem(found);
    if (Number(ctimeMs) < Date.now() - SETTLED_MS) this.#keep(key, holdsKey);
    return holdsKey;
  }

  #keep(key: string, holdsKey: boolean): void {
    this.#kept.set(key, holdsKey);
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
  }
}

/** Whether a name alone says that the file holds no key, so that it need not be looked at. */
export function isHarmlessName(name: string): boolean {
  return !KEY_NAME.test(name) && !mayBePem(name);
}

async function holdsPem(found: Located): Promise<boolean> {
  const opened = await openLocated(found);
  if (opened === undefined) return false; // gone by now; it is opened again to be served
  try {
    return PEM_KEY.test(await textOf(opened.handle));
  } finally {
    await opened.handle.close();
  }
}

function mayBePem(name: string): boolean {
  const type = contentTypeOf(name);
  return type === undefined || type.startsWith("text/plain");
}

async function textOf(handle: FileHandle): Promise<string> {
  const { size } = await handle.stat();
  const bytes = Buffer.alloc(Math.min(size, SEARCHED_BYTES));
  let filled = 0;
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, filled);
    if (bytesRead === 0) break; // it shrank
    filled += bytesRead;
  }
  return bytes.toString("latin1", 0, filled);
}
