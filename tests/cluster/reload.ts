/**
 * Rolling reloads of a cluster under clients that connect again and again; to be run in a network of
 * its own, so that its settings are not the machine's. Arguments: how many clients, how long each
 * pauses at the most (ms), how many reloads, the cluster's options. Writes one line of JSON.
 *
 * Where there are thousands of clients this program itself may take long to notice that one of them is
 * connected, above all on Deno. A client that was silent for so long that the server need not wait for
 * it is `late`, and not lost.
 */
import net from "node:net";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { NEWCOMERS_MS } from "../../lib/cluster/worker.ts";
import { startCluster } from "../cluster_support.ts";
import { until } from "../support.ts";

const [clients = "16", pauseMs = "0", reloads = "2", options = "{}"] = process.argv.slice(2);

// Connections that are moved need room in the queue of the socket that they are moved to.
await using cluster = await startCluster(JSON.parse(options), { limits: { backlog: 4_096 } });
const names = new Set<number>();
const losses: Record<string, number> = {};
let asked = 0;
let late = 0;
let over = false;

/** Asks once on a new connection; resolves with what went wrong. */
function askOnce(): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  let text = "";
  const began = performance.now();
  let silentMs = 0;
  const socket = net.connect(cluster.port, "127.0.0.1");
  socket.on("connect", () => {
    silentMs = performance.now() - began;
    socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  });
  socket.on("data", (bytes) => void (text += bytes));
  socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  socket.on("close", () => {
    const name = /^HTTP\/1\.1 200[^]*"name":(\d+)[^]*\}$/.exec(text)?.[1];
    if (name !== undefined) names.add(Number(name));
    else if (silentMs >= NEWCOMERS_MS && text === "") late++;
    else return resolve(`cut after ${text.length} bytes`);
    resolve(undefined);
  });
  return promise;
}

async function client(): Promise<void> {
  await delay(Math.random() * Number(pauseMs));
  while (!over) {
    asked++;
    const loss = await askOnce();
    if (loss !== undefined) losses[loss] = (losses[loss] ?? 0) + 1;
    await delay(Math.random() * Number(pauseMs));
  }
}

const all = Array.from({ length: Number(clients) }, client);
const before = asked;
await until(() => asked > before + Number(clients), "clients are at work", 60_000);
for (let i = 1; i <= Number(reloads); i++) {
  cluster.command("reload");
  await until(() => cluster.count("reload") === i, "all workers are replaced", 120_000);
  if (process.env["VERBOSE"]) console.error(performance.now(), i, asked, losses);
}
over = true;
await Promise.all(all);
const lost = Object.values(losses).reduce((sum, count) => sum + count, 0);
console.log(JSON.stringify({ asked, lost, losses, late, workers: names.size }));
await cluster[Symbol.asyncDispose]();
process.exit(0);
