/**
 * HTTP/2's connection preface, by which a client without ALPN shows what it speaks (RFC 9113 section
 * 3.4). Its beginning is a head that every HTTP/1.1 server refuses, so that it can be looked for in
 * front of one.
 *
 * @module
 */

/** The first bytes of every client of HTTP/2. */
export const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/**
 * Compares bytes with the preface, of which `seen` bytes came before. Returns how many of it have come
 * now; -1 when these bytes are something else.
 */
export function seePreface(bytes: Uint8Array, seen: number): number {
  const count = Math.min(bytes.length, PREFACE.length - seen);
  for (let i = 0; i < count; i++) {
    if (bytes[i] !== PREFACE[seen + i]) return -1;
  }
  return seen + count;
}
