/**
 * The head of a request: the request line and the fields, scanned byte by byte (RFC 9112 sections
 * 3 and 5), and what they mean for the message: where it is meant to go, how long its body is,
 * and what becomes of the connection (RFC 9110 section 7, RFC 9112 sections 3.2, 6 and 9).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { isToken, trimBlanks } from "../http/token.ts";
import { latin1 } from "../runtime/latin1.ts";
import {
  Byte,
  byteTable,
  equalsIgnoreCase,
  FieldScanner,
  HostReader,
  isAuthority,
  listHas,
  TOKEN,
  unexpected,
} from "./fields.ts";
import { METHODS } from "../http/methods.ts";
import type { HttpVersion, RequestHead } from "../http/request_head.ts";

/** The four forms of a request target (RFC 9112 section 3.2). */
export type TargetForm = "origin" | "absolute" | "asterisk" | "authority";

const MAX_METHOD_LENGTH = 24;

/** 1 for the bytes of a method: a token without lower-case letters, as every method is. */
const METHOD_BYTE = byteTable((character, byte) => TOKEN[byte] === 1 && !/[a-z]/.test(character));

/** 1 for the bytes of a target: visible ASCII without the fragment and what no URI has. */
const TARGET_BYTE = byteTable((character) =>
  /[!-~]/.test(character) && !/[#\\"<>]/.test(character)
);

/** What follows the target; a 0 stands for any digit. */
const VERSION = [..."HTTP/0.0\r\n"].map((character) => character.charCodeAt(0));
const MAJOR_AT = 5;
const MINOR_AT = 7;

/** Escapes of NUL, LF and CR, and of UTF-8 that is longer than it need be (RFC 3629). */
const FORBIDDEN_ESCAPE = /%(?:0[0ad]|c[01]|e0%[89]|f0%8)/i;

const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)([^?]*)/i;

/** No length of up to 2^53 - 1 has more digits. */
const MAX_LENGTH_DIGITS = 16;

/** The request line, read. */
interface RequestLine {
  method: string;
  target: string;
  minorVersion: 0 | 1;
  form: TargetForm;
  path: string;
  query: string;
  /** Of the absolute form. */
  authority: string | undefined;
}

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
  readonly #maxUriLen: number;
  readonly #fields: FieldScanner;
  readonly #hosts = new HostReader();
  #state = METHOD;
  #methodEnd = 0;
  #targetEnd = 0;
  #line: RequestLine | undefined;

  /** Makes a scanner with a cap for the target in bytes, and one for the number of fields. */
  constructor(maxUriLen: number, maxFields: number) {
    this.#maxUriLen = maxUriLen;
    this.#fields = new FieldScanner(maxFields);
  }

  /** Whether the empty line was seen; {@linkcode HeadScanner.take} begins anew. */
  get complete(): boolean {
    return this.#fields.complete;
  }

  /**
   * Scans `bytes` from `from` up to `to` and returns where it stopped: behind the head when
   * {@linkcode HeadScanner.complete}, else at `to`. The head starts at `base`.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 414 `URI_TOO_LONG`, 431 `HEADERS_TOO_LARGE` or 501
   * `NOT_IMPLEMENTED` (endless method) at the first byte that is one too much or may not stand
   * where it stands; 400, 501 (unknown method) or 505 `VERSION_NOT_SUPPORTED` at the end of the
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
   * Returns the head that is complete and lies in `bytes` from `start` to `end`, and begins anew.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 400 `BAD_FRAMING`, 413 `BODY_TOO_LARGE`, 417
   * `EXPECTATION_FAILED` or 501 `UNKNOWN_CODING` when the fields cannot be honoured.
   */
  take(bytes: Uint8Array, start: number, end: number): Http1RequestHead {
    const line = this.#line!;
    this.#state = METHOD;
    this.#line = undefined;
    return new Http1RequestHead(bytes, start, end, line, this.#fields.take(), this.#hosts);
  }

  #scanMethod(bytes: Uint8Array, base: number, from: number, to: number): number {
    const stop = Math.min(to, base + MAX_METHOD_LENGTH + 1);
    let pos = from;
    while (pos < stop && METHOD_BYTE[bytes[pos]!] === 1) pos++;
    if (pos - base > MAX_METHOD_LENGTH) {
      throw new HttpError(501, "NOT_IMPLEMENTED", "The method is not known: use a standard one");
    }
    if (pos === to) return pos;
    if (bytes[pos] !== Byte.Space || pos === base) throw unexpected(bytes[pos]!, "in the method");
    this.#methodEnd = pos - base;
    this.#state = TARGET;
    return pos + 1;
  }

  #scanTarget(bytes: Uint8Array, base: number, from: number, to: number): number {
    const start = base + this.#methodEnd + 1;
    const stop = Math.min(to, start + this.#maxUriLen + 1);
    let pos = from;
    while (pos < stop && TARGET_BYTE[bytes[pos]!] === 1) pos++;
    if (pos - start > this.#maxUriLen) {
      throw new HttpError(
        414,
        "URI_TOO_LONG",
        `The target is longer than ${this.#maxUriLen} bytes: use a shorter one`,
      );
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
    this.#line = readRequestLine(
      latin1(bytes, base, base + this.#targetEnd),
      this.#methodEnd,
      bytes[start + MAJOR_AT]! - Byte.Zero,
      bytes[start + MINOR_AT]! - Byte.Zero,
    );
    this.#state = FIELDS;
    return end;
  }
}

function isDigit(byte: number): boolean {
  return byte >= Byte.Zero && byte <= Byte.Nine;
}

/** Reads a request line that is well-formed; the version goes first, as it governs the rest. */
function readRequestLine(
  methodAndTarget: string,
  methodEnd: number,
  major: number,
  minor: number,
): RequestLine {
  if (major !== 1) {
    throw new HttpError(
      505,
      "VERSION_NOT_SUPPORTED",
      `HTTP/${major}.${minor} is not supported: use HTTP/1.1`,
    );
  }
  const method = methodAndTarget.startsWith("GET ") ? "GET" : methodAndTarget.slice(0, methodEnd);
  if (method !== "GET" && !METHODS.has(method)) { // most requests are spared the look-up
    throw new HttpError(501, "NOT_IMPLEMENTED", "The method is not known: use a standard one");
  }
  const line: RequestLine = {
    method,
    target: methodAndTarget.slice(methodEnd + 1),
    minorVersion: minor === 0 ? 0 : 1, // a higher one is spoken to as 1.1 (RFC 9110 section 2.5)
    form: "origin",
    path: "",
    query: "",
    authority: undefined,
  };
  readTarget(line);
  return line;
}

/** Reads the target's form and parts (RFC 9112 section 3.2); the method decides what may stand. */
function readTarget(line: RequestLine): void {
  const { method, target } = line;
  if (method === "CONNECT") {
    line.form = "authority";
    if (!isAuthority(target) || !/:\d+$/.test(target)) throw badTarget("CONNECT needs host:port");
    return;
  }
  if (target === "*" && method === "OPTIONS") {
    line.form = "asterisk";
    line.path = "*";
    return;
  }

  const question = target.indexOf("?");
  const pathEnd = question < 0 ? target.length : question;
  if (question >= 0) line.query = target.slice(question + 1);
  if (target.startsWith("/")) {
    line.path = target.slice(0, pathEnd);
  } else {
    const match = ABSOLUTE_FORM.exec(target);
    if (match === null) throw badTarget("it starts neither with a slash nor with http(s)://");
    const [, authority, path] = match as unknown as [string, string, string];
    if (!isAuthority(authority)) throw badTarget("its host or port is malformed");
    line.form = "absolute";
    line.path = path || "/";
    line.authority = authority;
  }
  if (line.path.includes("%") && FORBIDDEN_ESCAPE.test(line.path)) {
    throw badTarget("its path escapes NUL, CR, LF or overlong UTF-8");
  }
}

function badTarget(why: string): HttpError {
  return new HttpError(400, "BAD_REQUEST", `The target is malformed: ${why}`);
}

/** The fields that the parser itself acts on: which field it is, or -1, and what it says. */
class RecognizedFields {
  host = -1;
  contentLength = -1;
  transferEncoding = -1;
  upgrade = false;
  expectContinue = false;
  close = false;
  keepAlive = false;
  upgradeOption = false;
}

/**
 * The head of one request. It refers to the bytes as they came; a field becomes a string when it
 * is asked for.
 */
export class Http1RequestHead implements RequestHead {
  /** The method, such as `GET`; always a known one. */
  readonly method: string;
  /** The target as sent. */
  readonly target: string;
  /** 1 for HTTP/1.1 and the versions 1.2 to 1.9, which nobody has made; 0 for HTTP/1.0. */
  readonly minorVersion: 0 | 1;
  /** The target's form; `authority` with CONNECT only, `asterisk` with OPTIONS only. */
  readonly form: TargetForm;
  /**
   * The target's path as sent, without the query: `*` for the asterisk form, empty for the
   * authority form. An empty path of the absolute form is `/`.
   */
  readonly path: string;
  /** The target's query as sent, without the `?`; empty when there is none. */
  readonly query: string;
  /**
   * The `host[:port]` that the request is for, as sent and valid: of the target in absolute form,
   * whatever the Host field says (RFC 9112 section 3.2.2), else of the Host field. Undefined only
   * for an HTTP/1.0 request without either.
   */
  readonly host: string | undefined;
  /** The Content-Length; undefined when there is none. */
  readonly contentLength: number | undefined;
  /** Whether the body comes in chunks. Never so together with a Content-Length. */
  readonly chunked: boolean;
  /** Whether the client wants the connection kept open (RFC 9112 section 9.3). */
  readonly keepAlive: boolean;
  /** Whether the client waits for 100 (Continue); never on HTTP/1.0 (RFC 9110 section 10.1.1). */
  readonly expectContinue: boolean;
  /** Whether the client asks for another protocol; never on HTTP/1.0 (RFC 9110 section 7.8). */
  readonly upgrade: boolean;
  /** How many fields there are. */
  readonly fieldCount: number;

  readonly #source: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  /** Four a field, counted from `#start`; see {@linkcode FieldScanner}. */
  readonly #offsets: number[];
  /** Which field is the Host that a target in absolute form overrides, if any. */
  readonly #overridden: number | undefined;

  /**
   * Makes the head that lies in `source` from `start` to `end`, of its request line and the
   * offsets of its fields; {@linkcode HeadScanner.take} is its only caller.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 400 `BAD_FRAMING`, 413 `BODY_TOO_LARGE`, 417
   * `EXPECTATION_FAILED` or 501 `UNKNOWN_CODING` when the fields cannot be honoured.
   */
  constructor(
    source: Uint8Array,
    start: number,
    end: number,
    line: RequestLine,
    offsets: number[],
    hosts: HostReader,
  ) {
    this.#source = source;
    this.#start = start;
    this.#end = end;
    this.#offsets = offsets;
    this.fieldCount = offsets.length / 4;
    this.method = line.method;
    this.target = line.target;
    this.minorVersion = line.minorVersion;
    this.form = line.form;
    this.path = line.path;
    this.query = line.query;

    const known = this.#recognize();
    this.host = this.#readHost(hosts, known.host, line.authority);
    if (line.authority !== undefined && known.host >= 0) this.#overridden = known.host;
    this.chunked = this.#readTransferEncoding(known);
    this.contentLength = this.#readContentLength(known.contentLength);
    const current = line.minorVersion === 1;
    this.keepAlive = !known.close && (current || known.keepAlive);
    this.expectContinue = current && known.expectContinue;
    this.upgrade = current && known.upgrade && known.upgradeOption;
  }

  get version(): HttpVersion {
    return this.minorVersion === 0 ? "1.0" : "1.1";
  }

  get hasBody(): boolean {
    return this.chunked || (this.contentLength ?? 0) > 0;
  }

  /** The head as received, from the request line up to and with the empty line. */
  get raw(): Uint8Array {
    return this.#source.subarray(this.#start, this.#end);
  }

  /**
   * The name of field `index` as sent.
   *
   * @throws {RangeError} `index` is not 0 to `fieldCount - 1`.
   */
  fieldName(index: number): string {
    return latin1(this.#source, this.#offset(index, 0), this.#offset(index, 1));
  }

  /**
   * The value of field `index`, one character per byte, without the white space around it. A Host
   * field beside a target in absolute form has the target's value, so that no program can take the
   * request for another host's than the one it was let in for (RFC 9112 section 3.2.2).
   *
   * @throws {RangeError} `index` is not 0 to `fieldCount - 1`.
   */
  fieldValue(index: number): string {
    if (index === this.#overridden) return this.host!;
    return latin1(this.#source, this.#offset(index, 2), this.#offset(index, 3));
  }

  /** The value of the first field of this name, given in lower case. */
  get(lowerName: string): string | undefined {
    for (let i = 0; i < this.fieldCount; i++) {
      if (this.#isNamed(i, lowerName)) return this.fieldValue(i);
    }
    return undefined;
  }

  /** The values of all fields of this name, given in lower case, in the order they were sent. */
  getAll(lowerName: string): string[] {
    const values: string[] = [];
    for (let i = 0; i < this.fieldCount; i++) {
      if (this.#isNamed(i, lowerName)) values.push(this.fieldValue(i));
    }
    return values;
  }

  #offset(index: number, part: 0 | 1 | 2 | 3): number {
    const offset = this.#offsets[4 * index + part];
    if (offset === undefined) throw new RangeError(`Field ${index} of ${this.fieldCount}`);
    return this.#start + offset;
  }

  #isNamed(index: number, lowerName: string): boolean {
    const start = this.#offset(index, 0);
    return equalsIgnoreCase(this.#source, start, this.#offset(index, 1), lowerName);
  }

  #recognize(): RecognizedFields {
    const known = new RecognizedFields();
    for (let i = 0; i < this.fieldCount; i++) {
      // The length of the name rules out nearly every field before a byte is compared.
      switch (this.#offset(i, 1) - this.#offset(i, 0)) {
        case "host".length:
          if (this.#isNamed(i, "host")) known.host = onlyOne(known.host, i, "Host");
          break;
        case "expect".length:
          if (this.#isNamed(i, "expect")) known.expectContinue = this.#readExpect(i);
          break;
        case "upgrade".length:
          if (this.#isNamed(i, "upgrade")) known.upgrade = true;
          break;
        case "connection".length:
          if (this.#isNamed(i, "connection")) this.#readConnection(i, known);
          break;
        case "content-length".length:
          if (this.#isNamed(i, "content-length")) {
            known.contentLength = onlyOne(known.contentLength, i, "Content-Length");
          }
          break;
        case "transfer-encoding".length:
          if (this.#isNamed(i, "transfer-encoding")) {
            known.transferEncoding = onlyOne(known.transferEncoding, i, "Transfer-Encoding");
          }
          break;
      }
    }
    return known;
  }

  #readConnection(index: number, known: RecognizedFields): void {
    const start = this.#offset(index, 2);
    const end = this.#offset(index, 3);
    if (listHas(this.#source, start, end, "close")) known.close = true;
    if (listHas(this.#source, start, end, "keep-alive")) known.keepAlive = true;
    if (listHas(this.#source, start, end, "upgrade")) known.upgradeOption = true;
  }

  #readExpect(index: number): true {
    const start = this.#offset(index, 2);
    if (!equalsIgnoreCase(this.#source, start, this.#offset(index, 3), "100-continue")) {
      throw new HttpError(
        417,
        "EXPECTATION_FAILED",
        "The expectation is not supported: expect 100-continue or nothing",
      );
    }
    return true;
  }

  #readHost(
    hosts: HostReader,
    index: number,
    authority: string | undefined,
  ): string | undefined {
    if (index < 0) {
      if (this.minorVersion === 0) return authority;
      throw new HttpError(400, "BAD_REQUEST", "The request has no Host field: send one");
    }
    const host = hosts.read(this.#source, this.#offset(index, 2), this.#offset(index, 3));
    if (host === undefined) {
      throw new HttpError(
        400,
        "BAD_REQUEST",
        "The Host field is malformed: send host or host:port",
      );
    }
    return authority ?? host;
  }

  /**
   * Chunked, alone, on HTTP/1.1, or nothing (RFC 9112 section 6.1). Where chunked is not the last
   * coding the body has no end that can be told: 400; other codings under it: 501 (section 6.3).
   */
  #readTransferEncoding(known: RecognizedFields): boolean {
    const index = known.transferEncoding;
    if (index < 0) return false;
    if (known.contentLength >= 0) {
      throw badFraming("The request has Transfer-Encoding and Content-Length: send only one");
    }
    if (this.minorVersion === 0) {
      throw badFraming("Transfer-Encoding needs HTTP/1.1: send a Content-Length");
    }
    const start = this.#offset(index, 2);
    if (equalsIgnoreCase(this.#source, start, this.#offset(index, 3), "chunked")) return true;
    const codings = this.fieldValue(index).toLowerCase().split(",").map(trimBlanks);
    if (!codings.every(isToken)) {
      throw badFraming("The Transfer-Encoding field is malformed: send chunked");
    }
    if (codings.indexOf("chunked") !== codings.length - 1) {
      throw badFraming("Chunked is not the last transfer coding, once: send chunked alone");
    }
    throw new HttpError(501, "UNKNOWN_CODING", "The transfer coding is not known: use chunked");
  }

  /** RFC 9110 section 8.6, in the one spelling that everybody reads alike. */
  #readContentLength(index: number): number | undefined {
    if (index < 0) return undefined;
    const text = this.fieldValue(index);
    if (!/^(?:0|[1-9]\d*)$/.test(text)) {
      throw badFraming("The Content-Length field is malformed: send one decimal number");
    }
    if (text.length > MAX_LENGTH_DIGITS || Number(text) > Number.MAX_SAFE_INTEGER) {
      throw new HttpError(413, "BODY_TOO_LARGE", "The body is longer than 2^53 - 1 bytes");
    }
    return Number(text);
  }
}

/** Remembers a field that may stand only once. */
function onlyOne(seen: number, index: number, name: string): number {
  if (seen < 0) return index;
  const code = name === "Host" ? "BAD_REQUEST" : "BAD_FRAMING";
  throw new HttpError(400, code, `The request has several ${name} fields: send one`);
}

function badFraming(message: string): HttpError {
  return new HttpError(400, "BAD_FRAMING", message);
}
