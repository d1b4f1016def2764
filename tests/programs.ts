/**
 * Tests that need a program of the machine.
 *
 * @module
 */
import { test } from "bun:test";
import { spawnSync } from "node:child_process";
import process from "node:process";

/** Registers a test that may take up to `timeoutMs`. */
export type ProgramTest = (name: string, body: () => Promise<void>, timeoutMs: number) => void;

/**
 * Returns what registers tests that need a program. Where there is none they are left out, loudly;
 * in continuous integration they fail.
 */
export function testsWith(program: string): ProgramTest {
  const runs = Boolean(process.env["CI"]) || spawnSync(program, ["--version"]).status === 0;
  if (!runs) console.warn(`Tests with ${program} are left out: there is none on this machine`);
  return (name, body, timeoutMs) => {
    if (runs) test(name, body, timeoutMs);
  };
}
