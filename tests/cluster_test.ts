/** Clusters: workers that share a port, die, are replaced and stop, as processes and as threads. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  ask,
  askOn,
  type Held,
  isAlive,
  KINDS,
  launch,
  linesOf,
  oneToEach,
  START_MS,
  startCluster,
} from "./cluster_support.ts";
import { RawClient } from "./http_support.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { end, gone, start, turns, until } from "./support.ts";

assertRuntime();

/** Runtimes are started in each test, on a machine that may be busy. */
const LIMIT_MS = 60_000;

for (const mode of KINDS) {
  describe(`cluster() of ${mode}`, () => {
    test("shares connections out evenly, and the cap holds for all workers together", async () => {
      const limits = { maxConnections: 301, lruPurge: false };
      await using cluster = await startCluster({ mode }, { limits });
      const clients = await Promise.all(
        Array.from({ length: 280 }, () => RawClient.connect(cluster.port)),
      );
      // A worker that is at its cap keeps others waiting, unread.
      const served = new Map<number, number>();
      const askAll = (some: RawClient[]) => {
        const count = (name: number) => served.set(name, (served.get(name) ?? 0) + 1);
        for (const client of some) void askOn(client).then(({ name }) => count(name), () => {});
      };
      askAll(clients);
      const shares = () => [...served.values()].sort((a, b) => a - b);
      await until(
        () => shares().length === 2 && shares()[0]! >= 0.35 * clients.length,
        "each serves its part",
        START_MS,
      );
      const more = await Promise.all(
        Array.from({ length: 120 }, () => RawClient.connect(cluster.port)),
      );
      askAll(more);
      const all = () => shares().reduce((sum, share) => sum + share, 0);
      await until(() => all() >= 301, "the cap is reached", START_MS);
      await turns();
      assert.deepEqual(shares(), [150, 151]);
      for (const client of [...clients, ...more]) client.destroy();
    }, LIMIT_MS);

    test(
      "starts another worker where one has died, which costs only its own connections",
      async () => {
        await using cluster = await startCluster({ mode });
        const [kept, lost] = await oneToEach(cluster.port);
        if (mode === "processes") process.kill(lost.name, "SIGKILL");
        else lost.client.send("GET /exit HTTP/1.1\r\nHost: a\r\n\r\n");
        await gone(lost.client.socket);
        await until(() => cluster.count("ready") === 1, "another is ready", START_MS);
        const { name, calls } = await askOn(kept.client);
        assert.deepEqual({ name, calls }, { name: kept.name, calls: calls });
        const end = cluster.lines().find(({ type }) => type === "end")!;
        assert.equal(end.error?.code, "WORKER_FAILED");
        assert.match(
          end.error!.message,
          mode === "processes"
            ? /^Worker \d \(pid \d+\) ended by SIGKILL$/
            : /ended with exit code 9$/,
        );
        assert.ok(cluster.child.output().includes(`httpsd: ${end.error!.message}`));
        const fresh = await oneToEach(cluster.port);
        assert.ok(fresh.every(({ name }) => name !== lost.name));
        const workers = await cluster.workers();
        assert.deepEqual(workers.map(({ index, state }) => `${index} ${state}`).sort(), [
          "0 ready",
          "1 ready",
        ]);
        for (const { client } of [kept, lost, ...fresh]) client.destroy();
      },
      LIMIT_MS,
    );

    test("replaces workers new before old, and requests under way end", async () => {
      await using cluster = await startCluster({ mode });
      const old = await oneToEach(cluster.port);
      const slow = old.map(({ client }) => askOn(client, "/drained"));
      await turns();
      if (mode === "processes") cluster.signal("SIGHUP");
      else cluster.command("reload");
      await until(() => cluster.count("reload") === 1, "all are replaced", START_MS);
      assert.deepEqual(
        (await Promise.all(slow)).map(({ name }) => name),
        old.map(({ name }) => name),
      );
      assert.ok(old.every(({ client }) => client.text.includes("Connection: close")));
      const order = cluster.lines().map(({ type, worker }) => `${type} ${worker?.id}`);
      assert.ok(order.indexOf("ready 3") < order.indexOf("end 1"), `${order}`);
      assert.ok(order.indexOf("end 1") < order.indexOf("end 2"), `${order}`);
      assert.ok(cluster.lines().every(({ error }) => error === undefined));
      const fresh = await oneToEach(cluster.port);
      const names = [...old, ...fresh].map(({ name }) => name);
      assert.equal(new Set(names).size, 4, `${names}`);
      for (const { client } of [...old, ...fresh]) client.destroy();
    }, LIMIT_MS);

    test("stops within its deadline: requests end, and what is stuck is killed", async () => {
      const timeouts = { drainMs: 1_000 };
      await using cluster = await startCluster({ mode, timeouts });
      const [good, stuck] = await oneToEach(cluster.port);
      const answer = askOn(good.client, "/slow?ms=400");
      stuck.client.send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
      await turns();
      cluster.signal("SIGTERM");
      assert.equal((await answer).name, good.name);
      await cluster.child.done;
      assert.equal(cluster.process.exitCode, 0, cluster.child.output());
      if (mode === "processes") {
        assert.deepEqual([good, stuck].map(({ name }) => isAlive(name)), [false, false]);
      }
      assert.equal(cluster.count("stop"), 1);
      for (const { client } of [good, stuck]) client.destroy();
    }, LIMIT_MS);

    test(
      "kills and replaces a worker whose event loop hangs; the other one serves on",
      async () => {
        await using cluster = await startCluster({ mode, timeouts: { hangMs: 2_000 } });
        const [good, stuck] = await oneToEach(cluster.port);
        stuck.client.send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
        await until(() => cluster.count("ready") === 1, "another is ready", START_MS);
        assert.equal(
          cluster.lines().find(({ type }) => type === "end")!.error?.code,
          "WORKER_TIMEOUT",
        );
        assert.match(
          cluster.child.output(),
          /httpsd: Worker \d.* has not answered for 2000 ms: find/,
        );
        assert.equal((await askOn(good.client)).name, good.name);
        if (mode === "processes") assert.equal(isAlive(stuck.name), false);
        if (mode === "threads" && runtime === "deno") {
          // terminate() does not end it: that is reported, as it cannot be mended.
          const { error, worker } = cluster.lines().find(({ type }) => type === "stuck")!;
          assert.equal(error!.code, "WORKER_TIMEOUT");
          assert.match(error!.message, /^Worker \d \(pid \d+\) runs on: Deno cannot end a thread/);
          assert.equal(worker!.id, cluster.lines().find(({ type }) => type === "end")!.worker!.id);
          assert.match(cluster.child.output(), /httpsd: Worker \d \(pid \d+\) runs on: Deno/);
        } else {
          assert.equal(cluster.count("stuck"), 0);
          await Promise.all(Array.from({ length: 40 }, () => ask(cluster.port)));
        }
        for (const { client } of [good, stuck]) client.destroy();
      },
      LIMIT_MS,
    );

    test("fails with the reason when the program cannot start", async () => {
      const child = launch({ mode }, {}, "throw");
      await child.done;
      assert.match(
        child.output(),
        /ClusterError.*: Worker 1.* could not start: The program is broken/,
      );
      assert.notEqual(child.process.exitCode, 0);
      assert.doesNotMatch(child.output(), /Worker 2/);
    }, LIMIT_MS);
  });
}

test(
  "cluster() fails when the port is in use, and when a worker hangs or dies at its start",
  async () => {
    const blocker = net.createServer().listen(0, "127.0.0.1");
    await until(() => blocker.listening, "it listens");
    const { port } = blocker.address() as net.AddressInfo;
    const children = [
      launch({}, { port }),
      launch({ timeouts: { startMs: 3_000 } }, {}, "hang"),
      launch({}, {}, "die"),
      launch({ mode: "threads" }, { limits: { maxConnections: 1 } }),
    ];
    await Promise.all(children.map(({ done }) => done));
    blocker.close();
    const messages = [
      /WORKER_FAILED|could not start: Cannot listen on 127.0.0.1, port \d+: another .*\(ADDRESS_IN_USE\)/,
      /was not ready in 3000 ms/,
      /ended with exit code 3 before it was ready/,
      /limits.maxConnections is 1, which is for all 2 workers/,
    ];
    for (const [i, child] of children.entries()) {
      assert.match(child.output(), messages[i]!);
      assert.notEqual(child.process.exitCode, 0);
    }
  },
  LIMIT_MS,
);

test("says why a worker has failed that has ended before its supervisor read so", async () => {
  const child = launch({ workers: 1 }, {}, "unread");
  await child.done;
  assert.match(child.output(), /could not start: Nobody reads this yet/);
}, LIMIT_MS);

test("workers drain and end when their supervisor is killed", async () => {
  await using cluster = await startCluster({ timeouts: { drainMs: 5_000 } });
  const held = await oneToEach(cluster.port);
  const pids = held.map(({ name }) => name);
  assert.ok(pids.every(isAlive));
  const [slow] = held as [Held, Held];
  const answer = askOn(slow.client, "/slow?ms=1000");
  await turns();
  cluster.signal("SIGKILL");
  assert.equal((await answer).name, slow.name);
  await until(() => !pids.some(isAlive), "no worker is left", START_MS);
  await assert.rejects(RawClient.connect(cluster.port));
  for (const { client } of held) client.destroy();
}, LIMIT_MS);

test(
  "workers end, too, when their supervisor is killed that has not read what they sent",
  async () => {
    // Their end of the channel is reset then, and not closed.
    await using cluster = await startCluster({ timeouts: { hangMs: 2_000, drainMs: 1_000 } });
    const held = await oneToEach(cluster.port);
    const pids = held.map(({ name }) => name);
    cluster.command("block");
    await delay(1_200); // two beats of each
    cluster.signal("SIGKILL");
    await until(() => !pids.some(isAlive), "no worker is left", START_MS);
    for (const { client } of held) client.destroy();
  },
  LIMIT_MS,
);

test("a worker that is told to end by itself drains, and is replaced", async () => {
  await using cluster = await startCluster();
  const [one, other] = await oneToEach(cluster.port);
  const answer = askOn(one.client, "/slow?ms=500");
  await turns();
  process.kill(one.name, "SIGTERM");
  process.kill(other.name, "SIGINT"); // as a terminal sends it to all: nothing happens
  process.kill(other.name, "SIGHUP");
  assert.equal((await answer).name, one.name);
  await until(() => cluster.count("ready") === 1, "another is ready", START_MS);
  assert.equal((await askOn(other.client)).name, other.name);
  assert.equal(cluster.lines().find(({ type }) => type === "end")?.error, undefined);
  for (const { client } of [one, other]) client.destroy();
}, LIMIT_MS);

test(
  "logs name workers; what one sends that is malformed is ignored, and reported once",
  async () => {
    await using cluster = await startCluster();
    for (let i = 0; i < 20; i++) await ask(cluster.port, "/garble");
    await ask(cluster.port, "/log");
    // Requests counted in memory: a worker allows its part.
    const statuses: (string | undefined)[] = [];
    for (let i = 0; i < 60; i++) {
      const client = await RawClient.connect(cluster.port);
      client.send("GET /limited HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.until(() => client.text.includes("\r\n\r\n"));
      statuses.push(client.text.split(" ")[1]);
      client.destroy();
    }
    assert.equal(statuses.filter((status) => status === "200").length, 10, `${statuses}`);
    const { output } = cluster.child;
    await until(() => /^\[worker [12]\] a line 7$/m.test(output()), "it logs");
    const garbled = () => output().match(/sends what is not understood/g)?.length ?? 0;
    await until(() => garbled() > 0, "it is reported");
    assert.equal((await cluster.workers()).filter(({ state }) => state === "ready").length, 2);
    assert.ok(garbled() <= 2, output());
    const migrates = readFileSync("/proc/sys/net/ipv4/tcp_migrate_req", "latin1").trim() !== "0";
    assert.equal(output().match(/tcp_migrate_req is 0/g)?.length ?? 0, migrates ? 0 : 1);
  },
  LIMIT_MS,
);

test("examples/cluster.ts serves TLS with several workers, and ends at SIGTERM", async () => {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-cluster-"));
  const example = fileURLToPath(new URL("../examples/cluster.ts", import.meta.url));
  const args = ["WORKERS=2", "PORT=0", `CERTS=${folder}`, process.execPath];
  const flags = runtime === "deno" ? ["run", "-A", "--no-check", PINNED] : ["run"];
  const child = start("env", [...args, ...flags, example]);
  try {
    await until(() => /process \d+/.test(child.output()), "it runs", START_MS);
    const port = Number(/localhost:(\d+)/.exec(child.output())?.[1]);
    const names = new Set<string>();
    while (names.size < 2) {
      const { stdout } = await promisify(execFile)("curl", [
        ...["-s", "--cacert", join(folder, "ca.pem"), `https://localhost:${port}/`],
      ]);
      assert.match(stdout, /^Hello from worker [12]\n$/);
      names.add(stdout);
    }
    process.kill(child.process.pid!, "SIGTERM");
    await child.done;
    assert.equal(child.process.exitCode, 0, child.output());
  } finally {
    end(child);
    rmSync(folder, { recursive: true, force: true });
  }
}, LIMIT_MS);

if (runtime === "deno") {
  test("a worker has the permissions of its supervisor, and no others", async () => {
    const flags = ["--no-prompt", "--allow-net", "--allow-env", "--allow-run", "--allow-read"];
    const child = launch({ workers: 1 }, {}, "permissions", flags);
    await child.done;
    const { permissions } = linesOf(child).find(({ type }) =>
      type === "permissions"
    ) as unknown as {
      permissions: Record<string, string>;
    };
    assert.deepEqual(permissions, {
      net: "granted",
      read: "granted",
      env: "granted",
      run: "granted",
      write: "prompt", // which --no-prompt refuses
      sys: "prompt",
      ffi: "prompt",
    });
    const refused = launch({ workers: 1 }, {}, "", ["--no-prompt", "--allow-net"]);
    await refused.done;
    assert.match(refused.output(), /cluster\(\) needs Deno's --allow-env and --allow-run/);
  }, LIMIT_MS);
}
