/** Tests of handshakes that fail, and of TLS versions, ciphers and tickets, with OpenSSL as client. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type net from "node:net";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { TlsErrorCode } from "../lib/errors.ts";
import type { ServerErrorEvent } from "../lib/events.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { clientHello, connectTcp, received, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import {
  clientCa,
  type ClientOptions,
  file,
  mallory,
  run,
  sClient,
  serverCaFile,
  startServer,
  type TestServer,
  VERSIONS,
} from "./tls_support.ts";

assertRuntime();

/** A handshake that cannot succeed. */
interface Failure {
  readonly name: string;
  readonly server?: HttpsServerOptions;
  readonly client: ClientOptions;
  readonly code: TlsErrorCode;
  readonly phase: "client hello" | "selection" | "handshake";
  /** The alert that the client gets; `undefined`: none, or one that depends on the runtime. */
  readonly alert?: number;
}

const NO_APPLICATION_PROTOCOL = 120;
const UNRECOGNIZED_NAME = 112;
const PROTOCOL_VERSION = 70;
const HANDSHAKE_FAILURE = 40;

const FAILURES: readonly Failure[] = [
  ...VERSIONS.flatMap((version): Failure[] => [
    {
      name: `no shared application protocol, ${version}`,
      client: { version, args: ["-alpn", "spdy/3"] },
      code: "TLS_NO_ALPN",
      phase: "handshake",
      alert: NO_APPLICATION_PROTOCOL,
    },
    {
      name: `no shared signature algorithm, ${version}`,
      client: { version, args: ["-sigalgs", "RSA-PSS+SHA256"] },
      code: "TLS_NO_SHARED_PARAMETERS",
      phase: "handshake",
      alert: HANDSHAKE_FAILURE,
    },
    {
      name: `no shared group, ${version}`,
      client: { version, args: ["-groups", "X448"] },
      code: "TLS_NO_SHARED_PARAMETERS",
      phase: "handshake",
      alert: HANDSHAKE_FAILURE,
    },
    {
      name: `a client that refuses the certificate, ${version}`,
      client: { version, args: ["-verify_return_error", "-CAfile", file(clientCa.cert)] },
      code: "TLS_PEER_ALERT",
      phase: "handshake",
    },
    {
      name: `an unknown name under strictSni, ${version}`,
      server: { strictSni: true },
      client: { version, name: "unknown.example" },
      code: "TLS_SELECTION_FAILED",
      phase: "selection",
      alert: UNRECOGNIZED_NAME,
    },
    {
      name: `no certificate where one is required, ${version}`,
      server: { cacert: clientCa.cert },
      client: { version },
      code: "TLS_CLIENT_CERT_REQUIRED",
      phase: "handshake",
    },
    {
      name: `a certificate that is rejected, ${version}`,
      server: { cacert: clientCa.cert },
      client: { version, client: mallory },
      code: "TLS_CLIENT_CERT_INVALID",
      phase: "handshake",
    },
  ]),
  {
    name: "no shared cipher suite, TLSv1.2",
    client: { version: "TLSv1.2", args: ["-cipher", "AES128-SHA"] },
    code: "TLS_NO_SHARED_PARAMETERS",
    phase: "handshake",
    alert: HANDSHAKE_FAILURE,
  },
  {
    name: "no cipher suite but CBC, TLSv1.2",
    client: { version: "TLSv1.2", args: ["-cipher", "ECDHE-ECDSA-AES128-SHA256"] },
    code: "TLS_NO_SHARED_PARAMETERS",
    phase: "handshake",
    alert: HANDSHAKE_FAILURE,
  },
  {
    name: "a client of TLS 1.1",
    client: { args: ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"] },
    code: "TLS_VERSION",
    phase: "client hello",
    alert: PROTOCOL_VERSION,
  },
  {
    name: "a client of TLS 1.2 where 1.3 is asked for",
    server: { tlsVersion: "TLSv1.3" },
    client: { version: "TLSv1.2" },
    code: "TLS_VERSION",
    phase: "client hello",
    alert: PROTOCOL_VERSION,
  },
  {
    name: "a client of TLS 1.3 where 1.2 is asked for",
    server: { maxVersion: "TLSv1.2" },
    client: { version: "TLSv1.3" },
    code: "TLS_VERSION",
    phase: "client hello",
    alert: PROTOCOL_VERSION,
  },
];

/** The one error that a connection has come to, and no other until the server has stopped. */
async function theError(server: TestServer): Promise<ServerErrorEvent> {
  await until(() => server.errors.length > 0, "An error event");
  await server.server.stop();
  assert.deepEqual(server.errors.slice(1).map(({ error }) => error.code), []);
  assert.equal(server.requests, 0);
  return server.errors[0]!;
}

describe("A handshake that fails reports one error:", () => {
  for (const { name, server: options, client, code, phase, alert } of FAILURES) {
    test(name, async () => {
      await using server = await startServer(options);
      const result = await sClient(server.port, client);
      assert.equal(result.status, undefined);
      if (alert !== undefined) assert.equal(result.alert, alert, result.output);
      const event = await theError(server);
      assert.equal(event.error.code, code, event.error.message);
      assert.equal(event.phase, phase);
      assert.equal(event.sni, client.name ?? "localhost");
      assert.equal(event.remoteAddress, "127.0.0.1");
      assert.equal(event.session, undefined);
      if (phase === "handshake") assert.ok(event.error.cause instanceof Error);
    });
  }
});

/** Sends bytes over TCP and gives what comes until the server closes. */
async function exchange(port: number, bytes: Uint8Array | string, piece = Infinity) {
  const socket = await connectTcp(port);
  const answer = received(socket);
  const all = Buffer.from(bytes as string, "latin1");
  for (let i = 0; i < all.length; i += Math.min(piece, all.length)) {
    if (socket.destroyed) break;
    socket.write(all.subarray(i, i + piece));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const reply = await answer;
  socket.destroy();
  return reply;
}

describe("What is no handshake reports one error:", () => {
  for (const piece of [Infinity, 1]) {
    const pieces = piece === 1 ? "byte by byte" : "in one piece";

    test(`plain HTTP, ${pieces}, is answered in plain HTTP`, async () => {
      await using server = await startServer();
      const reply = await exchange(server.port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", piece);
      assert.match(reply.toString("latin1"), /^HTTP\/1\.1 400 Bad Request\r\n.*HTTPS.*\n$/s);
      const { error, phase, sni } = await theError(server);
      assert.equal(error.code, "TLS_NOT_TLS");
      assert.equal(phase, "client hello");
      assert.equal(sni, undefined);
    });

    test(`garbage, ${pieces}, is cut`, async () => {
      await using server = await startServer();
      const reply = await exchange(server.port, "\x00\x01\x02\xff".repeat(16), piece);
      assert.equal(reply.length, 0);
      assert.equal((await theError(server)).error.code, "TLS_NOT_TLS");
    });

    test(`a malformed ClientHello, ${pieces}, gets alert decode_error`, async () => {
      await using server = await startServer();
      const hello = await clientHello();
      hello[43] = 255; // the length of the session id
      const reply = await exchange(server.port, hello, piece);
      assert.equal(reply.toString("hex"), "15030300020232");
      assert.equal((await theError(server)).error.code, "TLS_BAD_CLIENT_HELLO");
    });
  }

  test("an SSL 2.0 hello gets alert protocol_version", async () => {
    await using server = await startServer();
    const reply = await exchange(
      server.port,
      Buffer.from("802b0100020012000000100100800700c0", "hex"),
    );
    assert.equal(reply.toString("hex"), "15030300020246");
    assert.equal((await theError(server)).error.code, "TLS_VERSION");
  });

  test("a record that belongs to no handshake", async () => {
    await using server = await startServer();
    const broken = Buffer.concat([
      await clientHello(),
      Buffer.from("1703030020" + "00".repeat(32), "hex"),
    ]);
    await exchange(server.port, broken);
    assert.match((await theError(server)).error.code, /^TLS_/);
  });

  test("nothing at all, within handshakeMs", async () => {
    const clock = new TestClock();
    await using server = await startServer({ timeouts: { handshakeMs: 200 } }, clock);
    const socket = await connectTcp(server.port);
    const answer = received(socket);
    await until(() => clock.timers > 0, "the connection is accepted");
    await clock.advance(150);
    assert.deepEqual(server.errors, []);
    await clock.advance(100);
    await answer;
    socket.destroy();
    const { error, phase } = await theError(server);
    assert.equal(error.code, "TLS_HANDSHAKE_TIMEOUT");
    assert.equal(phase, "client hello");
  });

  test("a ClientHello that drips in, within handshakeMs in all", async () => {
    const clock = new TestClock();
    await using server = await startServer({ timeouts: { handshakeMs: 200 } }, clock);
    const hello = await clientHello();
    const socket = await connectTcp(server.port);
    const answer = received(socket);
    await until(() => clock.timers > 0, "the connection is accepted");
    for (let sent = 0; sent < 12; sent++) {
      if (sent < 10) assert.deepEqual(server.errors, []);
      socket.write(hello.subarray(sent, sent + 1));
      await turns(2);
      await clock.advance(20);
    }
    await answer;
    assert.equal((await theError(server)).error.code, "TLS_HANDSHAKE_TIMEOUT");
    socket.destroy();
  });

  test("a ClientHello and then nothing, within handshakeMs", async () => {
    await using server = await startServer({ timeouts: { handshakeMs: 200 } });
    await exchange(server.port, await clientHello());
    const { error, phase, sni } = await theError(server);
    assert.equal(error.code, "TLS_HANDSHAKE_TIMEOUT");
    assert.equal(phase, "handshake");
    assert.equal(sni, "localhost");
  });
});

describe("A client that leaves reports one error at once:", () => {
  const leaves: Record<string, (socket: net.Socket) => void> = {
    "ends": (socket) => socket.end(),
    "destroys": (socket) => socket.destroy(),
    "resets": (socket) => socket.resetAndDestroy(),
  };
  for (const [how, leave] of Object.entries(leaves)) {
    for (const part of ["no", "half a", "a whole"]) {
      for (const options of [{}, { cacert: clientCa.cert }]) {
        const auth = options.cacert === undefined ? "" : ", client certificates required";
        test(`${how} after ${part} ClientHello${auth}`, async () => {
          await using server = await startServer(options);
          const hello = await clientHello();
          const size = { "no": 0, "half a": hello.length >> 1, "a whole": hello.length }[part]!;
          const socket = await connectTcp(server.port);
          socket.resume();
          if (size > 0) socket.write(hello.subarray(0, size));
          if (part === "a whole") await once(socket, "data");
          leave(socket);
          const { error, remoteAddress } = await theError(server);
          assert.equal(error.code, "TLS_PEER_CLOSED", error.message);
          assert.equal(remoteAddress, "127.0.0.1");
          socket.destroy();
        });
      }
    }
  }
});

describe("TLS on the plain port", () => {
  test("closes cleanly, and reaches no handler", async () => {
    await using server = await startServer({ transportMode: "insecure" });
    const { output, status } = await sClient(server.port);
    assert.equal(status, undefined);
    assert.match(output, /wrong version number|packet length too long/);
    assert.equal((await theError(server)).error.code, "BAD_REQUEST");
  });
});

for (const version of VERSIONS) {
  describe(`Handshakes that succeed, ${version}`, () => {
    test("agree on version, cipher and protocol, full and resumed", async () => {
      await using server = await startServer();
      const save = file("");
      const args = ["-alpn", "h3,http/1.1"];
      for (const session of [{ save }, { resume: save }]) {
        const { facts, resumed } = await sClient(server.port, { version, args, ...session });
        assert.equal(facts?.protocol, version);
        assert.match(facts.cipher, version === "TLSv1.3" ? /^TLS_/ : /^ECDHE-ECDSA-/);
        assert.equal(facts.alpn, "http/1.1");
        assert.equal(facts.sni, "localhost");
        assert.equal(facts.resumed, resumed);
        assert.equal(resumed, "resume" in session);
        assert.equal(facts.authorized, false);
      }
      assert.deepEqual(server.errors, []);
    });

    test("are the only ones with tlsVersion, or with minVersion and maxVersion", async () => {
      for (
        const options of [{ tlsVersion: version }, { minVersion: version, maxVersion: version }]
      ) {
        await using server = await startServer(options);
        assert.equal((await sClient(server.port)).facts?.protocol, version);
      }
    });
  });
}

describe("What TLS can do but should not", () => {
  test("renegotiation is refused", async () => {
    await using server = await startServer();
    const { port } = server;
    const args = ["s_client", "-connect", `127.0.0.1:${port}`, "-tls1_2", "-CAfile", serverCaFile];
    assert.match(await run("openssl", args, "R\n"), /RENEGOTIATING\n.*no renegotiation/s);
  });

  test("early data is not offered", async () => {
    await using server = await startServer();
    const { output, status } = await sClient(server.port, { version: "TLSv1.3" });
    assert.equal(status, 200);
    assert.match(output, /Max Early Data: 0/);
    assert.doesNotMatch(output, /Max Early Data: [^0]/);
  });
});

describe("sessionTickets: false", () => {
  test(runtime === "bun" ? "resumes nothing" : "throws NOT_SUPPORTED", async () => {
    const start = () => startServer({ sessionTickets: false });
    if (runtime === "deno") {
      await assert.rejects(start, { code: "NOT_SUPPORTED", message: /sessionTickets.*deno/i });
      return;
    }
    await using server = await start();
    for (const version of VERSIONS) {
      const save = file("");
      assert.equal((await sClient(server.port, { version, save })).status, 200);
      if (readFileSync(save).length === 0) continue; // OpenSSL got nothing that it could resume
      const { status, resumed } = await sClient(server.port, { version, resume: save });
      assert.deepEqual({ status, resumed }, { status: 200, resumed: false });
    }
  });
});

describe("ciphers", () => {
  const one = "ECDHE-ECDSA-AES256-GCM-SHA384";
  test(runtime === "bun" ? "are the only ones of TLS 1.2" : "throw NOT_SUPPORTED", async () => {
    const start = () => startServer({ ciphers: [one] });
    if (runtime === "deno") {
      await assert.rejects(start, { code: "NOT_SUPPORTED", message: /ciphers.*deno/i });
      return;
    }
    await using server = await start();
    const { port } = server;
    assert.equal((await sClient(port, { version: "TLSv1.2" })).facts?.cipher, one);
    const args = ["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    assert.equal((await sClient(port, { version: "TLSv1.2", args })).status, undefined);
  });

  test("that are unknown stop the server from starting", async () => {
    const code = runtime === "bun" ? "INVALID_CONFIG" : "NOT_SUPPORTED";
    await assert.rejects(startServer({ ciphers: ["NO-SUCH-CIPHER"] }), { code });
  });
});

describe("Hardware options", () => {
  test("throw NOT_SUPPORTED by name, and pass when neutral", async () => {
    const asked = { useSecureElement: true, useEcdsaPeripheral: true, ecdsaKeyEfuseBlk: 2 };
    for (const [option, value] of Object.entries(asked)) {
      await assert.rejects(startServer({ [option]: value }), {
        code: "NOT_SUPPORTED",
        message: new RegExp(`${option}.*KeyProvider`),
      });
    }
    const neutral = { useSecureElement: false, useEcdsaPeripheral: false, ecdsaKeyEfuseBlk: 0 };
    await using server = await startServer(neutral);
    assert.equal((await sClient(server.port)).status, 200);
  });
});
