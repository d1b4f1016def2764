/** The frames of HTTP/2, byte by byte: RFC 9113 sections 4 and 6. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { FrameReader } from "../lib/http2/frame_reader.ts";
import {
  bytesOf,
  inputOf,
  LIMITS,
  loadCases,
  read,
  type ReadCase,
  stepsOf,
  write,
} from "./http2_cases.ts";
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

describe("FrameWriter writes the cases", () => {
  for (const writeCase of cases.write) {
    test(`${writeCase.name} (${writeCase.rule})`, () => {
      assert.deepEqual(Buffer.from(write(writeCase)), bytesOf(writeCase.bytes));
    });
  }
});
