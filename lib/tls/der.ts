/**
 * The few facts of a certificate that `node:crypto` does not give, read from its DER (X.690, RFC
 * 5280): only of certificates that `node:crypto` has parsed.
 *
 * @module
 */

/** One element of DER. */
interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
}

/** Marks the extensions in the body of a certificate: `[3] EXPLICIT` (RFC 5280 section 4.1). */
const EXTENSIONS = 0xa3;

/**
 * The extensions of a certificate: their contents, by the DER of their object identifiers in
 * hexadecimal. Of one that is there twice the first counts.
 *
 * @throws {SyntaxError} when the bytes are no certificate
 */
export function extensionsOf(certificate: Uint8Array): Map<string, Uint8Array> {
  const body = firstElement(firstElement(certificate).content);
  const wrapped = elementsOf(body.content).find(({ tag }) => tag === EXTENSIONS);
  const extensions = new Map<string, Uint8Array>();
  if (wrapped === undefined) return extensions;
  for (const { content } of elementsOf(firstElement(wrapped.content).content)) {
    const parts = elementsOf(content);
    if (!SHAPES.includes(parts.map(({ tag }) => tag).join(" "))) {
      throw new SyntaxError("An extension is not made as the standard says");
    }
    const id = hexOf(parts[0]!.content);
    if (!extensions.has(id)) extensions.set(id, parts.at(-1)!.content);
  }
  return extensions;
}

/** The tags of an extension: its identifier, whether it is critical, its contents. */
const SHAPES = ["6 4", "6 1 4"];

/** The first element of `bytes`, which has at least one. */
export function firstElement(bytes: Uint8Array): Element {
  return elementAt(bytes, 0);
}

/** The elements of `bytes`, one behind the other. */
function elementsOf(bytes: Uint8Array): Element[] {
  const elements: Element[] = [];
  for (let at = 0; at < bytes.length;) {
    const element = elementAt(bytes, at);
    elements.push(element);
    at = element.content.byteOffset + element.content.length - bytes.byteOffset;
  }
  return elements;
}

/** Reads a tag of one byte and a length of at most four (X.690 section 8.1). */
function elementAt(bytes: Uint8Array, at: number): Element {
  const short = bytes[at + 1] ?? INDEFINITE;
  const long = short < 0x80 ? 0 : short & 0x7f; // how many bytes of length follow
  const begin = at + 2 + long;
  const length = long === 0
    ? short
    : bytes.subarray(at + 2, begin).reduce((sum, byte) => sum * 256 + byte, 0);
  if (short === INDEFINITE || long > 4 || begin + length > bytes.length) {
    throw new SyntaxError(`There is no DER element at byte ${at}`);
  }
  return { tag: bytes[at]!, content: bytes.subarray(begin, begin + length) };
}

/** The length of an element that ends with a mark, which DER does not have. */
const INDEFINITE = 0x80;

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
