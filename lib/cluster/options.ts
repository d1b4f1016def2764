/**
 * The options of a cluster, their defaults and their checks.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import * as v from "valibot";
import { optionError } from "../options.ts";
import {
  adviceFrom,
  adviceInGroup,
  checkOptions,
  duration,
  either,
  flag,
  members,
  number,
  oneOf,
} from "../options.ts";

/** How long a cluster waits, in ms. */
export interface ClusterTimeouts {
  /** From the start of a worker until it is ready; then it is killed. Default: 30,000. */
  readonly startMs?: number;
  /** How long requests under way may take when a worker is to end; then they are cut. Default: 10,000. */
  readonly drainMs?: number;
  /** From the end of a worker to the start of the next in its place, doubled each time. Default: 100. */
  readonly restartMs?: number;
  /** The longest such pause. Default: 30,000. */
  readonly maxRestartMs?: number;
  /** After this time a worker's end counts as the first again. Default: 10,000. */
  readonly steadyMs?: number;
  /**
   * How long a worker's event loop may be blocked, as by an endless loop; then the worker is killed and
   * another takes its place. 0: for ever. Default: 30,000.
   */
  readonly hangMs?: number;
}

/** The options of `cluster()`. */
export interface ClusterOptions {
  /** How many workers; `"auto"`: one for each core that this process may use. Default: `"auto"`. */
  readonly workers?: number | "auto";
  /**
   * `"processes"`: one does not fall with another. `"threads"`: Workers of one process, which take
   * less memory. Default: `"processes"`.
   */
  readonly mode?: "processes" | "threads";
  /**
   * Whether signals steer the cluster: SIGHUP replaces all workers, SIGTERM and SIGINT stop it and
   * then end the process. Default: `true`.
   */
  readonly signals?: boolean;
  /** Whether the lines that a worker writes with `console` begin with its name. Default: `true`. */
  readonly nameLogs?: boolean;
  /** Gets each line that the supervisor has to say; `false`: none does. Default: `console.error`. */
  readonly log?: false | ((line: string) => void);
  /**
   * What the runtime is started with in each worker process, before the program's name, such as
   * `["--allow-net"]`. Default: what this process was started with; where Deno does not let that be
   * read, the permissions that this process has without a limit.
   */
  readonly runtimeArgs?: readonly string[];
  /** For how long. */
  readonly timeouts?: ClusterTimeouts;
}

const TIMEOUTS = {
  startMs: duration(30_000),
  drainMs: duration(10_000, 0),
  restartMs: duration(100),
  maxRestartMs: duration(30_000),
  steadyMs: duration(10_000),
  hangMs: duration(30_000, 0),
};

/** What other clusters call these. */
export const CLUSTER_NAMES: Readonly<Record<string, string>> = {
  count: "write workers",
  instances: "write workers",
  exec: "leave it out: a worker runs the same program",
  args: "leave it out: a worker has the same arguments",
  execArgv: "write runtimeArgs",
  silent: "leave it out: workers write where the supervisor does",
  reusePort: "leave it out: workers always share their ports",
  threads: 'write mode: "threads"',
};

const advice = adviceFrom(CLUSTER_NAMES);

/** The options beside the group. */
const BESIDE = ["workers", "mode", "signals", "nameLogs", "log", "runtimeArgs"];

const ENTRIES = {
  workers: v.optional(
    either<"auto", number>(
      (value) => typeof value === "string",
      v.literal("auto", 'must be "auto" or a count'),
      number('"auto" or a count', 1, 1_024),
    ),
    "auto",
  ),
  mode: v.optional(oneOf("processes", "threads"), "processes"),
  signals: flag(true),
  nameLogs: flag(true),
  log: v.optional(
    v.custom<false | ((line: string) => void)>(
      (value) => value === false || typeof value === "function",
      "must be a function, or false",
    ),
    () => (line: string) => console.error(line),
  ),
  runtimeArgs: v.optional(v.array(v.string("must be texts"), "must be an array of texts")),
  timeouts: v.optional(
    members(TIMEOUTS, {
      shape: "an object of options",
      advice: adviceInGroup(
        { timeouts: Object.keys(TIMEOUTS) },
        (name) => BESIDE.includes(name),
        advice,
      ),
    }),
    {},
  ),
};

const SCHEMA = members(ENTRIES, {
  advice,
  shape: "an object",
  groups: { timeouts: Object.keys(TIMEOUTS) },
});

/** Options with all defaults in. */
export interface ClusterConfig extends Required<Omit<ClusterOptions, "workers" | "runtimeArgs">> {
  readonly workers: number;
  readonly runtimeArgs: readonly string[] | undefined;
  readonly timeouts: Required<ClusterTimeouts>;
}

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, the value and what is allowed
 */
export function resolveCluster(options: ClusterOptions): ClusterConfig {
  const output = checkOptions("cluster()", SCHEMA, options);
  if (output.mode === "threads" && output.runtimeArgs !== undefined) {
    throw optionError("cluster()", "runtimeArgs", "is for processes: leave it out");
  }
  const workers = output.workers === "auto"
    ? Math.min(availableParallelism(), 1_024)
    : output.workers;
  return { ...output, workers, runtimeArgs: output.runtimeArgs };
}
