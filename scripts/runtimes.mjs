/**
 * What the other scripts share: see to it that the packages and both runtimes are installed, and
 * run a runtime as a child. Needs nothing but Node 20 and npm.
 */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The repository's directory. */
export const root = fileURLToPath(new URL("..", import.meta.url));

const modules = join(root, "node_modules");
const denoBinary = process.platform === "win32" ? "deno.exe" : "deno";

// The real executables: the entries in node_modules/.bin may be wrappers that swallow signals.
const runtimes = {
  deno: { binary: join(modules, "deno", denoBinary), installer: join(modules, "deno/install.cjs") },
  bun: { binary: join(modules, "bun/bin/bun.exe"), installer: join(modules, "bun/install.js") },
};

/**
 * The path of a runtime's executable.
 *
 * @param {"deno" | "bun"} name
 */
export function runtimeBinary(name) {
  return runtimes[name].binary;
}

/**
 * Has Deno take packages from node_modules, as package-lock.json pins them. Without it deno.json has
 * Deno fetch what it needs into its own cache, so that a fresh clone runs with nothing installed.
 */
export const PINNED = "--node-modules-dir=manual";

/** Installs what package-lock.json names, if it is not there yet; exits when that fails. */
export function ensureInstalled() {
  if (isStale()) {
    console.error("Installing packages: npm ci");
    runOrExit("npm", ["ci", "--include=dev", "--no-audit", "--no-fund"]);
  }
  for (const { binary, installer } of Object.values(runtimes)) {
    // npm 11 runs no install scripts unless they are allowed, and the executable comes from one.
    if (!answers(binary)) runOrExit(process.execPath, [installer]);
  }
}

/**
 * Runs Deno or Bun in the repository and resolves with its exit code. Signals are passed on: then
 * this process ends with the child. With `onOutput`, both output streams go through it.
 *
 * @param {"deno" | "bun"} name
 * @param {string[]} args
 * @param {{ env?: Record<string, string>, onOutput?: (text: string) => void }} [options]
 * @returns {Promise<number>}
 */
export function runRuntime(name, args, { env = {}, onOutput } = {}) {
  const output = onOutput === undefined ? "inherit" : "pipe";
  const child = spawn(runtimeBinary(name), args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["inherit", output, output],
  });
  if (onOutput !== undefined) {
    child.stdout?.setEncoding("utf8").on("data", onOutput);
    child.stderr?.setEncoding("utf8").on("data", onOutput);
  }
  let interrupted = false;
  /** @param {NodeJS.Signals} signal */
  const interrupt = (signal) => {
    interrupted = true;
    child.kill(signal);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, interrupt);
  const parent = process.ppid;
  if (process.env.npm_lifecycle_event !== undefined) {
    // npm passes SIGTERM on to the shell between it and us, which dies without telling.
    setInterval(() => process.ppid !== parent && interrupt("SIGTERM"), 200).unref();
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      if (interrupted) process.exit(status);
      resolve(status);
    });
  });
}

/** Whether node_modules lacks a package of package-lock.json, or has another version of it. */
function isStale() {
  const wanted = readPackages(join(root, "package-lock.json"));
  const installed = readPackages(join(modules, ".package-lock.json"));
  return Object.entries(wanted).some(([path, { version, optional }]) => {
    if (path === "") return false; // this package itself
    if (installed[path] === undefined) return !optional; // optional ones depend on the platform
    return installed[path].version !== version;
  });
}

/**
 * @param {string} lockFile
 * @returns {Record<string, { version?: string, optional?: boolean }>}
 */
function readPackages(lockFile) {
  try {
    return JSON.parse(readFileSync(lockFile, "utf8")).packages;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return {};
    throw error;
  }
}

/** @param {string} binary */
function answers(binary) {
  return spawnSync(binary, ["--version"]).status === 0;
}

/**
 * @param {string} command
 * @param {string[]} args
 */
function runOrExit(command, args) {
  const shell = process.platform === "win32"; // npm is a batch file there
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", shell });
  if (status === 0) return;
  console.error(`Cannot install: "${command} ${args.join(" ")}" failed`, error?.message ?? "");
  process.exit(status || 1);
}
