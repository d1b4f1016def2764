/**
 * Fuzzes everything that meets foreign bytes, on both runtimes at the same time:
 * `node scripts/fuzz.mjs [--seconds 60] [--seed N] [--runtime deno|bun] [targets]`. Without targets
 * the time is shared by all. What breaks is printed as an entry for tests/cases/fuzz.json.
 */
import process from "node:process";
import { ensureInstalled, runRuntime } from "./runtimes.mjs";

const args = process.argv.slice(2);
const at = args.indexOf("--runtime");
const only = at < 0 ? undefined : args.splice(at, 2)[1];
if (!args.includes("--seed")) args.unshift("--seed", String(Date.now() % 2 ** 31));

ensureInstalled();
const main = "./tests/fuzz/main.ts";
/** @type {["deno" | "bun", string[]][]} */
const commands = [["deno", ["run", "-A", main, ...args]], ["bun", [main, ...args]]];
const codes = await Promise.all(
  commands.filter(([name]) => only === undefined || name === only).map(([name, command]) =>
    runRuntime(name, command, {
      onOutput: (text) => void process.stdout.write(text.replace(/^(?=.)/gm, `${name} `)),
    })
  ),
);
process.exitCode = codes.length === 0 ? 2 : Math.max(...codes);
