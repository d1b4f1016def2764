/**
 * The framing of a chunked body (RFC 9112 section 7.1): chunk sizes and extensions in, the length
 * of the data that follows out. The data itself and the trailers are the parser's.
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { Byte, byteTable, unexpected } from "./fields.ts";

/** Sizes up to 2^64 - 1 have 16 digits; more can only be meant to overflow a counter. */
const MAX_SIZE_DIGITS = 16;

/** The value of every hexadecimal digit, and 255 for other bytes. */
const HEX = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return /[\da-f]/i.test(character) ? parseInt(character, 16) : 255;
});

/** 1 for the bytes of a chunk extension: SP, HTAB and visible ASCII. */
const EXTENSION = byteTable((_, byte) => byte === Byte.Tab || (byte >= 0x20 && byte < 0x7f));

// What the decoder looks for next.
const SIZE_START = 0;
const SIZE = 1;
const EXTENSIONS = 2;
const QUOTED = 3;
const QUOTED_PAIR = 4;
const SIZE_LF = 5;
const DATA = 6;
const DATA_LF = 7;

/** Decodes the framing of one chunked body after the other. */
export class ChunkedDecoder {
  /** How many bytes of data stand before the next framing; whoever takes some subtracts them. */
  remaining = 0;
  /** Whether the last chunk was seen; what follows are the trailers. */
  last = false;
  readonly #maxBodyBytes: number;
  readonly #maxExtensionBytes: number;
  #state = SIZE_START;
  #digits = 0;
  #size = 0;
  #bodyBytes = 0;
  #extensionBytes = 0;

  /** Makes a decoder with caps for the data and for the chunk extensions of one body, in bytes. */
  constructor(maxBodyBytes: number, maxExtensionBytes: number) {
    this.#maxBodyBytes = Math.min(maxBodyBytes, Number.MAX_SAFE_INTEGER);
    this.#maxExtensionBytes = maxExtensionBytes;
  }

  /** Begins the next body. */
  reset(): void {
    this.remaining = 0;
    this.last = false;
    this.#state = SIZE_START;
    this.#bodyBytes = 0;
    this.#extensionBytes = 0;
  }

  /**
   * Reads framing in `bytes` from `from` up to `to` and returns where it stopped: at data when
   * {@linkcode ChunkedDecoder.remaining} is not 0, at the trailers when
   * {@linkcode ChunkedDecoder.last}, else at `to`.
   *
   * @throws {HttpError} 400 `BAD_FRAMING` at the first byte that may not stand where it stands,
   * or when the extensions are too long; 413 `BODY_TOO_LARGE` when the size of a chunk takes the
   * body over its cap, before any of that chunk is given out.
   */
  scan(bytes: Uint8Array, from: number, to: number): number {
    let pos = from;
    while (pos < to && this.remaining === 0 && !this.last) this.#step(bytes[pos++]!);
    return pos;
  }

  #step(byte: number): void {
    switch (this.#state) {
      case SIZE_START:
        if (HEX[byte] === 255) throw unexpected(byte, "at the start of a chunk", "BAD_FRAMING");
        this.#size = HEX[byte]!;
        this.#digits = 1;
        this.#state = SIZE;
        break;
      case SIZE:
        if (HEX[byte] !== 255) this.#addDigit(HEX[byte]!);
        else this.#endSize(byte);
        break;
      case EXTENSIONS:
        if (byte === Byte.CR) {
          this.#state = SIZE_LF;
        } else {
          this.#countExtension(byte);
          if (byte === Byte.Quote) this.#state = QUOTED;
        }
        break;
      case QUOTED:
        this.#countExtension(byte);
        if (byte === Byte.Quote) this.#state = EXTENSIONS;
        else if (byte === Byte.Backslash) this.#state = QUOTED_PAIR;
        break;
      case QUOTED_PAIR:
        this.#countExtension(byte);
        this.#state = QUOTED;
        break;
      case SIZE_LF:
        if (byte !== Byte.LF) throw unexpected(byte, "after a chunk size", "BAD_FRAMING");
        this.remaining = this.#size;
        this.last = this.#size === 0;
        this.#state = DATA;
        break;
      case DATA: // behind the data, as remaining is 0
        if (byte !== Byte.CR) throw unexpected(byte, "after the data of a chunk", "BAD_FRAMING");
        this.#state = DATA_LF;
        break;
      case DATA_LF:
        if (byte !== Byte.LF) throw unexpected(byte, "after the data of a chunk", "BAD_FRAMING");
        this.#state = SIZE_START;
        break;
    }
  }

  #addDigit(digit: number): void {
    if (this.#digits === MAX_SIZE_DIGITS) {
      throw new HttpError(400, "BAD_FRAMING", "A chunk size has more than 16 digits: send fewer");
    }
    this.#digits++;
    this.#size = this.#size * 16 + digit; // past 2^53 inexact, but never smaller: refused below
  }

  #endSize(byte: number): void {
    if (byte === Byte.CR) this.#state = SIZE_LF;
    else if (byte === Byte.Semicolon) this.#state = EXTENSIONS;
    else throw unexpected(byte, "after a chunk size", "BAD_FRAMING");

    this.#bodyBytes += this.#size;
    if (this.#bodyBytes > this.#maxBodyBytes) {
      throw new HttpError(
        413,
        "BODY_TOO_LARGE",
        `The body is longer than ${this.#maxBodyBytes} bytes: send less`,
      );
    }
    if (byte === Byte.Semicolon) this.#countExtension(byte);
  }

  #countExtension(byte: number): void {
    if (EXTENSION[byte] !== 1) throw unexpected(byte, "in a chunk extension", "BAD_FRAMING");
    if (++this.#extensionBytes > this.#maxExtensionBytes) {
      throw new HttpError(
        400,
        "BAD_FRAMING",
        `The chunk extensions are longer than ${this.#maxExtensionBytes} bytes: send none`,
      );
    }
  }
}
