/**
 * `node:fs`, loaded when it is first used: on Deno that takes longer than all of a server's own start,
 * and most servers open no file.
 *
 * @module
 */
import process from "node:process";
import { onFirstUse } from "./first_use.ts";

/** Gives `node:fs`. */
export const fileSystem: () => typeof import("node:fs") = onFirstUse(() =>
  process.getBuiltinModule("node:fs")
);
