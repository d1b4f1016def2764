/**
 * Connections of every kind, as fast as they go, at a server in a process of its own, and what is
 * left of them in its memory:
 * `node scripts/soak.mjs [--connections 1000000] [--runtime deno|bun] [--clients 2] [--at-a-time 400]`.
 * Fails when the resident memory at the end is more than 20 % above what it was after the first tenth.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { ensureInstalled, root, runtimeBinary } from "./runtimes.mjs";

const { values } = parseArgs({
  options: {
    connections: { type: "string", default: "1000000" },
    runtime: { type: "string" },
    clients: { type: "string", default: "2" },
    "at-a-time": { type: "string", default: "400" },
    seed: { type: "string", default: "1" },
  },
});
const connections = Number(values.connections);
const clients = Number(values.clients);
const MOST = 1.2;
/** All deadlines of the server together. */
const QUIET_MS = 15_000;

ensureInstalled();
const pair = certificate();
for (const name of /** @type {("deno" | "bun")[]} */ (["deno", "bun"])) {
  if (values.runtime === undefined || values.runtime === name) await soak(name);
}

/** @param {"deno" | "bun"} name */
async function soak(name) {
  const script = "./tests/soak/server.ts";
  const args = name === "deno" ? ["run", "-A", script] : [script];
  const server = spawn(runtimeBinary(name), args, {
    cwd: root,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  /** @param {unknown} line */
  const ask = async (line) => {
    server.stdin.write(`${JSON.stringify(line)}\n`);
    return JSON.parse((await lines.next()).value);
  };
  try {
    const ports = await ask(pair);
    const start = performance.now();
    /** @type {{ residentMiB: number }[]} */
    const measured = [];
    for (let tenth = 1; tenth <= 10; tenth++) {
      const counts = await drive(ports, Math.ceil(connections / 10), tenth);
      const seen = await ask(QUIET_MS);
      measured.push(seen);
      const rate = Math.round(tenth * connections / 10 / (performance.now() - start) * 1000);
      console.log(
        `${name} ${tenth}/10: ${seen.residentMiB.toFixed(1)} MiB resident, ` +
          `${seen.heapMiB.toFixed(1)} MiB heap, ${seen.descriptors} descriptors, ` +
          `${seen.open} open, ${rate}/s`,
      );
      if (tenth === 1) console.log(JSON.stringify(counts));
      if (tenth === 10) console.log(JSON.stringify(seen.counts));
    }
    const [first, last] = [measured[0], measured.at(-1)];
    const ratio = (last?.residentMiB ?? NaN) / (first?.residentMiB ?? NaN);
    console.log(`${name}: ${ratio.toFixed(3)} of the memory after the first tenth`);
    if (!(ratio <= MOST)) process.exitCode = 1;
  } finally {
    server.stdin.end();
    const timer = setTimeout(() => server.kill("SIGKILL"), 15_000);
    if (server.exitCode === null) await once(server, "exit");
    clearTimeout(timer);
  }
}

/**
 * Opens so many connections from several processes; returns how many there were of each kind.
 *
 * @param {[number, number]} ports
 * @param {number} count
 * @param {number} tenth
 */
async function drive(ports, count, tenth) {
  /** @type {Record<string, number>} */
  const sums = {};
  await Promise.all(Array.from({ length: clients }, async (_, i) => {
    const share = Math.ceil(count / clients);
    const seed = Number(values.seed) + 100 * tenth + i;
    const numbers = [...ports, share, values["at-a-time"], seed].map(String);
    const child = spawn(runtimeBinary("bun"), ["./tests/soak/client.ts", ...numbers], {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
    });
    let output = "";
    child.stdout.on("data", (bytes) => output += bytes);
    await once(child, "close");
    for (const [kind, times] of Object.entries(JSON.parse(output))) {
      sums[kind] = (sums[kind] ?? 0) + Number(times);
    }
  }));
  if (sums["failed"]) throw new Error(`${sums["failed"]} connections could not be made`);
  return sums;
}

/** A certificate for localhost, made with OpenSSL: P-256, as most are. */
function certificate() {
  const directory = mkdtempSync(join(tmpdir(), "httpsd-soak-"));
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const { status, stderr } = spawnSync("openssl", [
    ...args,
    ...names,
    "-keyout",
    key,
    "-out",
    cert,
  ]);
  if (status !== 0) throw new Error(`openssl: ${stderr}`);
  const pair = { cert: readFileSync(cert, "latin1"), key: readFileSync(key, "latin1") };
  rmSync(directory, { recursive: true });
  return pair;
}
