/** The states of a connection, on a wire of memory: what each verb and each report of the wire does. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { resolveConfig } from "../lib/config.ts";
import { ConnectionError } from "../lib/errors.ts";
import type { Exchange } from "../lib/http/exchange.ts";
import { ExchangeWatch } from "../lib/http/exchange_watch.ts";
import { Http1Connection, type Http1Host } from "../lib/http1/connection.ts";
import type { ConnectionEngine } from "../lib/net/engine.ts";
import { LINGER_MS, MemoryWire, openedOn, SEND_MS } from "./engine_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const opened = () => openedOn(new MemoryWire());

describe("A connection", () => {
  test("closes: writes, ends, waits for the peer's end", async () => {
    const { wire, engine, consumer } = await opened();
    engine.write("last");
    engine.close();
    assert.deepEqual(wire.calls, ["write 4", "end"]);
    assert.equal(engine.closing, true);
    assert.equal(engine.write("more"), false);
    wire.reader.onData(new Uint8Array(10)); // thrown away
    wire.reader.onFinish();
    assert.deepEqual([engine.queuedBytes, engine.closed], [0, false]);
    wire.reader.onEnd();
    assert.equal(engine.closed, true);
    assert.equal(await consumer.closedWith, undefined);
    assert.deepEqual(wire.calls, ["write 4", "end", "destroy"]);
  });

  test("that lingers is over in lingerMs, in good order", async () => {
    const { wire, clock, engine, consumer } = await opened();
    engine.close();
    wire.reader.onFinish();
    await clock.advance(LINGER_MS - 500);
    assert.equal(engine.closed, false);
    await clock.advance(1_000);
    assert.equal(await consumer.closedWith, undefined);
  });

  test("whose peer does not read is cut in sendTimeoutMs", async () => {
    const { clock, engine, consumer } = await opened();
    engine.close();
    await clock.advance(SEND_MS + 500);
    assert.equal((await consumer.closedWith as ConnectionError).code, "CONNECTION_TIMEOUT");
  });

  test("that leaves is cut when its time is up, though the peer reads", async () => {
    const { wire, clock, engine } = await opened();
    wire.full = true;
    engine.write("much");
    engine.write("more");
    engine.close({ withinMs: 600 });
    await clock.advance(400);
    wire.reader.onDrain();
    await clock.advance(500);
    assert.equal(engine.closed, true);
  });

  test("keeps its consumer's deadlines, however the peer reads, and says until when it is spared", async () => {
    const { wire, clock, engine, consumer } = await opened();
    wire.full = true;
    engine.deadline = engine.after(600);
    engine.write("x".repeat(200_000));
    assert.equal(engine.readUntil, -Infinity); // it has never made room
    await clock.advance(400);
    wire.reader.onDrain();
    assert.equal(engine.readUntil, clock.now() + SEND_MS);
    await clock.advance(500);
    assert.deepEqual(consumer.calls, ["expired"]);
    wire.full = false;
    wire.reader.onDrain();
    assert.equal(engine.readUntil, -Infinity); // there is nothing to read
  });

  /** What writes much to a connection, and waits for its peer to read. */
  const WRITERS: Record<string, (engine: ConnectionEngine, wire: MemoryWire) => void> = {
    "an answer of HTTP/1.1": (engine, wire) => {
      new Http1Connection(engine, {
        ...resolveConfig({ transportMode: "insecure", timeouts: { sendMs: SEND_MS } }),
        watch: new ExchangeWatch({ ended() {}, observerFailed() {} }),
        crowded: false,
        handle: (_: unknown, { response }: Exchange) =>
          response.send({ status: 200 }, "x".repeat(200_000)),
        passed() {},
        ended() {},
      } as unknown as Http1Host).begin();
      wire.reader.onData(Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    },
    "its streams": (engine) => {
      engine.writable.getWriter().write(new Uint8Array(200_000)).catch(() => {});
    },
  };
  for (const [what, write] of Object.entries(WRITERS)) {
    test(`whose peer reads slowly is not cut, but when it reads no more: ${what}`, async () => {
      const { wire, clock, engine, consumer } = await opened();
      engine.detach(consumer);
      wire.full = true;
      write(engine, wire);
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(engine.blocked, true);
      await clock.advance(800);
      wire.reader.onDrain(); // which takes the next slice, and no more
      await clock.advance(800);
      assert.equal(engine.closed, false);
      await clock.advance(600);
      assert.equal(engine.closed, true);
    });
  }

  test("closed with an error waits for the peer's end, too, and reports the error", async () => {
    const { wire, engine, consumer } = await opened();
    const error = new ConnectionError("CONNECTION_ABORTED", "A trial");
    engine.close({ error });
    wire.reader.onFinish();
    assert.equal(engine.closed, false);
    wire.reader.onEnd();
    assert.equal(await consumer.closedWith, error);
  });

  test("destroyed is over at once, with what waits", async () => {
    const { wire, engine, consumer, unread } = await opened();
    wire.reader.onData(new Uint8Array(10));
    const error = new ConnectionError("CONNECTION_ABORTED", "A trial");
    engine.destroy(error, { reset: true });
    assert.equal(await consumer.closedWith, error);
    assert.deepEqual([engine.queuedBytes, engine.ended, unread.bytes], [0, false, 0]);
    assert.deepEqual(wire.calls, ["reset", "destroy"]);
    wire.reader.onEnd();
    wire.reader.onClose();
    assert.equal(consumer.calls.filter((call) => call === "closed").length, 1);
  });

  test("destroyed behind the peer's end gives nothing of what had come", async () => {
    const { wire, engine } = await opened();
    wire.reader.onData(new Uint8Array(10));
    wire.reader.onEnd();
    engine.destroy();
    assert.deepEqual([engine.take(), engine.ended], [undefined, false]);
  });

  test("stops its wire when much waits, and starts it when that is taken", async () => {
    const { wire, engine, unread } = await opened();
    for (let i = 0; i < 5; i++) wire.reader.onData(new Uint8Array(64 * 1024));
    assert.deepEqual([wire.calls, engine.stopped], [["stop"], true]);
    while (engine.take() !== undefined);
    assert.deepEqual([wire.calls, engine.stopped], [["stop", "start"], false]);
    assert.equal(unread.bytes, 0);
  });

  test("lets the last bytes of a peer that has ended be taken, stopped or not", async () => {
    for (const size of [10, 300 * 1024]) {
      const { wire, engine, consumer, unread } = await opened();
      wire.reader.onData(new Uint8Array(size));
      wire.reader.onEnd();
      assert.deepEqual([engine.peerEnded, engine.ended, engine.stopped], [true, false, false]);
      engine.end(() => {});
      wire.reader.onFinish();
      assert.equal(await consumer.closedWith, undefined);
      assert.equal(engine.take()?.length, size);
      assert.deepEqual([engine.ended, unread.bytes], [true, 0]);
    }
  });

  test("whose wire closes by itself reports that it was too early", async () => {
    const { wire, consumer } = await opened();
    wire.reader.onClose();
    assert.equal((await consumer.closedWith as ConnectionError).code, "CONNECTION_CLOSED");
  });
});

test("Bytes that may change are sent as they were, however writes fall together", async () => {
  const random = new Random(1);
  for (let run = 0; run < 300; run++) {
    const { wire, engine, consumer } = await opened();
    const expected: Uint8Array[] = [];
    const memory: Uint8Array[] = [];
    let drained = consumer.calls.length;
    for (let i = 0; i < 12; i++) {
      wire.full = random.below(4) === 0;
      const isCorked = random.below(3) === 0;
      if (isCorked) engine.cork();
      let mayGoOn = true;
      for (let count = 1 + random.below(4); count > 0 && mayGoOn; count--) {
        const bytes = new Uint8Array(random.below(3) * 40_000 + random.below(3_000)).fill(i + 1);
        expected.push(bytes.slice());
        if (random.below(2) === 0) mayGoOn = engine.write(bytes);
        else {
          memory.push(bytes);
          mayGoOn = engine.write(bytes, true);
        }
      }
      if (isCorked) engine.uncork();
      if (engine.blocked) {
        wire.full = false;
        wire.reader.onDrain();
        assert.ok(consumer.calls.length > drained, "it reports that writing may go on");
      }
      drained = consumer.calls.length;
      for (const bytes of memory.splice(0)) bytes.fill(255); // as their owner may now
    }
    const sent = Buffer.concat(wire.written.map((chunk) => Buffer.from(chunk as Uint8Array)));
    assert.ok(sent.equals(Buffer.concat(expected)), `run ${run}`);
  }
});
