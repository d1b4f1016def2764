/**
 * How the supervisor starts a worker and talks with it, whether that is a process or a thread.
 *
 * @module
 */
import type { WorkerStart } from "./messages.ts";

/** A worker that runs. */
export interface WorkerLink {
  /** The id of its process. */
  readonly pid: number | undefined;
  /** Why it runs on when it is killed while its event loop hangs, and what follows. Default: it ends. */
  readonly runsOn?: string;
  /** Sends it a message; one that has ended gets none. */
  send(message: object): void;
  /** Ends it at once. */
  kill(): void;
}

/** What a worker's start reports to. */
export interface WorkerListener {
  /** A message came, which may be anything. */
  message(message: unknown): void;
  /** It has ended; `how` is a part of a sentence, such as "by SIGKILL"; `clean` says exit code 0. */
  ended(how: string, clean: boolean): void;
}

/** Starts a worker. */
export type Launch = (start: WorkerStart, listener: WorkerListener) => WorkerLink;
