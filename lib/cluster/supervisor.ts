/**
 * The supervisor of a cluster: the one place that knows its workers. It keeps a worker in each place,
 * starts another with back-off where one has died, replaces all of them new before old, and stops
 * them within a deadline.
 *
 * @module
 */
import { clearTimeout, setTimeout } from "node:timers";
import { contain } from "../contain/callbacks.ts";
import { type AnyListener, SafeListeners } from "../contain/listeners.ts";
import { type ClusterError, HttpsdError, StateError } from "../errors.ts";
import {
  adviceFrom,
  assertListener,
  checkOptions,
  members,
  milliseconds,
  withoutUndefined,
} from "../options.ts";
import { CLUSTER_EVENTS, ClusterEvent, type ClusterEventType, type WorkerInfo } from "./events.ts";
import type { Launch } from "./launch.ts";
import type { ClusterConfig } from "./options.ts";
import { BEATS, Running } from "./running.ts";
import * as v from "valibot";

/** So many ends soon after the start, one after the other, are reported as `failing`. */
const FAILING = 5;

/** A worker's place, which one after the other has. */
interface Seat {
  readonly index: number;
  current: Running | undefined;
  /** The one that is to take the place of the current one, until it is ready. */
  next: Running | undefined;
  /** How often in a row a worker has ended soon after its start. */
  failures: number;
  readyAt: number;
  /** Whether one was ready here: from then on another takes the place of each that ends. */
  isOpen: boolean;
  restart: ReturnType<typeof setTimeout> | undefined;
}

/** How to stop a cluster. */
export interface ClusterStopOptions {
  /** How long requests under way may take, in ms. Default: the option `timeouts.drainMs`. */
  readonly drainMs?: number;
}

/** A listener for a supervisor's events, as a function or an object. */
export type ClusterEventListener =
  | ((event: ClusterEvent) => unknown)
  | { handleEvent(event: ClusterEvent): unknown };

/** The supervisor of a cluster, as `cluster()` returns it to the process that started the workers. */
export class ClusterSupervisor extends EventTarget {
  /** Which side of the cluster this process or thread is. */
  readonly role = "supervisor";
  readonly #config: ClusterConfig;
  readonly #launch: Launch;
  readonly #seats: Seat[];
  readonly #all = new Set<Running>();
  /** The ports that the system has chosen, which later workers take too. */
  readonly #ports = new Map<number, number>();
  readonly #listeners = new SafeListeners((type, cause) => {
    console.error(new HttpsdError("LISTENER_FAILED", `A listener for ${type} threw`, { cause }));
  });
  #ids = 0;
  #started = false;
  #reloading: Promise<void> | undefined;
  #reloadAgain: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  /** @internal */
  constructor(config: ClusterConfig, launch: Launch) {
    super();
    this.#config = config;
    this.#launch = launch;
    this.#seats = Array.from({ length: config.workers }, (_, index) => ({
      index,
      current: undefined,
      next: undefined,
      failures: 0,
      readyAt: 0,
      isOpen: false,
      restart: undefined,
    }));
  }

  /** The workers that have not ended, in the order in which they were started. */
  get workers(): readonly WorkerInfo[] {
    return [...this.#all].map(({ info }) => info);
  }

  /**
   * Starts all workers: the first alone, as it may find that the program cannot start.
   *
   * @internal
   */
  async start(): Promise<void> {
    const [first, ...others] = this.#seats;
    let error = await this.#begin(first!).readied;
    if (error === undefined) {
      const errors = await Promise.all(others.map((seat) => this.#begin(seat).readied));
      error = errors.find((one) => one !== undefined);
    }
    if (this.#stopping !== undefined) {
      await this.#stopping;
      throw new StateError("NOT_STARTED", "The cluster was stopped while it started");
    }
    this.#started = error === undefined;
    if (error === undefined) return;
    await this.stop({ drainMs: 0 });
    throw error;
  }

  /**
   * Replaces all workers, one after the other: a new one is ready before the old one accepts no more,
   * and requests under way end. While a reload is under way another call waits, and then reloads once
   * more.
   *
   * @throws {ClusterError} `WORKER_FAILED`, `WORKER_TIMEOUT` (as a rejection) when a new worker does
   * not get ready: the old one goes on, and so do those after it
   * @throws {StateError} `NOT_STARTED` (as a rejection)
   */
  reload(): Promise<void> {
    if (!this.#started || this.#stopping !== undefined) {
      return Promise.reject(new StateError("NOT_STARTED", "The cluster does not run"));
    }
    if (this.#reloading === undefined) return this.#reloading = this.#reload();
    return this.#reloadAgain ??= this.#reloading.catch(() => {}).then(() => {
      this.#reloadAgain = undefined;
      return this.reload();
    });
  }

  async #reload(): Promise<void> {
    try {
      for (const seat of this.#seats) {
        if (this.#stopping !== undefined) return;
        clearTimeout(seat.restart);
        seat.restart = undefined;
        const next = seat.next = this.#run(seat.index);
        const error = await next.readied;
        seat.next = undefined;
        if (error !== undefined) {
          if (seat.current === undefined && this.#stopping === undefined) this.#restartLater(seat);
          throw error;
        }
        const old = seat.current;
        seat.current = next;
        seat.readyAt = performance.now();
        seat.failures = 0;
        old?.drain(this.#config.timeouts.drainMs);
        await old?.ended;
      }
      this.#dispatch("reload");
    } finally {
      this.#reloading = undefined;
    }
  }

  /**
   * Has every worker accept no more, and resolves when all have ended; requests under way may take
   * `drainMs`, then they are cut. Calling it again returns the same promise.
   *
   * @throws {ConfigError} `INVALID_CONFIG` (as a rejection) naming the option; nothing is stopped
   */
  stop(options: ClusterStopOptions = {}): Promise<void> {
    try {
      const { drainMs } = checkOptions("stop()", STOP_OPTIONS, withoutUndefined(options));
      return this.#stopping ??= this.#stop(drainMs ?? this.#config.timeouts.drainMs);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #stop(drainMs: number): Promise<void> {
    for (const seat of this.#seats) clearTimeout(seat.restart);
    const all = [...this.#all];
    for (const worker of all) worker.drain(drainMs);
    await Promise.all(all.map(({ ended }) => ended));
    this.#dispatch("stop");
  }

  /** Ends every worker at once. */
  kill(): void {
    this.#stopping ??= this.#stop(0);
    for (const worker of this.#all) worker.kill();
  }

  /** Stops as {@linkcode ClusterSupervisor.stop} does; for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /**
   * Calls `listener` for each event of `type`; what it throws is written to the console.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for an unknown event, or what is not a listener
   */
  override addEventListener(
    type: ClusterEventType,
    listener: ClusterEventListener | null,
    options?: AddEventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    assertListener(type, listener, CLUSTER_EVENTS);
    super.addEventListener(type, this.#listeners.wrap(listener as AnyListener), options);
  }

  /** Stops calling `listener` for events of `type`. */
  override removeEventListener(
    type: ClusterEventType,
    listener: ClusterEventListener | null,
    options?: EventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.removeEventListener(type, this.#listeners.wrapperOf(listener as AnyListener), options);
  }

  /** Puts a new worker into an empty seat. */
  #begin(seat: Seat): Running {
    seat.restart = undefined;
    return seat.current = this.#run(seat.index);
  }

  #run(index: number): Running {
    const { timeouts: { startMs, drainMs, hangMs }, nameLogs, workers } = this.#config;
    const ports = Object.fromEntries(this.#ports);
    const beatMs = hangMs / BEATS;
    const start = { id: ++this.#ids, index, of: workers, ports, drainMs, beatMs, nameLogs };
    const worker = new Running(this.#launch, start, startMs, {
      listening: (nth, port) => {
        if (!this.#ports.has(nth)) this.#ports.set(nth, port);
      },
      ready: (worker) => {
        const seat = this.#seats[worker.index]!;
        seat.isOpen = true;
        if (seat.current === worker) seat.readyAt = performance.now();
        this.#dispatch("ready", worker);
      },
      ended: (worker, error) => this.#ended(worker, error),
      stuck: (worker, error) => this.#stuck(worker, error),
      garbled: (worker) => this.#say(`${worker.name} sends what is not understood; it is ignored`),
    });
    this.#all.add(worker);
    return worker;
  }

  #ended(worker: Running, error: ClusterError | undefined): void {
    this.#all.delete(worker);
    const seat = this.#seats[worker.index]!;
    const current = seat.current === worker;
    if (current) seat.current = undefined;
    // The cluster's start rejects with what ends the first one of a place before it is ready.
    const isReplaced = seat.isOpen && this.#stopping === undefined;
    if (error !== undefined && isReplaced) this.#say(error.message);
    this.#dispatch("end", worker, error);
    if (!current || !isReplaced || this.#stopping !== undefined) return;
    // Another may be about to take the place anyway.
    if (seat.next === undefined) this.#restartLater(seat, worker, error);
  }

  #stuck(worker: Running, error: ClusterError): void {
    this.#say(error.message);
    this.#dispatch("stuck", worker, error);
  }

  /** Starts another worker, later each time that one ends soon after its start. */
  #restartLater(seat: Seat, worker?: Running, error?: ClusterError): void {
    const { restartMs, maxRestartMs, steadyMs } = this.#config.timeouts;
    const steady = seat.readyAt > 0 && performance.now() - seat.readyAt >= steadyMs;
    seat.readyAt = 0;
    if (steady) seat.failures = 0;
    const delay = Math.min(maxRestartMs, restartMs * 2 ** Math.min(seat.failures, 30));
    seat.failures++;
    if (seat.failures === FAILING) {
      this.#say(
        `The worker in place ${seat.index} has ended soon after its start ${FAILING} times in a row; it ` +
          `is tried again, at most every ${maxRestartMs} ms`,
      );
      this.#dispatch("failing", worker, error);
    }
    clearTimeout(seat.restart);
    seat.restart = setTimeout(() => this.#begin(seat), delay);
  }

  #dispatch(type: ClusterEventType, worker?: Running, error?: ClusterError): void {
    this.dispatchEvent(new ClusterEvent(type, worker?.info, error));
  }

  #say(line: string): void {
    const { log } = this.#config;
    if (log !== false) contain(() => log(`httpsd: ${line}`), (cause) => console.error(cause));
  }
}

const STOP_OPTIONS = members({ drainMs: v.optional(milliseconds(0)) }, {
  advice: adviceFrom({ timeout: "write drainMs", graceful: "write drainMs, 0 for at once" }),
});
