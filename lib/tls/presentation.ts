/**
 * The presentation language of TLS (RFC 8446 section 3): vectors with their length in front,
 * numbers, nothing left over. It knows GREASE (RFC 8701), which is left out of every list.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { TlsError } from "../errors.ts";
import type { Alert } from "./alerts.ts";
import { Shared } from "./shared.ts";

/** Whether a value is none of the reserved ones, `0x0a0a`, `0x1a1a` … `0xfafa` (RFC 8701 section 2). */
export function isNotGrease(value: number): boolean {
  return (value & 0x0f0f) !== 0x0a0a || value >> 8 !== (value & 0xff);
}

/** Keeps lists of 16-bit numbers, without GREASE; one for each kind of list. */
export function sharedLists(): Shared<number[]> {
  return new Shared(readUint16List);
}

function readUint16List(bytes: Buffer, start: number, end: number): number[] {
  const values: number[] = [];
  for (let at = start; at < end; at += 2) {
    const value = bytes[at]! << 8 | bytes[at + 1]!;
    if (isNotGrease(value)) values.push(value);
  }
  return values;
}

/** Thrown by what reads, and caught by the reader: why the bytes are no ClientHello. */
export class Unreadable extends Error {
  /** The error to report. */
  override readonly cause: TlsError;
  /** The alert to send; `undefined` to what does not speak TLS. */
  readonly alert: Alert | undefined;

  /** Makes the exception that ends the reading. */
  constructor(cause: TlsError, alert: Alert | undefined) {
    super(cause.message, { cause });
    this.cause = cause;
    this.alert = alert;
  }
}

/** A `TLS_BAD_CLIENT_HELLO` with its alert. */
export function bad(message: string, alert: Alert = "decode_error"): Unreadable {
  return new Unreadable(new TlsError("TLS_BAD_CLIENT_HELLO", message), alert);
}

/** Reads a part of a message from front to back; throws {@linkcode Unreadable}. */
export class Cursor {
  readonly #bytes: Buffer;
  readonly #name: string | number;
  #at: number;
  readonly #end: number;

  /** Reads `bytes` from `at` to `end`; `name` is what they are, or the type of the extension. */
  constructor(bytes: Buffer, name: string | number, at: number, end: number) {
    this.#bytes = bytes;
    this.#name = name;
    this.#at = at;
    this.#end = end;
  }

  /** How many bytes are left to read. */
  get left(): number {
    return this.#end - this.#at;
  }

  /** Goes over so many bytes, and returns where they begin. */
  skip(length: number): number {
    const start = this.#at;
    if (length > this.#end - start) throw this.#bad("is too short for what it holds");
    this.#at = start + length;
    return start;
  }

  /** The next byte. */
  uint8(): number {
    return this.#bytes[this.skip(1)]!;
  }

  /** The next two bytes as a number. */
  uint16(): number {
    const at = this.skip(2);
    return this.#bytes[at]! << 8 | this.#bytes[at + 1]!;
  }

  /** A vector whose length is in one byte. */
  vector8(name: string): Cursor {
    return this.#vector(name, this.uint8());
  }

  /** A vector whose length is in two bytes. */
  vector16(name: string | number): Cursor {
    return this.#vector(name, this.uint16());
  }

  #vector(name: string | number, length: number): Cursor {
    const start = this.skip(length);
    return new Cursor(this.#bytes, name, start, start + length);
  }

  /** All that is left, each byte as one character. */
  text(): string {
    return this.#bytes.toString("latin1", this.skip(this.left), this.#end);
  }

  /** All that is left as 16-bit numbers, one at least, without GREASE; equal lists are one. */
  uint16List(lists: Shared<number[]>): readonly number[] {
    const { left } = this;
    if (left === 0 || left % 2 !== 0) throw this.#bad("has a wrong length");
    return lists.of(this.#bytes, this.skip(left), this.#end);
  }

  /** What is made of all that is left; equal ones are one. */
  shared<T extends object>(values: Shared<T>): Readonly<T> {
    return values.of(this.#bytes, this.skip(this.left), this.#end);
  }

  /** Throws unless everything was read. */
  end(): void {
    if (this.left > 0) throw this.#bad("has trailing bytes");
  }

  /** Returns `part` if it was all there was to read. */
  only(part: Cursor): Cursor {
    this.end();
    return part;
  }

  #bad(what: string): Unreadable {
    const name = typeof this.#name === "number" ? `Extension ${this.#name}` : this.#name;
    return bad(`${name} ${what}`);
  }
}
