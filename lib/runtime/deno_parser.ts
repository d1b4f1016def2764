/**
 * Whether more of httpsd can be loaded when the process can open no more files: on Deno 2.9.6 that
 * may end the process.
 *
 * Deno parses TypeScript where it cannot open what it has kept of it, and its parser asks the system
 * for the size of the stack, once in a thread. Linux says that in a file, without which Deno panics.
 * So something is parsed before, by `stripTypeScriptTypes()` of `node:module`.
 *
 * Undocumented: that this is the same parser, in the same thread. A trial could only end the process
 * (tests/open_files_test.ts has one that may); where there is no such function, the fallback is that
 * nothing is loaded later. JavaScript, as of the npm package, is not parsed. Bun rejects the import,
 * which may be tried again.
 *
 * @module
 */
import * as nodeModule from "node:module";
import { runtime } from "./current.ts";
import { declareInternal, type InternalState } from "./internals.ts";

/** Takes the types out of TypeScript. */
type Strip = (code: string) => string;

/** What the parser asks for the size of the stack for. */
const NESTED = "if (0);";

let state: InternalState = runtime.name === "deno" && import.meta.url.endsWith(".ts")
  ? "untried"
  : "not needed";

declareInternal("denoParser", () => state);

/** Whether modules that are loaded later do no harm; makes sure that they do none, if it can. */
export function mayLoadLater(
  strip: Strip | undefined = (nodeModule as { stripTypeScriptTypes?: Strip }).stripTypeScriptTypes,
): boolean {
  if (state === "not needed") return true;
  try {
    strip!(NESTED);
    state = "in force";
  } catch {
    state = "fallback";
  }
  return state === "in force";
}
