/**
 * `npm run bench`: measures httpsd beside the runtimes' own servers; README.md says how, and what
 * the figures mean.
 *
 *   npm run bench -- --runtime bun --rows hello,json --rounds 20
 *
 *   --runtime     bun, deno or both with a comma between (default)
 *   --rows        names of rows in rows.mjs (default: all)
 *   --rounds      rounds of slots; runs of whole bodies have a fifth of them (default: 20)
 *   --slot        seconds of a slot (default: 0.2)
 *   --allocators  default, never or both: settings of MIMALLOC_PURGE_DELAY on Bun (default: both)
 *   --nice        niceness of servers and clients, for root on a busy machine (default: 0)
 *   --beside DIR  the httpsd in another folder as further contestants
 *   --save FILE   adds what was measured to a JSON file
 *   --write FILE  measures nothing, but writes what such a file has into docs/
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { ensureInstalled, root, runtimeBinary } from "../scripts/runtimes.mjs";
import { compareAnswers } from "./answers.mjs";
import { meter, priority, startServer, used } from "./processes.mjs";
import { rowTable, writePages } from "./report.mjs";
import { rows as allRows } from "./rows.mjs";
import { pairedRatio, summary } from "./statistics.mjs";
import { inRuns } from "./turns.mjs";

const WARM_UP_CPU_SECONDS = 1.5; // in which code is compiled
const WARM_UP_TIMES = 12; // of a second, at most
const RUNS_PER_ROUND = 1 / 5;

const { values: options } = parseArgs({
  options: {
    runtime: { type: "string", default: "bun,deno" },
    rows: { type: "string" },
    rounds: { type: "string", default: "20" },
    slot: { type: "string", default: "0.2" },
    allocators: { type: "string", default: "default,never" },
    nice: { type: "string", default: "0" },
    beside: { type: "string" },
    save: { type: "string" },
    write: { type: "string" },
  },
});

/** The allocator's settings: of Bun, since Deno's is another. */
const ALLOCATORS = { default: {}, never: { MIMALLOC_PURGE_DELAY: "-1" } };

if (options.write !== undefined) writePages(JSON.parse(readFileSync(options.write, "utf8")));
else await main();
process.exit();

async function main() {
  requireTools();
  ensureInstalled();
  priority.nice = Number(options.nice);
  const folder = mkdtempSync(join(tmpdir(), "httpsd-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true }));
  const all = allRows(makeFiles(folder));
  const chosen = options.rows === undefined ? all : choose("row", all, options.rows);
  for (const runtime of options.runtime.split(",")) {
    for (const row of chosen) {
      const allocators = runtime === "bun" && !row.single ? options.allocators.split(",") : [
        "default",
      ];
      for (const allocator of allocators) await attempt(row, { runtime, allocator, folder });
    }
  }
}

/** Measures a row and prints it; goes on with the next when it fails, and then ends with code 1. */
async function attempt(row, how) {
  const { runtime, allocator } = how;
  try {
    const measured = { ...await measure(row, how), ...circumstances(runtime), allocator };
    console.log(rowTable(measured) + "\n");
    if (options.save !== undefined) save(measured);
  } catch (error) {
    console.error(`${row.name} on ${runtime} failed:`, error);
    process.exitCode = 1;
  }
}

async function measure(row, { runtime, allocator, folder }) {
  const contestants = withBeside(row.contestants)
    .filter((contestant) => (contestant.runtime ?? runtime) === runtime)
    .map((contestant) => ({ load: row.load, ...contestant }));
  const isProgram = contestants.every(({ program }) => program !== undefined);
  try {
    for (const contestant of contestants) {
      if (isProgram) continue;
      const where = { certificates: folder, env: ALLOCATORS[allocator] };
      contestant.server = await startServer(runtime, contestant.server, where);
    }
    if (row.load !== undefined) {
      for (const contestant of contestants) {
        contestant.answers = await row.load.answers(contestant.server);
      }
      compareAnswers(contestants);
      for (const contestant of contestants) await warmUp(contestant);
    }
    const rounds = Number(options.rounds);
    const samples = await row.measure(contestants, {
      rounds: row.measure === inRuns ? Math.max(3, Math.round(rounds * RUNS_PER_ROUND)) : rounds,
      slotSeconds: Number(options.slot),
      runtime,
      certificates: folder,
    });
    return { ...result(row, contestants, samples), runtime };
  } finally {
    for (const { server } of contestants) await server?.stop?.();
  }
}

/** Loads a server until it has worked for a while, however much of its core it gets. */
async function warmUp({ server, load }) {
  const before = meter(server);
  for (let times = 0; times < WARM_UP_TIMES; times++) {
    await load.warmUp(server, 1);
    if (used(before, meter(server)).cpu >= 1e6 * WARM_UP_CPU_SECONDS) return;
  }
}

/** What is kept of a row: its figures, and the ratios that it and its bars are about. */
function result({ name, title, unit, single = false, bars = [] }, contestants, samples) {
  const names = contestants.map((contestant) => contestant.name);
  const ratio = (one, of) => pairedRatio(samples[names.indexOf(one)], samples[names.indexOf(of)]);
  return {
    name,
    title,
    unit,
    single,
    contestants: contestants.map((contestant, i) => ({
      name: contestant.name,
      ...single ? samples[i] : {
        ...summary(samples[i]),
        ratio: ratio(contestant.name, names[0]),
      },
    })),
    bars: bars.filter(({ contestant, of }) =>
      names.includes(contestant) && names.includes(of ?? contestant)
    )
      .map((bar) => bar.kind === "speed" ? { ...bar, ratio: ratio(bar.contestant, bar.of) } : bar),
  };
}

/** With `--beside`, each contestant of ours once more, from that folder. */
function withBeside(contestants) {
  if (options.beside === undefined) return contestants;
  const folder = resolve(options.beside);
  return contestants.flatMap((contestant) => {
    if (!contestant.ours) return [contestant];
    const server = { ...contestant.server, root: folder };
    return [contestant, { ...contestant, name: `${contestant.name}, beside`, server }];
  });
}

/** When and on what it was measured. */
function circumstances(runtime) {
  const run = (command, ...args) =>
    spawnSync(command, args, { cwd: root, encoding: "utf8" }).stdout.trim();
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: run("git", "rev-parse", "--short", "HEAD"),
    version: /\d+\.\d+\.\d+/.exec(run(runtimeBinary(runtime), "--version"))[0],
    machine: `${cpus().length} cores of ${cpus()[0].model.trim()}`,
    load: loadavg()[0],
    rounds: Number(options.rounds),
  };
}

/** Puts a row into the file, in place of what it had of the same. */
function save(measured) {
  const saved = existsSync(options.save) ? JSON.parse(readFileSync(options.save, "utf8")) : [];
  const isSame = ({ name, runtime, allocator }) =>
    name === measured.name && runtime === measured.runtime && allocator === measured.allocator;
  const others = saved.filter((row) => !isSame(row));
  writeFileSync(options.save, JSON.stringify([...others, measured], undefined, 1));
}

function choose(kind, all, list) {
  return list.split(",").map((name) => {
    const found = all.find((each) => each.name === name);
    if (found !== undefined) return found;
    const known = all.map((each) => each.name).join(", ");
    console.error(`There is no ${kind} ${name}: there are ${known}`);
    process.exit(2);
  });
}

function requireTools() {
  const missing = ["wrk", "openssl", "taskset"].filter((tool) =>
    spawnSync("which", [tool]).status !== 0
  );
  if (missing.length === 0) return;
  console.error(
    `There is no ${missing.join(", ")}. On Debian: ` +
      "apt-get install wrk openssl util-linux",
  );
  process.exit(1);
}

/** Makes certificates for servers and clients. */
function makeFiles(folder) {
  const issue = (name, more) => {
    const { status, stderr } = spawnSync(
      "openssl",
      ("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 " +
        `-keyout ${name}-key.pem -out ${name}.pem ${more}`).split(" "),
      { cwd: folder, encoding: "utf8" },
    );
    if (status !== 0) throw new Error(stderr);
  };
  issue("server", "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1");
  issue("client-ca", "-subj /CN=clients");
  const isLeaf = "-addext basicConstraints=critical,CA:FALSE";
  issue("client", `-subj /CN=client ${isLeaf} -CA client-ca.pem -CAkey client-ca-key.pem`);
  const files = { cert: join(folder, "client.pem"), key: join(folder, "client-key.pem") };
  return {
    folder,
    certificate: {
      files,
      texts: { cert: readFileSync(files.cert, "utf8"), key: readFileSync(files.key, "utf8") },
    },
  };
}
