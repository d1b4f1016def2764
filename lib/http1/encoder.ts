/**
 * Response heads and chunks as they go onto the wire (RFC 9112 sections 4, 6 and 7.1), sans I/O.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Chunk } from "../net/chunks.ts";
import { dateNow } from "../http/date.ts";
import {
  assertFieldName,
  assertFieldValue,
  assertStatus,
  type Fields,
  Role,
  roleOf,
} from "../http/response_rules.ts";
import { REASONS } from "../http/status.ts";

/** The `Content-Type` that was sent last, as its field and as a line that was checked. */
let typeName: string | undefined;
let typeValue = "";
let typeLine = "";
const TYPE_LENGTH = "content-type".length;

/** Beyond printable ASCII and the tab, values are looked at more closely. */
const UNUSUAL = /[^\t\x20-\x7e]/;

/**
 * A first line and field lines behind it: a head, or the end of a chunked body. Every name and
 * value is checked, so that no handler can break the framing.
 */
export class SectionEncoder {
  #text: string;
  /** Whether there is anything beyond ASCII, which has to be written as bytes. */
  #latin1: boolean;

  /** Begins with a line that was checked, which holds more than ASCII or not. */
  constructor(firstLine: string, latin1 = false) {
    this.#text = firstLine;
    this.#latin1 = latin1;
  }

  /**
   * Adds a field.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
   */
  field(name: string, value: string): void {
    if (value === typeValue && name === typeName) {
      this.#text += typeLine;
      return;
    }
    assertFieldName(name);
    if (UNUSUAL.test(value)) {
      assertFieldValue(name, value);
      this.#latin1 = true;
    }
    const line = `${name}: ${value}\r\n`;
    this.#text += line;
    if (name.length !== TYPE_LENGTH || this.#latin1 || roleOf(name) !== Role.Type) return;
    typeName = name;
    typeValue = value;
    typeLine = line;
  }

  /** Adds a field line, with its line end, that needs no check. */
  line(line: string): void {
    this.#text += line;
  }

  /** The whole section, with the empty line. */
  end(): Chunk {
    const text = this.#text + "\r\n";
    return this.#latin1 ? Buffer.from(text, "latin1") : text;
  }
}

/** The status lines that were sent before, by status. */
const STATUS_LINES: string[] = [];

/**
 * Begins a response head.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a status or reason that HTTP does not allow
 */
export function beginHead(status: number, reason: string | undefined): SectionEncoder {
  if (reason === undefined) return new SectionEncoder(STATUS_LINES[status] ??= statusLine(status));
  assertFieldValue("reason", reason);
  return new SectionEncoder(statusLine(status, reason), UNUSUAL.test(reason));
}

function statusLine(status: number, reason = REASONS[status] ?? ""): string {
  assertStatus(status);
  return `HTTP/1.1 ${status} ${reason}\r\n`;
}

/**
 * A whole response head.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name, value or status that HTTP does not allow
 */
export function encodeHead(status: number, fields: Fields): Chunk {
  return encodeSection(beginHead(status, undefined), fields);
}

function encodeSection(section: SectionEncoder, fields: Fields): Chunk {
  for (const [name, value] of fields) section.field(name, value);
  return section.end();
}

/** The lines of short bodies that were sent before, by their lengths. */
const LENGTH_LINES: string[] = [];
const MAX_KNOWN_LENGTH = 1_000;

/** The field line that says how long the body is. */
export function lengthLine(length: number): string {
  if (length > MAX_KNOWN_LENGTH) return `Content-Length: ${length}\r\n`;
  return LENGTH_LINES[length] ??= `Content-Length: ${length}\r\n`;
}

/** The line before a chunk of `length` bytes. */
export function chunkHead(length: number): string {
  return `${length.toString(16)}\r\n`;
}

/** The line end behind a chunk. */
export const CHUNK_END = "\r\n";

/**
 * The last chunk with its trailer section.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
 */
export function lastChunk(trailers: Fields = []): Chunk {
  return encodeSection(new SectionEncoder("0\r\n"), trailers);
}

let dateText = "";
let dateLineText = "";

/** The field line that says now; made once a second. */
export function dateLine(): string {
  const date = dateNow();
  if (date !== dateText) {
    dateText = date;
    dateLineText = `Date: ${date}\r\n`;
  }
  return dateLineText;
}
