/**
 * The page that lists a directory.
 *
 * @module
 */
import { opendir } from "node:fs/promises";
import { type Dotfiles, isServable, locate } from "./disk.ts";

/** A directory with more entries is listed in part: the page is made in memory. */
const MAX_ENTRIES = 10_000;

/** What the page may load: nothing. */
export const LISTING_CONTENT_SECURITY_POLICY =
  "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/**
 * Lists what may be served of a directory below `root`, as HTML with links relative to it.
 * What would not be served is left out: hidden names, links out of the root, devices and pipes.
 */
export async function listDirectory(
  root: string,
  segments: readonly string[],
  path: string,
  dotfiles: Dotfiles,
): Promise<string> {
  const names: string[] = [];
  let isWhole = true;
  for await (const entry of await opendir(path)) {
    if (!isServable(entry.name, dotfiles)) continue;
    if (names.length === MAX_ENTRIES) {
      isWhole = false;
      break; // which closes the directory
    }
    let isDirectory = entry.isDirectory();
    if (entry.isSymbolicLink()) {
      const target = await locate(root, [...segments, entry.name]);
      if (target === undefined) continue;
      isDirectory = target.kind === "directory";
    } else if (!isDirectory && !entry.isFile()) {
      continue;
    }
    names.push(isDirectory ? `${entry.name}/` : entry.name);
  }
  return renderPage(segments, names.sort(), isWhole);
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
