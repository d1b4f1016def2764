/**
 * What the tests of the command line share: a folder of files, and the command as its users run it.
 *
 * @module
 */
import { afterAll } from "bun:test";
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { devCertificates } from "../lib/tls/dev_certificates.ts";
import { runtime } from "./runtime.ts";

/** Runs a program to its end. */
export const execute = promisify(execFile);

/** Other programs are started, on a machine that may be busy. */
export const LONG_MS = 60_000;
/** The source of the command. */
export const COMMAND = fileURLToPath(new URL("../lib/cli/mod.ts", import.meta.url));
/** What is to be ended. */
export const running = new Set<ChildProcess>();

/** A folder for everything. */
export let folder: string;
/** Where the authority is … */
export let certs: string;
/** … and its certificate. */
export let caFile: string;
/** Files to serve. */
export let site: string;

/**
 * Makes the files of a test file, and at its end removes them and ends what was started; to be called
 * once, at its top: on Bun other files go on with this module.
 */
export async function makeFiles(): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), "httpsd-cli-"));
  certs = join(folder, "certs");
  ({ caFile } = await devCertificates(certs));
  site = join(folder, "site");
  mkdirSync(join(site, "sub"), { recursive: true });
  writeFileSync(join(site, "index.html"), `<title>Home</title>${"hello ".repeat(1000)}`);
  writeFileSync(join(site, "sub", "a.txt"), "a");
  writeFileSync(join(site, ".env"), "secret");
  writeFileSync(join(site, "site.key"), "secret");
  afterAll(() => {
    for (const child of running) child.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });
}

/** The program and arguments of a command line. */
export function command(args: readonly string[]): [string, string[]] {
  const deno = ["run", "-A", "--no-check", "--node-modules-dir=manual", COMMAND];
  return [process.execPath, [...runtime === "deno" ? deno : [COMMAND], ...args]];
}

/** Runs a command line to its end. */
export function run(args: readonly string[], env: Record<string, string> = {}) {
  const [program, all] = command(args);
  const own = { XDG_DATA_HOME: join(folder, "data") }; // not the home of the user who runs the tests
  const options = {
    cwd: folder,
    encoding: "utf8" as const,
    env: { ...process.env, ...own, ...env },
  };
  const { status, stdout, stderr } = spawnSync(program, all, options);
  return { status, stdout, stderr };
}

/** The first line of a server. */
export interface Ready {
  url: string;
  port: number;
  what: string;
  certificate: string;
  caFile?: string;
  inspector?: string;
  readyMs: number;
}

/** Starts a server by a command line, and waits until it says where it is. */
export async function start(args: readonly string[], env: Record<string, string> = {}) {
  const isOwn = args.includes("--certs") || "XDG_DATA_HOME" in env;
  const [program, all] = command([...args, "--json", ...isOwn ? [] : ["--certs", certs]]);
  const child = spawn(program, all, { cwd: folder, env: { ...process.env, ...env } });
  running.add(child);
  let stdout = "";
  let stderr = "";
  const ended = once(child, "close").then(([code]) => {
    running.delete(child);
    return code as number;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
  const line = new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      if (stdout.includes("\n")) resolve(stdout.split("\n", 1)[0]!);
    });
    void ended.then((code) => reject(new Error(`It ended with ${code}: ${stderr}`)));
  });
  const ready: Ready = JSON.parse(await line);
  return {
    ready,
    pid: child.pid!,
    output: () => stdout,
    errors: () => stderr,
    /** Ends it by a signal; resolves with its exit code. */
    async end(signal: NodeJS.Signals = "SIGTERM") {
      process.kill(child.pid!, signal); // after child.kill(), Deno reports the signal, not the code
      return await ended;
    },
  };
}

/** What curl gets, with the CA of the authority; fails when curl does. */
export async function curl(
  port: number,
  path: string,
  args: readonly string[] = [],
  ca = caFile,
): Promise<string> {
  const to = ["--resolve", `localhost:${port}:127.0.0.1`, `https://localhost:${port}${path}`];
  const { stdout } = await execute("curl", ["-sS", "--cacert", ca, ...args, ...to]);
  return stdout;
}

/** Has curl write the status alone. */
export const STATUS = ["-o", "/dev/null", "-w", "%{http_code}"];
