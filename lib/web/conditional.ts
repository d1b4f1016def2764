/**
 * Conditional requests: whether a client that knows an earlier state of a representation gets the
 * whole, a part, or only a status (RFC 9110 section 13).
 *
 * @module
 */
import { parseHttpDate } from "./http_date.ts";

/** What distinguishes one state of a representation from another (RFC 9110 section 8.8). */
export interface Validators {
  /** The entity tag as it is sent, weak ones with their `W/`. */
  readonly etag: string;
  /** When it was last changed, in ms since the epoch, a whole second. */
  readonly lastModified: number;
  /**
   * Whether enough time has passed since the last change that `lastModified` cannot mean two states
   * (RFC 9110 section 8.8.2.2).
   */
  readonly settled: boolean;
}

/** What the preconditions make of a GET or HEAD: go on, answer 304, or answer 412. */
export type Verdict = "proceed" | "not-modified" | "failed";

/**
 * Evaluates the preconditions of a GET or HEAD that would be answered with 200, in the order of RFC
 * 9110 section 13.2.2. A condition that cannot be read counts as not sent if it is a date, and as
 * naming no tag if it is a list of tags.
 */
export function evaluatePreconditions(headers: Headers, validators: Validators): Verdict {
  const { etag, lastModified, settled } = validators;
  const ifMatch = headers.get("if-match");
  if (ifMatch !== null) {
    if (!namesTag(ifMatch, etag, isSameStrongTag)) return "failed";
  } else {
    const unmodifiedSince = parseHttpDate(headers.get("if-unmodified-since") ?? "");
    if (unmodifiedSince !== undefined && lastModified > unmodifiedSince) return "failed";
  }
  const ifNoneMatch = headers.get("if-none-match");
  if (ifNoneMatch !== null) {
    return namesTag(ifNoneMatch, etag, isSameTag) ? "not-modified" : "proceed";
  }
  const modifiedSince = parseHttpDate(headers.get("if-modified-since") ?? "");
  if (modifiedSince !== undefined && settled && lastModified <= modifiedSince) {
    return "not-modified";
  }
  return "proceed";
}

/**
 * Whether a Range may be honoured for what `If-Range` says (RFC 9110 section 13.1.5): the very
 * same strong tag, or the very date of a representation that is settled.
 */
export function ifRangeHolds(ifRange: string | null, validators: Validators): boolean {
  if (ifRange === null) return true;
  const { etag, lastModified, settled } = validators;
  if (ifRange.includes('"')) return isSameStrongTag(ifRange, etag);
  return settled && parseHttpDate(ifRange) === lastModified;
}

/** A tag with the quotes that may hold commas (RFC 9110 section 8.8.3). */
const ENTITY_TAG = /(?:W\/)?"[^"]*"/g;

function namesTag(
  list: string,
  etag: string,
  isSame: (one: string, other: string) => boolean,
): boolean {
  if (list === "*") return true;
  for (const [tag] of list.matchAll(ENTITY_TAG)) {
    if (isSame(tag, etag)) return true;
  }
  return false;
}

function isSameStrongTag(one: string, other: string): boolean {
  return one === other && !one.startsWith("W/");
}

function isSameTag(one: string, other: string): boolean {
  return one.replace(/^W\//, "") === other.replace(/^W\//, "");
}
