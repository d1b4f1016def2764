/** The frames of HTTP/2, byte by byte: RFC 9113 sections 4 and 6. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { ErrorCode } from "../lib/http2/error_code.ts";
import { FrameReader, FrameStep } from "../lib/http2/frame_reader.ts";
import { PREFACE } from "../lib/http2/frame_type.ts";
import { FrameWriter } from "../lib/http2/frame_writer.ts";
import { join } from "../lib/net/chunks.ts";
import {
  bytesOf,
  frame,
  inputOf,
  LIMITS,
  loadCases,
  read,
  type ReadCase,
  stepsOf,
  write,
} from "./http2_cases.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const cases = loadCases();

/** Every place of short inputs, some of long ones. */
function cuts(length: number): number[] {
  const step = length <= 1024 ? 1 : Math.ceil(length / 64);
  return Array.from({ length: Math.ceil(length / step) }, (_, i) => i * step);
}

function* bytewise(bytes: Uint8Array): Generator<Uint8Array> {
  for (const byte of bytes) yield Uint8Array.of(byte);
}

function checkCase(readCase: ReadCase): void {
  const input = inputOf(readCase);
  const expected = { steps: stepsOf(readCase), ends: readCase.ends ?? "idle" };
  const readPieces = (pieces: Iterable<Uint8Array>) =>
    read(new FrameReader({ ...LIMITS, ...readCase.limits }), pieces);
  assert.deepEqual(readPieces([input]), expected, "whole");
  assert.deepEqual(readPieces(bytewise(input)), expected, "byte by byte");
  for (const at of cuts(input.length)) {
    const pieces = [Buffer.from(input.subarray(0, at)), Buffer.from(input.subarray(at))];
    assert.deepEqual(readPieces(pieces), expected, `cut at ${at}`);
  }
}

describe("FrameReader takes the cases, however they are cut", () => {
  for (const readCase of cases.read) {
    test(`${readCase.name} (${readCase.rule})`, () => checkCase(readCase), 20_000);
  }
});

/** A reader behind the preface and the first SETTINGS. */
function readerOf(): FrameReader {
  const reader = new FrameReader(LIMITS);
  read(reader, [Buffer.concat([Buffer.from(PREFACE), frame(4, 0, 0)])]);
  return reader;
}

describe("FrameReader", () => {
  test("hands out views of what was pushed", () => {
    const reader = readerOf();
    const bytes = Uint8Array.from(Buffer.concat([
      frame(1, 4, 1, "82"),
      frame(0, 0, 1, "616263"),
      frame(6, 0, 0, "0102030405060708"),
    ]));
    reader.push(bytes);
    assert.equal(reader.next(), FrameStep.Headers);
    assert.equal(reader.block.buffer, bytes.buffer);
    assert.equal(reader.next(), FrameStep.Data);
    assert.equal(reader.data.buffer, bytes.buffer);
    assert.equal(reader.next(), FrameStep.Ping);
    assert.equal(reader.opaque.buffer, bytes.buffer);
    assert.equal(reader.next(), FrameStep.Need);
    for (const held of [reader.data, reader.block, reader.opaque]) assert.equal(held.length, 0);
  });

  test("hands out a block that begins in a push of its own as a view", () => {
    const reader = readerOf();
    const block = frame(1, 4, 1, { byte: "82", times: 100 });
    read(reader, [block.subarray(0, 9)]);
    const rest = Uint8Array.from(block.subarray(9));
    reader.push(rest);
    assert.equal(reader.next(), FrameStep.Headers);
    assert.equal(reader.block.buffer, rest.buffer);
  });

  test("does not mind what gets the last piece taking its memory away", () => {
    const reader = readerOf();
    for (const [before, after] of [["6162", ""], ["6162", "63"]] as const) {
      const bytes = frame(0, 0, 1, before + after);
      const first = Uint8Array.from(bytes.subarray(0, 9 + before.length / 2));
      reader.push(first);
      assert.equal(reader.next(), FrameStep.Data);
      structuredClone(first.buffer, { transfer: [first.buffer] });
      assert.equal(reader.next(), FrameStep.Need);
      if (after !== "") read(reader, [bytesOf(after)]);
    }
    assert.deepEqual(read(reader, [frame(3, 0, 1, "00000008")]).steps, ["reset 1 CANCEL"]);
  });

  test("reports each piece of DATA as it comes, the end with the last", () => {
    const reader = readerOf();
    const bytes = frame(0, 9, 1, ["05", "616263", "0000000000"]);
    const seen: [string, number, boolean][] = [];
    for (const piece of [bytes.subarray(0, 11), bytes.subarray(11, 13), bytes.subarray(13)]) {
      reader.push(Uint8Array.from(piece));
      for (let step = reader.next(); step !== FrameStep.Need; step = reader.next()) {
        assert.equal(step, FrameStep.Data);
        seen.push([Buffer.from(reader.data).toString(), reader.flowBytes, reader.endStream]);
      }
    }
    assert.deepEqual(seen, [["a", 7, false], ["bc", 2, true]]);
    assert.equal(reader.idle, true);
  });

  test("takes no bytes while some are left, nor after a fault of the connection", () => {
    const reader = readerOf();
    reader.push(frame(6, 0, 0, "0000000000000000"));
    assert.throws(() => reader.push(new Uint8Array(1)), TypeError);
    assert.equal(reader.next(), FrameStep.Ping);
    assert.equal(reader.next(), FrameStep.Need);
    reader.push(frame(6, 0, 1, "0000000000000000"));
    assert.equal(reader.next(), FrameStep.Fault);
    reader.push(frame(6, 0, 0, "0000000000000000"));
    reader.push(frame(6, 0, 0, "0000000000000000"));
    assert.equal(reader.next(), FrameStep.Fault);
    assert.equal(reader.fault?.code, ErrorCode.ProtocolError);
    assert.equal(reader.fault.streamId, 0);
  });

  test("knows whether it is inside a frame or a header block", () => {
    const reader = readerOf();
    const where = () => [reader.idle, reader.inBlock];
    assert.deepEqual(where(), [true, false]);
    const whole = Buffer.concat([frame(1, 0, 1, "82"), frame(9, 4, 1, "84")]);
    const seen = new Set<string>();
    for (const byte of bytewise(whole.subarray(0, -1))) {
      read(reader, [byte]);
      seen.add(`${where()}`);
    }
    assert.deepEqual([...seen], ["false,false", "false,true"]);
    read(reader, [whole.subarray(-1)]);
    assert.deepEqual(where(), [true, false]);
    reader.push(frame(4, 1, 0));
    assert.deepEqual(where(), [false, false], "pushed and not read");
  });
});

describe("FrameWriter writes the cases", () => {
  for (const writeCase of cases.write) {
    test(`${writeCase.name} (${writeCase.rule})`, () => {
      assert.deepEqual(Buffer.from(write(writeCase)), bytesOf(writeCase.bytes));
    });
  }
});

describe("FrameWriter", () => {
  test("hands out a long body as it is, and all that is short between in one piece", () => {
    const writer = new FrameWriter();
    const body = new Uint8Array(20_000).fill(0x61);
    writer.headers(1, Uint8Array.of(0x88), false);
    writer.data(1, body, false);
    writer.data(1, "b".repeat(5_000), true);
    writer.headers(3, Uint8Array.of(0x88), false);
    writer.data(3, "short", true);
    writer.settingsAck();
    const chunks = writer.take();
    assert.deepEqual(chunks.map(({ length }) => length), [19, 16_384, 9, 3_616, 9, 5_000, 33]);
    for (const at of [1, 3]) assert.equal(chunks[at]!.buffer, body.buffer);
    assert.equal(Buffer.from(chunks[5]!).toString(), "b".repeat(5_000));
    assert.equal(writer.pendingBytes, 0);
    assert.deepEqual(writer.take(), []);
  });

  test("shares memory with others, and never writes what was handed out again", () => {
    const random = new Random(64);
    const writers = Array.from({ length: 5 }, () => ({
      writer: new FrameWriter(),
      expected: [] as Uint8Array[],
      taken: [] as Uint8Array[],
    }));
    for (let i = 0; i < 20_000; i++) {
      const { writer, expected, taken } = random.pick(writers);
      const payload = Buffer.alloc(random.below(random.oneIn(50) ? 3_000 : 100), i & 0x7f);
      if (random.oneIn(3)) {
        writer.data(1, random.oneIn(2) ? payload : payload.toString("latin1"), false);
        expected.push(frame(0, 0, 1, payload.toString("hex")));
      } else {
        writer.headers(3, payload, false);
        expected.push(frame(1, 4, 3, payload.toString("hex")));
      }
      if (random.oneIn(7)) taken.push(...writer.take());
    }
    for (const { writer, expected, taken } of writers) {
      taken.push(...writer.take());
      const length = taken.reduce((sum, chunk) => sum + chunk.length, 0);
      assert.ok(Buffer.concat(expected).equals(join(taken, length)));
    }
  });

  test("has its frames read by a reader as they were written", () => {
    const random = new Random(9113);
    for (let round = 0; round < 300; round++) {
      const writer = new FrameWriter();
      const expected: string[] = [];
      for (let i = random.below(20); i >= 0; i--) {
        const id = 1 + 2 * random.below(2 ** 30);
        const bytes = Buffer.alloc(1 + random.below(40_000), 0x61);
        const end = random.oneIn(2);
        const number = 1 + random.below(2 ** 31 - 1);
        switch (random.below(6)) {
          case 0:
            writer.headers(id, bytes.subarray(0, 32_768), end);
            expected.push(`headers ${id} ${Math.min(bytes.length, 32_768)}${end ? " end" : ""}`);
            break;
          case 1:
            writer.data(id, bytes, end);
            expected.push(`data ${id} ${bytes.length}${end ? " end" : ""}`);
            break;
          case 2:
            writer.reset(id, ErrorCode.Cancel);
            expected.push(`reset ${id} 8`);
            break;
          case 3:
            writer.windowUpdate(id, number);
            expected.push(`window ${id} ${number}`);
            break;
          case 4:
            writer.settings([4, number]);
            expected.push(`settings 4,${number}`);
            break;
          default:
            writer.goAway(id, ErrorCode.NoError, "debug");
            expected.push(`goaway ${id} 0`);
        }
      }
      const { pendingBytes } = writer;
      assert.deepEqual(sayShort(readerOf(), join(writer.take(), pendingBytes)), expected);
    }
  });
});

/** What a reader says, with lengths in place of bytes. */
function sayShort(reader: FrameReader, bytes: Uint8Array): string[] {
  const said: string[] = [];
  let data = 0;
  reader.push(bytes);
  for (let step = reader.next(); step !== FrameStep.Need; step = reader.next()) {
    const end = reader.endStream ? " end" : "";
    switch (step) {
      case FrameStep.Headers:
        said.push(`headers ${reader.streamId} ${reader.block.length}${end}`);
        break;
      case FrameStep.Data:
        assert.ok(reader.data.length <= LIMITS.maxFrameBytes);
        data += reader.data.length;
        if (reader.data.length === LIMITS.maxFrameBytes && !reader.endStream) break;
        said.push(`data ${reader.streamId} ${data}${end}`);
        data = 0;
        break;
      case FrameStep.Reset:
        said.push(`reset ${reader.streamId} ${reader.errorCode}`);
        break;
      case FrameStep.WindowUpdate:
        said.push(`window ${reader.streamId} ${reader.increment}`);
        break;
      case FrameStep.Settings:
        said.push(`settings ${reader.settings}`);
        break;
      case FrameStep.GoAway:
        said.push(`goaway ${reader.lastStreamId} ${reader.errorCode}`);
        break;
      default:
        said.push(`step ${step}`);
    }
  }
  return said;
}
