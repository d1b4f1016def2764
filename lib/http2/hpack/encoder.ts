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

/** What is known of a name: its first index, and those of its values. */
interface KnownName {
  readonly index: number;
  readonly values: ReadonlyMap<string, number>;
}

const NAMES: ReadonlyMap<string, KnownName> = knownNames();

function knownNames(): Map<string, KnownName> {
  const names = new Map<string, { index: number; values: Map<string, number> }>();
  for (let index = 1; index < STATIC_TABLE.length; index++) {
    const { name, value } = STATIC_TABLE[index]!;
    if (!names.has(name)) names.set(name, { index, values: new Map() });
    names.get(name)!.values.set(value, index);
  }
  return names;
}

/** What no table between here and the client may keep: its length could be guessed (section 7.1.3). */
const SENSITIVE = new Set(["authorization", "cookie", "proxy-authorization", "set-cookie"]);

/** Whether a field, whose name is given in lower case, belongs in no table or cache. */
export function isSensitive(lowerName: string): boolean {
  return SENSITIVE.has(lowerName);
}

/** The most bytes that {@linkcode encodeField} makes of a field. */
export function mostBytes(name: string, value: string): number {
  return 3 * MAX_INTEGER_BYTES + name.length + value.length;
}

/**
 * Encodes a field, whose name is in lower case, into `out` from `at` on; returns the end. Of name and
 * value each character is a byte; what HTTP allows in them is for others to check.
 */
export function encodeField(lowerName: string, value: string, out: Uint8Array, at: number): number {
  const known = NAMES.get(lowerName);
  const index = known?.values.get(value);
  if (index !== undefined) {
    out[at] = INDEXED | index;
    return at + 1;
  }
  const kind = isSensitive(lowerName) ? NEVER_INDEXED : WITHOUT_INDEXING;
  at = encodeInteger(known?.index ?? 0, 0x0f, kind, out, at);
  if (known === undefined) at = encodeString(lowerName, out, at);
  return encodeString(value, out, at);
}

/** Encodes a string, in the shorter of two ways (RFC 7541 section 5.2). */
function encodeString(text: string, out: Uint8Array, at: number): number {
  const coded = huffmanLength(text);
  if (coded < text.length) {
    return encodeHuffman(text, out, encodeInteger(coded, 0x7f, HUFFMAN, out, at));
  }
  at = encodeInteger(text.length, 0x7f, 0, out, at);
  for (let i = 0; i < text.length; i++) out[at++] = text.charCodeAt(i);
  return at;
}

/** Encodes a `Content-Length`, as {@linkcode encodeField} does but for Huffman, which spares a digit of five. */
export function encodeLength(length: number, out: Uint8Array, at: number): number {
  at = encodeInteger(NAMES.get("content-length")!.index, 0x0f, WITHOUT_INDEXING, out, at);
  let digits = 1;
  for (let rest = length; rest >= 10; rest = Math.floor(rest / 10)) digits++;
  out[at] = digits;
  for (let i = digits, rest = length; i > 0; i--, rest = Math.floor(rest / 10)) {
    out[at + i] = 0x30 + rest % 10;
  }
  return at + 1 + digits;
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

/** The size of the table that a client's decoder keeps for this encoder, which leaves it empty. */
export class PeerTable {
  #bytes = DEFAULT_TABLE_BYTES;
  #updateDue = false;

  /** Takes note of the client's SETTINGS_HEADER_TABLE_SIZE. */
  announced(bytes: number): void {
    if (bytes >= this.#bytes) return;
    this.#bytes = 0; // the size that is said, so that no other need ever be
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
