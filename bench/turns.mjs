/**
 * The paired method. All servers of a row run at once on one core, and are loaded one after the
 * other in short turns, so that they stay warm, and what else the machine does meets all of them
 * alike: what is compared is what two servers used in the same round.
 */
import { meter, sleep, used, waitedNs } from "./processes.mjs";

const GOING_SECONDS = 0.03; // until a client that was stopped has its answers under way again
const RESTING_SECONDS = 0.02; // until the server has done what it was asked for
const FIRST_SECONDS = 0.4; // in which a client opens its connections

/**
 * Measures slots: each contestant has a client that loads it for ever, and all clients but one are
 * stopped (SIGSTOP) at any time. Resolves with the samples of each contestant.
 */
export async function inSlots(contestants, { rounds, slotSeconds }) {
  const clients = [];
  try {
    for (const { server, load } of contestants) {
      const client = await load.start(server);
      clients.push(client);
      await sleep(FIRST_SECONDS);
      client.signal("SIGSTOP");
    }
    return await turns(contestants, rounds, async ({ server }, i) => {
      const client = clients[i];
      if (client.code !== undefined) throw new Error(`A client ended:\n${client.output}`);
      client.signal("SIGCONT");
      await sleep(GOING_SECONDS);
      const [before, clientBefore, count] = [meter(server), meter(client), client.count()];
      await sleep(slotSeconds);
      const [after, clientAfter, last] = [meter(server), meter(client), client.count()];
      client.signal("SIGSTOP");
      await sleep(RESTING_SECONDS);
      const use = used(before, after, waitedNs(clientBefore, clientAfter));
      return { ...use, operations: last - count };
    });
  } finally {
    for (const client of clients) await client.stop();
  }
}

/** Measures whole runs of a client that does a fixed number of operations and ends. */
export async function inRuns(contestants, { rounds }) {
  return await turns(contestants, rounds, async ({ server, load }) => {
    const before = meter(server);
    const { operations, clientWaitedNs } = await load.run(server);
    return { ...used(before, meter(server), clientWaitedNs), operations };
  });
}

/** Calls `measure` for each contestant in each round, every other round in reverse. */
export async function turns(contestants, rounds, measure) {
  const samples = contestants.map(() => []);
  const order = [...contestants.entries()];
  for (let round = 0; round < rounds + 1; round++) {
    for (const [i, contestant] of round % 2 === 0 ? order : order.toReversed()) {
      const sample = await measure(contestant, i);
      if (round > 0) samples[i].push(sample); // the first round only warms up
    }
  }
  return samples;
}
