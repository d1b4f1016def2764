/**
 * The server of the attack tests, in a process of its own, so that what it takes of memory and of
 * processor time can be measured without what its attackers take. It gets its options and a certificate as a
 * line of JSON, and answers each further line with what it has done since the last one.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { HttpsServer } from "../../lib/server.ts";
import { heapMiB } from "../support.ts";

/** What the server has done and what it holds. */
export interface Report {
  /** Handlers that were called. */
  handlers: number;
  /** The most of them at a time. */
  most: number;
  /** How many pieces of endless bodies were made. */
  pieces: number;
  /** How often each error was reported. */
  errors: Record<string, number>;
  /** How often sessions ended with each code. */
  ends: Record<string, number>;
  /** Sessions that are open. */
  sessions: number;
  /** Live objects, after a collection. */
  heapMiB: number;
  /** The most memory that the process had, in samples. */
  peakMiB: number;
  /** Processor time, in ms. */
  cpuMs: number;
}

const SAMPLE_MS = 20;
const PIECE = new Uint8Array(64 * 1024).fill(97);
const BIG = new Uint8Array(200_000).fill(98);

let handlers = 0;
let running = 0;
let most = 0;
let pieces = 0;
let errors: Record<string, number> = {};
let ends: Record<string, number> = {};
let peak = 0;
setInterval(() => peak = Math.max(peak, process.memoryUsage().rss), SAMPLE_MS).unref();

async function answer(request: Request): Promise<Response> {
  switch (new URL(request.url).pathname) {
    case "/read":
      return new Response(`${(await request.arrayBuffer()).byteLength}`);
    case "/drain":
      for await (const _ of request.body!);
      return new Response("drained");
    case "/hold":
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      return new Response("too late");
    case "/deaf":
      return await new Promise<never>(() => {});
    case "/endless":
      return new Response(
        new ReadableStream({
          pull(controller) {
            pieces++;
            controller.enqueue(PIECE.slice());
          },
        }),
      );
    case "/big":
      return new Response(BIG);
    default:
      return new Response("well");
  }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const options = JSON.parse((await lines.next()).value!);
const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, ...options }, async (request) => {
  handlers++;
  most = Math.max(most, ++running);
  try {
    return await answer(request);
  } finally {
    running--;
  }
});
server.route({ uri: "/echo", websocket: { onMessage: (ws, message) => ws.send(message) } });
server.addEventListener("error", ({ error: { code } }) => errors[code] = (errors[code] ?? 0) + 1);
server.addEventListener("disconnected", ({ error }) => {
  const code = error?.code ?? "none";
  ends[code] = (ends[code] ?? 0) + 1;
});
await server.start();
console.log(server.address.port);

let cpu = process.cpuUsage();
for await (const _ of { [Symbol.asyncIterator]: () => lines }) {
  const { user, system } = process.cpuUsage(cpu);
  const cpuMs = (user + system) / 1000;
  const sessions = server.sessions.size;
  const report = { handlers, most, pieces, errors, ends, sessions, peakMiB: peak / 2 ** 20, cpuMs };
  console.log(JSON.stringify({ ...report, heapMiB: heapMiB() } satisfies Report));
  handlers = most = pieces = 0;
  errors = {};
  ends = {};
  peak = process.memoryUsage().rss;
  cpu = process.cpuUsage();
}
await server.stop({ drainMs: 0 });
