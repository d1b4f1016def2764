/** A reader that pauses stops its peer, whatever that sends. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { describe, test } from "bun:test";
import { assertConnectionError, encode, MIB, pair, rejection, turn } from "./net_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import {
  certificates,
  end,
  FLOWS,
  openTransport,
  received,
  RecordingConsumer,
  residentMiB,
  startScript,
  type Transport,
  turns,
  until,
} from "./support.ts";

assertRuntime();

describe("Backpressure", () => {
  for (const mode of FLOWS) {
    const fullTest = mode === "paced" && runtime === "bun" ? () => {} : test;

    test(`${mode}: a reader that pauses holds little of what the peer pushes`, async () => {
      await using transport = await openTransport(mode);
      const pusher = startScript(await clientScript(transport, pushing));
      const connection = await transport.accept();
      const reader = connection.readable.getReader();
      await reader.read();
      await until(() => connection.queuedBytes > 0, "the queue fills");
      const before = residentMiB();
      for (let i = 0; i < 200; i++) await turn();
      assert.ok(connection.queuedBytes <= MIB, `${connection.queuedBytes} bytes queued`);
      const grown = residentMiB() - before;
      assert.ok(grown < 8, `${grown} MiB more`);
      // And it is not stuck: all of it comes when the reader goes on.
      let bytes = connection.queuedBytes;
      while (bytes < 50 * MIB) bytes += (await reader.read()).value!.length;
      connection.destroy();
      end(pusher);
    }, 20_000);

    test(`${mode}: a reader that pauses holds little of what comes byte by byte`, async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      client.setNoDelay(true);
      connection.attach(new RecordingConsumer());
      let sent = 0;
      while (sent < 5_000 && connection.queuedBytes === sent) {
        client.write("x");
        sent++;
        // Deno looks at its sockets once in dozens of these.
        for (let turn = 0; connection.queuedBytes < sent && turn < 3_000; turn++) {
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      // Each chunk costs more than its bytes: the socket stops long before the mark is reached.
      assert.ok(connection.queuedBytes < 2_000, `${connection.queuedBytes} bytes queued`);
      connection.destroy();
      client.destroy();
    }, 20_000);

    fullTest(
      `${mode}: a writer waits for a peer that does not read, which is cut in time`,
      async () => {
        await using transport = await openTransport(mode, { sendTimeoutMs: 1_000 });
        const reader = startScript(await clientScript(transport, idling));
        const connection = await transport.accept();
        await until(() => reader.output().includes("connected"), "the client is there");
        reader.process.kill("SIGSTOP");
        const consumer = connection.readable.getReader();
        const writer = connection.writable.getWriter();
        const chunk = new Uint8Array(64 * 1024);
        const before = residentMiB();
        let written = 0;
        const begun = performance.now();
        const error = await rejection((async () => {
          for (;;) {
            await writer.write(chunk);
            written += chunk.length;
          }
        })());
        assertConnectionError(error, "CONNECTION_TIMEOUT");
        assert.ok(performance.now() - begun > 900);
        assert.ok(written < 16 * MIB, `${written} bytes written`);
        const grown = residentMiB() - before;
        assert.ok(grown < 8, `${grown} MiB more`);
        assertConnectionError(await rejection(consumer.read()), "CONNECTION_TIMEOUT");
        end(reader);
      },
      20_000,
    );

    // A TLS client on Deno that was paused may never read on: docs/runtimes.md.
    const lateTest = mode !== "plain" && runtime === "deno" ? () => {} : fullTest;
    lateTest(
      `${mode}: what just fills the system's buffers leaves whole, with its end`,
      async () => {
        await using transport = await openTransport(mode);
        const piece = encode("x".repeat(3_000));
        /** Writes pieces to a client that has ended and reads later; returns how many were taken. */
        const fill = async (most: number): Promise<number> => {
          const { client, connection } = await pair(transport);
          const consumer = new RecordingConsumer();
          connection.attach(consumer);
          client.pause();
          // A plain client of Deno's that has ended gets no more than the system takes.
          if (mode !== "plain") client.end();
          if (mode !== "plain") await until(() => connection.peerEnded, "the client's end");
          let pieces = 0;
          while (pieces < most && connection.write(piece)) pieces++;
          if (pieces < most) pieces++; // the last one is taken, too
          connection.close();
          await turns(2);
          const receiving = received(client);
          client.resume();
          const bytes = await receiving;
          assert.equal(bytes.length, pieces * piece.length);
          assert.ok(client.readableEnded);
          client.end();
          assert.equal(await consumer.closedWith, undefined);
          return pieces;
        };
        const full = await fill(Infinity);
        for (let pieces = full - 2; pieces <= full; pieces++) await fill(pieces);
      },
      20_000,
    );

    test(`${mode}: cuts a peer that sends and does not read at once`, async () => {
      await using transport = await openTransport(mode);
      const { client, connection } = await pair(transport);
      client.pause();
      const closed = new Promise((resolve) => client.once("close", resolve));
      while (connection.write(new Uint8Array(60_000)));
      connection.destroy();
      // It goes on until it is refused.
      const chunk = new Uint8Array(60_000);
      let sent = 0;
      while (!client.destroyed && sent < 64 * MIB) {
        client.write(chunk);
        sent += chunk.length;
        await turn();
      }
      client.resume();
      await closed;
      assert.ok(sent < 64 * MIB);
    }, 20_000);

    fullTest(`${mode}: close() of the writable is cut in time, too`, async () => {
      await using transport = await openTransport(mode, { sendTimeoutMs: 300 });
      const reader = startScript(await clientScript(transport, idling));
      const connection = await transport.accept();
      await until(() => reader.output().includes("connected"), "the client is there");
      reader.process.kill("SIGSTOP");
      const writer = connection.writable.getWriter();
      writer.write(new Uint8Array(32 * MIB)).catch(() => {});
      assertConnectionError(await rejection(writer.close()), "CONNECTION_TIMEOUT");
      end(reader);
    }, 20_000);
  }
});

/** A script for a process of its own: connects, and gives the socket to `act`. */
async function clientScript(
  { mode, port }: Transport,
  act: (socket: Socket) => void,
): Promise<string> {
  const { ca } = await certificates();
  const options = { port, host: "127.0.0.1", servername: "localhost", ca };
  return `
    const { connect } = await import(${JSON.stringify(mode === "plain" ? "node:net" : "node:tls")});
    const socket = connect(${JSON.stringify(options)}, () => (${act})(socket));
    socket.on("error", () => {});
  `;
}

function idling(socket: Socket): void {
  socket.write("here");
  console.log("connected");
}

function pushing(socket: Socket): void {
  const chunk = new Uint8Array(64 * 1024);
  let left = 200 * 16;
  const push = (): void => {
    while (left-- > 0 && socket.write(chunk));
  };
  socket.on("drain", push);
  push();
}
