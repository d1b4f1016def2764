/**
 * From the path of a URL to an open file, with no way out of the root: names are decoded once and
 * refused when they mean anything but a name, links are followed only to places inside of the root,
 * and what was opened is compared with what was found.
 *
 * @module
 */
import type { BigIntStats, Dirent } from "node:fs";
import {
  constants,
  type FileHandle,
  lstat,
  open,
  opendir,
  readlink,
  realpath,
} from "node:fs/promises";
import { join, sep } from "node:path";

/** The names on the way from the root to a file or directory. */
export interface PathTarget {
  /** The decoded names; none for the root itself. */
  readonly segments: readonly string[];
  /** Whether the path ends in a slash, as a directory's does. */
  readonly directory: boolean;
}

/** Which names that begin with a dot may be served; `"all"` for all. */
export type Dotfiles = readonly string[] | "all";

/**
 * Reads a URL path, as `URL.pathname` gives it. Every name is decoded once, so that what is still
 * encoded then is just a strange name.
 *
 * @returns `undefined` for a path that may not be looked for: with an empty name, `.` or `..`, a
 * slash, backslash or NUL in a name, a broken escape, or a dotfile that is not in `dotfiles`
 */
export function parsePath(path: string, dotfiles: Dotfiles): PathTarget | undefined {
  const names = path.split("/").slice(1);
  const directory = names.at(-1) === "";
  if (directory) names.pop();
  const segments: string[] = [];
  for (const name of names) {
    const segment = decodeName(name);
    if (segment === undefined || !isServable(segment, dotfiles)) return undefined;
    segments.push(segment);
  }
  return { segments, directory };
}

function decodeName(name: string): string | undefined {
  try {
    return decodeURIComponent(name);
  } catch {
    return undefined; // a broken escape is no name
  }
}

/** Whether a file of this name may be served: a plain name, and no dotfile unless in `dotfiles`. */
export function isServable(name: string, dotfiles: Dotfiles): boolean {
  if (name === "" || name === "." || name === ".." || /[/\\\0]/.test(name)) return false;
  return !name.startsWith(".") || dotfiles === "all" || dotfiles.includes(name);
}

/** A file or directory inside of the root. */
export interface Located {
  /** What it is; sockets, pipes and devices are never located. */
  readonly kind: "file" | "directory";
  /** Its path without any link. */
  readonly path: string;
  /** What the system says of it. */
  readonly stats: BigIntStats;
}

/**
 * Looks for a file or directory below `root`, which must be a path without links.
 *
 * @returns `undefined` when there is none, when a link leads out of the root, or when it is neither
 * @throws the system's error when it cannot be found out, such as `EACCES` or `EMFILE`
 */
export async function locate(
  root: string,
  segments: readonly string[],
): Promise<Located | undefined> {
  try {
    const path = await realpath(join(root, ...segments));
    if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return undefined;
    const stats = await lstat(path, { bigint: true });
    if (stats.isFile()) return { kind: "file", path, stats };
    return stats.isDirectory() ? { kind: "directory", path, stats } : undefined;
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

/**
 * Looks for a file of this name in a located directory, following no link.
 *
 * @returns `undefined` when there is none
 */
export async function fileIn(directory: Located, name: string): Promise<Located | undefined> {
  try {
    const path = join(directory.path, name);
    const stats = await lstat(path, { bigint: true });
    return stats.isFile() ? { kind: "file", path, stats } : undefined;
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

/** An open file; its holder closes the handle. */
export interface OpenFile {
  /** Opened for reading. */
  readonly handle: FileHandle;
  /** What the system says of what was opened. */
  readonly stats: BigIntStats;
}

/**
 * Opens a located file. Between looking and opening, a name on the way may have been swapped for a
 * link, so the last name is not followed, a pipe is not waited for, and what is open must be the
 * file that was found, where it was found ({@linkcode isWhatWasFound}).
 *
 * @returns `undefined` when the file is gone or is another one by now
 * @throws the system's error, such as `EACCES` or `EMFILE`
 */
export async function openLocated(found: Located): Promise<OpenFile | undefined> {
  const handle = await openAt(found.path, constants.O_NONBLOCK);
  if (handle === undefined) return undefined;
  let isCallers = false;
  try {
    const stats = await handle.stat({ bigint: true });
    isCallers = stats.isFile() && await isWhatWasFound(handle, found);
    return isCallers ? { handle, stats } : undefined;
  } finally {
    if (!isCallers) await handle.close();
  }
}

/** The entries of an open directory; its holder closes it. */
export interface OpenDirectory {
  /** The entries, which can be walked through once. */
  readonly entries: AsyncIterable<Dirent>;
  /** Closes the directory. */
  close(): Promise<void>;
}

/**
 * Opens a located directory, with the same care as {@linkcode openLocated}. Where the system has
 * `/proc`, the entries are those of the directory that is open, whatever is at its path by then.
 *
 * @returns `undefined` when it is gone or is another one by now
 * @throws the system's error, such as `EACCES` or `EMFILE`
 */
export async function openDirectory(found: Located): Promise<OpenDirectory | undefined> {
  const handle = await openAt(found.path, constants.O_DIRECTORY);
  if (handle === undefined) return undefined;
  let isCallers = false;
  try {
    if (!await isWhatWasFound(handle, found)) return undefined;
    const isNamed = await pathOfOpen(handle) !== undefined;
    const entries = await opendir(isNamed ? descriptorPath(handle) : found.path);
    isCallers = true;
    return { entries, close: () => handle.close() };
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  } finally {
    if (!isCallers) await handle.close();
  }
}

async function openAt(path: string, flags: number): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | flags);
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

/**
 * Whether what is open is what was found, at its path and with no link on the way. The system is
 * asked where the open file is: its number alone proves nothing, as an attacker who swaps a
 * directory for a link could have done so when it was looked at, too.
 *
 * Where the system does not say (no `/proc`, or Deno without `--allow-all`, which that needs), the
 * path is looked at again and again: it must have no link, then lead to the open file, then have no
 * link, each time.
 */
export async function isWhatWasFound(
  handle: FileHandle,
  { path, stats: found }: Located,
  whereIs: (handle: FileHandle) => Promise<string | undefined> = pathOfOpen,
): Promise<boolean> {
  const opened = await handle.stat({ bigint: true });
  if (!isSame(opened, found)) return false;
  const where = await whereIs(handle);
  if (where !== undefined) return where === path;
  try {
    for (let look = 0; look < LOOKS; look++) {
      if (await realpath(path) !== path) return false;
      if (!isSame(await lstat(path, { bigint: true }), opened)) return false;
    }
    return await realpath(path) === path;
  } catch (error) {
    if (isAbsence(error)) return false;
    throw error;
  }
}

/** How often a path is looked at where the system does not say what is open. */
const LOOKS = 3;

function isSame(one: BigIntStats, other: BigIntStats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

/** Linux's name for an open file, which needs no way through directories. */
function descriptorPath({ fd }: FileHandle): string {
  return `/proc/self/fd/${fd}`;
}

/** Where an open file is by now, as the system says; `undefined` where it does not. */
async function pathOfOpen(handle: FileHandle): Promise<string | undefined> {
  try {
    return await readlink(descriptorPath(handle));
  } catch {
    return undefined; // another system, no /proc, or not permitted
  }
}

const ABSENCE = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

function isAbsence(error: unknown): boolean {
  return ABSENCE.has((error as NodeJS.ErrnoException).code ?? "");
}
