/**
 * Unmasks what clients send (RFC 6455 section 5.3).
 *
 * @module
 */

/** Below this many bytes a word-wise pass does not pay for its view. */
const WORDWISE_BYTES = 64;

const rotatedKey = new Uint8Array(4);
const rotatedWord = new Uint32Array(rotatedKey.buffer); // the same 4 bytes, in the machine's order

/**
 * Unmasks in place (RFC 6455 section 5.3), four bytes at a time where memory is aligned.
 *
 * @param offset how many bytes of the frame's payload came before
 */
export function unmask(
  bytes: Uint8Array,
  start: number,
  end: number,
  key: Uint8Array,
  offset: number,
): void {
  const shift = offset - start; // from a place in `bytes` to the place in the payload
  let i = start;
  if (end - start >= WORDWISE_BYTES) {
    for (; ((bytes.byteOffset + i) & 3) !== 0; i++) bytes[i] = bytes[i]! ^ key[(shift + i) & 3]!;
    for (let k = 0; k < 4; k++) rotatedKey[k] = key[(shift + i + k) & 3]!;
    const word = rotatedWord[0]!;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + i, (end - i) >> 2);
    for (let w = 0; w < words.length; w++) words[w] = words[w]! ^ word;
    i += words.length * 4;
  }
  for (; i < end; i++) bytes[i] = bytes[i]! ^ key[(shift + i) & 3]!;
}
