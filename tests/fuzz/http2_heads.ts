/**
 * HPACK, and the heads that come of it, as targets of the fuzzer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { HttpError } from "../../lib/errors.ts";
import { isAuthority } from "../../lib/http/authority.ts";
import { headTooLong } from "../../lib/http/request_rules.ts";
import { Http2Fault } from "../../lib/http2/error_code.ts";
import { HpackDecoder } from "../../lib/http2/hpack/decoder.ts";
import { Http2RequestHead } from "../../lib/http2/request_head.ts";
import { RequestReader } from "../../lib/http2/request_reader.ts";
import { LIMITS, listOf, loadHeadCases, loadHpackCases } from "../http2_head_cases.ts";
import { Decoder, encode, literal } from "../http2_hpack.ts";
import type { StreamTarget, TextTarget } from "./engine.ts";

/** What one of the two decoders made of a block: its fields, or that it refuses them. */
type Decoded = readonly (readonly [name: string, value: string])[] | undefined;

const MAX_LIST_BYTES = 2_000;

/** A block whose one field enters the table, in hex. */
function insertion(name: string, length: number): string {
  return Buffer.from(literal(name, "v".repeat(length), "incremental")).toString("hex");
}

/** The blocks of a connection, each behind a byte that says how long it is; beside another decoder. */
export const hpack: StreamTarget = {
  name: "hpack",
  corpus: [
    ...loadHpackCases().series.map(({ blocks }) => blocks.map(({ hex }) => hex)),
    ...loadHpackCases().errors.map(({ blocks }) => blocks),
    [insertion("a", 200), "be".repeat(12)], // too many bytes
    [insertion("b", 1), "be82".repeat(30)], // too many fields
  ].map((blocks) => {
    const framed = blocks.map((hex) => Buffer.from(hex, "hex")).map((block) =>
      Buffer.concat([Buffer.of(block.length), block])
    );
    return Buffer.concat([...framed, ...framed]);
  }),
  tokens: [
    ...["\x82", "\xbe", "\xbf", "\xc0", "\xff\x80", "\x20", "\x3f\xe1\x1f", "\x3f\x01", "\x40"],
    ...["\x40\x01a\x01b", "\x00\x01a\x01b", "\x10\x81\x1f\x81\x1f", "\x7f", "\x0f\x80\x00", "\x8f"],
    ...["\x84\xff\xff\xff\xff", "\x85\xff\xff\xff\xff\xff", "\x7e\x01c", "\x01\x82", "\x00"],
  ],
  reaches: [/^$/, /\[\]/, /a: b/, /excess/, /refused .*Huffman/, /refused .*no table/],
  keptBytes: 64 * 1024, // of a table that counts for 4 KiB: many short fields
  open() {
    const ours = new HpackDecoder({ ...LIMITS, maxListBytes: MAX_LIST_BYTES, maxFields: 20 });
    const theirs = new Decoder();
    let waiting: Uint8Array = Buffer.alloc(0);
    let said = "";
    const decode = (block: Uint8Array): boolean => {
      const expected = decodeByOther(theirs, block);
      let fields: Decoded;
      try {
        fields = ours.decode(block).map(({ name, value }) => [name, value] as const);
      } catch (fault) {
        assert.ok(fault instanceof Http2Fault && fault.scope === "connection" && fault.code === 9);
        // The other one takes needlessly long integers, and the size of the table more often.
        if (!/too often|too large/.test(fault.message)) assert.equal(expected, undefined);
        said += `refused ${fault.message}`;
        return false;
      }
      assert.ok(expected !== undefined, "the other decoder refuses it");
      const shown = expected.slice(0, fields.length);
      assert.deepEqual(fields, shown);
      const bytes = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
      assert.ok(bytes <= MAX_LIST_BYTES);
      if (ours.excess === undefined) assert.equal(fields.length, expected.length);
      said += `[${fields.map(([name, value]) => `${name}: ${value}`)}] ${ours.excess && "excess"}`;
      if (said.length > 20_000) said = said.slice(-10_000);
      return true;
    };
    return {
      push(piece) {
        waiting = Buffer.concat([waiting, piece]);
        while (waiting.length > 0 && waiting.length > waiting[0]!) {
          const end = 1 + waiting[0]!;
          const block = waiting.subarray(1, end);
          waiting = waiting.subarray(end);
          if (!decode(block)) return false;
        }
        return true;
      },
      said: () => said,
    };
  },
};

function decodeByOther(decoder: Decoder, block: Uint8Array): Decoded {
  try {
    return decoder.decode(block);
  } catch (error) {
    assert.match((error as Error).message, /^HPACK: /);
    return undefined;
  }
}

const lists = loadHeadCases().heads.map(listOf)
  .filter((list) => list.every(([, value]) => value.length < 300));

/** The first block of a connection, as a head that does not end its stream. */
export const heads: TextTarget = {
  name: "http2-heads",
  corpus: lists.map((list) => Buffer.from(encode(list)).toString("latin1")),
  tokens: [
    ...[
      "\x82",
      "\x83",
      "\x84",
      "\x85",
      "\x86",
      "\x87",
      "\x88",
      "\x40",
      "\r\n",
      "\0",
      " ",
      "#",
      "*",
    ],
    ...["%00", "//", "http://x/", ":443", "A"],
    ...([
      [":method", "CONNECT"],
      [":protocol", "websocket"],
      [":path", "/x?y"],
      [":authority", "b.example"],
      ["host", "b.example"],
      ["content-length", "5"],
      ["expect", "100-continue"],
      ["cookie", "a=b"],
      ["te", "trailers"],
    ] as const).map(([name, value]) => Buffer.from(literal(name, value)).toString("latin1")),
  ],
  reaches: [
    ...[/^GET/, /^OPTIONS \*/, /^CONNECT/, /upgrade/, /^fault stream/, /^fault connection/],
    ...[/^error 400/, /^error 413/, /^error 417/, /^error 501/],
  ],
  read(text) {
    const block = Buffer.from(text, "latin1");
    const reader = new RequestReader(LIMITS);
    const first = sayReading(() => reader.readHead(1, block, false));
    if (first.startsWith("fault connection")) return first;
    // Again, as many clients ask for the same; beside what keeps no heads.
    const decoder = new HpackDecoder(LIMITS);
    for (let turn = 0; turn < 3; turn++) {
      const plain = sayReading(() => {
        const fields = decoder.decode(block);
        if (decoder.excess !== undefined) throw headTooLong(LIMITS.maxListBytes);
        return new Http2RequestHead(1, fields, false, LIMITS);
      });
      const said = turn === 0 ? first : sayReading(() => reader.readHead(1, block, false));
      assert.equal(said, plain);
      if (said.startsWith("fault connection")) break;
    }
    return first;
  },
};

function sayReading(read: () => Http2RequestHead): string {
  try {
    return sayHead(read());
  } catch (error) {
    if (error instanceof Http2Fault) return `fault ${error.scope} ${error.message}`;
    assert.ok(error instanceof HttpError, String(error));
    return `error ${error.status} ${error.code}`;
  }
}

function sayHead(head: Http2RequestHead): string {
  assert.ok(isAuthority(head.host));
  const { method, path, query, target } = head;
  if (method !== "CONNECT") {
    assert.equal(target, query || target.includes("?") ? `${path}?${query}` : path);
  }
  assert.ok(method === "CONNECT" || path[0] === "/" || (path === "*" && method === "OPTIONS"));
  assert.ok(!/[^!-~]/.test(target));
  const fields = Array.from({ length: head.fieldCount }, (_, i) => {
    const [name, value] = [head.fieldName(i), head.fieldValue(i)];
    assert.match(name, /^[!#$%&'*+.^_`|~0-9a-z-]+$/);
    assert.ok(!/[\0\r\n]|^[ \t]|[ \t]$/.test(value));
    assert.ok(head.upgrade || !["connection", "upgrade", "transfer-encoding"].includes(name));
    return name === "sec-websocket-key" ? name : `${name}: ${value}`;
  });
  assert.equal(fields.filter((field) => field.startsWith("cookie:")).length <= 1, true);
  assert.equal(head.get("host")?.toLowerCase(), head.host.toLowerCase());
  return `${method} ${target} ${head.host} ${head.contentLength} ${head.expectContinue}` +
    `${head.upgrade ? " upgrade" : ""} ${fields}`;
}
