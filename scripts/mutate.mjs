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

/** The files, and on which runtime what they say matters. */
const FILES = {
  "lib/runtime/bun_response.ts": ["bun"],
  "lib/runtime/deno_response.ts": ["deno"],
  "lib/runtime/deno_request.ts": ["deno"],
  "lib/runtime/response_parts.ts": ["bun", "deno"],
  "lib/fetch/response_parts.ts": ["bun", "deno"],
  "lib/fetch/send_response.ts": ["bun", "deno"],
  "lib/fetch/request.ts": ["bun", "deno"],
  "lib/fetch/served_request.ts": ["bun", "deno"],
  "lib/fetch/usable_response.ts": ["bun", "deno"],
  "lib/http/abort_error.ts": ["bun", "deno"],
};

/** The tests that have to notice, the fastest first, and which of them: not those of long bodies. */
const TESTS = {
  whole_bodies: "",
  upstream: "",
  internals: "list of internals",
  hono: "",
  differential: "",
  fetch: "a body that is read|a request|a response|what a handler",
};

const TIMEOUT_MS = 120_000;

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

function mutantsOf(file) {
  const lines = readFileSync(join(root, file), "utf8").split("\n");
  const mutants = [];
  for (const [index, line] of lines.entries()) {
    if (/^\s*(?:\*|\/\*|\/\/|import |export type|type |interface |readonly \w+\??:)/.test(line)) {
      continue;
    }
    if (line.includes("declareInternal(") || line.trim() === "") continue;
    for (const [pattern, replacement] of OPERATORS) {
      for (const match of line.matchAll(pattern)) {
        const text = typeof replacement === "string" ? replacement : replacement(...match);
        const changed = line.slice(0, match.index) + text +
          line.slice(match.index + match[0].length);
        if (changed === line) continue;
        const code = lines.with(index, changed).join("\n");
        if (isCode(code)) {
          mutants.push({ file, line: index + 1, before: line, after: changed, code });
        }
      }
    }
  }
  return mutants;
}

const parser = new globalThis.Bun.Transpiler({ loader: "ts" });

function isCode(text) {
  try {
    parser.transformSync(text);
    return true;
  } catch {
    return false; // what cannot be parsed proves nothing
  }
}

/** Runs one test file in the copy; resolves with whether it passed. */
function passes(copy, runtime, name) {
  const file = `./tests/${name}_test.ts`;
  const args = runtime === "deno"
    ? ["test", "-A", "--no-check", "--fail-fast", `--filter=/${TESTS[name]}/`, file]
    : ["test", "--bail", `--test-name-pattern=${TESTS[name]}`, file];
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

/** Which test notices that the copy is broken; `undefined`: none. */
async function noticing(copy, runtimes) {
  for (const test of Object.keys(TESTS)) {
    for (const runtime of runtimes) {
      if (!await passes(copy, runtime, test)) return `${test}, ${runtime}`;
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
  const name of ["lib", "tests", "examples", "mod.ts", "package.json", "deno.json", "tsconfig.json"]
) {
  cpSync(join(root, name), join(copy, name), { recursive: true });
}
symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));

const files = options.files?.split(",") ?? Object.keys(FILES);
const only = options.runtimes?.split(",");
const runtimesOf = (file) => FILES[file].filter((name) => only?.includes(name) ?? true);
const rest = files.filter((file) => runtimesOf(file).length > 0).flatMap(mutantsOf);
console.log(`${rest.length} mutants are possible`);
const everything = only ?? ["bun", "deno"];
const failing = await noticing(copy, everything);
if (failing !== undefined) throw new Error(`The tests fail without a mutant: ${failing}`);

const random = numbers(Number(options.seed));
let caught = 0;
const survivors = [];
for (let i = 0; i < Number(options.count) && rest.length > 0; i++) {
  const [mutant] = rest.splice(random.next().value % rest.length, 1);
  const original = readFileSync(join(copy, mutant.file), "utf8");
  writeFileSync(join(copy, mutant.file), mutant.code);
  const test = await noticing(copy, runtimesOf(mutant.file));
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
