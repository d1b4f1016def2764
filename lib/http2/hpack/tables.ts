/**
 * The tables of HPACK: the static one, which all connections share, and the dynamic one of a decoder
 * (RFC 7541 sections 2.3 and 4, appendix A).
 *
 * @module
 */
import { Field } from "../field.ts";

/** What a dynamic table may hold until something else is agreed on (RFC 9113 section 6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;

/** The static table by index, which begins with 1; index 0 is unused. */
export const STATIC_TABLE: readonly Field[] = [
  ["", ""],
  [":authority", ""],
  [":method", "GET"],
  [":method", "POST"],
  [":path", "/"],
  [":path", "/index.html"],
  [":scheme", "http"],
  [":scheme", "https"],
  [":status", "200"],
  [":status", "204"],
  [":status", "206"],
  [":status", "304"],
  [":status", "400"],
  [":status", "404"],
  [":status", "500"],
  ["accept-charset", ""],
  ["accept-encoding", "gzip, deflate"],
  ["accept-language", ""],
  ["accept-ranges", ""],
  ["accept", ""],
  ["access-control-allow-origin", ""],
  ["age", ""],
  ["allow", ""],
  ["authorization", ""],
  ["cache-control", ""],
  ["content-disposition", ""],
  ["content-encoding", ""],
  ["content-language", ""],
  ["content-length", ""],
  ["content-location", ""],
  ["content-range", ""],
  ["content-type", ""],
  ["cookie", ""],
  ["date", ""],
  ["etag", ""],
  ["expect", ""],
  ["expires", ""],
  ["from", ""],
  ["host", ""],
  ["if-match", ""],
  ["if-modified-since", ""],
  ["if-none-match", ""],
  ["if-range", ""],
  ["if-unmodified-since", ""],
  ["last-modified", ""],
  ["link", ""],
  ["location", ""],
  ["max-forwards", ""],
  ["proxy-authenticate", ""],
  ["proxy-authorization", ""],
  ["range", ""],
  ["referer", ""],
  ["refresh", ""],
  ["retry-after", ""],
  ["server", ""],
  ["set-cookie", ""],
  ["strict-transport-security", ""],
  ["transfer-encoding", ""],
  ["user-agent", ""],
  ["vary", ""],
  ["via", ""],
  ["www-authenticate", ""],
].map(([name, value]) => new Field(name!, value!));

/** The first index of the dynamic table (RFC 7541 section 2.3.3). */
export const FIRST_DYNAMIC: number = STATIC_TABLE.length;

/** How many fields there is room for at first; never more than the table's bytes allow. */
const FIRST_CAPACITY = 8;

/** A dynamic table: fields in the order they came, the oldest of which go when there is no room. */
export class DynamicTable {
  /** How many fields there are. */
  length = 0;
  /** The most that they may count for, in bytes of {@linkcode Field.size}. */
  #maxBytes: number;
  #bytes = 0;
  /** A ring, whose length is a power of two. */
  #ring: (Field | undefined)[] = [];
  /** Where the next field goes. */
  #next = 0;

  /** Makes an empty table of at most `maxBytes`. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** What the fields count for. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The most that they may count for. */
  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** The field that came as the last but `age`; `undefined` when there are not so many. */
  at(age: number): Field | undefined {
    if (age >= this.length) return undefined;
    return this.#ring[(this.#next - 1 - age) & (this.#ring.length - 1)];
  }

  /** Sets another cap; the oldest fields go until it is kept to. */
  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evict(maxBytes);
  }

  /** Adds a field; one that is larger than the table empties it (RFC 7541 section 4.4). */
  add(field: Field): void {
    const { size } = field;
    this.#evict(this.#maxBytes - size);
    if (size > this.#maxBytes) return;
    if (this.length === this.#ring.length) this.#grow();
    this.#ring[this.#next] = field;
    this.#next = (this.#next + 1) & (this.#ring.length - 1);
    this.length++;
    this.#bytes += size;
  }

  #evict(maxBytes: number): void {
    while (this.length > 0 && this.#bytes > maxBytes) {
      const oldest = (this.#next - this.length) & (this.#ring.length - 1);
      this.#bytes -= this.#ring[oldest]!.size;
      this.#ring[oldest] = undefined;
      this.length--;
    }
  }

  #grow(): void {
    const fields = Array.from(
      { length: this.length },
      (_, index) => this.at(this.length - 1 - index),
    );
    const capacity = Math.max(FIRST_CAPACITY, 2 * this.length);
    this.#ring = [...fields, ...new Array<undefined>(capacity - this.length).fill(undefined)];
    this.#next = this.length;
  }
}
