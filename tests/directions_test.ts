/**
 * The check of the directions of imports: it finds what climbs, what goes round and what is in no
 * room, and finds nothing in the sources as they are.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** The script's exports; tsc, which does not read JavaScript, needs their types. */
const { checkDirections, readImports, readRooms }: {
  checkDirections(imports?: Map<string, string[]>, lines?: string[][]): string[];
  readImports(): Map<string, string[]>;
  readRooms(): string[][];
} = await import(new URL("../scripts/directions.mjs", import.meta.url).href);

const ROOMS = [["top.ts"], ["lib/upper/"], ["lib/left/", "lib/right/"], ["lib/"]];

function complaintsAbout(imports: Record<string, string[]>): string {
  return checkDirections(new Map(Object.entries(imports)), ROOMS).join("\n");
}

describe("checkDirections()", () => {
  test("finds nothing in lib/, and reads it", () => {
    assert.ok(readImports().get("lib/server.ts")!.length > 10);
    assert.ok(readRooms().length > 10);
    assert.deepEqual(checkDirections(), []);
  });

  test("finds nothing in HTTP's rooms that asks which runtime it is", () => {
    const asking = [...readImports()].filter(([, targets]) =>
      targets.includes("lib/runtime/current.ts")
    ).map(([file]) => file);
    assert.ok(asking.includes("lib/fetch/body_chunk.ts"));
    assert.deepEqual(asking.filter((file) => /^lib\/http[12]?\//.test(file)), []);
  });

  test("lets a file import from its own room and from below", () => {
    const imports = {
      "top.ts": ["lib/upper/a.ts", "lib/leaf.ts"],
      "lib/upper/a.ts": ["lib/upper/b.ts", "lib/left/c.ts"],
      "lib/upper/b.ts": ["lib/leaf.ts"],
      "lib/left/c.ts": ["lib/leaf.ts"],
      "lib/leaf.ts": [],
    };
    assert.equal(complaintsAbout(imports), "");
  });

  test("refuses an import that climbs", () => {
    assert.match(
      complaintsAbout({ "lib/upper/a.ts": [], "lib/leaf.ts": ["lib/upper/a.ts"] }),
      /^lib\/leaf\.ts imports lib\/upper\/a\.ts, which /,
    );
  });

  test("refuses an import of a room on the same line", () => {
    assert.match(
      complaintsAbout({ "lib/left/a.ts": ["lib/right/b.ts"], "lib/right/b.ts": [] }),
      /^lib\/left\/a\.ts imports lib\/right\/b\.ts, which /,
    );
  });

  test("refuses a circle within one room", () => {
    assert.equal(
      complaintsAbout({
        "lib/a.ts": ["lib/b.ts"],
        "lib/b.ts": ["lib/c.ts"],
        "lib/c.ts": ["lib/a.ts"],
      }),
      "A circle: lib/a.ts → lib/b.ts → lib/c.ts",
    );
  });

  test("refuses a file in no room", () => {
    assert.match(complaintsAbout({ "elsewhere.ts": [] }), /^elsewhere\.ts is in no room /);
  });
});
