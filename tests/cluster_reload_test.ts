/**
 * Rolling reloads lose no connection where the kernel moves those that wait to another socket, in a
 * network of the test's own.
 */
import assert from "node:assert/strict";
import { test } from "bun:test";
import process from "node:process";
import { KINDS, ownNetwork, runArguments } from "./cluster_support.ts";
import { assertRuntime } from "./runtime.ts";
import { start } from "./support.ts";

assertRuntime();

const network = ownNetwork();
if (typeof network === "string") {
  console.warn(`Reloads under load are left out: no network of our own can be made: ${network}`);
} else {
  for (const mode of KINDS) {
    test(
      `a reload of ${mode} under clients that reconnect loses none of their requests`,
      async () => {
        const [command = "", ...args] = network;
        const child = start(command, [
          ...[...args, process.execPath, ...runArguments("reload.ts")],
          ...["16", "20", "1", JSON.stringify({ mode })],
        ]);
        await child.done;
        const { asked, lost, losses, workers } = JSON.parse(child.output().trim()) as {
          asked: number;
          lost: number;
          losses: Record<string, number>;
          workers: number;
        };
        assert.equal(lost, 0, `${lost} of ${asked}: ${JSON.stringify(losses)}`);
        assert.ok(asked > 100 && workers === 4, `${asked} by ${workers}`);
      },
      90_000,
    );
  }
}
