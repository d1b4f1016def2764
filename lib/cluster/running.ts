/**
 * One worker that was started, from its start to its end, with a deadline for each step.
 *
 * @module
 */
import { clearInterval, clearTimeout, setInterval, setTimeout } from "node:timers";
import { ClusterError } from "../errors.ts";
import type { WorkerInfo, WorkerState } from "./events.ts";
import type { Launch, WorkerLink } from "./launch.ts";
import { marking, readFromWorker, type WorkerStart } from "./messages.ts";

/** How much longer than its own deadline a worker that drains may take, in ms. */
const GRACE_MS = 2_000;
/** When a worker that was killed counts as ended: Deno does not report the end of one that was stopped. */
const KILLED_MS = 2_000;

/** A worker that is silent for so many beats in a row hangs. */
export const BEATS = 4;

/** What a worker's course is reported to. */
export interface RunningHost {
  /** It listens on a port that the system has chosen. */
  listening(nth: number, port: number): void;
  /** It is ready. */
  ready(worker: Running): void;
  /** It has ended; `error` says why, where that was not asked for. */
  ended(worker: Running, error: ClusterError | undefined): void;
  /** It was killed as its event loop hangs, and runs on. */
  stuck(worker: Running, error: ClusterError): void;
  /** It said something that is not understood; once. */
  garbled(worker: Running): void;
}

/** A worker. */
export class Running {
  /** Its number. */
  readonly id: number;
  /** Which of the workers it is. */
  readonly index: number;
  /** Resolves when it is ready, and with an error when it has ended before. */
  readonly readied: Promise<ClusterError | undefined>;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  readonly #startedAt = Date.now();
  readonly #link: WorkerLink;
  readonly #host: RunningHost;
  #settleReady!: (error: ClusterError | undefined) => void;
  #settleEnded!: () => void;
  #state: WorkerState = "starting";
  #wanted = false;
  #isKilled = false;
  #garbled = false;
  #failure: ClusterError | undefined;
  /** When the current step is over, at the latest. */
  #timer: ReturnType<typeof setTimeout>;
  /** How often a worker that is ready says that it is alive, in ms; 0: never. */
  readonly #beatMs: number;
  /** How long it takes at the most when it drains by itself, in ms. */
  readonly #drainMs: number;
  /** When it is killed if it drains still, on the clock of `performance`. */
  #drainsUntil = Infinity;
  #beats: ReturnType<typeof setInterval> | undefined;
  /** How many beats have passed since it has said something. */
  #silent = 0;

  /** Starts it. It is killed when it is not ready in `startMs`. */
  constructor(launch: Launch, start: WorkerStart, startMs: number, host: RunningHost) {
    this.id = start.id;
    this.index = start.index;
    this.#beatMs = start.beatMs;
    this.#drainMs = start.drainMs;
    this.#host = host;
    this.readied = new Promise((resolve) => this.#settleReady = resolve);
    this.ended = new Promise((resolve) => this.#settleEnded = resolve);
    this.#timer = setTimeout(() => {
      this.#failure = new ClusterError(
        "WORKER_TIMEOUT",
        `${this.name} was not ready in ${startMs} ms: raise timeouts.startMs, or find what it waits for`,
      );
      this.kill();
    }, startMs);
    this.#link = launch(start, {
      message: (message) => this.#take(message),
      ended: (how, clean) => this.#end(how, clean),
    });
  }

  /** What messages call it. */
  get name(): string {
    const { pid } = this.#link ?? {};
    return `Worker ${this.id}${pid === undefined ? "" : ` (pid ${pid})`}`;
  }

  /** What is known of it now. */
  get info(): WorkerInfo {
    return {
      id: this.id,
      index: this.index,
      pid: this.#link.pid,
      state: this.#state,
      startedAt: this.#startedAt,
    };
  }

  /**
   * Has it accept no more and end; it is killed when it has not in time. Where it drains already, the
   * shorter time holds.
   */
  drain(drainMs: number): void {
    if (this.#state === "ended" || this.#isKilled) return;
    const isTold = this.#wanted;
    this.#wanted = true;
    if (this.#state === "starting") return this.kill(); // it has no clients yet
    if (!isTold) this.#link.send(marking({ type: "drain", drainMs }));
    this.#drains(drainMs);
  }

  /** Its event loop need not go round any more; if it does, it ends itself sooner. */
  #drains(drainMs: number): void {
    this.#state = "draining";
    clearInterval(this.#beats);
    const until = performance.now() + drainMs + GRACE_MS;
    if (until >= this.#drainsUntil) return;
    this.#drainsUntil = until;
    this.#by(drainMs + GRACE_MS, () => this.#killHanging());
  }

  /** Ends it at once as its event loop hangs, which Deno cannot do with a thread. */
  #killHanging(): void {
    this.kill();
    const { runsOn } = this.#link;
    if (runsOn === undefined) return;
    this.#host.stuck(this, new ClusterError("WORKER_TIMEOUT", `${this.name} runs on: ${runsOn}`));
  }

  /** Ends it at once. */
  kill(): void {
    if (this.#state === "ended") return;
    clearInterval(this.#beats);
    this.#wanted ||= this.#failure === undefined;
    this.#isKilled = true;
    this.#link.kill();
    this.#by(KILLED_MS, () => this.#end("by SIGKILL", false));
  }

  #by(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  /**
   * Kills it when its event loop hangs. Beats are counted, not the time: after a sleep of the machine, or
   * of this process, a worker has as long as ever to say that it is alive.
   */
  #watch(): void {
    if (this.#beatMs === 0) return;
    this.#beats = setInterval(() => {
      if (++this.#silent <= BEATS) return;
      const ms = BEATS * this.#beatMs;
      this.#failure = new ClusterError(
        "WORKER_TIMEOUT",
        `${this.name} has not answered for ${ms} ms: find what blocks its event loop, or raise ` +
          "timeouts.hangMs",
      );
      this.#killHanging();
    }, this.#beatMs);
  }

  #take(message: unknown): void {
    this.#silent = 0;
    if (this.#state === "ended") return;
    const read = readFromWorker(message);
    if (read === "foreign") return;
    if (read === undefined) {
      if (!this.#garbled) this.#host.garbled(this);
      this.#garbled = true;
    } else if (read.type === "listening") {
      this.#host.listening(read.nth, read.port);
    } else if (read.type === "failed") {
      const code = read.code === undefined ? "" : ` (${read.code})`;
      this.#failure ??= new ClusterError(
        "WORKER_FAILED",
        `${this.name} could not start: ${read.message}${code}`,
      );
    } else if (read.type === "draining") {
      if (this.#state === "ready") this.#drains(this.#drainMs); // by a signal to it alone
    } else if (read.type === "beat") {
      return;
    } else if (this.#state === "starting") {
      clearTimeout(this.#timer);
      this.#state = "ready";
      this.#watch();
      this.#settleReady(undefined);
      this.#host.ready(this);
    }
  }

  #end(how: string, clean: boolean): void {
    if (this.#state === "ended") return;
    clearTimeout(this.#timer);
    clearInterval(this.#beats);
    const early = this.#state === "starting";
    const asked = this.#wanted || (clean && this.#state === "draining");
    this.#state = "ended";
    const error = this.#failure ??
      new ClusterError(
        "WORKER_FAILED",
        `${this.name} ended ${how}${early ? " before it was ready" : ""}`,
      );
    this.#settleReady(error);
    this.#settleEnded();
    this.#host.ended(this, asked ? undefined : error);
  }
}
