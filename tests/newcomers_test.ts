/** `stop({ newcomersMs })`: clients that have just connected are served one request each. */
import assert from "node:assert/strict";
import { test } from "bun:test";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, gone, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

for (const mode of MODES) {
  test(`stop() serves those that have connected a request, and closes others, ${mode}`, async () => {
    const { server, port } = await started(() => new Response("welcome"), {}, mode);
    const [late, used, silent] = await Promise.all(
      [1, 2, 3].map(() => RawClient.connect(port, mode)),
    );
    used!.send(GET("/"));
    await used!.until(() => used!.text.includes("welcome"));
    await until(() => server.sessions.size === 3, "all are sessions");
    const stopping = server.stop({ drainMs: 6_000, newcomersMs: 300 });
    await gone(used!.socket); // idle, and has had an answer
    await assert.rejects(connectTcp(port));
    late!.send(GET("/") + GET("/more"));
    await late!.until(() => late!.text.includes("welcome"));
    assert.match(late!.text, /\r\nConnection: close\r\n/);
    await gone(late!.socket);
    assert.equal(late!.text.match(/200 OK/g)?.length, 1);
    await gone(silent!.socket);
    assert.equal(silent!.text, "");
    for (const client of [late!, used!, silent!]) client.destroy();
    await stopping;
    assert.equal(server.state, "idle");
  });

  test(`stop() ends with drainMs, whoever has connected, ${mode}`, async () => {
    const { server, port } = await started(() => new Response(), {}, mode);
    const clients = await Promise.all([1, 2].map(() => connectTcp(port))); // no handshake, under TLS
    await until(() => server.counters.open === 2, "they are accepted");
    await server.stop({ drainMs: 200, newcomersMs: 60_000 });
    await Promise.all(clients.map(gone));
    for (const client of clients) client.destroy();
  });
}

test("stop() lets a handshake that is under way end, and serves its request", async () => {
  const { server, port } = await started(() => new Response("welcome"), {}, "tls");
  const raw = await connectTcp(port);
  await until(() => server.counters.open === 1, "it is accepted");
  const stopping = server.stop({ drainMs: 6_000, newcomersMs: 5_000 });
  const { connect } = await import("node:tls");
  const client = new RawClient(connect({ socket: raw, rejectUnauthorized: false }));
  client.send(GET("/"));
  await client.until(() => client.text.includes("welcome"));
  client.destroy();
  await stopping;
});
