/**
 * Scans field lines byte by byte: the rules that heads and trailers share (RFC 9112 section 5, RFC
 * 9110 section 5).
 *
 * Everything works on bytes and offsets; a string is made only where one is asked for.
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { tooManyFields } from "../http/request_rules.ts";
import { isFieldValue, isToken } from "../http/token.ts";

/** The bytes with a meaning of their own in HTTP/1.1. */
export const Byte = {
  /** Horizontal tab, `\t`. */
  Tab: 0x09,
  /** Line feed, `\n`. */
  LF: 0x0a,
  /** Carriage return, `\r`. */
  CR: 0x0d,
  /** Space. */
  Space: 0x20,
  /** Double quote, `"`. */
  Quote: 0x22,
  /** Digit zero, `0`. */
  Zero: 0x30,
  /** Digit nine, `9`. */
  Nine: 0x39,
  /** Colon, `:`. */
  Colon: 0x3a,
  /** Semicolon, `;`. */
  Semicolon: 0x3b,
  /** Equals sign, `=`. */
  Equals: 0x3d,
  /** Backslash, `\`. */
  Backslash: 0x5c,
} as const;

/** Makes a table that holds 1 for every byte that `accepts` accepts, and 0 for the others. */
export function byteTable(accepts: (character: string, byte: number) => boolean): Uint8Array {
  const table = new Uint8Array(256);
  for (let byte = 0; byte < table.length; byte++) {
    if (accepts(String.fromCharCode(byte), byte)) table[byte] = 1;
  }
  return table;
}

/** 1 for the bytes of a token: method and field names (RFC 9110 section 5.6.2). */
export const TOKEN: Uint8Array = byteTable(isToken);

/** 1 for the bytes of a field value (RFC 9110 section 5.5). */
const FIELD_VALUE = byteTable(isFieldValue);

/** Every byte with the ASCII letters in lower case. */
const LOWER_CASE = Uint8Array.from(
  { length: 256 },
  (_, byte) => byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte,
);

// What the scanner looks for next.
const LINE_START = 0;
const NAME = 1;
const BEFORE_VALUE = 2;
const VALUE = 3;
const VALUE_LF = 4;
const LAST_LF = 5;

/**
 * Scans field lines up to and with the empty line that ends them. It can stop after any byte and
 * go on with the next: what it has found is kept as offsets, not as text.
 *
 * A field is four numbers: where its name starts and ends, and where its value starts and ends
 * without the white space around it.
 */
export class FieldScanner {
  /** Which section was scanned last: its offsets are gone when the next one begins. */
  section = 0;
  /** Whether the empty line was seen; {@linkcode FieldScanner.take} starts over. */
  complete = false;
  readonly #maxFields: number;
  /** The offsets of the section, four per field; used again for every section. */
  readonly offsets: number[] = [];
  #length = 0;
  #state = LINE_START;

  /** Makes a scanner that refuses the field after the first `maxFields`. */
  constructor(maxFields: number) {
    this.#maxFields = maxFields;
  }

  /**
   * Scans `bytes` from `from` up to `to` and returns where it stopped: behind the empty line when
   * {@linkcode FieldScanner.complete}, else at `to`. Offsets are counted from `base`.
   *
   * @throws {HttpError} 400 `BAD_REQUEST` at the first byte that is not allowed where it is;
   * 431 `HEADERS_TOO_LARGE` when one field more than allowed begins.
   */
  scan(bytes: Uint8Array, base: number, from: number, to: number): number {
    const { offsets } = this;
    let length = this.#length;
    let state = this.#state;
    let pos = from;
    while (pos < to && !this.complete) {
      switch (state) {
        case LINE_START:
          if (length === 0) this.section++;
          if (bytes[pos] === Byte.CR) {
            state = LAST_LF;
          } else {
            if (TOKEN[bytes[pos]!] !== 1) {
              throw unexpected(bytes[pos]!, "at the start of a field line");
            }
            if (length === 4 * this.#maxFields) throw tooManyFields(this.#maxFields);
            offsets[length] = pos - base;
            state = NAME;
          }
          pos++;
          break;
        case NAME:
          while (pos < to && TOKEN[bytes[pos]!] === 1) pos++;
          if (pos === to) break;
          if (bytes[pos] !== Byte.Colon) throw unexpected(bytes[pos]!, "in a field name");
          offsets[length + 1] = pos - base;
          pos++;
          state = BEFORE_VALUE;
          break;
        case BEFORE_VALUE:
          while (pos < to && isBlank(bytes[pos]!)) pos++;
          if (pos === to) break;
          offsets[length + 2] = pos - base;
          state = VALUE;
          break;
        case VALUE:
          while (pos < to && FIELD_VALUE[bytes[pos]!] === 1) pos++;
          if (pos === to) break;
          if (bytes[pos] !== Byte.CR) throw unexpected(bytes[pos]!, "in a field value");
          offsets[length + 3] = trimEnd(bytes, base + offsets[length + 2]!, pos) - base;
          pos++;
          state = VALUE_LF;
          break;
        case VALUE_LF:
          if (bytes[pos] !== Byte.LF) throw unexpected(bytes[pos]!, "after CR");
          pos++;
          length += 4;
          state = LINE_START;
          break;
        case LAST_LF:
          if (bytes[pos] !== Byte.LF) throw unexpected(bytes[pos]!, "after CR");
          pos++;
          this.complete = true;
          break;
      }
    }
    this.#length = length;
    this.#state = state;
    return pos;
  }

  /** Returns how many offsets the complete section has, four per field, and starts over. */
  take(): number {
    const length = this.#length;
    this.#length = 0;
    this.#state = LINE_START;
    this.complete = false;
    return length;
  }
}

/** Makes the 400 for a byte that is not allowed where it is. */
export function unexpected(
  byte: number,
  where: string,
  code: "BAD_REQUEST" | "BAD_FRAMING" = "BAD_REQUEST",
): HttpError {
  return new HttpError(
    400,
    code,
    `Unexpected byte 0x${byte.toString(16).padStart(2, "0")} ${where}`,
  );
}

/** Whether `byte` is optional white space: SP or HTAB (RFC 9110 section 5.6.3). */
export function isBlank(byte: number): boolean {
  return byte === Byte.Space || byte === Byte.Tab;
}

function trimEnd(bytes: Uint8Array, start: number, end: number): number {
  while (end > start && isBlank(bytes[end - 1]!)) end--;
  return end;
}

/** Whether the bytes from `start` to `end` are `lower` in any letter case. */
export function equalsIgnoreCase(
  bytes: Uint8Array,
  start: number,
  end: number,
  lower: string,
): boolean {
  if (end - start !== lower.length) return false;
  for (let i = 0; i < lower.length; i++) {
    if (LOWER_CASE[bytes[start + i]!] !== lower.charCodeAt(i)) return false;
  }
  return true;
}
