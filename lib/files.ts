/**
 * `node:fs`, loaded when it is first used: on Deno that takes longer than all of a server's own start,
 * and most servers open no file. And whether a file may be looked at that the program has not named.
 *
 * @module
 */
import process from "node:process";
import { onFirstUse } from "./first_use.ts";

/** Gives `node:fs`. */
export const fileSystem: () => typeof import("node:fs") = onFirstUse(() =>
  process.getBuiltinModule("node:fs")
);

/** Whether `path` can be read without asking the user for a permission, as Deno does on a terminal. */
export function mayRead(path: string): boolean {
  const { Deno } = globalThis as {
    Deno?: { permissions: { querySync(it: object): { state: string } } };
  };
  return Deno === undefined ||
    Deno.permissions.querySync({ name: "read", path }).state === "granted";
}
