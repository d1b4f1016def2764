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
} from "../http/response_rules.ts";
import { REASONS } from "../http/status.ts";

/** Beyond printable ASCII and the tab, values are looked at more closely. */
const UNUSUAL = /[^\t\x20-\x7e]/;

/** Longer beginnings of heads are not remembered, nor those of more lines. */
const MAX_KNOWN_BEGINNING = 512;
const MAX_KNOWN_LINES = 8;

/** What is one client's secret is not remembered. */
const COOKIE = /^set-cookie$/i;

/** The name of a line that needs no check: no program can give it for one of a field. */
const LINE = Symbol("line");
type Name = string | typeof LINE;

/**
 * The beginning of a head that was sent before, up to the end of one of its lines. Most heads are
 * those that were sent before, so that no text need be checked, nor put together.
 */
class Beginning {
  /** All lines so far, each of which was checked. */
  readonly text: string;
  readonly #lines: number;
  readonly #name: Name;
  readonly #value: string;
  /** The beginnings that are longer by one line: the two that were learnt last. */
  #next: Beginning | undefined;
  #other: Beginning | undefined;
  /** The line that followed last and is not among them: the second time in a row it is learnt. */
  #newName: Name | undefined;
  #newValue = "";

  constructor(text: string, lines = 0, name: Name = LINE, value = "") {
    this.text = text;
    text.charCodeAt(0); // has the engine put it together once, not in each head that begins so
    this.#lines = lines;
    this.#name = name;
    this.#value = value;
  }

  /** The beginning that is longer by this line, if it is known. */
  followedBy(name: Name, value: string): Beginning | undefined {
    const next = this.#next;
    if (next === undefined) return undefined;
    if (next.#value === value && next.#name === name) return next;
    const other = this.#other;
    if (other === undefined || other.#value !== value || other.#name !== name) return undefined;
    this.#other = next;
    return this.#next = other;
  }

  /** Learns that it is followed by a line to make `text`; returns that if it is known from now on. */
  learn(name: Name, value: string, text: string): Beginning | undefined {
    if (text.length > MAX_KNOWN_BEGINNING || this.#lines === MAX_KNOWN_LINES) return undefined;
    if (name !== LINE && COOKIE.test(name)) return undefined;
    if (this.#newName !== name || this.#newValue !== value) {
      this.#newName = name;
      this.#newValue = value;
      return undefined;
    }
    this.#other = this.#next;
    return this.#next = new Beginning(text, this.#lines + 1, name, value);
  }
}

/**
 * A first line and field lines behind it: a head, or the end of a chunked body. Every name and
 * value is checked, so that no handler can break the framing. It can be used again by
 * {@linkcode SectionEncoder.begin}.
 */
export class SectionEncoder {
  /** What there is so far, where that was sent before; else it is in `#text`. */
  #known: Beginning | undefined;
  #text = "";
  /** Whether there is anything beyond ASCII, which has to be written as bytes. */
  #latin1 = false;

  /** Begins with a line that was checked, which holds more than ASCII or not. */
  constructor(firstLine = "", latin1 = false) {
    this.#text = firstLine;
    this.#latin1 = latin1;
  }

  /**
   * Begins a response head, whatever there was before.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a status or reason that HTTP does not allow
   */
  begin(status: number, reason: string | undefined): this {
    if (reason === undefined) {
      this.#known = STATUS_LINES[status] ??= new Beginning(statusLine(status));
      this.#latin1 = false;
      return this;
    }
    assertFieldValue("reason", reason);
    this.#text = statusLine(status, reason);
    this.#known = undefined;
    this.#latin1 = UNUSUAL.test(reason);
    return this;
  }

  /**
   * Adds a field.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
   */
  field(name: string, value: string): void {
    const known = this.#known?.followedBy(name, value);
    if (known !== undefined) {
      this.#known = known;
      return;
    }
    assertFieldName(name);
    if (UNUSUAL.test(value)) {
      assertFieldValue(name, value);
      this.#latin1 = true;
    }
    this.#add(name, value, `${name}: ${value}\r\n`);
  }

  /** Adds a field line, with its line end, that needs no check. */
  line(line: string): void {
    const known = this.#known?.followedBy(LINE, line);
    if (known !== undefined) this.#known = known;
    else this.#add(LINE, line, line);
  }

  #add(name: Name, value: string, line: string): void {
    const known = this.#known;
    this.#text = (known === undefined ? this.#text : known.text) + line;
    this.#known = this.#latin1 ? undefined : known?.learn(name, value, this.#text);
  }

  /** The whole section, with `lastLines`, which need no check, and the empty line. */
  end(lastLines = "\r\n"): Chunk {
    const text = (this.#known === undefined ? this.#text : this.#known.text) + lastLines;
    this.#text = "";
    this.#known = undefined;
    return this.#latin1 ? Buffer.from(text, "latin1") : text;
  }
}

/** The status lines that were sent before, by status. */
const STATUS_LINES: Beginning[] = [];

/**
 * Begins a response head.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a status or reason that HTTP does not allow
 */
export function beginHead(status: number, reason: string | undefined): SectionEncoder {
  return new SectionEncoder().begin(status, reason);
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

/** The last lines of heads that were sent before, by the lengths of their bodies. */
const LENGTH_ENDS: string[] = [];
const MAX_KNOWN_LENGTH = 1_000;

/** The field line that says how long the body is. */
export function lengthLine(length: number): string {
  return `Content-Length: ${length}\r\n`;
}

/** The same as the last line of a head, with the empty line behind it. */
export function lengthEnd(length: number): string {
  if (length > MAX_KNOWN_LENGTH) return `${lengthLine(length)}\r\n`;
  return LENGTH_ENDS[length] ??= `${lengthLine(length)}\r\n`;
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
