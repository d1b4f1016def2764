/**
 * Ends a process that hangs in one input for ever, which nothing in its own thread could: a thread of
 * its own looks whether the input changes, and says which one it was.
 *
 * @module
 */
import { Worker } from "node:worker_threads";

/** What the watching thread is given. */
export interface Watched {
  /** How many inputs have begun, the stream and the number of the one under way. */
  readonly place: Int32Array<SharedArrayBuffer>;
  /** How long one may take, in ms. */
  readonly limitMs: number;
  /** What to say, before the stream and number. */
  readonly message: string;
}

/** Watches a run of the fuzzer. */
export class Watchdog {
  readonly #place = new Int32Array(new SharedArrayBuffer(12));
  readonly #worker: Worker;

  /** Ends the process with `message` when an input takes longer than `limitMs`. */
  constructor(message: string, limitMs: number) {
    const workerData: Watched = { place: this.#place, limitMs, message };
    this.#worker = new Worker(new URL("./watchdog_thread.ts", import.meta.url), { workerData });
  }

  /** Input number `n` of a stream of inputs begins. */
  begins(stream: number, n: number): void {
    this.#place[1] = stream;
    this.#place[2] = n;
    Atomics.add(this.#place, 0, 1);
  }

  /** Watches no longer. */
  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}
