/**
 * `npm run bench [-- --runtimes bun,deno --scenarios hello,looking --rounds 5 --seconds 3]`
 *
 * Measures our server beside its peers in the same run: the runtime's own server, `node:https`, and
 * the bare loop that reads bytes and writes a fixed answer, which is the ceiling of the transport.
 * Rounds are interleaved; server and client have a core each. What is printed is the median of
 * requests per second of the server's own CPU time, which other load on the machine changes little,
 * and its ratio to the first row. `client-bound` marks a row whose server was not the busy one.
 *
 * Needs `wrk` and `taskset` (Debian: apt-get install wrk util-linux) and no other load. A run of
 * all scenarios writes its tables into docs/performance.md.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root, runtimeBinary } from "../scripts/runtimes.mjs";

const { values: options } = parseArgs({
  options: {
    runtimes: { type: "string", default: "bun,deno" },
    scenarios: { type: "string" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
  },
});
const seconds = Number(options.seconds);
const TICKS_PER_SECOND = 100; // USER_HZ, fixed on Linux

/** What each scenario compares; the first row is the control that ratios are against. */
const scenarios = {
  hello: { rows: ["native", "fetch", "route", "nodeHttps", "bare"], wrk: ["-c32"] },
  looking: { rows: ["nativeLooking", "looking", "nodeHttps"], wrk: ["-c32"] },
  pipelined: { rows: ["native", "fetch", "route"], wrk: ["-c32", "-s", "bench/pipeline.lua"] },
  handshakes: {
    rows: ["nodeHttps", "native", "fetch", "names"],
    wrk: ["-c32", "-H", "Connection: close"],
  },
};

const chosen = options.scenarios?.split(",") ?? Object.keys(scenarios);
const certificates = makeCertificate();
const tables = [];
try {
  for (const runtime of options.runtimes.split(",")) {
    for (const name of chosen) tables.push(await measure(runtime, name, scenarios[name]));
  }
} finally {
  rmSync(certificates, { recursive: true });
}
if (options.scenarios === undefined) {
  const page = join(root, "docs/performance.md");
  const text = readFileSync(page, "utf8");
  const [head, , tail] = text.split(/(?:<!-- (?:begin|end) of the tables -->)/);
  writeFileSync(
    page,
    `${head}<!-- begin of the tables -->\n\n${
      tables.join("\n")
    }\n<!-- end of the tables -->${tail}`,
  );
}

/** Measures the rows of a scenario in turns, prints the table, and returns it. */
async function measure(runtime, name, { rows, wrk }) {
  const results = Object.fromEntries(rows.map((row) => [row, []]));
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const row of rows) results[row].push(await run(runtime, row, wrk));
  }
  const control = median(results[rows[0]].map(({ perCpuSecond }) => perCpuSecond));
  const lines = [`### ${name}, ${runtime}`, "", "| row | requests per CPU second | ratio | |"];
  lines.push("|---|---|---|---|");
  for (const row of rows) {
    const value = median(results[row].map(({ perCpuSecond }) => perCpuSecond));
    const bound = median(results[row].map(({ busy }) => busy)) < 0.8 ? "client-bound" : "";
    lines.push(`| ${row} | ${Math.round(value)} | ${(value / control).toFixed(2)} | ${bound} |`);
  }
  const table = lines.join("\n") + "\n";
  console.log(table);
  return table;
}

/** One round of one row: a fresh server, a warm-up, and the measurement. */
async function run(runtime, row, wrk) {
  const args = [...(runtime === "deno" ? ["run", "-A", "--no-check"] : []), "bench/server.ts", row];
  const server = spawn("taskset", ["-c", "0", runtimeBinary(runtime), ...args], {
    cwd: root,
    env: {
      ...process.env,
      CERT: join(certificates, "cert.pem"),
      KEY: join(certificates, "key.pem"),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const port = await portOf(server);
    load(port, wrk, 3); // a good while, until the code is compiled
    const before = cpuSeconds(server.pid);
    const requests = load(port, wrk, seconds);
    const used = cpuSeconds(server.pid) - before;
    return { perCpuSecond: requests / used, busy: used / seconds };
  } finally {
    server.kill("SIGKILL");
  }
}

async function portOf(server) {
  let output = "";
  for await (const text of server.stdout.setEncoding("utf8")) {
    output += text;
    const found = /PORT (\d+)/.exec(output);
    if (found) return Number(found[1]);
  }
  throw new Error(`The server ended before it listened: ${output}`);
}

/** Loads the server for some seconds and returns how many requests were answered. */
function load(port, wrk, duration) {
  const args = ["-c", "1", "wrk", "-t1", `-d${duration}s`, ...wrk, `https://127.0.0.1:${port}/`];
  const { stdout, error } = spawnSync("taskset", args, { cwd: root, encoding: "utf8" });
  if (error) throw error;
  const found = /(\d+) requests in/.exec(stdout);
  if (
    !found ||
    /Non-2xx|Socket errors/.test(
      stdout.replace(/Socket errors: connect 0, read \d+, write 0, timeout 0/, ""),
    )
  ) {
    throw new Error(`wrk failed:\n${stdout}`);
  }
  return Number(found[1]);
}

/** The CPU time that a process has used, in seconds: fields 14 and 15 of its stat. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function makeCertificate() {
  const directory = mkdtempSync(join(tmpdir(), "httpsd-bench-"));
  const { status, stderr } = spawnSync(
    "openssl",
    ("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost " +
      "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem").split(" "),
    { cwd: directory, encoding: "utf8" },
  );
  if (status !== 0) throw new Error(stderr);
  return directory;
}
