/** Heads and trailers of HTTP/2: RFC 9113 section 8, RFC 8441 sections 4 and 5. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { HttpError } from "../lib/errors.ts";
import { Http2Fault } from "../lib/http2/error_code.ts";
import type { RequestHead } from "../lib/http/request_head.ts";
import { RequestParser, Step } from "../lib/http1/parser.ts";
import type { Http2RequestHead } from "../lib/http2/request_head.ts";
import { RequestReader } from "../lib/http2/request_reader.ts";
import {
  beginHead,
  encodeHead,
  encodeTrailers,
  encodeTunnelHead,
} from "../lib/http2/response_head.ts";
import { acceptKey, checkUpgrade } from "../lib/websocket/handshake.ts";
import { expand } from "./cases_loader.ts";
import {
  type Expected,
  type HeadCase,
  LIMITS,
  limitsOf,
  listOf,
  loadHeadCases,
  type Pairs,
  PSEUDO,
} from "./http2_head_cases.ts";
import * as hpack from "./http2_hpack.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const cases = loadHeadCases();

const STREAM = 5;

function fieldsOf(head: Http2RequestHead): [string, string][] {
  return Array.from(
    { length: head.fieldCount },
    (_, i) => [head.fieldName(i), head.fieldValue(i)],
  );
}

/** All fields as literals that enter the table, so that the block behind it is of indices alone. */
function indexedTwice(list: readonly hpack.Field[]): [first: Uint8Array, second: Uint8Array] {
  const first = list.flatMap(([name, value]) => hpack.literal(name, value, "incremental", true));
  const second = list.flatMap((_, i) => hpack.indexed(hpack.STATIC_ENTRIES + list.length - i));
  return [Uint8Array.from(first), Uint8Array.from(second)];
}

function assertRefused(refused: () => unknown, { fault, error }: Expected): void {
  assert.throws(refused, (thrown) => {
    if (fault !== undefined) {
      assert.ok(thrown instanceof Http2Fault, String(thrown));
      assert.equal(thrown.scope, "stream");
      assert.equal(thrown.streamId, STREAM);
      assert.equal(thrown.code, 1);
      assert.ok(thrown.message.includes(fault), thrown.message);
    } else {
      assert.ok(thrown instanceof HttpError, String(thrown));
      assert.deepEqual({ status: thrown.status, code: thrown.code }, error);
    }
    return true;
  });
}

describe("a head:", () => {
  for (const headCase of cases.heads) {
    test(headCase.name, () => {
      const { endStream = true, head, ...expected } = headCase;
      const list = listOf(headCase);
      const reader = new RequestReader(limitsOf(headCase));
      // Twice by literals, and twice by the table where it has room: what is kept of the first reading must change nothing.
      const blocks = [hpack.encode(list), hpack.encode(list)];
      const size = list.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
      if (size <= 4_096) blocks.push(...indexedTwice(list));
      for (const block of blocks) {
        const read = () => reader.readHead(STREAM, block, endStream);
        if (head === undefined) assertRefused(read, expected);
        else assertHead(read(), head);
      }
      const next = reader.readHead(7, hpack.encode(Object.entries(PSEUDO)), true);
      assert.equal(next.path, "/");
    });
  }
});

function assertHead(actual: Http2RequestHead, { fields, ...members }: HeadCase["head"] & object) {
  assert.equal(actual.version, "2");
  assert.equal(actual.raw, undefined);
  for (const [name, value] of Object.entries(members)) {
    assert.equal(actual[name as keyof Http2RequestHead], value ?? undefined, name);
  }
  const shown = fieldsOf(actual);
  if (fields !== undefined) assert.deepEqual(shown, fields);
  for (const [name] of shown) {
    const values = shown.filter(([other]) => other === name).map(([, value]) => value);
    assert.deepEqual(actual.getAll(name), values);
    assert.equal(actual.get(name), values[0]);
  }
  assert.equal(actual.get("x-none"), undefined);
  assert.equal(actual.get(":path"), undefined);
  for (const index of [-1, shown.length, 0.5]) {
    assert.throws(() => actual.fieldName(index), RangeError);
    assert.throws(() => actual.fieldValue(index), RangeError);
  }
}

describe("trailers:", () => {
  for (const { name, fields, trailers, ...expected } of cases.trailers) {
    test(name, () => {
      const reader = new RequestReader(LIMITS);
      const block = hpack.encode(fields.map(([name, value]) => [name, expand(value)]));
      const read = () => reader.readTrailers(STREAM, block);
      if (trailers === undefined) assertRefused(read, expected);
      else assert.deepEqual(read(), trailers);
    });
  }
});

describe("the blocks of one connection", () => {
  test("go through one table, whatever becomes of them", () => {
    const reader = new RequestReader(LIMITS);
    const request = Object.entries(PSEUDO);
    reader.skip(Uint8Array.from(hpack.literal("a", "1", "incremental")));
    assert.throws(() =>
      reader.readTrailers(1, Uint8Array.from(hpack.literal("B", "2", "incremental")))
    );
    const malformed = [...hpack.literal("c", "3", "incremental"), ...hpack.literal("", "")];
    assert.throws(() => reader.readHead(3, Uint8Array.from(malformed), true), Http2Fault);
    const long = [
      ...hpack.literal("d", "4", "incremental"),
      ...hpack.literal("long", "x".repeat(20_000)),
      ...hpack.literal("e", "5", "incremental"),
    ];
    assert.throws(() => reader.readHead(5, Uint8Array.from(long), true), HttpError);
    const indices = [62, 63, 64, 66].flatMap(hpack.indexed); // 65 is the one in capitals
    const block = Buffer.concat([hpack.encode(request), Uint8Array.from(indices)]);
    assert.deepEqual(fieldsOf(reader.readHead(7, block, true)), [
      ["host", "a.example"],
      ["e", "5"],
      ["d", "4"],
      ["c", "3"],
      ["a", "1"],
    ]);
  });

  describe("that are the same bytes again", () => {
    const request = Object.entries(PSEUDO);
    const newest = Buffer.concat([hpack.encode(request), Uint8Array.from(hpack.indexed(62))]);
    const insert = (value: string) => Uint8Array.from(hpack.literal("x", value, "incremental"));
    const begin = () => {
      const reader = new RequestReader(LIMITS);
      reader.skip(insert("1"));
      const head = reader.readHead(1, newest, true);
      assert.equal(head.get("x"), "1");
      return { reader, head };
    };

    test("are the same head, also among others", () => {
      const { reader, head } = begin();
      assert.equal(reader.readHead(3, newest, true), head);
      reader.readHead(5, hpack.encode(request), true);
      const again = reader.readHead(7, newest, true);
      assert.deepEqual(fieldsOf(again), fieldsOf(head));
      reader.readTrailers(7, hpack.encode([["a", "b"]]));
      assert.equal(reader.readHead(9, newest, true), again);
    });

    test("are another head where the stream goes on", () => {
      const { reader } = begin();
      assert.equal(reader.readHead(3, newest, false).hasBody, true);
      assert.equal(reader.readHead(5, newest, true).hasBody, false);
    });

    test("are another head once the table is another", () => {
      const { reader } = begin();
      reader.skip(insert("2"));
      assert.equal(reader.readHead(3, newest, true).get("x"), "2");
      reader.readTrailers(3, insert("3"));
      assert.equal(reader.readHead(5, newest, true).get("x"), "3");
      assert.throws(() =>
        reader.readHead(7, Buffer.concat([insert("4"), newest, Uint8Array.of(0, 0, 0)]), true)
      );
      assert.equal(reader.readHead(9, newest, true).get("x"), "4");
      reader.skip(Uint8Array.from(hpack.sizeUpdate(0)));
      assert.throws(() => reader.readHead(11, newest, true), /in no table/);
    });

    test("change the table again where they did before", () => {
      const { reader } = begin();
      const block = Buffer.concat([hpack.encode(request), insert("5")]);
      reader.readHead(3, block, true);
      reader.readHead(5, block, true);
      const both = Buffer.concat([hpack.encode(request), Uint8Array.of(0xbe, 0xbf, 0xc0)]);
      assert.deepEqual(reader.readHead(7, both, true).getAll("x"), ["5", "5", "1"]);
    });

    test("are held to a table that must become smaller", () => {
      const reader = new RequestReader({ ...LIMITS, maxTableBytes: 0 });
      reader.readHead(1, hpack.encode(request), true);
      reader.settingsAcknowledged();
      assert.throws(() => reader.readHead(3, hpack.encode(request), true), /not made smaller/);
    });

    test("are not taken for others of the same length, or for longer ones", () => {
      const reader = new RequestReader(LIMITS);
      for (const path of ["/a", "/b", "/", "/a", "/aa", `/${"a".repeat(300)}`, "/a"]) {
        const block = hpack.encode(Object.entries({ ...PSEUDO, ":path": path }));
        for (let turn = 0; turn < 2; turn++) {
          assert.equal(reader.readHead(1, block, true).path, path);
        }
      }
    });

    test("are kept though the memory of the first is used again", () => {
      const reader = new RequestReader(LIMITS);
      const memory = Uint8Array.from(hpack.encode(Object.entries({ ...PSEUDO, ":path": "/a" })));
      const at = memory.indexOf(0x61, memory.indexOf(0x2f)); // the a of /a
      assert.equal(reader.readHead(1, memory, true).path, "/a");
      memory[at] = 0x62;
      assert.equal(reader.readHead(3, memory, true).path, "/b");
    });
  });

  test("a fault of the table is the connection's", () => {
    for (const read of ["readHead", "readTrailers", "skip"] as const) {
      const reader = new RequestReader(LIMITS);
      const block = Uint8Array.of(0x80);
      const deed = read === "skip" ? () => reader.skip(block) : () => reader[read](3, block, true);
      assert.throws(deed, (fault) => fault instanceof Http2Fault && fault.scope === "connection");
    }
  });

  test("an acknowledged table size is held to", () => {
    const reader = new RequestReader({ ...LIMITS, maxTableBytes: 0 });
    reader.settingsAcknowledged();
    assert.throws(() => reader.skip(Uint8Array.of(0x82)), /not made smaller/);
  });
});

test("what HTTP/1.1 refuses is refused, and what it takes is the same head: generated requests", () => {
  const random = new Random(12);
  let taken = 0;
  for (let i = 0; i < 1_000; i++) {
    const { method, target, host, fields } = someRequest(random);
    const lines = [["host", host], ...fields].map(([name, value]) => `${name}: ${value}\r\n`);
    const text = `${method} ${target} HTTP/1.1\r\n${lines.join("")}\r\n`;
    const parser = new RequestParser({
      ...LIMITS,
      maxHeaderBytes: LIMITS.maxListBytes,
      maxHeaderFields: LIMITS.maxFields,
      maxChunkExtBytes: 0,
    });
    parser.push(Uint8Array.from(Buffer.from(text, "latin1")));
    const list: hpack.Field[] = method === "CONNECT"
      ? [[":method", method], [":authority", target]]
      : Object.entries({
        ":method": method,
        ":scheme": "https",
        ":authority": host,
        ":path": target,
      });
    if (method === "CONNECT") list.push(["host", host]);
    const read = () =>
      new RequestReader(LIMITS).readHead(1, hpack.encode([...list, ...fields]), false);
    if (parser.next() === Step.Fail) {
      assert.throws(
        read,
        (error) => error instanceof Http2Fault || error instanceof HttpError,
        text,
      );
      continue;
    }
    taken++;
    const [actual, expected] = [read(), parser.head];
    const members = [
      "method",
      "target",
      "path",
      "query",
      "host",
      "contentLength",
      "expectContinue",
    ];
    for (const name of members as (keyof RequestHead)[]) {
      assert.equal(actual[name], expected[name], `${name} of ${text}`);
    }
    const shown = Array.from(
      { length: expected.fieldCount },
      (_, i) => [expected.fieldName(i), expected.fieldValue(i)],
    );
    assert.deepEqual(fieldsOf(actual), shown, text);
  }
  assert.ok(taken > 100 && taken < 900, `${taken}`);
});

/** A request, in which now and then something is wrong that both versions can say. */
function someRequest(random: Random) {
  const wrong = (text: string): string => {
    if (!random.oneIn(12)) return text;
    const at = random.below(text.length + 1);
    const byte = random.oneIn(2)
      ? random.pick('#\\"<>@,/?*%^ \t')
      : String.fromCharCode(random.below(256));
    return /[\r\n]/.test(byte) ? text : text.slice(0, at) + byte + text.slice(at);
  };
  const method = wrong(
    random.pick(["GET", "GET", "POST", "OPTIONS", "PROPFIND", "CONNECT", "BREW", "get"]),
  );
  const hosts = [
    "a.example",
    "a.example:8443",
    "[::1]",
    "127.0.0.1:1",
    "127.1",
    "a.example:",
    "a:65536",
    "A.b",
  ];
  const host = wrong(random.pick(hosts)).trim();
  const paths = ["/", "/a/b?c=d", "/%41%zz?%00", "/%00", "/a%0d", "*", "", "/a?b?c", "//a", "/.."];
  const target = method === "CONNECT" ? host : wrong(random.pick(paths));
  const names = [
    "x",
    "accept",
    "content-length",
    "expect",
    "cookie",
    "__proto__",
    "range",
    "priority",
  ];
  const values = [
    "",
    "1",
    "0",
    "007",
    "5, 5",
    "9007199254740992",
    "100-continue",
    "100-Continue",
    "a=b",
    "x y",
  ];
  const used = new Set<string>();
  const fields: [string, string][] = [];
  for (let left = random.below(5); left > 0; left--) {
    const name = wrong(random.pick(names)).replace(":", "").toLowerCase();
    if (used.has(name) && name === "cookie") continue;
    used.add(name);
    fields.push([name, wrong(random.pick(values)).replace(/^[ \t]+|[ \t]+$/g, "")]);
  }
  return { method, target, host, fields };
}

describe("a WebSocket", () => {
  const list: Pairs = [
    [":method", "CONNECT"],
    [":protocol", "websocket"],
    [":scheme", "https"],
    [":path", "/chat"],
    [":authority", "a.example"],
    ["sec-websocket-version", "13"],
    ["sec-websocket-key", "of the client's, which means nothing"],
    ["sec-websocket-protocol", "chat"],
  ];
  const read = () =>
    new RequestReader(LIMITS).readHead(1, hpack.encode(list as [string, string][]), false);

  test("is shown as HTTP/1.1 would have asked for it", () => {
    const head = read();
    const key = head.get("sec-websocket-key")!;
    assert.deepEqual(fieldsOf(head), [
      ["host", "a.example"],
      ["sec-websocket-version", "13"],
      ["sec-websocket-protocol", "chat"],
      ["upgrade", "websocket"],
      ["connection", "upgrade"],
      ["sec-websocket-key", key],
    ]);
    const upgrade = checkUpgrade(head);
    assert.ok(upgrade.ok);
    assert.equal(upgrade.accept, acceptKey(key));
    assert.deepEqual(upgrade.protocols, ["chat"]);
    assert.notEqual(read().get("sec-websocket-key"), key);
  });

  test("is answered with 200, and with nothing that HTTP/2 has no use for", () => {
    const block = encodeTunnelHead([
      ["Upgrade", "websocket"],
      ["Connection", "Upgrade"],
      ["Sec-WebSocket-Accept", "x"],
      ["Sec-WebSocket-Protocol", "chat"],
    ]);
    const fields = new hpack.Decoder().decode(block);
    assert.deepEqual(fields, [[":status", "200"], ["sec-websocket-protocol", "chat"]]);
  });
});

const DATE = /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/;

describe("an answer's head", () => {
  const decode = (block: Uint8Array) => new hpack.Decoder().decode(block);

  test("has the status, the fields in lower case, the date, and the length", () => {
    const head = beginHead(200).field("Content-Type", "text/plain").field("X-A", "\x80\xff");
    const fields = decode(head.end(5, false));
    assert.match(fields[3]![1], DATE);
    assert.deepEqual(fields.toSpliced(3, 1), [
      [":status", "200"],
      ["content-type", "text/plain"],
      ["x-a", "\x80\xff"],
      ["content-length", "5"],
    ]);
    assert.equal(fields[3]![0], "date");
  });

  test("has no date where it is dated, and no length where there is none", () => {
    const block = beginHead(404).field("date", "never").end(undefined, true);
    assert.deepEqual(decode(block), [[":status", "404"], ["date", "never"]]);
  });

  test("has every length", () => {
    for (
      const length of [0, 9, 10, 99, 100, 65_535, 2 ** 31, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER]
    ) {
      const fields = decode(beginHead(200).end(length, true));
      assert.deepEqual(fields, [[":status", "200"], ["content-length", String(length)]]);
    }
  });

  test("has every status", () => {
    for (const status of [100, 103, 200, 204, 302, 404, 500, 599, 999]) {
      assert.deepEqual(decode(encodeHead(status, [])), [[":status", String(status)]]);
    }
    for (const status of [0, 99, 1000, 200.5, NaN, 101]) {
      assert.throws(() => beginHead(status), { code: "BAD_RESPONSE" }, `${status}`);
    }
  });

  test("refuses the names and values that HTTP/1.1 refuses", () => {
    const refused: [string, string][] = [
      ["", "a"],
      ["a b", "c"],
      ["a:", "b"],
      [":status", "200"],
      ["\u00e9", "a"],
      ["a", "b\r\nc: d"],
      ["a", "b\0"],
      ["a", "\u0100"],
      ["a", "\x7f"],
      ["a", 5 as unknown as string],
      [5 as unknown as string, "a"],
    ];
    for (const [name, value] of refused) {
      for (let turn = 0; turn < 3; turn++) {
        assert.throws(() => beginHead(200).field(name, value), { code: "BAD_RESPONSE" });
        assert.throws(() => encodeTrailers([[name, value]]), { code: "BAD_RESPONSE" });
      }
    }
  });

  test("of an interim answer, and trailers, leave out what is the connection's", () => {
    const fields: [string, string][] = [
      ["Link", "</a>"],
      ["Connection", "close"],
      ["Keep-Alive", "timeout=5"],
      ["Proxy-Connection", "close"],
      ["TE", "trailers"],
      ["Transfer-Encoding", "chunked"],
      ["Upgrade", "h2c"],
    ];
    assert.deepEqual(decode(encodeHead(103, fields)), [[":status", "103"], ["link", "</a>"]]);
    assert.deepEqual(decode(encodeTrailers(fields)), [["link", "</a>"]]);
    assert.deepEqual(decode(encodeTrailers([])), []);
  });

  test("that was sent before is the same bytes, until something is different", () => {
    const block = (type: string, length: number) =>
      beginHead(200).field("x-same", type).end(length, true);
    for (let turn = 0; turn < 3; turn++) block("a", 5);
    const kept = block("a", 5);
    assert.equal(block("a", 5), kept);
    assert.notEqual(block("a", 6), kept);
    assert.notEqual(block("b", 5), kept);
    assert.deepEqual(decode(kept), [[":status", "200"], ["x-same", "a"], ["content-length", "5"]]);
  });

  test("keeps the bytes of one that waits while others are made", () => {
    const blocks = Array.from(
      { length: 500 },
      (_, i) => beginHead(200).field("etag", `"${i}"`).end(i, true),
    );
    for (const [i, block] of blocks.entries()) {
      const expected = [[":status", "200"], ["etag", `"${i}"`], ["content-length", `${i}`]];
      assert.deepEqual(decode(block), expected);
    }
  });

  test("may be left without an end, and others made meanwhile", () => {
    const one = beginHead(200).field("a", "1");
    const other = beginHead(200).field("a", "1").field("b", "2");
    beginHead(200).field("a", "1").field("set-cookie", "x");
    assert.deepEqual(decode(one.field("c", "3").end(undefined, true)), [
      [":status", "200"],
      ["a", "1"],
      ["c", "3"],
    ]);
    assert.deepEqual(decode(other.end(undefined, true)), [[":status", "200"], ["a", "1"], [
      "b",
      "2",
    ]]);
  });

  test("of many long fields is whole", () => {
    const fields = Array.from(
      { length: 20 },
      (_, i): [string, string] => [`x-${i}`, `${i}|`.repeat(600)],
    );
    for (let turn = 0; turn < 4; turn++) {
      const block = encodeHead(200, fields);
      assert.deepEqual(decode(block), [[":status", "200"], ...fields]);
    }
  });

  test("never keeps a cookie", () => {
    const head = () => beginHead(200).field("Set-Cookie", "a=b").end(undefined, true);
    for (let turn = 0; turn < 4; turn++) assert.notEqual(head(), head());
    assert.deepEqual(decode(head()), [[":status", "200"], ["set-cookie", "a=b"]]);
  });

  test("holds what was said, whatever was said before: generated heads", () => {
    const random = new Random(11);
    const names = Array.from(
      { length: 40 },
      (_, i) => `${random.pick(["X-", "etag", "vary"])}${i}`,
    );
    const blocks: [Uint8Array, [string, string][]][] = [];
    for (let i = 0; i < 1_200; i++) {
      const status = random.pick([200, 200, 200, 404, 500]);
      const pairs = Array.from({ length: random.below(8) }, (): [string, string] => {
        const value = random.oneIn(3) ? `${random.next()}` : `${random.below(4)}`;
        const long = random.oneIn(200) ? "v".repeat(random.below(6_000)) : value;
        return [random.oneIn(20) ? "Set-Cookie" : random.pick(names), long];
      });
      const head = beginHead(status);
      for (const [name, value] of pairs) head.field(name, value);
      const length = random.oneIn(3) ? undefined : random.below(5);
      const block = head.end(length, true);
      const expected = pairs.map(([name, value]): [string, string] => [name.toLowerCase(), value]);
      if (length !== undefined) expected.push(["content-length", `${length}`]);
      blocks.push([block, [[":status", `${status}`], ...expected]]);
    }
    for (const [block, expected] of blocks) {
      const actual = decode(block);
      assert.deepEqual([...actual].sort(), [...expected].sort());
      for (const name of new Set(expected.map(([name]) => name))) { // the order of equal names means something
        const valuesOf = (fields: readonly hpack.Field[]) =>
          fields.filter((f) => f[0] === name).map((f) => f[1]);
        assert.deepEqual(valuesOf(actual), valuesOf(expected), name);
      }
    }
  });
});
