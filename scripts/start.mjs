/**
 * Runs an example: `node scripts/start.mjs <deno|bun> [file] [arguments]`; examples/simple.ts if no
 * file is named.
 */
import process from "node:process";
import { ensureInstalled, PINNED, runRuntime } from "./runtimes.mjs";

const [runtime, file = "examples/simple.ts", ...args] = process.argv.slice(2);
if (runtime !== "deno" && runtime !== "bun") {
  console.error("Usage: node scripts/start.mjs <deno|bun> [file] [arguments]");
  process.exit(2);
}
ensureInstalled();
const run = runtime === "deno" ? ["run", "-A", PINNED, file] : [file];
process.exitCode = await runRuntime(runtime, [...run, ...args]);
