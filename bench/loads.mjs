/**
 * The load generators. Each is made from its options, and then loads a server and resolves with
 * what it counted: `operations` (requests, connections, messages, or MB), the server's CPU time
 * `cpu` and the wall time `seconds` they took, and what else it measures. Clients have core 1. A
 * `warmUp` of less than a second is for a server that is warm: only the client settles.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { root, runtimeBinary } from "../scripts/runtimes.mjs";
import { cpuSeconds } from "./cpu.mjs";

const CLIENT_CORE = ["taskset", "-c", "1"];
const MB = 1024 * 1024;

/** `wrk`: the fastest client for small answers; a request is `worth` so many operations. */
export function wrk({ connections = 32, script, path = "/", worth = 1 } = {}) {
  const args = ["-t1", `-c${connections}`];
  if (script !== undefined) args.push("-s", `bench/clients/${script}`);
  return async (server, { warmUp, seconds }) => {
    const load = async (duration) => {
      const url = `https://127.0.0.1:${server.port}${path}`;
      const output = await run(["wrk", ...args, `-d${duration}s`, url]);
      if (/Non-2xx|Socket errors/.test(output)) throw new Error(`wrk failed:\n${output}`);
      return worth * Number(/(\d+) requests in/.exec(output)[1]);
    };
    if (warmUp >= 1) await load(warmUp);
    return await timed(server, () => load(seconds));
  };
}

/**
 * `h2load`: bodies of `size` bytes, counted in MB; `upload` names a file to send. Over HTTP/1.1, or
 * over HTTP/2 with so many `streams` at a time on each of the connections.
 */
export function h2load({ size, upload, streams }) {
  const clients = 4;
  const total = Math.ceil(1_000 * MB / size); // about as long whatever the size
  const load = async (server, requests) => {
    const args = [`-c${clients}`, `-n${requests}`, ...upload ? ["-d", upload] : []];
    const output = await runH2load(server, streams, args);
    if (!output.includes(` ${requests} succeeded,`)) throw new Error(`h2load failed:\n${output}`);
    return requests * size / MB;
  };
  return async (server, { warmUp }) => {
    if (warmUp >= 1) await load(server, total);
    return await timed(server, () => load(server, total));
  };
}

/** `h2load` over HTTP/2: small answers, with so many `streams` at a time on each connection. */
export function h2loadRequests({ streams, connections = 8 }) {
  const load = async (server, duration) => {
    const output = await runH2load(server, streams, [`-c${connections}`, `-D${duration}`]);
    const [, count, failed] = /(\d+) succeeded, (\d+) failed/.exec(output);
    if (Number(failed) > 0) throw new Error(`h2load failed:\n${output}`);
    return Number(count);
  };
  return async (server, { warmUp, seconds }) => {
    if (warmUp >= 1) await load(server, warmUp);
    return await timed(server, () => load(server, seconds));
  };
}

async function runH2load(server, streams, args) {
  const how = streams === undefined ? ["--h1"] : [`-m${streams}`];
  const output = await run(["h2load", ...how, ...args, `https://127.0.0.1:${server.port}/`]);
  const protocol = streams === undefined ? "http/1.1" : "h2";
  if (!output.includes(`Application protocol: ${protocol}\n`)) {
    throw new Error(`The server does not speak ${protocol}:\n${output}`);
  }
  return output;
}

/** One of our own clients, see bench/clients. */
export function client(name, options = {}) {
  return async ({ port, pid }, times) =>
    JSON.parse(
      await run(clientCommand(name, { port, pid, ...times, ...options })),
    );
}

/**
 * Latencies at half of the rate that the server reaches: that rate is found with wrk, once for each
 * server, and the requests come at even distances from bench/clients/requests.mjs.
 */
export function atHalfRate() {
  const peaks = new WeakMap();
  return async (server, times) => {
    if (!peaks.has(server)) {
      const { operations, seconds } = await wrk({ connections: 64 })(server, times);
      peaks.set(server, operations / seconds);
    }
    const rate = peaks.get(server) / 2;
    const result = await client("requests", { connections: 64, rate })(server, times);
    return { ...result, rate };
  };
}

/**
 * What `load` measures while connections of bench/clients/hold.mjs are there, and the server has
 * done all that it can for them.
 */
export function beside(held, load) {
  return async (server, times) => {
    const holder = await hold(server, held);
    try {
      await atRest(server);
      return await load(server, times);
    } finally {
      holder.kill();
    }
  };
}

/** Resolves when the server has next to nothing to do. */
async function atRest({ pid }) {
  for (let tries = 0; tries < 60; tries++) {
    const before = cpuSeconds(pid);
    await sleep(0.5);
    if (cpuSeconds(pid) - before < 0.02) return;
  }
  throw new Error("The server does not come to rest");
}

/**
 * Memory: how much the resident set grows for each of `connections` that have had one answer, once
 * garbage is collected; `before` the collection, too. Needs a fresh server. With `http2` the answer
 * comes over that.
 */
export function idle(connections, { http2 = false } = {}) {
  return async (server) => {
    const some = await hold(server, { connections: 100, http2 }); // so that all code is there
    some.kill();
    await once(some, "exit");
    await collect(server);
    const empty = server.residentBytes();
    const holder = await hold(server, { connections, http2 });
    await sleep(3); // idle seconds, in which a server may shrink what a connection holds
    const before = (server.residentBytes() - empty) / connections;
    await collect(server);
    const after = (server.residentBytes() - empty) / connections;
    holder.kill();
    return { before, after };
  };
}

async function collect(server) {
  for (let times = 0; times < 2; times++) { // what the first one frees may hold more
    process.kill(server.pid, "SIGUSR2");
    await sleep(1);
  }
}

/** Opens connections and resolves with the client that holds them. */
async function hold({ port, pid }, options) {
  const [command, ...args] = [...CLIENT_CORE, ...clientCommand("hold", { port, pid, ...options })];
  const holder = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [text] = await Promise.race([once(holder.stdout, "data"), once(holder, "exit")]);
  if (!String(text).includes("READY")) throw new Error("Connections cannot be held");
  return holder;
}

function clientCommand(name, options) {
  return [runtimeBinary("bun"), join(root, `bench/clients/${name}.mjs`), JSON.stringify(options)];
}

async function timed(server, load) {
  const [cpu, start] = [cpuSeconds(server.pid), performance.now()];
  const operations = await load();
  return {
    operations,
    cpu: cpuSeconds(server.pid) - cpu,
    seconds: (performance.now() - start) / 1_000,
  };
}

/** Runs a client to its end and resolves with its output. */
async function run(words) {
  const [command, ...args] = [...CLIENT_CORE, ...words];
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => output += text);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${words.slice(0, 2).join(" ")} failed:\n${output}`);
  return output;
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
