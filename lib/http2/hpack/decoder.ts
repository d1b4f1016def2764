/**
 * The decoder of HPACK: field blocks in, lists of fields out (RFC 7541 sections 3, 5 and 6).
 *
 * @module
 */
import { NO_BYTES } from "../../bytes.ts";
import { latin1 } from "../../runtime/latin1.ts";
import { connectionFault, ErrorCode, type Http2Fault } from "../error_code.ts";
import { Field, FieldKind } from "../field.ts";
import { decodeHuffman } from "./huffman.ts";
import { DEFAULT_TABLE_BYTES, DynamicTable, FIRST_DYNAMIC, STATIC_TABLE } from "./tables.ts";

/** How much a decoder takes. */
export interface DecoderLimits {
  /** The dynamic table, as announced by SETTINGS_HEADER_TABLE_SIZE. */
  readonly maxTableBytes: number;
  /**
   * The list of a head, as announced by SETTINGS_MAX_HEADER_LIST_SIZE: names, values, and 32 for
   * each field.
   */
  readonly maxListBytes: number;
  /** The fields of a list, without pseudo-fields, and with all parts of a split `Cookie` as one. */
  readonly maxFields: number;
}

/** What a list was found to have too much of. */
export type Excess = "bytes" | "fields" | undefined;

/**
 * A change may be followed by another before the next block, and the least is said too (section
 * 4.2).
 */
const MAX_SIZE_UPDATES = 2;

/** No integer of HPACK need be larger: no string or table is. */
const MAX_INTEGER = 2 ** 28;

/** Where Huffman codes are decoded; every string is copied out before the next is read. */
let scratch = new Uint8Array(4096);

/** Decodes the field blocks of one connection, in the order they come. */
export class HpackDecoder {
  /** Whether the last list exceeds a limit, and which; it is incomplete then. */
  excess: Excess = undefined;
  /** A number that grows with every change of what blocks mean: of the table, or of its size. */
  version = 0;
  readonly #limits: DecoderLimits;
  readonly #table = new DynamicTable(DEFAULT_TABLE_BYTES);
  /** The largest table that the peer may choose. */
  #maxTableBytes: number;
  /** Whether the next block must begin with the size of the table. */
  #updateDue = false;

  // Of the block that is decoded:
  #bytes: Uint8Array = NO_BYTES;
  #pos = 0;
  #bytesLeft = 0;
  #count = 0;
  #hasCookie = false;

  /** Makes the decoder of a connection. */
  constructor(limits: DecoderLimits) {
    this.#limits = limits;
    this.#maxTableBytes = Math.max(limits.maxTableBytes, DEFAULT_TABLE_BYTES);
  }

  /**
   * Enforces the announced size of the table, since the peer has acknowledged the SETTINGS. Where
   * that makes the table smaller, the next block must say so (RFC 9113 section 4.3.1).
   */
  settingsAcknowledged(): void {
    this.#maxTableBytes = this.#limits.maxTableBytes;
    this.#updateDue = this.#table.maxBytes > this.#maxTableBytes;
    this.version++;
  }

  /**
   * Decodes a whole block. A list that exceeds a limit is not collected further, but decoded to its
   * end, so that the table stays right; `excess` says so.
   *
   * @throws {Http2Fault} COMPRESSION_ERROR of the connection: nothing can be decoded any more
   */
  decode(block: Uint8Array, maxListBytes: number = this.#limits.maxListBytes): Field[] {
    const fields: Field[] = [];
    this.excess = undefined;
    this.#bytes = block;
    this.#pos = 0;
    this.#bytesLeft = maxListBytes;
    this.#count = 0;
    this.#hasCookie = false;
    this.#readSizeUpdates();
    while (this.#pos < block.length) {
      const field = this.#readField();
      if (this.excess === undefined && this.#isWithin(field)) fields.push(field);
    }
    this.#bytes = NO_BYTES;
    return fields;
  }

  #readSizeUpdates(): void {
    let updates = 0;
    while (this.#pos < this.#bytes.length && (this.#bytes[this.#pos]! & 0xe0) === 0x20) {
      const size = this.#readInteger(0x1f);
      if (size > this.#maxTableBytes) throw broken("A table is larger than was announced");
      if (++updates > MAX_SIZE_UPDATES) throw broken("The size of the table changes too often");
      this.#table.resize(size);
      this.version++;
      this.#updateDue = false;
    }
    if (this.#updateDue) throw broken("The table was not made smaller as was announced");
  }

  /** Reads the next field and does to the table what it says (RFC 7541 section 6). */
  #readField(): Field {
    const byte = this.#bytes[this.#pos]!;
    if (byte >= 0x80) return this.#indexed(this.#readInteger(0x7f));
    if (byte >= 0x40) {
      const field = this.#readLiteral(0x3f);
      this.#table.add(field);
      this.version++;
      return field;
    }
    if (byte >= 0x20) throw broken("The size of the table changes within a block");
    return this.#readLiteral(0x0f);
  }

  #indexed(index: number): Field {
    const field = index < FIRST_DYNAMIC
      ? STATIC_TABLE[index]
      : this.#table.at(index - FIRST_DYNAMIC);
    if (field === undefined || index === 0) throw broken("An index is in no table");
    return field;
  }

  #readLiteral(prefix: number): Field {
    const index = this.#readInteger(prefix);
    const name = index === 0 ? this.#readString() : this.#indexed(index).name;
    return new Field(name, this.#readString());
  }

  /** Reads an integer whose first bits are those of `prefix` (RFC 7541 section 5.1). */
  #readInteger(prefix: number): number {
    let value = this.#bytes[this.#pos++]! & prefix;
    if (value < prefix) return value;
    for (let weight = 1; weight < MAX_INTEGER; weight *= 128) {
      const byte = this.#bytes[this.#pos++];
      if (byte === undefined) throw truncated();
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) {
        if (value > MAX_INTEGER) break;
        return value;
      }
    }
    throw broken("An integer is too large");
  }

  /** Reads a string (RFC 7541 section 5.2). */
  #readString(): string {
    const isHuffman = this.#bytes[this.#pos]! >= 0x80;
    if (this.#pos >= this.#bytes.length) throw truncated();
    const length = this.#readInteger(0x7f);
    const start = this.#pos;
    const end = this.#pos = start + length;
    if (end > this.#bytes.length) throw truncated();
    if (!isHuffman) return latin1(this.#bytes, start, end);
    if (scratch.length < 2 * length) scratch = new Uint8Array(4 * length);
    const decoded = decodeHuffman(this.#bytes, start, end, scratch);
    if (decoded < 0) throw broken("A Huffman code is malformed");
    return latin1(scratch, 0, decoded);
  }

  /** Counts a field; `false` when it is one too many. */
  #isWithin(field: Field): boolean {
    this.#bytesLeft -= field.size;
    const isCookie = field.kind === FieldKind.Cookie;
    if (!field.isPseudo && !(isCookie && this.#hasCookie)) this.#count++;
    if (isCookie) this.#hasCookie = true;
    if (this.#bytesLeft < 0) this.excess = "bytes";
    else if (this.#count > this.#limits.maxFields) this.excess = "fields";
    return this.excess === undefined;
  }
}

function truncated(): Http2Fault {
  return broken("A field block ends too early");
}

function broken(message: string): Http2Fault {
  return connectionFault(ErrorCode.CompressionError, message);
}
