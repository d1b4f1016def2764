/** The memory that writes are put together in, which is used again: nothing sent may change by it. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "bun:test";
import { SLAB_BYTES, Slabs } from "../lib/net/slabs.ts";
import { MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
stopServersAfterAll();

const holder = (bufferedBytes = 0, letsGo = true) => ({ bufferedBytes, letsGo });
const chunks = [new Uint8Array(5_000).fill(1), "ab", new Uint8Array(5_000).fill(2)];
const TOTAL = 10_002;

describe("Slabs", () => {
  const joined = (slabs: Slabs, by: ReturnType<typeof holder>) => slabs.join(chunks, TOTAL, by);

  test("put chunks together", () => {
    const bytes = joined(new Slabs(), holder());
    assert.equal(bytes.length, TOTAL);
    assert.equal(Buffer.from(bytes.subarray(4_999, 5_003)).toString("hex"), "01616202");
  });

  test("are used again by any holder once the last one waits for nothing", () => {
    const slabs = new Slabs();
    const [first, second] = [holder(), holder()];
    const { buffer } = joined(slabs, first);
    assert.equal(buffer.byteLength, SLAB_BYTES);
    assert.equal(joined(slabs, first).buffer, buffer);
    first.bufferedBytes = 1;
    const other = joined(slabs, second).buffer;
    assert.notEqual(other, buffer);
    assert.notEqual(joined(slabs, first).buffer === buffer, true);
    first.bufferedBytes = 0;
    assert.equal(joined(slabs, second).buffer, buffer);
  });

  test("are not for what is short, nor for who may keep it", () => {
    const slabs = new Slabs();
    const { buffer } = joined(slabs, holder());
    assert.notEqual(slabs.join(["a", "b"], 2, holder()).buffer, buffer);
    assert.notEqual(joined(slabs, holder(0, false)).buffer, buffer);
    assert.equal(joined(slabs, holder()).buffer, buffer);
  });

  test("are a few; more is new memory", () => {
    const slabs = new Slabs();
    const buffers = Array.from({ length: 20 }, () => joined(slabs, holder(1)).buffer);
    assert.equal(new Set(buffers).size, 20);
    assert.equal(buffers.filter(({ byteLength }) => byteLength === SLAB_BYTES).length, 8);
  });

  test("are let go where their holder is over and may still be read", () => {
    const slabs = new Slabs();
    const [stuck, done] = [holder(1), holder()];
    const { buffer } = joined(slabs, stuck);
    slabs.end(stuck);
    stuck.bufferedBytes = 0; // a stream that is over says so, whatever the runtime still does
    assert.notEqual(joined(slabs, done).buffer, buffer);
    const kept = joined(slabs, done).buffer;
    slabs.end(done);
    done.bufferedBytes = 1; // which no longer matters
    assert.equal(joined(slabs, holder()).buffer, kept);
  });
});

/** What a connection is sent: other bytes at each place, and on each connection. */
function pattern(connection: number, at: number, length: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE((at + i) * 8 + connection, i);
  return bytes;
}

/** Takes the framing off a chunked body. */
function unchunk(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  let at = bytes.indexOf("\r\n\r\n") + 4;
  for (;;) {
    const end = bytes.indexOf("\r\n", at);
    const length = parseInt(bytes.toString("latin1", at, end), 16);
    if (length === 0) return Buffer.concat(pieces);
    pieces.push(bytes.subarray(end + 2, end + 2 + length));
    at = end + 2 + length + 2;
  }
}

const BODY_BYTES = 3 << 20;
const PIECE_BYTES = 20_000;

for (const [mode, whole] of MODES.flatMap((mode) => [[mode, false], [mode, true]] as const)) {
  // A TLS socket of Deno's that pauses now and then may never read on.
  const pauses = mode === "plain" || runtime === "bun";
  const how = whole ? "as a whole" : "piece by piece";
  test(`many slow clients get what was sent ${how}, over ${mode}`, async () => {
    const { port } = await started(
      (request) => {
        const connection = Number(new URL(request.url).pathname.slice(1));
        if (whole) return new Response(pattern(connection, 0, BODY_BYTES));
        let at = 0;
        return new Response(
          new ReadableStream({
            pull(controller) {
              const length = Math.min(PIECE_BYTES, BODY_BYTES - at);
              if (length === 0) return controller.close();
              controller.enqueue(pattern(connection, at, length));
              at += length;
            },
          }),
        );
      },
      {},
      mode,
    );
    await Promise.all(Array.from({ length: 8 }, async (_, connection) => {
      const random = new Random(connection);
      const client = await RawClient.connect(port, mode);
      const { socket } = client;
      const pieces: Buffer[] = [];
      let paused = false;
      socket.removeAllListeners("data");
      socket.on("data", (bytes: Buffer) => {
        pieces.push(Buffer.from(bytes));
        if (!pauses || paused || random.below(4) > 0) return;
        paused = true;
        socket.pause();
        void (async () => {
          for (let turns = random.below(5); turns >= 0; turns--) await setImmediate();
          paused = false;
          socket.resume();
        })();
      });
      client.send(`GET /${connection} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
      if (connection === 7) { // cut in the middle: what it was given must not harm others
        await setImmediate();
        return client.destroy();
      }
      await client.rest();
      client.destroy();
      const message = Buffer.concat(pieces);
      const body = whole ? message.subarray(message.indexOf("\r\n\r\n") + 4) : unchunk(message);
      assert.equal(body.length, BODY_BYTES);
      assert.ok(body.equals(pattern(connection, 0, BODY_BYTES)), "other bytes than were sent");
    }));
  }, 60_000);
}
