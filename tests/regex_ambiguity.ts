/**
 * Whether a backtracking engine can take more than linear time for a regular expression. It can where
 * one text can be read in several ways: where a loop is left for another that takes the same text
 * (quadratic), or a loop has two ways through itself (exponential). The search for a place to begin
 * is such a loop too. (Weideman and others, "Analyzing Matching Time Behavior of Backtracking Regular
 * Expression Matchers by Using Ambiguity of NFA", 2016.)
 *
 * The expression becomes a position automaton (Glushkov): its states are the characters of the
 * pattern, so what follows what can be read off. Lookaheads, `\b`, and the ends of lines are taken as
 * always true, and a count with a limit as one of at most three: both can only report too much, or
 * loops within counts alike.
 *
 * @module
 */

/** The characters that are distinguished: Latin-1, any other, and the two ends of the text. */
const OTHER = 256;
const BEGIN = 257;
const END = 258;
const SIZE = 259;

type Chars = Uint8Array;

/** A part of the automaton that was built. */
interface Part {
  readonly nullable: boolean;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

const EMPTY: Part = { nullable: true, first: [], last: [] };

/**
 * Why `regex` is not linear: `"quadratic"`, `"exponential"`; `undefined` when it is.
 *
 * @throws {Error} for syntax that is not understood here
 */
export function ambiguityOf(regex: RegExp): "quadratic" | "exponential" | undefined {
  const automaton = new Automaton(regex);
  if (automaton.isExponential()) return "exponential";
  return automaton.isQuadratic() ? "quadratic" : undefined;
}

class Automaton {
  readonly #source: string;
  readonly #ignoreCase: boolean;
  readonly #multiline: boolean;
  #pos = 0;
  #asserts = false;
  /** What each state takes, and how often each other can follow it. */
  readonly #chars: Chars[] = [];
  readonly #follow: Map<number, number>[] = [];
  readonly #accepting: ReadonlySet<number>;

  constructor({ source, flags, sticky, ignoreCase, multiline }: RegExp) {
    if (/[suv]/.test(flags)) throw new Error(`Flags ${flags} are not understood`);
    this.#source = source;
    this.#ignoreCase = ignoreCase;
    this.#multiline = multiline;
    // State 0 passes over what is before the match.
    this.#state(charsOf((code) => code === BEGIN || (!sticky && code < BEGIN)));
    if (!sticky) this.#link([0], [0]);
    const whole = this.#alternatives();
    if (this.#pos < source.length) throw new Error(`Not understood at ${this.#pos}: ${source}`);
    this.#link([0], whole.first);
    this.#accepting = new Set(this.#asserts ? [] : whole.last);
  }

  /** Whether one text leads from a state back to it in two ways. */
  isExponential(): boolean {
    return this.#chars.some((_, state) => {
      for (const [next, ways] of this.#follow[state]!) {
        if (ways > 1 && this.#leads(next, state)) return true;
      }
      return this.#reaches([state, state], ([a, b]) => a !== b, [state, state]);
    });
  }

  /** Whether one text leads from a loop to itself, to another loop, and from that to itself. */
  isQuadratic(): boolean {
    const loops = this.#chars.map((_, state) => state).filter((state) => this.#leads(state, state));
    return loops.some((p) =>
      loops.some((q) =>
        // What can be accepted at once does not fail, so nothing is tried again.
        p !== q && !this.#accepting.has(q) && this.#reaches([p, p, q], undefined, [p, q, q])
      )
    );
  }

  #leads(from: number, to: number): boolean {
    return this.#reaches([from], undefined, [to]);
  }

  /** Whether the same text leads each state of `from` to that of `to`, by way of `through`. */
  #reaches(
    from: readonly number[],
    through: ((states: readonly number[]) => boolean) | undefined,
    to: readonly number[],
  ): boolean {
    const goal = to.join();
    const seen = new Set<string>();
    const queue: [states: readonly number[], passed: boolean][] = [[from, through === undefined]];
    for (const [states, passed] of queue) {
      const choices = states.map((state) => [...this.#follow[state]!.keys()]);
      for (const next of product(choices)) {
        if (!this.#share(next)) continue;
        const nowPassed = passed || through!(next);
        const key = next.join();
        if (nowPassed && key === goal) return true;
        if (seen.has(key + nowPassed)) continue;
        seen.add(key + nowPassed);
        queue.push([next, nowPassed]);
      }
    }
    return false;
  }

  /** Whether there is a character that all of these states take. */
  #share(states: readonly number[]): boolean {
    const [one, ...others] = states.map((state) => this.#chars[state]!);
    for (let code = 0; code < SIZE; code++) {
      if (one![code] === 1 && others.every((chars) => chars[code] === 1)) return true;
    }
    return false;
  }

  #state(chars: Chars): Part {
    const state = this.#chars.push(chars) - 1;
    this.#follow.push(new Map());
    return { nullable: false, first: [state], last: [state] };
  }

  #link(from: readonly number[], to: readonly number[]): void {
    for (const state of from) {
      const follow = this.#follow[state]!;
      for (const next of to) follow.set(next, (follow.get(next) ?? 0) + 1);
    }
  }

  #alternatives(): Part {
    let whole = this.#sequence();
    while (this.#skip("|")) {
      const other = this.#sequence();
      whole = {
        nullable: whole.nullable || other.nullable,
        first: [...whole.first, ...other.first],
        last: [...whole.last, ...other.last],
      };
    }
    return whole;
  }

  #sequence(): Part {
    let whole = EMPTY;
    while (this.#pos < this.#source.length && !"|)".includes(this.#source[this.#pos]!)) {
      whole = this.#concat(whole, this.#quantified());
    }
    return whole;
  }

  #concat(one: Part, other: Part): Part {
    this.#link(one.last, other.first);
    return {
      nullable: one.nullable && other.nullable,
      first: one.nullable ? [...one.first, ...other.first] : one.first,
      last: other.nullable ? [...one.last, ...other.last] : other.last,
    };
  }

  #quantified(): Part {
    const start = this.#pos;
    let part = this.#atom();
    const end = this.#pos;
    const quantifier = /^(?:[*+?]|\{(\d+)(,(\d*))?\})\??/.exec(this.#source.slice(end));
    if (quantifier === null) return part;
    const [text, least, comma, most] = quantifier;
    const after = end + text.length;
    if (least === undefined) {
      if (text[0] !== "?") this.#link(part.last, part.first);
      if (text[0] !== "+") part = { ...part, nullable: true };
    } else {
      // x{1,3} is x(x(x)?)?: a copy follows the one before it only, as engines count.
      const copies = Math.min(Number(most || least), 3);
      const isEndless = comma !== undefined && most === "";
      let previous = part;
      part = { ...part, nullable: part.nullable || Number(least) === 0 };
      for (let copy = 1; copy < copies; copy++) {
        this.#pos = start;
        const next = this.#atom();
        this.#link(previous.last, next.first);
        const isOptional = next.nullable || copy >= Number(least);
        part = { ...part, last: isOptional ? [...part.last, ...next.last] : next.last };
        previous = next;
      }
      if (isEndless) this.#link(previous.last, previous.first);
    }
    this.#pos = after;
    return part;
  }

  #atom(): Part {
    if (this.#skip("(")) {
      const isAssertion = this.#skip("?=") || this.#skip("?!") || this.#skip("?<=") ||
        this.#skip("?<!");
      if (!isAssertion && !this.#skip("?:") && this.#skip("?<")) {
        this.#pos = this.#source.indexOf(">", this.#pos) + 1;
      }
      const inner = this.#alternatives();
      if (!this.#skip(")")) throw new Error(`A group without an end: ${this.#source}`);
      this.#asserts ||= isAssertion;
      return isAssertion ? EMPTY : inner;
    }
    if (this.#multiline && (this.#skip("^") || this.#skip("$"))) {
      this.#asserts = true;
      return EMPTY;
    }
    if (this.#skip("^")) return this.#state(charsOf((code) => code === BEGIN));
    if (this.#skip("$")) return this.#state(charsOf((code) => code === END));
    if (this.#skip(".")) return this.#state(charsOf((code) => code <= OTHER && !isLineEnd(code)));
    if (this.#skip("\\b") || this.#skip("\\B")) {
      this.#asserts = true;
      return EMPTY;
    }
    if (this.#skip("[")) return this.#state(this.#class());
    return this.#state(this.#cased(this.#character()));
  }

  #class(): Chars {
    const negated = this.#skip("^");
    const chars = new Uint8Array(SIZE);
    while (!this.#skip("]")) {
      const from = this.#character();
      if (
        typeof from === "number" && this.#source[this.#pos] === "-" &&
        this.#source[this.#pos + 1] !== "]"
      ) {
        this.#pos++;
        const to = this.#character();
        if (typeof to !== "number") {
          throw new Error(`A range that ends in a class: ${this.#source}`);
        }
        for (let code = from; code <= Math.min(to, OTHER); code++) add(chars, this.#cased(code));
      } else add(chars, this.#cased(from));
    }
    return negated ? charsOf((code) => code <= OTHER && chars[code] === 0) : chars;
  }

  /** A character's code, or what an escape means. */
  #character(): number | Chars {
    const character = this.#source[this.#pos++]!;
    if (character !== "\\") return Math.min(character.charCodeAt(0), OTHER);
    const escape = this.#source[this.#pos++]!;
    const hex = { x: 2, u: 4 }[escape];
    if (hex !== undefined) {
      const code = parseInt(this.#source.slice(this.#pos, this.#pos + hex), 16);
      this.#pos += hex;
      return Math.min(code, OTHER);
    }
    const plain = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }[escape];
    if (plain !== undefined) return plain;
    if ("dDsSwW".includes(escape)) {
      const pattern = new RegExp(`^\\${escape}$`);
      return charsOf((code) => code <= OTHER && pattern.test(String.fromCharCode(code)));
    }
    if (/[a-z\d]/i.test(escape)) throw new Error(`\\${escape} is not understood: ${this.#source}`);
    return escape.charCodeAt(0);
  }

  #cased(character: number | Chars): Chars {
    if (typeof character !== "number") return character;
    if (!this.#ignoreCase || character >= OTHER) return charsOf((code) => code === character);
    const text = String.fromCharCode(character);
    const codes = [character, text.toLowerCase().charCodeAt(0), text.toUpperCase().charCodeAt(0)];
    return charsOf((code) => codes.includes(code));
  }

  #skip(text: string): boolean {
    if (!this.#source.startsWith(text, this.#pos)) return false;
    this.#pos += text.length;
    return true;
  }
}

function charsOf(takes: (code: number) => boolean): Chars {
  return Uint8Array.from({ length: SIZE }, (_, code) => takes(code) ? 1 : 0);
}

function add(chars: Chars, others: Chars): void {
  for (let code = 0; code < SIZE; code++) chars[code]! |= others[code]!;
}

function isLineEnd(code: number): boolean {
  return code === 10 || code === 13;
}

function product(choices: readonly (readonly number[])[]): number[][] {
  return choices.reduce<number[][]>(
    (all, options) => all.flatMap((some) => options.map((option) => [...some, option])),
    [[]],
  );
}
