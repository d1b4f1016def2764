/**
 * Reads which answer a client wants first (RFC 9218) from the `Priority` field of its requests and
 * from PRIORITY_UPDATE frames.
 *
 * The value is a Dictionary of Structured Fields (RFC 9651): all of it is checked, since one that is
 * malformed anywhere counts for nothing, and of its members `u` and `i` are used.
 *
 * @module
 */

/** How a client wants an answer. */
export interface Priority {
  /** From 0, the most urgent, to 7. */
  readonly urgency: number;
  /** Whether pieces of it are of use before it is whole. */
  readonly incremental: boolean;
}

const URGENCIES = 8;
/** A longer field is not read. */
const MAX_CHARACTERS = 1_024;

/** One object for each of all priorities. */
const ALL: readonly Priority[] = Array.from(
  { length: 2 * URGENCIES },
  (_, i) => Object.freeze({ urgency: i >> 1, incremental: (i & 1) === 1 }),
);

const priorityOf = (urgency: number, incremental: boolean): Priority =>
  ALL[urgency * 2 + (incremental ? 1 : 0)]!;

/** What holds where the client says nothing: urgency 3, not incremental. */
export const DEFAULT_PRIORITY: Priority = priorityOf(3, false);
/** What holds for clients that do not know of priorities. */
const SIDE_BY_SIDE = priorityOf(DEFAULT_PRIORITY.urgency, true);

/**
 * Reads a `Priority` field, several of them joined with ", ". What it does not say, or says in a
 * wrong type or out of range, is as in `base`; so is everything when it is malformed, or much longer
 * than any that says something: it is a wish, and reading it must not cost more than it is worth.
 * (RFC 9218 section 4; for the field of a response, section 8, `base` is the request's priority.)
 */
export function parsePriority(field: string, base: Priority = DEFAULT_PRIORITY): Priority {
  if (field.length > MAX_CHARACTERS) return base;
  const scanner = new DictionaryScanner(field);
  let { urgency, incremental } = base;
  while (scanner.next()) {
    const { key, value } = scanner;
    if (key === "u") urgency = URGENCY.test(value) ? Math.abs(Number(value)) : base.urgency;
    if (key === "i") incremental = /^\?[01]$/.test(value) ? value === "?1" : base.incremental;
  }
  return scanner.malformed ? base : priorityOf(urgency, incremental);
}

/** An Integer in range, which may begin with zeros, or be -0. */
const URGENCY = /^(?:0{0,14}[0-7]|-0{1,15})$/;
const KEY = /[a-z*][a-z0-9_.*-]*/y;
/** A number, a string, a token, bytes, a boolean, a date, or a string of more than ASCII. */
const BARE_ITEM =
  /-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}(?![0-9])|"(?:[ !#-[\]-~]|\\["\\])*"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|:[A-Za-z0-9+/=]*:|\?[01]|@-?[0-9]{1,15}(?![0-9])|%"(?:[ !#$&-~]|%[0-9a-f]{2})*"/y;
const BLANKS = /[\t ]*/y;
const SPACES = / */y;

/** Reads the members of a Dictionary one by one (RFC 9651 section 4.2.2). */
class DictionaryScanner {
  /** The key of the member. */
  key = "";
  /** Its value without parameters, as it is written; `?1` where only the key is; "" for a list. */
  value = "";
  /** Whether the text is no Dictionary. */
  malformed = false;
  readonly #text: string;
  #at = 0;
  #begun = false;

  constructor(text: string) {
    this.#text = text;
    this.#match(SPACES);
  }

  /** Goes on to the next member; `false`: there is none, or the text is no Dictionary. */
  next(): boolean {
    if (this.#begun && !this.#separate()) return false;
    if (!this.#begun && this.#atEnd) return false;
    this.#begun = true;
    this.malformed = !this.#member();
    return !this.malformed;
  }

  get #atEnd(): boolean {
    return this.#at === this.#text.length;
  }

  /** Reads what is between members; `false` at the end. */
  #separate(): boolean {
    this.#match(BLANKS);
    if (this.#atEnd) return false;
    this.malformed = !this.#skip(",");
    if (this.malformed) return false;
    this.#match(BLANKS);
    return true;
  }

  #member(): boolean {
    const key = this.#match(KEY);
    if (key === "") return false;
    this.key = key;
    this.value = "?1";
    if (this.#skip("=") && !this.#item()) return false;
    return this.#parameters();
  }

  /** Reads a bare item or a list of items into `value`. */
  #item(): boolean {
    if (this.#skip("(")) {
      this.value = "";
      return this.#innerList();
    }
    this.value = this.#match(BARE_ITEM);
    return this.value !== "";
  }

  #innerList(): boolean {
    for (;;) {
      const spaced = this.#match(SPACES) !== "" || this.#text[this.#at - 1] === "(";
      if (this.#skip(")")) return true;
      if (!spaced || this.#match(BARE_ITEM) === "" || !this.#parameters()) return false;
    }
  }

  #parameters(): boolean {
    while (this.#skip(";")) {
      this.#match(SPACES);
      if (this.#match(KEY) === "") return false;
      if (this.#skip("=") && this.#match(BARE_ITEM) === "") return false;
    }
    return true;
  }

  #skip(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  /** Reads what the pattern matches here; "" for nothing. */
  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }
}

/** What one client says of priorities, for the streams that are open and those to come. */
export class ClientPriorities {
  /** Whether the client has ever said anything of priorities; `true` as well by its settings. */
  aware = false;
  /** Priorities of streams that are not open yet. */
  readonly #early = new Map<number, Priority>();

  /**
   * How many streams that are not open have a priority; with the open ones at most as many as may be
   * open (RFC 9218 section 7.1).
   */
  get early(): number {
    return this.#early.size;
  }

  /** Whether PRIORITY_UPDATE has come for a stream that is not open yet. */
  has(streamId: number): boolean {
    return this.#early.has(streamId);
  }

  /**
   * The priority of a stream that opens: what PRIORITY_UPDATE has said before, or else the request's
   * `Priority` field. A client that knows nothing of priorities wants its answers side by side.
   */
  opened(streamId: number, field: string | undefined): Priority {
    if (field !== undefined) this.aware = true;
    const early = this.#take(streamId);
    if (early !== undefined) return early;
    if (field !== undefined) return parsePriority(field);
    return this.aware ? DEFAULT_PRIORITY : SIDE_BY_SIDE;
  }

  /** Reads PRIORITY_UPDATE for an open stream. */
  update(field: string): Priority {
    this.aware = true;
    return parsePriority(field);
  }

  /** Reads PRIORITY_UPDATE for a stream that is not open yet. */
  announce(streamId: number, field: string): void {
    this.#early.set(streamId, this.update(field));
  }

  /** Streams of lower numbers can no longer open (RFC 9113 section 5.1.1): theirs are forgotten. */
  #take(streamId: number): Priority | undefined {
    if (this.#early.size === 0) return undefined;
    const priority = this.#early.get(streamId);
    for (const id of this.#early.keys()) {
      if (id <= streamId) this.#early.delete(id);
    }
    return priority;
  }
}
