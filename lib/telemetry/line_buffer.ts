/**
 * Lines in the making, as bytes: to put a line together of texts would leave ten times its length to
 * the garbage collector.
 *
 * @module
 */
import { copyAscii, utf8 } from "../bytes.ts";
import { latin1 } from "../runtime/latin1.ts";

const FIRST_BYTES = 16 * 1024;

/** Memory is kept as long as a part of it is needed that is not smaller than this. */
const KEPT_PART = 1 / 8;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Gathers lines of printable ASCII. */
export class LineBuffer {
  #bytes = new Uint8Array(FIRST_BYTES);
  #length = 0;

  /** How many bytes have gathered. */
  get length(): number {
    return this.#length;
  }

  /** Adds text of nothing but ASCII as it is. */
  add(text: string): void {
    this.#need(text.length);
    copyAscii(text, this.#bytes, this.#length);
    this.#length += text.length;
  }

  /** Adds bytes of printable ASCII. */
  addBytes(bytes: Uint8Array): void {
    this.#need(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Adds text of nothing but ASCII between quotes. */
  addQuoted(text: string): void {
    const { length } = text;
    this.#need(length + 2);
    const bytes = this.#bytes;
    const at = this.#length;
    bytes[at] = QUOTE;
    copyAscii(text, bytes, at + 1);
    bytes[at + 1 + length] = QUOTE;
    this.#length += length + 2;
  }

  /** Adds text without quotes, backslashes and anything but printable ASCII, which are `\xhh`. */
  addEscaped(text: string): void {
    if (!this.#addPlain(text)) this.add(text.replace(NOT_PLAIN, hex));
  }

  /** Adds text in JSON, in its quotes, as {@linkcode asciiJson} has it. */
  addJson(text: string): void {
    this.#need(text.length + 2);
    const bytes = this.#bytes;
    bytes[this.#length++] = QUOTE;
    if (this.#addPlain(text)) bytes[this.#length++] = QUOTE;
    else {
      this.#length--;
      this.add(asciiJson(text));
    }
  }

  /** Forgets what was added behind the first `length` bytes. */
  cut(length: number): void {
    this.#length = length;
  }

  /** Returns all lines, and begins anew. */
  take(): string {
    const { length } = this;
    const text = latin1(this.#bytes, 0, length);
    const isLarge = this.#bytes.length > FIRST_BYTES && length < this.#bytes.length * KEPT_PART;
    if (isLarge) this.#bytes = new Uint8Array(FIRST_BYTES);
    this.#length = 0;
    return text;
  }

  /** Adds text that needs no escapes; of another nothing, and returns `false`. */
  #addPlain(text: string): boolean {
    const { length } = text;
    this.#need(length);
    const bytes = this.#bytes;
    const at = this.#length;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return false;
      bytes[at + i] = code;
    }
    this.#length += length;
    return true;
  }

  #need(length: number): void {
    const needed = this.#length + length;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, needed));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}

const NOT_PLAIN = /[^\x20\x21\x23-\x5b\x5d-\x7e]+/g;
const NOT_ASCII = /[\x7f-\uffff]/g;

/** Characters of a field are its bytes; others, which only texts of the program have, are UTF-8. */
function hex(text: string): string {
  let shown = "";
  for (const character of text) {
    const code = character.codePointAt(0)!;
    for (const byte of code > 0xff ? utf8(character) : [code]) {
      shown += `\\x${byte.toString(16).padStart(2, "0")}`;
    }
  }
  return shown;
}

/** A value as JSON; what is not ASCII, and DEL, as `\u` escapes. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(NOT_ASCII, unicode);
}

function unicode(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
