/**
 * Workers that are processes: the same runtime, with the same arguments, runs the same program.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { ignore } from "../contain/callbacks.ts";
import { within } from "../contain/within.ts";
import { ConfigError } from "../errors.ts";
import type { Launch } from "./launch.ts";
import { WORKER_VARIABLE } from "./messages.ts";

/** What is used of Deno. */
interface DenoPermissions {
  permissions: { querySync(it: object): { state: string } };
}

const { Deno } = globalThis as { Deno?: DenoPermissions };

/** Each permission of Deno's. */
const PERMISSIONS = ["net", "read", "write", "run", "env", "sys", "ffi", "import"];

/** How long the channel of a worker that has ended may take to end too; others may have it open. */
const LAST_MESSAGE_MS = 1_000;

/** What would have workers wait for each other, or start anew by themselves. */
const NOT_FOR_WORKERS = /^--(?:inspect|watch)/;

/** The program that this process runs. */
export function mainScript(): string {
  const script = process.argv[1];
  if (script !== undefined && script !== "") return script;
  throw new ConfigError("INVALID_CONFIG", "cluster() starts the program again: put it into a file");
}

/** Makes what starts workers with these arguments of the runtime's, or with this process's own. */
export function processLauncher(runtimeArgs: readonly string[] | undefined): Launch {
  const script = mainScript();
  const args = [
    ...(Deno === undefined ? [] : ["run"]),
    ...(runtimeArgs ?? ownArguments(script)),
    // What a worker must read, else it would take itself for a supervisor.
    ...(Deno === undefined ? [] : [`--allow-env=${WORKER_VARIABLE}`]),
    script,
    ...process.argv.slice(2),
  ];
  return (start, listener) => {
    const child = spawn(process.execPath, withoutRepeatedEnv(args), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...process.env, [WORKER_VARIABLE]: JSON.stringify(start) },
    });
    let over = false;
    const end = (how: string, clean: boolean): void => {
      if (over) return;
      over = true;
      listener.ended(how, clean);
    };
    // Its last message says why it ends, and may be read after "exit"; the channel's end follows it.
    const read = new Promise((resolve) => child.once("disconnect", resolve));
    child.on("message", (message) => listener.message(message));
    child.on("error", (error) => {
      if (child.pid === undefined) end(`before it began: ${error.message}`, false);
    });
    child.on("exit", async (code, signal) => {
      await within(LAST_MESSAGE_MS, () => read).catch(ignore);
      end(signal === null ? `with exit code ${code}` : `by ${signal}`, code === 0);
    });
    return {
      pid: child.pid,
      send(message) {
        if (!over && child.connected) child.send(message, () => {}); // one that dies says so itself
      },
      kill: () => void child.kill("SIGKILL"),
    };
  };
}

/** Deno refuses a permission that is given both wholly and in part. */
function withoutRepeatedEnv(args: readonly string[]): string[] {
  const whole = args.some((arg) =>
    arg === "--allow-env" || arg === "-E" || arg === "--allow-all" || arg === "-A"
  );
  return args.filter((arg) => !whole || arg !== `--allow-env=${WORKER_VARIABLE}`);
}

/** What this process's runtime was started with. */
function ownArguments(script: string): string[] {
  const args = Deno === undefined ? process.execArgv : denoArguments(Deno, script);
  return args.filter((arg) => !NOT_FOR_WORKERS.test(arg));
}

/**
 * `process.execArgv` is empty on Deno 2.9.6, and `fork()` gives a child every permission. The kernel
 * knows the arguments, which Deno lets be read where everything is allowed.
 */
function denoArguments({ permissions }: DenoPermissions, script: string): string[] {
  const granted = PERMISSIONS.filter((name) => permissions.querySync({ name }).state === "granted");
  const known = ["--no-prompt", ...granted.map((name) => `--allow-${name}`)];
  if (granted.length < PERMISSIONS.length) return known;
  try {
    const [, ...words] = readFileSync("/proc/self/cmdline", "utf8").split("\0");
    const end = words.findIndex((word) => isPathOf(script, word));
    if (end === -1) return ["--allow-all"];
    return words.slice(words[0] === "run" ? 1 : 0, end);
  } catch {
    return ["--allow-all"]; // another system than Linux
  }
}

function isPathOf(script: string, word: string): boolean {
  if (word.startsWith("-")) return false;
  return resolve(word.startsWith("file:") ? fileURLToPath(word) : word) === script;
}
