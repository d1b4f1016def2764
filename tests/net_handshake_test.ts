/** Listening, handshakes, and the deadlines of connections. */
import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "bun:test";
import { ListenError } from "../lib/errors.ts";
import { Deadlines, type Waiting } from "../lib/net/deadlines.ts";
import { Listener } from "../lib/net/listener.ts";
import { encode, rejection, turn } from "./net_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import {
  clientHello,
  connect,
  connectTcp,
  gone,
  openRelay,
  openssl,
  openTransport,
  received,
  RecordingConsumer,
  start,
  startScript,
  TLS_FLOWS,
  turns,
  until,
} from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();

describe("The handshake", () => {
  for (const mode of TLS_FLOWS) {
    test(`${mode}: gives name, protocol and version`, async () => {
      await using transport = await openTransport(mode, { alpnProtocols: ["http/1.1"] });
      const [client, connection] = await Promise.all([
        connect(transport, { ALPNProtocols: ["h2", "http/1.1"] }),
        transport.accept(),
      ]);
      assert.equal(connection.tls?.sni, "localhost");
      assert.equal(connection.tls.alpn, "http/1.1");
      assert.equal(connection.tls.protocol, "TLSv1.3");
      assert.equal(connection.remotePort, client.localPort);
      assert.equal(connection.localPort, transport.port);
      client.destroy();
    });

    test(`${mode}: sends the alert when no application protocol is shared`, async () => {
      await using transport = await openTransport(mode, { alpnProtocols: ["http/1.1"] });
      const output = await openssl(transport.port, ["-alpn", "nonsense"]).done;
      assert.match(output, /alert no application protocol|alert number 120/);
      await until(() => transport.refusals.length > 0, "the refusal is reported");
      assert.equal(transport.refusals[0]!.phase, "handshake");
      assert.equal(transport.gate.size, 0);
    }, 10_000);

    test(`${mode}: 200 at once`, async () => {
      await using transport = await openTransport(mode, {
        admitted(connection) {
          connection.readable.pipeTo(connection.writable).catch(() => {});
        },
      });
      const echo = async (i: number): Promise<void> => {
        const client = await connect(transport);
        const answer = received(client);
        client.write(`client ${i}`);
        await until(() => client.bytesRead > 0, "an answer", 20_000);
        client.end();
        assert.equal((await answer).toString(), `client ${i}`);
      };
      // Bun's TLS over a stream that is no socket knows no half-close: docs/runtimes.md.
      if (mode === "paced" && runtime === "bun") return;
      await Promise.all(Array.from({ length: 200 }, (_, i) => echo(i)));
      await until(() => transport.deadlines.size === 0, "all connections are over");
    }, 30_000);

    test(`${mode}: cuts a client that has not shaken hands in time`, async () => {
      const clock = new TestClock();
      await using transport = await openTransport(mode, { handshakeMs: 300, clock });
      const hello = await clientHello();
      /** What clients send at the beginning, and every 20 ms. */
      const clients: Record<string, (ms: number) => Uint8Array | undefined> = {
        "says nothing": () => undefined,
        "sends half a ClientHello": (ms) => ms === 0 ? hello.subarray(0, 100) : undefined,
        "stops after the ClientHello": (ms) => ms === 0 ? hello : undefined,
        "sends a byte every 20 ms": (ms) => hello.subarray(ms / 20, ms / 20 + 1),
      };
      for (const [behaviour, sends] of Object.entries(clients)) {
        const client = await connectTcp(transport.port);
        const cut = gone(client);
        await until(() => transport.gate.size === 1, "the connection is accepted");
        for (let ms = 0; ms < 360; ms += 20) {
          if (ms < 300) assert.equal(transport.refusals.length, 0, `It ${behaviour}: cut at ${ms}`);
          const bytes = sends(ms);
          if (bytes !== undefined) client.write(bytes);
          await turns(2);
          await clock.advance(20);
        }
        await cut;
        client.destroy();
        const refusal = transport.refusals.pop();
        assert.equal(refusal?.error.code, "TLS_HANDSHAKE_TIMEOUT", behaviour);
        assert.equal(transport.gate.size, 0);
      }
      await until(() => transport.deadlines.size === 0, "nothing is watched");
    }, 10_000);

    test(`${mode}: gives a slow handshake all of its time`, async () => {
      await using transport = await openTransport(mode);
      await using relay = await openRelay(transport.port);
      relay.accept().then(({ client, server }) => {
        server.on("data", (bytes) => void client.write(bytes));
        client.once("data", (hello) => {
          server.write(hello);
          // Longer than the runtime's own timer, which must do nothing.
          setTimeout(() => client.on("data", (bytes) => void server.write(bytes)), 1_500);
          client.pause();
          setTimeout(() => client.resume(), 1_500);
        });
      });
      const [client, connection] = await Promise.all([
        connect({ mode, port: relay.port }),
        transport.accept(),
      ]);
      const answer = received(client);
      connection.attach(new RecordingConsumer());
      connection.write(encode("welcome"));
      connection.close();
      assert.equal((await answer).toString(), "welcome");
      client.end();
    });

    test(`${mode}: lets go of a client that leaves before it is over`, async () => {
      await using transport = await openTransport(mode);
      const hello = await clientHello();
      for (const bytes of [hello.subarray(0, 0), hello.subarray(0, 100), hello]) {
        const left = await connectTcp(transport.port);
        left.end(bytes);
        await until(() => transport.refusals.length > 0, `a FIN is reported after ${bytes.length}`);
        assert.equal(transport.refusals.pop()!.error.code, "TLS_PEER_CLOSED");
        left.destroy();
        const cut = await connectTcp(transport.port);
        cut.write(bytes);
        for (let i = 0; i < 10; i++) await turn();
        cut.resetAndDestroy();
        await until(() => transport.refusals.length > 0, `a RST is reported after ${bytes.length}`);
        assert.equal(transport.refusals.pop()!.error.code, "TLS_PEER_CLOSED");
      }
      assert.equal(transport.gate.size, 0);
      assert.equal(transport.deadlines.size, 0);
    }, 15_000);

    test(`${mode}: answers plain HTTP, and cuts it when it goes on`, async () => {
      const clock = new TestClock();
      const times = { handshakeMs: 300, lingerMs: 300 };
      await using transport = await openTransport(mode, { ...times, clock });
      const client = await connectTcp(transport.port);
      const answer = received(client);
      client.write("G");
      await until(() => transport.refusals.length > 0, "it is refused");
      for (let ms = 0; ms < 400; ms += 20) {
        client.write("E");
        await turns(2);
        await clock.advance(20);
      }
      await until(() => transport.gate.size === 0 && transport.deadlines.size === 0, "cut");
      const text = (await answer).toString();
      assert.ok(text === "" || text.startsWith("HTTP/1.1 400 "), text);
      client.destroy();
    });
  }

  test("answers a whole plain request", async () => {
    await using transport = await openTransport("tls");
    const client = await connectTcp(transport.port);
    const answer = received(client);
    client.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert.match((await answer).toString(), /^HTTP\/1.1 400 .*https:/s);
    client.end();
    await until(() => transport.gate.size === 0, "the gate is empty");
  });
});

describe("Deadlines", () => {
  class Thing implements Waiting {
    deadline = Infinity;
    /** How often it has expired. */
    expired = 0;

    expire(): void {
      this.deadline = Infinity;
      this.expired++;
    }
  }

  test("calls expire() once, soon after the deadline and never before", async () => {
    const clock = new TestClock();
    const deadlines = new Deadlines([400, 10_000], clock);
    const thing = new Thing();
    thing.deadline = deadlines.after(400);
    deadlines.watch(thing);
    await clock.advance(399);
    assert.equal(thing.expired, 0);
    await clock.advance(1 + 50); // an eighth
    assert.equal(thing.expired, 1);
    await clock.advance(1_000);
    assert.equal(thing.expired, 1);
    deadlines.unwatch(thing);
    assert.equal(clock.timers, 0);
  });

  test("watches on after expire(), and lets things go meanwhile", async () => {
    const clock = new TestClock();
    const deadlines = new Deadlines([5], clock);
    const things = [new Thing(), new Thing(), new Thing()];
    for (const thing of things) {
      thing.deadline = deadlines.after(1);
      thing.expire = () => {
        thing.expired++;
        for (const other of things) deadlines.unwatch(other);
      };
      deadlines.watch(thing);
    }
    assert.equal(deadlines.size, 3);
    await clock.advance(10);
    assert.deepEqual(things.map(({ expired }) => expired), [1, 0, 0]);
    assert.equal(deadlines.size, 0);
  });

  test("a late sweep leaves what it finds to the next, but only once", async () => {
    const clock = new TestClock();
    const deadlines = new Deadlines([400], clock); // a sweep every 50 ms
    const thing = new Thing();
    const moving = new Thing();
    thing.deadline = moving.deadline = deadlines.after(100);
    deadlines.watch(thing);
    deadlines.watch(moving);
    await clock.stall(1_000);
    assert.equal(thing.expired, 0);
    moving.deadline = deadlines.after(400); // its peer was heard
    await clock.stall(1_000);
    assert.deepEqual([thing.expired, moving.expired], [1, 0]);
    await clock.advance(50);
    assert.deepEqual([thing.expired, moving.expired], [1, 1]);
    deadlines.unwatch(thing);
    deadlines.unwatch(moving);
  });

  test("gives what was read in the meantime its say", async () => {
    const clock = new TestClock();
    const deadlines = new Deadlines([400], clock);
    const thing = new Thing();
    thing.deadline = deadlines.after(100);
    deadlines.watch(thing);
    const advanced = clock.advance(100);
    thing.deadline = deadlines.after(100); // as a read does between sweep and judgement
    await advanced;
    assert.equal(thing.expired, 0);
    deadlines.unwatch(thing);
  });

  test("keeps no timer when nothing is watched", async () => {
    const script = `
      const { Deadlines } = await import(${JSON.stringify(moduleUrl("deadlines"))});
      const deadlines = new Deadlines([1_000_000]);
      const thing = { deadline: deadlines.after(1_000_000), expire() {} };
      deadlines.watch(thing);
      deadlines.unwatch(thing);
      deadlines.unwatch(thing);
      console.log("done");
    `;
    const child = startScript(script); // it would never end
    assert.match(await child.done, /^done\s*$/);
  }, 30_000);
});

function moduleUrl(name: string): string {
  return new URL(`../lib/net/${name}.ts`, import.meta.url).href;
}

// Without TLS the sockets are those of node:net, with it Bun's own on Bun.
for (const tls of [false, true]) {
  describe(`Listener.open(), ${tls ? "tls" : "plain"}`, () => {
    const open = (hostname: string | undefined, port: number): Promise<Listener> =>
      Listener.open({ hostname, port, backlog: 16, tls }, (raw) => raw.destroy(), () => {});

    const listenError = async (hostname: string, port: number): Promise<string> => {
      const error = await rejection(open(hostname, port));
      assert.ok(error instanceof ListenError, `${error}`);
      return error.code;
    };

    test("listens on a name, an IPv4 and an IPv6 address, and on all", async () => {
      for (const hostname of ["localhost", "127.0.0.1", "::1", undefined]) {
        const listener = await open(hostname, 0);
        assert.ok(listener.address.port > 0);
        listener.close();
      }
    });

    test("says that an address is in use", async () => {
      const listener = await open("127.0.0.1", 0);
      const { port } = listener.address;
      assert.equal(await listenError("127.0.0.1", port), "ADDRESS_IN_USE");
      listener.close();
      (await open("127.0.0.1", port)).close();
    });

    test("says that an address is not ours", async () => {
      assert.equal(await listenError("192.0.2.1", 0), "ADDRESS_NOT_AVAILABLE");
    });

    test("says that a name does not exist", async () => {
      assert.equal(await listenError("no-such-host.invalid", 0), "LISTEN_FAILED");
    });

    test("says that the runtime forbids it", async () => {
      if (runtime !== "deno") return; // Bun has no permissions
      const script = `
      const { Listener } = await import(${JSON.stringify(moduleUrl("listener"))});
      for (const hostname of ["127.0.0.1", "::1", "localhost", undefined]) {
        try {
          const options = { hostname, port: 0, backlog: 1, tls: ${tls} };
          await Listener.open(options, () => {}, () => {});
          console.log("listens");
        } catch (error) {
          console.log(error.name, error.code);
        }
      }
    `;
      const file = join(tmpdir(), `httpsd-listen-${process.pid}.mjs`);
      await writeFile(file, script);
      const args = ["run", "--no-prompt", "--allow-read", "--allow-import", file];
      const output = await start(process.execPath, args).done;
      await rm(file);
      assert.equal(output, "ListenError PERMISSION_DENIED\n".repeat(4));
    }, 30_000);
  });
}
