/**
 * How a route's template is compared with a request's path (original: `uri_match_fn`). Paths are
 * compared as sent: not decoded, not normalised, case-sensitive.
 *
 * @module
 */

import type { Pattern } from "../http/path_table.ts";
import type { UriMatcher } from "../http/router.ts";

export type { UriMatcher } from "../http/router.ts";

/** The default: the same text. */
export function matchExact(template: string, path: string): boolean {
  return template === path;
}

/**
 * Matches as `httpd_uri_match_wildcard` does. Only at the end of a template are two characters
 * special, in either order: `?` makes the character before it optional, `*` matches anything.
 * So `/api/?*` is for `/api`, `/api/` and `/api/status`, but not for `/apix`.
 */
export function matchWildcard(template: string, path: string): boolean {
  const { paths, prefix } = readWildcard(template);
  return paths.includes(path) || (prefix !== undefined && path.startsWith(prefix));
}

/** What reads the templates of a matcher into patterns; `undefined` for a matcher of the program's. */
export function readerOf(uriMatch: UriMatcher): ((template: string) => Pattern) | undefined {
  if (uriMatch === matchExact) return (template) => ({ paths: [template], prefix: undefined });
  return uriMatch === matchWildcard ? readWildcard : undefined;
}

function readWildcard(template: string): Pattern {
  let end = template.length;
  let optional = false;
  let open = false;
  for (; end > 0; end--) {
    const last = template[end - 1];
    if (last === "?" && !optional) optional = true;
    else if (last === "*" && !open) open = true;
    else break;
  }
  const base = template.slice(0, end);
  if (optional && base === "") return NOTHING; // there is no character to be optional
  const paths = open ? [] : [base];
  if (optional) paths.push(base.slice(0, -1));
  return { paths, prefix: open ? base : undefined };
}

const NOTHING: Pattern = { paths: [], prefix: undefined };
