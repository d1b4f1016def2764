/**
 * Files that are written whole: what reads one meanwhile, or after the machine has fallen, gets the
 * former text or the new one. They are for secrets: their modes hold from their first byte on.
 *
 * @module
 */
import { link, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

/** What a file is called, in its own folder, until it is whole. */
export const UNFINISHED = ".new-";

/** Writes a file in the place of another, if there is one. */
export async function replaceFile(file: string, text: string, mode: number): Promise<void> {
  const unfinished = await writeBeside(file, text, mode);
  try {
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}

/** Writes a file, unless there is one. */
export async function createFile(file: string, text: string, mode: number): Promise<void> {
  const unfinished = await writeBeside(file, text, mode);
  try {
    await link(unfinished, file); // unlike rename(), fails if the file exists
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  } finally {
    await rm(unfinished, { force: true });
  }
}

/** The text of a file; `undefined` where there is none. */
export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Whether the system gives this reason. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** Writes a new file in the same folder; returns its path. */
async function writeBeside(file: string, text: string, mode: number): Promise<string> {
  const path = join(dirname(file), `${UNFINISHED}${crypto.randomUUID()}`);
  const handle = await open(path, "wx", mode);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return path;
}
