/**
 * The encoder of HPACK, which needs no state: a field is an index of the static table, or a literal
 * that enters no table (RFC 7541 sections 5 and 6). So equal fields are equal bytes on every
 * connection, which can be kept.
 *
 * @module
 */
import { encodeHuffman, huffmanLength } from "./huffman.ts";
import { DEFAULT_TABLE_BYTES, STATIC_TABLE } from "./tables.ts";

const INDEXED = 0x80;
const SIZE_UPDATE = 0x20;
const NEVER_INDEXED = 0x10;
const WITHOUT_INDEXING = 0x00;
const HUFFMAN = 0x80;

/** No integer has more bytes: they are below 2^32. */
const MAX_INTEGER_BYTES = 6;

/** The indices of names, the first of each, and of names with values. */
const NAMES = new Map<string, number>();
const FIELDS = new Map<string, number>();
for (let index = STATIC_TABLE.length - 1; index > 0; index--) {
  const { name, value } = STATIC_TABLE[index]!;
  NAMES.set(name, index);
  FIELDS.set(`${name}: ${value}`, index);
}

/** What no table between here and the client may keep, since it can be guessed by its length (section 7.1.3). */
const SENSITIVE = new Set(["authorization", "cookie", "proxy-authorization", "set-cookie"]);

/** Whether a field, whose name is given in lower case, belongs in no table or cache. */
export function isSensitive(lowerName: string): boolean {
  return SENSITIVE.has(lowerName);
}

/**
 * Encodes a field, whose name is in lower case. Of name and value each character is a byte; what HTTP
 * allows in them is for others to check.
 */
export function encodeField(lowerName: string, value: string): Uint8Array {
  const index = FIELDS.get(`${lowerName}: ${value}`);
  if (index !== undefined) return Uint8Array.of(INDEXED | index);
  const name = NAMES.get(lowerName) ?? 0;
  const nameBytes = name === 0 ? lowerName.length : 0;
  // Huffman is used only where it is shorter, so that these lengths are never exceeded.
  const bytes = new Uint8Array(3 * MAX_INTEGER_BYTES + nameBytes + value.length);
  const kind = isSensitive(lowerName) ? NEVER_INDEXED : WITHOUT_INDEXING;
  let at = encodeInteger(name, 0x0f, kind, bytes, 0);
  if (name === 0) at = encodeString(lowerName, bytes, at);
  return bytes.slice(0, encodeString(value, bytes, at));
}

function encodeString(text: string, out: Uint8Array, at: number): number {
  const coded = huffmanLength(text);
  if (coded < text.length) {
    return encodeHuffman(text, out, encodeInteger(coded, 0x7f, HUFFMAN, out, at));
  }
  at = encodeInteger(text.length, 0x7f, 0, out, at);
  for (let i = 0; i < text.length; i++) out[at++] = text.charCodeAt(i);
  return at;
}

/** Encodes an integer behind the bits of `kind` (RFC 7541 section 5.1); returns the end. */
export function encodeInteger(
  value: number,
  prefix: number,
  kind: number,
  out: Uint8Array,
  at: number,
): number {
  if (value < prefix) {
    out[at] = kind | value;
    return at + 1;
  }
  out[at++] = kind | prefix;
  let rest = value - prefix;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out[at++] = rest % 128 | 0x80;
  out[at++] = rest;
  return at;
}

/**
 * What one connection's client has to be told of the table that its decoder keeps for us, and that
 * nothing ever enters.
 */
export class PeerTable {
  #bytes = DEFAULT_TABLE_BYTES;
  #updateDue = false;

  /** Takes note of the client's SETTINGS_HEADER_TABLE_SIZE. */
  announced(bytes: number): void {
    if (bytes >= this.#bytes) return;
    this.#bytes = 0; // once it is empty, no other size need ever be said
    this.#updateDue = true;
  }

  /** Returns the next block as it has to be sent: a table that became smaller is said first (RFC 9113 section 4.3.1). */
  send(block: Uint8Array): Uint8Array {
    if (!this.#updateDue) return block;
    this.#updateDue = false;
    const whole = new Uint8Array(1 + block.length);
    whole[0] = SIZE_UPDATE;
    whole.set(block, 1);
    return whole;
  }
}
