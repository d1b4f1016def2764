/**
 * The parser of `multipart/form-data` bodies, sans I/O: bytes are pushed in, events are pulled out
 * (RFC 7578; RFC 2046 section 5.1; names as browsers escape them, by the HTML standard section
 * 4.10.22.8).
 *
 * It is strict where parsers differ, since what one takes for a field another takes for a file's
 * content: no text before the first boundary, nothing behind a boundary on its line, one
 * Content-Disposition with one name, no folded lines, no quote behind a backslash. What comes out
 * depends on the bytes alone, never on how they were cut. It keeps one line's worth of a boundary, or
 * the head of one part, and nothing else.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { trimBlanks } from "../blanks.ts";
import { NO_BYTES } from "../bytes.ts";
import { HttpError } from "../errors.ts";

/** How much of what a body may have; lengths in bytes. */
export interface PartLimits {
  /** How many parts. */
  readonly maxParts: number;
  /** The content of one part. */
  readonly maxPartBytes: number;
  /** The fields of one part. */
  readonly maxHeaderBytes: number;
}

/** What a part says of itself. */
export interface PartHead {
  /** The name of the form's field. */
  readonly name: string;
  /** The last segment of the file's name; `undefined` for a field that is no file. */
  readonly filename: string | undefined;
  /** The `Content-Type`, `text/plain` where there is none (RFC 7578 section 4.4). */
  readonly type: string;
  /** All fields, by names in lower case. */
  readonly fields: ReadonlyMap<string, string>;
}

/** What {@linkcode MultipartParser.next} came to. */
export type PartEvent =
  | { readonly type: "part"; readonly head: PartHead }
  | { readonly type: "data"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: "part end" }
  | { readonly type: "end" };

const CR = 13;
const LF = 10;
const DASH = 45;

type State = "first" | "data" | "behind" | "head" | "over";

/** Parses one body. */
export class MultipartParser {
  readonly #delimiter: Buffer;
  readonly #limits: PartLimits;
  #state: State = "first";
  /** What was pushed and not used yet, from `#at` to `#to`. */
  #buffer: Buffer = Buffer.from(NO_BYTES);
  #at = 0;
  #to = 0;
  /** Whether the buffer was made here, so that it may be added to. */
  #isOwn = false;
  /** Whether the line end that ends a head is still before the content. */
  #isFresh = false;
  /** How far a head was searched for its end, from `#at`. */
  #searched = 0;
  #parts = 0;
  #partBytes = 0;

  /** Makes a parser of a body whose parts are between lines of `--` and `boundary`. */
  constructor(boundary: string, limits: PartLimits) {
    this.#delimiter = Buffer.from(`\r\n--${boundary}`, "latin1");
    this.#limits = limits;
  }

  /** How many bytes are kept. */
  get keptBytes(): number {
    return this.#to - this.#at;
  }

  /** Takes the next bytes, which must not change until they are used. */
  push(bytes: Uint8Array): void {
    const kept = this.keptBytes;
    if (kept === 0) {
      this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#at = 0;
      this.#to = bytes.length;
      this.#isOwn = false;
      return;
    }
    if (this.#isOwn && this.#to + bytes.length <= this.#buffer.length) {
      this.#buffer.set(bytes, this.#to);
      this.#to += bytes.length;
      return;
    }
    const needed = kept + bytes.length;
    const size = this.#state === "head" ? 2 * needed : needed; // a head may come byte by byte
    const grown = Buffer.allocUnsafeSlow(Math.max(size, 256));
    grown.set(this.#buffer.subarray(this.#at, this.#to));
    grown.set(bytes, kept);
    this.#buffer = grown;
    this.#isOwn = true;
    this.#at = 0;
    this.#to = needed;
  }

  /**
   * Goes on to the next event; `undefined`: push more.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 413 `BODY_TOO_LARGE`, 431 `HEADERS_TOO_LARGE`
   */
  next(): PartEvent | undefined {
    while (true) {
      switch (this.#state) {
        case "first":
          if (!this.#isFirst()) return undefined;
          this.#state = "behind";
          break;
        case "behind":
          if (this.keptBytes < 2) return undefined;
          if (this.#behind() === "over") return { type: "end" };
          break;
        case "head": {
          const head = this.#head();
          return head && { type: "part", head };
        }
        case "data": {
          const bytes = this.#data();
          if (bytes !== undefined) return { type: "data", bytes };
          return (this.#state as State) === "behind" ? { type: "part end" } : undefined;
        }
        case "over":
          this.#at = this.#to; // an epilogue says nothing (RFC 2046 section 5.1.1)
          return undefined;
      }
    }
  }

  /**
   * Takes note that no more bytes come.
   *
   * @throws {HttpError} 400 `BODY_INCOMPLETE` where that is too early
   */
  end(): void {
    if (this.#state === "over") return;
    throw new HttpError(
      400,
      "BODY_INCOMPLETE",
      "The form ended early: the client has sent a part of it only",
    );
  }

  /** Whether the first boundary has come; it needs no line before it. */
  #isFirst(): boolean {
    const expected = this.#delimiter.subarray(2);
    const length = Math.min(expected.length, this.keptBytes);
    const found = this.#buffer.subarray(this.#at, this.#at + length);
    if (!expected.subarray(0, length).equals(found)) {
      throw bad("it does not begin with its boundary");
    }
    if (length < expected.length) return false;
    this.#at += length;
    return true;
  }

  /** What follows a boundary: a line end and a part, or two dashes and nothing more. */
  #behind(): State {
    const first = this.#buffer[this.#at];
    const second = this.#buffer[this.#at + 1];
    this.#at += 2;
    if (first === DASH && second === DASH) return this.#state = "over";
    if (first !== CR || second !== LF) throw bad("something follows a boundary on its line");
    if (++this.#parts > this.#limits.maxParts) {
      throw new HttpError(
        413,
        "BODY_TOO_LARGE",
        `The form has more than ${this.#limits.maxParts} parts: send fewer`,
      );
    }
    this.#partBytes = this.#searched = 0;
    return this.#state = "head";
  }

  #head(): PartHead | undefined {
    const { maxHeaderBytes } = this.#limits;
    const kept = this.#buffer.subarray(this.#at, this.#to);
    const isEmpty = kept[0] === CR && kept[1] === LF;
    const end = isEmpty ? 0 : kept.indexOf("\r\n\r\n", this.#searched, "latin1");
    if (end > maxHeaderBytes || (end < 0 && kept.length > maxHeaderBytes + 3)) {
      throw new HttpError(
        431,
        "HEADERS_TOO_LARGE",
        `The fields of a part are longer than ${maxHeaderBytes} bytes: send fewer or shorter ones`,
      );
    }
    if (isEmpty) throw bad("a part has no fields");
    this.#searched = Math.max(0, kept.length - 3);
    if (end < 0) return undefined;
    const head = readHead(kept.subarray(0, end));
    this.#at += end + 4 - 2; // the last line end may be that of the next boundary
    this.#isFresh = true;
    this.#state = "data";
    return head;
  }

  /** The next bytes of the content; `undefined` at its end, or when there are none yet. */
  #data(): Uint8Array<ArrayBuffer> | undefined {
    const delimiter = this.#delimiter;
    const kept = this.#buffer.subarray(this.#at, this.#to);
    const found = kept.indexOf(delimiter);
    const skipped = this.#isFresh ? 2 : 0;
    if (found < 0) {
      // The beginning of a boundary may be at the end.
      const certain = kept.length - tailOf(kept, delimiter);
      if (certain <= skipped) return undefined;
      this.#isFresh = false;
      this.#at += certain;
      return this.#content(kept.subarray(skipped, certain));
    }
    if (found > skipped) {
      this.#isFresh = false;
      this.#at += found;
      return this.#content(kept.subarray(skipped, found));
    }
    this.#isFresh = false;
    this.#at += found + delimiter.length;
    this.#state = "behind";
    return undefined;
  }

  #content(bytes: Buffer): Uint8Array<ArrayBuffer> {
    this.#partBytes += bytes.length;
    if (this.#partBytes > this.#limits.maxPartBytes) {
      throw new HttpError(
        413,
        "BODY_TOO_LARGE",
        `A part of the form is longer than ${this.#limits.maxPartBytes} bytes: send less`,
      );
    }
    return new Uint8Array(bytes); // a copy: whoever gets it may do with it what it likes
  }
}

/** How many bytes at the end of `bytes` may be the beginning of `delimiter`. */
function tailOf(bytes: Buffer, delimiter: Buffer): number {
  const from = Math.max(0, bytes.length - delimiter.length + 1);
  for (let at = bytes.indexOf(CR, from); at >= 0; at = bytes.indexOf(CR, at + 1)) {
    const tail = bytes.subarray(at);
    if (delimiter.subarray(0, tail.length).equals(tail)) return tail.length;
  }
  return 0;
}

const FIELD = /^([\w!#$%&'*+.^`|~-]+):(.*)$/;
/** Most parts have two. */
const MAX_FIELDS = 16;

function readHead(bytes: Buffer): PartHead {
  const fields = new Map<string, string>();
  for (const line of textOf(bytes).split("\r\n")) {
    const [, name, written = ""] = FIELD.exec(line) ?? [];
    const value = trimBlanks(written);
    // deno-lint-ignore no-control-regex
    if (name === undefined || /[\x00-\x08\x0a-\x1f\x7f]/.test(value)) {
      throw bad("a field of a part is malformed");
    }
    const lower = name.toLowerCase();
    if (fields.has(lower)) throw bad("a part has a field twice");
    fields.set(lower, value);
    if (fields.size > MAX_FIELDS) throw bad(`a part has more than ${MAX_FIELDS} fields`);
  }
  const encoding = fields.get("content-transfer-encoding") ?? "binary";
  if (!/^(?:7bit|8bit|binary)$/i.test(encoding)) throw bad("a part is encoded once more");
  const { name, filename } = readDisposition(fields.get("content-disposition"));
  return { name, filename, type: fields.get("content-type") ?? "text/plain", fields };
}

function textOf(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw bad("a field of a part is not UTF-8");
  }
}

/** A parameter: of a token, or quoted with `%22` for a quote, and a backslash for itself. */
const PARAMETER = /;[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"([^"]*)"|([\w!#$%&'*+.^`|~-]+))[ \t]*/y;

function readDisposition(
  value: string | undefined,
): { name: string; filename: string | undefined } {
  const [start] = /^form-data[ \t]*/i.exec(value ?? "") ?? [];
  if (value === undefined || start === undefined) throw bad("a part has no name");
  if (value.includes('\\"')) throw bad("a name has a quote behind a backslash");
  const parameters = new Map<string, string>();
  PARAMETER.lastIndex = start.length;
  while (PARAMETER.lastIndex < value.length) {
    const match = PARAMETER.exec(value);
    if (match === null) throw bad("the name of a part is malformed");
    const name = match[1]!.toLowerCase();
    if (parameters.has(name)) throw bad("a part has two names");
    parameters.set(name, unescaped(match[2] ?? match[3]!));
  }
  const name = parameters.get("name");
  if (name === undefined) throw bad("a part has no name");
  const filename = parameters.get("filename");
  return { name, filename: filename === undefined ? undefined : lastSegment(filename) };
}

/** What browsers have escaped. */
function unescaped(text: string): string {
  return text.replace(/%(?:22|0D|0A)/gi, (escape) => decodeURIComponent(escape));
}

/** A name without directories, whatever system it is of; empty for what is none. */
function lastSegment(filename: string): string {
  const last = filename.slice(Math.max(filename.lastIndexOf("/"), filename.lastIndexOf("\\")) + 1);
  return last === "." || last === ".." ? "" : last;
}

function bad(why: string): HttpError {
  return new HttpError(400, "BAD_REQUEST", `The form is malformed: ${why}`);
}
