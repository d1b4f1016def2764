/**
 * What is written to a connection: bytes, or text of one character per byte.
 *
 * Most of what HTTP writes is text. Handing it over as text spares making bytes of it here, and
 * copying them once more to put head and body together: the socket does both in one go.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { copyAscii } from "../bytes.ts";

/**
 * Bytes that must not change any more, or text of nothing but ASCII, a byte a character. (Deno's
 * TLS sockets write other characters as UTF-8 when much is written, whatever encoding is named.)
 */
export type Chunk = Uint8Array | string;

/** The first `length` bytes. */
export function front(chunk: Chunk, length: number): Chunk {
  return typeof chunk === "string" ? chunk.slice(0, length) : chunk.subarray(0, length);
}

/** What follows the first `length` bytes. */
export function rest(chunk: Chunk, length: number): Chunk {
  return typeof chunk === "string" ? chunk.slice(length) : chunk.subarray(length);
}

/** Several chunks as one, `length` bytes in all. */
export function join(chunks: readonly Chunk[], length: number): Uint8Array {
  const joined = Buffer.allocUnsafe(length); // every byte of it is written here
  copyInto(joined, chunks);
  return joined;
}

/** Copies chunks to the beginning of `target`, one behind the other. */
export function copyInto(target: Uint8Array, chunks: readonly Chunk[]): void {
  let at = 0;
  for (const chunk of chunks) {
    if (typeof chunk === "string") copyAscii(chunk, target, at);
    else target.set(chunk, at);
    at += chunk.length;
  }
}
