/**
 * Bytes as text, one character per byte (ISO-8859-1).
 *
 * Undocumented: `Buffer.prototype.latin1Slice`, called on a plain `Uint8Array`. It spares a `Buffer`
 * for each field of each request, a tenth of the time that parsing takes. The trial, with the first bytes,
 * compares it with the public way, which is the fallback.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { declareInternal } from "./internals.ts";

/** Gives the bytes from `start` to `end` as text. */
export type ToLatin1 = (bytes: Uint8Array, start: number, end: number) => string;

/** `Buffer.prototype.latin1Slice`, as far as it is used here. */
export type Latin1Slice = (this: Uint8Array, start: number, end: number) => string;

/** The public way. */
export const publicLatin1: ToLatin1 = (bytes, start, end) =>
  Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1");

/** The quick way if `slice` passes its trial, or the public one. */
export function chooseLatin1(slice: Latin1Slice | undefined): ToLatin1 {
  if (slice === undefined) return publicLatin1;
  const quick: ToLatin1 = (bytes, start, end) => slice.call(bytes, start, end);
  return isRight(quick) ? quick : publicLatin1;
}

/** Whether it gives each byte's character, of a part of the memory, short or long, and nothing. */
function isRight(quick: ToLatin1): boolean {
  const memory = Uint8Array.from({ length: 2_000 }, (_, index) => index * 7);
  const bytes = memory.subarray(3, 1_900);
  const parts = [[0, 0], [0, 1], [5, 9], [100, 356], [1, bytes.length], [
    bytes.length,
    bytes.length,
  ]];
  try {
    return parts.every(([start, end]) =>
      quick(bytes, start!, end!) === spelled(bytes, start!, end!)
    );
  } catch {
    return false;
  }
}

function spelled(bytes: Uint8Array, start: number, end: number): string {
  return Array.from(bytes.subarray(start, end), (byte) => String.fromCharCode(byte)).join("");
}

/** Gives the bytes from `start` to `end` as text, one character per byte (ISO-8859-1). */
export let latin1: ToLatin1 = (bytes, start, end) => {
  latin1 = chooseLatin1(
    (Buffer.prototype as unknown as { latin1Slice?: Latin1Slice }).latin1Slice,
  );
  return latin1(bytes, start, end);
};

declareInternal("latin1", () => {
  latin1(new Uint8Array(), 0, 0);
  return latin1 === publicLatin1 ? "fallback" : "in force";
});
