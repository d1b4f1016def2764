/**
 * The request line: which method, target and version it has, once it is known to be well-formed (RFC
 * 9112 section 3).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { isAuthority } from "../http/authority.ts";
import { METHODS } from "../http/methods.ts";
import { assertPath, badTarget, hasPort, unknownMethod } from "../http/request_rules.ts";

/** The four forms of a request target (RFC 9112 section 3.2). */
export type TargetForm = "origin" | "absolute" | "asterisk" | "authority";

/** The request line, read: one for all requests of a connection, one after the other. */
export class RequestLine {
  /** The method; always a known one. */
  method = "";
  /** The target as sent. */
  target = "";
  /** 1 for HTTP/1.1 and above, 0 for HTTP/1.0. */
  minorVersion: 0 | 1 = 1;
  /** The target's form. */
  form: TargetForm = "origin";
  /** The target's path. */
  path = "";
  /** The target's query, without the `?`. */
  query = "";
  /** The host and port of the absolute form. */
  authority: string | undefined;

  /** Forgets what was read, so that a connection that waits keeps none of it. */
  clear(): void {
    this.method =
      this.target =
      this.path =
      this.query =
        "";
    this.authority = undefined;
  }
}

const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)([^?]*)/i;

/**
 * Reads a request line that is well-formed into `line`; the version goes first, as it governs the
 * rest.
 *
 * @throws {HttpError} 505 `VERSION_NOT_SUPPORTED`, 501 `NOT_IMPLEMENTED`, 400 `BAD_REQUEST`
 */
export function readRequestLine(
  methodAndTarget: string,
  methodEnd: number,
  major: number,
  minor: number,
  line: RequestLine,
): void {
  if (major !== 1) {
    throw new HttpError(
      505,
      "VERSION_NOT_SUPPORTED",
      `HTTP/${major}.${minor} is not supported: use HTTP/1.1`,
    );
  }
  const method = methodAndTarget.startsWith("GET ") ? "GET" : methodAndTarget.slice(0, methodEnd);
  if (method !== "GET" && !METHODS.has(method)) { // most requests are spared the look-up
    throw unknownMethod();
  }
  line.method = method;
  line.target = methodAndTarget.slice(methodEnd + 1);
  line.minorVersion = minor === 0 ? 0 : 1; // a higher one is spoken to as 1.1 (RFC 9110 section 2.5)
  line.form = "origin";
  line.path = line.query = "";
  line.authority = undefined;
  readTarget(line);
}

/** Reads the target's form and parts (RFC 9112 section 3.2); the method decides which forms are allowed. */
function readTarget(line: RequestLine): void {
  const { method, target } = line;
  if (method === "CONNECT") {
    line.form = "authority";
    if (!isAuthority(target) || !hasPort(target)) throw badTarget("CONNECT needs host:port");
    return;
  }
  if (target === "*" && method === "OPTIONS") {
    line.form = "asterisk";
    line.path = "*";
    return;
  }

  const question = target.indexOf("?");
  const pathEnd = question < 0 ? target.length : question;
  if (question >= 0) line.query = target.slice(question + 1);
  if (target.startsWith("/")) {
    line.path = question < 0 ? target : target.slice(0, pathEnd);
  } else {
    const match = ABSOLUTE_FORM.exec(target);
    if (match === null) throw badTarget("it starts neither with a slash nor with http(s)://");
    const [, authority, path] = match as unknown as [string, string, string];
    if (!isAuthority(authority)) throw badTarget("its host or port is malformed");
    line.form = "absolute";
    line.path = path || "/";
    line.authority = authority;
  }
  assertPath(line.path);
}
