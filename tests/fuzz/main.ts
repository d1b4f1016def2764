/**
 * Fuzzes for the time that it is given, on the runtime that runs it: `npm run fuzz`, which starts it,
 * has the options.
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { fuzz } from "./engine.ts";
import { targets } from "./targets.ts";

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  options: { seconds: { type: "string", default: "60" }, seed: { type: "string" } },
  allowPositionals: true,
});
const seconds = Number(values.seconds);
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const unknown = positionals.filter((name) => !targets.some((target) => target.name === name));
if (unknown.length > 0 || !(seconds > 0) || !Number.isInteger(seed)) {
  console.error(
    `Usage: npm run fuzz -- [--seconds 60] [--seed N] [${targets.map((t) => t.name).join("|")}]`,
  );
  process.exit(2);
}
const chosen = targets.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
let failed = 0;
for (const target of chosen) {
  try {
    const { inputs, outcomes } = await fuzz(target, seed, seconds * 1000 / chosen.length);
    console.log(`${target.name}: ${inputs} inputs, ${outcomes} outcomes, seed ${seed}`);
  } catch (error) {
    failed++;
    console.error((error as Error).message);
  }
}
process.exit(failed > 0 ? 1 : 0);
