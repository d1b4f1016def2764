/** What clients that fail do to others that are connected: nothing. */
import assert from "node:assert/strict";
import { test } from "bun:test";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { clientHello, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

/** Sends bytes without TLS, and waits for the end. */
async function sends(port: number, bytes: Uint8Array, cuts = false): Promise<void> {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.write(bytes, () => cuts && socket.destroy());
  socket.resume();
  await once(socket, "close");
}

const FAILURES: Record<string, (port: number) => Promise<unknown>> = {
  "no protocol in common": async (port) => {
    const socket = tls.connect({ port, host: "127.0.0.1", ALPNProtocols: ["spdy/3"] });
    await once(socket, "error");
  },
  "a CA that the client does not trust": async (port) => {
    const socket = tls.connect({ port, host: "127.0.0.1", servername: "localhost" });
    await once(socket, "error");
  },
  "garbage": (port) => sends(port, Buffer.alloc(100, 0xff)),
  "garbage behind a ClientHello": async (port) =>
    await sends(port, Buffer.concat([await clientHello(), Buffer.alloc(100, 0xff)])),
  "a client that leaves behind its ClientHello": async (port) =>
    await sends(port, await clientHello(), true),
};

for (const [what, fail] of Object.entries(FAILURES)) {
  test(`${what} closes no other connection`, async () => {
    const { server, port } = await started(() => new Response("here"), {}, "tls");
    const neighbours = await Promise.all([1, 2, 3].map(() => RawClient.connect(port, "tls")));
    const ask = async () => {
      for (const client of neighbours) {
        const before = client.text.length;
        client.send(GET("/"));
        await client.until(() => client.text.slice(before).includes("here"));
      }
    };
    await ask();
    for (let n = 0; n < 3; n++) await fail(port);
    await until(() => server.stats().connections.open === 3, "the end of those that failed");
    await ask();
    assert.equal(server.stats().connections.purged, 0);
    assert.deepEqual(neighbours.map(({ ended, closed }) => ended || closed), [false, false, false]);
    for (const client of neighbours) client.destroy();
  });
}
