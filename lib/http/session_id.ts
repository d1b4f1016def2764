/**
 * The numbers that distinguish sessions.
 *
 * @module
 */
let last = 0;

/** A number that no session of this process has or had. */
export function nextSessionId(): number {
  return ++last;
}
