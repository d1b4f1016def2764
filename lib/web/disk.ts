/**
 * From the path of a URL to an open file, with no way out of the root: names are decoded once and
 * refused when they mean anything but a name, links are followed only to places inside of the root,
 * and what was opened is held against what was found.
 *
 * @module
 */
import type { BigIntStats } from "node:fs";
import { constants, type FileHandle, lstat, open, realpath } from "node:fs/promises";
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
 * @throws the system's error when it cannot be told, such as `EACCES` or `EMFILE`
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

/** An open file; who holds it closes the handle. */
export interface OpenFile {
  /** Opened for reading. */
  readonly handle: FileHandle;
  /** What the system says of what was opened. */
  readonly stats: BigIntStats;
}

/**
 * Opens a located file. Between looking and opening, a name on the way may have been swapped for a
 * link, so the last name is not followed, a pipe is not waited for, and what is open must be the
 * file that was found, under a path that still has no link.
 *
 * @returns `undefined` when the file is gone or is another one by now
 * @throws the system's error, such as `EACCES` or `EMFILE`
 */
export async function openLocated({ path, stats: found }: Located): Promise<OpenFile | undefined> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = await handle.stat({ bigint: true });
    const isSame = stats.isFile() && stats.dev === found.dev && stats.ino === found.ino &&
      await realpath(path) === path;
    if (!isSame) return undefined;
    const opened = { handle, stats };
    handle = undefined; // the caller's now
    return opened;
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  } finally {
    await handle?.close();
  }
}

const ABSENCE = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

function isAbsence(error: unknown): boolean {
  return ABSENCE.has((error as NodeJS.ErrnoException).code ?? "");
}
