/**
 * The white space of HTTP.
 *
 * @module
 */

/** Strips SP and HTAB, the white space of HTTP; `String.trim` strips more, such as U+00A0. */
export function trimBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.slice(start, end);
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t";
}
