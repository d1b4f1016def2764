/**
 * `--workers`: the same server in several processes, which share its ports.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import process from "node:process";
import { WORKER_VARIABLE } from "../cluster/messages.ts";
import { cluster } from "../cluster/mod.ts";
import { ListenError } from "../errors.ts";
import { Listener } from "../net/listener.ts";
import { portOf, UsageError, type Values, workersOf } from "./arguments.ts";
import type { Output } from "./output.ts";
import { denoPermissions } from "./permissions.ts";
import {
  DEFAULT_PORT,
  HTTP_PORT,
  INSPECTOR_PORT,
  LOOPBACK,
  plainPortError,
  type Site,
} from "./site.ts";

/** What each worker does. */
export interface Work {
  /** Finds what is wrong with the server's options. */
  check(port: number): Promise<void>;
  /** Starts the server, on this port, and the inspector on or behind that one. */
  start(port: number, inspectorPort: number | undefined): Promise<Site>;
  /** Writes where it is. */
  announce(site: Site): void;
}

/** Where the supervisor writes for its workers which port the inspector of the first has. */
const INSPECTOR_VARIABLE = "HTTPSD_INSPECTOR_PORT";

/** Where the ports of inspectors are looked for when the usual ones are taken, and how often. */
const OTHER_PORTS = { from: 20_000, to: 32_000 };
const ATTEMPTS = 50;

/** Serves in several processes until a signal ends them. */
export async function serveInWorkers(values: Values, output: Output, work: Work): Promise<number> {
  const workers = workersOf(values.workers!);
  const port = values.port === undefined ? DEFAULT_PORT : portOf(values.port);
  if (port === 0) throw new UsageError("--workers needs a --port that all of them can share");
  const isSupervisor = process.env[WORKER_VARIABLE] === undefined;
  if (isSupervisor) {
    await work.check(port);
    await prepare(values, port, workers);
  }
  const inspectorPort = Number(process.env[INSPECTOR_VARIABLE]);
  let site: Site | undefined;
  const runtimeArgs = isSupervisor ? denoArguments() : undefined;
  const member = await cluster({
    workers,
    nameLogs: values.json !== true, // a name before it, and a line is no JSON
    log: (line) => output.error(line.replace(/^httpsd: /, "")),
    ...(runtimeArgs !== undefined && { runtimeArgs }),
  }, async () => {
    site = await work.start(port, values.inspect === true ? inspectorPort : undefined);
  });
  // Once, and not by those that take the place of others.
  if (member.role === "worker" && member.id === 1) work.announce(site!);
  return await new Promise(() => {}); // signals end the supervisor, and that its workers
}

/**
 * Looks whether the ports are free. The system does not: it lets every process of this user have them
 * that shares them too.
 *
 * @throws {ListenError} `ADDRESS_IN_USE`, and the other codes
 * @throws {CommandError} where plain HTTP beside `--acme` cannot have its port
 */
async function prepare(values: Values, port: number, workers: number | "auto"): Promise<void> {
  const { host = LOOPBACK, acme, inspect } = values;
  await assertFree(host, port);
  const given = values["http-port"];
  const plain = given === undefined ? HTTP_PORT : portOf(given, "http-port");
  if (acme !== undefined) {
    await assertFree(host, plain).catch((cause) => {
      throw cause instanceof ListenError ? plainPortError(plain, cause) : cause;
    });
  }
  if (inspect !== true) return;
  const first = await freePorts(workers === "auto" ? availableParallelism() : workers);
  process.env[INSPECTOR_VARIABLE] = String(first);
}

/** The first of so many ports that are free, one after the other. */
async function freePorts(count: number): Promise<number> {
  const { from, to } = OTHER_PORTS;
  let first = INSPECTOR_PORT;
  for (let attempt = 1;; attempt++) {
    try {
      for (let port = first; port < first + count; port++) await assertFree(LOOPBACK, port);
      return first;
    } catch (error) {
      const isTaken = error instanceof ListenError && error.code === "ADDRESS_IN_USE";
      if (!isTaken || attempt === ATTEMPTS) throw error;
      // Anywhere: another program may look for some, too, at this moment.
      first = Math.floor(from + Math.random() * (to - from));
    }
  }
}

async function assertFree(hostname: string, port: number): Promise<void> {
  const listener = await Listener.open(
    { hostname, port, backlog: 1, tls: false },
    (arrival) => arrival.destroy(),
    () => {},
  );
  listener.close();
}

/**
 * What Deno is started with in each worker where this process may not do everything: the kernel tells
 * those its arguments that may.
 */
function denoArguments(): readonly string[] | undefined {
  const { Deno } = globalThis as {
    Deno?: { permissions: { querySync(it: object): { state: string } } };
  };
  if (Deno === undefined) return undefined;
  const mayAll = ["read", "write", "run"].every((name) =>
    Deno.permissions.querySync({ name }).state === "granted"
  );
  if (mayAll) return undefined;
  return ["--quiet", ...denoPermissions(process.argv.slice(2), process.execPath)];
}
