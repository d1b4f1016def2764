/** A server's side of a bus, on a bus in memory that does what brokers do at their worst. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { ConfigError } from "../lib/errors.ts";
import { PreparedMessage } from "../lib/websocket/mod.ts";
import { encodeEnvelope, makeOrigin } from "../lib/websocket/cluster/envelope.ts";
import { Opcode } from "../lib/websocket/opcode.ts";
import { MemoryBroker, MemoryBus, withBus } from "./bus_support.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { FrameClient } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

/** A client that has joined topics. */
async function joined(port: number, ...topics: string[]): Promise<FrameClient> {
  const client = await FrameClient.open(port);
  for (const topic of topics) {
    client.send({ op: 1, text: `join ${topic}` });
    assert.equal(await client.text(), `1 join ${topic}`);
  }
  return client;
}

describe("The option bus", () => {
  test("carries topics and broadcasts to other servers, text and bytes, once each", async () => {
    const broker = new MemoryBroker();
    const one = await withBus(new MemoryBus(broker));
    const two = await withBus(new MemoryBus(broker));
    const here = await joined(one.port, "news");
    const there = await joined(two.port, "news");
    const other = await joined(two.port, "sport");
    assert.equal(one.server.publish("news", "text"), 1);
    assert.equal(one.server.publish("news", new Uint8Array([1, 2])), 1);
    for (const client of [here, there]) {
      assert.equal(await client.text(), "1 text");
      assert.equal((await client.next())!.payload.toString("hex"), "0102");
    }
    assert.equal(two.server.broadcast(new PreparedMessage("to all")), 2);
    for (const client of [here, there, other]) assert.equal(await client.text(), "1 to all");
    await turns();
    assert.deepEqual([here.received, there.received, other.received], [4, 4, 2]);
    const { sent, received } = one.server.bus!;
    assert.deepEqual({ sent, received }, { sent: 2, received: 1 });
  });

  test("carries no broadcast with a filter, which is for the sockets of one process", async () => {
    const bus = new MemoryBus();
    const host = await withBus(bus);
    await joined(host.port);
    assert.equal(host.server.broadcast("x", () => true), 1);
    await turns();
    assert.equal(bus.published.length, 0);
  });

  test("subscribes to a channel while something listens, and no longer", async () => {
    const broker = new MemoryBroker();
    const host = await withBus(new MemoryBus(broker));
    await turns();
    assert.equal(broker.count("all"), 0);
    const [a, b] = [await joined(host.port, "news"), await joined(host.port, "news")];
    assert.deepEqual([broker.count("all"), broker.count("topic/news")], [1, 1]);
    assert.equal(host.server.bus!.channels, 2);
    a.send({ op: 1, text: "leave news" });
    await a.text();
    assert.equal(broker.count("topic/news"), 1);
    b.socket.destroy();
    await until(() => broker.count("topic/news") === 0, "The topic is left");
    assert.equal(broker.count("all"), 1);
    a.socket.destroy();
    await until(() => broker.count("all") === 0, "Nothing is subscribed to");
    assert.equal(host.server.bus!.channels, 0);
  });

  test("does what is wanted last when listeners come and go faster than the bus", async () => {
    const bus = new MemoryBus();
    const host = await withBus(bus);
    const client = await joined(host.port);
    const [ws] = host.server.websockets;
    bus.isSlow = true;
    const random = new Random(3);
    for (let i = 0; i < 200; i++) {
      if (random.below(2) === 0) void ws!.subscribe("x");
      else ws!.unsubscribe("x");
      if (random.below(4) === 0) {
        bus.release();
        await turns(1);
        bus.isSlow = random.below(2) === 0;
      }
    }
    const last = ws!.subscribe("x");
    bus.release();
    await last;
    assert.equal(bus.broker.count("topic/x"), 1);
    ws!.unsubscribe("x");
    await until(() => bus.broker.count("topic/x") === 0, "It is left");
    client.socket.destroy();
  });

  test("leaves all channels at stop(), and its listener", async () => {
    const bus = new MemoryBus();
    const host = await withBus(bus);
    await joined(host.port, "a", "b");
    await host.server.stop({ drainMs: 0 });
    const counts = ["all", "topic/a", "topic/b"].map((channel) => bus.broker.count(channel));
    assert.deepEqual(counts, [0, 0, 0]);
    assert.equal(bus.listeners.size, 0);
    assert.equal(host.server.bus!.state, "down");
    host.server.publish("a", "to nobody");
    await turns();
    assert.equal(bus.published.length, 0);
  });

  test("works again after stop() and start()", async () => {
    const broker = new MemoryBroker();
    const one = await withBus(new MemoryBus(broker));
    const two = await withBus(new MemoryBus(broker));
    await one.server.stop();
    await one.server.start();
    const client = await joined(one.server.address.port, "x");
    two.server.publish("x", "again");
    assert.equal(await client.text(), "1 again");
  });

  test("stops in time when the bus does not answer", async () => {
    const clock = new TestClock();
    const bus = new MemoryBus();
    const host = await withBus(bus, {}, clock);
    await joined(host.port, "x");
    bus.isSlow = true;
    host.server.publish("x", "y");
    let isStopped = false;
    const stopped = host.server.stop({ drainMs: 0 }).then(() => isStopped = true);
    await clock.until(() => isStopped, "It stops");
    await stopped;
    bus.release();
    await until(() => bus.broker.count("topic/x") === 0, "The channel is left later");
  });
});

describe("A bus that is away", () => {
  test("costs no local delivery; what waits is limited, oldest first, and counted", async () => {
    const broker = new MemoryBroker();
    const bus = new MemoryBus(broker);
    const one = await withBus(bus, { limits: { maxBusBufferBytes: 10_000 } });
    const two = await withBus(new MemoryBus(broker));
    const [here, there] = [await joined(one.port, "x"), await joined(two.port, "x")];
    one.server.publish("x", "before");
    bus.turn("down", new Error("gone"));
    for (let i = 0; i < 100; i++) one.server.publish("x", `m${i}`);
    assert.ok(one.server.bus!.bufferedBytes <= 10_000);
    const { dropped } = one.server.bus!;
    assert.ok(dropped > 0 && dropped < 100);
    bus.turn("up");
    assert.equal(await here.text(), "1 before");
    assert.equal(await there.text(), "1 before");
    for (let i = 0; i < 100; i++) assert.equal(await here.text(), `1 m${i}`);
    for (let i = dropped; i < 100; i++) assert.equal(await there.text(), `1 m${i}`);
    assert.deepEqual(one.states, ["down", "up"]);
    assert.deepEqual(one.gaps[0], { reason: "outage", topic: undefined, missing: undefined });
    await until(() => one.gaps.length > 1 && two.gaps.length > 0, "Both say what is missing");
    assert.deepEqual(one.gaps[1], { reason: "unsent", topic: undefined, missing: dropped });
    assert.deepEqual(two.gaps, [{ reason: "missed", topic: "x", missing: dropped }]);
    assert.equal(two.server.bus!.missed, dropped);
    assert.equal(one.server.bus!.bufferedBytes, 0);
    const [error] = one.errors;
    assert.equal(error?.code, "BUS_AWAY");
    assert.equal((error?.cause as Error).message, "gone");
  });

  test("is joined when it comes, with the topics of sockets that were there before", async () => {
    const broker = new MemoryBroker();
    const bus = new MemoryBus(broker, "down");
    const clock = new TestClock();
    const host = await withBus(bus, {}, clock);
    assert.equal(host.server.bus!.state, "down");
    await clock.advance(3_900);
    assert.deepEqual(host.states, []);
    await clock.until(() => host.states.length > 0, "It is noticed");
    assert.equal(host.errors[0]?.code, "BUS_AWAY");
    const client = await joined(host.port, "x"); // is not kept waiting
    assert.equal(broker.count("topic/x"), 0);
    bus.turn("up");
    await until(() => broker.count("topic/x") === 1, "It is joined");
    await until(() => host.gaps.length > 0, "The program can catch up");
    assert.deepEqual(host.gaps, [{ reason: "outage", topic: undefined, missing: undefined }]);
    client.socket.destroy();
  });

  test("is waited for at the start, by sockets that subscribe", async () => {
    const bus = new MemoryBus(new MemoryBroker(), "down");
    const host = await withBus(bus);
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "join x" });
    await until(() => host.server.websockets.size === 1, "It is open");
    host.server.publish("y", "early");
    await turns();
    assert.deepEqual([client.received, bus.published.length], [0, 0]);
    bus.turn("up");
    assert.equal(await client.text(), "1 join x");
    assert.deepEqual([bus.broker.count("topic/x"), bus.published.length], [1, 1]);
    assert.deepEqual([host.states, host.gaps, host.errors], [["up"], [], []]);
  });

  test("reports a gap only where something listens", async () => {
    const bus = new MemoryBus();
    const host = await withBus(bus);
    bus.turn("down");
    bus.turn("up");
    await turns();
    assert.deepEqual(host.gaps, []);
    assert.deepEqual(host.states, ["down", "up"]);
  });

  test("counts as away when it does not confirm in timeouts.busMs", async () => {
    const clock = new TestClock();
    const bus = new MemoryBus();
    const host = await withBus(bus, {}, clock);
    const client = await joined(host.port, "x");
    bus.isSlow = true;
    host.server.publish("x", "1");
    await clock.advance(3_900);
    assert.deepEqual(host.states, []);
    await clock.until(() => host.states.length > 0, "It is noticed");
    assert.equal(host.errors[0]?.code, "BUS_AWAY");
    assert.match(host.errors[0]!.message, /^The bus has not answered in 5000 ms: /);
    host.server.publish("x", "2");
    assert.equal(bus.published.length, 1);
    bus.release();
    await until(() => bus.published.length === 2, "What waited is sent");
    assert.deepEqual(host.states, ["down", "up"]);
    client.socket.destroy();
  });

  test("keeps no subscribe() waiting for longer than timeouts.busMs", async () => {
    const clock = new TestClock();
    const bus = new MemoryBus();
    const host = await withBus(bus, {}, clock);
    await joined(host.port);
    const [ws] = host.server.websockets;
    bus.isSlow = true;
    let isOver = false;
    void ws!.subscribe("x").then(() => isOver = true);
    await clock.until(() => isOver, "It is over");
    bus.release();
    await until(() => host.gaps.length > 0, "A gap is reported instead");
  });

  test("gives the bus no more than a window of bytes that it has not taken", async () => {
    const bus = new MemoryBus();
    const host = await withBus(bus, { limits: { maxBusBufferBytes: 20_000 } });
    bus.isSlow = true;
    const text = "x".repeat(2_000);
    for (let i = 0; i < 50; i++) host.server.broadcast(text);
    assert.ok(bus.published.length < 10);
    assert.ok(host.server.bus!.bufferedBytes <= 20_000);
    host.server.broadcast(`${"x".repeat(1_900)} never dropped`); // 50 have filled what may wait
    bus.release();
    await until(() => host.server.bus!.bufferedBytes === 0, "All is sent or dropped");
    const { sent, dropped } = host.server.bus!;
    assert.equal(sent + dropped, 51);
    assert.match(Buffer.from(bus.published.at(-1)!.bytes).toString("latin1"), /never dropped$/);
  });
});

describe("A bus that fails", () => {
  test("loses what it refuses, which is counted and reported once a while", async () => {
    const bus = new MemoryBus();
    const host = await withBus(bus);
    bus.refusal = new Error("no");
    for (let i = 0; i < 10; i++) host.server.broadcast("x");
    await until(() => host.gaps.length > 0, "The loss is reported");
    assert.deepEqual(host.gaps, [{ reason: "unsent", topic: undefined, missing: 10 }]);
    assert.equal(host.server.bus!.failed, 10);
    assert.equal(host.server.bus!.bufferedBytes, 0);
  });

  test("is asked again for a subscription that it refused, which is reported once", async () => {
    const clock = new TestClock();
    const bus = new MemoryBus();
    const host = await withBus(bus, {}, clock);
    bus.refusal = new Error("no");
    await joined(host.port, "x");
    await clock.advance(3_000);
    assert.deepEqual(host.errors.map(({ message }) => message), [
      "The bus refused the subscription to broadcasts",
      'The bus refused the subscription to topic "x"',
    ]);
    bus.refusal = undefined;
    await clock.until(() => host.server.bus!.channels === 2, "It is asked again");
    await until(() => host.gaps.length === 2, "Both gaps are reported");
    assert.deepEqual(host.gaps.map(({ topic }) => topic), [undefined, "x"]);
  });

  test("harms nothing when it throws, returns nonsense, or calls back late", async () => {
    const throwing = () => {
      throw new Error("thrown");
    };
    const nonsense = { publish: () => 1, subscribe: () => Promise.resolve(2), onState: () => 3 };
    const late = new MemoryBus();
    for (
      const bus of [
        { publish: throwing, subscribe: throwing, onState: throwing },
        nonsense,
        { ...nonsense, onState: (changed: (state: string) => void) => changed("up") },
        Object.assign(late, {
          onState: (changed: (state: "up") => void) => {
            changed("up");
            setTimeout(() => changed("up"), 50);
            return throwing;
          },
        }),
      ]
    ) {
      const host = await withBus(bus as never, { timeouts: { busMs: 100 } });
      const client = await joined(host.port, "x");
      host.server.publish("x", "still here");
      assert.equal(await client.text(), "1 still here");
      await host.server.stop({ drainMs: 0 });
    }
  });
});

describe("What comes on a channel", () => {
  const envelope = (change: Partial<Parameters<typeof encodeEnvelope>[0]> = {}) =>
    encodeEnvelope({
      opcode: Opcode.Text,
      origin: makeOrigin(),
      number: 0,
      payload: Buffer.from("hi"),
      ...change,
    });

  test("is ignored and counted unless a server has sent it", async () => {
    const broker = new MemoryBroker();
    const host = await withBus(new MemoryBus(broker), { limits: { maxBusMessageBytes: 100 } });
    const client = await joined(host.port, "x");
    const version = envelope();
    version[2] = 2;
    const magic = envelope();
    magic[0] = 0;
    const hostile: unknown[] = [
      undefined,
      null,
      "hb",
      7,
      {},
      new Uint8Array(),
      new Uint8Array(21),
      version,
      magic,
      envelope({ payload: Buffer.alloc(101) }),
      envelope({ payload: Buffer.from([0xff]) }),
      ...[0, 3, 8, 9, 10, 255].map((opcode) => envelope({ opcode: opcode as Opcode })),
    ];
    for (const bytes of hostile) broker.deliver("topic/x", bytes);
    const random = new Random(11);
    for (let i = 0; i < 300; i++) {
      const bytes = Uint8Array.from({ length: random.below(60) }, () => random.below(256));
      broker.deliver("topic/x", bytes);
    }
    assert.equal(host.server.bus!.ignored, hostile.length + 300);
    broker.deliver("topic/x", envelope());
    assert.equal(await client.text(), "1 hi");
    await turns();
    assert.equal(client.received, 2);
  });

  test("may have any number, and senders without end, in limited memory", async () => {
    const broker = new MemoryBroker();
    const host = await withBus(new MemoryBus(broker));
    const client = await joined(host.port, "x");
    const origin = makeOrigin();
    for (const number of [5, 6, 9, 9, 2, 3, 0, 1, 2 ** 48 - 1, 0]) {
      broker.deliver("topic/x", envelope({ origin, number }));
    }
    await until(() => host.gaps.length > 0, "The gaps are reported");
    const missing = 2 + (2 ** 48 - 1 - 2);
    assert.deepEqual(host.gaps, [{ reason: "missed", topic: "x", missing }]);
    for (let i = 0; i < 20_000; i++) broker.deliver("topic/x", envelope());
    assert.equal(host.server.bus!.received, 20_010);
    client.socket.destroy();
  });
});

describe("Names and sizes", () => {
  test("are refused before anything is delivered where no bus carries them", async () => {
    const host = await withBus(new MemoryBus(), { limits: { maxBusMessageBytes: 10 } });
    const client = await joined(host.port, "x");
    const [ws] = host.server.websockets;
    const long = "é".repeat(513);
    for (
      const act of [(t: string) => host.server.publish(t, "a"), (t: string) => ws!.subscribe(t)]
    ) {
      assert.throws(() => act("\ud800"), { code: "INVALID_CONFIG", message: /lone surrogate/ });
      assert.throws(() => act(long), { code: "INVALID_CONFIG", message: /has 1026 bytes/ });
    }
    assert.throws(() => host.server.publish("x", "12345678901"), { code: "WS_CANNOT_SEND" });
    assert.throws(() => host.server.broadcast("12345678901"), { code: "WS_CANNOT_SEND" });
    await turns();
    assert.equal(client.received, 1);
    host.server.publish("x", "1234567890");
    assert.equal(await client.text(), "1 1234567890");
    await ws!.subscribe("é".repeat(512));
  });

  test("an option that is no bus says what to write", async () => {
    for (const bus of [1, {}, { publish() {} }, "redis://127.0.0.1"]) {
      await assert.rejects(
        () => withBus(bus as never),
        (error) =>
          error instanceof ConfigError && /^Option bus is .*redisBus\(client\)/.test(error.message),
      );
    }
  });
});
