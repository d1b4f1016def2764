/** Thousands of hostile connections: nothing of them may stay, and good clients are served meanwhile. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes, randomInt } from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import { describe, test } from "bun:test";
import type { ConnectionEngine } from "../lib/net/engine.ts";
import { assertRuntime } from "./runtime.ts";
import {
  certificates,
  clientHello,
  connect,
  connectTcp,
  countCpu,
  FLOWS,
  gone,
  heapMiB,
  openDescriptors,
  openTransport,
  received,
  type Transport,
  until,
} from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();

const FLOOD = 2_000;
const AT_ONCE = 400; // each takes two descriptors of this process

const HANDSHAKE_MS = 2_000;

/** Runs `one` for every number below `total`, so many at a time. */
async function flood(total: number, one: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < total) await one(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What the good client is answered by: each line comes back. */
function echo(connection: ConnectionEngine): void {
  connection.attach({
    bytesReady() {
      for (let bytes; (bytes = connection.take()) !== undefined;) connection.write(bytes);
      if (connection.ended) connection.close();
    },
    peerEnded() {},
    stopped() {},
    drained() {},
    expired: () => connection.destroy(),
    closed() {},
  });
}

async function ask(transport: Transport, question: string): Promise<string> {
  const client = await connect(transport);
  try {
    const answer = received(client);
    client.write(question);
    await until(() => client.bytesRead >= question.length, "an answer");
    await new Promise((resolve) => setImmediate(resolve));
    client.destroy();
    return (await answer).toString();
  } finally {
    client.destroy();
  }
}

/**
 * Floods a server while a good client asks on; nothing may stay behind. Time passes between the good
 * client's questions: it has a machine to share, and is not to be fast. Gives the refusals' codes.
 */
async function assertUnharmed(
  transport: Transport,
  clock: TestClock,
  attack: () => Promise<void>,
  clientsKeepMemory = false,
): Promise<string[]> {
  assert.equal(await ask(transport, "before"), "before");
  const overTime = (condition: () => boolean, what: string) =>
    until(async () => (await clock.advance(HANDSHAKE_MS / 4), condition()), what);
  await overTime(() => transport.deadlines.size === 0, "the first client is gone");
  const before = openDescriptors();
  const heapBefore = heapMiB();
  let over = false;
  let asked = 0;
  /** The most CPU time that this process took for the flood during one question, in ms. */
  let most = 0;
  const good = (async () => {
    while (!over) {
      const cpuMs = countCpu();
      assert.equal(await ask(transport, `question ${asked}`), `question ${asked}`);
      most = Math.max(most, cpuMs());
      asked++;
      await clock.advance(HANDSHAKE_MS / 4);
      await wait(20);
    }
  })();
  try {
    await Promise.race([attack(), good]);
  } finally {
    over = true;
  }
  await good;
  assert.ok(asked > 0, "The good client was served");
  // Not the time on the wall: this process floods too, and has a machine to share.
  assert.ok(most < 3_000, `The good client waited for ${most} ms of CPU time`);
  await overTime(() => transport.gate.size === 0, "the gate is empty");
  await overTime(() => transport.deadlines.size === 0, "nothing is watched");
  await overTime(
    () => transport.connections.every(({ closed }) => closed),
    "no connection is left",
  );
  await until(() => openDescriptors() <= before, "no descriptor is left");
  const codes = transport.refusals.map(({ error }) => error.code);
  transport.connections.length = transport.refusals.length = 0;
  // What Deno's TLS client keeps of reset sockets is in this process, too.
  if (!clientsKeepMemory) await until(() => heapMiB() - heapBefore < 6, "no memory is left");
  return codes;
}

describe("2,000 connections that are", () => {
  test("half a handshake leave nothing behind", async () => {
    const clock = new TestClock();
    await using transport = await openTransport("tls", {
      handshakeMs: HANDSHAKE_MS,
      admitted: echo,
      clock,
    });
    const hello = await clientHello();
    const refused = await assertUnharmed(transport, clock, () =>
      flood(FLOOD, async (i) => {
        const client = await connectTcp(transport.port);
        if (i % 3 > 0) {
          client.write(hello.subarray(0, i % 3 === 1 ? randomInt(hello.length) : undefined));
        }
        await gone(client);
        client.destroy();
      }));
    assert.equal(refused.length, FLOOD);
    assert.deepEqual([...new Set(refused)], ["TLS_HANDSHAKE_TIMEOUT"]);
  }, 120_000);

  test("garbage leave nothing behind", async () => {
    const clock = new TestClock();
    await using transport = await openTransport("tls", {
      handshakeMs: HANDSHAKE_MS,
      lingerMs: 100,
      admitted: echo,
      clock,
    });
    const hello = await clientHello();
    const garbage: ((i: number) => Uint8Array)[] = [
      () => randomBytes(randomInt(1, 3_000)),
      () => Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
      () => Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      () => Buffer.from("get / HTTP/0.9\n"),
      () => Buffer.from("\x80\x2e\x01\x00\x02\x00\x15\x00\x00", "latin1"), // SSL 2.0
      () => Buffer.concat([Buffer.from("160301ffff01", "hex"), randomBytes(2_000)]),
      () => Buffer.concat([Buffer.from("1603010005", "hex"), randomBytes(5)]),
      () => Buffer.concat([Buffer.from("1703030020", "hex"), randomBytes(32)]),
      () => Buffer.from("15030100020228", "hex"),
      () => Buffer.from("1603010000".repeat(100), "hex"),
      (i) => {
        const bent = Buffer.from(hello);
        for (let k = 0; k < 1 + i % 5; k++) bent[randomInt(9, bent.length)]! ^= randomInt(1, 256);
        return bent;
      },
      () => Buffer.concat([hello, randomBytes(200)]),
    ];
    const refused = await assertUnharmed(transport, clock, () =>
      flood(FLOOD, async (i) => {
        const client = await connectTcp(transport.port);
        client.write(garbage[i % garbage.length]!(i));
        await gone(client);
        client.destroy();
      }));
    assert.ok(refused.length > FLOOD * 0.9, `${refused.length} refused`);
  }, 120_000);

  for (const mode of FLOWS) {
    test(`reset at any moment leave nothing behind, ${mode}`, async () => {
      const clock = new TestClock();
      await using transport = await openTransport(mode, {
        handshakeMs: HANDSHAKE_MS,
        lingerMs: 100,
        admitted: echo,
        clock,
      });
      const { ca } = await certificates();
      await assertUnharmed(transport, clock, () =>
        flood(FLOOD, async () => {
          const raw = net.connect(transport.port, "127.0.0.1");
          raw.on("error", () => {});
          const socket = mode === "plain"
            ? raw
            : tls.connect({ socket: raw, servername: "localhost", ca });
          socket.on("error", () => {});
          socket.on("data", () => {});
          socket.on(mode === "plain" ? "connect" : "secureConnect", () => {
            socket.write(Buffer.alloc(randomInt(1, 100_000)));
          });
          await wait(randomInt(0, 40));
          raw.resetAndDestroy();
          socket.destroy();
        }), mode !== "plain");
    }, 120_000);
  }
});

describe("3,000 connections, one after the other,", () => {
  for (const mode of ["plain", "tls"] as const) {
    test(`leave no descriptor and no memory behind, ${mode}`, async () => {
      await using transport = await openTransport(mode, { admitted: echo });
      const cycle = async (i: number): Promise<void> => {
        const client = await connect(transport);
        const answer = received(client);
        client.end(`question ${i}`);
        assert.equal((await answer).toString(), `question ${i}`);
        client.destroy();
        transport.connections.length = 0; // this list, too, would be a leak
      };
      for (let i = 0; i < 1_000; i++) await cycle(i);
      await until(() => transport.deadlines.size === 0, "nothing is watched");
      const descriptors = openDescriptors();
      const memory = heapMiB();
      for (let i = 0; i < 3_000; i++) await cycle(i);
      await until(() => transport.deadlines.size === 0, "nothing is watched");
      assert.equal(transport.gate.size, 0);
      await until(() => openDescriptors() <= descriptors, "no descriptor is left");
      await until(() => heapMiB() - memory < 4, "no memory is left");
    }, 300_000); // 4,000 handshakes, one by one
  }
});
