/**
 * A worker's side: it runs the program, reports when that is ready, and ends when it is told to, or
 * when its supervisor is gone.
 *
 * @module
 */
import process from "node:process";
import { clearTimeout, setInterval, setTimeout } from "node:timers";
import { parentPort } from "node:worker_threads";
import { ContainedAbort } from "../contain/abort.ts";
import { contain } from "../contain/callbacks.ts";
import { HttpsdError } from "../errors.ts";
import { setShare, type SharingServer } from "../share.ts";
import { marking, readFromSupervisor, type ToSupervisor, type WorkerStart } from "./messages.ts";

/** How much longer than `drainMs` a worker takes at the most, in ms. */
const GRACE_MS = 1_000;

/**
 * How long clients that have just connected may be silent then, in ms: long enough for one whose first
 * packet was lost, which comes again after a second.
 */
export const NEWCOMERS_MS = 3_000;

/** How often a process looks whether its supervisor is still its parent, in ms. */
const ORPHAN_CHECK_MS = 1_000;

/** What a worker talks to its supervisor by. */
interface Channel {
  /** Sends a message; resolves when it has left, or cannot. */
  post(message: ToSupervisor): Promise<void>;
  /** Has `message` called with each message, and `closed` when the supervisor is gone. */
  listen(message: (message: unknown) => void, closed: () => void): void;
}

/** A worker, as `cluster()` returns it to the program that runs in one. */
export class ClusterWorker {
  /** Which side of the cluster this process or thread is. */
  readonly role = "worker";
  /** The worker's number; each that is started has a new one. */
  readonly id: number;
  /** Which of the workers it is, from 0; the one that replaces it has the same. */
  readonly index: number;
  /** How many workers the cluster has. */
  readonly of: number;
  readonly #abort: ContainedAbort;

  /** @internal */
  constructor({ id, index, of }: Pick<WorkerStart, "id" | "index" | "of">, abort: ContainedAbort) {
    this.id = id;
    this.index = index;
    this.of = of;
    this.#abort = abort;
  }

  /** Is aborted when the worker is to end: what it does besides its servers has to end too. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }
}

/** Runs the program in a worker; resolves when it is ready, and ends the worker when it fails. */
export async function work(
  start: WorkerStart,
  threads: boolean,
  run: () => unknown,
): Promise<ClusterWorker> {
  if (start.nameLogs) nameConsole(`worker ${start.id}`);
  const channel = threads ? threadChannel() : processChannel();
  const servers = new Set<SharingServer>();
  const abort = new ContainedAbort((cause) => console.error(cause));
  let draining = false;

  const drain = (drainMs: number): void => {
    if (draining) return;
    draining = true;
    const timer = setTimeout(() => process.exit(1), drainMs + GRACE_MS);
    void channel.post({ type: "draining" });
    abort.abort();
    const stops = [...servers].map((server) => server.stop({ drainMs, newcomersMs: NEWCOMERS_MS }));
    void Promise.allSettled(stops).then(() => {
      clearTimeout(timer);
      process.exit(0);
    });
  };

  channel.listen((message) => {
    const read = readFromSupervisor(message);
    if (read !== undefined && read !== "foreign") drain(read.drainMs);
  }, () => drain(start.drainMs));
  if (!threads) {
    // A terminal sends these to every process: the supervisor decides.
    for (const signal of ["SIGINT", "SIGHUP"]) process.on(signal, () => {});
    process.on("SIGTERM", () => drain(start.drainMs));
  }
  setShare({
    index: start.index,
    of: start.of,
    threads,
    port: (nth) => start.ports[nth] ?? 0,
    listening(server, port, nth) {
      servers.add(server);
      if (nth !== undefined) void channel.post({ type: "listening", nth, port });
      if (draining) contain(() => server.stop({ drainMs: 0 }), (cause) => console.error(cause));
    },
    stopped: (server) => void servers.delete(server),
  });

  try {
    await run();
  } catch (error) {
    if (!draining) await fail(channel, error);
  }
  if (!draining) void channel.post({ type: "ready" });
  if (start.beatMs > 0) {
    setInterval(() => void channel.post({ type: "beat" }), start.beatMs).unref();
  }
  return new ClusterWorker(start, abort);
}

/** Ends the worker, and says why. */
async function fail(channel: Channel, error: unknown): Promise<never> {
  console.error(error);
  const message = (error instanceof Error ? error.message : String(error)).slice(0, 10_000);
  const code = error instanceof HttpsdError ? { code: error.code } : {};
  await channel.post({ type: "failed", message, ...code });
  process.exit(1);
}

/** The channel of a process: closed when the supervisor is gone, however it went. */
function processChannel(): Channel {
  return {
    post: (message) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, GRACE_MS);
        const sent = (): void => {
          clearTimeout(timer);
          resolve();
        };
        if (!process.connected) return sent();
        process.send?.(marking(message), undefined, undefined, sent);
      }),
    listen(message, closed) {
      process.on("message", message);
      process.on("disconnect", closed);
      if (!process.connected) closed();
      // Deno does not report a channel that is reset, as it is where the supervisor has not read all.
      const supervisor = process.ppid;
      setInterval(() => {
        if (process.ppid !== supervisor) closed();
      }, ORPHAN_CHECK_MS).unref();
    },
  };
}

/** The channel of a thread, which ends with its process. */
function threadChannel(): Channel {
  return {
    post(message) {
      parentPort?.postMessage(marking(message));
      return Promise.resolve();
    },
    listen: (message) => void parentPort?.on("message", message),
  };
}

/** Has what `console` writes begin with a name. */
function nameConsole(name: string): void {
  const before = `[${name}]`;
  for (const method of ["debug", "error", "info", "log", "warn"] as const) {
    const write = console[method].bind(console);
    console[method] = (first?: unknown, ...rest: unknown[]) => {
      // Text in the first place may have places for the others.
      if (typeof first === "string") write(`${before} ${first}`, ...rest);
      else write(before, ...first === undefined && rest.length === 0 ? [] : [first], ...rest);
    };
  }
}
