/**
 * What a CA says when it refuses (RFC 8555 section 6.7, RFC 9457), and when it wants to be asked again
 * (RFC 9110 section 10.2.3). All of it is a stranger's text: it is cut, and cleaned of what terminals
 * would obey.
 *
 * @module
 */
import { AcmeError, type AcmeProblem } from "../errors.ts";
import { isPlain } from "../options.ts";
import { parseHttpDate } from "../web/http_date.ts";
import { type Answer, shownUrl } from "./transport.ts";

const PREFIX = "urn:ietf:params:acme:error:";
const MAX_TYPE = 200;
const MAX_DETAIL = 2_000;
const MAX_SUBPROBLEMS = 100;

/** The longest time that a CA can make anyone wait, in ms: a week, as its longest rate limits. */
const MAX_RETRY_AFTER_MS = 7 * 24 * 3_600_000;

/** Reads a problem document that was parsed from JSON; `undefined` when it is none. */
export function problemOf(value: unknown): AcmeProblem | undefined {
  if (!isPlain(value)) return undefined;
  const problem = shallowProblem(value);
  const { subproblems } = value as { subproblems?: unknown };
  if (!Array.isArray(subproblems)) return problem;
  return {
    ...problem,
    subproblems: subproblems.slice(0, MAX_SUBPROBLEMS).filter(isPlain).map((sub) => {
      const { identifier } = sub as { identifier?: { value?: unknown } | null };
      const name = cleaned(identifier?.value, MAX_TYPE);
      return { ...shallowProblem(sub), ...(name === undefined ? {} : { identifier: name }) };
    }),
  };
}

function shallowProblem(value: object): AcmeProblem {
  const { type, detail, status, instance } = value as Record<string, unknown>;
  const text = cleaned(detail, MAX_DETAIL);
  return {
    type: cleaned(type, MAX_TYPE) ?? "about:blank",
    ...(text === undefined ? {} : { detail: text }),
    ...(isStatus(status) ? { status } : {}),
    ...(isPage(instance) ? { instance: new URL(instance).href } : {}),
  };
}

/** The longest address of a page that is passed on. */
const MAX_URL = 2_048;

/** Whether a value is the address of a page that a person can be sent to. */
export function isPage(value: unknown): value is string {
  return typeof value === "string" && value.length <= MAX_URL && URL.canParse(value) &&
    /^https?:$/.test(new URL(value).protocol);
}

function isStatus(value: unknown): value is number {
  return Number.isInteger(value) && value as number >= 100 && value as number < 600;
}

/** All but printable characters: controls, those of direction, and others that cannot be seen. */
const UNSEEN =
  /[^ -~\xa0-\xac\xae-\u061b\u061d-\u180d\u180f-\u200a\u2010-\u2027\u202f-\u205f\u2070-\ufefe\uff00-\ufff8\ufffc\ufffd]/g;

/** A stranger's text, cut, with a space for each character that cannot be seen. */
export function cleaned(value: unknown, most: number): string | undefined {
  if (typeof value !== "string") return undefined;
  const cut = value.length > most ? `${value.slice(0, most)}…` : value;
  return cut.toWellFormed().replaceAll(UNSEEN, " ");
}

/** Whether a problem is the one that ACME calls `name`. */
export function isProblem(problem: AcmeProblem | undefined, name: string): boolean {
  return problem?.type === PREFIX + name;
}

/** A problem in words. */
export function wordsOf(problem: AcmeProblem | undefined): string {
  if (problem === undefined) return "no reason given";
  const type = problem.type.startsWith(PREFIX) ? problem.type.slice(PREFIX.length) : problem.type;
  const subject = problem.detail === undefined ? type : `${type}, ${problem.detail}`;
  const [first] = problem.subproblems ?? [];
  if (first === undefined) return subject;
  const name = first.identifier === undefined ? "" : `${first.identifier}: `;
  return `${subject} (${name}${first.detail ?? first.type})`;
}

/** The error that an answer with a status of 400 and more is. */
export function refusalOf(answer: Answer, now: number): AcmeError {
  const { status, mediaType, url } = answer;
  const problem = mediaType === "application/problem+json" ? problemIn(answer.body) : undefined;
  const retryAfterMs = retryAfter(answer.field("retry-after"), now);
  const options = { problem: problem && { ...problem, status }, retryAfterMs };
  if (status === 429 || status === 503 || isProblem(problem, "rateLimited")) {
    return new AcmeError(
      "ACME_RATE_LIMITED",
      `The CA wants to be asked later (status ${status}): ${wordsOf(problem)}`,
      options,
    );
  }
  if (problem === undefined) {
    return new AcmeError(
      "ACME_BAD_ANSWER",
      `The CA's ${shownUrl(url)} answers with status ${status} and no problem document`,
      options,
    );
  }
  return new AcmeError("ACME_REFUSED", `The CA refused: ${wordsOf(problem)}`, options);
}

function problemIn(body: string): AcmeProblem | undefined {
  try {
    return problemOf(JSON.parse(body));
  } catch {
    return undefined; // the status says enough
  }
}

/** The time of a Retry-After field in ms from `now`; `undefined` when there is none to be read. */
export function retryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : (parseHttpDate(value) ?? NaN) - now;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}
