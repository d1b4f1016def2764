/**
 * The fields of a certificate that `node:crypto` does not give on all runtimes, taken from its DER
 * (X.690, RFC 5280): only of certificates that `node:crypto` has parsed, so nothing is judged here.
 *
 * @module
 */

/** One element of DER. */
export interface Element {
  /** What it is. */
  readonly tag: number;
  /** What is in it. */
  readonly content: Uint8Array;
}

/** The tags that are met in certificates (X.690 section 8, RFC 5280 appendix A). */
export const TAG = {
  boolean: 0x01,
  bitString: 0x03,
  octetString: 0x04,
  identifier: 0x06,
  utf8String: 0x0c,
  bmpString: 0x1e,
  version: 0xa0,
  extensions: 0xa3,
} as const;

/** Fields of a certificate, as far as they are needed. */
export interface CertificateFields {
  /** The values of the common names in the subject, in order. */
  readonly commonNames: readonly string[];
  /** The algorithm of the public key, and its parameters. */
  readonly keyAlgorithm: readonly Element[];
  /** The public key itself. */
  readonly publicKey: Uint8Array;
  /** The algorithm of the signature, and its parameters. */
  readonly signatureAlgorithm: readonly Element[];
  /** The contents of the extensions by their object identifiers; of two alike, of the first. */
  readonly extensions: ReadonlyMap<string, Uint8Array>;
  /** The object identifiers of the extensions that are critical, in order. */
  readonly critical: readonly string[];
}

/**
 * Reads fields of a certificate.
 *
 * @throws {SyntaxError} when the bytes are not a certificate
 */
export function fieldsOf(certificate: Uint8Array): CertificateFields {
  const [body, signature] = elementsOf(firstElement(certificate).content);
  const fields = elementsOf(body!.content);
  if (fields[0]?.tag === TAG.version) fields.shift();
  // Serial number, signature, issuer and validity come before these two.
  const [subject, key] = fields.slice(4);
  if (key === undefined || signature === undefined) {
    throw new SyntaxError("The certificate has too few fields");
  }
  const [algorithm, publicKey] = elementsOf(key.content);
  return {
    commonNames: commonNamesOf(subject!),
    keyAlgorithm: elementsOf(algorithm!.content),
    publicKey: publicKey!.content.subarray(1), // behind the number of unused bits
    signatureAlgorithm: elementsOf(signature.content),
    ...extensionsOf(fields.find(({ tag }) => tag === TAG.extensions)),
  };
}

const COMMON_NAME = "2.5.4.3";

/** The tags of what a name may be written as (RFC 5280 section 4.1.2.4), and of IA5String. */
const TEXTS: readonly number[] = [0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e];

function commonNamesOf(subject: Element): string[] {
  return elementsOf(subject.content).flatMap(({ content }) => elementsOf(content))
    .map(({ content }) => elementsOf(content))
    .filter(([type, value]) => identifierOf(type!) === COMMON_NAME && TEXTS.includes(value!.tag))
    .map(([, value]) => textOf(value!));
}

/** The tags of an extension: its identifier, whether it is critical, its contents. */
const SHAPES = ["6 4", "6 1 4"];

function extensionsOf(
  wrapped: Element | undefined,
): Pick<CertificateFields, "extensions" | "critical"> {
  const extensions = new Map<string, Uint8Array>();
  const critical: string[] = [];
  const all = wrapped === undefined ? [] : elementsOf(firstElement(wrapped.content).content);
  for (const { content } of all) {
    const parts = elementsOf(content);
    if (!SHAPES.includes(parts.map(({ tag }) => tag).join(" "))) {
      throw new SyntaxError("An extension is not made as the standard says");
    }
    const id = identifierOf(parts[0]!);
    const [, flag] = parts;
    if (flag!.tag === TAG.boolean && flag!.content[0] !== 0) critical.push(id);
    if (!extensions.has(id)) extensions.set(id, parts.at(-1)!.content);
  }
  return { extensions, critical };
}

/** The first element of `bytes`, which has at least one. */
export function firstElement(bytes: Uint8Array): Element {
  return elementAt(bytes, 0);
}

/** The elements of `bytes`, one behind the other. */
export function elementsOf(bytes: Uint8Array): Element[] {
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

/**
 * An object identifier with dots (X.690 section 8.19).
 *
 * @throws {SyntaxError} when the element is none
 */
export function identifierOf({ tag, content }: Element): string {
  if (tag !== TAG.identifier) throw new SyntaxError("There is no object identifier");
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f);
    if (byte < 0x80) {
      arcs.push(arc);
      arc = 0;
    }
  }
  const [first = 0, ...rest] = arcs;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - 40 * root, ...rest].join(".");
}

/** A text; what is neither UTF-8 nor in two bytes each is taken for Latin-1. */
export function textOf({ tag, content }: Element): string {
  if (tag === TAG.utf8String) return new TextDecoder().decode(content);
  if (tag === TAG.bmpString) return new TextDecoder("utf-16be").decode(content);
  return String.fromCharCode(...content.subarray(0, MAX_TEXT));
}

/** Longer text is no name of anything; the arguments of a call are bounded. */
const MAX_TEXT = 4096;
