/**
 * Packages that a single test needs and that are large: they are not installed with the others, but
 * fetched from the registry when their test runs, into the user's cache, where they stay.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";

/** Where they lie; `HTTPSD_TEST_CACHE` names another place. */
const CACHE = process.env["HTTPSD_TEST_CACHE"] ??
  join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "httpsd-tests");

/**
 * Installs a package of an exact version, if it is not there yet, and returns the folder whose
 * node_modules has it. Where the registry cannot be reached the result is `undefined`, loudly; in
 * continuous integration that is an error.
 */
export function onDemand(name: string, version: string): string | undefined {
  const folder = join(CACHE, `${name.replace("/", "+")}@${version}`);
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const fresh = mkdtempSync(`${folder}-`);
  try {
    writeFileSync(join(fresh, "package.json"), '{ "private": true }');
    const flags = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"];
    const { status, stderr, error } = spawnSync(
      "npm",
      ["install", ...flags, `${name}@${version}`],
      {
        cwd: fresh,
        encoding: "utf8",
        timeout: 100_000,
      },
    );
    if (status === 0) {
      if (!existsSync(folder)) renameSync(fresh, folder); // another run may have been faster
      return folder;
    }
    const reason = `${name} ${version} cannot be fetched: ${error?.message ?? stderr.trim()}`;
    if (process.env["CI"]) throw new Error(reason);
    console.warn(`Left out: ${reason}`);
    return undefined;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** The version of Node.js that the package is tried on where the machine has none so new. */
const NODE = "24.21.0";

/** The executable of Node.js 24 or newer: the machine's own, or one from the registry. */
export function node24(): string | undefined {
  const { stdout } = spawnSync("node", ["-p", "process.versions.node"], { encoding: "utf8" });
  if (Number.parseInt(stdout) >= 24) return "node";
  const folder = onDemand(`node-${process.platform}-${process.arch}`, NODE);
  if (folder === undefined) return undefined;
  return join(folder, `node_modules/node-${process.platform}-${process.arch}/bin/node`);
}
