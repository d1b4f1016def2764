/**
 * A server of bench/bus.mjs: `bus_server.ts <redis|nats> <port>`. Prints its port, has each WebSocket
 * join a topic, and publishes as many messages as each line of its standard input says.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { setImmediate } from "node:timers/promises";
import { openBus } from "../examples/bus.ts";
import { HttpsServer } from "../mod.ts";

const [kind, port] = process.argv.slice(2);
const { bus } = await openBus(`${kind}://127.0.0.1:${port}`);
const server = new HttpsServer({
  hostname: "127.0.0.1",
  port: 0,
  transportMode: "insecure",
  bus,
});
server.route({
  uri: "/ws",
  websocket: {
    async onOpen(ws) {
      await ws.subscribe("bench");
      await ws.send("joined");
    },
  },
});
await server.start();
console.log(server.address.port);

/** So much waits for the broker at the most, of the 8 MiB that may. */
const MOST_WAITING = 1024 * 1024;
const MESSAGE = "x".repeat(200);

for await (const line of createInterface({ input: process.stdin })) {
  for (let i = 0; i < Number(line); i++) {
    server.publish("bench", MESSAGE);
    while (server.bus!.bufferedBytes > MOST_WAITING) await setImmediate();
  }
}
