/** Certificate names: normal form, RFC 9525 matching, and the table behind SNI. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { ConfigError } from "../lib/errors.ts";
import { NameTable, normalizeName } from "../lib/tls/names.ts";
import { assertRuntime } from "./runtime.ts";
import { countCpu, matchesName } from "./support.ts";

assertRuntime();

const LABEL_63 = "a".repeat(63);
const NAME_253 = `${`${LABEL_63}.`.repeat(3)}${"b".repeat(61)}`;

describe("normalizeName()", () => {
  for (
    const [name, expected] of [
      ["example.com", "example.com"],
      ["EXAMPLE.Com", "example.com"],
      ["example.com.", "example.com"],
      ["localhost", "localhost"],
      ["_dmarc.a_b.example", "_dmarc.a_b.example"],
      ["münchen.de", "xn--mnchen-3ya.de"],
      ["MÜNCHEN.DE.", "xn--mnchen-3ya.de"],
      ["XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"],
      ["faß.de", "xn--fa-hia.de"],
      ["\u212a.com", "k.com"], // the Kelvin sign
      ["1.2.3.4.example", "1.2.3.4.example"],
      [NAME_253, NAME_253],
      [`${NAME_253}.`, NAME_253],
    ] as const
  ) {
    test(`of ${JSON.stringify(name)}`, () => assert.equal(normalizeName(name), expected));
  }

  for (
    const name of [
      "",
      ".",
      "..",
      ".example.com",
      "a..b",
      "example.com..",
      "a b.com",
      "a\0.com",
      "a/b",
      "a:443",
      "user@a.com",
      "a%41.com",
      "ü%41.com",
      "ü/x",
      "*.example.com",
      "192.0.2.7",
      "192.0.2.7.",
      "::1",
      "[::1]",
      "２.2.2.2", // a full-width digit becomes an ASCII one
      "\u00ad",
      "\ud800.com",
      `${LABEL_63}a.com`,
      `${NAME_253}b`,
      "ü".repeat(250),
      "a.".repeat(100_000),
    ]
  ) {
    test(`refuses ${JSON.stringify(name.slice(0, 40))}`, () => {
      assert.equal(normalizeName(name), undefined);
    });
  }
});

describe("A certificate's name", () => {
  for (
    const [pattern, name, expected] of [
      ["example.com", "example.com", true],
      ["Example.COM.", "eXample.com", true],
      ["example.com", "www.example.com", false],
      ["www.example.com", "example.com", false],
      ["*.example.com", "www.example.com", true],
      ["*.EXAMPLE.com", "WWW.example.com.", true],
      ["*.example.com", "_x.example.com", true],
      ["*.example.com", "example.com", false],
      ["*.example.com", ".example.com", false],
      ["*.example.com", "a.b.example.com", false],
      ["*.example.com", "*.example.com", false],
      ["*.example.com", "www.example.org", false],
      ["*.example.com", "wwwexample.com", false],
      ["w*.example.com", "www.example.com", false],
      ["*w.example.com", "www.example.com", false],
      ["www.*.com", "www.example.com", false],
      ["*.*.example.com", "a.b.example.com", false],
      ["**.example.com", "www.example.com", false],
      ["*", "localhost", false],
      ["*.com", "example.com", false],
      ["*.com.", "example.com", false],
      ["*.", "a", false],
      ["*..com", "a..com", false],
      ["münchen.de", "xn--mnchen-3ya.de", true],
      ["*.münchen.de", "www.xn--mnchen-3ya.de", true],
      ["xn--mnchen-3ya.de", "MÜNCHEN.de", true],
      ["*.example.com", "xn--mnchen-3ya.example.com", true],
      ["xn--*.example.com", "xn--mnchen-3ya.example.com", false],
      ["192.0.2.7", "192.0.2.7", false],
      ["*.0.2.7", "192.0.2.7", false],
      ["::1", "::1", false],
      ["", "", false],
    ] as const
  ) {
    test(`"${pattern}" ${expected ? "is" : "is not"} one for "${name}"`, () => {
      assert.equal(matchesName(pattern, name), expected);
    });
  }
});

describe("NameTable", () => {
  test("prefers the exact name to the wildcard", () => {
    const table = new NameTable<string>().set("*.example.com", "any").set("www.example.com", "www");
    assert.equal(table.get("www.example.com"), "www");
    assert.equal(table.get("ftp.example.com"), "any");
    assert.equal(table.get("example.com"), undefined);
    assert.equal(table.get("*.example.com"), undefined);
  });

  test("set() replaces what is the same in normal form", () => {
    const table = new NameTable<number>();
    table.set("A.example.com.", 1).set("*.Example.com", 2).set("a.example.com", 3);
    assert.equal(table.get("a.example.com"), 3);
    assert.equal(table.get("A.EXAMPLE.com."), 3);
    assert.equal(table.get("b.example.com"), 2);
  });

  test("keeps a value of undefined apart from no value", () => {
    const table = new NameTable<number | undefined>();
    table.set("*.example.com", 1).set("a.example.com", undefined);
    assert.equal(table.get("a.example.com"), undefined);
  });

  test("knows no names of Object.prototype", () => {
    const table = new NameTable<string>().set("example.com", "value");
    for (const name of ["constructor", "__proto__", "toString", "has_own.__proto__"]) {
      assert.equal(table.get(name), undefined);
    }
    assert.equal(table.set("__proto__", "own").get("__proto__"), "own");
  });

  for (const pattern of ["*", "*.com", "w*.example.com", "192.0.2.7", "", "a b", "*.*.a.b"]) {
    test(`set() refuses "${pattern}"`, () => {
      assert.throws(() => new NameTable<number>().set(pattern, 1), (error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.code, "INVALID_CONFIG");
        return error.message.includes(`"${pattern}" is not a server name`);
      });
    });
  }

  test("costs the same to ask with 10,000 names as with 10", () => {
    const time = (count: number): number => {
      const table = new NameTable<number>();
      for (let i = 0; i < count; i++) table.set(`*.host${i}.example.com`, i);
      const rounds = Array.from({ length: 5 }, () => {
        const cpuMs = countCpu();
        for (let i = 0; i < 20_000; i++) table.get(`www.host${count - 1 - i % 10}.example.com`);
        return cpuMs();
      });
      return Math.min(...rounds);
    };
    time(10);
    const [few, many] = [time(10), time(10_000)];
    assert.ok(many < few * 20, `10,000 names: ${many} ms, 10 names: ${few} ms`); // a scan: × 1,000
  }, 30_000);
});
