/** HPACK: RFC 7541 with its own examples, and beside an implementation that shares no code. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { Http2Fault } from "../lib/http2/error_code.ts";
import { type DecoderLimits, HpackDecoder } from "../lib/http2/hpack/decoder.ts";
import { encodeField, encodeInteger, mostBytes, PeerTable } from "../lib/http2/hpack/encoder.ts";
import { decodeHuffman, encodeHuffman, huffmanLength } from "../lib/http2/hpack/huffman.ts";
import { DynamicTable, STATIC_TABLE } from "../lib/http2/hpack/tables.ts";
import { Field } from "../lib/http2/field.ts";
import { loadHpackCases } from "./http2_head_cases.ts";
import * as other from "./http2_hpack.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

type Pair = [name: string, value: string];

const cases = loadHpackCases();

const LIMITS: DecoderLimits = { maxTableBytes: 4096, maxListBytes: 1e6, maxFields: 1e4 };

const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const pairsOf = (fields: readonly Field[]): Pair[] =>
  fields.map(({ name, value }) => [name, value]);

/** The bytes that the encoder makes of a field. */
function encoded(name: string, value: string): Uint8Array {
  const out = new Uint8Array(mostBytes(name, value));
  return out.subarray(0, encodeField(name, value, out, 0));
}

/** All that a decoder's table holds, the newest first: what the indices behind the static table are. */
function tableOf(decoder: HpackDecoder): Pair[] {
  const table: Pair[] = [];
  for (let index = other.STATIC_ENTRIES + 1;; index++) {
    try {
      table.push(...pairsOf(decoder.decode(Uint8Array.from(other.indexed(index)))));
    } catch (error) {
      assert.match((error as Error).message, /in no table/);
      return table;
    }
  }
}

describe("integers", () => {
  for (const { name, value, prefix, hex } of cases.integers) {
    test(name, () => {
      const out = new Uint8Array(8);
      assert.equal(hexOf(out.subarray(0, encodeInteger(value, 2 ** prefix - 1, 0, out, 0))), hex);
      assert.equal(hexOf(Uint8Array.from(other.integer(value, prefix))), hex);
    });
  }
});

describe("the decoder reads", () => {
  for (const { name, tableBytes = 4096, blocks } of cases.series) {
    test(name, () => {
      const decoder = new HpackDecoder(LIMITS);
      decoder.decode(Uint8Array.from(other.sizeUpdate(tableBytes)));
      for (const { hex, fields, table, bytes } of blocks) {
        assert.deepEqual(pairsOf(decoder.decode(bytesOf(hex))), fields);
        assert.equal(decoder.excess, undefined);
        assert.deepEqual(tableOf(decoder), table);
        const size = table.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
        assert.equal(size, bytes);
      }
    });
  }

  test("a block that is a part of other memory", () => {
    const decoder = new HpackDecoder(LIMITS);
    const memory = bytesOf("ffff828684418cf1e3c2e5f23a6ba0ab90f4ffff");
    assert.equal(decoder.decode(memory.subarray(2, -1)).at(-1)?.value, "www.example.com");
  });

  test("every string of one byte, coded and not", () => {
    const decoder = new HpackDecoder(LIMITS);
    for (let byte = 0; byte < 256; byte++) {
      const text = String.fromCharCode(byte);
      for (const coded of [false, true]) {
        const block = Uint8Array.from(other.literal(text, text + text, "none", coded));
        assert.deepEqual(pairsOf(decoder.decode(block)), [[text, text + text]]);
      }
    }
  });

  test("a string that is longer than all before, coded", () => {
    const decoder = new HpackDecoder(LIMITS);
    const long = "0".repeat(20_000); // the shortest code there is
    const block = Uint8Array.from(other.literal("a", long, "none", true));
    assert.equal(decoder.decode(block)[0]!.value, long);
  });
});

describe("the decoder refuses", () => {
  for (const { name, blocks, message } of cases.errors) {
    test(name, () => {
      const decoder = new HpackDecoder(LIMITS);
      for (const hex of blocks.slice(0, -1)) decoder.decode(bytesOf(hex));
      assert.throws(() => decoder.decode(bytesOf(blocks.at(-1)!)), (error) => {
        assert.ok(error instanceof Http2Fault);
        assert.equal(error.scope, "connection");
        assert.equal(error.code, 9);
        assert.ok(error.message.includes(message), error.message);
        return true;
      });
    });
  }

  test("a table that stays larger than the client has acknowledged", () => {
    const decoder = new HpackDecoder({ ...LIMITS, maxTableBytes: 100 });
    decoder.decode(bytesOf("3fe11f4001610162")); // the SETTINGS may still be under way
    decoder.settingsAcknowledged();
    assert.throws(() => decoder.decode(bytesOf("be")), /not made smaller/);
  });

  test("a table larger than the client has acknowledged", () => {
    const decoder = new HpackDecoder({ ...LIMITS, maxTableBytes: 100 });
    decoder.settingsAcknowledged();
    assert.throws(() => decoder.decode(bytesOf("3f46")), /larger than was announced/); // 101
    decoder.decode(bytesOf("3f45"));
  });
});

describe("tables of other sizes", () => {
  test("a smaller one is in force once it is acknowledged", () => {
    const decoder = new HpackDecoder({ ...LIMITS, maxTableBytes: 0 });
    assert.equal(decoder.decode(bytesOf("4001610162be")).length, 2);
    decoder.settingsAcknowledged();
    decoder.decode(bytesOf("20"));
    assert.deepEqual(pairsOf(decoder.decode(bytesOf("4001610162"))), [["a", "b"]]);
    assert.throws(() => decoder.decode(bytesOf("be")), /in no table/);
  });

  test("a larger one may be used at once", () => {
    const decoder = new HpackDecoder({ ...LIMITS, maxTableBytes: 10_000 });
    decoder.decode(Uint8Array.from(other.sizeUpdate(10_000)));
    for (let i = 0; i < 200; i++) {
      decoder.decode(Uint8Array.from(other.literal(`a${i}`, "b", "incremental")));
    }
    assert.deepEqual(tableOf(decoder).length, 200);
    decoder.settingsAcknowledged();
    assert.deepEqual(tableOf(decoder).length, 200);
  });

  test("a ring keeps its order as it grows, turns round and shrinks", () => {
    const random = new Random(7);
    const table = new DynamicTable(500);
    let model: Field[] = [];
    const sizeOf = () => model.reduce((sum, { size }) => sum + size, 0);
    for (let i = 0; i < 2_000; i++) {
      if (random.oneIn(50)) table.resize(random.below(1_000));
      const field = new Field(`n${i}`, "v".repeat(random.below(60)));
      table.add(field);
      model.unshift(field);
      while (sizeOf() > table.maxBytes) model = model.slice(0, -1);
      assert.equal(table.bytes, sizeOf());
      assert.equal(table.length, model.length);
      for (const [age, kept] of model.entries()) assert.equal(table.at(age), kept);
      assert.equal(table.at(model.length), undefined);
    }
  });
});

describe("limits", () => {
  const limits = { maxTableBytes: 4096, maxListBytes: 100, maxFields: 2 };

  test("names, values and 32 for each field are counted", () => {
    const decoder = new HpackDecoder({ ...limits, maxFields: 10 });
    decoder.decode(other.encode([["a", "b"], ["c", "d".repeat(33)]])); // 34 + 66
    assert.equal(decoder.excess, undefined);
    const fields = decoder.decode(other.encode([["a", "b"], ["c", "d".repeat(34)], ["e", "f"]]));
    assert.equal(decoder.excess, "bytes");
    assert.equal(fields.length, 1);
    decoder.decode(other.encode([["a", "b"]]));
    assert.equal(decoder.excess, undefined);
  });

  test("pseudo-fields and the crumbs of a cookie are not counted as fields", () => {
    const decoder = new HpackDecoder({ ...limits, maxListBytes: 1e4 });
    const fields: Pair[] = [[":method", "GET"], [":path", "/"], ["a", "b"], ["cookie", "a=1"]];
    decoder.decode(other.encode([...fields, ["cookie", "b=2"], ["cookie", "c=3"]]));
    assert.equal(decoder.excess, undefined);
    decoder.decode(other.encode([...fields, ["d", "e"]]));
    assert.equal(decoder.excess, "fields");
  });

  test("a list that is too long still changes the table", () => {
    const decoder = new HpackDecoder(limits);
    const block = [["a", "1"], ["b", "2"], ["c", "3"], ["d", "4"]]
      .flatMap(([name, value]) => other.literal(name!, value!, "incremental"));
    assert.equal(decoder.decode(Uint8Array.from(block)).length, 2);
    assert.notEqual(decoder.excess, undefined);
    assert.deepEqual(tableOf(decoder).map(([name]) => name), ["d", "c", "b", "a"]);
  });

  test("a bomb is not collected: 16 KB that name 4 KB of the table 16,000 times", () => {
    const decoder = new HpackDecoder({ ...limits, maxListBytes: 16_384, maxFields: 100 });
    decoder.decode(Uint8Array.from(other.literal("a", "b".repeat(4_000), "incremental")));
    const fields = decoder.decode(new Uint8Array(16_000).fill(0xbe));
    assert.equal(decoder.excess, "bytes");
    assert.equal(fields.length, 4);
  });

  test("the list of one block may have a limit of its own", () => {
    const decoder = new HpackDecoder(limits);
    assert.deepEqual(decoder.decode(other.encode([["a", "b"]]), 33), []);
    assert.equal(decoder.excess, "bytes");
  });
});

describe("the Huffman code", () => {
  test("is the other's", () => {
    const random = new Random(3);
    const out = new Uint8Array(2_000);
    const back = new Uint8Array(2_000);
    for (let i = 0; i < 500; i++) {
      const most = random.pick([128, 256]);
      const bytes = Uint8Array.from({ length: random.below(60) }, () => random.below(most));
      const text = Buffer.from(bytes).toString("latin1");
      const end = encodeHuffman(text, out, 0);
      assert.equal(hexOf(out.subarray(0, end)), hexOf(other.huffman(text)));
      assert.equal(huffmanLength(text), end);
      assert.equal(decodeHuffman(out, 0, end, back), bytes.length);
      assert.equal(hexOf(back.subarray(0, bytes.length)), hexOf(bytes));
    }
  });

  test("refuses what the other refuses, and reads what it reads", () => {
    const random = new Random(4);
    const back = new Uint8Array(200);
    let refused = 0;
    for (let i = 0; i < 4_000; i++) {
      const bytes = Uint8Array.from(
        { length: random.below(8) },
        () => random.oneIn(2) ? 0xff : random.below(256),
      );
      const block = Uint8Array.from([0, ...other.integer(bytes.length, 7, 128), ...bytes, 0]);
      let expected: string | undefined;
      try {
        expected = new other.Decoder().decode(block)[0]![0];
      } catch {
        refused++;
      }
      const length = decodeHuffman(bytes, 0, bytes.length, back);
      const actual = length < 0
        ? undefined
        : Buffer.from(back.subarray(0, length)).toString("latin1");
      assert.equal(actual, expected, hexOf(bytes));
    }
    assert.ok(refused > 500 && refused < 3_500, `${refused}`);
  });
});

describe("the encoder", () => {
  test("gives the bytes of RFC 7541 where they need no table", () => {
    assert.equal(hexOf(encoded(":method", "GET")), "82");
    assert.equal(hexOf(encoded(":status", "304")), "8b");
    assert.equal(hexOf(encoded("accept-encoding", "gzip, deflate")), "90");
    assert.equal(hexOf(encoded("accept", "")), "93");
    // C.4.3, C.6.1, but without indexing
    assert.equal(
      hexOf(encoded("custom-key", "custom-value")),
      "008825a849e95ba97d7f8925a849e95bb8e8b4bf",
    );
    assert.equal(hexOf(encoded("cache-control", "private")), "0f0985aec3771a4b");
    assert.equal(hexOf(encoded(":status", "302")), "08826402");
  });

  test("uses the shorter of two codes", () => {
    assert.equal(hexOf(encoded("etag", "\x80\x81")), "0f13028081");
    assert.equal(hexOf(encoded("etag", "")), "a2");
    assert.equal(hexOf(encoded("etag", "|")), "0f13017c");
  });

  test("lets no table keep what could be guessed", () => {
    assert.equal(hexOf(encoded("set-cookie", "a"))[0], "1");
    assert.equal(hexOf(encoded("authorization", "a"))[0], "1");
    assert.equal(hexOf(encoded("proxy-authorization", "a"))[0], "1");
    assert.equal(hexOf(encoded("cookie", "a"))[0], "1");
    assert.equal(hexOf(encoded("vary", "a"))[0], "0");
  });

  test("is read by both decoders, whatever it encodes", () => {
    const random = new Random(5);
    const ours = new HpackDecoder(LIMITS);
    const theirs = new other.Decoder();
    for (let i = 0; i < 800; i++) {
      const fields = someFields(random);
      const block = Buffer.concat(fields.map(([name, value]) => encoded(name, value)));
      assert.deepEqual(pairsOf(ours.decode(block)), fields);
      assert.deepEqual(theirs.decode(block), fields);
    }
    assert.equal(theirs.size, 0);
  });

  test("says once that a table is smaller than the default", () => {
    const table = new PeerTable();
    const block = encoded(":status", "200");
    table.announced(65_536);
    table.announced(4_096);
    assert.equal(table.send(block), block);
    table.announced(4_095);
    table.announced(100);
    assert.equal(hexOf(table.send(block)), "2088");
    table.announced(0);
    table.announced(4_096);
    assert.equal(table.send(block), block);
  });
});

test("the decoder agrees with another one on generated blocks of all kinds", () => {
  const random = new Random(6);
  for (let connection = 0; connection < 15; connection++) {
    const ours = new HpackDecoder(LIMITS);
    const theirs = new other.Decoder();
    for (let i = 0; i < 40; i++) {
      const block = someBlock(random, tableOf(ours).length);
      let expected: unknown;
      try {
        expected = theirs.decode(block);
      } catch (error) {
        expected = error instanceof Error ? "refused" : error;
      }
      if (expected === "refused") {
        assert.throws(() => ours.decode(block), Http2Fault, hexOf(block));
        break;
      }
      assert.deepEqual(pairsOf(ours.decode(block)), expected);
    }
  }
});

test("the static tables are equal", () => {
  const theirs = new other.Decoder();
  for (let index = 1; index <= other.STATIC_ENTRIES; index++) {
    const [expected] = theirs.decode(Uint8Array.from(other.indexed(index)));
    assert.deepEqual(pairsOf([STATIC_TABLE[index]!])[0], expected);
  }
  assert.equal(STATIC_TABLE.length, other.STATIC_ENTRIES + 1);
});

const NAMES = ["accept", "a", "x-long-name-that-is-nowhere", ":path", "cookie", "etag", "vary"];

function someText(random: Random): string {
  const length = random.oneIn(20) ? random.below(400) : random.below(30);
  const most = random.pick([128, 256]);
  return Buffer.from(Array.from({ length }, () => random.below(most))).toString("latin1");
}

function someFields(random: Random): Pair[] {
  return Array.from({ length: random.below(6) }, () => [
    random.oneIn(4) ? someText(random) : random.pick(NAMES),
    random.oneIn(4) ? random.pick(["", "a", "gzip, deflate", "/", "GET"]) : someText(random),
  ]);
}

/** A block in which nothing is wrong but, now and then, an index or a size. */
function someBlock(random: Random, tableLength: number): Uint8Array {
  const bytes: number[] = [];
  if (random.oneIn(6)) {
    bytes.push(...other.sizeUpdate(random.below(random.oneIn(20) ? 5_000 : 4_097)));
  }
  const indices = other.STATIC_ENTRIES + tableLength + (random.oneIn(30) ? 1 : 0);
  for (const [name, value] of someFields(random)) {
    if (random.oneIn(3)) bytes.push(...other.indexed(1 + random.below(indices)));
    const known = random.oneIn(2) ? name : 1 + random.below(other.STATIC_ENTRIES);
    const indexing = random.pick(["incremental", "incremental", "none", "never"] as const);
    bytes.push(...other.literal(known, value, indexing, random.oneIn(2)));
  }
  return Uint8Array.from(bytes);
}
