/**
 * Messages per CPU second through each bus: `node bench/bus.mjs [count]`. Two servers in a process
 * each, of the same runtime, with one WebSocket on the receiver; the sender publishes messages of 200
 * bytes and keeps below what its outbox holds. CPU time is that of both servers, without the broker's
 * and the client's. Starts redis-server and nats-server on free ports, and ends them.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";
import { ensureInstalled, PINNED, runtimeBinary } from "../scripts/runtimes.mjs";
import { meter } from "./processes.mjs";

const COUNT = Number(process.argv[2] ?? 100_000);
const WARM_UP = 10_000;

ensureInstalled();
const folder = mkdtempSync(join(tmpdir(), "httpsd-bench-bus-"));
try {
  for (const kind of ["redis", "nats"]) {
    for (const runtime of ["deno", "bun"]) {
      const { rate, wall } = await measure(kind, runtime);
      const each = `${Math.round(rate).toLocaleString("en")} messages per CPU second`;
      console.log(`${kind.padEnd(6)}${runtime.padEnd(5)} ${each}, ${wall.toFixed(1)} s in all`);
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * @param {string} kind
 * @param {"deno" | "bun"} runtime
 */
async function measure(kind, runtime) {
  const port = await freePort();
  const broker = kind === "redis"
    ? run("redis-server", [
      "--port",
      `${port}`,
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--dir",
      folder,
    ])
    : run("nats-server", ["-a", "127.0.0.1", "-p", `${port}`]);
  const servers = [];
  try {
    await listens(port);
    for (let i = 0; i < 2; i++) servers.push(await startServer(runtime, kind, port));
    const [sender, receiver] = servers;
    const sink = new WebSocket(`ws://127.0.0.1:${receiver.port}/ws`);
    let received = 0;
    let wake = () => {};
    sink.onmessage = () => {
      received++;
      wake();
    };
    const reach = async (count) => {
      while (received < count) await new Promise((resolve) => wake = resolve);
    };
    await reach(1); // it has joined
    sender.child.stdin.write(`${WARM_UP}\n`);
    await reach(1 + WARM_UP);
    const before = servers.map(({ child }) => cpuSeconds(child.pid));
    const began = performance.now();
    sender.child.stdin.write(`${COUNT}\n`);
    await reach(1 + WARM_UP + COUNT);
    const cpu = servers.reduce((sum, { child }, i) => sum + cpuSeconds(child.pid) - before[i], 0);
    sink.close();
    return { rate: COUNT / cpu, wall: (performance.now() - began) / 1000 };
  } finally {
    for (const { child } of servers) child.kill("SIGKILL");
    broker.kill("SIGKILL");
  }
}

/** Starts bus_server.ts; resolves when it listens. */
async function startServer(runtime, kind, port) {
  const script = fileURLToPath(new URL("./bus_server.ts", import.meta.url));
  const flags = runtime === "deno" ? ["run", "-A", "--no-check", PINNED] : [];
  const child = run(runtimeBinary(runtime), [...flags, script, kind, String(port)], "pipe");
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, port: Number(line) };
  }
  throw new Error(`The server of ${runtime} did not start`);
}

/** The CPU time that all threads of a process have used, in seconds. */
function cpuSeconds(pid) {
  let ns = 0;
  for (const [ran] of meter({ pid }).threads.values()) ns += ran;
  return ns / 1e9;
}

function run(program, args, stdio = "ignore") {
  const child = spawn(program, args, {
    stdio: [stdio, stdio, stdio === "pipe" ? "inherit" : "ignore"],
  });
  child.once("error", (error) => {
    throw new Error(`Cannot run ${program}: install it`, { cause: error });
  });
  return child;
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

async function listens(port) {
  for (let i = 0; i < 200; i++) {
    const socket = net.connect(port, "127.0.0.1");
    const isOpen = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("The broker does not listen");
}
