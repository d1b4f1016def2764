/**
 * What a supervisor reports.
 *
 * @module
 */
import type { ClusterError } from "../errors.ts";

/**
 * Where a worker is in its life: it starts; it serves; requests under way end; it has ended.
 */
export type WorkerState = "starting" | "ready" | "draining" | "ended";

/** What is known of a worker, now. */
export interface WorkerInfo {
  /** Its number; each that is started has a new one. */
  readonly id: number;
  /** Which of the workers it is, from 0; the one that replaces it has the same. */
  readonly index: number;
  /** The id of its process; in `mode: "threads"` this process's. */
  readonly pid: number | undefined;
  /** Where it is in its life. */
  readonly state: WorkerState;
  /** When it was started, in ms since 1970. */
  readonly startedAt: number;
}

/**
 * The events of a supervisor: a worker is ready; a worker has ended, with `error` where that was not
 * asked for; a worker has ended soon after its start again and again; a worker that was killed runs on,
 * as a thread of Deno's does whose event loop is blocked: it keeps its port open, where clients wait in
 * vain, and a core busy, until the process ends; all workers were replaced; the cluster has stopped.
 */
export type ClusterEventType = "ready" | "end" | "failing" | "stuck" | "reload" | "stop";

/** The names of the events. */
export const CLUSTER_EVENTS: readonly ClusterEventType[] = [
  "ready",
  "end",
  "failing",
  "stuck",
  "reload",
  "stop",
];

/** An event of a supervisor. */
export class ClusterEvent extends Event {
  /** The name that listeners are added for. */
  declare readonly type: ClusterEventType;
  /** The worker that it is about; `undefined` for `reload` and `stop`. */
  readonly worker: WorkerInfo | undefined;
  /** What went wrong. */
  readonly error: ClusterError | undefined;

  /** Makes an event for a supervisor to dispatch. */
  constructor(type: ClusterEventType, worker?: WorkerInfo, error?: ClusterError) {
    super(type);
    this.worker = worker;
    this.error = error;
  }
}
