/**
 * The load generators. Those for slots are started for a server and then only stopped and
 * continued; they `count()` the operations so far. Those for runs do a number of operations and
 * resolve with it.
 */
import { closeSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask } from "./answers.mjs";
import { readBytes, runClient, sleep, startClient, startOwnClient } from "./processes.mjs";

const MB = 1024 * 1024;
const FOR_EVER = 100_000; // seconds; the client is ended when all is measured
const REQUEST_SEPARATOR = "\x1e";

/**
 * `wrk`, with requests in turn whose answers are equally long. How many operations it has done
 * follows from what it has read, and from how long the answers to one text are on the wire, which
 * are `worth` so many operations.
 */
export function wrk(requests, { connections = 64, worth = 1 } = {}) {
  const words = (server, seconds) => [
    ...["wrk", "-t1", `-c${connections}`, `-d${seconds}s`, "-s", "bench/clients/request.lua"],
    `https://127.0.0.1:${server.port}/`,
  ];
  const env = { REQUESTS: requests.join(REQUEST_SEPARATOR) };
  return {
    answers: (server) => answersTo(server, requests),
    async warmUp(server, seconds) {
      const output = await runClient(words(server, seconds), env);
      if (/Non-2xx|Socket errors/.test(output)) throw new Error(`wrk failed:\n${output}`);
    },
    async start(server) {
      const { wireBytes } = await ask(server, requests[0], { bytesOfBodies: true });
      const client = startClient(words(server, FOR_EVER), env);
      client.count = () => readBytes(client) / wireBytes * worth;
      return client;
    },
  };
}

let counters = 0;

/** One of our own clients for slots, see bench/clients. */
export function client(name, options, { answers, folder }) {
  const start = async (server) => {
    const counts = join(folder, `count-${counters++}`);
    writeFileSync(counts, new Uint8Array(8));
    const file = openSync(counts);
    const started = startOwnClient(name, { port: server.port, counts, ...options });
    const number = new Float64Array(1);
    started.count = () => {
      readSync(file, new Uint8Array(number.buffer), 0, 8, 0);
      return number[0];
    };
    started.ended.then(() => {
      closeSync(file);
      rmSync(counts);
    });
    await started.printed(/READY/);
    return started;
  };
  const warmUp = async (server, seconds) => {
    const started = await start(server);
    await sleep(seconds);
    if (started.code !== undefined) throw new Error(`A client ended:\n${started.command}`);
    await started.stop();
  };
  return { answers, warmUp, start };
}

/**
 * Whole bodies of 100 MB, counted in MB, for runs: downloads, or with `upload` so many bytes that
 * are sent.
 */
export function bodies({ upload, connections = 4, requests = 8 }) {
  const run = async ({ port }) => {
    const client = startOwnClient("bodies", { port, connections, requests, upload });
    const [, waitedNs] = await client.printed(/WAITED (\d+)/);
    await client.ended;
    return { operations: requests * BODY_BYTES / MB, clientWaitedNs: Number(waitedNs) };
  };
  return {
    answers: (server) => answersTo(server, [upload === undefined ? GET : SHORT_UPLOAD]),
    warmUp: run,
    run,
  };
}

/** How long the bodies of {@link bodies} are. */
export const BODY_BYTES = 100 * MB;

/** The shortest request. */
export const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

const SHORT_UPLOAD = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345";

/** What a server answers to each of some requests. */
export async function answersTo(server, requests, options) {
  const all = [];
  for (const request of requests) all.push(...(await ask(server, request, options)).answers);
  return all;
}
