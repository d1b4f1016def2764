/**
 * Tokens: what methods, field names, codings and the names of protocols are made of; what field
 * values are made of; and the white space around them.
 *
 * @module
 */
import { trimBlanks } from "../blanks.ts";

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Whether the whole text is a token (RFC 9110 section 5.6.2). */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

const NOT_IN_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

/** Whether `text` has only SP, HTAB, visible ASCII and U+0080 to U+00FF (RFC 9110 section 5.5). */
export function isFieldValue(text: string): boolean {
  return !NOT_IN_VALUE.test(text);
}

/** The members of a comma-separated list (RFC 9110 section 5.6.1), empty ones too. */
export function listMembers(text: string): string[] {
  return text.split(",").map(trimBlanks);
}
