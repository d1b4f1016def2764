import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ConfigError, HttpError, HttpsdError } from "../lib/errors.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

describe("errors", () => {
  test("every class has its name and code and is an HttpsdError", () => {
    const error = new ConfigError("INVALID_CONFIG", "Option port is 70000: use 0 to 65535");
    assert.ok(error instanceof HttpsdError && error instanceof Error);
    assert.equal(error.name, "ConfigError");
    assert.equal(error.code, "INVALID_CONFIG");
  });

  test("an HttpError keeps its status and its cause", () => {
    const cause = new Error("inner");
    const error = new HttpError(400, "BAD_REQUEST", "Bad request syntax", { cause });
    assert.equal(error.status, 400);
    assert.equal(error.code, "BAD_REQUEST");
    assert.equal(error.cause, cause);
  });
});

describe("docs/errors.md", () => {
  const root = new URL("../", import.meta.url);
  const page = readFileSync(new URL("docs/errors.md", root), "utf8");

  /** The codes of each class, as lib/errors.ts declares them. */
  const declared = new Map<string, string[]>();
  const source = readFileSync(new URL("lib/errors.ts", root), "utf8");
  for (const [, type, body] of source.matchAll(/^export type (\w+)Code =\n([^]*?);\n\n/gm)) {
    const codes = [...body!.matchAll(/^ {2}\| "(\w+)"/gm)].map(([, code]) => code!);
    if (codes.length > 0) declared.set(type === "CallbackError" ? "HttpsdError" : type!, codes);
  }

  test("has every class with exactly its codes, each with cause and cure", () => {
    assert.ok(declared.size >= 8);
    const documented = new Map<string, string[]>();
    for (const section of page.split(/^## /m).slice(1)) {
      const rows = [...section.matchAll(/^\| `(\w+)` +\| ([^|]*)\| ([^|]*)\|$/gm)];
      for (const [row, , cause, cure] of rows) assert.ok(cause!.trim() && cure!.trim(), row);
      documented.set(section.split("\n")[0]!, rows.map(([, code]) => code!).toSorted());
    }
    const sorted = [...declared].map(([type, codes]) => [type, codes.toSorted()]);
    assert.deepEqual(Object.fromEntries(documented), Object.fromEntries(sorted));
  });

  test("says which of them go to the console without a listener", () => {
    const source = readFileSync(new URL("lib/mistakes.ts", root), "utf8");
    const [, list] = /OWN_MISTAKES: [^[]*\[([^\]]*)\]/.exec(source)!;
    const mistakes = [...list!.matchAll(/"(\w+)"/g)].map(([, code]) => code!);
    assert.ok(mistakes.length >= 10);
    const [, listed] = /go to `console\.error`: ([^.]*)\./.exec(page.replaceAll("\n", " "))!;
    assert.deepEqual([...listed!.matchAll(/`(\w+)`/g)].map(([, code]) => code), mistakes);
  });

  test("is linked from the README", () => {
    assert.match(readFileSync(new URL("README.md", root), "utf8"), /\(docs\/errors\.md\)/);
  });
});
