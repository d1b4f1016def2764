/**
 * When a connection frees the memory of what was written: as soon as the wire has let go of all of it,
 * and not before, whatever is written, read and ended meanwhile.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import type { Chunk } from "../lib/net/chunks.ts";
import { MemoryWire, openedOn } from "./engine_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** What a stream takes before it says that it is full. */
const FULL_BYTES = 64 * 1024;

/** A wire that keeps what was written, uncopied, until the peer reads it, as streams do. */
class SlowWire extends MemoryWire {
  override readonly letsGo: boolean = true;
  readonly got: Buffer[] = [];
  #waiting: Buffer[] = [];
  #bytes = 0;
  #isEnding = false;

  override get bufferedBytes(): number {
    return this.#bytes;
  }

  override write(chunk: Chunk): boolean {
    const view = typeof chunk === "string"
      ? Buffer.from(chunk, "latin1")
      : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    this.#waiting.push(view);
    this.#bytes += view.length;
    return this.#bytes < FULL_BYTES;
  }

  override end(): void {
    this.#isEnding = true;
  }

  /** The peer reads the first chunk that waits. */
  readOne(): void {
    const first = this.#waiting.shift();
    if (first === undefined) return;
    this.got.push(Buffer.from(first)); // a copy, of what is there now
    this.#bytes -= first.length;
    if (this.#bytes > 0) return;
    this.reader.onDrain();
    if (this.#isEnding && this.#bytes === 0) this.reader.onFinish();
  }

  readAll(): void {
    while (this.#bytes > 0) this.readOne();
  }
}

/** A wire that may look at memory after it has counted it as gone, as rustls's does on Deno. */
class KeepingWire extends SlowWire {
  override readonly letsGo = false;
}

const isFreed = (bytes: Uint8Array) => bytes.buffer.byteLength === 0;
const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

describe("The memory of what was written", () => {
  test("is freed when the wire has let go of it, and not before", async () => {
    const { wire, engine } = await openedOn(new SlowWire());
    const body = filled(10_000, 1); // less than what fills the wire
    assert.equal(engine.write(body), true);
    engine.free(body);
    assert.equal(isFreed(body), false);
    wire.readOne();
    assert.equal(isFreed(body), true);
    assert.deepEqual(wire.got, [Buffer.alloc(10_000, 1)]);
  });

  test("is kept while more of it waits in the connection than the wire takes", async () => {
    const { wire, engine } = await openedOn(new SlowWire());
    const body = filled(1_000_000, 1);
    engine.write(body);
    engine.free(body);
    while (engine.bufferedBytes > 0) {
      assert.equal(isFreed(body), false);
      wire.readOne();
    }
    assert.equal(isFreed(body), true);
    assert.ok(Buffer.concat(wire.got).equals(Buffer.alloc(1_000_000, 1)));
  });

  test("is kept while what was written behind it waits", async () => {
    const { wire, engine } = await openedOn(new SlowWire());
    const body = filled(10_000, 1);
    engine.write(body);
    engine.free(body);
    engine.write(filled(10_000, 2));
    wire.readOne();
    assert.equal(isFreed(body), false);
    wire.readOne();
    assert.equal(isFreed(body), true);
  });

  test("is freed when this side has ended behind it", async () => {
    const { wire, engine } = await openedOn(new SlowWire());
    const body = filled(10_000, 1);
    engine.write(body);
    engine.free(body);
    engine.close();
    assert.equal(isFreed(body), false);
    wire.readAll();
    assert.equal(isFreed(body), true);
    assert.deepEqual(wire.got, [Buffer.alloc(10_000, 1)]);
  });

  test("is left to the collector where the connection is cut", async () => {
    const { engine } = await openedOn(new SlowWire());
    const body = filled(10_000, 1);
    engine.write(body);
    engine.free(body);
    engine.destroy();
    assert.equal(isFreed(body), false);
    engine.free(body);
    assert.equal(isFreed(body), false);
  });

  test("is never freed under a wire that may look at it later", async () => {
    const { wire, engine } = await openedOn(new KeepingWire());
    const body = filled(10_000, 1);
    engine.write(body);
    engine.free(body);
    wire.readAll();
    assert.equal(isFreed(body), false);
  });

  test("leaves whole, in whatever order is written and read (generated)", async () => {
    let freed = 0;
    for (let run = 0; run < 60; run++) {
      const random = new Random(run);
      const { wire, engine } = await openedOn(new SlowWire());
      const expected: Buffer[] = [];
      const bodies: Uint8Array[] = [];
      for (let i = 0; i < 8; i++) {
        const body = filled(1 + random.below(150_000), i + 1);
        expected.push(Buffer.from(body));
        bodies.push(body);
        const isCorked = random.below(2) === 0;
        if (isCorked) engine.cork();
        engine.write(body);
        engine.free(body);
        if (random.below(2) === 0) {
          engine.write("behind");
          expected.push(Buffer.from("behind"));
        }
        if (isCorked) engine.uncork();
        for (let reads = random.below(4); reads > 0; reads--) wire.readOne();
      }
      wire.readAll();
      assert.ok(Buffer.concat(wire.got).equals(Buffer.concat(expected)), `run ${run}`);
      freed += bodies.filter(isFreed).length;
    }
    assert.ok(freed > 100, `${freed} were freed`);
  });
});
