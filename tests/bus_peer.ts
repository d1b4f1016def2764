/**
 * A server of the other runtime in the cluster of bus_brokers_test.ts: `bus_peer.ts <kind> <port>`.
 * Prints its port; a client that says `publish <topic> <count>` has it publish so many messages, and
 * one that says `join <topic>` joins. It ends with its standard input.
 */
import process from "node:process";
import { HttpsServer } from "../mod.ts";
import { type BrokerKind, joinBroker } from "./bus_support.ts";
import { publishMany } from "./bus_traffic.ts";

const [kind, port] = process.argv.slice(2);
await using broker = await joinBroker({ kind: kind as BrokerKind, port: Number(port) });
const server = new HttpsServer({
  hostname: "127.0.0.1",
  port: 0,
  transportMode: "insecure",
  bus: broker.bus,
});
server.route({
  uri: "/ws",
  websocket: {
    async onMessage(ws, message) {
      const [verb, topic = "", count] = String(message).split(" ");
      if (verb === "join") await ws.subscribe(topic);
      await ws.send(`${verb} ${topic}`);
      if (verb === "publish") await publishMany(server, topic, Number(count), "peer");
    },
  },
});
await server.start();
console.log(server.address.port);
process.stdin.resume();
await new Promise((resolve) => process.stdin.once("end", resolve));
await server.stop({ drainMs: 0 });
process.exit(0);
