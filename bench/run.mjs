/**
 * `npm run bench [-- --runtimes bun,deno --scenarios hello,by-names --rounds 5 --seconds 3]`
 *
 * Measures httpsd beside its peers in one run: the runtime's own server, `node:https`, and the bare
 * loop that reads bytes and writes a fixed answer, which is the ceiling of the transport. The
 * scenarios are in bench/scenarios.mjs; `--scenarios` takes their names and those of the curves.
 *
 * The servers of a scenario start together on core 0, each is warmed up for 3 s, and then they are
 * loaded in turns, round by round, from core 1. What counts is the median of operations per second
 * of the server's own CPU time (user and system, of all its threads), which other load on the
 * machine changes little. A row whose server was busy for less than 80 % of the time says so: there
 * the client or the waiting between them was the bottleneck. Latencies are of an open loop at a
 * fixed rate and count from when a request was due: see bench/clients/requests.mjs, which does it
 * because wrk has no fixed rate and h2load counts from when a connection was free to send.
 *
 * Needs Linux with two cores, `wrk`, `h2load`, `openssl` and `taskset`, and no other load. Takes
 * about 40 minutes. A complete run writes its tables and charts into docs/.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { ensureInstalled, PINNED, root, runtimeBinary } from "../scripts/runtimes.mjs";
import { barsTable, growthChart, growthTable, ratioChart, scenarioTable } from "./report.mjs";
import { growths, metrics, scenarios } from "./scenarios.mjs";

const { values: options } = parseArgs({
  options: {
    runtimes: { type: "string", default: "bun,deno" },
    scenarios: { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
  },
});
const seconds = Number(options.seconds);
const WARM_UP_SECONDS = 3; // a good while, until the code is compiled
const AGAIN_SECONDS = 0.5; // in later rounds

requireTools();
ensureInstalled();
const folder = makeFiles();
const running = new Set();
process.on("exit", () => {
  for (const server of running) server.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));
await main();

async function main() {
  const isChosen = choose(options.scenarios?.split(","));
  const runtimes = options.runtimes.split(",");
  const files = {
    upload: join(folder, "upload"),
    certificate: { cert: join(folder, "client.pem"), key: join(folder, "client-key.pem") },
  };
  const measured = [];
  const curves = [];
  for (const runtime of runtimes) {
    for (const scenario of scenarios(files).filter(isChosen)) {
      await attempt(scenario, async () => {
        measured.push(await measure(runtime, scenario));
        console.log(scenarioTable(measured.at(-1)) + "\n");
      });
    }
    for (const growth of growths.filter(isChosen)) {
      await attempt(growth, async () => {
        curves.push(await measureGrowth(runtime, growth));
        console.log(growthTable(curves.at(-1)) + "\n");
      });
    }
  }
  console.log(barsTable(measured));
  const isComplete = options.scenarios === undefined && runtimes.length === 2 &&
    process.exitCode === undefined;
  if (isComplete) writePage(measured, curves);
}

/** Goes on with the next scenario when one fails: the run then ends with exit code 1. */
async function attempt({ name }, work) {
  try {
    await work();
  } catch (error) {
    console.error(`${name} failed:`, error);
    process.exitCode = 1;
  }
}

/** Measures the rows of a scenario in turns; the result has each row's median. */
async function measure(runtime, { metric = "rate", ...scenario }) {
  const rounds = scenario.rounds ?? Number(options.rounds);
  const rows = scenario.rows.filter((row) => (row.runtime ?? runtime) === runtime);
  const { value } = metrics[metric];
  const servers = [];
  try {
    for (const row of rows) servers.push(await start(runtime, row.server));
    const results = rows.map(() => []);
    for (let round = 0; round < rounds; round++) {
      const warmUp = round === 0 ? WARM_UP_SECONDS : AGAIN_SECONDS;
      for (const [i, row] of rows.entries()) {
        const result = await (row.load ?? scenario.load)(servers[i], { warmUp, seconds });
        if (!(value(result) > 0)) throw new Error(`${scenario.name}, ${row.name}: no result`);
        results[i].push(result);
      }
    }
    const medians = rows.map(({ name }, i) => ({ name, ...median(results[i], value) }));
    return { runtime, ...scenario, metric: metrics[metric], rows: medians };
  } finally {
    for (const { stop } of servers) stop();
  }
}

/** Measures the points of a curve, one after another. */
async function measureGrowth(runtime, growth) {
  const rows = growth.rows.map(({ name }) => ({ name, values: [] }));
  for (const point of growth.points) {
    for (const [i, row] of growth.rows.entries()) {
      const server = await start(runtime, { ...row.server, ...growth.server?.(point) });
      try {
        const times = { warmUp: WARM_UP_SECONDS, seconds };
        rows[i].values.push(metrics.rate.value(await growth.load(point)(server, times)));
      } finally {
        server.stop();
      }
    }
  }
  return { runtime, ...growth, rows };
}

/** Starts a server and resolves once it listens. */
async function start(runtime, parameters) {
  const flags = ["run", "-A", PINNED, "--no-check", "--v8-flags=--expose-gc"];
  const program = [runtimeBinary(runtime), ...(runtime === "deno" ? flags : [])];
  const words = ["-c", "0", ...program, "bench/server.ts", JSON.stringify(parameters)];
  const child = spawn("taskset", words, {
    cwd: root,
    env: { ...process.env, CERTIFICATES: folder },
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  const [output] = await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  const port = /PORT (\d+)/.exec(String(output))?.[1];
  if (port === undefined) throw new Error(`The server ended: ${JSON.stringify(parameters)}`);
  return {
    port: Number(port),
    pid: child.pid,
    residentBytes() {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
    },
    stop() {
      running.delete(child);
      child.kill("SIGKILL");
    },
  };
}

/** The result in the middle, by what `value` makes of it. */
function median(results, value) {
  return results.toSorted((a, b) => value(a) - value(b))[Math.floor(results.length / 2)];
}

function choose(names) {
  const known = [...scenarios({}), ...growths].map(({ name }) => name);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`There is no ${unknown}: ${known.join(", ")}`);
  return ({ name }) => names?.includes(name) ?? true;
}

function writePage(measured, curves) {
  const page = join(root, "docs/performance.md");
  const [head, , tail] = readFileSync(page, "utf8").split(
    /<!-- (?:begin|end) of the tables -->/,
  );
  const versions = ["bun", "deno"].map((name) => {
    const { stdout } = spawnSync(runtimeBinary(name), ["--version"], { encoding: "utf8" });
    return `${name} ${/\d+\.\d+\.\d+/.exec(stdout)[0]}`;
  });
  const parts = [
    `Measured on ${new Date().toISOString().slice(0, 10)}: ${versions.join(", ")}, ` +
    `${cpus().length} cores of ${cpus()[0].model}; ${options.rounds} rounds of ${seconds} s.`,
    "### Bars",
    barsTable(measured),
    "![Ratios to the bars](performance.svg)",
    "![Cost by size](growth.svg)",
    ...measured.map(scenarioTable),
    ...curves.map(growthTable),
  ];
  writeFileSync(
    page,
    `${head}<!-- begin of the tables -->\n\n${
      parts.join("\n\n")
    }\n\n<!-- end of the tables -->${tail}`,
  );
  const charts = [join(root, "docs/performance.svg"), join(root, "docs/growth.svg")];
  writeFileSync(charts[0], ratioChart(measured));
  writeFileSync(charts[1], growthChart(curves));
  const { status } = spawnSync(runtimeBinary("deno"), ["fmt", "-q", page, ...charts], {
    cwd: root,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error("What was written cannot be formatted");
}

function requireTools() {
  const missing = ["wrk", "h2load", "openssl", "taskset"].filter((tool) =>
    spawnSync("which", [tool]).status !== 0
  );
  if (missing.length === 0) return;
  console.error(
    `There is no ${missing.join(", ")}. On Debian: ` +
      "apt-get install wrk nghttp2-client openssl util-linux",
  );
  process.exit(1);
}

/** Certificates for servers and clients, and a file to upload. */
function makeFiles() {
  const made = mkdtempSync(join(tmpdir(), "httpsd-bench-"));
  const issue = (name, more) => {
    const { status, stderr } = spawnSync(
      "openssl",
      ("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 " +
        `-keyout ${name}-key.pem -out ${name}.pem ${more}`).split(" "),
      { cwd: made, encoding: "utf8" },
    );
    if (status !== 0) throw new Error(stderr);
  };
  issue("server", "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1");
  issue("client-ca", "-subj /CN=clients");
  const isLeaf = "-addext basicConstraints=critical,CA:FALSE";
  issue("client", `-subj /CN=client ${isLeaf} -CA client-ca.pem -CAkey client-ca-key.pem`);
  writeFileSync(join(made, "upload"), "");
  truncateSync(join(made, "upload"), 100 * 1024 * 1024);
  return made;
}
