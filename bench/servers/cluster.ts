/**
 * A cluster for bench/cluster.mjs. Arguments: the mode, how many workers, where the certificate and
 * key are. Each worker answers with its name, whether its session was resumed, and its process's id.
 */
import process from "node:process";
import { threadId } from "node:worker_threads";
import { cluster } from "../../lib/cluster/mod.ts";
import { serve } from "../../mod.ts";

const [mode = "processes", workers = "1", cert = "", key = ""] = process.argv.slice(2);

const started = await cluster({
  mode: mode === "threads" ? mode : "processes",
  workers: Number(workers),
  nameLogs: false,
  log: false,
}, async () => {
  const name = `${process.pid}.${threadId}`;
  const server = await serve(
    {
      cert,
      key,
      hostname: "127.0.0.1",
      port: 0,
      limits: { backlog: 1_024, maxConnections: 12_000 },
    },
    (_, { session: { tls } }) =>
      new Response(`${name} ${tls?.resumed ? "resumed" : "full"} ${process.pid}\n`),
  );
  console.log(`PORT ${server.address.port}`);
});
if (started.role === "supervisor") {
  started.addEventListener("ready", () => console.log(`AGAIN ${performance.now()}`));
  started.addEventListener("end", () => console.log(`GONE ${performance.now()}`));
  console.log(`READY ${performance.now()}`);
}
