/**
 * All cores: several workers that share one port; each answers with its name. A worker that dies is
 * replaced, SIGHUP replaces all of them without a gap, SIGTERM ends them.
 *
 * Run it with `deno run -A examples/cluster.ts` or `bun examples/cluster.ts`. `WORKERS` chooses how
 * many (default: one for each core), `MODE` what they are (`processes` or `threads`), `PORT` the port
 * and `CERTS` the directory of the certificates, which are made when there are none.
 */
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { cluster } from "../lib/cluster/mod.ts";
import { devCertificateSource } from "../lib/tls/dev_certificates.ts";
import { serve } from "../mod.ts";
import { runtime } from "./run.ts";

const { CERTS, MODE = "processes", PORT = "8443", WORKERS } = process.env;
const directory = CERTS ?? fileURLToPath(new URL("../certs", import.meta.url));
let name = "";

const started = await cluster({
  workers: WORKERS === undefined ? "auto" : Number(WORKERS),
  mode: MODE === "threads" ? MODE : "processes",
}, async () => {
  const server = await serve({
    hostname: "127.0.0.1",
    port: Number(PORT),
    certificates: devCertificateSource(directory),
    limits: { maxConnections: 20_000 }, // of all workers together
  }, () => new Response(`Hello from ${name}\n`));
  console.log(`Listening on https://localhost:${server.address.port}/ (${runtime})`);
});

if (started.role === "worker") name = `worker ${started.id}`;
else {
  console.log(`The supervisor has the process ${process.pid}. Clients have to trust its CA:`);
  console.log(`  curl --cacert ${join(directory, "ca.pem")} https://localhost:${PORT}/`);
}
