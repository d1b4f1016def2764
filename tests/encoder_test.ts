/** HTTP/1.1 heads, sans I/O: what is remembered of lines never shows, and every line is checked. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { beginHead, encodeHead, lengthLine } from "../lib/http1/encoder.ts";
import { readRequestLine, RequestLine } from "../lib/http1/request_line.ts";
import { RequestParser, Step } from "../lib/http1/parser.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const NAMES = ["Content-Type", "content-type", "CONTENT-TYPE", "X-Type-Lines", "X-A"];
const VALUES = ["text/html", "text/plain;charset=utf-8", "a/ü", "", "x"];

const limits = {
  maxUriBytes: 100,
  maxHeaderBytes: 1_000,
  maxHeaderFields: 10,
  maxBodyBytes: 1_000,
  maxChunkExtBytes: 0,
  maxTrailerBytes: 0,
};

/** A head as it has to be, made without remembering anything. */
function expected(status: string, fields: readonly (readonly [string, string])[]): string {
  return `HTTP/1.1 ${status}\r\n${fields.map(([n, v]) => `${n}: ${v}\r\n`).join("")}\r\n`;
}

describe("the encoder", () => {
  test("gives the lines of this head, whatever the last ones had", () => {
    const random = new Random(20261127);
    for (let i = 0; i < 3_000; i++) {
      const fields = Array.from(
        { length: random.below(4) },
        () => [random.pick(NAMES), random.pick(VALUES)] as const,
      );
      const head = encodeHead(200, fields);
      const isText = typeof head === "string";
      assert.equal(isText, !fields.some(([, value]) => value === "a/ü"));
      const text = isText ? head : Buffer.from(head).toString("latin1");
      assert.equal(text, expected("200 OK", fields));
    }
  });

  test("refuses an empty name and a bad value also where a type was sent before", () => {
    const refused = [["", ""], ["Content-Type", "a\r\nb"], ["Content-Type\r\n", "x"]] as const;
    for (let round = 0; round < 2; round++) {
      for (const [name, value] of refused) {
        assert.throws(() => beginHead(200, undefined).field(name, value), { code: "BAD_RESPONSE" });
      }
      encodeHead(200, [["Content-Type", "a/b"]]);
    }
  });

  test("says every length", () => {
    for (const length of [0, 1, 11, 999, 1_000, 1_001, 2 ** 40, 11, 0]) {
      assert.equal(lengthLine(length), `Content-Length: ${length}\r\n`);
    }
  });
});

describe("a connection's request line", () => {
  test("has nothing of the one before", () => {
    const line = new RequestLine();
    readRequestLine("GET http://a.example:1/b?c", 3, 1, 0, line);
    assert.deepEqual({ ...line }, {
      method: "GET",
      target: "http://a.example:1/b?c",
      minorVersion: 0,
      form: "absolute",
      path: "/b",
      query: "c",
      authority: "a.example:1",
    });
    readRequestLine("PUT /d", 3, 1, 1, line);
    assert.deepEqual({ ...line }, {
      method: "PUT",
      target: "/d",
      minorVersion: 1,
      form: "origin",
      path: "/d",
      query: "",
      authority: undefined,
    });
    line.clear();
    assert.deepEqual([line.method, line.target, line.path, line.query], ["", "", "", ""]);
  });

  test("and its fields are its own, on connections that take turns", () => {
    const heads = [
      "GET /one?a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      "POST /two HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    ];
    const parsers = heads.map(() => new RequestParser(limits));
    const longest = Math.max(...heads.map(({ length }) => length));
    const facts: unknown[] = [];
    for (let at = 0; at < longest; at++) {
      for (const [i, parser] of parsers.entries()) {
        const byte = heads[i]!.slice(at, at + 1);
        if (byte === "") continue;
        parser.push(Buffer.from(byte));
        if (parser.next() !== Step.Head) continue;
        const { method, path, query, host, keepAlive, expectContinue, contentLength } = parser.head;
        facts[i] = [method, path, query, host, keepAlive, expectContinue, contentLength];
      }
    }
    assert.deepEqual(facts, [
      ["GET", "/one", "a", undefined, true, false, undefined],
      ["POST", "/two", "", "b", true, true, 3],
    ]);
  });
});

describe("a head that is kept", () => {
  test("has its own fields, whatever came behind it and however it was cut", () => {
    const random = new Random(20261129);
    const parser = new RequestParser(limits);
    const kept: [head: RequestParser["head"], fields: [string, string][], raw: string][] = [];
    for (let i = 0; i < 500; i++) {
      const fields: [string, string][] = Array.from(
        { length: random.below(6) },
        (_, k) => [`X-${"n".repeat(random.below(4))}${k}`, "v".repeat(random.below(5)) + i],
      );
      fields.splice(random.below(fields.length + 1), 0, ["Host", `host${i % 3}`]);
      const target = i % 5 === 0 ? `http://other${i}/` : `/${i}`;
      const lines = fields.map(([name, value]) => `${name}: \t${value} \r\n`).join("");
      const bytes = Buffer.from(
        `${i % 7 === 0 ? "\r\n" : ""}GET ${target} HTTP/1.1\r\n${lines}\r\n`,
      );
      const cut = random.below(2) === 0 ? bytes.length : random.below(bytes.length);
      const steps: Step[] = [];
      for (const piece of [bytes.subarray(0, cut), bytes.subarray(cut)]) {
        parser.push(piece);
        for (let step; (step = parser.next()) !== Step.Need;) {
          steps.push(step);
          if (step === Step.Head) {
            kept.push([parser.head, fields, `GET ${target} HTTP/1.1\r\n${lines}\r\n`]);
          }
        }
      }
      assert.deepEqual(steps, [Step.Head, Step.End]);
      if (random.below(3) === 0) check(kept[i]!, i); // also before the next has come
    }
    for (const [i, each] of kept.entries()) check(each, i);
  });

  function check(
    [head, fields, raw]: [RequestParser["head"], [string, string][], string],
    i: number,
  ): void {
    const host = i % 5 === 0 ? `other${i}` : `host${i % 3}`;
    const expected = fields.map(([name, value]) => [name, name === "Host" ? host : value]);
    const got = Array.from(
      { length: head.fieldCount },
      (_, k) => [head.fieldName(k), head.fieldValue(k)],
    );
    assert.deepEqual(got, expected);
    assert.deepEqual([head.host, head.get("host"), head.getAll("host")], [host, host, [host]]);
    assert.throws(() => head.fieldName(fields.length), RangeError);
    assert.throws(() => head.fieldValue(-1), RangeError);
    if (i % 2 === 0) assert.equal(Buffer.from(head.raw).toString("latin1"), raw);
  }
});
