/**
 * The framing of a chunked body (RFC 9112 section 7.1): chunk sizes and extensions in, the length
 * of the data that follows out. The data itself and the trailers are the parser's.
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { bodyTooLong } from "../http/request_rules.ts";
import { Byte, byteTable, isBlank, TOKEN, unexpected } from "./field_scanner.ts";

/** Sizes up to 2^64 - 1 have 16 digits; more can only be meant to overflow a counter. */
const MAX_SIZE_DIGITS = 16;

/** The value of every hexadecimal digit, and 255 for other bytes. */
const HEX = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return /[\da-f]/i.test(character) ? parseInt(character, 16) : 255;
});

/** 1 for the bytes of a quoted value: SP, HTAB and visible ASCII; `"` and `\\` have states. */
const QUOTED_TEXT = byteTable((_, byte) => byte === Byte.Tab || (byte >= 0x20 && byte < 0x7f));

// What the decoder looks for next; of an extension (section 7.1.1): *( BWS ";" BWS name [ BWS "="
// BWS value ] ).
const SIZE_START = 0;
const SIZE = 1;
const SEMICOLON = 2; // behind white space, which only another extension may follow
const NAME_START = 3;
const NAME = 4;
const EQUALS = 5; // behind white space: the name's value, or another extension
const VALUE_START = 6;
const VALUE = 7;
const QUOTED = 8;
const QUOTED_PAIR = 9;
const QUOTED_END = 10;
const SIZE_LF = 11;
const DATA = 12;
const DATA_LF = 13;

/** Decodes the framing of one chunked body after the other. */
export class ChunkedDecoder {
  /** How many bytes of data come before the next framing; what takes some subtracts them. */
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
   * @throws {HttpError} 400 `BAD_FRAMING` at the first byte that is not allowed where it is,
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
      default:
        this.#stepExtension(byte);
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
    this.#state = afterItem(byte, SEMICOLON) ?? fail(byte, "after a chunk size");
    this.#bodyBytes += this.#size;
    if (this.#bodyBytes > this.#maxBodyBytes) {
      throw bodyTooLong(this.#maxBodyBytes);
    }
    if (byte !== Byte.CR) this.#countExtension();
  }

  #stepExtension(byte: number): void {
    this.#state = extensionGoesOn(this.#state, byte) ?? fail(byte, "in a chunk extension");
    if (byte !== Byte.CR) this.#countExtension();
  }

  #countExtension(): void {
    if (++this.#extensionBytes > this.#maxExtensionBytes) {
      throw new HttpError(
        400,
        "BAD_FRAMING",
        `The chunk extensions are longer than ${this.#maxExtensionBytes} bytes: send none`,
      );
    }
  }
}

/** What follows `state` when `byte` comes in an extension; undefined when it may not come. */
function extensionGoesOn(state: number, byte: number): number | undefined {
  switch (state) {
    case SEMICOLON:
      if (isBlank(byte)) return SEMICOLON;
      return byte === Byte.Semicolon ? NAME_START : undefined;
    case NAME_START:
      if (isBlank(byte)) return NAME_START;
      return TOKEN[byte] === 1 ? NAME : undefined;
    case NAME:
      if (TOKEN[byte] === 1) return NAME;
      return byte === Byte.Equals ? VALUE_START : afterItem(byte, EQUALS);
    case EQUALS:
      if (isBlank(byte)) return EQUALS;
      if (byte === Byte.Equals) return VALUE_START;
      return byte === Byte.Semicolon ? NAME_START : undefined;
    case VALUE_START:
      if (isBlank(byte)) return VALUE_START;
      if (byte === Byte.Quote) return QUOTED;
      return TOKEN[byte] === 1 ? VALUE : undefined;
    case VALUE:
      return TOKEN[byte] === 1 ? VALUE : afterItem(byte, SEMICOLON);
    case QUOTED:
      if (QUOTED_TEXT[byte] !== 1) return undefined;
      if (byte === Byte.Quote) return QUOTED_END;
      return byte === Byte.Backslash ? QUOTED_PAIR : QUOTED;
    case QUOTED_PAIR:
      return QUOTED_TEXT[byte] === 1 ? QUOTED : undefined;
    default: // QUOTED_END
      return afterItem(byte, SEMICOLON);
  }
}

/** What follows a size, name or value: its end, another extension, or white space. */
function afterItem(byte: number, afterBlank: number): number | undefined {
  if (byte === Byte.CR) return SIZE_LF;
  if (byte === Byte.Semicolon) return NAME_START;
  return isBlank(byte) ? afterBlank : undefined;
}

function fail(byte: number, where: string): never {
  throw unexpected(byte, where, "BAD_FRAMING");
}
