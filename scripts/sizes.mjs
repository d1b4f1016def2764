/**
 * How large each entry of the package is as a program loads it: bundled and minified by Bun, without
 * what it loads later, when it is needed; of the server also with what it loads before it listens
 * where it has TLS. `node scripts/sizes.mjs` prints the report alone, and what the parts are of the
 * entries that are named behind it.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { root, runtimeBinary } from "./runtimes.mjs";

/** The most that an entry may have, in kB. Raise one only with a reason that users profit from. */
const LIMITS = {
  ".": 260, // without what is loaded for TLS and HTTP/2 as a server starts, and for WebSockets
  ". with TLS and HTTP/2": 350,
  "./dev-certificates": 30,
  "./websocket": 80,
  "./files": 35,
  "./sse": 20,
  "./compress": 20,
  "./bus": 30,
  "./multipart": 25,
  "./rate-limit": 30,
  "./hono": 440,
  "./proxy": 45,
  "./cli": 310,
  "./acme": 110,
  "./cluster": 40,
  "./edge": 60,
  "./metrics": 20,
  "./otel": 45,
  "./access-log": 20,
  "./health": 20,
  "./inspector": 310, // the server, which it listens with, and 40 of its own
};

/** What a server that has TLS loads before it listens, besides what its entry has. */
const WITH_TLS = [
  "lib/tls/rotation.ts",
  "lib/tls/identity.ts",
  "lib/http2/connection.ts",
  "lib/runtime/bun_sockets.ts",
  "lib/runtime/tls_parent.ts",
  "lib/net/bun_acceptor.ts",
];

/** What an entry must not have, not even later. */
const WITHOUT = {
  "./files": ["hono", "@peculiar/x509"],
  "./compress": ["hono", "@peculiar/x509"],
  "./sse": ["hono", "@peculiar/x509"],
  "./bus": ["hono", "@peculiar/x509", "redis", "@redis/client", "@nats-io/nats-core"],
  "./multipart": ["hono", "@peculiar/x509"],
  "./rate-limit": ["hono", "@peculiar/x509", "redis", "@redis/client"],
  "./edge": ["hono", "pkijs"],
  "./proxy": ["hono", "pkijs"],
  "./metrics": ["hono", "@peculiar/x509", "prom-client"],
  "./otel": ["hono", "@peculiar/x509"],
  "./access-log": ["hono", "@peculiar/x509"],
  "./health": ["hono", "@peculiar/x509"],
  "./inspector": ["hono"],
};

/**
 * @typedef {{ bytes: number, entryPoint?: string,
 *   inputs: Record<string, { bytesInOutput: number }>,
 *   imports: { path: string, kind: string }[] }} Output
 */

/**
 * The bundle of an entry, by file.
 *
 * @param {string} source
 * @returns {Record<string, Output>}
 */
function bundle(source) {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-sizes-"));
  try {
    const metafile = join(folder, "meta.json");
    const options = ["--minify", "--splitting", "--target=node", `--metafile=${metafile}`];
    const { status, stderr } = spawnSync(
      runtimeBinary("bun"),
      ["build", ...options, `--outdir=${folder}`, source],
      { cwd: root, encoding: "utf8" },
    );
    if (status !== 0) throw new Error(`Cannot bundle ${source}: ${stderr}`);
    return JSON.parse(readFileSync(metafile, "utf8")).outputs;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * What a program loads when it imports sources: the files that are reached without `import()`.
 *
 * @param {Record<string, Output>} outputs
 * @param {string[]} sources
 */
function loadedAtOnce(outputs, sources) {
  const entries = sources.map((source) => {
    const found = Object.keys(outputs).find((path) => outputs[path]?.entryPoint === source);
    if (found === undefined) throw new Error(`There is no file for ${source} alone`);
    return found;
  });
  const reached = new Set(entries);
  for (const path of reached) {
    for (const { path: next, kind } of outputs[path]?.imports ?? []) {
      if (kind === "import-statement" && next in outputs) reached.add(next);
    }
  }
  return [...reached].map((path) => /** @type {Output} */ (outputs[path]));
}

/**
 * The room or package that a source belongs to.
 *
 * @param {string} input
 */
function partOf(input) {
  const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1];
  return name ?? /lib\/(?:[^/]+\/)?/.exec(input)?.[0] ?? input;
}

/**
 * How many bytes each part has, the largest first.
 *
 * @param {Output[]} outputs
 */
function partsOf(outputs) {
  /** @type {Map<string, number>} */
  const parts = new Map();
  for (const { inputs } of outputs) {
    for (const [input, { bytesInOutput }] of Object.entries(inputs)) {
      const part = partOf(input);
      parts.set(part, (parts.get(part) ?? 0) + bytesInOutput);
    }
  }
  return [...parts].filter(([, bytes]) => bytes > 0).sort(([, one], [, other]) => other - one);
}

/** @param {Output[]} outputs */
const sizeOf = (outputs) => outputs.reduce((sum, { bytes }) => sum + bytes, 0);

/**
 * A server without TLS, and one with it.
 *
 * @param {string} own
 * @returns {[name: string, sources: string[]][]}
 */
function both(own) {
  return [[".", [own]], [". with TLS and HTTP/2", [own, ...WITH_TLS]]];
}

/** @param {number} bytes */
const inKb = (bytes) => `${(bytes / 1000).toFixed(1).padStart(7)} kB`;

/**
 * Prints the sizes of all entries, and the parts of those in `shown`; whether none is too large.
 *
 * @param {string[]} [shown]
 */
export function checkSizes(shown = []) {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  let fits = true;
  for (const [entry, source] of Object.entries(exports)) {
    const outputs = bundle(source);
    const own = source.replace("./", "");
    for (const [name, sources] of entry === "." ? both(own) : [[entry, [own]]]) {
      const atOnce = loadedAtOnce(outputs, sources);
      const size = sizeOf(atOnce);
      const later = sizeOf(Object.values(outputs)) - size;
      const limit = LIMITS[/** @type {keyof typeof LIMITS} */ (name)];
      console.log(`${name.padEnd(21)} ${inKb(size)} of ${limit}, and ${inKb(later)} later`);
      if (shown.includes(name)) {
        for (const [part, bytes] of partsOf(atOnce)) console.log(`    ${inKb(bytes)}  ${part}`);
      }
      if (size <= 1000 * limit) continue;
      console.error(`${name} is too large: see what it has by node scripts/sizes.mjs "${name}"`);
      fits = false;
    }
    const packages = new Set(partsOf(Object.values(outputs)).map(([part]) => part));
    for (const name of WITHOUT[/** @type {keyof typeof WITHOUT} */ (entry)] ?? []) {
      if (!packages.has(name)) continue;
      console.error(`${entry} has ${name}, which it must do without`);
      fits = false;
    }
  }
  return fits;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.exitCode = checkSizes(process.argv.slice(2)) ? 0 : 1;
}
