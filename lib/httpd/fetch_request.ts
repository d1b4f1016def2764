/**
 * The parts of a `Request`, made from the head of a request (Fetch and URL standards).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";

/** The characters of a path that `new URL()` leaves as they are. */
const PLAIN_PATH = /^[\w/.~!$&'()*+,:;=@|-]*$/;

/** The origin that was asked for last: most requests of a server are for the same. */
let lastHost = "";
let lastOrigin = "";

/**
 * The URL that a request is for, in normal form.
 *
 * @throws {HttpError} 400 `BAD_REQUEST` when it is no URL
 */
export function urlOf({ head, session }: Exchange): string {
  const scheme = session.tls === undefined ? "http" : "https";
  const host = `${scheme}://${head.host ?? localAuthority(session.connection)}`;
  const path = head.form === "asterisk" ? "/*" : head.path;
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
    throw new HttpError(400, "BAD_REQUEST", `The target ${host}${target} is no URL`, { cause });
  }
}

/** What an HTTP/1.0 client asked for that named no host. */
function localAuthority({ localAddress, localPort }: Exchange["session"]["connection"]): string {
  return localAddress.includes(":")
    ? `[${localAddress}]:${localPort}`
    : `${localAddress}:${localPort}`;
}

/** The fields of a request. */
export function fieldsOf({ head }: Exchange): Headers {
  const headers = new Headers();
  for (let i = 0; i < head.fieldCount; i++) headers.append(head.fieldName(i), head.fieldValue(i));
  return headers;
}

/**
 * The request as the platform's own class. A `body` stands for the exchange's own, which was used.
 *
 * @throws {HttpError} 400 `BAD_REQUEST` when the target is no URL; 501 `NOT_IMPLEMENTED` for
 * `CONNECT` and `TRACE`, which a `Request` cannot carry
 */
export function toRequest(exchange: Exchange, headers: Headers, body?: Uint8Array): Request {
  const { head: { method }, signal } = exchange;
  if (method === "CONNECT" || method === "TRACE") {
    throw new HttpError(501, "NOT_IMPLEMENTED", `A fetch handler cannot serve ${method}`);
  }
  return new Request(urlOf(exchange), {
    method,
    headers,
    signal,
    ...(showsBody(exchange) && {
      body: body as Uint8Array<ArrayBuffer> ?? exchange.body.stream,
      duplex: "half" as const,
    }),
  });
}

/** Whether a `Request` for it has a body: one of `GET` or `HEAD` cannot. */
export function showsBody({ hasBody, head: { method } }: Exchange): boolean {
  return hasBody && method !== "GET" && method !== "HEAD";
}
