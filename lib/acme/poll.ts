/**
 * How long to wait before a CA is asked again whether something is done (RFC 8555 section 7.5.1).
 *
 * @module
 */
import { retryAfter } from "./problem.ts";
import type { Answer } from "./transport.ts";

const FIRST_MS = 250;
const LONGEST_MS = 10_000;

/** The longest time that a CA can ask for between two looks, in ms. */
const LONGEST_ASKED_MS = 60_000;

/** The pause after an answer, in ms, by its Retry-After, else twice as long each time. */
export function pollPause(answer: Answer, tries: number, now: number): number {
  const asked = retryAfter(answer.field("retry-after"), now);
  if (asked !== undefined) return Math.min(Math.max(asked, FIRST_MS), LONGEST_ASKED_MS);
  return Math.min(FIRST_MS * 2 ** tries, LONGEST_MS);
}
