#!/usr/bin/env node
/**
 * npm's `httpsd`. `npx` runs it on Node.js: there it starts the same command on Deno or Bun, with no
 * more permissions than it needs, or runs it on Node.js itself where that is new enough.
 *
 * It imports nothing of the package before that is known, since an old Node.js could not read it.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { denoPermissions } from "./permissions.ts";

/** The first version of Node.js that the package runs on. */
const NODE = 24;

const args = process.argv.slice(2);

const versions: Readonly<Record<string, string | undefined>> = process.versions;

if ("deno" in versions || "bun" in versions) {
  const { main } = await import("./main.ts");
  process.exit(await main(args));
}

const command = fileURLToPath(new URL("mod.js", import.meta.url));
if (answers("deno")) {
  run("deno", ["run", "--quiet", ...denoPermissions(args, denoPath()), command, ...args]);
} else if (answers("bun")) {
  run("bun", [command, ...args]);
} else if (Number.parseInt(versions["node"] ?? "0") >= NODE) {
  const { main } = await import("./main.ts");
  process.exit(await main(args));
} else {
  console.error(
    `httpsd: Deno, Bun or Node.js ${NODE} is needed, and this is Node.js ` +
      `${versions["node"]}: npm install -g deno, or bun`,
  );
  process.exit(1);
}

/** Where Deno itself is: what the `PATH` names may be a script that starts it. */
function denoPath(): string {
  if (!args.some((arg) => arg.startsWith("--workers"))) return "deno";
  const { stdout } = spawnSync("deno", ["eval", "console.log(Deno.execPath())"], {
    encoding: "utf8",
  });
  return stdout.trim() || "deno";
}

/** Whether a program can be run. */
function answers(name: string): boolean {
  return spawnSync(name, ["--version"], { stdio: "ignore", shell: false }).status === 0;
}

/** Runs the command in another runtime, passes signals on, and ends as it ends. */
function run(name: string, all: readonly string[]): void {
  const child = spawn(name, all, { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => void child.kill(signal));
  }
  child.on("error", (error) => {
    console.error(`httpsd: ${name} does not start: ${error.message}`);
    process.exit(1);
  });
  child.on("close", (code, signal) => {
    process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
  });
}
