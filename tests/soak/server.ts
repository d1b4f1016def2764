/**
 * The server of the soak, in a process of its own: one with TLS, one without, every deadline short.
 * It takes a certificate as a line of JSON and then answers each further line with what it holds.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { HttpsServer } from "../../lib/server.ts";
import { DEADLINES, WEBSOCKET_DEADLINES } from "../chaos/protocol.ts";
import { heapMiB, openDescriptors, residentMiB } from "../support.ts";

/** A busy Bun puts handshakes behind all else: see docs/runtimes.md. */
const SOAKED = {
  ...DEADLINES,
  timeouts: { ...DEADLINES.timeouts, handshakeMs: 10_000 },
};
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const pair = JSON.parse((await lines.next()).value!);
const counts: Record<string, number> = {};
const servers = await Promise.all(
  [{ transportMode: "insecure" } as const, pair].map(async (how) => {
    const server = new HttpsServer({
      hostname: "127.0.0.1",
      port: 0,
      ...SOAKED,
      ...how,
    }, () => {
      return new Response("Hello");
    });
    server.route({
      uri: "/ws",
      websocket: { ...WEBSOCKET_DEADLINES, onMessage: (ws, message) => ws.send(message) },
    });
    server.route({
      uri: "/body",
      method: "POST",
      async handler(request) {
        let length = 0;
        for await (const bytes of request.body) length += bytes.length;
        request.send(`${length}`);
      },
    });
    server.addEventListener(
      "disconnected",
      () => void (counts["sessions"] = (counts["sessions"] ?? 0) + 1),
    );
    server.addEventListener("error", ({ error, phase }) => {
      const what = phase === undefined ? error.code : `${error.code} in ${phase}`;
      counts[what] = (counts[what] ?? 0) + 1;
    });
    await server.start();
    return server;
  }),
);
const say = (value: unknown) => console.log(JSON.stringify(value));
say(servers.map(({ address }) => address.port));
for await (const line of { [Symbol.asyncIterator]: () => lines }) {
  // Until they are over, those that clients have left to the server's deadlines.
  const until = performance.now() + Number(line);
  while (servers.some(({ sessions }) => sessions.size > 0) && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const open = servers.reduce((sum, { sessions }) => sum + sessions.size, 0);
  say({
    open,
    descriptors: openDescriptors(),
    heapMiB: heapMiB(),
    residentMiB: residentMiB(),
    counts,
  });
}
await Promise.all(servers.map((server) => server.stop()));
