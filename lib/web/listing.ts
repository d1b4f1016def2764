/**
 * The page that lists a directory.
 *
 * @module
 */
import type { Dirent } from "node:fs";
import { type Dotfiles, fileIn, isServable, locate, type Located, openDirectory } from "./disk.ts";
import { isHarmlessName, type KeyFiles } from "./key_files.ts";

/** A directory with more entries is listed in part: the page is made in memory. */
const MAX_ENTRIES = 10_000;

/** What the page may load: nothing. */
export const LISTING_CONTENT_SECURITY_POLICY =
  "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Which entries of a directory may be served. */
export interface ListingRules {
  /** Names that may begin with a dot. */
  readonly dotfiles: Dotfiles;
  /** What knows the files that hold a private key, which are left out; `undefined`: they are listed. */
  readonly keys: KeyFiles | undefined;
}

/**
 * Lists what may be served of a directory below `root`, as HTML with links relative to it.
 * What would not be served is left out: hidden names, links out of the root, devices and pipes,
 * private keys.
 *
 * @returns `undefined` when the directory is gone or is another one by now
 */
export async function listDirectory(
  root: string,
  segments: readonly string[],
  found: Located,
  rules: ListingRules,
): Promise<string | undefined> {
  const directory = await openDirectory(found);
  if (directory === undefined) return undefined;
  const names: string[] = [];
  let isWhole = true;
  try {
    for await (const entry of directory.entries) {
      if (!isServable(entry.name, rules.dotfiles)) continue;
      if (names.length === MAX_ENTRIES) {
        isWhole = false;
        break;
      }
      const kind = await kindOf(entry, root, segments, found, rules);
      if (kind === undefined) continue;
      names.push(kind === "directory" ? `${entry.name}/` : entry.name);
    }
  } finally {
    await directory.close();
  }
  return renderPage(segments, names.sort(), isWhole);
}

/** What an entry is; `undefined` for what is not served. */
async function kindOf(
  entry: Dirent,
  root: string,
  segments: readonly string[],
  directory: Located,
  { keys }: ListingRules,
): Promise<"file" | "directory" | undefined> {
  const { name } = entry;
  if (entry.isDirectory()) return "directory";
  if (entry.isFile() && (keys === undefined || isHarmlessName(name))) return "file";
  if (!entry.isFile() && !entry.isSymbolicLink()) return undefined;
  const found = entry.isFile()
    ? await fileIn(directory, name)
    : await locate(root, [...segments, name]);
  if (found?.kind !== "file" || keys === undefined) return found?.kind;
  return await isListedKey(keys, name, found) ? undefined : "file";
}

/** What cannot be read is answered 403, which is no secret. */
async function isListedKey(keys: KeyFiles, name: string, found: Located): Promise<boolean> {
  try {
    return await keys.has(name, found);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EACCES" || code === "EPERM") return false;
    throw error;
  }
}

function renderPage(segments: readonly string[], names: string[], isWhole: boolean): string {
  const title = escapeHtml(`/${segments.map((segment) => `${segment}/`).join("")}`);
  const links = names.map((name) =>
    link(`./${encodeURIComponent(name)}`.replace(/%2F$/, "/"), name)
  );
  if (segments.length > 0) links.unshift(link("../", "../"));
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${title}</title></head>
<body>
<h1>${title}</h1>
<ul>
${links.join("\n")}
</ul>
${isWhole ? "" : `<p>Only ${MAX_ENTRIES} entries are shown.</p>\n`}</body>
</html>
`;
}

function link(href: string, name: string): string {
  return `<li><a href="${escapeHtml(href)}">${escapeHtml(name)}</a></li>`;
}

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
