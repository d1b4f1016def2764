/**
 * What the tests of clusters share: a program that runs one, and clients that ask which worker
 * answers.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { ChildProcess } from "node:child_process";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { WorkerInfo } from "../lib/cluster/events.ts";
import type { ClusterOptions } from "../lib/cluster/options.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import { RawClient } from "./http_support.ts";
import { PINNED, runtime } from "./runtime.ts";
import { type Child, start, until } from "./support.ts";

/** Both kinds of workers. */
export const KINDS = ["processes", "threads"] as const;

/** How long the start of a runtime and its workers may take on a busy machine, in ms. */
export const START_MS = 30_000;

/** Options without what is a function. */
type Data<T> = Omit<T, "log">;

/** What the program writes. */
export interface Line {
  readonly type: string;
  readonly worker?: WorkerInfo;
  readonly workers?: readonly WorkerInfo[];
  readonly error?: { readonly code: string; readonly message: string };
  readonly code?: string;
}

/** A cluster that runs in a process of its own. */
export interface TestCluster extends AsyncDisposable {
  readonly child: Child;
  readonly process: ChildProcess;
  readonly port: number;
  /** All that it has written as JSON. */
  lines(): readonly Line[];
  /** How many lines of a type there are. */
  count(type: string): number;
  /** Sends it a signal; `kill()` of Deno 2.9.6 closes its standard input, and reports that signal as its end. */
  signal(name: NodeJS.Signals): void;
  /** Writes a command to its standard input. */
  command(line: "workers" | "reload" | "stop" | "block"): void;
  /** Its workers, as its supervisor knows them now. */
  workers(): Promise<readonly WorkerInfo[]>;
}

/** The path of a program of tests/cluster/. */
export function program(name: string): string {
  return fileURLToPath(new URL(`cluster/${name}`, import.meta.url));
}

/** What runs such a program on this runtime. */
export function runArguments(name: string, flags?: readonly string[]): string[] {
  return runtime === "deno"
    ? ["run", PINNED, ...flags ?? ["-A", "--no-check"], program(name)]
    : ["run", program(name)];
}

/** Starts the program without waiting. */
export function launch(
  options: Data<ClusterOptions>,
  server: HttpsServerOptions = {},
  failing = "",
  flags?: readonly string[],
): Child {
  const all = { transportMode: "insecure", hostname: "127.0.0.1", port: 0, ...server };
  return start(process.execPath, [
    ...runArguments("program.ts", flags),
    ...[JSON.stringify({ workers: 2, ...options }), JSON.stringify(all), failing],
  ]);
}

/** The JSON lines among what a program has written. */
export function linesOf(child: Child): readonly Line[] {
  return child.output().split("\n").filter((line) => line.startsWith("{")).map((line) => {
    try {
      return JSON.parse(line) as Line;
    } catch {
      return { type: "part of a line" };
    }
  });
}

/** Starts the program and waits until all workers are ready. */
export async function startCluster(
  options: Data<ClusterOptions> = {},
  server: HttpsServerOptions = {},
  flags?: readonly string[],
): Promise<TestCluster> {
  const child = launch(options, server, "", flags);
  const lines = () => linesOf(child);
  const count = (type: string) => lines().filter((line) => line.type === type).length;
  const over = child.done.then(() => true);
  const ended = async () => await Promise.race([over, Promise.resolve(false)]);
  await until(async () => count("started") > 0 || await ended(), "the cluster runs", START_MS);
  if (count("started") === 0) throw new Error(`It has ended: ${child.output()}`);
  const command = (line: string) => void child.process.stdin!.write(`${line}\n`);
  return {
    child,
    process: child.process,
    port: Number(/PORT (\d+)/.exec(child.output())?.[1]),
    lines,
    count,
    signal: (name) => void process.kill(child.process.pid!, name),
    command,
    async workers() {
      const before = count("workers");
      command("workers");
      await until(() => count("workers") > before, "it names its workers");
      return lines().findLast(({ type }) => type === "workers")!.workers!;
    },
    async [Symbol.asyncDispose]() {
      const pids = lines().flatMap(({ worker, workers = [] }) => [worker, ...workers])
        .map((worker) => worker?.pid);
      child.process.kill("SIGKILL");
      for (const pid of new Set(pids)) { // which may keep its output open
        if (pid !== undefined && isAlive(pid)) process.kill(pid, "SIGKILL");
      }
      await child.done;
    },
  };
}

/** Whether a process runs: a zombie does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

/** The answer of a worker. */
export interface Answer {
  /** The worker: the id of its process, or of its thread. */
  readonly name: number;
  /** How many requests it has had. */
  readonly calls: number;
}

/** Asks on a connection that is open. */
export async function askOn(client: RawClient, path = "/"): Promise<Answer> {
  const before = client.text.length;
  client.send(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
  await client.until(() => client.text.slice(before).includes("}"));
  return JSON.parse(client.text.slice(client.text.lastIndexOf("{"))) as Answer;
}

/** Asks on a new connection, which is then closed. */
export async function ask(port: number, path = "/"): Promise<Answer> {
  const client = await RawClient.connect(port);
  try {
    return await askOn(client, path);
  } finally {
    client.destroy();
  }
}

/** An open connection, and the worker that has it. */
export interface Held {
  readonly client: RawClient;
  readonly name: number;
}

/** Opens connections until each of two workers has one. */
export async function oneToEach(port: number): Promise<[Held, Held]> {
  const held: Held[] = [];
  for (;;) {
    const client = await RawClient.connect(port);
    const { name } = await askOn(client);
    if (held.some((one) => one.name === name)) client.destroy();
    else held.push({ client, name });
    if (held.length === 2) return [held[0]!, held[1]!];
  }
}

/**
 * The command that runs another in a network of its own where listening sockets that close hand over
 * their connections (`net.ipv4.tcp_migrate_req`); a text: why this machine cannot.
 */
export function ownNetwork(): readonly string[] | string {
  const setUp = "ip link set lo up && echo 1 > /proc/sys/net/ipv4/tcp_migrate_req";
  const reasons: string[] = [];
  for (const flags of [["-n"], ["-rn"]]) {
    const command = ["unshare", ...flags, "sh", "-c", `${setUp} && exec "$0" "$@"`];
    const { status, stderr, error } = spawnSync(command[0]!, [...command.slice(1), "true"], {
      encoding: "utf8",
    });
    if (status === 0) return command;
    reasons.push((error?.message ?? Buffer.from(stderr).toString()).trim());
  }
  return reasons.join("; ");
}
