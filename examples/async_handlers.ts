/**
 * Long answers made by a few workers, while short ones are given at once (ESP-IDF's
 * `http_server/async_handlers`). Handlers are asynchronous by nature here: what the pool adds is a
 * limit, and an honest 503 beyond it.
 *
 *     deno run -A examples/async_handlers.ts
 *     bun examples/async_handlers.ts
 *
 * Then `curl -kN https://localhost:8443/long` in three terminals. examples/run.ts describes `PORT`
 * and `CERTS`.
 */
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type HttpdRequest, HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

/** The settings of this example besides the server's options. */
export interface AsyncOptions {
  /** How many long requests are answered at a time. Default: 2. */
  readonly workers?: number;
  /** How many more wait for a worker. Default: 0, as in the original. */
  readonly maxQueued?: number;
  /** How long one of the 60 ticks of a long answer takes, in ms. Default: 1,000. */
  readonly tickMs?: number;
  /** Takes what the workers have to say. Default: `console.log`. */
  readonly log?: (line: string) => void;
}

const TICKS = 60;

const PAGE = `<!doctype html>
<title>Async handlers</title>
<p><a href="/long">long</a>
<p><a href="/quick">quick</a>
`;

/** Makes the server, with one socket more than workers, as the original has it. */
export function createServer(
  options: HttpsServerOptions,
  { workers = 2, maxQueued = 0, tickMs = 1000, log = console.log }: AsyncOptions = {},
): HttpsServer {
  const pool = new WorkerPool(workers, maxQueued);
  let requests = 0;

  function answerLong(request: HttpdRequest): void {
    const accepted = pool.offer(async () => {
      await sendTicks(request, ++requests, tickMs, log);
      request.complete();
    });
    if (!accepted) return request.status(503, "Busy").send("<div> no workers available. </div>");
    request.detach();
  }

  return new HttpsServer({
    ...options,
    limits: { maxConnections: workers + maxQueued + 1, ...options.limits },
  })
    .route({ uri: "/", method: "GET", handler: (request) => request.send(PAGE) })
    .route({ uri: "/long", method: "GET", handler: answerLong })
    .route({
      uri: "/quick",
      method: "GET",
      handler: (request) => request.send(`random: ${randomInt(2 ** 32)}\n`),
    });
}

/** A worker's job: a line for each tick, as long as the client is there. */
async function sendTicks(
  request: HttpdRequest,
  number: number,
  tickMs: number,
  log: (line: string) => void,
): Promise<void> {
  if (request.signal.aborted || request.sent) return; // its client or the server gave up waiting
  log(`Request ${number} for ${request.host}, query ${request.rawQuery}`);
  await request.sendChunk(`<div>req: ${number}</div>\n`);
  for (let tick = 0; tick < TICKS && !request.signal.aborted; tick++) {
    await request.sendChunk(`<div>${tick}</div>\n`);
    await delay(tickMs);
  }
  request.end();
}

type Job = () => Promise<void>;

/** Runs a limited number of jobs at a time; some more wait in line. */
class WorkerPool {
  readonly #workers: number;
  readonly #maxQueued: number;
  readonly #queue: Job[] = [];
  #busy = 0;

  constructor(workers: number, maxQueued: number) {
    this.#workers = workers;
    this.#maxQueued = maxQueued;
  }

  /** Takes a job; `false` when all workers are busy and the line is full. */
  offer(job: Job): boolean {
    if (this.#busy < this.#workers) void this.#work(job);
    else if (this.#queue.length < this.#maxQueued) this.#queue.push(job);
    else return false;
    return true;
  }

  async #work(first: Job): Promise<void> {
    this.#busy++;
    for (let job: Job | undefined = first; job !== undefined; job = this.#queue.shift()) {
      await job().catch((error) => console.error("A job failed:", error));
    }
    this.#busy--;
  }
}

if (import.meta.main) await run((options) => createServer(options));
