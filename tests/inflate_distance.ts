/**
 * A small reader of deflate data (RFC 1951) that reports how far it refers back: the only proof that a
 * compressor keeps to its window, for zlib's inflater lets too large distances pass.
 *
 * @module
 */

const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
  .concat([5, 5, 5, 5, 0]);
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** The largest distance in the permessage-deflate payloads, read as one stream. */
export function maxDistance(...payloads: Uint8Array[]): number {
  const tail = [0x00, 0x00, 0xff, 0xff];
  const bits = new BitReader(Uint8Array.from(payloads.flatMap((p) => [...p, ...tail])));
  let most = 0;
  while (!bits.atEnd()) {
    bits.take(1); // BFINAL
    const type = bits.take(2);
    if (type === 0) bits.skipStored();
    else if (type === 1) most = Math.max(most, readBlock(bits, FIXED_LITERALS, FIXED_DISTANCES));
    else most = Math.max(most, readBlock(bits, ...readCodes(bits)));
  }
  return most;
}

class BitReader {
  readonly #bytes: Uint8Array;
  #position = 0; // in bits

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  atEnd(): boolean {
    return this.#position >= this.#bytes.length * 8;
  }

  take(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++, this.#position++) {
      const byte = this.#bytes[this.#position >> 3];
      if (byte === undefined) throw new Error("Deflate data ends early");
      value |= (byte >> (this.#position & 7) & 1) << i;
    }
    return value;
  }

  skipStored(): void {
    this.#position = Math.ceil(this.#position / 8) * 8;
    const length = this.take(16);
    if ((length ^ this.take(16)) !== 0xffff) throw new Error("Stored block is malformed");
    this.#position += length * 8;
  }
}

/** Canonical Huffman code: symbols by "length:code". */
type Code = Map<number, number>;

function buildCode(lengths: number[]): Code {
  const code: Code = new Map();
  let next = 0;
  for (let length = 1; length <= 15; length++, next <<= 1) {
    for (const [symbol, of] of lengths.entries()) {
      if (of === length) code.set(length << 16 | next++, symbol);
    }
  }
  return code;
}

function readSymbol(bits: BitReader, code: Code): number {
  let value = 0;
  for (let length = 1; length <= 15; length++) {
    value = value << 1 | bits.take(1);
    const symbol = code.get(length << 16 | value);
    if (symbol !== undefined) return symbol;
  }
  throw new Error("Huffman code is incomplete");
}

const FIXED_LITERALS = buildCode(
  Array.from({ length: 288 }, (_, i) => i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8),
);
const FIXED_DISTANCES = buildCode(Array.from({ length: 30 }, () => 5));

function readCodes(bits: BitReader): [literals: Code, distances: Code] {
  const literalCount = bits.take(5) + 257;
  const distanceCount = bits.take(5) + 1;
  const metaCount = bits.take(4) + 4;
  const metaLengths: number[] = Array.from({ length: 19 }, () => 0);
  for (const symbol of CODE_LENGTH_ORDER.slice(0, metaCount)) metaLengths[symbol] = bits.take(3);
  const meta = buildCode(metaLengths);
  const lengths: number[] = [];
  while (lengths.length < literalCount + distanceCount) {
    const symbol = readSymbol(bits, meta);
    if (symbol < 16) lengths.push(symbol);
    else if (symbol === 16) repeat(lengths, lengths.at(-1)!, bits.take(2) + 3);
    else repeat(lengths, 0, symbol === 17 ? bits.take(3) + 3 : bits.take(7) + 11);
  }
  return [buildCode(lengths.slice(0, literalCount)), buildCode(lengths.slice(literalCount))];
}

function repeat(lengths: number[], length: number, times: number): void {
  for (let i = 0; i < times; i++) lengths.push(length);
}

function readBlock(bits: BitReader, literals: Code, distances: Code): number {
  let most = 0;
  for (
    let symbol = readSymbol(bits, literals);
    symbol !== 256;
    symbol = readSymbol(bits, literals)
  ) {
    if (symbol < 256) continue;
    bits.take(LENGTH_EXTRA[symbol - 257]!);
    most = Math.max(most, readDistance(bits, readSymbol(bits, distances)));
  }
  return most;
}

function readDistance(bits: BitReader, symbol: number): number {
  if (symbol < 4) return symbol + 1;
  const extra = (symbol >> 1) - 1;
  return ((2 + (symbol & 1)) << extra) + bits.take(extra) + 1;
}
