/**
 * Decides what a client gets of an open file: all of it, parts, or only a status that it has not
 * changed or differs from what the client has. Decided from the request's fields and the file's
 * facts alone.
 *
 * @module
 */
import type { BigIntStats } from "node:fs";
import { utf8 } from "../bytes.ts";
import { evaluatePreconditions, ifRangeHolds, type Validators } from "./conditional.ts";
import type { ContentCoding } from "./content_coding.ts";
import { lengthOf, type Segment } from "./file_body.ts";
import { formatHttpDate } from "./http_date.ts";
import { type ByteRange, selectRanges } from "./ranges.ts";

/** A file, and the form of it that this client gets. */
export interface Representation {
  /** What the system says of the open file. */
  readonly stats: BigIntStats;
  /** Its media type, without the coding. */
  readonly contentType: string;
  /** How it is encoded, if it is. */
  readonly coding: ContentCoding | undefined;
}

/** Status, fields and content of an answer. */
export interface Plan {
  /** The status code. */
  readonly status: number;
  /** The fields, except those that do not depend on the representation. */
  readonly headers: Headers;
  /** What is sent of the file; empty for nothing. */
  readonly segments: readonly Segment[];
}

/** Decides what is sent of a representation, and with which fields. */
export function planResponse(
  request: Request,
  representation: Representation,
  maxRanges: number,
): Plan {
  const validators = validatorsOf(representation, Date.now());
  const headers = new Headers({ etag: validators.etag, "x-content-type-options": "nosniff" });
  if (validators.settled) headers.set("last-modified", formatHttpDate(validators.lastModified));
  switch (evaluatePreconditions(request.headers, validators)) {
    case "failed":
      return { status: 412, headers, segments: [] };
    case "not-modified":
      return { status: 304, headers, segments: [] };
    case "proceed":
      return planContent(request, headers, representation, validators, maxRanges);
  }
}

/** How long after a change another one can still hide: the coarsest clock of a file system (FAT). */
const SETTLING_MS = 2000;

function validatorsOf({ stats, coding }: Representation, now: number): Validators {
  const { size, mtimeNs, mtimeMs, ctimeNs, ctimeMs } = stats;
  const changed = Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
  const settled = changed + SETTLING_MS <= now;
  const state = [size, mtimeNs, ctimeNs].map((part) => part.toString(36)).join("-");
  const tag = `"${state}${coding === undefined ? "" : `-${coding}`}"`;
  return { etag: settled ? tag : `W/${tag}`, lastModified: wholeSecond(mtimeMs), settled };
}

/** A time down to the second, as HTTP-dates have it, in ms. */
export function wholeSecond(ms: bigint): number {
  return Math.floor(Number(ms) / 1000) * 1000;
}

function planContent(
  request: Request,
  headers: Headers,
  { stats, contentType, coding }: Representation,
  validators: Validators,
  maxRanges: number,
): Plan {
  const size = Number(stats.size);
  headers.set("accept-ranges", "bytes");
  if (coding !== undefined) headers.set("content-encoding", coding);
  const range = request.method === "GET" ? request.headers.get("range") : null;
  const ranges = range !== null && ifRangeHolds(request.headers.get("if-range"), validators)
    ? selectRanges(range, size, maxRanges)
    : undefined;
  if (ranges === "unsatisfiable") {
    headers.set("content-range", `bytes */${size}`);
    return { status: 416, headers, segments: [] };
  }
  if (ranges === undefined) {
    headers.set("content-type", contentType);
    headers.set("content-length", String(size));
    return { status: 200, headers, segments: size === 0 ? [] : [{ start: 0, end: size }] };
  }
  const segments = ranges.length === 1
    ? planSinglePart(headers, ranges[0]!, contentType, size)
    : planMultipart(headers, ranges, contentType, size);
  headers.set("content-length", String(segments.reduce((sum, part) => sum + lengthOf(part), 0)));
  return { status: 206, headers, segments };
}

function planSinglePart(
  headers: Headers,
  range: ByteRange,
  contentType: string,
  size: number,
): Segment[] {
  headers.set("content-type", contentType);
  headers.set("content-range", contentRange(range, size));
  return [range];
}

/** RFC 9110 section 14.6. */
function planMultipart(
  headers: Headers,
  ranges: readonly ByteRange[],
  contentType: string,
  size: number,
): Segment[] {
  const boundary = crypto.randomUUID();
  headers.set("content-type", `multipart/byteranges; boundary=${boundary}`);
  const segments = ranges.flatMap((range, i): Segment[] => [
    utf8(
      `${i === 0 ? "" : "\r\n"}--${boundary}\r\nContent-Type: ${contentType}\r\n` +
        `Content-Range: ${contentRange(range, size)}\r\n\r\n`,
    ),
    range,
  ]);
  return [...segments, utf8(`\r\n--${boundary}--\r\n`)];
}

function contentRange({ start, end }: ByteRange, size: number): string {
  return `bytes ${start}-${end - 1}/${size}`;
}
