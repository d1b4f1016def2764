/**
 * The compressed forms of a file that are beside it, or in its place: `app.js.br` for `app.js`
 * (RFC 9110 section 12.5.3).
 *
 * @module
 */
import { type ContentCoding, parseAcceptEncoding, rankCodings } from "./content_coding.ts";
import { locate, type Located, type OpenFile, openLocated } from "./disk.ts";
import type { KeyFiles } from "./key_files.ts";
import { wholeSecond } from "./representation.ts";

/** Precompressed siblings, the one that is most likely the smallest first. */
const SIBLINGS: readonly ContentCoding[] = ["br", "zstd", "gzip"];

const SIBLING_EXTENSIONS: Readonly<Record<string, string>> = {
  br: ".br",
  zstd: ".zst",
  gzip: ".gz",
};

/**
 * Opens the form of a file that suits a client best, unless it is older than its original; `undefined`
 * when that is the original.
 */
export async function openSibling(
  headers: Headers,
  root: string,
  segments: readonly string[],
  original: Located,
): Promise<OpenFile & { coding: ContentCoding } | undefined> {
  const accepted = parseAcceptEncoding(headers.get("accept-encoding"));
  for (const coding of rankCodings(accepted, SIBLINGS)) {
    const found = await locate(root, siblingOf(segments, coding));
    if (found?.kind !== "file") continue;
    if (wholeSecond(found.stats.mtimeMs) < wholeSecond(original.stats.mtimeMs)) continue;
    const opened = await openLocated(found);
    if (opened !== undefined) return { coding, ...opened };
  }
  return undefined;
}

/** A compressed form of a file. */
export interface Compressed {
  /** How it is encoded. */
  readonly coding: ContentCoding;
  /** Where it is. */
  readonly found: Located;
}

/**
 * The codings that a file is there in alone, and the forms of it that a client accepts, best first;
 * without those that hold a private key.
 */
export async function findLone(
  keys: KeyFiles | undefined,
  headers: Headers,
  root: string,
  segments: readonly string[],
): Promise<{ lone: ContentCoding[]; accepted: Compressed[] }> {
  const forms = new Map<ContentCoding, Located>();
  for (const coding of SIBLINGS) {
    const found = await locate(root, siblingOf(segments, coding));
    if (found?.kind !== "file" || await keys?.has(segments.at(-1)!, found)) continue;
    forms.set(coding, found);
  }
  const lone = [...forms.keys()];
  const { weight } = parseAcceptEncoding(headers.get("accept-encoding"));
  // Identity is no choice here, whatever it weighs.
  const ranked = rankCodings({ weight, identity: undefined }, lone);
  return { lone, accepted: ranked.map((coding) => ({ coding, found: forms.get(coding)! })) };
}

/** The names on the way to a compressed form of a file. */
function siblingOf(segments: readonly string[], coding: ContentCoding): string[] {
  return [...segments.slice(0, -1), segments.at(-1)! + SIBLING_EXTENSIONS[coding]];
}
