/**
 * Bytes as the `Buffer` of Node.js, for its methods.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** A `Buffer` of no bytes. */
export const NO_BUFFER: Buffer = Buffer.alloc(0);

/** Views bytes as a `Buffer`, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
