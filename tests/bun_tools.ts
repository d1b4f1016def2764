/**
 * What Bun itself has of what `lib/runtime/bun_response.ts` is made of, for tests that replace a part.
 *
 * @module
 */
import { isAscii } from "node:buffer";
import type { BunTools } from "../lib/runtime/bun_response.ts";

/** Bun's own tools; on Bun alone. */
export function bunTools(): BunTools {
  const { Bun, process } = globalThis as unknown as {
    Bun: BunTools;
    process: {
      getBuiltinModule(name: string): { estimateShallowMemoryUsageOf(it: object): number };
    };
  };
  const { estimateShallowMemoryUsageOf: sizeOf } = process.getBuiltinModule("bun:jsc");
  return { sizeOf, peek: Bun.peek, inspect: (value) => Bun.inspect(value), isAscii };
}
