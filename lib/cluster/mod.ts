/**
 * All cores by one line: a supervisor starts the program again in several workers, which share their
 * ports. It starts another where one dies, replaces all of them without losing a request, and stops
 * them.
 *
 * @example
 * ```ts
 * import { cluster } from "@httpsd/httpsd/cluster";
 *
 * await cluster({ workers: "auto" }, () => import("./app.ts")); // app.ts awaits serve()
 * ```
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { isMainThread, workerData } from "node:worker_threads";
import { ConfigError, StateError } from "../errors.ts";
import { callback, checkOptions } from "../options.ts";
import { capabilities } from "../runtime/capabilities.ts";
import { readStart, WORKER_VARIABLE } from "./messages.ts";
import { type ClusterOptions, resolveCluster } from "./options.ts";
import { processLauncher } from "./processes.ts";
import { ClusterSupervisor } from "./supervisor.ts";
import { threadLauncher } from "./threads.ts";
import { type ClusterWorker, work } from "./worker.ts";

export { ClusterError, type ClusterErrorCode } from "../errors.ts";
export {
  ClusterEvent,
  type ClusterEventType,
  type WorkerInfo,
  type WorkerState,
} from "./events.ts";
export type { ClusterOptions, ClusterTimeouts } from "./options.ts";
export {
  type ClusterEventListener,
  type ClusterStopOptions,
  ClusterSupervisor,
} from "./supervisor.ts";
export { ClusterWorker } from "./worker.ts";

let called = false;

/**
 * In the process that was started: starts the workers, and resolves with their supervisor when all
 * are ready. In each worker, which runs the same program up to here: calls `run`, which starts the
 * servers, and resolves when it has.
 *
 * Servers in workers share the ports that they ask for, and `limits.maxConnections` is for all
 * workers together; other limits are each worker's own. A worker whose supervisor is gone drains and
 * ends.
 *
 * @throws {ConfigError} `INVALID_CONFIG`; `NOT_SUPPORTED` on other systems than Linux
 * @throws {ClusterError} `WORKER_FAILED`, `WORKER_TIMEOUT` when a first worker does not get ready: all
 * are stopped
 * @throws {StateError} `ALREADY_STARTED` for a second call
 */
export async function cluster(
  options: ClusterOptions,
  run: () => unknown,
): Promise<ClusterSupervisor | ClusterWorker> {
  checkOptions("the second argument of cluster()", callback(), run);
  const config = resolveCluster(options);
  if (called) throw new StateError("ALREADY_STARTED", "This process has a cluster already");
  called = true;
  const given = isMainThread ? takeVariable() : workerData?.[WORKER_VARIABLE];
  if (given !== undefined) {
    const start = readStart(String(given));
    if (start !== undefined && (!isMainThread || process.send !== undefined)) {
      return await work(start, !isMainThread, run);
    }
    throw new ConfigError("INVALID_CONFIG", `${WORKER_VARIABLE} is for workers: unset it`);
  }
  if (!isMainThread) {
    throw new ConfigError("NOT_SUPPORTED", "cluster() is for the main thread: call it there");
  }
  if (!capabilities.reusePort) {
    throw new ConfigError("NOT_SUPPORTED", "cluster() needs Linux, which shares a port out");
  }
  const { mode, runtimeArgs, signals, log } = config;
  const launch = mode === "threads" ? threadLauncher() : processLauncher(runtimeArgs);
  const supervisor = new ClusterSupervisor(config, launch);
  if (log !== false && migratesRequests() === false) {
    log(
      "httpsd: A reload may cut connections that are new, as net.ipv4.tcp_migrate_req is 0: " +
        "sysctl -w net.ipv4.tcp_migrate_req=1",
    );
  }
  const release = signals ? obeySignals(supervisor) : () => {};
  supervisor.addEventListener("stop", release);
  await supervisor.start();
  return supervisor;
}

/** Takes the variable that makes a process a worker, so that none that it starts is one. */
function takeVariable(): string | undefined {
  const { Deno } = globalThis as {
    Deno?: { permissions: { querySync(it: object): { state: string } } };
  };
  const variable = WORKER_VARIABLE;
  if (Deno && Deno.permissions.querySync({ name: "env", variable }).state !== "granted") {
    throw new ConfigError("INVALID_CONFIG", "cluster() needs Deno's --allow-env and --allow-run");
  }
  const value = process.env[WORKER_VARIABLE];
  if (value !== undefined) delete process.env[WORKER_VARIABLE];
  return value;
}

/** Whether Linux gives new connections of a socket that is closed to others of its port. */
function migratesRequests(): boolean | undefined {
  try {
    return readFileSync("/proc/sys/net/ipv4/tcp_migrate_req", "latin1").trim() !== "0";
  } catch {
    return undefined; // an older kernel, or on Deno without --allow-all
  }
}

/** Has signals steer the cluster until the function that it returns is called. */
function obeySignals(supervisor: ClusterSupervisor): () => void {
  let stopping = false;
  const reload = (): void => void supervisor.reload().catch(() => {}); // said on the console already
  const stop = (): void => {
    if (stopping) return supervisor.kill();
    stopping = true;
    void supervisor.stop().finally(() => process.exit(0));
  };
  process.on("SIGHUP", reload);
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  return () => {
    process.off("SIGHUP", reload);
    process.off("SIGTERM", stop);
    process.off("SIGINT", stop);
  };
}
