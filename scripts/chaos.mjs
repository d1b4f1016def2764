/**
 * The chaos test for as long as wanted, on both runtimes one after the other:
 * `node scripts/chaos.mjs [--seconds 600] [--seed N] [--runtime deno|bun]`.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { ensureInstalled, runRuntime } from "./runtimes.mjs";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    runtime: { type: "string" },
  },
});
const env = { HTTPSD_CHAOS_SECONDS: values.seconds, HTTPSD_SEED: values.seed };
const test = "./tests/chaos_test.ts";
/** @type {["deno" | "bun", string[]][]} */
const commands = [["deno", ["test", "-A", test]], ["bun", ["test", test]]];

ensureInstalled();
console.log(`seed ${values.seed}`);
for (const [name, command] of commands) {
  if (values.runtime !== undefined && values.runtime !== name) continue;
  const code = await runRuntime(name, command, { env: { ...env, HTTPSD_RUNTIME: name } });
  if (code !== 0) process.exitCode = code;
}
