/** Which runtime runs these tests; every file asserts that it is the one it was started for. */
import assert from "node:assert/strict";
import { test } from "bun:test";
import process from "node:process";

/** The runtime that runs the tests. */
export const runtime: "deno" | "bun" = "Deno" in globalThis ? "deno" : "bun";

/** Registers the test that the file runs where the runner says; `HTTPSD_RUNTIME` names it. */
export function assertRuntime(): void {
  test(`runs on ${runtime}`, () => {
    assert.equal("Bun" in globalThis ? "bun" : "deno", runtime);
    const expected = process.env["HTTPSD_RUNTIME"];
    if (expected !== undefined) assert.equal(runtime, expected);
  });
}
