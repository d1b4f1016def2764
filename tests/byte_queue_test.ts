/** Bytes that wait come out as they went in, and take little more memory than they are. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { ByteQueue } from "../lib/http/byte_queue.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

describe("ByteQueue", () => {
  test("gives what it was given, in order, whatever is put in and taken", () => {
    const random = new Random(14);
    for (let round = 0; round < 300; round++) {
      const queue = new ByteQueue();
      const put: Buffer[] = [];
      const taken: { bytes: Uint8Array; was: string }[] = [];
      const take = (max?: number): void => {
        const bytes = random.oneIn(4) ? queue.takeJoined(max ?? 2_000) : queue.take(max);
        if (bytes !== undefined) taken.push({ bytes, was: Buffer.from(bytes).toString("latin1") });
      };
      for (let i = 0; i < 60; i++) {
        const piece = Buffer.alloc(random.below(random.oneIn(3) ? 3_000 : 9) + 1, random.next());
        if (random.oneIn(3)) queue.push(piece);
        else if (random.oneIn(2)) queue.add(piece);
        else {
          const lent = Buffer.from(piece);
          queue.pushCopy(lent);
          lent.fill(0); // its memory is used again
        }
        put.push(piece);
        if (random.oneIn(4)) take(random.oneIn(2) ? 1 + random.below(5) : undefined);
      }
      assert.equal(
        queue.bytes,
        put.reduce((sum, { length }) => sum + length, 0) -
          taken.reduce((sum, { bytes }) => sum + bytes.length, 0),
      );
      if (random.oneIn(4)) {
        const bytes = queue.takeAll();
        taken.push({ bytes, was: Buffer.from(bytes).toString("latin1") });
      }
      while (queue.pieces > 0) take(random.oneIn(2) ? undefined : 100);
      assert.equal(queue.bytes, 0);
      for (const { bytes, was } of taken) {
        assert.equal(Buffer.from(bytes).toString("latin1"), was, "what was given away has changed");
      }
      assert.deepEqual(Buffer.concat(taken.map(({ bytes }) => bytes)), Buffer.concat(put));
    }
  });

  test("puts single bytes together", () => {
    const queue = new ByteQueue();
    for (let i = 0; i < 100_000; i++) queue.pushCopy(Uint8Array.of(i));
    assert.equal(queue.bytes, 100_000);
    assert.ok(queue.pieces < 30, `${queue.pieces} pieces`);
  });

  test("copies what is short, and what would keep much more memory alive than it has", () => {
    const read = new Uint8Array(64 * 1024);
    for (
      const [piece, isCopied] of [
        [read.subarray(0, 2_048), true],
        [read.subarray(0, 16 * 1024 - 1), true],
        [read.subarray(0, 16 * 1024), false],
        [new Uint8Array(2_048), true],
        [new Uint8Array(2_049), false],
      ] as const
    ) {
      const queue = new ByteQueue();
      queue.add(piece);
      const taken = queue.take()!;
      assert.equal(taken !== piece, isCopied, `${piece.length} of ${piece.buffer.byteLength}`);
      assert.equal(taken.length, piece.length);
      if (isCopied) assert.ok(taken.buffer.byteLength <= 16 * 1024);
    }
  });

  test("takes all as one piece, nothing too", () => {
    const queue = new ByteQueue();
    assert.deepEqual([...queue.takeAll()], []);
    const long = new Uint8Array(5_000).fill(7);
    queue.add(long);
    assert.equal(queue.takeAll(), long);
    for (const byte of [1, 2, 3]) queue.add(Uint8Array.of(byte));
    queue.add(long);
    assert.deepEqual([...queue.takeAll()], [1, 2, 3, ...long]);
    assert.deepEqual([queue.bytes, queue.pieces], [0, 0]);
  });

  test("puts together what it gives to a stream, and copies nothing long that is alone in its memory", () => {
    const queue = new ByteQueue();
    const read = Uint8Array.from({ length: 100 }, (_, i) => i);
    const short = Uint8Array.of(200);
    const whole = new Uint8Array(2_049).fill(200);
    for (const piece of [read.subarray(0, 10), read.subarray(20, 30), short]) queue.push(piece);
    for (const piece of [read.subarray(40, 80), read.subarray(90)]) queue.push(piece);
    const expected = [...read.subarray(0, 10), ...read.subarray(20, 30), 200];
    assert.deepEqual([...queue.takeJoined(21)!], expected);
    assert.deepEqual(
      [...queue.takeJoined(1)!],
      [...read.subarray(40, 80)],
      "the first in any case",
    );
    assert.equal(queue.bytes, 10);
    queue.take();
    queue.push(short);
    queue.push(read.subarray(0, 2));
    assert.deepEqual([...queue.takeJoined(100)!], [200, 0, 1]);
    queue.push(whole);
    queue.push(read.subarray(0, 10));
    assert.equal(queue.takeJoined(10_000), whole);
    queue.take();
    assert.equal(queue.takeJoined(100), undefined);
  });

  test("forgets what waits", () => {
    const queue = new ByteQueue();
    queue.pushCopy(Uint8Array.of(1));
    queue.pushCopy(Uint8Array.of(2, 3));
    assert.equal(queue.clear(), 3);
    assert.equal(queue.take(), undefined);
    queue.pushCopy(Uint8Array.of(4));
    assert.deepEqual([...queue.take()!], [4]);
  });
});
