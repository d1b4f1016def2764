/** The cap on open sockets, with and without closing the least recently used one. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import {
  GET,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { capped, Visitor } from "./limits_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

describe("maxConnections with lruPurge", () => {
  for (const mode of MODES) {
    test(`the session that was used least recently goes, in good order, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 3 } }, mode);
      const [a, b, c] = [
        await Visitor.come(host, mode),
        await Visitor.come(host, mode),
        await Visitor.come(host, mode),
      ];
      for (const visitor of [c!, b!, a!]) await visitor.ask("/"); // c has come last, and is the oldest
      c!.client.text = "";
      const d = await Visitor.come(host, mode);
      await c!.client.rest();
      assert.equal(c!.client.error, undefined);
      assert.equal(c!.client.text, "");
      b!.session.touch(); // or it would be the next
      const e = await Visitor.come(host, mode);
      await a!.client.rest();
      for (const visitor of [b!, d, e]) await visitor.ask("/still");
      assert.equal(host.server.sessions.size, 3);
      assert.deepEqual(host.ends, ["CONNECTION_ABORTED", "CONNECTION_ABORTED"]);
      for (const { client } of [a!, b!, c!, d, e]) client.destroy();
    });

    test(`none inside a request goes: the newcomer waits, and the next answer makes room, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 2 } }, mode);
      const busy = [await Visitor.come(host, mode), await Visitor.come(host, mode)];
      for (const visitor of busy) await visitor.beBusy();
      const coming = RawClient.connect(host.port, mode);
      const first = await Promise.race([coming.then(() => "came"), turns(50).then(() => "waits")]);
      if (mode === "tls") assert.equal(first, "waits"); // plain TCP connects in the backlog
      assert.deepEqual([host.server.sessions.size, host.ends], [2, []]);
      host.wake();
      const newcomer = await coming;
      newcomer.send(GET("/new"));
      await newcomer.expect("\r\n\r\n/new");
      const closing = [];
      for (const { client } of busy) {
        await client.expect("\r\n\r\n/busy");
        const [answer] = readResponses(client.text);
        closing.push(answer?.fields["connection"]);
      }
      assert.ok(closing.includes("close"), "an answer says that it is the last");
      for (const { client } of [...busy, { client: newcomer }]) client.destroy();
    });
  }

  test("a session that becomes idle in the middle of the wait makes room too", async () => {
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
    const host = await started(undefined, { limits: { maxConnections: 1 } });
    host.server.route({
      uri: "/",
      method: "GET",
      async handler(request) {
        await request.sendChunk("begun"); // its head has said that the connection stays
        begin();
        await asleep;
        request.end();
      },
    });
    const a = await Visitor.come(host);
    a.client.send(GET("/"));
    await begun;
    const b = await RawClient.connect(host.port);
    b.send(GET("/none"));
    await turns();
    assert.equal(b.text, "");
    wake();
    await b.expect("404");
    assert.ok(a.client.text.endsWith("0\r\n\r\n"));
    b.destroy();
    a.client.destroy();
  });

  test("a fresh connection in its handshake is not purged before an older idle one", async () => {
    const host = await capped({ limits: { maxConnections: 2 } }, "tls");
    const idle = await Visitor.come(host, "tls");
    await idle.ask("/a");
    const silent = await connectTcp(host.port); // its ClientHello is still to come
    await turns();
    const newcomer = await Visitor.come(host, "tls");
    await idle.leave();
    await newcomer.ask("/new");
    assert.equal(silent.destroyed, false);
    assert.deepEqual(host.ends, ["CONNECTION_ABORTED"]);
    silent.destroy();
    newcomer.client.destroy();
  });

  test("a session with half a request head is purged only when no other is idle", async () => {
    const host = await capped({ limits: { maxConnections: 2 } });
    const half = await Visitor.come(host);
    half.client.send("GET /half HTTP/1.1\r\n");
    const idle = await Visitor.come(host);
    await idle.ask("/idle");
    await turns();
    const newcomer = await Visitor.come(host);
    await idle.leave();
    half.client.send("Host: a\r\n\r\n");
    await half.client.expect("\r\n\r\n/half");
    half.client.text = "";
    half.client.send("GET");
    newcomer.client.send("GET");
    await turns();
    const last = await Visitor.come(host);
    await last.ask("/last");
    assert.equal(host.ends.length, 2);
    for (const { client } of [half, newcomer, last]) client.destroy();
  });

  test("of WebSockets as many are closed as there are newcomers", async () => {
    const host = await started(undefined, { limits: { maxConnections: 2 } });
    host.server.route({ uri: "/ws", websocket: { onMessage() {} } });
    const sockets = [];
    for (let i = 0; i < 2; i++) {
      const socket = new WebSocket(`ws://127.0.0.1:${host.port}/ws`);
      const closed = new Promise<number>((resolve) => socket.onclose = ({ code }) => resolve(code));
      await new Promise((resolve, reject) => (socket.onopen = resolve, socket.onerror = reject));
      sockets.push(closed);
    }
    const newcomers = [];
    for (let i = 0; i < 2; i++) newcomers.push(await RawClient.connect(host.port));
    for (const client of newcomers) client.send(GET("/"));
    assert.deepEqual(await Promise.all(sockets), [1001, 1001]);
    for (const client of newcomers) {
      await client.expect("404");
      client.destroy();
    }
  });

  test("20 clients that hold their connections are all let in, as in the original's example", async () => {
    const host = await capped({ limits: { maxConnections: 7 } });
    const visitors = [];
    for (let i = 0; i < 20; i++) {
      const visitor = await Visitor.come(host);
      await visitor.ask(`/${i}`);
      assert.ok(host.server.sessions.size <= 7);
      visitors.push(visitor);
    }
    for (const visitor of visitors.slice(0, 13)) await visitor.leave();
    for (const { client } of visitors) client.destroy();
  });
});

describe("maxConnections without lruPurge", () => {
  for (const mode of MODES) {
    test(`the newcomer waits in line, and is served when a slot frees, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 2, lruPurge: false } }, mode);
      const [a, b] = [await Visitor.come(host, mode), await Visitor.come(host, mode)];
      await a.ask("/a");
      await b.ask("/b");
      const raws = [await connectTcp(host.port), await connectTcp(host.port)];
      await turns();
      assert.equal(host.server.sessions.size, 2);
      await a.ask("/a"); // none is purged
      raws[0]!.destroy(); // the first in line goes away
      a.client.destroy();
      const served = await RawClient.connect(host.port, mode === "plain" ? mode : "plain");
      await until(() => host.server.sessions.size >= (mode === "plain" ? 2 : 1), "room");
      if (mode === "plain") {
        const second = new RawClient(raws[1]!);
        second.send(GET("/second"));
        await second.expect("\r\n\r\n/second");
      }
      for (const client of [served, b.client]) client.destroy();
      raws[1]!.destroy();
    });
  }

  test("spillover: exactly n of n + 1 clients are served", async () => {
    const host = await capped({ limits: { maxConnections: 4, lruPurge: false } });
    const clients = [];
    for (let i = 0; i < 5; i++) {
      const client = await RawClient.connect(host.port);
      client.send(GET(`/${i}`));
      clients.push(client);
      if (i < 4) await client.expect(`\r\n\r\n/${i}`);
    }
    await turns();
    assert.equal(clients[4]!.text, "");
    clients[1]!.destroy();
    await clients[4]!.expect("\r\n\r\n/4");
    for (const client of clients) client.destroy();
  });

  test("backlog wait at the most, and no longer than handshakeMs", async () => {
    const clock = new TestClock();
    const host = await capped(
      {
        limits: { maxConnections: 1, lruPurge: false, backlog: 2 },
        timeouts: { handshakeMs: 200 },
      },
      "plain",
      clock,
    );
    const a = await Visitor.come(host);
    const newcomers: RawClient[] = [];
    for (let i = 0; i < 4; i++) newcomers.push(await RawClient.connect(host.port));
    const over = new Set<RawClient>();
    for (const client of newcomers) {
      void client.rest().catch(() => "").then(() => over.add(client));
    }
    await until(() => over.size === 2, "two are cut while no time passes");
    await clock.advance(190);
    assert.equal(over.size, 2, "the others wait");
    await clock.advance(210); // deadlines are looked at in steps
    await until(() => over.size === 4, "they wait no longer");
    await a.ask("/still");
    for (const client of [a.client, ...newcomers]) client.destroy();
  });

  for (const mode of MODES) {
    test(`a client that has ended its side keeps its slot while its handler runs, ${mode}`, async () => {
      const host = await capped({ limits: { maxConnections: 1, lruPurge: false } }, mode);
      const a = await Visitor.come(host, mode);
      await a.beBusy();
      a.client.end();
      await turns();
      const coming = RawClient.connect(host.port, mode);
      const first = await Promise.race([coming.then(() => "in"), turns(50).then(() => "waits")]);
      if (mode === "tls") assert.equal(first, "waits"); // plain TCP connects in the backlog
      assert.equal(host.server.sessions.size, 1);
      host.wake();
      await a.client.expect("\r\n\r\n/busy");
      const b = await coming;
      b.send(GET("/b"));
      await b.expect("\r\n\r\n/b");
      a.client.destroy();
      b.destroy();
    });
  }

  for (const lruPurge of [true, false]) {
    test(`holds under a flood of 300, lruPurge ${lruPurge}`, async () => {
      const host = await capped({ limits: { maxConnections: 4, lruPurge, backlog: 5 } });
      let most = 0;
      host.server.addEventListener("connected", () => {
        most = Math.max(most, host.server.sessions.size);
      });
      const sockets = await Promise.all(Array.from({ length: 300 }, () => connectTcp(host.port)));
      for (const socket of sockets) socket.on("error", () => {});
      await turns();
      assert.ok(most > 0 && most <= 4, `${most} sessions`);
      for (const socket of sockets) socket.destroy();
      await until(() => host.server.sessions.size === 0, "all are gone");
      const visitor = await Visitor.come(host);
      await visitor.ask("/after");
      visitor.client.destroy();
    });
  }
});
