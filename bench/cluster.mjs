/**
 * What a cluster of 1 and 2 workers does: `node bench/cluster.mjs`. For each runtime and mode:
 * requests per second over TLS (wrk, 64 connections), per CPU second, and the CPU time of one, of
 * supervisor and workers together; memory; how evenly connections are shared out; how soon a killed
 * worker is replaced; whether a session that one worker began resumes in the same and in another.
 *
 *   --runtime      bun, deno or both with a comma between (default)
 *   --seconds      how long each load lasts (default: 5)
 *   --connections  how many are shared out (default: 5000)
 *
 * Servers and client share the machine's cores: with two cores, a second worker has what the client
 * leaves. So each row has how many cores the cluster, the client and all other programs had, and how
 * many were free. Where none was, a line says that requests per second are not the cluster's limit;
 * what a request costs holds then too, roughly: a worker that waits for a core does more at a time.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { parseArgs } from "node:util";
import { root, runtimeBinary } from "../scripts/runtimes.mjs";

const DEADLINE_MS = 60_000;

/** With less than this of a core free, programs have waited for each other. */
const FREE_CORES = 0.2;
/** With more than this of a core, wrk's one thread may be what limits the rate. */
const CLIENT_CORES = 0.9;

const { values: options } = parseArgs({
  options: {
    runtime: { type: "string", default: "bun,deno" },
    seconds: { type: "string", default: "5" },
    connections: { type: "string", default: "5000" },
  },
});

const folder = mkdtempSync(join(tmpdir(), "httpsd-bench-"));
const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
const made = spawnSync("openssl", [
  ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
  ...["-subj", "/CN=localhost", "-keyout", key, "-out", cert],
]);
if (made.status !== 0) throw new Error(`openssl: ${made.stderr}`);

console.log(`${cpus().length} cores, load average ${loadavg()[0]?.toFixed(1)}`);
try {
  for (const runtime of options.runtime.split(",")) {
    for (const mode of ["processes", "threads"]) {
      for (const workers of [1, 2]) await measure(runtime, mode, workers);
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}

async function measure(runtime, mode, workers) {
  const args = runtime === "deno" ? ["run", "-A", "--no-check"] : ["run"];
  const program = [...args, "bench/servers/cluster.ts", mode, String(workers), cert, key];
  const child = spawn(runtimeBinary(runtime), program, {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => output += text);
  const row = { runtime, mode, workers };
  try {
    await until(
      () => /PORT[^]*READY|READY[^]*PORT/.test(output) || child.exitCode !== null,
      "it is ready",
    );
    if (child.exitCode !== null) throw new Error(`The cluster has ended: ${output}`);
    const port = Number(/PORT (\d+)/.exec(output)?.[1]);
    const pids = [child.pid, ...children(child.pid)];
    await load(port, 2, pids);
    Object.assign(row, await load(port, Number(options.seconds), pids));
    row.memoryMiB = Math.round(pids.reduce((sum, pid) => sum + memory(pid), 0));
    if (workers > 1) {
      row.shares = await shares(port, Number(options.connections));
      Object.assign(row, await resumption(port));
      if (mode === "processes") row.backAfterMs = await recovery(port, () => output);
    }
    console.log(JSON.stringify(row));
    if (row.cores.free < FREE_CORES) {
      console.log(
        "  No core was free: requests per second show how the machine was shared, not what " +
          `${workers === 1 ? "a worker" : "the workers"} can do; go by the CPU time of a request.`,
      );
    } else if (row.cores.client > CLIENT_CORES) {
      console.log("  The client's one thread was busy all the time: it may be the limit.");
    }
  } finally {
    child.kill("SIGTERM");
    await until(() => child.exitCode !== null || child.signalCode !== null, "it has ended");
  }
}

async function until(condition, what) {
  const deadline = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Not in ${DEADLINE_MS} ms: ${what}`);
    await delay(5);
  }
}

/** What a load does, and what it takes of the machine; `pids` are the cluster's processes. */
async function load(port, seconds, pids) {
  const before = { cluster: cpuSeconds(pids), machine: machineSeconds() };
  const args = ["-t1", "-c64", `-d${seconds}s`, `https://127.0.0.1:${port}/`];
  const child = spawn("wrk", args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  let client = 0;
  child.stdout.on("data", (bytes) => output += bytes);
  await until(() => {
    client = cpuSeconds([child.pid]) ?? client;
    return child.exitCode !== null;
  }, "wrk has ended");
  const cluster = cpuSeconds(pids) - before.cluster;
  const after = machineSeconds();
  const free = after.idle - before.machine.idle;
  const all = after.all - before.machine.all;
  const requests = Number(/(\d+) requests in/.exec(output)?.[1]);
  const [perSecond] = /(?<=Requests\/sec:\s+)[\d.]+/.exec(output) ?? [];
  const share = (used) => Number((used / all * cpus().length).toFixed(2));
  return {
    perSecond: Math.round(Number(perSecond)),
    perCpuSecond: Math.round(requests / cluster),
    cpuMicrosPerRequest: Math.round(1e6 * cluster / requests),
    cores: {
      cluster: share(cluster),
      client: share(client),
      others: share(Math.max(0, all - free - cluster - client)),
      free: share(free),
    },
  };
}

/** The time of all cores together, and how much of that they were idle, in seconds. */
function machineSeconds() {
  const [, ...ticks] = readFileSync("/proc/stat", "latin1").split("\n")[0].split(/\s+/).map(Number);
  const [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
  const all = user + nice + system + idle + iowait + irq + softirq + steal;
  return { idle: (idle + iowait) / 100, all: all / 100 };
}

function children(pid) {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((child) => {
    try {
      return Number(readFileSync(`/proc/${child}/stat`, "latin1").split(") ")[1]?.split(" ")[1]) ===
        pid;
    } catch {
      return false; // it has ended
    }
  });
}

/**
 * The CPU time of processes, in seconds: clock ticks are 10 ms on Linux; `undefined` when one has
 * ended.
 */
function cpuSeconds(pids) {
  try {
    return pids.reduce((sum, pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1].split(" ");
      return sum + (Number(fields[11]) + Number(fields[12])) / 100;
    }, 0);
  } catch {
    return undefined;
  }
}

/** What a process takes of memory, its part of what several share, in MiB. */
function memory(pid) {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1]) / 1024;
}

/** Asks once on a new connection; `session` is one to resume. */
function ask(port, { session, version = "TLSv1.3", hold = false } = {}) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      port,
      host: "127.0.0.1",
      rejectUnauthorized: false,
      minVersion: version,
      maxVersion: version,
      ...(session && { session }),
    });
    let text = "";
    let ticket;
    socket.on("session", (given) => ticket = given);
    socket.on("secureConnect", () => socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    socket.on("data", (bytes) => {
      text += bytes;
      const [, name, kind] = /\r\n\r\n(\S+) (\w+) \d+\n/.exec(text) ?? [];
      if (name === undefined) return;
      const answer = { name, resumed: kind === "resumed", ticket, socket };
      if (!hold) setTimeout(() => (socket.destroy(), resolve({ ...answer, ticket })), 20);
      else resolve(answer);
    });
    socket.on("error", reject);
  });
}

/** How connections that are open at a time are shared out, as percentages. */
async function shares(port, count) {
  const counts = new Map();
  const sockets = [];
  let left = count;
  const one = async () => {
    while (left-- > 0) {
      const { name, socket } = await ask(port, { hold: true });
      socket.on("error", () => {});
      sockets.push(socket);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: 64 }, one));
  for (const socket of sockets) socket.destroy();
  return [...counts.values()].map((share) => Number((100 * share / count).toFixed(1)));
}

/** How often a session resumes, in the worker that began it and in another. */
async function resumption(port) {
  const result = {};
  for (const version of ["TLSv1.2", "TLSv1.3"]) {
    const tally = { same: [0, 0], other: [0, 0] };
    for (let i = 0; i < 60; i++) {
      const first = await ask(port, { version });
      const again = await ask(port, { version, session: first.ticket });
      const where = tally[first.name === again.name ? "same" : "other"];
      where[1]++;
      if (again.resumed) where[0]++;
    }
    result[version] = `same ${tally.same.join("/")}, other ${tally.other.join("/")}`;
  }
  return result;
}

/** How long it takes until another worker is ready where one was killed, in ms. */
async function recovery(port, output) {
  const { name } = await ask(port);
  const began = performance.now();
  process.kill(Number(name.split(".")[0]), "SIGKILL");
  await until(() => output().includes("AGAIN"), "another is ready");
  return Math.round(performance.now() - began);
}
