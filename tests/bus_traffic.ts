/** Traffic between the servers of a cluster, and the check that it came whole and in order. */
import { setImmediate } from "node:timers/promises";
import type { FrameClient } from "./websocket_support.ts";

/** Publishes `count` numbered messages, some at a time. */
export async function publishMany(
  server: { publish(topic: string, data: string): number },
  topic: string,
  count: number,
  sender: string,
): Promise<void> {
  for (let i = 0; i < count; i++) {
    server.publish(topic, `${sender} ${i} ${"x".repeat(i % 200)}`);
    if (i % 100 === 99) await setImmediate();
  }
}

/** Reads so many messages of each sender; throws for one that is missing or out of its order. */
export async function readMany(
  client: FrameClient,
  count: number,
  senders: readonly string[],
): Promise<void> {
  const next = new Map(senders.map((sender) => [sender, 0]));
  for (let i = 0; i < count * senders.length; i++) {
    const [sender = "", number] = (await client.text()).slice(2).split(" ");
    const expected = next.get(sender);
    if (String(expected) !== number) {
      throw new Error(`${sender} ${number} came, and ${sender} ${expected} was to come`);
    }
    next.set(sender, expected! + 1);
  }
}
