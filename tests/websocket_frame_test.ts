/** The WebSocket's frames and messages: RFC 6455 sections 5, 7 and 8.1, byte by byte. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { describe, test } from "bun:test";
import { WebSocketError } from "../lib/errors.ts";
import { decodeClose, encodeClose, isCloseCode } from "../lib/websocket/close.ts";
import { Opcode } from "../lib/websocket/opcode.ts";
import { encodeFrame, encodeMessage } from "../lib/websocket/frame_encoder.ts";
import { type FrameLimits, FrameParser, FrameStep } from "../lib/websocket/frame_parser.ts";
import { Utf8Validator } from "../lib/websocket/utf8.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import {
  bytewise,
  clientFrame,
  expectedOf,
  hex,
  inputOf,
  loadCases,
  read,
  readerFor,
} from "./websocket_cases.ts";

assertRuntime();

const LIMITS: FrameLimits = { maxPayloadBytes: 1 << 20, maxFragments: 1024, deflate: false };

/** Every split position of short inputs, a sample of those of long ones. */
function splitPositions(length: number): number[] {
  const step = length <= 2048 ? 1 : Math.ceil(length / 64);
  return Array.from({ length: Math.ceil(length / step) }, (_, i) => i * step);
}

describe("wire cases", () => {
  for (const wireCase of loadCases()) {
    test(`${wireCase.name} (${wireCase.rule})`, () => {
      const input = inputOf(wireCase);
      const { failsAt } = wireCase;
      const expected = expectedOf(wireCase);
      const strip = ({ failedAt: _, ...outcome }: ReturnType<typeof read>) => outcome;

      assert.deepEqual(strip(read(readerFor(wireCase), [input])), expected, "whole");

      const slowly = read(readerFor(wireCase), bytewise(input));
      assert.deepEqual(strip(slowly), expected, "byte by byte");
      if (failsAt !== undefined) assert.equal(slowly.failedAt, failsAt, "fails at its byte");

      for (const at of splitPositions(input.length)) {
        const pieces = [input.subarray(0, at), input.subarray(at)];
        assert.deepEqual(strip(read(readerFor(wireCase), pieces)), expected, `split at ${at}`);
      }
    });
  }
});

describe("FrameParser", () => {
  test("streams a frame of a terabyte as it arrives", () => {
    const parser = new FrameParser({ ...LIMITS, maxPayloadBytes: Infinity });
    parser.push(hex("82 ff 00 00 01 00 00 00 00 00 00 00 00 00"));
    assert.equal(parser.next(), FrameStep.Header);
    assert.equal(parser.payloadLength, 2 ** 40);
    assert.equal(parser.next(), FrameStep.Need);
    for (let i = 0; i < 100; i++) {
      const piece = new Uint8Array(1000).fill(i);
      parser.push(piece);
      assert.equal(parser.next(), FrameStep.Data);
      assert.equal(parser.data.buffer, piece.buffer, "a view, not a copy");
      assert.equal(parser.data.length, 1000);
      assert.equal(parser.next(), FrameStep.Need);
      assert.equal(parser.data.length, 0, "nothing held after Need");
    }
  });

  test("reports header, data and end of every fragment", () => {
    const parser = new FrameParser(LIMITS);
    parser.push(Buffer.concat([
      clientFrame({ op: 1, fin: false, text: "ab" }),
      clientFrame({ op: 9 }),
      clientFrame({ op: 0, text: "c" }),
    ]));
    const seen: unknown[] = [];
    for (let step = parser.next(); step !== FrameStep.Need; step = parser.next()) {
      seen.push(step === FrameStep.Data ? Buffer.from(parser.data).toString() : step);
      if (step === FrameStep.Header) seen.push([parser.opcode, parser.fin, parser.payloadLength]);
    }
    const { Header, End } = FrameStep;
    assert.deepEqual(seen, [
      ...[Header, [Opcode.Text, false, 2], "ab", End],
      ...[Header, [Opcode.Ping, true, 0], End],
      ...[Header, [Opcode.Continuation, true, 1], "c", End],
    ]);
  });

  test("says whether a message is compressed on every one of its frames", () => {
    const parser = new FrameParser({ ...LIMITS, deflate: true });
    parser.push(Buffer.concat([
      clientFrame({ op: 2, fin: false, rsv: 4 }),
      clientFrame({ op: 9 }),
      clientFrame({ op: 0 }),
      clientFrame({ op: 2 }),
    ]));
    const compressed: boolean[] = [];
    for (let step = parser.next(); step !== FrameStep.Need; step = parser.next()) {
      if (step === FrameStep.Header) compressed.push(parser.compressed);
    }
    assert.deepEqual(compressed, [true, false, true, false]);
  });

  test("hands out a control payload whole, however it is cut", () => {
    const parser = new FrameParser(LIMITS);
    const pieces: string[] = [];
    for (const byte of bytewise(clientFrame({ op: 9, text: "ping payload" }))) {
      parser.push(Uint8Array.from(byte));
      for (let step = parser.next(); step !== FrameStep.Need; step = parser.next()) {
        if (step === FrameStep.Data) pieces.push(Buffer.from(parser.data).toString());
      }
    }
    assert.deepEqual(pieces, ["ping payload"]);
  });

  test("unmasks every alignment, length and key offset", () => {
    const random = new Random(1).fraction;
    for (let round = 0; round < 400; round++) {
      const payload = Uint8Array.from({ length: Math.floor(random() * 300) }, () => random() * 256);
      const digits = Buffer.from(payload).toString("hex");
      const frame = clientFrame({ op: 2, hex: digits, mask: "01fe7f80" });
      const memory = new Uint8Array(frame.length + 8);
      const offset = round % 8;
      memory.set(frame, offset);
      const cut = Math.floor(random() * (frame.length + 1));
      const parser = new FrameParser(LIMITS);
      const seen: Uint8Array[] = [];
      for (const [from, to] of [[0, cut], [cut, frame.length]] as const) {
        parser.push(memory.subarray(offset + from, offset + to));
        for (let step = parser.next(); step !== FrameStep.Need; step = parser.next()) {
          if (step === FrameStep.Data) seen.push(parser.data);
        }
      }
      assert.equal(Buffer.concat(seen).toString("hex"), digits);
      assert.ok(memory.subarray(0, offset).every((byte) => byte === 0), "bytes before untouched");
      assert.ok(memory.subarray(offset + frame.length).every((byte) => byte === 0), "after");
    }
  });

  test("fails at the end of a text that stops inside a code point", () => {
    const parser = new FrameParser(LIMITS);
    parser.push(clientFrame({ op: 1, hex: "61 e2 82" }));
    assert.equal(parser.next(), FrameStep.Header);
    assert.equal(parser.next(), FrameStep.Data);
    assert.equal(parser.next(), FrameStep.Fail);
    assert.equal(parser.error?.closeCode, 1007);
  });

  test("stays failed", () => {
    const parser = new FrameParser(LIMITS);
    parser.push(hex("83 80 00 00 00 00"));
    assert.equal(parser.next(), FrameStep.Fail);
    const { error } = parser;
    assert.ok(error instanceof WebSocketError);
    assert.equal(error.closeCode, 1002);
    parser.push(clientFrame({ op: 1, text: "more" }));
    assert.equal(parser.next(), FrameStep.Fail);
    assert.equal(parser.error, error);
  });
});

describe("MessageReader", () => {
  test("takes no memory for a length that is only announced", () => {
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 100 }, () => {
      const reader = readerFor({ limits: { maxPayloadBytes: 2 ** 28 } });
      reader.push(hex("82 ff 00 00 00 00 10 00 00 00 00 00 00 00 01"));
      reader.next();
      return reader;
    });
    assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20, "100 × 256 MiB announced");
    assert.equal(readers.length, 100);
  });

  test("gathers a megabyte of single bytes in linear time", () => {
    const reader = readerFor({ limits: { maxPayloadBytes: 1 << 20 } });
    const frame = clientFrame({ op: 2, repeat: ["55", 1 << 20] });
    const { reports } = read(reader, bytewise(frame));
    assert.equal(reports.length, 1);
    assert.equal(reports[0]![1], "55".repeat(1 << 20));
  }, 30_000);

  for (const op of [Opcode.Binary, Opcode.Ping]) {
    test(`gives payloads of opcode ${op} that later pushes into the same memory do not change`, () => {
      const reader = readerFor({});
      const memory = Buffer.from(clientFrame({ op, hex: "0102" }));
      reader.push(memory);
      reader.next();
      const { bytes } = reader;
      memory.fill(0xee);
      assert.deepEqual([...bytes], [1, 2]);
      assert.equal(bytes.constructor, Uint8Array);
    });
  }
});

describe("encodeFrame()", () => {
  test("gives the RFC's own bytes", () => {
    const hello = new TextEncoder().encode("Hello");
    const frames: [Uint8Array, string][] = [
      [encodeFrame(Opcode.Text, hello), "81 05 48 65 6c 6c 6f"],
      [encodeFrame(Opcode.Text, hello.subarray(0, 3), { fin: false }), "01 03 48 65 6c"],
      [encodeFrame(Opcode.Continuation, hello.subarray(3)), "80 02 6c 6f"],
      [encodeFrame(Opcode.Ping, hello), "89 05 48 65 6c 6c 6f"],
      [encodeFrame(Opcode.Text, hex("f2 48"), { rsv1: true }), "c1 02 f2 48"],
      [encodeFrame(Opcode.Close, encodeClose(1000)), "88 02 03 e8"],
    ];
    for (const [frame, bytes] of frames) assert.deepEqual([...frame], [...hex(bytes)]);
  });

  test("uses the shortest length; 65535 bytes fit 16 bits (original's defect D8)", () => {
    const headers: [number, string][] = [
      [0, "82 00"],
      [125, "82 7d"],
      [126, "82 7e 00 7e"],
      [65535, "82 7e ff ff"],
      [65536, "82 7f 00 00 00 00 00 01 00 00"],
    ];
    for (const [length, bytes] of headers) {
      const frame = encodeFrame(Opcode.Binary, new Uint8Array(length));
      const header = hex(bytes);
      assert.deepEqual([...frame.subarray(0, header.length)], [...header]);
      assert.equal(frame.length, header.length + length);
    }
  });

  test("throws on what a server may not send", () => {
    const refused = { code: "WS_CANNOT_SEND" };
    assert.throws(() => encodeFrame(Opcode.Ping, new Uint8Array(126)), refused);
    assert.throws(() => encodeFrame(Opcode.Close, new Uint8Array(126)), refused);
    const empty = new Uint8Array(0);
    assert.throws(() => encodeFrame(Opcode.Pong, empty, { fin: false }), refused);
    assert.throws(() => encodeFrame(Opcode.Ping, empty, { rsv1: true }), refused);
    assert.throws(() => encodeFrame(Opcode.Continuation, empty, { rsv1: true }), refused);
  });
});

describe("encodeMessage()", () => {
  const lengths = [0, 1, 125, 126, 4095, 4096, 65535, 65536];
  const units = ["a", "é", "€", "😀", "\ud800", "\udc00", "a\ud83d", "\ufeff"];

  test("gives the frame that encodeFrame() gives, of any text", () => {
    const encoder = new TextEncoder(); // puts U+FFFD for a lone surrogate
    for (const unit of units) {
      for (const length of lengths) {
        const text = unit.repeat(length / unit.length);
        const frame = encodeFrame(Opcode.Text, encoder.encode(text));
        assert.ok(Buffer.from(frame).equals(encodeMessage(text)), `${length} of ${unit}`);
      }
    }
  });

  test("gives the frame that encodeFrame() gives, of bytes", () => {
    for (const length of lengths) {
      const bytes = Buffer.alloc(length, "bytes");
      const frame = encodeFrame(Opcode.Binary, bytes);
      assert.ok(Buffer.from(frame).equals(encodeMessage(bytes)), `${length}`);
    }
  });
});

describe("close payloads", () => {
  test("isCloseCode() accepts just the codes that may travel", () => {
    const ranges = [[1000, 1003], [1007, 1014], [3000, 4999]] as const;
    for (let code = 0; code <= 65536; code++) {
      const valid = ranges.some(([low, high]) => code >= low && code <= high);
      assert.equal(isCloseCode(code), valid, `${code}`);
    }
    for (const odd of [-1, 1000.5, NaN, Infinity]) assert.equal(isCloseCode(odd), false);
  });

  test("encodeClose() and decodeClose() agree", () => {
    assert.equal(encodeClose().length, 0);
    assert.deepEqual(decodeClose(encodeClose()), { code: 1005, reason: "" });
    assert.deepEqual(decodeClose(encodeClose(4000, "grüße")), { code: 4000, reason: "grüße" });
    assert.deepEqual(decodeClose(encodeClose(1000, "\ufeffx")), { code: 1000, reason: "\ufeffx" });
    assert.equal(encodeClose(1000, "ü".repeat(61)).length, 124);
  });

  test("encodeClose() throws on reserved codes and long reasons", () => {
    const refused = { code: "WS_CANNOT_SEND" };
    for (const code of [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 1000.5, NaN]) {
      assert.throws(() => encodeClose(code), refused);
    }
    assert.throws(() => encodeClose(1000, "x".repeat(124)), refused);
    assert.throws(() => encodeClose(1000, "ü".repeat(62)), refused);
    assert.throws(() => encodeClose(undefined, "why"), refused);
  });
});

describe("Utf8Validator", () => {
  test("agrees with TextDecoder on every mix of the bytes at the edges", () => {
    const edges = hex("00 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff");
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const text = new Uint8Array(3);
    for (const lead of edges) {
      for (let i = 0; i < edges.length ** 3; i++) {
        text[0] = edges[Math.floor(i / edges.length ** 2)]!;
        text[1] = edges[Math.floor(i / edges.length) % edges.length]!;
        text[2] = edges[i % edges.length]!;
        if (lead < 0xf0 && i % edges.length !== 0) continue; // three bytes are enough here
        const whole = Uint8Array.of(lead, ...(lead < 0xf0 ? text.subarray(0, 2) : text));
        const validator = new Utf8Validator();
        const valid = validator.push(whole) && validator.complete;
        // The message is made where it is needed only: it costs more than the validator.
        if (valid !== decodes(decoder, whole)) assert.fail(Buffer.from(whole).toString("hex"));
      }
    }
  }, 60_000);

  test("fails at the first impossible byte, never later", () => {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    // A prefix is possible when some continuation completes it.
    const endings = ["", "80", "bf", "8080", "bfbf", "808080", "bfbfbf"].map(hex);
    const random = new Random(2).fraction;
    const leads = hex("c1 c2 e0 e1 ed ef f0 f1 f4 f5");
    for (let round = 0; round < 3000; round++) {
      const text = Uint8Array.of(
        leads[round % leads.length]!,
        ...[0, 0, 0].map(() => random() * 256),
      );
      const validator = new Utf8Validator();
      for (let length = 1; length <= 4; length++) {
        const prefix = text.subarray(0, length);
        const possible = endings.some((ending) =>
          decodes(decoder, Buffer.concat([prefix, ending]))
        );
        const accepted = validator.push(prefix.subarray(-1));
        assert.equal(accepted, possible, Buffer.from(prefix).toString("hex"));
        if (!accepted) break;
      }
    }
  });
});

function decodes(decoder: TextDecoder, bytes: Uint8Array): boolean {
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}
