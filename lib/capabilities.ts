/**
 * What the running runtime is, and what it can do of all that the options may ask.
 *
 * @module
 */
import { ConfigError } from "./errors.ts";

/** A JavaScript runtime that httpsd knows. */
export type RuntimeName = "deno" | "bun" | "node";

/** The running runtime. */
export interface Runtime {
  /** Its name. */
  readonly name: RuntimeName;
  /** Its version, as `major.minor.patch`. */
  readonly version: string;
}

/** The oldest versions that the test suite has passed on. */
const OLDEST: Record<RuntimeName, string> = { deno: "2.9.6", bun: "1.4.5", node: "24.0.0" };

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

/**
 * Throws when the runtime is older than the oldest one that works: older versions of Bun ignore
 * certificate selection in silence, which no server may do.
 *
 * @throws {ConfigError} `NOT_SUPPORTED`
 */
export function assertRuntime(current: Runtime = runtime): void {
  const oldest = OLDEST[current.name];
  if (compareVersions(current.version, oldest) >= 0) return;
  throw new ConfigError(
    "NOT_SUPPORTED",
    `${current.name} ${current.version} is too old: use ${current.name} ${oldest} or newer`,
  );
}

function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(/[.+-]/).map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
