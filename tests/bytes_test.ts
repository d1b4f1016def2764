import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { asBuffer } from "../lib/buffer.ts";
import {
  asciiOrUtf8,
  concat,
  copyAscii,
  GrowingBytes,
  isAscii,
  utf8,
  viewOf,
} from "../lib/bytes.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

describe("bytes", () => {
  test("of ASCII text are copied to their place, and nothing beside it is touched", () => {
    for (const length of [0, 1, 31, 32, 33, 100, 5_000]) {
      const text = Array.from({ length }, (_, i) => String.fromCharCode(i % 128)).join("");
      const target = new Uint8Array(length + 20).fill(255);
      copyAscii(text, target, 10);
      const expected = [...Array(10).fill(255), ...new TextEncoder().encode(text)];
      assert.deepEqual([...target], [...expected, ...Array(10).fill(255)]);
    }
  });

  test("of text that is not ASCII leave no old byte", () => {
    for (const length of [5, 50]) {
      for (const strange of ["\u00e9", "\u0416", "\u20ac"]) {
        const target = new Uint8Array(length + 2).fill(1);
        copyAscii("a".repeat(length - 1) + strange, target, 1);
        const last = strange.charCodeAt(0) & 255;
        assert.deepEqual([...target], [1, ...Array(length - 1).fill(97), last, 1]);
      }
    }
  });

  test("that come one by one are copied a bounded number of times, and never grow past the cap", () => {
    const growing = new GrowingBytes();
    const memories = new Set<ArrayBuffer>();
    for (let i = 0; i < 1000; i++) {
      growing.add(Uint8Array.of(i), 1000, 16);
      memories.add(growing.bytes.buffer);
    }
    assert.deepEqual([...memories].map((memory) => memory.byteLength), [
      16,
      32,
      64,
      128,
      256,
      512,
      1000,
    ]);
    assert.deepEqual(growing.bytes, Uint8Array.from({ length: 1000 }, (_, i) => i));
  });

  test("that were taken are not written to by those that come later", () => {
    const growing = new GrowingBytes();
    growing.add(Uint8Array.of(1, 2));
    const taken = growing.take();
    growing.add(Uint8Array.of(3));
    assert.deepEqual([...taken], [1, 2]);
    assert.deepEqual([...growing.bytes], [3]);
  });

  test("are joined into memory of their own, and viewed without a copy", () => {
    const one = Uint8Array.of(1);
    const joined = concat([one, Uint8Array.of(2, 3)]);
    one[0] = 9;
    assert.deepEqual([...joined], [1, 2, 3]);
    const view = new DataView(joined.buffer, 1, 2);
    assert.deepEqual([...viewOf(view)], [2, 3]);
    assert.equal(viewOf(view).buffer, joined.buffer);
    assert.equal(asBuffer(joined.subarray(1)).toString("hex"), "0203");
    assert.equal(asBuffer(joined).buffer, joined.buffer);
  });

  test("of text are UTF-8, and short ASCII is left as text", () => {
    for (const text of ["", "a", "é€😀", "\ud800", "x".repeat(5000)]) {
      assert.deepEqual([...utf8(text)], [...new TextEncoder().encode(text)]);
    }
    assert.equal(asciiOrUtf8("abc\x7f"), "abc\x7f");
    assert.deepEqual([...asciiOrUtf8("é") as Uint8Array], [0xc3, 0xa9]);
    assert.ok(asciiOrUtf8("x".repeat(5000)) instanceof Uint8Array);
    assert.ok(isAscii("x".repeat(5000)) && !isAscii("\x80"));
  });
});
