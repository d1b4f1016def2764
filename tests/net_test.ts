/** Connections: their streams, their consumers and their ends, over plain TCP and each way of TLS. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { ConnectionError, StateError } from "../lib/errors.ts";
import { assertConnectionError, encode, MIB, pair, push, rejection, turn } from "./net_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import {
  blocks,
  connect,
  Digest,
  digestOf,
  FLOWS,
  gone,
  openRelay,
  openTransport,
  received,
  RecordingConsumer,
  turns,
  until,
} from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();

async function readText(readable: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of readable) text += decoder.decode(chunk, { stream: true });
  return text;
}

for (const mode of FLOWS) {
  /**
   * Bun's TLS over a stream that is no socket knows neither half-close nor backpressure of writes
   * (docs/runtimes.md). No user meets that: the fallback is for Deno.
   */
  const fullTest = mode === "paced" && runtime === "bun" ? () => {} : test;

  describe(`ConnectionEngine, ${mode}`, () => {
    test("carries 40 MB each way at once, unchanged, with pauses", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const total = 40_000_000;
      const fromServer = new Digest();
      client.on("data", (bytes: Buffer) => fromServer.add(bytes));
      const clientEnd = new Promise((resolve) => client.once("end", resolve));
      const fromClient = new Digest();
      const readAll = async (): Promise<void> => {
        let nextPause = 4 * MIB;
        for await (const chunk of connection.readable) {
          fromClient.add(chunk);
          if (fromClient.bytes < nextPause) continue;
          nextPause += 4 * MIB;
          for (let i = 0; i < 5; i++) await turn();
        }
      };
      const writeAll = async (): Promise<void> => {
        const writer = connection.writable.getWriter();
        for (const block of blocks(total, 7)) await writer.write(block);
        await writer.close();
      };
      await Promise.all([
        push(client, blocks(total, 8)).then(() => client.end()),
        readAll(),
        writeAll(),
        clientEnd,
      ]);
      assert.equal(fromClient.bytes, total);
      assert.equal(fromClient.hex(), digestOf(blocks(total, 8)));
      assert.equal(fromServer.bytes, total);
      assert.equal(fromServer.hex(), digestOf(blocks(total, 7)));
      await until(() => connection.closed, "closed after both ends");
    }, 60_000);

    fullTest("writes on after the client has ended its side", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const answer = received(client);
      client.end("question");
      assert.equal(await readText(connection.readable), "question");
      const writer = connection.writable.getWriter();
      for (const block of blocks(300_000)) await writer.write(block);
      await writer.close();
      assert.equal(digestOf([await answer]), digestOf(blocks(300_000)));
      await until(() => connection.closed, "closed after both ends");
    });

    test("reads on after its writable was closed, also what waited when the client closed", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const farewell = received(client);
      const writer = connection.writable.getWriter();
      await writer.write(encode("bye"));
      await writer.close();
      assert.equal((await farewell).toString(), "bye");
      await push(client, blocks(700_000));
      client.end();
      for (let i = 0; i < 20; i++) await turn();
      const digest = new Digest();
      for await (const chunk of connection.readable) {
        digest.add(chunk);
        await turn();
      }
      assert.equal(digest.bytes, 700_000);
      assert.equal(digest.hex(), digestOf(blocks(700_000)));
      await until(() => connection.closed, "closed after both ends");
    });

    test("throws away what comes after cancel(), and writes on", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const answer = received(client);
      await connection.readable.cancel();
      await push(client, blocks(3_000_000));
      const writer = connection.writable.getWriter();
      await writer.write(encode("still here"));
      await writer.close();
      assert.equal((await answer).toString(), "still here");
      client.end();
      await until(() => connection.closed, "closed after both ends");
    });

    fullTest("is cut at once by abort(), also while a write waits for the peer", async () => {
      await using transport = await openTransport(mode);
      await using relay = await openRelay(transport.port);
      const [client, { client: near, server: far }] = await Promise.all([
        connect({ mode, port: relay.port }),
        relay.accept().then((both) => {
          both.client.pipe(both.server);
          both.server.pipe(both.client);
          return both;
        }),
      ]);
      const connection = await transport.accept();
      far.unpipe(near);
      far.pause();
      const reading = rejection(connection.readable.getReader().read());
      const writer = connection.writable.getWriter();
      const writing = rejection(writer.write(new Uint8Array(30_000_000)));
      for (let i = 0; i < 20; i++) await turn();
      const aborting = writer.abort("enough");
      assert.equal(connection.closed, true);
      assertConnectionError(await reading, "CONNECTION_ABORTED");
      assert.ok(await writing);
      await aborting.catch(() => {});
      await gone(far);
      client.destroy();
    });

    test("reads into the caller's buffers, and ends a read that waits at the end", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const reader = connection.readable.getReader({ mode: "byob" });
      client.write("abcdef");
      const first = await reader.read(new Uint8Array(4));
      assert.equal(Buffer.from(first.value!).toString(), "abcd");
      const second = await reader.read(new Uint8Array(100));
      assert.equal(Buffer.from(second.value!).toString(), "ef");
      const last = reader.read(new Uint8Array(8));
      await turn();
      client.end();
      const { done, value } = await last;
      assert.equal(done, true);
      assert.equal(value?.byteLength, 0);
    });

    fullTest("survives an end in the middle of an element", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const reader = connection.readable.getReader({ mode: "byob" });
      const read = rejection(reader.read(new Uint32Array(4)));
      await turn();
      client.end("abc");
      assert.ok(await read instanceof TypeError);
      await connection.writable.close();
      await until(() => connection.closed, "closed after both ends");
    });

    test("can be released and locked again without losing bytes", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const { readable, writable } = connection;
      assert.equal(connection.readable, readable);
      client.write("one");
      const first = readable.getReader();
      assert.equal(Buffer.from((await first.read()).value!).toString(), "one");
      const abandoned = rejection(first.read());
      await turn();
      first.releaseLock();
      assert.ok(await abandoned instanceof TypeError);
      const second = readable.getReader();
      client.write("two");
      assert.equal(Buffer.from((await second.read()).value!).toString(), "two");

      const answer = received(client);
      for (const word of ["three ", "four"]) {
        const writer = writable.getWriter();
        await writer.write(encode(word));
        writer.releaseLock();
      }
      await writable.close();
      assert.equal((await answer).toString(), "three four");
    });

    test("refuses a second consumer", async () => {
      await using transport = await openTransport(mode);
      const { connection } = await pair(transport);
      connection.attach(new RecordingConsumer());
      assert.throws(
        () => connection.readable,
        (error: unknown) => error instanceof StateError && error.code === "BODY_USED",
      );
    });

    test("refuses chunks that are no bytes", async () => {
      await using transport = await openTransport(mode);
      const { connection } = await pair(transport);
      const writer = connection.writable.getWriter();
      assert.ok(await rejection(writer.write("text" as never)) instanceof TypeError);
    });

    test("gives reads and writes after a cut our error", async () => {
      await using transport = await openTransport(mode);
      const { connection } = await pair(transport);
      const { readable, writable } = connection;
      connection.destroy();
      connection.destroy();
      assertConnectionError(await rejection(readable.getReader().read()), "CONNECTION_ABORTED");
      assertConnectionError(
        await rejection(writable.getWriter().write(encode("x"))),
        "CONNECTION_ABORTED",
      );
      assert.equal(connection.write(encode("nowhere")), false);
    });

    test("calls a consumer once, with an error, when the peer is gone", async () => {
      await using transport = await openTransport(mode);
      await using relay = await openRelay(transport.port);
      const relayed = relay.accept().then((both) => {
        both.client.pipe(both.server);
        both.server.pipe(both.client);
        return both;
      });
      const client = await connect({ mode, port: relay.port });
      const connection = await transport.accept();
      const consumer = new RecordingConsumer();
      connection.attach(consumer);
      (await relayed).server.resetAndDestroy();
      // Under TLS, both runtimes may show a reset as an end: then it is the write that fails.
      await until(() => connection.closed || connection.ended, "the reset is seen");
      if (!connection.closed) {
        for (let i = 0; i < 100 && !connection.closed; i++) {
          connection.write(encode("anybody there?"));
          await turn();
        }
      }
      const error = await consumer.closedWith;
      assert.ok(error instanceof ConnectionError);
      assert.ok(["CONNECTION_RESET", "CONNECTION_CLOSED"].includes(error.code), error.code);
      for (let i = 0; i < 20; i++) await turn();
      assert.equal(consumer.calls.filter((call) => call === "closed").length, 1);
      client.destroy();
    });

    test("calls a consumer once that is attached in the turn of the cut", async () => {
      await using transport = await openTransport(mode);
      const { connection } = await pair(transport);
      const early = new RecordingConsumer();
      connection.attach(early);
      connection.destroy();
      await turn();
      assert.deepEqual(early.calls, ["closed"]);
      connection.detach(early);
      const late = new RecordingConsumer();
      connection.attach(late);
      await turn();
      assert.deepEqual(late.calls, ["closed"]);
    });

    test("gives a new consumer what was put back", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const first = new RecordingConsumer();
      connection.attach(first);
      client.write("GET upgrade");
      await until(() => connection.queuedBytes === 11, "the bytes have come");
      const bytes = connection.take()!;
      connection.putBack(bytes.subarray(4));
      connection.detach(first);
      const reader = connection.readable.getReader();
      assert.equal(Buffer.from((await reader.read()).value!).toString(), "upgrade");
    });

    test("may be destroyed while bytes come", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      connection.attach({
        bytesReady: () => connection.destroy(),
        peerEnded() {},
        stopped() {},
        drained() {},
        expired() {},
        closed() {},
      });
      client.write(new Uint8Array(1_000_000));
      await gone(client);
      assert.equal(connection.closed, true);
      assert.equal(connection.queuedBytes, 0);
    });

    fullTest("counts every byte for its observer", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const counted = { received: 0, sent: 0 };
      connection.observer = {
        received: (bytes) => void (counted.received += bytes),
        sent: (bytes) => void (counted.sent += bytes),
      };
      const answer = received(client);
      const digest = new Digest();
      const reading = (async () => {
        for await (const chunk of connection.readable) digest.add(chunk);
      })();
      await push(client, blocks(1_234_567));
      client.end();
      await reading;
      const writer = connection.writable.getWriter();
      await writer.write(encode("head"));
      await writer.write(new Uint8Array(2_345_678));
      await writer.close();
      assert.equal((await answer).length, 2_345_682);
      assert.deepEqual(counted, { received: 1_234_567, sent: 2_345_682 });
    });

    test("sends what was gathered in order, and all of a long write", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      connection.attach(new RecordingConsumer());
      const answer = received(client);
      const parts = [10, 200_000, 1, 65_536, 65_537, 0, 30, 1_000_000].map((length, i) =>
        new Uint8Array(length).fill(i + 1)
      );
      connection.cork();
      for (const part of parts) connection.write(part);
      connection.uncork();
      connection.write(encode("tail"));
      connection.close();
      assert.equal(digestOf([await answer]), digestOf([...parts, encode("tail")]));
    });
  });

  describe(`Connection.close(), ${mode}`, () => {
    test("does not lose the last answer while the peer still sends", async () => {
      await using transport = await openTransport(mode);
      for (let round = 0; round < 10; round++) {
        const { client, connection } = await pair(transport);
        connection.attach(new RecordingConsumer());
        const answer = received(client);
        const pushing = push(client, blocks(2_000_000));
        await until(() => connection.queuedBytes > 0, "the peer sends");
        connection.write(new Uint8Array(500_000));
        connection.close();
        assert.equal((await answer).length, 500_000);
        await pushing;
        client.end();
        await until(() => connection.closed, "closed once the peer ended");
      }
    }, 20_000);

    test("cuts a peer that never ends after lingerMs", async () => {
      const clock = new TestClock();
      await using transport = await openTransport(mode, { lingerMs: 200, clock });
      const { client, connection } = await pair(transport);
      const consumer = new RecordingConsumer();
      connection.attach(consumer);
      const answer = received(client);
      connection.write(encode("last"));
      connection.close();
      assert.equal((await answer).toString(), "last");
      await turns();
      await clock.advance(150);
      assert.equal(connection.closed, false);
      await clock.advance(100);
      assert.equal(await consumer.closedWith, undefined);
    });

    test("cuts a peer that sends for ever after lingerMs", async () => {
      const clock = new TestClock();
      await using transport = await openTransport(mode, { lingerMs: 200, clock });
      const { client, connection } = await pair(transport);
      connection.attach(new RecordingConsumer());
      connection.close();
      await turns();
      for (let ms = 0; ms < 300; ms += 20) {
        if (ms < 150) assert.equal(connection.closed, false);
        client.write("more");
        await turns(2);
        await clock.advance(20);
      }
      await until(() => connection.closed, "cut");
      await gone(client);
    });

    fullTest("gives a slow reader all that was written, however long it takes", async () => {
      const clock = new TestClock();
      const times = { sendTimeoutMs: 600, lingerMs: 60_000 };
      await using transport = await openTransport(mode, { ...times, clock });
      await using relay = await openRelay(transport.port);
      const STEP = 4_000_000;
      let passed = 0;
      let allowed = STEP;
      const relayed = relay.accept().then((both) => {
        both.client.pipe(both.server);
        both.server.on("data", (bytes) => {
          both.client.write(bytes);
          passed += bytes.length;
          if (passed > allowed) both.server.pause();
        });
        both.server.on("end", () => both.client.end());
        return both.server;
      });
      const client = await connect({ mode, port: relay.port });
      const [connection, server] = await Promise.all([transport.accept(), relayed]);
      connection.attach(new RecordingConsumer());
      const total = 25_000_000;
      let over = false;
      const answer = received(client).finally(() => over = true);
      connection.write(new Uint8Array(total));
      connection.close();
      let waits = 0;
      for (;;) {
        await until(() => server.isPaused() || over, "the reader pauses", 20_000);
        if (over) break;
        await clock.advance(500); // as long as it reads at all, no time is too long
        waits++;
        const before = connection.bufferedBytes;
        allowed = passed + STEP;
        server.resume();
        const drained = (): boolean => before === 0 || connection.bufferedBytes < before;
        await until(() => over || drained(), "the reader has read", 20_000);
      }
      assert.equal((await answer).length, total);
      assert.ok(waits > 3, "slower than the send timeout, or this is no test");
      client.end();
    }, 30_000);

    fullTest("sends all to a peer that has ended already", async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      const consumer = new RecordingConsumer();
      connection.attach(consumer);
      const answer = received(client);
      client.end();
      await until(() => connection.ended, "the peer has ended");
      // More than the kernel takes at once, but for Deno without TLS: see docs/runtimes.md.
      const total = runtime === "deno" && mode === "plain" ? 500_000 : 8_000_000;
      connection.write(new Uint8Array(total));
      connection.close();
      assert.equal(await consumer.closedWith, undefined);
      assert.equal((await answer).length, total);
    });

    test("survives a peer that resets meanwhile", async () => {
      await using transport = await openTransport(mode, { lingerMs: 300 });
      await using relay = await openRelay(transport.port);
      const relayed = relay.accept().then((both) => {
        both.client.pipe(both.server);
        both.server.pipe(both.client);
        return both;
      });
      const client = await connect({ mode, port: relay.port });
      const connection = await transport.accept();
      const consumer = new RecordingConsumer();
      connection.attach(consumer);
      const { server } = await relayed;
      connection.write(new Uint8Array(20_000_000));
      connection.close();
      server.resetAndDestroy();
      assert.ok(await consumer.closedWith instanceof ConnectionError);
      client.destroy();
    });
  });
}
