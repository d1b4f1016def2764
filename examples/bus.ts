/**
 * A chat whose rooms reach across processes and hosts, through Redis, Valkey or NATS.
 *
 *     PORT=8443 deno run -A examples/bus.ts &
 *     PORT=8444 bun examples/bus.ts
 *
 * Two browsers, one on each port, are in one room: https://localhost:8443/ and :8444. `BROKER` is the
 * address of the broker (default: `redis://127.0.0.1:6379`; or `nats://127.0.0.1:4222`).
 * examples/run.ts describes `PORT` and `CERTS`.
 */
import process from "node:process";
import { connect } from "@nats-io/transport-node";
import { createClient } from "redis";
import { type ClusterBus, natsBus, redisBus } from "../lib/bus/mod.ts";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

const PAGE = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Chat</title></head>
<body>
<form><label>Say <input autofocus></label></form>
<ol></ol>
<script>
const socket = new WebSocket(location.href.replace("http", "ws") + "chat");
socket.onmessage = ({ data }) => {
  const item = document.createElement("li");
  item.textContent = data;
  document.querySelector("ol").append(item);
};
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  const input = document.querySelector("input");
  socket.send(input.value);
  input.value = "";
};
</script>
</body>
</html>
`;

/** Connects to a broker by its address; `end` closes the connection. */
export async function openBus(
  address: string,
): Promise<{ bus: ClusterBus; end(): Promise<void> }> {
  if (address.startsWith("nats:")) {
    const connection = await connect({ servers: address, maxReconnectAttempts: -1 });
    return { bus: natsBus(connection), end: () => connection.close() };
  }
  const client = createClient({ url: address });
  client.on("error", (error) => console.error("redis:", error.message));
  await client.connect();
  return {
    bus: redisBus(client),
    end: () => Promise.resolve(client.destroy()),
  };
}

/** Makes the server. What one says in the chat, all hear, whichever process they are connected to. */
export function createServer(options: HttpsServerOptions): HttpsServer {
  const server = new HttpsServer(
    options,
    () => new Response(PAGE, { headers: { "content-type": "text/html; charset=utf-8" } }),
  );
  server.route({
    uri: "/chat",
    websocket: {
      async onOpen(ws) {
        await ws.subscribe("chat");
        await ws.send("welcome");
      },
      onMessage(_, message) {
        server.publish("chat", message);
      },
    },
  });
  // At most once: what was missed is not sent again, so the program says it, or loads it.
  server.addEventListener("bus:gap", ({ reason }) => {
    if (reason === "outage") server.broadcast("(some messages may be missing here)", () => true);
  });
  server.addEventListener("bus:state", ({ state }) => console.log(`The bus is ${state}`));
  return server;
}

if (import.meta.main) {
  const { bus } = await openBus(process.env["BROKER"] ?? "redis://127.0.0.1:6379");
  await run((options) => createServer({ ...options, bus }));
}
