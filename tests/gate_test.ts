/** Tests of the way from accept to handshake: PROXY headers, caps, deadlines, leaks. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Session } from "../lib/http/session.ts";
import { type Mode, MODES, transportOf } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import {
  clientHello,
  connectTcp,
  openRelay,
  openTransport,
  received,
  turns,
  until,
} from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { type Facts, handshake, serverCa, startServer, type TestServer } from "./tls_support.ts";

assertRuntime();

const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const V1 = Buffer.from("PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n");
const V1_UNKNOWN = Buffer.from("PROXY UNKNOWN\r\n");
const SIGNATURE = "0d0a0d0a000d0a515549540a";
const V2 = Buffer.from(`${SIGNATURE}2111000ccb007107c63364019c4001bb`, "hex");
const V2_IPV6 = Buffer.from(
  `${SIGNATURE}21210024${"20010db8".padEnd(30, "0")}07${"20010db8".padEnd(30, "0")}019c4001bb`,
  "hex",
);
/** A type-length-value of version 2. */
function tlv(type: number, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([Uint8Array.of(type, bytes.length >> 8, bytes.length), bytes]);
}
const TLVS = Buffer.concat([
  tlv(0x01, "h2"),
  tlv(0x02, "example.com"),
  tlv(
    0x20,
    Buffer.concat([Buffer.of(0x03, 0, 0, 0, 0), tlv(0x21, "TLSv1.3"), tlv(0x22, "pump 7")]),
  ),
]);
const V2_TLS = Buffer.concat([V2, TLVS]);
V2_TLS.writeUInt16BE(12 + TLVS.length, 14);
const V2_LOCAL = Buffer.from(`${SIGNATURE}20000000`, "hex");

/** How a proxy sends its header and the first bytes of its client. */
type Sending = "in one piece" | "byte by byte" | "with the first bytes";
const SENDINGS: readonly Sending[] = ["in one piece", "byte by byte", "with the first bytes"];

/** Asks through a proxy that sends a header; gives the answer, `undefined` when there is none. */
async function through(
  { port }: TestServer,
  mode: Mode,
  header: Uint8Array,
  sending: Sending = "in one piece",
): Promise<Facts | undefined> {
  await using relay = await openRelay(port);
  const to = { port: relay.port, host: "127.0.0.1" };
  const socket = mode === "plain"
    ? net.connect(to)
    : tls.connect({ ...to, servername: "localhost", ca: serverCa.cert });
  socket.on("error", () => {}); // a cut is seen as the lack of an answer
  const answer = received(socket);
  socket.write(REQUEST);

  const { client, server } = await relay.accept();
  server.once("close", () => client.destroy());
  if (sending === "with the first bytes") {
    const [first] = await once(client, "data") as [Buffer];
    server.write(Buffer.concat([header, first]));
  } else {
    for (const piece of sending === "byte by byte" ? header : [header]) {
      server.write(typeof piece === "number" ? Uint8Array.of(piece) : piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  server.pipe(client);
  client.pipe(server);

  const text = (await answer).toString("latin1");
  socket.destroy();
  const body = text.slice(text.indexOf("\r\n\r\n") + 4);
  return text === "" ? undefined : JSON.parse(body);
}

/** A server behind a proxy on 127.0.0.1. */
function behind(options: HttpsServerOptions = {}): Promise<TestServer> {
  return startServer({ proxyProtocol: { trustedProxies: ["127.0.0.0/8"] }, ...options });
}

for (const mode of MODES) {
  describe(`PROXY protocol, ${mode}`, () => {
    for (const sending of SENDINGS) {
      const headers: [string, Uint8Array, string][] = [
        ["version 1", V1, "203.0.113.7"],
        ["version 1, UNKNOWN", V1_UNKNOWN, "127.0.0.1"],
        ["version 2", V2, "203.0.113.7"],
        ["version 2, IPv6", V2_IPV6, "2001:db8::7"],
        ["version 2, LOCAL", V2_LOCAL, "127.0.0.1"],
      ];
      for (const [name, header, address] of headers) {
        test(`${name}, ${sending}, says whose connection it is`, async () => {
          await using server = await behind({ transportMode: transportOf(mode) });
          const facts = await through(server, mode, header, sending);
          assert.equal(facts?.remoteAddress, address);
          assert.deepEqual(server.errors, []);
        });
      }
    }

    const broken: Record<string, Uint8Array> = {
      "none": new Uint8Array(),
      "a broken one of version 1": Buffer.from("PROXY TCP4 203.0.113.700 1.1.1.1 1 1\r\n"),
      "one of version 1 without an end": Buffer.from("PROXY TCP4 ".padEnd(120, "1")),
      "a broken one of version 2": Buffer.from(
        `${SIGNATURE}3111000c000000000000000000000000`,
        "hex",
      ),
    };
    for (const [name, header] of Object.entries(broken)) {
      test(`cuts a proxy that sends ${name} where one is required`, async () => {
        await using server = await behind({ transportMode: transportOf(mode) });
        assert.equal(await through(server, mode, header), undefined);
        assert.equal(server.requests, 0);
        assert.equal(server.errors.length, 1);
        const { error, phase, remoteAddress } = server.errors[0]!;
        assert.deepEqual([error.code, phase], ["PROXY_HEADER", "proxy header"]);
        assert.equal(remoteAddress, "127.0.0.1");
      });
    }

    test("shows a session what the proxy says of the client's TLS", async () => {
      const seen: (Session["proxy"])[] = [];
      await using server = await behind({
        transportMode: transportOf(mode),
        openFn: (session) => seen.push(session.proxy) > 0,
      });
      assert.equal((await through(server, mode, V2_TLS))?.remoteAddress, "203.0.113.7");
      assert.equal((await through(server, mode, V1_UNKNOWN))?.remoteAddress, "127.0.0.1");
      const [known, unknown] = seen;
      assert.equal(known?.authority, "example.com");
      assert.equal(known?.alpn, "h2");
      assert.deepEqual(known?.ssl, {
        tls: true,
        certificateOnConnection: true,
        certificateInSession: false,
        verified: true,
        version: "TLSv1.3",
        commonName: "pump 7",
        cipher: undefined,
      });
      assert.equal(unknown?.family, "unspecified");
      await using direct = await startServer({
        transportMode: transportOf(mode),
        openFn: (session) => seen.push(session.proxy) > 0,
      });
      await through(direct, mode, new Uint8Array());
      assert.deepEqual(seen.slice(2), [undefined]);
    });

    test("believes trusted proxies only", async () => {
      const trustedProxies = ["192.0.2.0/24"];
      await using required = await behind({
        transportMode: transportOf(mode),
        proxyProtocol: { trustedProxies },
      });
      for (const header of [V1, V2, new Uint8Array()]) {
        assert.equal(await through(required, mode, header), undefined);
      }
      assert.equal(required.requests, 0);
      await using optional = await behind({
        transportMode: transportOf(mode),
        proxyProtocol: { trustedProxies, mode: "optional" },
      });
      const facts = await through(optional, mode, new Uint8Array());
      assert.equal(facts?.remoteAddress, "127.0.0.1");
      await through(optional, mode, V2).catch(() => {}); // is a bad request or no TLS
      assert.equal(optional.requests, 1);
    });

    test("takes proxies with and without header where it is optional", async () => {
      await using server = await behind({
        transportMode: transportOf(mode),
        proxyProtocol: { trustedProxies: ["127.0.0.1"], mode: "optional" },
      });
      assert.equal((await through(server, mode, V2))?.remoteAddress, "203.0.113.7");
      assert.equal((await through(server, mode, V1))?.remoteAddress, "203.0.113.7");
      assert.equal((await through(server, mode, new Uint8Array()))?.remoteAddress, "127.0.0.1");
    });

    test("waits for a header no longer than handshakeMs", async () => {
      await using server = await behind({
        transportMode: transportOf(mode),
        timeouts: { handshakeMs: 200 },
      });
      const socket = await connectTcp(server.port);
      const closed = received(socket);
      socket.write(V2.subarray(0, 20));
      await closed;
      socket.destroy();
      const { error, phase } = server.errors[0]!;
      assert.match(error.code, /^(CONNECTION_TIMEOUT|TLS_HANDSHAKE_TIMEOUT)$/);
      assert.equal(phase, "proxy header");
    });
  });

  describe(`maxConnectionsPerAddress, ${mode}`, () => {
    const connect = ({ port }: TestServer) =>
      mode === "tls" ? handshake(port, "localhost") : connectTcp(port);

    test("refuses the one too many, and takes it when one is gone", async () => {
      await using server = await startServer({
        transportMode: transportOf(mode),
        limits: { maxConnectionsPerAddress: 2 },
      });
      const sockets = [await connect(server), await connect(server)];
      const third = await connectTcp(server.port);
      await received(third);
      assert.deepEqual(server.errors.map(({ error }) => error.code), ["TOO_MANY_CONNECTIONS"]);
      sockets.pop()!.destroy();
      await until(() => server.server.sessions.size === 1, "One is gone");
      sockets.push(await connect(server));
      await until(() => server.server.sessions.size === 2, "Another is there");
      for (const socket of [...sockets, third]) socket.destroy();
      assert.equal(server.errors.length, 1);
    });

    test("counts those that have ended their side but are not answered yet", async () => {
      const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
      await using server = await startServer({
        transportMode: transportOf(mode),
        limits: { maxConnectionsPerAddress: 1 },
        openFn: () => mayAnswer.then(() => true),
      });
      const first = await connect(server);
      const reply = received(first);
      first.end(REQUEST);
      const second = await connectTcp(server.port);
      await received(second);
      second.destroy();
      assert.deepEqual(server.errors.map(({ error }) => error.code), ["TOO_MANY_CONNECTIONS"]);
      answer();
      assert.match((await reply).toString("latin1"), /^HTTP\/1\.1 200 /);
      first.destroy();
    });

    test("counts a proxy's clients, not the proxy", async () => {
      await using server = await behind({
        transportMode: transportOf(mode),
        limits: { maxConnectionsPerAddress: 1 },
      });
      const sockets: net.Socket[] = [];
      for (const last of [7, 8, 7]) {
        const socket = await connectTcp(server.port);
        sockets.push(socket);
        socket.write(`PROXY TCP4 203.0.113.${last} 198.51.100.1 40000 443\r\n`);
      }
      await received(sockets[2]!);
      assert.deepEqual(
        server.errors.map(({ error, remoteAddress }) => [error.code, remoteAddress]),
        [["TOO_MANY_CONNECTIONS", "203.0.113.7"]],
      );
      for (const socket of sockets) socket.destroy();
    });
  });
}

describe("maxHandshakes", () => {
  /** Opens connections that stop in the middle of the handshake. */
  async function stall({ port }: TestServer, count: number): Promise<net.Socket[]> {
    const hello = await clientHello();
    return await Promise.all(Array.from({ length: count }, async () => {
      const socket = await connectTcp(port);
      socket.write(hello);
      await once(socket, "data"); // the server's part: the handshake has begun
      return socket;
    }));
  }

  test("makes others wait until one is over", async () => {
    await using server = await startServer({ limits: { maxHandshakes: 2 } });
    const stalled = await stall(server, 2);
    let isThrough = false;
    const third = handshake(server.port, "localhost").then((socket) => {
      isThrough = true;
      return socket;
    });
    await turns();
    assert.equal(isThrough, false);
    stalled.pop()!.destroy();
    (await third).destroy();
    for (const socket of stalled) socket.destroy();
  });

  test("lets the waiting in when slow ones have come to their deadline", async () => {
    const clock = new TestClock();
    await using server = await startServer({
      limits: { maxHandshakes: 3 },
      timeouts: { handshakeMs: 400 },
    }, clock);
    const stalled = await stall(server, 3);
    await clock.advance(300);
    const waiting = handshake(server.port, "localhost");
    await turns();
    assert.equal(server.errors.length, 0);
    await clock.advance(200); // the slow ones are over, and the one that waits is not
    (await waiting).destroy();
    await until(() => server.errors.length === 3, "the slow ones are refused");
    for (const socket of stalled) socket.destroy();
  });

  test("does not prolong the deadline of those that wait", async () => {
    const hello = await clientHello();
    const clock = new TestClock();
    await using server = await startServer({
      limits: { maxHandshakes: 1 },
      timeouts: { handshakeMs: 300 },
    }, clock);
    const stalled = await stall(server, 1);
    const waiting = await Promise.all(Array.from({ length: 20 }, async () => {
      const socket = await connectTcp(server.port);
      socket.write(hello);
      return socket;
    }));
    await turns();
    await clock.advance(400);
    await Promise.all(waiting.map((socket) => received(socket)));
    const codes = server.errors.map(({ error }) => error.code);
    assert.deepEqual(new Set(codes), new Set(["TLS_HANDSHAKE_TIMEOUT"]));
    assert.equal(codes.length, 21);
    for (const socket of [...stalled, ...waiting]) socket.destroy();
  });

  test("holds while a hook is asked, and is not held by it", async () => {
    // None is answered before all are asked: one after another, they would wait for ever.
    const { promise: answer, resolve } = Promise.withResolvers<undefined>();
    let asked = 0;
    const certSelect = () => {
      if (++asked === 20) resolve(undefined);
      return answer;
    };
    await using server = await startServer({ limits: { maxHandshakes: 1 }, certSelect });
    const clients = Array.from({ length: 20 }, () => handshake(server.port, "localhost"));
    for (const socket of await Promise.all(clients)) socket.destroy();
  });
});

describe("Gate", () => {
  test("forgets every socket, however it leaves", async () => {
    const hello = await clientHello();
    const transport = await openTransport("tls", { handshakeMs: 300, lingerMs: 100 });
    const leave: ((socket: net.Socket) => void)[] = [
      (socket) => socket.end("GET / HTTP/1.1\r\n\r\n"),
      (socket) => socket.write("GET / HTTP/1.1\r\n\r\n"), // and does not read the answer
      (socket) => socket.end(hello),
      (socket) => socket.write(hello.subarray(0, 100)),
      (socket) => socket.write(Buffer.concat([hello, hello])),
      (socket) => socket.resetAndDestroy(),
      (socket) => socket.write(Buffer.from("16030100050100000100", "hex")),
      () => {},
    ];
    const clients = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
      const socket = await connectTcp(transport.port);
      leave[i % leave.length]!(socket);
      return socket;
    }));
    await until(() => transport.refusals.length === clients.length, "All are refused");
    await until(() => transport.gate.size === 0, "The gate is empty");
    for (const client of clients) client.destroy();
    assert.equal(transport.connections.length, 0);
    await transport[Symbol.asyncDispose]();
  });

  test("cuts all that is under way when the server stops", async () => {
    const hello = await clientHello();
    const server = await startServer({ certSelect: () => new Promise(() => {}) });
    const clients = await Promise.all(Array.from({ length: 20 }, async () => {
      const socket = await connectTcp(server.port);
      socket.write(hello);
      return socket;
    }));
    const ends = clients.map((client) => received(client));
    await server.server.stop();
    await Promise.all(ends);
    for (const client of clients) client.destroy();
    for (const { error } of server.errors) assert.equal(error.code, "CONNECTION_ABORTED");
  });
});
