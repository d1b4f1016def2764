/**
 * Runs the same test files under Deno and under Bun: `node scripts/test.mjs [files] [options]`.
 * Arguments that end in `.ts` name the files, all of tests/ otherwise; the rest goes to both
 * runners. Some run on Bun once more, over `node:tls` in place of Bun's own sockets. Where there are
 * several cores, Bun runs beside Deno; what it writes is shown behind Deno's. Fails when a runner
 * fails or runs no test.
 */
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import process from "node:process";
import { stripVTControlCharacters } from "node:util";
import { ensureInstalled, PINNED, root, runRuntime } from "./runtimes.mjs";

/** A failed test of Bun's, and with what stands before it: its error. */
const BUN_NAMES = /^\(fail\) .*$/gm;
const BUN_FAILURES = /^(?:.*\n){0,25}\(fail\) .*$/gm;

const BUN_CLOSING = /^ *(?<passed>\d+) pass\n(?:.*\n)*? *(?<failed>\d+) fail\n(?:.*\n)*?Ran .*$/gm;

/** What runs over both wires on Bun, besides the files that see to it themselves: docs/internals.md. */
const BOTH_WIRES = /\/(?:cap|gate|half_close|max_connections|selection|sessions|tls)_test\.ts$/;

/**
 * How to start each runner, and how to read what failed, the names alone and with the errors, and the
 * lines that it closes with.
 *
 * @type {{
 *   name: "deno" | "bun", title?: string, command: string[], closing: RegExp,
 *   names: RegExp, failures: RegExp, only?: RegExp, env?: Record<string, string>
 * }[]}
 */
const runners = [
  {
    name: "deno",
    command: ["test", "-A", PINNED],
    closing: /^(?:ok|FAILED) \| (?<passed>\d+) passed.* \| (?<failed>\d+) failed.*$/gm,
    names: /^ FAILURES $[^]*?(?=^FAILED )/gm,
    failures: /^ ERRORS $[^]*?(?=^ FAILURES $)/gm,
  },
  {
    name: "bun",
    command: ["test"],
    closing: BUN_CLOSING,
    names: BUN_NAMES,
    failures: BUN_FAILURES,
  },
  {
    name: "bun",
    title: "bun, node:tls",
    command: ["test"],
    closing: BUN_CLOSING,
    names: BUN_NAMES,
    failures: BUN_FAILURES,
    only: BOTH_WIRES,
    env: { HTTPSD_WIRE: "node" },
  },
];

/** How many lines of a runner's failures stand in the summary, where a cut record still has them. */
const FAILURE_LINES = 150;

/** What runners write: shown at once, or kept until it may be shown. */
class Output {
  #kept = "";
  #isShown;

  /** @param {boolean} isShown */
  constructor(isShown) {
    this.#isShown = isShown;
  }

  /** @param {string} text */
  write(text) {
    if (this.#isShown) process.stdout.write(text);
    else this.#kept += text;
  }

  /** Shows what was kept, and everything from now on. */
  show() {
    this.#isShown = true;
    process.stdout.write(this.#kept);
    this.#kept = "";
  }
}

const args = process.argv.slice(2);
// Bun takes a bare name for a filter, and a path that starts with a dot or a slash for a file.
const named = args.filter((arg) => arg.endsWith(".ts")).map((file) => file.replace(/^\b/, "./"));
const options = args.filter((arg) => !arg.endsWith(".ts"));
const files = named.length > 0 ? named : allTests();

ensureInstalled();
const summary = [];
let passed = 0;
let failed = 0;
const beside = availableParallelism() > 1;
const deno = runners.filter(({ name }) => name === "deno");
const bun = runners.filter(({ name }) => name === "bun");
const denoOutput = new Output(true);
const bunOutput = new Output(!beside);
const onDeno = runAll(deno, denoOutput);
const onBun = (beside ? Promise.resolve() : onDeno).then(() => runAll(bun, bunOutput));
const results = await onDeno;
bunOutput.show();
results.push(...await onBun);
for (const result of results) count(result);
console.log(`\n${summary.join("\n")}\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

/**
 * Runs some of the runners, one after another.
 *
 * @param {typeof runners} some
 * @param {Output} output
 */
async function runAll(some, output) {
  const results = [];
  for (const runner of some) {
    const { name, title = name, command, closing, names, failures, only = /^/, env } = runner;
    const its = files.filter((file) => only.test(file));
    if (its.length === 0) continue;
    output.write(`\n--- ${title} ---\n`);
    let text = "";
    const code = await runRuntime(name, [...command, ...options, ...its], {
      env: { HTTPSD_RUNTIME: name, ...env },
      onOutput(piece) {
        output.write(piece);
        text += piece;
      },
    });
    const plain = stripVTControlCharacters(text);
    results.push({
      title,
      code,
      last: [...plain.matchAll(closing)].at(-1),
      names: plain.match(names)?.join("\n").split("\n") ?? [],
      // Without a failed test, what the runner said last tells why: a fault in the types, a crash.
      failures: plain.match(failures)?.join("\n").split("\n") ?? plain.split("\n").slice(-30),
    });
  }
  return results;
}

/** @param {Awaited<ReturnType<typeof runAll>>[number]} result */
function count({ title, code, last, names, failures }) {
  const counts = { passed: Number(last?.groups?.passed), failed: Number(last?.groups?.failed) };
  const ran = counts.passed + counts.failed > 0; // false also when no closing line was found
  passed += counts.passed || 0;
  // A runner that fails without a failed test counts as one: an error outside of the tests.
  failed += code === 0 && ran ? 0 : counts.failed || 1;
  summary.push(`${title}: ${last?.[0].trim() ?? "no closing line"}`);
  if (!ran) summary.push(`${title} ran no test`);
  if (code === 0) return;
  const all = [...names, ...failures]; // the names first: one error may have many lines
  const told = all.filter((line) => !line.startsWith("(pass)")).slice(0, FAILURE_LINES);
  summary.push(`${title} exited with code ${code}`, ...told);
}

/** @returns {string[]} */
function allTests() {
  const names = readdirSync(`${root}/tests`, { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith("_test.ts")).sort().map((name) => `./tests/${name}`);
}
