/**
 * Servers of both runtimes in one cluster, through a real redis-server and a real nats-server.
 * `BUS_MESSAGES` is how many messages go each way, 2,000 unless it says otherwise.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import process from "node:process";
import { createServer, openBus } from "../examples/bus.ts";
import { redisBus } from "../lib/bus/mod.ts";
import {
  type Broker,
  BROKER_KINDS,
  joinBroker,
  openRedis,
  PROGRAMS,
  startBroker,
  startFile,
  withBroker,
} from "./bus_support.ts";
import { publishMany, readMany } from "./bus_traffic.ts";
import { request, runExample } from "./examples_support.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { type Child, turns, until } from "./support.ts";
import { FrameClient } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const MESSAGES = Number(process.env["BUS_MESSAGES"] ?? 2_000);

/** Starts a server of the other runtime in the broker's cluster. */
async function startPeer({ kind, port }: Broker): Promise<{ port: number; child: Child }> {
  const other = runtime === "deno" ? "bun" : "deno";
  const child = startFile(other, "bus_peer.ts", kind, String(port));
  await until(() => /^\d+\n/m.test(child.output()), `The peer listens: ${child.output()}`, 30_000);
  return { port: Number(/^(\d+)\n/m.exec(child.output())![1]), child };
}

async function say(client: FrameClient, text: string): Promise<void> {
  client.send({ op: 1, text });
  assert.equal(await client.text(), `1 ${text.split(" ", 2).join(" ")}`);
}

/** How many subscriptions a broker has to a topic's channel. */
async function subscriptions({ kind, port }: Broker, topic: string): Promise<number> {
  if (kind === "nats") throw new Error("NATS is not asked");
  const client = await openRedis(port);
  const counts = await client.pubSubNumSub(`httpsd:topic/${topic}`);
  client.destroy();
  return Number(counts[`httpsd:topic/${topic}`]);
}

for (const kind of BROKER_KINDS) {
  const testBroker = testsWith(PROGRAMS[kind]);

  describe(`Through ${PROGRAMS[kind]}`, () => {
    testBroker("both runtimes deliver each other's messages, all and in order", async () => {
      await using broker = await startBroker(kind);
      await using here = await joinBroker(broker);
      const host = await withBroker(here.bus);
      const peer = await startPeer(broker);
      const clients = await Promise.all(
        [host.port, peer.port].map((port) => FrameClient.open(port)),
      );
      for (const client of clients) await say(client, "join news");
      const talker = await FrameClient.open(peer.port);
      await say(talker, `publish news ${MESSAGES}`);
      await publishMany(host.server, "news", MESSAGES, "here");
      await Promise.all(clients.map((client) => readMany(client, MESSAGES, ["here", "peer"])));
      await turns();
      assert.deepEqual(clients.map(({ received }) => received), Array(2).fill(2 * MESSAGES + 1));
      assert.deepEqual(host.gaps, []);
      const { sent, received, dropped, failed } = host.server.bus!;
      assert.deepEqual(
        { sent, received, dropped, failed },
        { sent: MESSAGES, received: MESSAGES, dropped: 0, failed: 0 },
      );
      for (const client of [...clients, talker]) client.socket.destroy();
      await host.server.stop({ drainMs: 0 });
      peer.child.process.stdin!.end();
      await peer.child.done;
    }, 60_000);

    testBroker("a broker that is killed costs no local delivery, and comes back", async () => {
      await using broker = await startBroker(kind);
      await using one = await joinBroker(broker);
      await using two = await joinBroker(broker);
      const limits = { maxBusBufferBytes: 20_000 };
      const hosts = [await withBroker(one.bus, { limits }), await withBroker(two.bus, { limits })];
      const clients = await Promise.all(hosts.map(({ port }) => FrameClient.open(port)));
      for (const client of clients) await say(client, "join x");
      const [here, there] = clients as [FrameClient, FrameClient];
      const { server } = hosts[0]!;
      await broker.kill();
      await until(() => hosts.every(({ states }) => states[0] === "down"), "Both notice");
      assert.equal(hosts[0]!.errors[0]?.code, "BUS_AWAY");
      for (let i = 0; i < 200; i++) server.publish("x", `away ${i}`);
      for (let i = 0; i < 200; i++) assert.equal(await here.text(), `1 away ${i}`);
      assert.ok(server.bus!.bufferedBytes <= 20_000);
      assert.ok(server.bus!.dropped > 50);
      await broker.restart();
      await until(() => hosts.every(({ gaps }) => gaps[0]?.reason === "outage"), "Both catch up");
      assert.deepEqual(hosts.map(({ states }) => states), Array(2).fill(["down", "up"]));
      // What waited may have come before the other was there again; what comes now does come.
      server.publish("x", "back");
      hosts[1]!.server.publish("x", "too");
      await until(async () => (await there.text()) === "1 back", "Delivery goes on");
      await until(async () => (await here.text()) === "1 too", "Delivery goes on, both ways");
      for (const client of clients) client.socket.destroy();
    }, 30_000);

    testBroker("one that does not answer counts as away, until it does", async () => {
      await using broker = await startBroker(kind);
      await using here = await joinBroker(broker);
      const host = await withBroker(here.bus, { timeouts: { busMs: 200 } });
      const client = await FrameClient.open(host.port);
      await say(client, "join x");
      broker.pause(true);
      // The first may have come to the broker before it stopped.
      await until(() => {
        host.server.publish("x", "1");
        return host.states.length === 1;
      }, "It is noticed");
      assert.match(host.errors[0]!.message, /not answered in 200 ms/);
      assert.equal(await client.text(), "1 1");
      broker.pause(false);
      await until(() => host.states.length === 2, "It is back");
      await until(() => host.gaps.length === 1, "A gap is reported");
      client.socket.destroy();
    }, 20_000);

    testBroker("any topic is one channel, and no other", async () => {
      await using broker = await startBroker(kind);
      await using one = await joinBroker(broker);
      await using two = await joinBroker(broker);
      const [here, there] = [await withBroker(one.bus), await withBroker(two.bus)];
      const topics = [
        "",
        "a.b",
        "*",
        "a.*",
        ">",
        "a b",
        "é€😀",
        "%2E",
        "\0\r\n",
        "?[x]",
        "x".repeat(1024),
      ];
      const client = await FrameClient.open(there.port);
      await until(() => there.server.websockets.size === 1, "It is open");
      const [ws] = there.server.websockets;
      for (const topic of topics) {
        await ws!.subscribe(topic);
        here.server.publish(topic, JSON.stringify(topic));
        assert.equal(await client.text(), `1 ${JSON.stringify(topic)}`);
        for (const other of [...topics, "a.c", "ab"]) {
          if (other !== topic) here.server.publish(other, "wrong");
        }
        await until(() => here.server.bus!.bufferedBytes === 0, "The broker has all");
        ws!.unsubscribe(topic);
        await until(() => there.server.bus!.channels === 1, "It is left");
      }
      await turns();
      assert.equal(client.received, topics.length);
      client.socket.destroy();
    }, 20_000);
  });
}

describe("examples/bus.ts", () => {
  for (const kind of BROKER_KINDS) {
    testsWith(PROGRAMS[kind])(`is one chat on two servers, by ${kind}`, async () => {
      await using broker = await startBroker(kind);
      const ends = [];
      const ports = [];
      for (let i = 0; i < 2; i++) {
        const { bus, end } = await openBus(broker.url);
        const { server, fetch } = await runExample("plain", createServer, { bus });
        assert.match((await fetch(request("GET", "/"))).body, /new WebSocket/);
        ends.push(async () => {
          await server.stop({ drainMs: 0 });
          await end();
        });
        ports.push(server.address.port);
      }
      const [one, two] = await Promise.all(
        ports.map((port) => FrameClient.open(port, { path: "/chat" })),
      );
      for (const client of [one!, two!]) assert.equal(await client.text(), "1 welcome");
      for (const text of ["hello", "welcome, whoever"]) {
        one!.send({ op: 1, text });
        for (const client of [one!, two!]) assert.equal(await client.text(), `1 ${text}`);
      }
      for (const client of [one!, two!]) client.socket.destroy();
      for (const end of ends) await end();
    }, 20_000);
  }
});

describe("Through redis-server", () => {
  const testRedis = testsWith("redis-server");

  testRedis("a channel is subscribed to while somebody listens, also after a restart", async () => {
    await using broker = await startBroker("redis");
    await using here = await joinBroker(broker);
    const host = await withBroker(here.bus);
    const client = await FrameClient.open(host.port);
    assert.equal(await subscriptions(broker, "x"), 0);
    await say(client, "join x");
    assert.equal(await subscriptions(broker, "x"), 1);
    await broker.kill();
    await until(() => host.states[0] === "down", "It is noticed");
    await broker.restart();
    await until(() => host.states[1] === "up", "It is back");
    assert.equal(await subscriptions(broker, "x"), 1);
    await say(client, "leave x");
    await until(async () => await subscriptions(broker, "x") === 0, "It is left");
    await say(client, "join x");
    await host.server.stop({ drainMs: 0 });
    assert.equal(await subscriptions(broker, "x"), 0);
    client.socket.destroy();
  }, 20_000);

  testRedis("subscriptions have a connection only while a server runs", async () => {
    await using broker = await startBroker("redis");
    const client = await openRedis(broker.port);
    const connections = async () => (await client.clientList()).length;
    const host = await withBroker(redisBus(client));
    await until(async () => await connections() === 2, "There is one for subscriptions");
    await host.server.stop();
    await until(async () => await connections() === 1, "It is closed");
    await host.server.start();
    await until(async () => await connections() === 2, "It is there again");
    await host.server.stop();
    client.destroy();
  }, 20_000);

  testRedis("a connection of subscriptions that is deaf is made anew", async () => {
    await using broker = await startBroker("redis");
    const client = await openRedis(broker.port);
    const host = await withBroker(redisBus(client, { pingMs: 50 }));
    const socket = await FrameClient.open(host.port);
    await say(socket, "join x");
    broker.pause(true);
    await until(() => host.states[0] === "down", "It is noticed, though nothing is sent");
    broker.pause(false);
    await until(() => host.states.at(-1) === "up", "It is back");
    await until(async () => await subscriptions(broker, "x") === 1, "It is subscribed again");
    client.destroy();
    await until(() => host.states.at(-1) === "down", "The client was closed");
    socket.socket.destroy();
  }, 20_000);

  testRedis("what is refused is reported, and the rest goes on", async () => {
    await using broker = await startBroker("redis");
    const admin = await openRedis(broker.port);
    await admin.sendCommand(["ACL", "SETUSER", "default", "resetchannels", "&httpsd:all"]);
    await using here = await joinBroker(broker);
    const host = await withBroker(here.bus);
    const client = await FrameClient.open(host.port);
    await say(client, "join x");
    assert.deepEqual(host.errors.map(({ code }) => code), ["BUS_FAILED"]);
    host.server.publish("x", "local");
    assert.equal(await client.text(), "1 local");
    await until(() => host.gaps.some(({ reason }) => reason === "unsent"), "The loss is reported");
    await admin.sendCommand(["ACL", "SETUSER", "default", "allchannels"]);
    await until(() => host.gaps.some(({ topic }) => topic === "x"), "It is subscribed to");
    admin.destroy();
    client.socket.destroy();
  }, 20_000);
});

describe("redisBus() and natsBus()", () => {
  test("refuse clients of other kinds, Bun's own too, and say what to give", async () => {
    const { natsBus } = await import("../lib/bus/mod.ts");
    const { Bun } = globalThis as { Bun?: { RedisClient: new (url: string) => object } };
    if (Bun !== undefined) {
      assert.throws(() => redisBus(new Bun.RedisClient("redis://127.0.0.1:1") as never), {
        code: "NOT_SUPPORTED",
        message: /takes no Bun\.RedisClient.*createClient\(\) of the npm package redis/,
      });
    }
    for (
      const client of [undefined, {}, "redis://", { publish() {}, duplicate() {}, status: "ready" }]
    ) {
      assert.throws(() => redisBus(client as never), {
        code: "INVALID_CONFIG",
        message: /createClient/,
      });
      assert.throws(() => natsBus(client as never), {
        code: "INVALID_CONFIG",
        message: /connect\(\)/,
      });
    }
    const nats = {
      publish() {},
      subscribe() {},
      flush() {},
      status: async function* () {},
      isClosed: () => true,
    };
    assert.throws(() => natsBus(nats as never, { prefix: "a *." }), /beginning of a subject/);
    assert.throws(() => natsBus(nats as never, { subject: "a" } as never), /write prefix/);
  });
});
