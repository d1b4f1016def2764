/**
 * The HTTP/1.1 request parser, sans I/O: bytes are pushed in, events are pulled out (RFC 9112).
 *
 * It is strict, and it fails at the first byte that breaks a rule. What comes out depends on the
 * bytes alone, never on how they were cut into pieces. It never looks beyond the end of a message,
 * so that pipelined requests wait in the pushed bytes until they are asked for.
 *
 * @module
 */
import { GrowingBytes, NO_BYTES, pieceOf } from "../bytes.ts";
import { HttpError } from "../errors.ts";
import { bodyTooLong, headTooLong } from "../http/request_rules.ts";
import { allowedInTrailer } from "../http/trailers.ts";
import { latin1 } from "../runtime/latin1.ts";
import { ChunkedDecoder } from "./chunked.ts";
import { Byte, FieldScanner, unexpected } from "./field_scanner.ts";
import { HeadScanner } from "./head_scanner.ts";
import type { Http1RequestHead } from "./request_head.ts";

/** How much of what a client may send; lengths in bytes. */
export interface ParserLimits {
  /** The target. A longer one is 414 `URI_TOO_LONG`. */
  maxUriBytes: number;
  /** The head: request line, fields, and the empty line. A longer one is 431 `HEADERS_TOO_LARGE`. */
  maxHeaderBytes: number;
  /** How many fields a head or a trailer section has. More are 431 `HEADERS_TOO_LARGE`. */
  maxHeaderFields: number;
  /** The body; may be `Infinity`. A longer one is 413 `BODY_TOO_LARGE`. */
  maxBodyBytes: number;
  /** All chunk extensions of one message. Longer ones are 400 `BAD_FRAMING`. */
  maxChunkExtBytes: number;
  /** The trailer fields of one message. Longer ones are 431 `HEADERS_TOO_LARGE`. */
  maxTrailerBytes: number;
}

/** What {@linkcode RequestParser.next} came to. */
export const Step = {
  /** All bytes are used up: push more. */
  Need: 0,
  /** The head of a request is in `head`. */
  Head: 1,
  /** A piece of the body is in `data`. */
  Data: 2,
  /** The request is complete; its trailers are in `trailers`. */
  End: 3,
  /** The request is refused for the reason in `error`; the connection cannot be used any more. */
  Fail: 4,
} as const;

/** One of the values of {@linkcode Step}. */
export type Step = (typeof Step)[keyof typeof Step];

/** A scanner of a section that ends with an empty line: a head or trailers. */
interface SectionScanner {
  readonly complete: boolean;
  scan(bytes: Uint8Array, base: number, from: number, to: number): number;
}

const NO_TRAILERS = Object.freeze([]) as unknown as [name: string, value: string][];
const MIN_KEPT_BYTES = 512;
const CRLF_LENGTH = 2;

// What the parser works on.
const START = 0; // between messages
const EMPTY_LINE_LF = 1;
const HEAD = 2;
const BODY = 3;
const CHUNKS = 4;
const TRAILERS = 5;
const FAILED = 6;

/**
 * Parses the requests of one connection.
 *
 * ```ts
 * parser.push(bytes);
 * while ((step = parser.next()) !== Step.Need) { … }
 * ```
 */
export class RequestParser {
  /**
   * A piece of the body, never empty: a view of what was pushed, or a copy of what is short. Valid
   * after `Step.Data`.
   */
  data: Uint8Array = NO_BYTES;
  /**
   * The trailer fields in the order they were sent; valid after `Step.End`. Fields that a trailer
   * may not carry were dropped: framing, routing, authentication, cookies, `content-*`, `if-*` and
   * other modifiers (RFC 9110 section 6.5.1).
   */
  trailers: [name: string, value: string][] = NO_TRAILERS;
  /** Why the request is refused; valid after `Step.Fail`. */
  error!: HttpError;

  readonly #limits: ParserLimits;
  readonly #headScanner: HeadScanner;
  /** What reads chunked bodies; made for the first one. */
  #chunks: ChunkedDecoder | undefined;
  #trailerScanner: FieldScanner | undefined;
  #state = START;
  /** The bytes pushed last, used up to `#pos`. */
  #input: Uint8Array = NO_BYTES;
  #pos = 0;
  /** The section that began in earlier pushes, from its start; used only while one is split. */
  #kept: GrowingBytes | undefined;
  /** How much of a body with a Content-Length is still to come. */
  #remaining = 0;
  #head: Http1RequestHead | undefined;
  /** The section that was scanned last, and where it lies. */
  #section: Uint8Array = NO_BYTES;
  #sectionStart = 0;
  #sectionEnd = 0;

  /** Makes a parser for one connection. */
  constructor(limits: ParserLimits) {
    this.#limits = limits;
    this.#headScanner = new HeadScanner(limits.maxUriBytes, limits.maxHeaderFields);
  }

  /**
   * The head of the current request; valid from `Step.Head` until the step after `Step.End`.
   *
   * @throws {TypeError} There is no current request.
   */
  get head(): Http1RequestHead {
    if (this.#head === undefined) throw new TypeError("There is no head: wait for Step.Head");
    return this.#head;
  }

  /**
   * Hands over the next bytes; they must not change while a view of them is in use. Only for a
   * parser whose last step was `Step.Need`, or a new one; a failed parser ignores them.
   *
   * @throws {TypeError} Bytes of the last push are left.
   */
  push(bytes: Uint8Array): void {
    if (this.#state === FAILED) return;
    if (this.#pos < this.#input.length) {
      throw new TypeError("Bytes are left: call next() until it returns Step.Need, then push()");
    }
    this.#input = bytes;
    this.#pos = 0;
  }

  /** Goes on to the next event. Once it returned `Step.Fail` it always does. */
  next(): Step {
    try {
      return this.#advance();
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.error = error;
      this.#state = FAILED;
      this.#input = NO_BYTES;
      this.#kept = undefined;
      this.#pos = 0;
      return Step.Fail;
    }
  }

  /** Takes away the bytes that were pushed and belong to no event yet, for an upgrade. */
  takeRest(): Uint8Array {
    const rest = this.#input.subarray(this.#pos);
    this.#letGo();
    return rest;
  }

  /** Whether no byte of a next request has come: the time to close a connection without loss. */
  get idle(): boolean {
    return this.#state <= HEAD && this.#kept === undefined && this.#pos === this.#input.length;
  }

  /** Whether a message has begun and not ended, so that an EOF now would cut it. */
  get incomplete(): boolean {
    if (this.#state === HEAD) return this.#kept !== undefined;
    if (this.#state === BODY) return this.#remaining > 0;
    return this.#state === CHUNKS || this.#state === TRAILERS;
  }

  /** Whether all of a body of known length, behind the head that was read, has come in one piece. */
  get hasWholeBody(): boolean {
    return this.#state === BODY && this.#remaining <= this.#input.length - this.#pos;
  }

  #advance(): Step {
    if (this.#state === FAILED) return Step.Fail;
    if (this.#state === START) this.#start();
    if (this.#state === EMPTY_LINE_LF) this.#skipEmptyLine();
    if (this.#state === HEAD) return this.#parseHead();
    if (this.#state === BODY) return this.#parseBody();
    if (this.#state === CHUNKS) return this.#parseChunks();
    if (this.#state === TRAILERS) return this.#parseTrailers();
    return this.#need();
  }

  /** One empty line before the request line is skipped (RFC 9112 section 2.2), no more. */
  #start(): void {
    if (this.#pos === this.#input.length) return;
    if (this.#input[this.#pos] === Byte.CR) {
      this.#pos++;
      this.#state = EMPTY_LINE_LF;
    } else {
      this.#state = HEAD;
    }
  }

  #skipEmptyLine(): void {
    if (this.#pos === this.#input.length) return;
    const byte = this.#input[this.#pos]!;
    if (byte !== Byte.LF) throw unexpected(byte, "after CR");
    this.#pos++;
    this.#state = HEAD;
  }

  #parseHead(): Step {
    if (!this.#scanSection(this.#headScanner, this.#limits.maxHeaderBytes)) return this.#need();
    const head = this.#headScanner.take(this.#section, this.#sectionStart, this.#sectionEnd);
    this.#section = NO_BYTES;
    const length = head.contentLength ?? 0;
    if (length > this.#limits.maxBodyBytes) {
      throw bodyTooLong(this.#limits.maxBodyBytes);
    }
    this.#head = head;
    this.trailers = NO_TRAILERS;
    this.#remaining = length;
    this.#state = head.chunked ? CHUNKS : BODY;
    return Step.Head;
  }

  #parseBody(): Step {
    if (this.#remaining === 0) return this.#end();
    if (this.#pos === this.#input.length) return this.#need();
    this.#remaining -= this.#takeData(this.#remaining);
    return Step.Data;
  }

  #parseChunks(): Step {
    const { maxBodyBytes, maxChunkExtBytes } = this.#limits;
    const chunks = this.#chunks ??= new ChunkedDecoder(maxBodyBytes, maxChunkExtBytes);
    this.#pos = chunks.scan(this.#input, this.#pos, this.#input.length);
    if (chunks.last) {
      chunks.reset();
      this.#state = TRAILERS;
      return this.#parseTrailers();
    }
    if (this.#pos === this.#input.length) return this.#need();
    chunks.remaining -= this.#takeData(chunks.remaining);
    return Step.Data;
  }

  #parseTrailers(): Step {
    const cap = this.#limits.maxTrailerBytes + CRLF_LENGTH;
    const scanner = this.#trailerScanner ??= new FieldScanner(this.#limits.maxHeaderFields);
    if (!this.#scanSection(scanner, cap)) return this.#need();
    const length = scanner.take();
    if (length > 0) this.trailers = this.#readTrailers(scanner.offsets, length);
    this.#section = NO_BYTES;
    return this.#end();
  }

  #readTrailers(offsets: readonly number[], length: number): [name: string, value: string][] {
    const trailers: [name: string, value: string][] = [];
    const text = (i: number): string =>
      latin1(this.#section, this.#sectionStart + offsets[i]!, this.#sectionStart + offsets[i + 1]!);
    for (let i = 0; i < length; i += 4) {
      const name = text(i);
      if (allowedInTrailer(name)) trailers.push([name, text(i + 2)]);
    }
    return trailers;
  }

  /** Sets `data` to what there is of the next `wanted` bytes, and returns how many that are. */
  #takeData(wanted: number): number {
    const end = Math.min(this.#input.length, this.#pos + wanted);
    this.data = pieceOf(this.#input, this.#pos, end);
    this.#pos = end;
    // The receiver of the last piece may transfer its buffer, which empties every view of it.
    if (end === this.#input.length) this.#letGo();
    return this.data.length;
  }

  #end(): Step {
    this.#state = START;
    return Step.End;
  }

  /** Lets go of what is used up, so that an idle connection holds no buffers. */
  #need(): Step {
    this.#letGo();
    this.data = NO_BYTES;
    if (this.#state === START) this.#head = undefined;
    return Step.Need;
  }

  #letGo(): void {
    this.#input = NO_BYTES;
    this.#pos = 0;
  }

  /**
   * Scans on in a section of at most `cap` bytes. When it is complete it lies in `#section`, where
   * it was pushed if it came in one piece; else what there is of it is kept.
   */
  #scanSection(scanner: SectionScanner, cap: number): boolean {
    let bytes = this.#input;
    let start = this.#pos;
    let from = start;
    let to = Math.min(bytes.length, start + cap);
    if (this.#kept !== undefined) {
      from = this.#kept.length;
      this.#kept.add(bytes.subarray(start, start + cap - from), cap);
      bytes = this.#kept.bytes;
      start = 0;
      to = bytes.length;
    }
    const end = scanner.scan(bytes, start, from, to);
    this.#pos += end - from;
    if (scanner.complete) {
      this.#section = bytes;
      this.#sectionStart = start;
      this.#sectionEnd = end;
      this.#kept = undefined;
      return true;
    }
    if (end - start === cap) {
      throw headTooLong(cap);
    }
    if (this.#kept === undefined && end > start) {
      this.#kept = new GrowingBytes();
      this.#kept.add(bytes.subarray(start, end), cap, MIN_KEPT_BYTES);
    }
    return false;
  }
}
