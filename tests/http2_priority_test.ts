/** Which answer goes first over HTTP/2 (RFC 9218), on sockets: what a small window lets through. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Http2Client, priorityUpdate, Setting, windowUpdate } from "./http2_client.ts";
import { MODES, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();
stopServersAfterAll();

const CONNECTION_WINDOW = 65_535;

for (const mode of MODES) {
  describe(`Priorities, ${mode}`, () => {
    /** A client whose connection window is used up, so that each further byte is one it gives. */
    async function blockedClient(): Promise<Http2Client> {
      const { port } = await started(
        (request) => new Response("x".repeat(Number(new URL(request.url).pathname.slice(1)))),
        {},
        mode,
      );
      const client = await Http2Client.connect(port, mode, {
        giveBack: false,
        settings: [[Setting.INITIAL_WINDOW_SIZE, 10_000_000]],
      });
      await client.ready();
      const { body } = await client.answer(client.request({ path: `/${CONNECTION_WINDOW}` }));
      assert.equal(body.length, CONNECTION_WINDOW);
      return client;
    }

    /** Asks for an answer of so many bytes, and waits until it waits. */
    async function ask(client: Http2Client, bytes: number, priority?: string): Promise<number> {
      const fields = priority === undefined ? [] : [["priority", priority] as const];
      const id = client.request({ path: `/${bytes}`, fields });
      await client.until(() => client.soFar(id).status === 200, "the head");
      await client.settled();
      return id;
    }

    /** Gives the connection so many bytes; how many came on each stream by that. */
    async function give(client: Http2Client, bytes: number, ids: number[]): Promise<number[]> {
      const sizes = () => ids.map((id) => client.soFar(id).body.length);
      const sum = (all: number[]) => all.reduce((total, size) => total + size, 0);
      const before = sizes();
      client.send(windowUpdate(0, bytes));
      await client.until(() => sum(sizes()) === sum(before) + bytes, "all that was given");
      return sizes().map((size, i) => size - before[i]!);
    }

    test("a small answer passes a large download that no one has called urgent", async () => {
      using client = await blockedClient();
      const large = await ask(client, 1_000_000);
      assert.deepEqual(await give(client, 100_000, [large]), [100_000]);
      const small = await ask(client, 5_000);
      assert.deepEqual(await give(client, 6_000, [large, small]), [1_000, 5_000]);
    });

    test("large downloads go side by side for a client that says nothing", async () => {
      using client = await blockedClient();
      const ids = [await ask(client, 1_000_000), await ask(client, 1_000_000)];
      const [first = 0, second = 0] = await give(client, 320_000, ids);
      assert.ok(Math.abs(first - second) <= 16_384, `${first} and ${second}`);
    });

    test("the more urgent goes first, but for one turn in sixteen", async () => {
      using client = await blockedClient();
      const ids = [
        await ask(client, 1_000_000, "u=5"),
        await ask(client, 1_000_000, "u=1"),
        await ask(client, 1_000_000, "u=2, i"),
      ];
      const [last = 0, first = 0, other = 0] = await give(client, 320_000, ids);
      assert.ok(first >= 320_000 * 14 / 16, `${[last, first, other]}`);
      assert.ok(last > 0 || other > 0, "none starves");
    });

    test("answers that are not incremental go one after the other", async () => {
      using client = await blockedClient();
      const ids = [await ask(client, 30_000, "u=3"), await ask(client, 30_000, "u=3")];
      assert.deepEqual(await give(client, 40_000, ids), [30_000, 10_000]);
    });

    test("incremental ones go side by side", async () => {
      using client = await blockedClient();
      const ids = [await ask(client, 50_000, "i"), await ask(client, 50_000, "i")];
      const [first = 0, second = 0] = await give(client, 60_000, ids);
      assert.ok(Math.abs(first - second) <= 16_384, `${first} and ${second}`);
    });

    test("PRIORITY_UPDATE changes an answer that waits", async () => {
      using client = await blockedClient();
      const ids = [await ask(client, 50_000, "u=2"), await ask(client, 50_000, "u=1")];
      assert.deepEqual(await give(client, 20_000, ids), [0, 20_000]);
      client.send(priorityUpdate(ids[0]!, "u=0"));
      assert.deepEqual(await give(client, 20_000, ids), [20_000, 0]);
    });

    test("PRIORITY_UPDATE before its request counts more than the field", async () => {
      using client = await blockedClient();
      const first = await ask(client, 50_000, "u=4");
      client.send(priorityUpdate(first + 2, "u=0"));
      const second = await ask(client, 50_000, "u=7");
      assert.deepEqual(await give(client, 20_000, [first, second]), [0, 20_000]);
    });
  });
}
