/** `server.stats()`, which counts at all times, and what a ClientHello said: on sessions and failures. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { ServerStats } from "../lib/http/server_stats.ts";
import type { HttpsServer } from "../lib/server.ts";
import type { ClientHello } from "../lib/tls/client_hello.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, gone, until } from "./support.ts";
import { file, localhost, pairFor, sClient, startServer } from "./tls_support.ts";
import { FrameClient, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

const JA4 = /^t1[23]d\d{4}(?:h2|h1|00)_[0-9a-f]{12}_[0-9a-f]{12}$/;

describe("the ClientHello", () => {
  test("is on session.tls: versions, protocols offered, JA4; and how long the handshake took", async () => {
    const hellos: (ClientHello | undefined)[] = [];
    await using server = await startServer();
    server.server.addEventListener("connected", ({ session }) => {
      hellos.push(session.tls?.hello);
      const { handshakeMs = NaN } = session.tls ?? {};
      assert.ok(handshakeMs > 0 && handshakeMs < 10_000, String(handshakeMs));
    });
    const alpn = ["-alpn", "http/1.1"];
    const { facts } = await sClient(server.port, { version: "TLSv1.3", args: alpn });
    assert.equal(facts?.alpn, "http/1.1");
    const [hello] = hellos;
    assert.deepEqual(hello?.versions, [0x0304]);
    assert.deepEqual(hello?.alpnProtocols, ["http/1.1"]);
    assert.match(hello!.ja4, JA4);
    assert.deepEqual(server.errors, []);
  });

  test("is on the error of a handshake that fails, from its selection on", async () => {
    await using server = await startServer({ strictSni: true });
    const refused: string[] = [];
    server.server.addEventListener(
      "refused",
      ({ error, phase, hello }) => void refused.push(`${error.code} ${phase} ${hello?.serverName}`),
    );
    await sClient(server.port, { name: "unknown.example" });
    await sClient(server.port, { version: "TLSv1.2", args: ["-cipher", "ECDHE-ECDSA-AES128-SHA"] });
    const garbage = await connectTcp(server.port);
    garbage.write("not TLS at all\r\n\r\n");
    await gone(garbage);
    garbage.destroy();
    await until(() => server.errors.length === 3, "three errors");
    const shown = server.errors.map(({ error, sni, hello }) =>
      `${error.code} ${sni} ${hello?.serverName} ${hello === undefined || JA4.test(hello.ja4)}`
    );
    assert.deepEqual(shown.sort(), [
      "TLS_NOT_TLS undefined undefined true",
      "TLS_NO_SHARED_PARAMETERS localhost localhost true",
      "TLS_SELECTION_FAILED unknown.example unknown.example true",
    ]);
    assert.deepEqual(refused.sort(), [
      "TLS_NOT_TLS client hello undefined",
      "TLS_NO_SHARED_PARAMETERS handshake localhost",
      "TLS_SELECTION_FAILED selection unknown.example",
    ]);
    assert.deepEqual(server.server.stats().handshakes, {
      full: 0,
      resumed: 0,
      failed: { TLS_NOT_TLS: 1, TLS_NO_SHARED_PARAMETERS: 1, TLS_SELECTION_FAILED: 1 },
    });
  });
});

describe("server.stats()", () => {
  test("counts full and resumed handshakes, and shows the certificates", async () => {
    const shop = await pairFor("shop.example");
    await using server = await startServer({ ...localhost, identities: [shop] });
    const session = file("");
    await sClient(server.port, { version: "TLSv1.2", save: session });
    await sClient(server.port, { version: "TLSv1.2", resume: session });
    await until(() => server.server.stats().connections.open === 0, "all have ended");
    const { handshakes, certificates, connections, requests } = server.server.stats();
    assert.deepEqual(handshakes, { full: 1, resumed: 1, failed: {} });
    assert.deepEqual(certificates.map(({ names }) => names).sort(), [
      ["localhost"],
      ["shop.example"],
    ]);
    for (const { validFrom, validTo, fingerprint256 } of certificates) {
      assert.ok(validFrom.getTime() < Date.now() && validTo.getTime() > Date.now());
      assert.match(fingerprint256, /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
    }
    assert.deepEqual([connections.accepted, requests.byClass["2xx"]], [2, 2]);
    await server.server.stop();
    assert.deepEqual(server.server.stats().certificates, []);
  });

  test("counts requests by class, bytes, and what connections do", async () => {
    const { promise, resolve } = Promise.withResolvers<Response>();
    const { server, port } = await started((request) => {
      const status = Number(new URL(request.url).pathname.slice(1));
      return status === 0 ? promise : new Response(status === 200 ? "hello" : null, { status });
    });
    const client = await RawClient.connect(port);
    const sent = [200, 204, 302, 404, 503].map((status) => GET(`/${status}`)).join("");
    client.send(sent);
    await client.expect(/ 503 [^]*\r\n\r\n/);
    assert.deepEqual(server.stats().requests, {
      total: 5,
      active: 0,
      byClass: { none: 0, "1xx": 0, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 1 },
      cutByClient: 0,
      cutByServer: 0,
    });
    assert.deepEqual(server.stats().bytes, {
      received: sent.length,
      sent: client.text.length,
      unread: 0,
      unsent: 0,
    });
    assert.deepEqual(statesOf(server), { idle: 1 });
    client.send(GET("/0"));
    await until(() => server.stats().requests.active === 1, "the request is there");
    assert.deepEqual(statesOf(server), { busy: 1 });
    resolve(new Response("late"));
    await client.expect("late");
    client.destroy();
    await until(() => server.stats().connections.open === 0, "all have ended");
    assert.deepEqual(statesOf(server), {});
  });

  test("counts WebSockets", async () => {
    const { server, port } = await withRoute({ onMessage: (ws, message) => ws.send(message) });
    const clients = [await FrameClient.open(port), await FrameClient.open(port)];
    assert.deepEqual(server.stats().websockets, { opened: 2, open: 2 });
    assert.deepEqual(statesOf(server), { websocket: 2 });
    assert.equal(server.stats().requests.byClass["1xx"], 2);
    clients[0]!.socket.destroy();
    await until(() => server.stats().websockets.open === 1, "one is closed");
    assert.equal(server.stats().websockets.opened, 2);
    clients[1]!.socket.destroy();
  });

  test("counts refused and purged connections by the reason", async () => {
    const { server, port } = await started(() => new Response("hello"), {
      limits: { maxConnections: 2, maxConnectionsPerAddress: 100 },
      openFn: ({ remotePort }) => remotePort > 0 && !refuses,
    });
    let refuses = true;
    const refused = await RawClient.connect(port);
    await refused.rest();
    refuses = false;
    const clients: RawClient[] = [];
    for (let i = 0; i < 4; i++) {
      const client = await RawClient.connect(port);
      client.send(GET("/"));
      await client.expect("hello");
      clients.push(client);
    }
    const { connections } = server.stats();
    assert.deepEqual(connections.refused, { CONNECTION_REFUSED: 1 });
    assert.ok(connections.purged >= 2, String(connections.purged));
    assert.equal(connections.accepted, 5);
    for (const client of [refused, ...clients]) client.destroy();
  });

  test("says how late the event loop is", async () => {
    const { server } = await started(() => new Response("hello"));
    assert.ok(server.stats().eventLoop.lagMs < 60_000);
    const end = performance.now() + 1_600;
    while (performance.now() < end); // nothing else runs
    const { lagMs, maxLagMs } = server.stats().eventLoop;
    assert.ok(lagMs >= 500 && maxLagMs >= lagMs, `${lagMs} of ${maxLagMs}`);
    await until(() => server.stats().eventLoop.lagMs < 500, "it has caught up");
    assert.ok(server.stats().eventLoop.maxLagMs >= 500);
  });
});

/** What connections do, without what none does. */
function statesOf(server: HttpsServer): Partial<ServerStats["connections"]["states"]> {
  const { states } = server.stats().connections;
  return Object.fromEntries(Object.entries(states).filter(([, count]) => count > 0));
}
