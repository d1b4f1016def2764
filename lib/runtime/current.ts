/**
 * Which runtime this is.
 *
 * @module
 */

/** A JavaScript runtime that httpsd knows. */
export type RuntimeName = "deno" | "bun" | "node";

/** The running runtime. */
export interface Runtime {
  /** Its name. */
  readonly name: RuntimeName;
  /** Its version, as `major.minor.patch`. */
  readonly version: string;
}

/** The running runtime, read once. */
export const runtime: Runtime = detectRuntime();

function detectRuntime(): Runtime {
  const scope = globalThis as {
    Bun?: { version: string };
    Deno?: { version: { deno: string } };
    process?: { versions: { node: string } };
  };
  if (scope.Bun !== undefined) return { name: "bun", version: scope.Bun.version };
  if (scope.Deno !== undefined) return { name: "deno", version: scope.Deno.version.deno };
  return { name: "node", version: scope.process?.versions.node ?? "0.0.0" };
}
