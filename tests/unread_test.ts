/** What waits unread in all connections together is bounded. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { ConnectionEngine } from "../lib/net/engine.ts";
import { assertRuntime } from "./runtime.ts";
import {
  blocks,
  connect,
  Digest,
  digestOf,
  FLOWS,
  openTransport,
  RecordingConsumer,
  type Transport,
  until,
} from "./support.ts";
import { MODES, stopServersAfterAll } from "./http_support.ts";
import { FrameClient, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const LIMIT = 2 ** 20;
/** The most that a runtime reads at once: Bun takes 512 KiB. */
const READ = 512 * 1024;

/** Connects clients that send `bytes` each, which the server does not take. */
async function unread(transport: Transport, clients: number, bytes: number) {
  const sockets = [];
  for (let i = 0; i < clients; i++) {
    const [socket, connection] = await Promise.all([connect(transport), transport.accept()]);
    connection.attach(new RecordingConsumer());
    socket.write(new Uint8Array(bytes));
    sockets.push(socket);
  }
  return sockets;
}

describe("maxUnreadBytes", () => {
  for (const mode of FLOWS) {
    test(`bounds what 100 clients of 400 KB make a server hold, ${mode}`, async () => {
      await using transport = await openTransport(mode, { maxUnreadBytes: LIMIT });
      const sockets = await unread(transport, 100, 400_000);
      await until(() => transport.connections.some(({ closed }) => closed), "some are cut");
      await until(() => transport.unread.bytes < 2 * LIMIT, "the bound holds");
      for (let i = 0; i < 20; i++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        const held = transport.connections.reduce((sum, { queuedBytes }) => sum + queuedBytes, 0);
        assert.ok(held < 2 * LIMIT + READ, `${held} bytes are held`);
        assert.ok(transport.unread.bytes >= held, "and counted");
      }
      assert.equal(transport.connections[0]!.closed, true, "the one that waits longest goes first");
      for (const socket of sockets) socket.destroy();
      for (const connection of transport.connections) connection.destroy();
      assert.equal(transport.unread.bytes, 0);
    }, 60_000);

    test(`lets who is read go on meanwhile, and loses nothing, ${mode}`, async () => {
      await using transport = await openTransport(mode, { maxUnreadBytes: LIMIT });
      // Close to the limit, and above what each may hold beyond it.
      const sockets = await unread(transport, 5, 250_000);
      await until(() => transport.unread.scarce, "much waits");
      const [client, connection] = await Promise.all([connect(transport), transport.accept()]);
      const total = 4_000_000;
      const received = new Digest();
      const reading = (async () => {
        for await (const chunk of connection.readable) received.add(chunk);
      })();
      for (const block of blocks(total)) {
        if (!client.write(block)) await new Promise((resolve) => client.once("drain", resolve));
      }
      client.end();
      await reading;
      assert.equal(received.hex(), digestOf(blocks(total)));
      for (const socket of [...sockets, client]) socket.destroy();
    }, 60_000);
  }

  test("stops a connection early where much waits, and starts it when all is taken", async () => {
    await using transport = await openTransport("plain", { maxUnreadBytes: 400_000 });
    const sockets = await unread(transport, 2, 210_000);
    await until(() => transport.unread.scarce, "much waits");
    const [client, connection] = await Promise.all([connect(transport), transport.accept()]);
    client.write(new Uint8Array(30_000));
    await until(() => connection.stopped, "it is stopped at less than 256 KiB");
    while (connection.take() !== undefined);
    assert.equal(connection.stopped, false);
    client.write("more");
    await until(() => text(connection).includes("more"), "it goes on");
    for (const socket of [...sockets, client]) socket.destroy();
  });

  for (const mode of MODES) {
    test(`counts messages that a WebSocket's program does not take, ${mode}`, async () => {
      const never = () => new Promise<never>(() => {});
      const host = await withRoute(
        { onMessage: never },
        { limits: { maxUnreadBytes: LIMIT } },
        mode,
      );
      let read = 0;
      const ends: (string | undefined)[] = [];
      host.server.addEventListener("disconnected", ({ error }) => void ends.push(error?.code));
      host.server.addEventListener("data", ({ bytes }) => void (read += bytes));
      const clients = [];
      const length = 200_000;
      for (let i = 0; i < 30; i++) {
        const client = await FrameClient.open(host.port, { mode });
        const before = read;
        client.send({ op: 1, text: "a" }, { op: 2, repeat: ["00", length] });
        await until(() => client.ended || read - before > length, "it is read, or cut");
        clients.push(client);
      }
      await until(() => host.server.sessions.size * length < 2 * LIMIT, "the bound holds");
      assert.ok(host.server.sessions.size >= 5, "those within the limit stay");
      assert.deepEqual(new Set(ends), new Set(["CONNECTION_ABORTED"]));
      for (const { socket } of clients) socket.destroy();
    }, 60_000);
  }

  test("counts what is held for a reader", async () => {
    await using transport = await openTransport("plain", { maxUnreadBytes: LIMIT });
    const [client, connection] = await Promise.all([connect(transport), transport.accept()]);
    connection.hold(1_000);
    assert.equal(transport.unread.bytes, 1_000);
    connection.hold(400);
    assert.equal(transport.unread.bytes, 400);
    connection.destroy();
    connection.hold(100);
    assert.equal(transport.unread.bytes, 0);
    client.destroy();
  });
});

/** All that waits on a connection. */
function text(connection: ConnectionEngine): string {
  let all = "";
  for (let bytes = connection.take(); bytes !== undefined; bytes = connection.take()) {
    all += new TextDecoder().decode(bytes);
  }
  return all;
}
