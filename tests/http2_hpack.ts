/**
 * HPACK (RFC 7541) as the tests of HTTP/2 need it, with nothing of the server's own code: bytes of
 * field lines in any representation, and a decoder that trusts no table but its own.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** A field line: name and value, each character one byte. */
export type Field = readonly [name: string, value: string];

/** RFC 7541 Appendix A; index 0 is not used. */
const STATIC_TABLE: readonly Field[] = `
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|
:status 200|:status 204|:status 206|:status 304|:status 400|:status 404|:status 500|
accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|
access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|
content-encoding|content-language|content-length|content-location|content-range|content-type|
cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|
if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|
proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|
strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate`
  .replaceAll("\n", "").split("|").map((entry) => {
    const space = entry.indexOf(" ");
    return space < 0 ? [entry, ""] : [entry.slice(0, space), entry.slice(space + 1)];
  });

/** How many entries the static table has. */
export const STATIC_ENTRIES = STATIC_TABLE.length;

/**
 * The lengths in bits of the codes of all bytes and of EOS (RFC 7541 Appendix B). The code is a
 * canonical one: the lengths say the rest.
 */
const CODE_LENGTHS: readonly number[] = `
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 13 6 7 7 7 7 7 7 7 7
7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7
7 7 7 7 15 11 14 13 28 20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23
23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23
20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24
21 21 26 26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27
27 28 27 27 27 27 27 26 30`.trim().split(/\s+/).map(Number);

/** The symbol that no string may hold. */
const EOS = 256;

interface Code {
  readonly bits: number;
  readonly length: number;
}

const CODES: readonly Code[] = canonicalCodes(CODE_LENGTHS);

function canonicalCodes(lengths: readonly number[]): Code[] {
  const codes: Code[] = [];
  const symbols = lengths.map((_, symbol) => symbol);
  symbols.sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  let bits = 0;
  let length = 0;
  for (const symbol of symbols) {
    bits <<= lengths[symbol]! - length;
    length = lengths[symbol]!;
    codes[symbol] = { bits, length };
    bits++;
  }
  return codes;
}

/** Symbols by the text of their code, "0" and "1": plain, for tests. */
const SYMBOLS = new Map(
  CODES.map(({ bits, length }, symbol) => [bits.toString(2).padStart(length, "0"), symbol]),
);

/** The bits of a text in Huffman's code, as "0" and "1"; `symbols` are bytes, 256 is EOS. */
export function huffmanBits(symbols: Iterable<number>): string {
  let bits = "";
  for (const symbol of symbols) {
    const code = CODES[symbol]!;
    bits += code.bits.toString(2).padStart(code.length, "0");
  }
  return bits;
}

/** Bytes of bits, the last one padded with `padding`. */
export function bytesOfBits(bits: string, padding: "0" | "1" = "1"): Uint8Array {
  const padded = bits.padEnd(Math.ceil(bits.length / 8) * 8, padding);
  return Uint8Array.from(padded.match(/.{8}/g) ?? [], (byte) => parseInt(byte, 2));
}

/** A text in Huffman's code. */
export function huffman(text: string): Uint8Array {
  return bytesOfBits(huffmanBits(Buffer.from(text, "latin1")));
}

function decodeHuffman(bytes: Uint8Array): string {
  const symbols: number[] = [];
  let code = "";
  for (const byte of bytes) {
    for (const bit of byte.toString(2).padStart(8, "0")) {
      code += bit;
      const symbol = SYMBOLS.get(code);
      if (symbol === undefined) continue;
      if (symbol === EOS) throw new Error("HPACK: EOS in a string");
      symbols.push(symbol);
      code = "";
    }
  }
  if (code.length > 7 || code.includes("0")) throw new Error(`HPACK: padding of ${code}`);
  return Buffer.from(symbols).toString("latin1");
}

/** An integer with a prefix of so many bits (RFC 7541 section 5.1), below the bits of `pattern`. */
export function integer(value: number, prefixBits: number, pattern = 0): number[] {
  const max = 2 ** prefixBits - 1;
  if (value < max) return [pattern | value];
  const bytes = [pattern | max];
  for (value -= max; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 | 128);
  bytes.push(value);
  return bytes;
}

/** A string literal (section 5.2), in Huffman's code where asked. */
export function string(text: string, coded = false): number[] {
  const bytes = coded ? huffman(text) : Buffer.from(text, "latin1");
  return [...integer(bytes.length, 7, coded ? 128 : 0), ...bytes];
}

/** An indexed field (section 6.1). */
export function indexed(index: number): number[] {
  return integer(index, 7, 0x80);
}

/** How a literal field treats the decoder's table (section 6.2). */
export type Indexing = "incremental" | "none" | "never";

const LITERALS: Readonly<Record<Indexing, readonly [prefixBits: number, pattern: number]>> = {
  incremental: [6, 0x40],
  none: [4, 0x00],
  never: [4, 0x10],
};

/** A literal field (section 6.2); the name is a text, or the index of an entry that has it. */
export function literal(
  name: string | number,
  value: string,
  indexing: Indexing = "none",
  coded = false,
): number[] {
  const [bits, pattern] = LITERALS[indexing];
  const first = typeof name === "number"
    ? integer(name, bits, pattern)
    : [pattern, ...string(name, coded)];
  return [...first, ...string(value, coded)];
}

/** A dynamic table size update (section 6.3). */
export function sizeUpdate(size: number): number[] {
  return integer(size, 5, 0x20);
}

/** A header block of literal fields that no table keeps: the state of no decoder changes. */
export function encode(fields: Iterable<Field>): Uint8Array {
  const block: number[] = [];
  for (const [name, value] of fields) block.push(...literal(name, value));
  return Uint8Array.from(block);
}

/** The decoder of one connection's header blocks. Whatever breaks a rule throws. */
export class Decoder {
  /** What SETTINGS_HEADER_TABLE_SIZE allows the encoder. */
  allowedSize = 4096;
  /** Whether a size update has ever made the table one of no size. */
  emptied = false;
  #maxSize = 4096;
  #size = 0;
  readonly #entries: Field[] = [];
  #block = new Uint8Array(0);
  #at = 0;

  /** The size of the dynamic table (section 4.1). */
  get size(): number {
    return this.#size;
  }

  /** Decodes one whole block. */
  decode(block: Uint8Array): Field[] {
    this.#block = Uint8Array.from(block);
    this.#at = 0;
    const fields: Field[] = [];
    while (this.#at < this.#block.length) {
      const first = this.#block[this.#at]!;
      if (first & 0x80) fields.push(this.#entry(this.#integer(7)));
      else if (first & 0x40) this.#keep(this.#literal(6, fields));
      else if ((first & 0x20) === 0) this.#literal(4, fields);
      else if (fields.length === 0) this.#resize(this.#integer(5));
      else throw new Error("HPACK: A size update behind a field");
    }
    if (this.#maxSize > this.allowedSize) throw new Error("HPACK: The table was not made smaller");
    return fields;
  }

  #literal(prefixBits: number, fields: Field[]): Field {
    const index = this.#integer(prefixBits);
    const name = index === 0 ? this.#string() : this.#entry(index)[0];
    const field: Field = [name, this.#string()];
    fields.push(field);
    return field;
  }

  #entry(index: number): Field {
    const entry = index <= STATIC_ENTRIES
      ? STATIC_TABLE[index - 1]
      : this.#entries[index - STATIC_ENTRIES - 1];
    if (entry === undefined) throw new Error(`HPACK: No entry ${index}`);
    return entry;
  }

  #keep(field: Field): void {
    this.#entries.unshift(field);
    this.#size += sizeOf(field);
    this.#evict();
  }

  #resize(size: number): void {
    if (size > this.allowedSize) throw new Error(`HPACK: A table of ${size} bytes`);
    this.#maxSize = size;
    this.emptied ||= size === 0;
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#maxSize) this.#size -= sizeOf(this.#entries.pop()!);
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw new Error("HPACK: The block is cut short");
    return byte;
  }

  #integer(prefixBits: number): number {
    const max = 2 ** prefixBits - 1;
    let value = this.#byte() & max;
    if (value < max) return value;
    for (let factor = 1, more = true; more; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * factor;
      more = byte >= 128;
      if (value > 2 ** 32) throw new Error("HPACK: An integer that is too large");
    }
    return value;
  }

  #string(): string {
    const coded = (this.#block[this.#at]! & 0x80) !== 0;
    const length = this.#integer(7);
    const bytes = this.#block.subarray(this.#at, this.#at + length);
    if (bytes.length < length) throw new Error("HPACK: The string is cut short");
    this.#at += length;
    return coded ? decodeHuffman(bytes) : Buffer.from(bytes).toString("latin1");
  }
}

function sizeOf([name, value]: Field): number {
  return name.length + value.length + 32;
}
