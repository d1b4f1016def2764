/**
 * What the request line and the fields of a head mean for the message: where it is meant to go, how
 * long its body is, and what becomes of the connection (RFC 9110 section 7, RFC 9112 sections 3.2, 6
 * and 9).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import type { HostReader } from "../http/authority.ts";
import type { HttpVersion, RequestHead } from "../http/request_head.ts";
import { bodyTooLong, noHost, readLength, unknownExpectation } from "../http/request_rules.ts";
import { isToken, listMembers } from "../http/token.ts";
import { latin1 } from "../runtime/latin1.ts";
import { Byte, equalsIgnoreCase, FieldScanner } from "./field_scanner.ts";
import type { RequestLine, TargetForm } from "./request_line.ts";

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

  /** Forgets what was recognized. */
  reset(): this {
    this.host = this.contentLength = this.transferEncoding = -1;
    this.upgrade =
      this.expectContinue =
      this.close =
      this.keepAlive =
      this.upgradeOption =
        false;
    return this;
  }
}

/** What was recognized in the head that is being made, one after the other. */
const RECOGNIZED = new RecognizedFields();

/**
 * The head of one request. It refers to the bytes as they came; a field becomes a string when it
 * is asked for.
 */
export class Http1RequestHead implements RequestHead {
  /** The method, such as `GET`; always a known one. */
  readonly method: string;
  /** The target as sent. */
  readonly target: string;
  /** 1 for HTTP/1.1 and the versions 1.2 to 1.9, which do not exist; 0 for HTTP/1.0. */
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
  /** Four a field, counted from `#start`; those of the scanner while it has them. */
  #offsets: readonly number[];
  /** What has scanned the fields, and which section they were; `undefined`: they are kept here. */
  #scanner: FieldScanner | undefined;
  readonly #section: number;
  /** Which field is the Host that a target in absolute form overrides, if any. */
  readonly #overridden: number | undefined;

  /**
   * Makes the head that lies in `source` from `start` to `end`, of its request line and what has
   * scanned its fields; see `HeadScanner.take()`.
   *
   * @throws {HttpError} 400 `BAD_REQUEST`, 400 `BAD_FRAMING`, 413 `BODY_TOO_LARGE`, 417
   * `EXPECTATION_FAILED` or 501 `UNKNOWN_CODING` when the fields cannot be honoured.
   */
  constructor(
    source: Uint8Array,
    start: number,
    end: number,
    line: RequestLine,
    fields: FieldScanner,
    hosts: HostReader,
  ) {
    this.#source = source;
    this.#start = start;
    this.#end = end;
    this.#offsets = fields.offsets;
    this.#scanner = fields;
    this.#section = fields.section;
    this.fieldCount = fields.take() / 4;
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
    if (this.#scanner !== undefined) { // whoever gets the bytes might change them
      if (this.#scanner.section !== this.#section) this.#scanAgain();
      else this.#offsets = this.#offsets.slice(0, 4 * this.fieldCount);
      this.#scanner = undefined;
    }
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
    const index = this.#find(lowerName, 0);
    return index < 0 ? undefined : this.fieldValue(index);
  }

  /** The values of all fields of this name, given in lower case, in the order they were sent. */
  getAll(lowerName: string): string[] {
    const values: string[] = [];
    for (let i = this.#find(lowerName, 0); i >= 0; i = this.#find(lowerName, i + 1)) {
      values.push(this.fieldValue(i));
    }
    return values;
  }

  /** The first field of this name from `from` on; -1: there is none. */
  #find(lowerName: string, from: number): number {
    const offsets = this.#currentOffsets;
    const { length } = lowerName;
    for (let i = from; i < this.fieldCount; i++) {
      // The length of the name rules out nearly every field before a byte is compared.
      if (offsets[4 * i + 1]! - offsets[4 * i]! === length && this.#isNamed(i, lowerName)) return i;
    }
    return -1;
  }

  #offset(index: number, part: 0 | 1 | 2 | 3): number {
    if (!(index >= 0 && index < this.fieldCount)) {
      throw new RangeError(`Field ${index} of ${this.fieldCount}`);
    }
    return this.#start + this.#currentOffsets[4 * index + part]!;
  }

  get #currentOffsets(): readonly number[] {
    if (this.#scanner !== undefined && this.#scanner.section !== this.#section) this.#scanAgain();
    return this.#offsets;
  }

  /** The connection has gone on to the next request, and this one is looked at still. */
  #scanAgain(): void {
    const scanner = new FieldScanner(Infinity);
    const fields = this.#source.indexOf(Byte.LF, this.#start) + 1;
    scanner.scan(this.#source, this.#start, fields, this.#end);
    this.#offsets = scanner.offsets;
    this.#scanner = undefined;
  }

  #isNamed(index: number, lowerName: string): boolean {
    const start = this.#offset(index, 0);
    return equalsIgnoreCase(this.#source, start, this.#offset(index, 1), lowerName);
  }

  #recognize(): RecognizedFields {
    const known = RECOGNIZED.reset();
    const offsets = this.#currentOffsets;
    for (let i = 0; i < this.fieldCount; i++) {
      // The length of the name rules out nearly every field before a byte is compared.
      switch (offsets[4 * i + 1]! - offsets[4 * i]!) {
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
    if (equalsIgnoreCase(this.#source, start, end, "keep-alive")) known.keepAlive = true;
    else {
      const options = listMembers(this.fieldValue(index).toLowerCase());
      known.close ||= options.includes("close");
      known.keepAlive ||= options.includes("keep-alive");
      known.upgradeOption ||= options.includes("upgrade");
    }
  }

  #readExpect(index: number): true {
    const start = this.#offset(index, 2);
    if (!equalsIgnoreCase(this.#source, start, this.#offset(index, 3), "100-continue")) {
      throw unknownExpectation();
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
      throw noHost();
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
   * coding the body has no end that could be found: 400; other codings under it: 501 (section 6.3).
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
    const codings = listMembers(this.fieldValue(index).toLowerCase());
    if (!codings.every(isToken)) {
      throw badFraming("The Transfer-Encoding field is malformed: send chunked");
    }
    if (codings.indexOf("chunked") !== codings.length - 1) {
      throw badFraming("Chunked is not the last transfer coding, once: send chunked alone");
    }
    throw new HttpError(501, "UNKNOWN_CODING", "The transfer coding is not known: use chunked");
  }

  #readContentLength(index: number): number | undefined {
    if (index < 0) return undefined;
    const length = readLength(this.fieldValue(index));
    if (length === undefined) {
      throw badFraming("The Content-Length field is malformed: send one decimal number");
    }
    if (length === Infinity) throw bodyTooLong(Infinity);
    return length;
  }
}

/** Remembers a field that may come only once. */
function onlyOne(seen: number, index: number, name: string): number {
  if (seen < 0) return index;
  const code = name === "Host" ? "BAD_REQUEST" : "BAD_FRAMING";
  throw new HttpError(400, code, `The request has several ${name} fields: send one`);
}

function badFraming(message: string): HttpError {
  return new HttpError(400, "BAD_FRAMING", message);
}
