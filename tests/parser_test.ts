import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { type ParserLimits, RequestParser, Step } from "../lib/http1/parser.ts";
import { type HttpCase, loadCases } from "./cases_loader.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const LIMITS: ParserLimits = {
  maxUriBytes: 8192,
  maxHeaderBytes: 16_384,
  maxHeaderFields: 100,
  maxBodyBytes: Infinity,
  maxChunkExtBytes: 4096,
  maxTrailerBytes: 8192,
};

/** Inputs up to this length are cut at every position, longer ones at some. */
const MAX_ALL_CUTS = 2048;

/** Everything that a parser said about some bytes. */
interface Outcome {
  requests: Record<string, unknown>[];
  error: { status: number; code: string } | undefined;
  incomplete: boolean;
  /** What a request that never ended had given out. */
  unfinished: Record<string, unknown> | undefined;
}

const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "latin1"));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

function describeHead(parser: RequestParser): Record<string, unknown> {
  const head = parser.head;
  const fields = Array.from(
    { length: head.fieldCount },
    (_, i) => [head.fieldName(i), head.fieldValue(i)],
  );
  return {
    method: head.method,
    target: head.target,
    minorVersion: head.minorVersion,
    form: head.form,
    path: head.path,
    query: head.query,
    host: head.host ?? null,
    contentLength: head.contentLength ?? null,
    chunked: head.chunked,
    keepAlive: head.keepAlive,
    expectContinue: head.expectContinue,
    upgrade: head.upgrade,
    fields,
    bytes: textOf(head.raw),
    body: "",
    trailers: [],
  };
}

/** Pushes the pieces one after the other and notes all that comes out. */
function parse(pieces: Iterable<Uint8Array>, limits: Partial<ParserLimits> = {}): Outcome {
  const parser = new RequestParser({ ...LIMITS, ...limits });
  const outcome: Outcome = {
    requests: [],
    error: undefined,
    incomplete: false,
    unfinished: undefined,
  };
  for (const piece of pieces) {
    parser.push(piece);
    let step = parser.next();
    for (; step !== Step.Need && step !== Step.Fail; step = parser.next()) {
      if (step === Step.Head) {
        assert.equal(outcome.unfinished, undefined, "a head inside a request");
        outcome.unfinished = describeHead(parser);
      } else if (step === Step.Data) {
        assert.ok(parser.data.length > 0, "empty data");
        outcome.unfinished!["body"] += textOf(parser.data);
      } else {
        outcome.unfinished!["trailers"] = parser.trailers;
        outcome.requests.push(outcome.unfinished!);
        outcome.unfinished = undefined;
      }
    }
    if (step === Step.Fail) {
      outcome.error = { status: parser.error.status, code: parser.error.code };
      break;
    }
  }
  outcome.incomplete = parser.incomplete;
  return outcome;
}

/** Places the bytes between others that a parser must not look at. */
function piece(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const room = new Uint8Array(end - start + 6).fill(0x41);
  room.set(bytes.subarray(start, end), 3);
  return room.subarray(3, 3 + end - start);
}

function* everyByte(bytes: Uint8Array): Generator<Uint8Array> {
  for (let i = 0; i < bytes.length; i++) yield piece(bytes, i, i + 1);
}

const cutAt = (bytes: Uint8Array, at: number): Uint8Array[] => [
  piece(bytes, 0, at),
  piece(bytes, at, bytes.length),
];

function cuts(length: number): number[] {
  if (length <= MAX_ALL_CUTS) return Array.from({ length: length + 1 }, (_, i) => i);
  const some = Array.from({ length: 24 }, (_, i) => Math.floor(i * length / 23));
  const near = [1, 2, 3, 4, 5].flatMap((i) => [i, length - i]);
  return [...some, ...near];
}

function checkCase(item: HttpCase): void {
  const whole = parse([piece(item.input, 0, item.input.length)], item.limits);
  assert.deepEqual(whole.error, item.error);
  assert.equal(whole.incomplete, item.incomplete);
  assert.equal(whole.requests.length, item.requests.length, "number of requests");
  item.requests.forEach((expected, i) => {
    for (const [key, value] of Object.entries(expected)) {
      assert.deepEqual(whole.requests[i]![key], value, key);
    }
  });
  const expected = JSON.stringify(whole);
  assert.equal(JSON.stringify(parse(everyByte(item.input), item.limits)), expected, "byte by byte");
  for (const at of cuts(item.input.length)) {
    const cut = JSON.stringify(parse(cutAt(item.input, at), item.limits));
    if (cut !== expected) assert.equal(cut, expected, `cut at ${at}`);
  }
}

const cases = loadCases();

describe("RequestParser takes the wire cases, however they are cut", () => {
  const files = new Set(cases.map(({ file }) => file));
  for (const file of files) {
    test(file, () => {
      for (const item of cases.filter((item) => item.file === file)) {
        try {
          checkCase(item);
        } catch (cause) {
          throw new Error(`Case "${item.name}" of ${file}`, { cause });
        }
      }
    }, 30_000);
  }
});

const GET = "GET /a?b HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-two: 2\r\nX-ONE: 3\r\n\r\n";

/** A parser that was given `text` and came to `steps`. */
function parserAfter(text: string, ...steps: Step[]): RequestParser {
  const parser = new RequestParser(LIMITS);
  parser.push(bytesOf(text));
  for (const step of steps) assert.equal(parser.next(), step);
  return parser;
}

describe("RequestHead", () => {
  test("get() and getAll() find fields whatever their letter case", () => {
    const { head } = parserAfter(GET, Step.Head);
    assert.equal(head.get("x-one"), "1");
    assert.equal(head.get("x-two"), "2");
    assert.deepEqual(head.getAll("x-one"), ["1", "3"]);
    assert.equal(head.get("x-on"), undefined);
    assert.equal(head.get("__proto__"), undefined);
    assert.deepEqual(head.getAll("constructor"), []);
  });

  test("fieldName() and fieldValue() throw RangeError for a field that is not there", () => {
    const { head } = parserAfter(GET, Step.Head);
    assert.equal(head.fieldCount, 4);
    for (const index of [-1, 4, NaN]) {
      assert.throws(() => head.fieldName(index), RangeError);
      assert.throws(() => head.fieldValue(index), RangeError);
    }
  });

  test("bytes is a view when the head came in one piece, and the same bytes when it was cut", () => {
    const input = bytesOf("\r\n" + GET + GET);
    const parser = new RequestParser(LIMITS);
    parser.push(input);
    assert.equal(parser.next(), Step.Head);
    assert.equal(parser.head.raw.buffer, input.buffer);
    assert.equal(parser.head.raw.byteOffset, 2);
    assert.equal(textOf(parser.head.raw), GET);
    const cut = new RequestParser(LIMITS);
    for (const byte of everyByte(input.subarray(0, 2 + GET.length))) {
      cut.push(byte);
      if (cut.next() === Step.Head) break;
    }
    assert.equal(textOf(cut.head.raw), GET);
    assert.equal(cut.head.get("x-two"), "2");
  });

  test("a head stays readable while later requests are parsed", () => {
    const parser = new RequestParser(LIMITS);
    const heads = ["/1", "/2"].map((target) => {
      const request = bytesOf(`GET ${target} HTTP/1.1\r\nHost: a\r\nX: ${target}\r\n\r\n`);
      parser.push(request.subarray(0, 20));
      assert.equal(parser.next(), Step.Need);
      parser.push(request.subarray(20));
      assert.equal(parser.next(), Step.Head);
      const { head } = parser;
      assert.equal(parser.next(), Step.End);
      assert.equal(parser.next(), Step.Need);
      return head;
    });
    assert.deepEqual(heads.map((head) => head.get("x")), ["/1", "/2"]);
  });
});

describe("RequestParser", () => {
  test("does not look beyond the end of a message before it is asked for the next", () => {
    const parser = parserAfter(GET + "\0", Step.Head, Step.End);
    assert.equal(parser.idle, false);
    assert.equal(parser.next(), Step.Fail);
  });

  test("gives a short body out in memory of its own", () => {
    const input = bytesOf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nABCDE" + GET);
    const parser = new RequestParser(LIMITS);
    parser.push(input);
    assert.equal(parser.next(), Step.Head);
    assert.equal(parser.next(), Step.Data);
    assert.equal(parser.data.buffer.byteLength, 5);
    input.fill(0x2a);
    assert.equal(textOf(parser.data), "ABCDE");
  });

  test("gives a longer body out as views of what was pushed", () => {
    const body = "ABCDE".repeat(100);
    const input = bytesOf(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n${body}`);
    const parser = new RequestParser(LIMITS);
    parser.push(input);
    assert.equal(parser.next(), Step.Head);
    assert.equal(parser.next(), Step.Data);
    assert.equal(parser.data.buffer, input.buffer);
    assert.equal(textOf(parser.data), body);
    assert.equal(parser.next(), Step.End);
  });

  test("takeRest() gives the bytes behind the message, once", () => {
    const parser = parserAfter(GET + "\x81\x00rest", Step.Head, Step.End);
    assert.equal(textOf(parser.takeRest()), "\x81\x00rest");
    assert.equal(parser.takeRest().length, 0);
    assert.equal(parser.idle, true);
    assert.equal(parser.next(), Step.Need);
  });

  test("idle and incomplete show where a connection may be closed", () => {
    const text = "\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nAB";
    const parser = new RequestParser(LIMITS);
    const states = () => [parser.idle, parser.incomplete];
    assert.deepEqual(states(), [true, false]);
    parser.push(bytesOf(text.slice(0, 2)));
    assert.deepEqual(states(), [false, false], "bytes wait");
    assert.equal(parser.next(), Step.Need);
    assert.deepEqual(states(), [true, false], "an empty line is no request");
    parser.push(bytesOf(text.slice(2, 3)));
    assert.equal(parser.next(), Step.Need);
    assert.deepEqual(states(), [false, true], "in the head");
    parser.push(bytesOf(text.slice(3, -1)));
    assert.equal(parser.next(), Step.Head);
    assert.equal(parser.next(), Step.Data);
    assert.equal(parser.next(), Step.Need);
    assert.deepEqual(states(), [false, true], "in the body");
    parser.push(bytesOf(text.slice(-1)));
    assert.equal(parser.next(), Step.Data);
    assert.deepEqual(states(), [false, false], "behind the last byte of the body");
    assert.equal(parser.next(), Step.End);
    assert.deepEqual(states(), [true, false], "between requests");
  });

  test("push() throws while bytes are left, rather than lose them", () => {
    const parser = parserAfter(GET + GET, Step.Head);
    assert.throws(() => parser.push(bytesOf(GET)), TypeError);
    assert.equal(parser.next(), Step.End);
    assert.equal(parser.next(), Step.Head);
  });

  test("head throws TypeError when there is none, and a connection between requests holds none", () => {
    const parser = new RequestParser(LIMITS);
    assert.throws(() => parser.head, TypeError);
    parser.push(bytesOf(GET));
    for (const step of [Step.Head, Step.End]) assert.equal(parser.next(), step);
    assert.equal(parser.head.method, "GET");
    assert.equal(parser.next(), Step.Need);
    assert.throws(() => parser.head, TypeError);
  });

  test("stays failed for ever", () => {
    const parser = parserAfter("\0" + GET, Step.Fail);
    const { error } = parser;
    parser.push(bytesOf(GET));
    parser.push(bytesOf(GET));
    assert.equal(parser.next(), Step.Fail);
    assert.equal(parser.error, error);
    assert.equal(parser.takeRest().length, 0);
    assert.deepEqual([parser.idle, parser.incomplete], [false, false]);
  });

  test("the trailers of a request without any cannot be added to", () => {
    const parser = parserAfter(GET, Step.Head, Step.End);
    assert.deepEqual(parser.trailers, []);
    assert.throws(() => parser.trailers.push(["a", "b"]), TypeError);
  });
});

describe("RequestParser fails at the very byte", () => {
  const head = "POST / HTTP/1.1\r\nHost: a\r\n";
  const chunked = head + "Transfer-Encoding: chunked\r\n\r\n";
  const before: [what: string, good: string, bad: string][] = [
    ["empty line", "\r", "\r"],
    ["second empty line", "\r\n", "\r"],
    ["method", "GE", "t"],
    ["no method", "", " "],
    ["long method", "A".repeat(24), "A"],
    ["target", "GET /", "#"],
    ["no target", "GET ", " "],
    ["long target", "GET /" + "a".repeat(8191), "a"],
    ["version", "GET / HTTP/", "x"],
    ["line end", "GET / HTTP/1.1", "\n"],
    ["unknown version", "GET / HTTP/2.0\r", "\n"],
    ["unknown method", "ABC / HTTP/1.1\r", "\n"],
    ["asterisk", "GET * HTTP/1.1\r", "\n"],
    ["fold", head, " "],
    ["name", head + "A", " "],
    ["value", head + "A: b", "\0"],
    ["field 101", head + "A: b\r\n".repeat(99), "A"],
    ["long head", head + "A: " + "b".repeat(16_384 - head.length - 4), "b"],
    ["end of the head", head + "\r", "X"],
    ["no Host", "GET / HTTP/1.1\r\n\r", "\n"],
    ["chunk size", chunked + "5", "_"],
    ["white space behind a chunk size", chunked + "5 ", "\r"],
    ["extension without a name", chunked + "5;", "\r"],
    ["extension without a value", chunked + "5;a=", "\r"],
    ["17th digit", chunked + "0".repeat(16), "0"],
    ["large chunk", chunked + "f".repeat(16), "\r"],
    ["extension", chunked + "5;" + "a".repeat(4095), "a"],
    ["quoted extension", chunked + '5;a="', "\r"],
    ["data end", chunked + "1\r\nA", "B"],
    ["trailer", chunked + "0\r\nA", " "],
    ["long trailers", chunked + "0\r\nA: " + "b".repeat(8190), "b"],
  ];
  for (const [what, good, bad] of before) {
    test(what, () => {
      assert.equal(parse([bytesOf(good)]).error, undefined);
      assert.notEqual(parse([bytesOf(good), bytesOf(bad)]).error, undefined);
    });
  }
});
