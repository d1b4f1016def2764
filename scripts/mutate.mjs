/**
 * `bun scripts/mutate.mjs [--count 100] [--seed 1] [--runtimes bun,deno] [--files lib/a.ts,…]`
 *
 * Breaks one line of the fetch face at a time, and lists what no test notices: conditions turned
 * round, statements left out, operators, constants and texts changed, arguments swapped, early
 * returns. Works in a copy of the checkout, in the folder for temporary files.
 *
 * What survives is looked at by hand: it is a gap in the tests, or does the same in another way. Takes
 * some seconds for each; not a part of CI.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root, runtimeBinary } from "./runtimes.mjs";

const { values: options } = parseArgs({
  options: {
    count: { type: "string", default: "100" },
    seed: { type: "string", default: "1" },
    runtimes: { type: "string" },
    files: { type: "string" },
  },
});

const BOTH = ["bun", "deno"];

/** The files, and on which runtime what they say matters: where it is noticed sooner comes first. */
const FILES = {
  "lib/runtime/bun_request.ts": ["bun"],
  "lib/runtime/bun_response.ts": ["bun"],
  "lib/runtime/deno_response.ts": ["deno"],
  "lib/runtime/deno_request.ts": ["deno"],
  "lib/runtime/response_parts.ts": BOTH,
  "lib/fetch/response_parts.ts": BOTH,
  "lib/fetch/send_response.ts": BOTH,
  "lib/fetch/request.ts": BOTH,
  "lib/fetch/served_request.ts": BOTH,
  "lib/fetch/usable_response.ts": BOTH,
  "lib/http/abort_error.ts": BOTH,
};

/** The files of tests that have to notice, the fastest first, and which tests of them. */
const TESTS = [
  { names: ["differential", "whole_bodies", "upstream", "internals", "hono"], filter: "" },
  // Not those of long bodies.
  {
    names: ["fetch", "fetch_failures"],
    filter: "a body that is read|a request|a response|what a handler",
  },
];

/** A test that waits for what a mutant never does has noticed it: without one they take 20 s at most. */
const TIMEOUT_MS = 60_000;

/** A pattern, and what is written in place of a match. */
const OPERATORS = [
  [/===/g, "!=="],
  [/!==/g, "==="],
  [/&&/g, "||"],
  [/\|\|/g, "&&"],
  [/\?\?(?!=)/g, "&&"],
  [/ < /g, " >= "],
  [/ > /g, " <= "],
  [/ <= /g, " < "],
  [/ >= /g, " > "],
  [/ \+ /g, " - "],
  [/ - /g, " + "],
  [/\+=/g, "="],
  [/ \* /g, " + "],
  [/ % /g, " * "],
  [/\btrue\b/g, "false"],
  [/\bfalse\b/g, "true"],
  [/\bnull\b(?!;? *\|)/g, "undefined"],
  [/\b\d[\d_]*\b/g, (number) => String(Number(number.replaceAll("_", "")) + 1)],
  [/"[^"\n]*"/g, (text) => `"${text.slice(1, -1)}x"`],
  [/\bif \((.*)\) /g, (_, condition) => `if (!(${condition})) `],
  [/(?<=[(\s])!(?=[a-zA-Z(])/g, ""],
  [/ \? (.+) : (.+?)(?=[;,)]?$)/g, (_, yes, no) => ` ? ${no} : ${yes}`],
  [/\b(\w+)\(([\w.#]+), ([\w.#]+)\)/g, (_, name, a, b) => `${name}(${b}, ${a})`],
  [/^(\s+)return (.+);$/g, (_, indent) => `${indent}return undefined as never;`],
  [/^(\s+)(?!return|const|let|throw|import|export|readonly)([\w.#!\[\]()]+.*);$/g, ""],
  [/^(\s+)(?:if \(.*\) )?throw .*;$/g, ""],
  [/\{$/g, "{ if (Math) return undefined as never;"],
  [/\bawait /g, ""],
  [/\.toLowerCase\(\)/g, ""],
];

/**
 * The functions of trials, which are left out: one that fails is seen in the list of internals, and
 * one that has become weaker in nothing, on a runtime that passes; whole_bodies_test has others.
 */
const TRIALS =
  /^function (?:innerIsKnown|isAsExpected|facts|isKnown|isRight|isAbortable|isPrinted|isFetched|isWhole|triedParts)\(/;

/** Every mutant of a file that is another program: types, comments and doubles are left out. */
function mutantsOf(file) {
  const text = readFileSync(join(root, file), "utf8");
  const lines = text.split("\n");
  const mutants = [];
  const programs = new Set([programOf(text), undefined]);
  let isTrial = false;
  for (const [index, line] of lines.entries()) {
    isTrial = line === "}" ? false : isTrial || TRIALS.test(line);
    if (isTrial) continue;
    if (/^\s*(?:\*|\/\*|\/\/|import )/.test(line) || line.includes("declareInternal(")) continue;
    for (const [pattern, replacement] of OPERATORS) {
      for (const match of line.matchAll(pattern)) {
        const replaced = typeof replacement === "string" ? replacement : replacement(...match);
        const changed = line.slice(0, match.index) + replaced +
          line.slice(match.index + match[0].length);
        const code = lines.with(index, changed).join("\n");
        const program = programOf(code);
        if (programs.has(program)) continue;
        programs.add(program);
        // Where it says that it is not for this runtime, only the other one can notice.
        const runtimes = /runtime\.name/.test(line) ? BOTH : FILES[file];
        mutants.push({ file, line: index + 1, before: line, after: changed, code, runtimes });
      }
    }
  }
  return mutants;
}

const parser = new globalThis.Bun.Transpiler({ loader: "ts" });

/** The JavaScript of a file; `undefined` where it cannot be parsed, which proves nothing. */
function programOf(text) {
  try {
    return parser.transformSync(text);
  } catch {
    return undefined;
  }
}

/** Runs test files in the copy; resolves with whether they passed. */
function passes(copy, runtime, { names, filter }) {
  const args = [
    "test",
    ...(runtime === "deno"
      ? ["-A", "--no-check", "--fail-fast", `--filter=/${filter}/`]
      : ["--bail", `--test-name-pattern=${filter}`]),
    ...names.map((name) => `./tests/${name}_test.ts`),
  ];
  const env = { ...process.env, HTTPSD_RUNTIME: runtime, HTTPSD_CASES: "600" };
  return new Promise((resolve) => {
    const child = spawn(runtimeBinary(runtime), args, { cwd: copy, env, stdio: "ignore" });
    const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
    child.once("exit", (code) => {
      clearTimeout(timer);
      resolve(code === 0);
    });
  });
}

/** Which tests notice that the copy is broken; `undefined`: none. */
async function noticing(copy, runtimes) {
  for (const runtime of runtimes) {
    for (const tests of TESTS) {
      if (!await passes(copy, runtime, tests)) return `${tests.names.join(" or ")}, ${runtime}`;
    }
  }
  return undefined;
}

/** Numbers that look random, the same for the same seed (xorshift32). */
function* numbers(seed) {
  for (let state = seed || 1;; yield state >>> 0) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
  }
}

const copy = mkdtempSync(join(tmpdir(), "httpsd-mutants-"));
process.on("exit", () => rmSync(copy, { recursive: true }));
for (
  const name of [
    "lib",
    "tests",
    "docs",
    "examples",
    "mod.ts",
    "package.json",
    "deno.json",
    "tsconfig.json",
  ]
) {
  cpSync(join(root, name), join(copy, name), { recursive: true });
}
symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));

const files = options.files?.split(",") ?? Object.keys(FILES);
const only = options.runtimes?.split(",");
const rest = files.flatMap(mutantsOf).map((mutant) => {
  return { ...mutant, runtimes: mutant.runtimes.filter((name) => only?.includes(name) ?? true) };
}).filter(({ runtimes }) => runtimes.length > 0);
console.log(`${rest.length} mutants are possible`);
const failing = await noticing(copy, only ?? BOTH);
if (failing !== undefined) throw new Error(`The tests fail without a mutant: ${failing}`);

const random = numbers(Number(options.seed));
let caught = 0;
const survivors = [];
for (let i = 0; i < Number(options.count) && rest.length > 0; i++) {
  const [mutant] = rest.splice(random.next().value % rest.length, 1);
  const original = readFileSync(join(copy, mutant.file), "utf8");
  writeFileSync(join(copy, mutant.file), mutant.code);
  const test = await noticing(copy, mutant.runtimes);
  writeFileSync(join(copy, mutant.file), original);
  if (test === undefined) survivors.push(mutant);
  else caught++;
  const { file, line, before, after } = mutant;
  const change = `${file}:${line}\n  - ${before.trim()}\n  + ${after.trim()}`;
  console.log(
    `${i + 1} ${test === undefined ? `SURVIVED ${change}` : `caught by ${test}: ${file}:${line}`}`,
  );
}
console.log(`${caught + survivors.length} tried, ${caught} caught, ${survivors.length} survived`);
process.exitCode = survivors.length > 0 ? 1 : 0;
