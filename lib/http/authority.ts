/**
 * The host and port that a request is for (RFC 9110 section 7.2), the same in all versions of HTTP.
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import { latin1 } from "../runtime/latin1.ts";

/** uri-host [":" port] of RFC 3986, of unreserved and sub-delims without the comma, no escapes. */
const AUTHORITY = /^(?:[\w.~!$&'()*+;=-]+|\[[\da-f:.]+\])(?::\d{0,5})?$/i;

/** A last label that is a number: URL parsers read such a host as an IPv4 address. */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[\da-f]*)\.?$/i;

/**
 * Whether `text` is a valid `uri-host [":" port]` (RFC 9110 section 7.2): a name, an IPv4 address
 * or an IPv6 address in brackets, and a port up to 65535. Not valid are user information, a path,
 * a comma, and the numbers that URL parsers turn into IPv4 addresses (`127.1`, `0x7f000001`).
 */
export function isAuthority(text: string): boolean {
  if (!AUTHORITY.test(text)) return false;
  const { host, port } = splitAuthority(text);
  if (Number(port) > 65_535) return false;
  if (host.startsWith("[")) return isIPv6(host.slice(1, -1));
  return !ENDS_IN_NUMBER.test(host) || isIPv4(host);
}

/**
 * Reads the values of Host fields. It remembers the last one, as all requests of a connection
 * nearly always name the same host, and comparing bytes costs less than parsing them again.
 */
export class HostReader {
  #last: string | undefined;

  /** The value from `start` to `end`; undefined when {@linkcode isAuthority} does not hold. */
  read(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (this.#last !== undefined && equals(bytes, start, end, this.#last)) return this.#last;
    const text = latin1(bytes, start, end);
    if (!isAuthority(text)) return undefined;
    this.#last = text;
    return text;
  }
}

function equals(bytes: Uint8Array, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false;
  for (let i = 0; i < text.length; i++) {
    if (bytes[start + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

function splitAuthority(text: string): { host: string; port: string } {
  const colon = text.indexOf(":", text.lastIndexOf("]") + 1);
  if (colon < 0) return { host: text, port: "" };
  return { host: text.slice(0, colon), port: text.slice(colon + 1) };
}
