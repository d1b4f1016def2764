/**
 * What a client may put into a request, in any version of HTTP (RFC 9110 sections 5, 7, 8.6, 9.1 and
 * 10.1.1); what a handler may say is in response_rules.ts.
 *
 * @module
 */
import { HttpError } from "../errors.ts";

/** Visible ASCII without the fragment and what no URI has. */
const TARGET = /^[!$-;=?-[\]-~]+$/;

/** Whether `text` is of the characters of a request target. */
export function isTarget(text: string): boolean {
  return TARGET.test(text);
}

/** A target of the origin form (RFC 9112 section 3.2.1), read. */
export interface Target {
  /** The path as sent, without the query. */
  readonly path: string;
  /** The query as sent, without the `?`; empty when there is none. */
  readonly query: string;
}

/** Escapes of NUL, LF and CR, and of UTF-8 that is longer than it need be (RFC 3629). */
const FORBIDDEN_ESCAPE = /%(?:0[0ad]|c[01]|e0%[89]|f0%8)/i;

/**
 * Throws when a path escapes what no path may hold.
 *
 * @throws {HttpError} 400 `BAD_REQUEST`
 */
export function assertPath(path: string): void {
  if (path.includes("%") && FORBIDDEN_ESCAPE.test(path)) {
    throw badTarget("its path escapes NUL, CR, LF or overlong UTF-8");
  }
}

/**
 * Whether `text` is a host and a port that is not empty, which CONNECT needs (RFC 9110 section
 * 9.3.6).
 */
export function hasPort(text: string): boolean {
  return /:\d+$/.test(text);
}

/** No length of up to 2^53 - 1 has more digits. */
const MAX_LENGTH_DIGITS = 16;

/**
 * Reads a `Content-Length` in the one spelling on which all servers agree (RFC 9110 section 8.6);
 * `undefined` when it has another, `Infinity` above 2^53 - 1.
 */
export function readLength(text: string): number | undefined {
  if (!/^(?:0|[1-9]\d*)$/.test(text)) return undefined;
  const length = text.length > MAX_LENGTH_DIGITS ? Infinity : Number(text);
  return length > Number.MAX_SAFE_INTEGER ? Infinity : length;
}

/** The 400 for a target. */
export function badTarget(why: string): HttpError {
  return new HttpError(400, "BAD_REQUEST", `The target is malformed: ${why}`);
}

/** The 414 for a target of more than `max` bytes. */
export function targetTooLong(max: number): HttpError {
  return new HttpError(
    414,
    "URI_TOO_LONG",
    `The target is longer than ${max} bytes: use a shorter one`,
  );
}

/** The 501 for a method that is none of `METHODS`. */
export function unknownMethod(): HttpError {
  return new HttpError(501, "NOT_IMPLEMENTED", "The method is not known: use a standard one");
}

/** The 431 for more than `max` fields. */
export function tooManyFields(max: number): HttpError {
  return new HttpError(
    431,
    "HEADERS_TOO_LARGE",
    `The request has more than ${max} fields: send fewer`,
  );
}

/** The 431 for a head or a trailer section of more than `max` bytes. */
export function headTooLong(max: number): HttpError {
  return new HttpError(
    431,
    "HEADERS_TOO_LARGE",
    `The head or the trailers are longer than ${max} bytes: send fewer or shorter fields`,
  );
}

/** The 413 for a body of more than `max` bytes. */
export function bodyTooLong(max: number): HttpError {
  return new HttpError(
    413,
    "BODY_TOO_LARGE",
    max === Infinity
      ? "The body is longer than 2^53 - 1 bytes"
      : `The body is longer than ${max} bytes: send less`,
  );
}

/** The 400 for a body that its client has cut short (RFC 9112 section 8). */
export function bodyIncomplete(cause?: unknown): HttpError {
  const message = "The body ended early: the client has sent a part of it only";
  return new HttpError(400, "BODY_INCOMPLETE", message, cause === undefined ? {} : { cause });
}

/** The 400 for a request that says for no host which one it is meant for. */
export function noHost(): HttpError {
  return new HttpError(400, "BAD_REQUEST", "The request has no Host field: send one");
}

/** The 417 for an expectation other than `100-continue`. */
export function unknownExpectation(): HttpError {
  return new HttpError(
    417,
    "EXPECTATION_FAILED",
    "The expectation is not supported: expect 100-continue or nothing",
  );
}
