/**
 * Paths as URLs have them.
 *
 * @module
 */

/** The beginning of a path as `URL.pathname` spells it, with its escapes; empty for none. */
export function urlPath(path: string): string {
  if (path === "") return "";
  const url = new URL("http://localhost");
  url.pathname = path;
  return url.pathname;
}
