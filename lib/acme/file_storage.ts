/**
 * Keeps certificates in a directory, for one process or for several of one machine.
 *
 * A lock is a file `<digest>.<number>`. The highest number has the lock, unless its file is marked as
 * released or has not been touched for so long that its holder is dead; then the next number may be
 * created, which one process alone can. A file is deleted only by the holder of a higher number, so
 * that the highest never vanishes, and none is taken twice.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { clearInterval, setInterval } from "node:timers";
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import { checkOptions, duration, members, shown } from "../options.ts";
import { hasCode, readIfThere, replaceFile, UNFINISHED } from "../whole_files.ts";
import { type CertificateStorage, LOCK_MS, type StorageLock } from "./storage.ts";

/** The options of {@linkcode fileStorage}. */
export interface FileStorageOptions {
  /** How long a lock outlives a holder that was killed, in ms. Default: 15,000. */
  readonly lockMs?: number;
}

const SCHEMA = v.optional(members({ lockMs: duration(LOCK_MS, 100) }), {});

/**
 * Keeps certificates in `directory`, which is made if it does not exist: files with mode 0600 in
 * directories with 0700, each written whole.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the directory is not a path, or for an unknown option
 */
export function fileStorage(
  directory: string,
  options: FileStorageOptions = {},
): CertificateStorage {
  if (typeof directory !== "string" || directory === "") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The directory of fileStorage() must be a path, not ${
        directory === "" ? "an empty text" : shown(directory)
      }: write fileStorage("certs/acme")`,
    );
  }
  const { lockMs } = checkOptions("fileStorage()", SCHEMA, options);
  return new FileStorage(directory, lockMs);
}

/** When a file that was never finished is removed, in ms. */
const ABANDONED_MS = 3_600_000;

class FileStorage implements CertificateStorage {
  readonly #directory: string;
  readonly #lockMs: number;

  constructor(directory: string, lockMs: number) {
    this.#directory = directory;
    this.#lockMs = lockMs;
  }

  async get(key: string): Promise<string | undefined> {
    return await readIfThere(this.#path(key));
  }

  async set(key: string, text: string): Promise<void> {
    const file = this.#path(key);
    await mkdir(join(file, ".."), { recursive: true, mode: 0o700 });
    await replaceFile(file, text, 0o600);
  }

  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true });
  }

  async list(prefix: string): Promise<string[]> {
    const folder = this.#path(prefix.replace(/\/$/, ""));
    const keys: string[] = [];
    for (const entry of await entriesOf(folder)) {
      const name = entry.name;
      const path = join(folder, name);
      if (name.startsWith(UNFINISHED)) {
        const age = Date.now() - (await modifiedAt(path) ?? Date.now());
        if (age > ABANDONED_MS) await rm(path, { force: true });
      } else if (entry.isDirectory()) {
        keys.push(...await this.list(`${prefix}${decoded(name)}/`));
      } else keys.push(`${prefix}${decoded(name)}`);
    }
    return keys;
  }

  async lock(name: string): Promise<StorageLock | undefined> {
    const folder = join(this.#directory, "locks");
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const digest = createHash("sha256").update(name).digest("hex").slice(0, 32);
    return await FileLock.take(folder, digest, this.#lockMs);
  }

  /** The file of a key; each part is one name that every file system takes. */
  #path(key: string): string {
    const parts = key.split("/").map(encoded);
    return join(this.#directory, ...parts);
  }
}

/** A lock in a directory. */
class FileLock implements StorageLock {
  readonly #folder: string;
  readonly #digest: string;
  readonly #number: number;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #released = false;

  private constructor(folder: string, digest: string, number: number, lockMs: number) {
    this.#folder = folder;
    this.#digest = digest;
    this.#number = number;
    this.#timer = setInterval(() => void this.#renew(), lockMs / 3);
    this.#timer.unref();
  }

  static async take(folder: string, digest: string, lockMs: number): Promise<FileLock | undefined> {
    const before = await numbersOf(folder, digest);
    const highest = before.at(-1) ?? 0;
    if (highest > 0 && !await isFree(fileOf(folder, digest, highest), lockMs)) return undefined;
    const number = highest + 1;
    try {
      const file = fileOf(folder, digest, number);
      await writeFile(file, String(lockMs), { flag: "wx", mode: 0o600 });
    } catch (error) {
      if (hasCode(error, "EEXIST")) return undefined;
      throw error;
    }
    const after = await numbersOf(folder, digest);
    if (after.at(-1) !== number) {
      // Others were faster, and have deleted what was highest before.
      await rm(fileOf(folder, digest, number), { force: true });
      return undefined;
    }
    for (const old of after.slice(0, -1)) await rm(fileOf(folder, digest, old), { force: true });
    return new FileLock(folder, digest, number, lockMs);
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  async release(): Promise<void> {
    if (this.#released || this.signal.aborted) return;
    this.#released = true;
    clearInterval(this.#timer);
    // Marked, not deleted: the highest number has to stay.
    const file = fileOf(this.#folder, this.#digest, this.#number);
    try {
      await writeFile(file, RELEASED, { flag: "r+" });
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
    }
  }

  async #renew(): Promise<void> {
    try {
      const numbers = await numbersOf(this.#folder, this.#digest);
      if (this.#released) return;
      if (numbers.at(-1) !== this.#number) return this.#lose();
      const now = new Date();
      await utimes(fileOf(this.#folder, this.#digest, this.#number), now, now);
    } catch {
      // The disk may come back before the lock is too old; if not, its number is not the highest then.
    }
  }

  #lose(): void {
    clearInterval(this.#timer);
    this.#lost.abort(new DOMException("The lock was lost to another process", "AbortError"));
  }
}

function fileOf(folder: string, digest: string, number: number): string {
  return join(folder, `${digest}.${number}`);
}

/** The numbers of the files of a lock, the highest last. */
async function numbersOf(folder: string, digest: string): Promise<number[]> {
  const names = (await entriesOf(folder)).map(({ name }) => name);
  return names.filter((name) => name.startsWith(`${digest}.`))
    .map((name) => Number(name.slice(digest.length + 1)))
    .filter(Number.isSafeInteger)
    .sort((one, other) => one - other);
}

/** What the text in the file of a lock begins with when it was released. */
const RELEASED = "free";

/**
 * Whether the lock of a file was released, or its holder does not renew it any more. The text in it
 * is how long it outlives its holder, who may have other options; none is there yet when it is new.
 */
async function isFree(file: string, lockMs: number): Promise<boolean> {
  const text = await readIfThere(file);
  const modified = await modifiedAt(file);
  if (text === undefined || modified === undefined) return false; // it is not the highest any more
  return text.startsWith(RELEASED) || Date.now() - modified > (Number(text) || lockMs);
}

async function modifiedAt(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).mtimeMs;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function entriesOf(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

/** A part of a key as the name of a file: `*` and `:` are not allowed everywhere. */
function encoded(part: string): string {
  if (!/^[A-Za-z0-9._~*:-]+$/.test(part) || part.startsWith(".")) {
    throw new ConfigError("INVALID_CONFIG", "A key of the storage has a part that is no name");
  }
  return part.replaceAll("*", "%2A").replaceAll(":", "%3A");
}

function decoded(name: string): string {
  return name.replaceAll("%2A", "*").replaceAll("%3A", ":");
}
