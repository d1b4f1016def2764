/** Which runtime runs these tests; every file asserts that it is the one it was started for. */
import assert from "node:assert/strict";
import { setDefaultTimeout, test } from "bun:test";
import process from "node:process";

/** The runtime that runs the tests. */
export const runtime: "deno" | "bun" = "Deno" in globalThis ? "deno" : "bun";

/**
 * Has Deno run a program of a test on the packages that are installed. Otherwise it takes them from its
 * cache, which on a fresh machine it fills from the registry first, and says so among the output.
 */
export const PINNED = "--node-modules-dir=manual";

/**
 * When a test is ended that does not say otherwise, in ms: it hangs. How long its work takes is not
 * judged, since that depends on what else the machine does. It is shorter than what servers wait by
 * default for a handshake, a head, or a client that does not read.
 */
const HANGS_MS = 9_500;

/** When what is made before a file's tests is given up, in ms: other programs run for it. */
export const PREPARED_MS = 60_000;

/** How long tests wait for something that is to come, in ms: what is awaited is then named. */
export const PATIENCE_MS = 8_500;

/**
 * Registers the test that the file runs where the runner says; `HTTPSD_RUNTIME` names it. Has to be
 * called before the file's other tests are registered: they get their time here.
 */
export function assertRuntime(): void {
  setDefaultTimeout(HANGS_MS);
  test(`runs on ${runtime}`, () => {
    assert.equal("Bun" in globalThis ? "bun" : "deno", runtime);
    const expected = process.env["HTTPSD_RUNTIME"];
    if (expected !== undefined) assert.equal(runtime, expected);
  });
}
