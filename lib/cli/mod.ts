/**
 * The `httpsd` command, for `deno run -A jsr:@httpsd/httpsd/cli`; npm's `httpsd` begins in bin.ts.
 *
 * @module
 */
import process from "node:process";
import { main } from "./main.ts";

export { main } from "./main.ts";

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
