/**
 * The parts of a `Request`, made from the head of a request (Fetch and URL standards).
 *
 * @module
 */
import { ContainedAbort } from "../contain/abort.ts";
import { HttpError } from "../errors.ts";
import { readBefore } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import { BodyRequest } from "../runtime/bun_request.ts";

/** The characters of a path that `new URL()` leaves as they are. */
const PLAIN_PATH = /^[\w/.~!$&'()*+,:;=@|-]*$/;

/** The origin that was asked for last: most requests of a server are for the same. */
let lastHost = "";
let lastOrigin = "";

/**
 * The URL that a request is for, in normal form.
 *
 * @throws {HttpError} 400 `BAD_REQUEST` when it is not a URL
 */
export function urlOf({ head, session }: Exchange): string {
  const scheme = session.tls === undefined ? "http" : "https";
  const host = `${scheme}://${head.host ?? localAuthority(session.connection)}`;
  const path = head.path === "*" ? "/*" : head.path;
  const target = head.query === "" ? path : `${path}?${head.query}`;
  try {
    if (host !== lastHost) {
      lastOrigin = new URL(host).origin;
      lastHost = host;
    }
    // A path without dot segments and escapes, and a query without quotes, are in normal form.
    const plain = PLAIN_PATH.test(path) && !path.includes("/.") && !head.query.includes("'");
    return plain ? lastOrigin + target : new URL(lastOrigin + target).href;
  } catch (cause) {
    throw new HttpError(400, "BAD_REQUEST", `The target ${host}${target} is not a URL`, { cause });
  }
}

/** What an HTTP/1.0 client asked for that named no host. */
function localAuthority({ localAddress, localPort }: Exchange["session"]["connection"]): string {
  if (localAddress === "") return "localhost"; // a UNIX socket
  return localAddress.includes(":")
    ? `[${localAddress}]:${localPort}`
    : `${localAddress}:${localPort}`;
}

/**
 * The fields of a request as lines in the order sent, except `Cookie`: several become one, joined as
 * cookies are and not as lists (RFC 6265 section 5.4; RFC 9113 section 8.2.3).
 */
export function fieldLines({ head }: Exchange): [name: string, value: string][] {
  const lines: [string, string][] = [];
  let cookie: [string, string] | undefined;
  for (let i = 0; i < head.fieldCount; i++) {
    const line: [string, string] = [head.fieldName(i), head.fieldValue(i)];
    if (line[0].length === "cookie".length && line[0].toLowerCase() === "cookie") {
      if (cookie !== undefined) {
        cookie[1] += `; ${line[1]}`;
        continue;
      }
      cookie = line;
    }
    lines.push(line);
  }
  return lines;
}

/** The fields of a request. */
export function fieldsOf(exchange: Exchange): Headers {
  const headers = new Headers();
  for (const [name, value] of fieldLines(exchange)) headers.append(name, value);
  return headers;
}

/**
 * Throws for the methods that a `Request` cannot carry.
 *
 * @throws {HttpError} 501 `NOT_IMPLEMENTED` for `CONNECT` and `TRACE`
 */
export function assertServable({ head: { method } }: Exchange): void {
  if (method !== "CONNECT" && method !== "TRACE") return;
  throw new HttpError(501, "NOT_IMPLEMENTED", `A fetch handler cannot serve ${method}`);
}

/**
 * The request as the platform's constructor makes it.
 *
 * @throws {HttpError} 400 `BAD_REQUEST` when the target is not a URL
 */
export function toRequest(exchange: Exchange): Request {
  const signal = exchange.signalBy(ContainedAbort);
  const init = initOf(exchange);
  const url = urlOf(exchange);
  const request = init?.body
    ? new BodyRequest(url, { ...init, signal })
    : new Request(url, { ...init, signal });
  // Given to the constructor, they would be copied once more.
  for (const [name, value] of fieldLines(exchange)) request.headers.append(name, value);
  return request;
}

/** What the constructor takes, which TypeScript does not know all of. */
type StreamInit = RequestInit & { duplex?: "half" };

/**
 * What a request is from the start: its method and body; `undefined` for a GET, which needs neither,
 * and costs the half without.
 */
export function initOf(exchange: Exchange): StreamInit | undefined {
  const { head: { method }, hasBody } = exchange;
  if (method === "GET") return undefined;
  if (!hasBody || !mayHaveBody(method)) return { method };
  // What is all there needs no stream; the constructor copies it.
  const shown = exchange.bodyUsed ? undefined : exchange.body.show();
  return { method, body: (shown ?? streamOf(exchange)) as BodyInit, duplex: "half" };
}

/** The body as a `Request` has it, all of it: the stream fails where some was read before. */
export function streamOf(exchange: Exchange): ReadableStream<Uint8Array<ArrayBuffer>> {
  if (!exchange.bodyUsed) return exchange.body.stream;
  return new ReadableStream({
    type: "bytes",
    pull() {
      throw readBefore();
    },
  });
}

/** Whether a `Request` of this method may have a body: one of `GET` or `HEAD` cannot. */
export function mayHaveBody(method: string): boolean {
  return method !== "GET" && method !== "HEAD";
}
