/**
 * Every check but the tests: format, lint, types for both runtimes, documentation, publishing.
 * Runs them all and names those that failed.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { ensureInstalled, root, runtimeBinary } from "./runtimes.mjs";

const { exports } = JSON.parse(readFileSync(`${root}/deno.json`, "utf8"));
const checks = [
  ["deno", "fmt", "--check"],
  ["deno", "lint"],
  ["deno", "check", "."],
  ["tsc", "-p", "."],
  ["deno", "doc", "--quiet", "--lint", ...Object.values(exports)],
  ["deno", "publish", "--dry-run", "--allow-dirty"],
];

/** @type {Record<string, string[]>} */
const tools = {
  deno: [runtimeBinary("deno")],
  tsc: [process.execPath, "node_modules/typescript/bin/tsc"],
};

ensureInstalled();
const failed = checks.filter(([tool, ...args]) => {
  console.log(`\n--- ${tool} ${args.join(" ")} ---`);
  const [command, ...first] = tools[tool];
  return spawnSync(command, [...first, ...args], { cwd: root, stdio: "inherit" }).status !== 0;
});
for (const check of failed) console.error(`FAILED: ${check.join(" ")}`);
if (failed.length === 0) console.log(`\nAll ${checks.length} checks passed`);
process.exitCode = failed.length === 0 ? 0 : 1;
