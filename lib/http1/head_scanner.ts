/**
 * Scans the head of a request byte by byte: the request line and the fields (RFC 9112 sections 3 and
 * 5). What they mean is request_line.ts's and request_head.ts's concern.
 *
 * @module
 */
import { HostReader } from "../http/authority.ts";
import { isTarget, targetTooLong, unknownMethod } from "../http/request_rules.ts";
import { latin1 } from "../runtime/latin1.ts";
import { Byte, byteTable, FieldScanner, TOKEN, unexpected } from "./field_scanner.ts";
import { Http1RequestHead } from "./request_head.ts";
import { readRequestLine, RequestLine } from "./request_line.ts";

const MAX_METHOD_LENGTH = 24;

/** 1 for the bytes of a method: a token without lower-case letters, as every method is. */
const METHOD_BYTE = byteTable((character, byte) => TOKEN[byte] === 1 && !/[a-z]/.test(character));

/** 1 for the bytes of a target. */
const TARGET_BYTE = byteTable(isTarget);

/** What follows the target; a 0 means any digit. */
const VERSION = [..."HTTP/0.0\r\n"].map((character) => character.charCodeAt(0));
const MAJOR_AT = 5;
const MINOR_AT = 7;

// What the scanner looks for next.
const METHOD = 0;
const TARGET = 1;
const VERSION_AND_CRLF = 2;
const FIELDS = 3;

/**
 * Scans the head of a request, from the method up to and with the empty line. It can stop after
 * any byte and go on with the next.
 */
export class HeadScanner {
  readonly #maxUriBytes: number;
  readonly #fields: FieldScanner;
  readonly #hosts = new HostReader();
  #state = METHOD;
  #methodEnd = 0;
  #targetEnd = 0;
  readonly #line = new RequestLine();

  /** Makes a scanner with a cap for the target in bytes, and one for the number of fields. */
  constructor(maxUriBytes: number, maxFields: number) {
    this.#maxUriBytes = maxUriBytes;
    this.#fields = new FieldScanner(maxFields);
  }

  /** Whether the empty line was seen; {@linkcode HeadScanner.take} starts over. */
  get complete(): boolean {
    return this.#fields.complete;
  }

  /**
   * Scans `bytes` from `from` up to `to` and returns where it stopped: behind the head when
   * {@linkcode HeadScanner.complete}, else at `to`. The head starts at `base`.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 414 `URI_TOO_LONG`, 431 `HEADERS_TOO_LARGE` or 501
   * `NOT_IMPLEMENTED` (endless method) at the first byte that is one too much or not allowed
   * where it is; 400, 501 (unknown method) or 505 `VERSION_NOT_SUPPORTED` at the end of the
   * request line.
   */
  scan(bytes: Uint8Array, base: number, from: number, to: number): number {
    let pos = from;
    if (this.#state === METHOD) pos = this.#scanMethod(bytes, base, pos, to);
    if (this.#state === TARGET) pos = this.#scanTarget(bytes, base, pos, to);
    if (this.#state === VERSION_AND_CRLF) pos = this.#scanVersion(bytes, base, pos, to);
    if (this.#state === FIELDS) pos = this.#fields.scan(bytes, base, pos, to);
    return pos;
  }

  /**
   * Returns the complete head, which lies in `bytes` from `start` to `end`, and starts over.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 400 `BAD_FRAMING`, 413 `BODY_TOO_LARGE`, 417
   * `EXPECTATION_FAILED` or 501 `UNKNOWN_CODING` when the fields cannot be honoured.
   */
  take(bytes: Uint8Array, start: number, end: number): Http1RequestHead {
    const line = this.#line;
    this.#state = METHOD;
    const head = new Http1RequestHead(bytes, start, end, line, this.#fields, this.#hosts);
    line.clear();
    return head;
  }

  #scanMethod(bytes: Uint8Array, base: number, from: number, to: number): number {
    const stop = Math.min(to, base + MAX_METHOD_LENGTH + 1);
    let pos = from;
    while (pos < stop && METHOD_BYTE[bytes[pos]!] === 1) pos++;
    if (pos - base > MAX_METHOD_LENGTH) {
      throw unknownMethod();
    }
    if (pos === to) return pos;
    if (bytes[pos] !== Byte.Space || pos === base) throw unexpected(bytes[pos]!, "in the method");
    this.#methodEnd = pos - base;
    this.#state = TARGET;
    return pos + 1;
  }

  #scanTarget(bytes: Uint8Array, base: number, from: number, to: number): number {
    const start = base + this.#methodEnd + 1;
    const stop = Math.min(to, start + this.#maxUriBytes + 1);
    let pos = from;
    while (pos < stop && TARGET_BYTE[bytes[pos]!] === 1) pos++;
    if (pos - start > this.#maxUriBytes) {
      throw targetTooLong(this.#maxUriBytes);
    }
    if (pos === to) return pos;
    if (bytes[pos] !== Byte.Space || pos === start) throw unexpected(bytes[pos]!, "in the target");
    this.#targetEnd = pos - base;
    this.#state = VERSION_AND_CRLF;
    return pos + 1;
  }

  #scanVersion(bytes: Uint8Array, base: number, from: number, to: number): number {
    const start = base + this.#targetEnd + 1;
    const end = start + VERSION.length;
    const stop = Math.min(to, end);
    for (let pos = from; pos < stop; pos++) {
      const expected = VERSION[pos - start]!;
      const matches = expected === Byte.Zero ? isDigit(bytes[pos]!) : bytes[pos] === expected;
      if (!matches) throw unexpected(bytes[pos]!, "in the version or the line end behind it");
    }
    if (stop < end) return stop;
    readRequestLine(
      latin1(bytes, base, base + this.#targetEnd),
      this.#methodEnd,
      bytes[start + MAJOR_AT]! - Byte.Zero,
      bytes[start + MINOR_AT]! - Byte.Zero,
      this.#line,
    );
    this.#state = FIELDS;
    return end;
  }
}

function isDigit(byte: number): boolean {
  return byte >= Byte.Zero && byte <= Byte.Nine;
}
