/**
 * The field that says when an answer was made (RFC 9110 section 6.6.1).
 *
 * @module
 */
let second = 0;
let text = "";

/** The value of a `Date` field for now; the same string until the second is over. */
export function dateNow(): string {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    text = new Date(now * 1000).toUTCString();
  }
  return text;
}
