/**
 * Every check but the tests: format, lint, the directions of imports, types for both runtimes, documentation, the public API,
 * publishing to JSR, the npm package, its sizes. Runs them all and names those that failed.
 *
 * `node scripts/check.mjs --update` first writes the public API as it is now to docs/api.txt.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describeApi } from "./api.mjs";
import { checkDirections } from "./directions.mjs";
import { ensureInstalled, PINNED, root, runtimeBinary } from "./runtimes.mjs";
import { checkSizes } from "./sizes.mjs";

const { exports } = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
const apiFile = join(root, "docs/api.txt");

/** @type {[name: string, check: () => boolean][]} */
const checks = [
  ["deno fmt", () => run(runtimeBinary("deno"), "fmt", "--check")],
  ["deno lint", () => run(runtimeBinary("deno"), "lint")],
  ["directions", directions],
  ["deno check", () => run(runtimeBinary("deno"), "check", PINNED, ".")],
  ["tsc", () => run(process.execPath, "node_modules/typescript/bin/tsc", "-p", ".")],
  ["deno doc --lint", lintDocumentation],
  ["docs/api.txt", compareApi],
  ["deno publish", () => run(runtimeBinary("deno"), "publish", "--dry-run", "--allow-dirty")],
  ["npm package", build],
  ["sizes", checkSizes],
];

ensureInstalled();
if (process.argv.includes("--update")) writeFileSync(apiFile, describeApi());
const failed = checks.filter(([name, check]) => {
  console.log(`\n--- ${name} ---`);
  return !check();
});
for (const [name] of failed) console.error(`FAILED: ${name}`);
if (failed.length === 0) console.log(`\nAll ${checks.length} checks passed`);
process.exitCode = failed.length === 0 ? 0 : 1;

/**
 * @param {string} command
 * @param {string[]} args
 */
function run(command, ...args) {
  return spawnSync(command, args, { cwd: root, stdio: "inherit" }).status === 0;
}

/** Whether every import goes down in the table of rooms of CONTRIBUTING.md. */
function directions() {
  const complaints = checkDirections();
  for (const complaint of complaints) console.error(complaint);
  return complaints.length === 0;
}

/** Types of peers are public in node_modules, where the linter takes them for private ones of ours. */
function lintDocumentation() {
  const peers =
    /references private type '(?:(?:Context|ConnInfo|MiddlewareHandler|UpgradeWebSocket)'\n.*lib\/hono\/|(?:TracerProvider|MeterProvider)'\n.*lib\/telemetry\/)/;
  const { status, stderr } = spawnSync(
    runtimeBinary("deno"),
    ["doc", "--quiet", "--lint", ...Object.values(exports)],
    { cwd: root, encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } },
  );
  const complaints = stderr.split(/^(?=error)/m).filter((text) => text.startsWith("error["));
  const ours = complaints.filter((text) => !peers.test(text));
  console.log(ours.join("") || `${complaints.length} complaints about types of peers left out`);
  if (status === 0 || complaints.length > 0) return ours.length === 0;
  console.error(stderr);
  return false;
}

/** Whether the public API is what docs/api.txt says. */
function compareApi() {
  const api = describeApi();
  if (api === readFileSync(apiFile, "utf8")) return true;
  spawnSync("diff", ["-u", apiFile, "-"], { input: api, stdio: ["pipe", "inherit", "inherit"] });
  console.log("The public API has changed. If it was meant to: node scripts/check.mjs --update");
  return false;
}

/** Whether the npm package can be built and packed; tests/package_test.ts tries it out. */
function build() {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-build-"));
  try {
    return run(process.execPath, "scripts/build.mjs", folder) &&
      run("npm", "pack", "--dry-run", "--silent", folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
