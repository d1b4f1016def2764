import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "bun:test";
import { matchExact, matchWildcard } from "../lib/httpd/matcher.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** The table of the original's own unit test. */
const TABLE: [template: string, path: string, matches: boolean][] = JSON.parse(
  readFileSync(new URL("./cases/uri_match.json", import.meta.url), "utf8"),
);

describe("matchWildcard()", () => {
  test("has all rows of the original's table", () => assert.equal(TABLE.length, 37));

  for (const [template, path, matches] of TABLE) {
    test(`${template} is ${matches ? "" : "not "}for ${path}`, () => {
      assert.equal(matchWildcard(template, path), matches);
    });
  }

  test("keeps what the original's header promises of /api", () => {
    for (const template of ["/api/?*", "/api/*?"]) {
      const matched = ["/api/", "/api/status", "/api", "/apix", "/ap"]
        .filter((path) => matchWildcard(template, path));
      assert.deepEqual(matched, ["/api/", "/api/status", "/api"]);
    }
  });

  test("takes ? and * before the end literally", () => {
    assert.ok(matchWildcard("/a?b", "/a?b"));
    assert.ok(!matchWildcard("/a?b", "/ab"));
    assert.ok(matchWildcard("/a??", "/a"), "the second ? is the character that may be missing");
  });
});

describe("matchExact()", () => {
  test("compares the text alone", () => {
    assert.ok(matchExact("/a", "/a"));
    assert.ok(!matchExact("/a", "/A"));
    assert.ok(!matchExact("/a", "/%61"));
  });
});
