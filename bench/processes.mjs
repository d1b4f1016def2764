/**
 * Servers and clients as processes, and what Linux counts of them: servers have core 0, clients
 * core 1.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { PINNED, root, runtimeBinary } from "../scripts/runtimes.mjs";

const running = new Set();
process.on("exit", () => {
  for (const child of running) kill(child.pid);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

/** Ends a process, also one that is stopped. */
function kill(pid) {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error; // it has ended by itself
  }
}

/** The niceness of servers and clients: less than 0 needs root. */
export const priority = { nice: 0 };

/** Where sessions are scheduled as groups, the group's niceness is what counts among others. */
function raisePriority(pid) {
  setPriority(pid, priority.nice);
  const group = `/proc/${pid}/autogroup`;
  if (existsSync(group)) writeFileSync(group, String(priority.nice));
}

/** A child process on a core, with the text that it has printed. */
class Child {
  constructor(core, [command, ...args], env = {}) {
    this.output = "";
    this.process = spawn("taskset", ["-c", String(core), command, ...args], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "inherit"],
      detached: true, // a session of its own, which Linux schedules as a group
    });
    if (priority.nice !== 0) raisePriority(this.pid);
    this.command = [command, ...args].join(" ").slice(0, 300);
    this.process.stdout.setEncoding("utf8").on("data", (text) => this.output += text);
    this.ended = once(this.process, "close").then(([code]) => {
      running.delete(this.process);
      this.code = code ?? 1;
      return this.code;
    });
    running.add(this.process);
  }

  get pid() {
    return this.process.pid;
  }

  /** Resolves with the match of what the process prints, from `position` of its output on. */
  async printed(pattern, position = 0) {
    for (;;) {
      const match = pattern.exec(this.output.slice(position));
      if (match !== null) return match;
      if (this.code !== undefined) throw new Error(`It ended: ${this.command}\n${this.output}`);
      await Promise.race([once(this.process.stdout, "data"), this.ended]);
    }
  }

  signal(name) {
    this.process.kill(name);
  }

  async stop() {
    kill(this.pid);
    await this.ended;
  }
}

/** Starts a program for a client. */
export function startClient(words, env) {
  return new Child(1, words, env);
}

/** Starts one of our own clients, in bench/clients, with its options. */
export function startOwnClient(name, options) {
  const file = join(root, `bench/clients/${name}.mjs`);
  return startClient([runtimeBinary("bun"), file, JSON.stringify(options)]);
}

/** Runs a client to its end and resolves with its output. */
export async function runClient(words, env) {
  const client = startClient(words, env);
  if (await client.ended !== 0) throw new Error(`${client.command} failed:\n${client.output}`);
  return client.output;
}

/** Starts bench/server.ts with its parameters, and resolves once it listens. */
export async function startServer(runtime, parameters, { certificates, env }) {
  const deno = ["run", "-A", PINNED, "--no-check", "--v8-flags=--expose-gc"];
  const server = new Child(
    0,
    [
      runtimeBinary(runtime),
      ...(runtime === "deno" ? deno : []),
      "bench/server.ts",
      JSON.stringify(parameters),
    ],
    { CERTIFICATES: certificates, ...env },
  );
  server.port = Number((await server.printed(/PORT (\d+)/))[1]);
  return server;
}

/** How much memory of a process is resident, in bytes. */
export function residentBytes({ pid }) {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1024;
}

/** How many bytes a process has read with `read()`, which `recv()` is no part of. */
export function readBytes({ pid }) {
  return Number(/rchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, "utf8"))[1]);
}

/** What a process has used so far; see {@link used}. */
export function meter({ pid }) {
  const threads = new Map();
  for (const id of readdirSync(`/proc/${pid}/task`)) {
    const times = readIfThere(`/proc/${pid}/task/${id}/schedstat`);
    if (times !== undefined) threads.set(id, times.split(" ").slice(0, 2).map(Number));
  }
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return { at: performance.now(), threads, faults: Number(stat[7]) };
}

function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // the thread has ended
  }
}

/** The times of the thread that ran or waited most between two readings, in ns. */
function busiest(before, after) {
  const times = [...after.threads].map(([id, [ran, waited]]) => {
    const [ranBefore, waitedBefore] = before.threads.get(id) ?? [0, 0];
    return [ran - ranBefore, waited - waitedBefore];
  });
  return times.reduce((most, each) => each[0] + each[1] > most[0] + most[1] ? each : most, [0, 0]);
}

/** How long a client waited for its core between two readings, in ns. */
export const waitedNs = (before, after) => busiest(before, after)[1];

/**
 * What a server has used between two readings: the CPU time of all its threads in µs, its page
 * faults, and how busy it was: how much of the time its busiest thread ran, or waited for the core
 * that other processes had. The time in which the client waited for its core does not count: a
 * server without work is not too fast for its client then.
 */
export function used(before, after, clientWaitedNs = 0) {
  let cpuNs = 0;
  for (const [id, [ran]] of after.threads) cpuNs += ran - (before.threads.get(id)?.[0] ?? 0);
  const milliseconds = after.at - before.at;
  const [ranNs, waitedNs] = busiest(before, after);
  return {
    cpu: cpuNs / 1e3,
    faults: after.faults - before.faults,
    busy: Math.min(1, (ranNs + waitedNs) / (milliseconds * 1e6 - clientWaitedNs)),
    seconds: milliseconds / 1e3,
  };
}

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
