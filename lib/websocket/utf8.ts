/**
 * UTF-8 validation of text that arrives in pieces (RFC 3629; RFC 6455 section 8.1): fails at the
 * first byte that cannot belong to valid text, wherever the pieces are cut.
 *
 * @module
 */
import { isUtf8 } from "node:buffer";

/** From this many bytes on the runtime's own check pays for its call. */
const NATIVE_BYTES = 96;

/** Validates one text after another, as long as each was complete; holds no bytes. */
export class Utf8Validator {
  #needed = 0; // continuation bytes that the current code point still lacks
  #lower = 0x80; // the range of the next continuation byte: narrower after E0, ED, F0 and F4,
  #upper = 0xbf; // where overlong forms, surrogates and code points above U+10FFFF would start

  /** True when no code point is cut: the text may end here. */
  get complete(): boolean {
    return this.#needed === 0;
  }

  /** Takes the next piece, from `start` to `end`; false when it cannot continue a valid text. */
  push(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
    // What is valid in itself passes at the runtime's speed; the loop is for cuts and for faults.
    if (
      this.#needed === 0 && end - start >= NATIVE_BYTES &&
      isUtf8(bytes.subarray(start, end))
    ) return true;
    let i = start;
    while (i < end) {
      if (this.#needed === 0) {
        while (i < end && bytes[i]! < 0x80) i++;
        if (i === end) return true;
        if (!this.#lead(bytes[i++]!)) return false;
      } else {
        const byte = bytes[i++]!;
        if (byte < this.#lower || byte > this.#upper) return false;
        this.#lower = 0x80;
        this.#upper = 0xbf;
        this.#needed--;
      }
    }
    return true;
  }

  #lead(byte: number): boolean {
    if (byte < 0xc2 || byte > 0xf4) return false; // C0 and C1 start overlong forms only
    if (byte < 0xe0) {
      this.#needed = 1;
    } else if (byte < 0xf0) {
      this.#needed = 2;
      if (byte === 0xe0) this.#lower = 0xa0; // below: overlong
      if (byte === 0xed) this.#upper = 0x9f; // above: surrogates
    } else {
      this.#needed = 3;
      if (byte === 0xf0) this.#lower = 0x90; // below: overlong
      if (byte === 0xf4) this.#upper = 0x8f; // above: past U+10FFFF
    }
    return true;
  }
}
