/**
 * Finds the regular expression literals of a TypeScript source, for the tests that hold each of them
 * to linear time.
 *
 * @module
 */

/** A literal and where it is. */
export interface FoundRegex {
  readonly regex: RegExp;
  readonly line: number;
}

/** After these a slash begins a literal; after a name, a number or a bracket it divides. */
const BEFORE_LITERAL = new Set([..."(,=:[!&|?{};+<>~^%*-"]);
const WORDS_BEFORE_LITERAL = /\b(?:return|case|typeof|in|of|void|delete|await|yield)$/;

/** The regular expression literals of `source`. */
export function findRegexes(source: string): FoundRegex[] {
  const found: FoundRegex[] = [];
  let code = ""; // what was passed, without comments, for the look back
  const templates: number[] = []; // the depth of braces in each ${ } that is open
  let i = source.startsWith("#!") ? source.indexOf("\n") + 1 : 0;
  const skipTo = (end: string) => {
    const at = source.indexOf(end, i);
    i = at === -1 ? source.length : at + end.length;
  };
  const skipQuoted = (quote: string) => {
    i++;
    while (i < source.length && source[i] !== quote) {
      if (source[i] === "\\") i++;
      else if (quote === "`" && source.startsWith("${", i)) {
        templates.push(0);
        i += 2;
        return;
      }
      i++;
    }
    i++;
  };
  while (i < source.length) {
    const character = source[i]!;
    if (source.startsWith("//", i)) skipTo("\n");
    else if (source.startsWith("/*", i)) {
      i += 2;
      skipTo("*/");
    } else if (character === '"' || character === "'" || character === "`") {
      skipQuoted(character);
      code += '"';
    } else if (character === "}" && templates.at(-1) === 0) {
      templates.pop();
      i--;
      skipQuoted("`");
      code += '"';
    } else if (character === "/" && beginsLiteral(code.trimEnd())) {
      const end = endOfLiteral(source, i);
      const flags = /^[a-z]*/.exec(source.slice(end + 1))![0];
      found.push({
        regex: new RegExp(source.slice(i + 1, end), flags),
        line: source.slice(0, i).split("\n").length,
      });
      i = end + 1 + flags.length;
      code += ")";
    } else {
      if (templates.length > 0 && character === "{") templates[templates.length - 1]!++;
      if (templates.length > 0 && character === "}") templates[templates.length - 1]!--;
      code += character;
      i++;
    }
  }
  return found;
}

function beginsLiteral(before: string): boolean {
  return before === "" || BEFORE_LITERAL.has(before.at(-1)!) || WORDS_BEFORE_LITERAL.test(before);
}

/** Where the slash is that ends the literal which begins at `start`. */
function endOfLiteral(source: string, start: number): number {
  let inClass = false;
  for (let i = start + 1; i < source.length; i++) {
    const character = source[i];
    if (character === "\\") i++;
    else if (character === "[") inClass = true;
    else if (character === "]") inClass = false;
    else if (character === "/" && !inClass) return i;
  }
  throw new Error(`A literal without an end: ${source.slice(start, start + 40)}`);
}
