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

/**
 * Whether a located file holds a private key: by its name or that of the file it leads to, or by a
 * PEM private key in its first 128 KiB, which is looked for in text and in what has no known media
 * type.
 *
 * @throws the system's error when it cannot be read, such as `EACCES`
 */
export async function isKeyFile(name: string, found: Located): Promise<boolean> {
  const names = [name, basename(found.path)];
  if (names.some((each) => KEY_NAME.test(each))) return true;
  if (!names.some(mayBePem)) return false;
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
