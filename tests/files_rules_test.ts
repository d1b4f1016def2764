/** The rules under `serveFiles()`, without a file: ranges, dates, preconditions, content types. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "bun:test";
import { evaluatePreconditions, ifRangeHolds } from "../lib/web/conditional.ts";
import { contentTypeOf, isCompressible } from "../lib/web/content_types.ts";
import { formatHttpDate, parseHttpDate } from "../lib/web/http_date.ts";
import { selectRanges } from "../lib/web/ranges.ts";
import type { Fields } from "./files_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

describe("selectRanges()", () => {
  interface RangeCase {
    name: string;
    field: string;
    size?: number;
    expect: [number, number][] | "unsatisfiable" | "ignored";
  }
  const { cases } = JSON.parse(
    readFileSync(new URL("cases/ranges.json", import.meta.url), "utf8"),
  ) as { cases: RangeCase[] };
  for (const { name, field, size = 100, expect } of cases) {
    test(name, () => {
      const result = selectRanges(field, size, 4);
      const found = typeof result === "object"
        ? result.map(({ start, end }) => [start, end - 1])
        : result ?? "ignored";
      assert.deepEqual(found, expect);
    });
  }

  test("never gives more bytes than there are, whatever is asked", () => {
    let seed = 1;
    const random = (below: number) => (seed = seed * 48271 % 2147483647) % below;
    for (let round = 0; round < 2000; round++) {
      const specs = Array.from({ length: 1 + random(16) }, () => {
        const [a, b] = [random(120), random(120)];
        return ["-" + a, `${a}-`, `${Math.min(a, b)}-${Math.max(a, b)}`][random(3)];
      });
      const ranges = selectRanges(`bytes=${specs}`, 100, 16);
      if (!Array.isArray(ranges)) continue;
      const covered = new Set<number>();
      for (const { start, end } of ranges) {
        assert.ok(start >= 0 && start < end && end <= 100, `${specs}`);
        for (let at = start; at < end; at++) {
          assert.ok(!covered.has(at), `${specs} gives byte ${at} twice`);
          covered.add(at);
        }
      }
    }
  });

  test("reads a field of 10 MB at once", () => {
    assert.equal(selectRanges(`bytes=${"0-0,".repeat(2_500_000)}`, 100, 16), "unsatisfiable");
    assert.equal(selectRanges(`bytes=${" ".repeat(10_000_000)}x`, 100, 16), undefined);
  });
});

describe("parseHttpDate()", () => {
  const time = Date.UTC(1994, 10, 6, 8, 49, 37);
  test("reads the three forms", () => {
    assert.equal(parseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT"), time);
    assert.equal(parseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT"), time);
    assert.equal(parseHttpDate("Sun Nov  6 08:49:37 1994"), time);
    assert.equal(parseHttpDate(formatHttpDate(time)), time);
  });
  for (
    const text of [
      "",
      "1994-11-06T08:49:37Z",
      "0",
      "Sun, 06 Nov 1994 08:49:37",
      "Sun, 06 Nov 1994 24:00:00 GMT",
      "Sun, 31 Feb 1994 08:49:37 GMT",
      "Sun, 06 Foo 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49:37 GMT ",
    ]
  ) test(`refuses ${JSON.stringify(text)}`, () => assert.equal(parseHttpDate(text), undefined));
});

describe("evaluatePreconditions()", () => {
  const at = Date.UTC(2024, 0, 1);
  const [before, same, after] = [-1000, 0, 1000].map((ms) => formatHttpDate(at + ms)) as [
    string,
    string,
    string,
  ];
  const strong = { etag: '"a"', lastModified: at, settled: true };
  const weak = { etag: 'W/"a"', lastModified: at, settled: false };
  const table: [name: string, fields: Fields, forStrong: string, forWeak: string][] = [
    ["nothing", {}, "proceed", "proceed"],
    ["If-Match with the tag", { "if-match": '"a"' }, "proceed", "failed"],
    ["If-Match with the weak tag", { "if-match": 'W/"a"' }, "failed", "failed"],
    ["If-Match with a list", { "if-match": '"x, y", "a"' }, "proceed", "failed"],
    ["If-Match with any", { "if-match": "*" }, "proceed", "proceed"],
    ["If-Match with another", { "if-match": '"b"' }, "failed", "failed"],
    ["If-Match with no tag", { "if-match": "a" }, "failed", "failed"],
    ["If-Unmodified-Since before", { "if-unmodified-since": before }, "failed", "failed"],
    ["If-Unmodified-Since same", { "if-unmodified-since": same }, "proceed", "proceed"],
    ["If-Unmodified-Since garbage", { "if-unmodified-since": "yesterday" }, "proceed", "proceed"],
    [
      "If-Match wins over If-Unmodified-Since",
      { "if-match": "*", "if-unmodified-since": before },
      "proceed",
      "proceed",
    ],
    ["If-None-Match with the tag", { "if-none-match": '"a"' }, "not-modified", "not-modified"],
    ["If-None-Match weakly", { "if-none-match": '"b", W/"a"' }, "not-modified", "not-modified"],
    ["If-None-Match with any", { "if-none-match": "*" }, "not-modified", "not-modified"],
    ["If-None-Match with another", { "if-none-match": '"b"' }, "proceed", "proceed"],
    ["a comma within a tag", { "if-none-match": '"x,"a",y"' }, "proceed", "proceed"],
    ["If-Modified-Since before", { "if-modified-since": before }, "proceed", "proceed"],
    ["If-Modified-Since same", { "if-modified-since": same }, "not-modified", "proceed"],
    ["If-Modified-Since after", { "if-modified-since": after }, "not-modified", "proceed"],
    ["If-Modified-Since garbage", { "if-modified-since": "now" }, "proceed", "proceed"],
    [
      "If-None-Match wins over If-Modified-Since",
      { "if-none-match": '"b"', "if-modified-since": after },
      "proceed",
      "proceed",
    ],
    [
      "If-Match comes before If-None-Match",
      { "if-match": '"b"', "if-none-match": '"a"' },
      "failed",
      "failed",
    ],
    [
      "If-Unmodified-Since comes before If-None-Match",
      { "if-unmodified-since": before, "if-none-match": '"a"' },
      "failed",
      "failed",
    ],
  ];
  for (const [name, fields, forStrong, forWeak] of table) {
    test(name, () => {
      const headers = new Headers(fields);
      assert.equal(evaluatePreconditions(headers, strong), forStrong);
      assert.equal(evaluatePreconditions(headers, weak), forWeak);
    });
  }

  test("ifRangeHolds() takes strong validators only", () => {
    for (const [field, holds] of [[null, true], ['"a"', true], [same, true]] as const) {
      assert.equal(ifRangeHolds(field, strong), holds);
    }
    for (const field of ['W/"a"', '"b"', '"b", "a"', before, after, "a", ""]) {
      assert.equal(ifRangeHolds(field, strong), false, field);
    }
    for (const field of ['W/"a"', '"a"', same]) assert.equal(ifRangeHolds(field, weak), false);
  });
});

describe("content types", () => {
  test("are found by the last extension, in any letter case", () => {
    assert.equal(contentTypeOf("a.tar.GZ"), "application/gzip");
    assert.equal(contentTypeOf("INDEX.HTML"), "text/html; charset=utf-8");
    assert.equal(contentTypeOf("x.mjs"), "text/javascript; charset=utf-8");
    assert.equal(contentTypeOf("noextension"), undefined);
  });
  test("cannot be taken from Object.prototype", () => {
    assert.equal(contentTypeOf("file.constructor"), undefined);
  });

  test("are all that Hono knows, without Hono", async () => {
    const { mimes } = await import("hono/utils/mime");
    for (const [extension, type] of Object.entries(mimes)) {
      assert.equal(contentTypeOf(`a.${extension}`), type);
    }
    const web = join(import.meta.dirname!, "../lib/web");
    for (const name of readdirSync(web).filter((name) => name.endsWith(".ts"))) {
      assert.doesNotMatch(readFileSync(join(web, name), "utf8"), /from "hono/, name);
    }
  });
  test("say what is worth compressing", () => {
    for (
      const type of ["text/html; charset=utf-8", "application/json", "IMAGE/SVG+XML", "text/x"]
    ) {
      assert.ok(isCompressible(type), type);
    }
    for (const type of ["image/png", "video/mp4", "text/event-stream", "", "application/zip"]) {
      assert.ok(!isCompressible(type), type);
    }
  });
});
