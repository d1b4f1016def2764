/**
 * Runs the same test files under Deno and under Bun: `node scripts/test.mjs [files] [options]`.
 * Arguments that end in `.ts` name the files, all of tests/ otherwise; the rest goes to both
 * runners. Fails when a runner fails or runs no test.
 */
import { readdirSync } from "node:fs";
import process from "node:process";
import { stripVTControlCharacters } from "node:util";
import { ensureInstalled, PINNED, root, runRuntime } from "./runtimes.mjs";

/**
 * How to start each runner, and how to read the lines that it closes with.
 *
 * @type {{ name: "deno" | "bun", command: string[], closing: RegExp }[]}
 */
const runners = [
  {
    name: "deno",
    command: ["test", "-A", PINNED],
    closing: /^(?:ok|FAILED) \| (?<passed>\d+) passed.* \| (?<failed>\d+) failed.*$/gm,
  },
  {
    name: "bun",
    command: ["test"],
    closing: /^ *(?<passed>\d+) pass\n(?:.*\n)*? *(?<failed>\d+) fail\n(?:.*\n)*?Ran .*$/gm,
  },
];

const args = process.argv.slice(2);
// Bun takes a bare name for a filter, and a path that starts with a dot or a slash for a file.
const named = args.filter((arg) => arg.endsWith(".ts")).map((file) => file.replace(/^\b/, "./"));
const options = args.filter((arg) => !arg.endsWith(".ts"));
const files = named.length > 0 ? named : allTests();

ensureInstalled();
const summary = [];
let passed = 0;
let failed = 0;
for (const { name, command, closing } of runners) {
  console.log(`\n--- ${name} ---`);
  let output = "";
  const code = await runRuntime(name, [...command, ...options, ...files], {
    env: { HTTPSD_RUNTIME: name },
    onOutput(text) {
      process.stdout.write(text);
      output += text;
    },
  });
  const last = [...stripVTControlCharacters(output).matchAll(closing)].at(-1);
  const counts = { passed: Number(last?.groups?.passed), failed: Number(last?.groups?.failed) };
  const ran = counts.passed + counts.failed > 0; // false also when no closing line was found
  passed += counts.passed || 0;
  // A runner that fails without a failed test counts as one: an error outside of the tests.
  failed += code === 0 && ran ? 0 : counts.failed || 1;
  summary.push(`${name}: ${last?.[0].trim() ?? "no closing line"}`);
  if (!ran) summary.push(`${name} ran no test`);
  if (code !== 0) summary.push(`${name} exited with code ${code}`);
}
console.log(`\n${summary.join("\n")}\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

/** @returns {string[]} */
function allTests() {
  const names = readdirSync(`${root}/tests`, { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith("_test.ts")).sort().map((name) => `./tests/${name}`);
}
