/**
 * The answer to plain HTTP on a port for TLS, where the option `redirectHttp` asks for one: where the
 * same is over HTTPS (RFC 9110 section 15.4.9). What has no such place gets the hint that everything
 * else gets.
 *
 * @module
 */
import { utf8 } from "./bytes.ts";
import type { Http1RequestHead } from "./http1/request_head.ts";
import { type ParserLimits, RequestParser, Step } from "./http1/parser.ts";
import type { PlainReader } from "./net/steps/client_hello.ts";
import { NOT_TLS_ANSWER } from "./tls/alerts.ts";

/** What a browser's first request to a site needs. */
const LIMITS: ParserLimits = {
  maxUriBytes: 4 * 1024,
  maxHeaderBytes: 8 * 1024,
  maxHeaderFields: 100,
  maxBodyBytes: 0,
  maxChunkExtBytes: 0,
  maxTrailerBytes: 0,
};

/**
 * Makes the reader of one connection. Only hosts that `isOurs` are redirected to, so that nobody can
 * have the server send a client elsewhere.
 */
export function redirectReader(isOurs: (authority: string) => boolean): PlainReader {
  const parser = new RequestParser(LIMITS);
  return {
    push(bytes) {
      parser.push(bytes);
      const step = parser.next();
      if (step === Step.Need) return undefined;
      const location = step === Step.Head ? locationOf(parser.head, isOurs) : undefined;
      return location === undefined ? NOT_TLS_ANSWER : redirectTo(location);
    },
  };
}

function locationOf(
  { method, host, path, query, hasBody }: Http1RequestHead,
  isOurs: (authority: string) => boolean,
): string | undefined {
  if ((method !== "GET" && method !== "HEAD") || hasBody) return undefined;
  if (host === undefined || !isOurs(host)) return undefined;
  return `https://${host}${path}${query === "" ? "" : `?${query}`}`;
}

function redirectTo(location: string): Uint8Array {
  return utf8(
    `HTTP/1.1 308 Permanent Redirect\r\nLocation: ${location}\r\n` +
      "Content-Length: 0\r\nConnection: close\r\n\r\n",
  );
}
