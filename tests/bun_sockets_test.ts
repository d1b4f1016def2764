/**
 * Bun's own sockets under a server: their trial and its fallback, and that all that a handshake
 * tells is the same over them as over `node:tls`. What travels over connections is tested over both
 * wires by the files that docs/internals.md names.
 */
import assert from "node:assert/strict";
import type { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import type net from "node:net";
import process from "node:process";
import type { HttpsServerOptions } from "../lib/config.ts";
import {
  type BunNet,
  type BunSocket,
  bunSocketsWork,
  tryBunSockets,
} from "../lib/runtime/bun_sockets.ts";
import { capabilities } from "../lib/runtime/capabilities.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { clientHello, connectTcp, overNodeSockets, until } from "./support.ts";
import {
  alice,
  clientCa,
  type ClientOptions,
  type Facts,
  file,
  localhost,
  mallory,
  pairFor,
  ROGUES,
  sClient,
  startServer,
  type TestServer,
} from "./tls_support.ts";

assertRuntime();

/** Tests of Bun alone. */
const onBun = runtime === "bun" ? test : () => {};
const { Bun } = globalThis as unknown as { Bun: BunNet };

describe("The trial of Bun's own sockets", () => {
  test("succeeds here, and is not needed on Deno", async () => {
    if (process.env["HTTPSD_WIRE"] === "node") return;
    assert.equal(await bunSocketsWork(), runtime === "bun");
    assert.equal(
      capabilities.internals["bunSockets"],
      runtime === "bun" ? "in force" : "not needed",
    );
  });

  /** Bun with another socket below TLS, as its handlers see it. */
  function withSockets(change: (socket: BunSocket) => BunSocket): BunNet {
    return {
      connect: (options) => Bun.connect(options),
      listen: (options) => {
        const { data } = options.socket;
        return Bun.listen({
          ...options,
          socket: { ...options.socket, data: (socket, bytes) => data(change(socket), bytes) },
        });
      },
    };
  }
  function withUpgrade(upgrade: (socket: BunSocket) => BunSocket["upgradeTLS"]): BunNet {
    return withSockets((socket) =>
      new Proxy(socket, {
        get(target, name) {
          if (name === "upgradeTLS") return upgrade(target);
          const value = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
        set: (target, name, value) => Reflect.set(target, name, value, target),
      })
    );
  }

  const wrong: Record<string, () => BunNet> = {
    "listen() is gone": () => ({ connect: Bun.connect } as BunNet),
    "upgradeTLS() throws": () =>
      withUpgrade(() => () => {
        throw new TypeError("no such thing");
      }),
    "the bytes that were read are ignored": () =>
      withUpgrade((socket) => (options) =>
        socket.upgradeTLS({ ...options, initialData: new Uint8Array(0) })
      ),
    "application protocols are ignored": () =>
      withUpgrade((socket) => (options) => {
        const { ALPNProtocols: _, ...tls } = options.tls;
        return socket.upgradeTLS({ ...options, tls });
      }),
    "failed handshakes are not reported": () =>
      withUpgrade((socket) => (options) => {
        const { handshake } = options.socket;
        return socket.upgradeTLS({
          ...options,
          socket: {
            ...options.socket,
            handshake: (socket, ok, error) => void (ok && handshake?.(socket, ok, error)),
          },
        });
      }),
    "the reason of a failure is gone": () =>
      withUpgrade((socket) => (options) => {
        const { handshake } = options.socket;
        return socket.upgradeTLS({
          ...options,
          socket: {
            ...options.socket,
            handshake: (socket, ok) => handshake?.(socket, ok, ok ? null : new Error("failed")),
          },
        });
      }),
    "the peer's end is not reported": () =>
      withUpgrade((socket) => (options) =>
        socket.upgradeTLS({ ...options, socket: { ...options.socket, end() {} } })
      ),
  };
  for (const [what, net] of Object.entries(wrong)) {
    onBun(`fails where ${what}`, async () => assert.equal(await tryBunSockets(net()), false));
  }

  onBun("a server whose trial fails listens by node:net", async () => {
    await using server = await overNodeSockets(() => {
      assert.equal(capabilities.internals["bunSockets"], "fallback");
      return startServer();
    });
    assert.equal((await sClient(server.port)).status, 200);
  });
});

/** What a client does, and what it and the server have seen of it, without what differs by chance. */
type Client = (server: TestServer) => Promise<unknown>;

/** What the handler has answered, without how long the handshake took. */
function timeless(facts: Facts | undefined): object | undefined {
  return facts && { ...facts, handshakeMs: undefined };
}

/** Sends one request with OpenSSL. */
function openssl(options: ClientOptions): Client {
  return async ({ port }) => {
    const { status, facts, alert, serverName } = await sClient(port, options);
    return { status, facts: timeless(facts), alert, serverName };
  };
}

/** Sends bytes behind a ClientHello, and ends in a way. */
function hello(behave: (socket: net.Socket, answer: Buffer) => void): Client {
  return async ({ port, errors }) => {
    const before = errors.length;
    const socket = await connectTcp(port);
    socket.write(await clientHello());
    socket.once("data", (answer: Buffer) => behave(socket, answer));
    await until(() => errors.length > before, "The refusal is reported");
    socket.destroy();
    return "refused";
  };
}

const other = await pairFor("other.example");
const slow = await loadIdentity(localhost);
const SERVERS: Record<string, HttpsServerOptions> = {
  "one certificate": {},
  "application protocols": { http2: false },
  "several certificates": { identities: [{ names: ["other.example"], ...other }] },
  "TLS 1.2 only": { tlsVersion: "TLSv1.2" },
  "TLS 1.3 only": { tlsVersion: "TLSv1.3" },
  ...(capabilities.sessionTicketsOff && { "no tickets": { sessionTickets: false } }),
  "a slow choice": {
    async certSelect() {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return slow;
    },
  },
  "client certificates required": { cacert: clientCa.cert },
  "client certificates asked for": { clientAuth: { ca: clientCa.cert, mode: "optional" } },
  "a client's certificate pinned": { cacert: mallory.cert },
};

const session = file("");
const CLIENTS: Record<string, Client> = {
  "TLS 1.2": openssl({ version: "TLSv1.2" }),
  "TLS 1.3": openssl({ version: "TLSv1.3" }),
  "TLS 1.1": openssl({ args: ["-tls1_1"] }),
  "another name": openssl({ name: "other.example" }),
  "no name": openssl({ name: null }),
  "its own order of ciphers, TLS 1.2": openssl({
    version: "TLSv1.2",
    args: ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384"],
  }),
  "its own order of ciphers, TLS 1.3": openssl({
    version: "TLSv1.3",
    args: ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"],
  }),
  "no shared cipher": openssl({ version: "TLSv1.2", args: ["-cipher", "DHE-RSA-AES128-SHA"] }),
  "no shared group": openssl({ args: ["-groups", "X448"] }),
  "HTTP/1.1 offered": openssl({ args: ["-alpn", "http/1.1"] }),
  "no shared protocol": openssl({ args: ["-alpn", "nonsense"] }),
  "a good certificate": openssl({ client: alice }),
  "a good certificate, TLS 1.2": openssl({ client: alice, version: "TLSv1.2" }),
  ...Object.fromEntries(
    Object.entries(ROGUES).map(([what, client]) => [what, openssl({ client })]),
  ),
  "a session, TLS 1.2": async ({ port }) => {
    const options = { client: alice, version: "TLSv1.2" } as const;
    await sClient(port, { ...options, save: session });
    const { resumed, facts } = await sClient(port, { ...options, resume: session });
    return { resumed, facts: timeless(facts) };
  },
  "a session, TLS 1.3": async ({ port }) => {
    const options = { client: alice, version: "TLSv1.3" } as const;
    await sClient(port, { ...options, save: session });
    const { resumed, facts } = await sClient(port, { ...options, resume: session });
    return { resumed, facts: timeless(facts) };
  },
  "no trust in the server": openssl({
    args: ["-CAfile", file(clientCa.cert), "-verify_return_error"],
  }),
  "an end in the handshake": hello((socket) => socket.end()),
  "a reset in the handshake": hello((socket) => socket.resetAndDestroy()),
  "garbage in the handshake": hello((socket) => socket.write(new Uint8Array(300).fill(23))),
};

/** What became of a client: what it has seen, and what the server says of it. */
async function outcome(server: TestServer, client: Client): Promise<unknown> {
  const before = server.errors.length;
  const seen = await client(server);
  const errors = server.errors.slice(before).map(({ error, phase, sni }) => {
    const { code, message, cause } = error;
    const { code: why, message: reason } = Object(cause);
    return { code, message, why, reason, phase, sni };
  });
  return { seen, errors };
}

describe("Handshakes over both wires", () => {
  for (const [what, options] of Object.entries(SERVERS)) {
    // TLS 1.2 clients get a session over Bun's own sockets before our verdict on a pinned certificate
    // is known, over node:tls after it; resumed, it is refused all the same.
    const clients = Object.entries(CLIENTS).filter(([name]) =>
      !(what.endsWith("pinned") && name.startsWith("a session"))
    );
    onBun(`are the same with ${what}`, async () => {
      await using ours = await startServer(options);
      await using theirs = await overNodeSockets(() => startServer(options));
      for (const [name, client] of clients) {
        assert.deepEqual(await outcome(ours, client), await outcome(theirs, client), name);
      }
    }, 60_000);
  }
});
