/**
 * Range requests: which bytes a `Range` field asks for (RFC 9110 section 14).
 *
 * @module
 */

/** A run of bytes: from `start` up to but not including `end`. */
export interface ByteRange {
  /** The offset of the first byte. */
  readonly start: number;
  /** The offset behind the last byte. */
  readonly end: number;
}

/**
 * What a `Range` field asks for: parts, `"unsatisfiable"` for a 416, or `undefined` where the field
 * is to be ignored and the whole is to be sent.
 */
export type RangeSelection = readonly ByteRange[] | "unsatisfiable" | undefined;

/**
 * Reads a `Range` field against a representation of `size` bytes.
 *
 * - Another unit than bytes, or a malformed set, is ignored (RFC 9110 section 14.2).
 * - Ranges that begin behind the end are left out; when none remains, it is unsatisfiable.
 * - More than `maxRanges` ranges are refused as unsatisfiable (RFC 9110 section 15.5.17).
 * - Ranges that overlap or touch are joined, so that no byte is sent twice; the others keep the
 *   order that they were asked in (RFC 9110 section 15.3.7.2).
 */
export function selectRanges(field: string, size: number, maxRanges: number): RangeSelection {
  const set = /^bytes[ \t]*=(.*)$/i.exec(field)?.[1];
  if (set === undefined) return undefined;
  const specs = set.split(",", maxRanges + 1);
  if (specs.length > maxRanges) return "unsatisfiable";
  const ranges: ByteRange[] = [];
  for (const spec of specs) {
    const range = parseRange(spec, size);
    if (range === undefined) return undefined;
    if (range.start < range.end) ranges.push(range);
  }
  return ranges.length === 0 ? "unsatisfiable" : join(ranges);
}

/** One range, empty when nothing of it exists; `undefined` when it is malformed. */
function parseRange(spec: string, size: number): ByteRange | undefined {
  const [, first, last] = /^[ \t]*(\d*)-(\d*)[ \t]*$/.exec(spec) ?? [];
  if (first === undefined || last === undefined || first + last === "") return undefined;
  if (first === "") return { start: Math.max(0, size - Number(last)), end: size };
  if (last === "") return { start: Number(first), end: size };
  if (Number(last) < Number(first)) return undefined;
  return { start: Number(first), end: Math.min(size, Number(last) + 1) };
}

/** Joins ranges that overlap or touch; the joined one takes the place of the first of its parts. */
function join(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: (ByteRange & { place: number })[] = [];
  const ordered = ranges.map((range, place) => ({ ...range, place }));
  for (const range of ordered.sort((a, b) => a.start - b.start)) {
    const before = joined.at(-1);
    if (before === undefined || range.start > before.end) {
      joined.push(range);
    } else {
      joined[joined.length - 1] = {
        start: before.start,
        end: Math.max(before.end, range.end),
        place: Math.min(before.place, range.place),
      };
    }
  }
  return joined.sort((a, b) => a.place - b.place).map(({ start, end }) => ({ start, end }));
}
