/**
 * Runs the same test files under Deno and under Bun: `node scripts/test.mjs [files] [options]`.
 * Arguments that end in `.ts` name the files, all of tests/ otherwise; the rest goes to both
 * runners. Some run on Bun once more, over `node:tls` in place of Bun's own sockets. Fails when a
 * runner fails or runs no test.
 */
import { readdirSync } from "node:fs";
import process from "node:process";
import { stripVTControlCharacters } from "node:util";
import { ensureInstalled, PINNED, root, runRuntime } from "./runtimes.mjs";

const BUN_CLOSING = /^ *(?<passed>\d+) pass\n(?:.*\n)*? *(?<failed>\d+) fail\n(?:.*\n)*?Ran .*$/gm;

/** What runs over both wires on Bun, besides the files that see to it themselves: docs/internals.md. */
const BOTH_WIRES = /\/(?:cap|gate|half_close|max_connections|selection|sessions|tls)_test\.ts$/;

/**
 * How to start each runner, and how to read the lines that it closes with.
 *
 * @type {{
 *   name: "deno" | "bun", title?: string, command: string[], closing: RegExp,
 *   only?: RegExp, env?: Record<string, string>
 * }[]}
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
    closing: BUN_CLOSING,
  },
  {
    name: "bun",
    title: "bun, node:tls",
    command: ["test"],
    closing: BUN_CLOSING,
    only: BOTH_WIRES,
    env: { HTTPSD_WIRE: "node" },
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
for (const { name, title = name, command, closing, only = /^/, env } of runners) {
  const its = files.filter((file) => only.test(file));
  if (its.length === 0) continue;
  console.log(`\n--- ${title} ---`);
  let output = "";
  const code = await runRuntime(name, [...command, ...options, ...its], {
    env: { HTTPSD_RUNTIME: name, ...env },
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
  summary.push(`${title}: ${last?.[0].trim() ?? "no closing line"}`);
  if (!ran) summary.push(`${title} ran no test`);
  if (code !== 0) summary.push(`${title} exited with code ${code}`);
}
console.log(`\n${summary.join("\n")}\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

/** @returns {string[]} */
function allTests() {
  const names = readdirSync(`${root}/tests`, { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith("_test.ts")).sort().map((name) => `./tests/${name}`);
}
