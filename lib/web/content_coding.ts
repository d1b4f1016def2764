/**
 * Content codings and what clients say of them in `Accept-Encoding` (RFC 9110 sections 8.4.1 and
 * 12.5.3).
 *
 * @module
 */

/** A content coding: Brotli (RFC 7932), Zstandard (RFC 8878), gzip and zlib (RFC 9110). */
export type ContentCoding = "br" | "zstd" | "gzip" | "deflate";

/** What a client accepts. */
export interface AcceptedCodings {
  /** The weight of a coding, from 0 (not acceptable) to 1. */
  weight(coding: ContentCoding): number;
  /** The weight of sending the content as it is; `undefined`: acceptable, but not named. */
  readonly identity: number | undefined;
}

const QUALITY = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

/**
 * Reads an `Accept-Encoding` field. Without one nothing but identity is accepted, which is what
 * clients that send none want; members that cannot be read count as not sent.
 */
export function parseAcceptEncoding(field: string | null): AcceptedCodings {
  const weights = new Map<string, number>();
  for (const member of (field ?? "").split(",")) {
    const [name = "", ...parameters] = member.split(";");
    const coding = name.trim().toLowerCase().replace(/^x-(?=gzip$)/, "");
    const q = parameters.map((parameter) => parameter.trim()).find((text) => /^q=/i.test(text));
    const quality = q?.slice(2) ?? "1";
    if (coding !== "" && QUALITY.test(quality)) weights.set(coding, Number(quality));
  }
  const others = weights.get("*");
  return {
    weight: (coding) => weights.get(coding) ?? others ?? 0,
    identity: weights.get("identity") ?? (others === 0 ? 0 : undefined),
  };
}

/**
 * The codings that suit a client better than identity, best first; of those with equal weight, in
 * the order of `available`.
 */
export function rankCodings(
  { weight, identity = 0 }: AcceptedCodings,
  available: readonly ContentCoding[],
): ContentCoding[] {
  return available
    .filter((coding) => weight(coding) > 0 && weight(coding) >= identity)
    .sort((a, b) => weight(b) - weight(a));
}

/** Adds `Accept-Encoding` to `Vary`, unless it is there (RFC 9110 section 12.5.5). */
export function varyByEncoding(headers: Headers): void {
  const named = (headers.get("vary") ?? "").split(",").map((name) => name.trim().toLowerCase());
  if (!named.includes("*") && !named.includes("accept-encoding")) {
    headers.append("vary", "Accept-Encoding");
  }
}
