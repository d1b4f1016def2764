/**
 * The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
 *
 * @module
 */

/**
 * How many bits each byte's code has. The code is canonical: codes of one length follow each other
 * in the order of their bytes, and longer ones follow shorter ones, so that the lengths say it all.
 */
// deno-fmt-ignore
const LENGTHS = Uint8Array.of(
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
);

/** The code that ends a string and so never is in one, the last of all: 30 bits of 1. */
const EOS_LENGTH = 30;

/** The code of each byte. */
const CODES = codesOf(LENGTHS);

function codesOf(lengths: Uint8Array): Uint32Array {
  const codes = new Uint32Array(256);
  let code = 0;
  for (let length = 1; length <= EOS_LENGTH; length++) {
    for (let byte = 0; byte < 256; byte++) if (lengths[byte] === length) codes[byte] = code++;
    code *= 2;
  }
  return codes;
}

/*
 * The decoder is an automaton that takes four bits at a time. Its states are the inner nodes of the
 * code's tree, 256 of them; no code is shorter than five bits, so that a step ends one byte at most.
 * A step is a number: the next state in bits 0 to 7, the byte in bits 8 to 15, and flags.
 */
const EMITS = 1 << 16;
const FAILS = 1 << 17;

/** 1 for the states in which a string may end: the bits behind the last code are the first of EOS. */
const MAY_END = new Uint8Array(256);

const STEPS = stepsOf();

function stepsOf(): Uint32Array {
  // The tree: two children a node; inner nodes from 1 on, leaves below zero, 0 where EOS would be.
  const children = new Int16Array(512);
  let nodes = 1;
  for (let byte = 0; byte < 256; byte++) {
    let node = 0;
    for (let bit = LENGTHS[byte]! - 1; bit > 0; bit--) {
      const slot = 2 * node + (CODES[byte]! >>> bit & 1);
      if (children[slot] === 0) children[slot] = nodes++;
      node = children[slot]!;
    }
    children[2 * node + (CODES[byte]! & 1)] = -1 - byte;
  }
  for (let node = 0, depth = 0; depth < 8; depth++, node = children[2 * node + 1]!) {
    MAY_END[node] = 1;
  }
  const steps = new Uint32Array(nodes * 16);
  for (let state = 0; state < nodes; state++) {
    for (let nibble = 0; nibble < 16; nibble++) steps[16 * state + nibble] = stepOf(state, nibble);
  }
  return steps;

  function stepOf(state: number, nibble: number): number {
    let node = state;
    let step = 0;
    for (let bit = 3; bit >= 0; bit--) {
      const child = children[2 * node + (nibble >>> bit & 1)]!;
      if (child === 0) return FAILS;
      if (child < 0) step = EMITS | (-1 - child) << 8;
      node = Math.max(child, 0);
    }
    return step | node;
  }
}

/**
 * Decodes the bytes from `start` to `end` into `out`, which must have room for 8 bytes for every 5.
 * Returns how many bytes they are, or -1 where EOS is among them, or what is behind the last of them
 * is not less than 8 bits of EOS (RFC 7541 section 5.2).
 */
export function decodeHuffman(
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
): number {
  let state = 0;
  let length = 0;
  for (let pos = start; pos < end; pos++) {
    const byte = bytes[pos]!;
    const high = STEPS[state << 4 | byte >>> 4]!;
    if ((high & EMITS) !== 0) out[length++] = high >>> 8;
    const low = STEPS[(high & 0xff) << 4 | byte & 15]!;
    if ((low & EMITS) !== 0) out[length++] = low >>> 8;
    if (((high | low) & FAILS) !== 0) return -1;
    state = low & 0xff;
  }
  return MAY_END[state] === 1 ? length : -1;
}

/** How many bytes `text`, of which each character is a byte, has in this code. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += LENGTHS[text.charCodeAt(i)]!;
  return (bits + 7) >>> 3;
}

/** Encodes `text`, of which each character is a byte, into `out` from `at` on; returns the end. */
export function encodeHuffman(text: string, out: Uint8Array, at: number): number {
  let pending = 0; // the bits that do not fill a byte yet, at most 7
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const byte = text.charCodeAt(i);
    let code = CODES[byte]!;
    let length = LENGTHS[byte]!;
    if (length > 24) { // more bits than there is room for beside the pending ones
      length -= 8;
      pending = pending << 8 | code >>> length;
      out[at++] = pending >>> count;
      pending &= (1 << count) - 1;
      code &= (1 << length) - 1;
    }
    pending = pending << length | code;
    count += length;
    while (count >= 8) {
      count -= 8;
      out[at++] = pending >>> count;
    }
    pending &= (1 << count) - 1;
  }
  if (count > 0) out[at++] = pending << 8 - count | 0xff >>> count;
  return at;
}
