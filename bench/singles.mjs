/**
 * What is not operations per CPU second: memory, late ticks, and starting up. Each resolves with
 * the values of each contestant.
 */
import { join } from "node:path";
import { PINNED, root, runtimeBinary } from "../scripts/runtimes.mjs";
import { meter, residentBytes, runClient, sleep, startOwnClient, used } from "./processes.mjs";
import { median } from "./statistics.mjs";
import { inSlots, turns } from "./turns.mjs";

const KB = 1024;

/**
 * How much the resident memory grows for each connection that has had one answer, after some idle
 * seconds and a collection of garbage, and before that collection, in KB.
 */
export async function idleMemory(contestants, connections, http2) {
  const results = [];
  for (const { server } of contestants) {
    const some = await hold(server, 100, http2); // so that all code is there
    await some.stop();
    await collect(server);
    const empty = residentBytes(server);
    const holder = await hold(server, connections, http2);
    await sleep(3); // in which a server may shrink what a connection holds
    const before = (residentBytes(server) - empty) / connections / KB;
    await collect(server);
    const after = (residentBytes(server) - empty) / connections / KB;
    await holder.stop();
    results.push({ before, after });
  }
  return results;
}

async function hold({ port }, connections, http2) {
  const holder = startOwnClient("hold", { port, connections, http2 });
  await holder.printed(/READY/);
  return holder;
}

async function collect(server) {
  for (let times = 0; times < 2; times++) { // what the first one frees may hold more
    server.signal("SIGUSR2");
    await sleep(1);
  }
}

const LATE_SECONDS = 3;
const CONNECTIONS = 64;

/**
 * Requests at even distances, at half of the rate at which the slowest contestant has no time left;
 * the same for all. What is measured inside the server: ticks of a timer of 1 ms that came late,
 * less what the server waited for its core, as ticks that were late by more than 5 ms per 20 s; the
 * worst tick in ms; and, from the client, latencies from when requests were due, in ms.
 */
export async function lateness(contestants, { rounds }) {
  const calibration = await inSlots(contestants, { rounds: 3, slotSeconds: 0.2 });
  const cost = Math.max(
    ...calibration.flat().map(({ cpu, operations }) => cpu / Math.max(1, operations)),
  );
  const rate = 0.5e6 / cost;
  const samples = await turns(contestants, Math.min(rounds, 4), async ({ server }) => {
    const client = startOwnClient("paced", {
      port: server.port,
      connections: CONNECTIONS,
      rate,
      warmUp: 1,
      seconds: LATE_SECONDS,
    });
    await client.printed(/READY/);
    const before = meter(server);
    server.signal("SIGHUP"); // which begins with the ticks, and the next one reports
    const position = server.output.length;
    const [, latencies] = await client.printed(/RESULT (.*)\n/);
    server.signal("SIGHUP");
    const [, ticks] = await server.printed(/TICKS (.*)\n/, position);
    const { cpu, seconds } = used(before, meter(server));
    return { ...JSON.parse(latencies), ...JSON.parse(ticks), load: cpu / 1e6 / seconds };
  });
  return samples.map((all) => {
    const values = (name) => all.map((sample) => sample[name]);
    const total = values("late").reduce((sum, late) => sum + late, 0);
    return {
      rate,
      load: median(values("load")),
      late: total * 20 / (LATE_SECONDS * all.length),
      worst: Math.max(...values("worst")),
      p50: median(values("p50")),
      p99: median(values("p99")),
      clientP99: median(values("clientP99")),
    };
  });
}

/**
 * Programs that import, serve, stop and exit, one after the other in turns: CPU time in ms and the
 * peak of the resident memory in MB.
 */
export async function startUp(contestants, { rounds, runtime, certificates }) {
  const flags = runtime === "deno" ? ["run", "-A", PINNED, "--no-check"] : [];
  const samples = await turns(
    contestants,
    Math.max(Math.round(rounds / 2), 9),
    async ({ program }) => {
      const words = [
        runtimeBinary(runtime),
        ...flags,
        join(root, `bench/start_up/${program}.ts`),
      ];
      const client = join(root, "bench/clients/resources.mjs");
      const output = await runClient([runtimeBinary("bun"), client, JSON.stringify(words)], {
        CERTIFICATES: certificates,
      });
      return JSON.parse(output);
    },
  );
  return samples.map((all) => ({
    milliseconds: median(all.map(({ cpu }) => cpu / 1e3)),
    peak: median(all.map(({ peak }) => peak / KB)),
  }));
}
