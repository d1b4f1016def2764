/**
 * The Sec-WebSocket-Extensions field of an opening handshake: its grammar, nothing of what the
 * extensions mean (RFC 6455 section 9.1).
 *
 * @module
 */
import { isToken } from "../http/token.ts";

/** One extension that the client offers. */
export interface ExtensionOffer {
  /** Its name as sent; extension names are case-sensitive. */
  readonly name: string;
  /** Its parameters in order, duplicates included; the value is undefined where there is no `=`. */
  readonly params: readonly (readonly [name: string, value: string | undefined])[];
}

/** What could be a token: all up to white space or a mark of the grammar. */
const WORD = /[^\t ",;=]+/y;
const QUOTED_STRING = /"([\t !#-[\]-~]*(?:\\[\t -~][\t !#-[\]-~]*)*)"/y;
const SPACE = /[ \t]*/y;

/**
 * Reads the values of all Sec-WebSocket-Extensions fields of a request; several fields are one list
 * (section 11.3.2). Empty list elements are skipped (RFC 9110 section 5.6.1.2).
 *
 * @returns the offers in the client's order; undefined when a value breaks the grammar, upon which
 * the handshake must fail (section 9.1)
 */
export function parseExtensions(values: readonly string[]): ExtensionOffer[] | undefined {
  const offers: ExtensionOffer[] = [];
  for (const value of values) {
    const scanner = new Scanner(value);
    do {
      if (scanner.atListEnd()) continue;
      const offer = readOffer(scanner);
      if (offer === undefined) return undefined;
      offers.push(offer);
    } while (scanner.skip(","));
    if (!scanner.atEnd()) return undefined;
  }
  return offers;
}

/** extension = extension-token *( ";" extension-param ) */
function readOffer(scanner: Scanner): ExtensionOffer | undefined {
  const name = scanner.token();
  if (name === undefined) return undefined;
  const params: [string, string | undefined][] = [];
  while (scanner.skip(";")) {
    const param = scanner.token();
    if (param === undefined) return undefined;
    let value: string | undefined;
    if (scanner.skip("=")) {
      value = readValue(scanner);
      if (value === undefined) return undefined;
    }
    params.push([param, value]);
  }
  return { name, params };
}

/** A token, or a quoted-string that holds a token once it is unescaped. */
function readValue(scanner: Scanner): string | undefined {
  const token = scanner.token();
  if (token !== undefined) return token;
  const text = scanner.match(QUOTED_STRING)?.[1]?.replace(/\\(.)/g, "$1");
  return text !== undefined && isToken(text) ? text : undefined;
}

/** A place in a field value; each step skips the white space before it. */
class Scanner {
  readonly #text: string;
  #index = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Takes what the sticky pattern matches here. */
  match(pattern: RegExp): RegExpExecArray | undefined {
    this.#skipSpace();
    pattern.lastIndex = this.#index;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#index = pattern.lastIndex;
    return match;
  }

  /** Takes the token that comes next, if one does. */
  token(): string | undefined {
    const word = this.match(WORD)?.[0];
    return word !== undefined && isToken(word) ? word : undefined;
  }

  /** Takes this character, if it comes next. */
  skip(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#index] !== character) return false;
    this.#index++;
    return true;
  }

  atEnd(): boolean {
    this.#skipSpace();
    return this.#index === this.#text.length;
  }

  /** Whether the list element that begins here is empty. */
  atListEnd(): boolean {
    return this.atEnd() || this.#text[this.#index] === ",";
  }

  #skipSpace(): void {
    SPACE.lastIndex = this.#index;
    SPACE.exec(this.#text);
    this.#index = SPACE.lastIndex;
  }
}
