/** The supervisor of a cluster with workers that are not real: back-off, deadlines, what it believes. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { Launch, WorkerListener } from "../lib/cluster/launch.ts";
import { readFromSupervisor, readFromWorker, readStart } from "../lib/cluster/messages.ts";
import { type ClusterOptions, resolveCluster } from "../lib/cluster/options.ts";
import { ClusterSupervisor } from "../lib/cluster/supervisor.ts";
import type { WorkerStart } from "../lib/cluster/messages.ts";
import { partOf, placeOf, rateOf, type Share } from "../lib/share.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();

/** A worker that is not real, and what it was told. */
class FakeWorker {
  readonly start: WorkerStart;
  readonly told: object[] = [];
  killed = 0;
  readonly #listener: WorkerListener;

  constructor(start: WorkerStart, listener: WorkerListener) {
    this.start = start;
    this.#listener = listener;
  }

  say(message: unknown): void {
    this.#listener.message(message);
  }

  ready(): void {
    this.say({ httpsd: "cluster", type: "ready" });
  }

  end(how = "with exit code 1", clean = false): void {
    this.#listener.ended(how, clean);
  }
}

/** A supervisor of such workers; `behave` is called with each. */
function supervise(
  options: ClusterOptions,
  behave: (worker: FakeWorker, nth: number) => void,
  onKill: (worker: FakeWorker) => void = (worker) => worker.end("by SIGKILL"),
  runsOn?: string,
) {
  const workers: FakeWorker[] = [];
  const lines: string[] = [];
  const launch: Launch = (start, listener) => {
    const worker = new FakeWorker(start, listener);
    workers.push(worker);
    queueMicrotask(() => behave(worker, start.id));
    return {
      pid: 10_000 + start.id,
      ...(runsOn !== undefined && { runsOn }),
      send: (message) => void worker.told.push(message),
      kill() {
        worker.killed++;
        onKill(worker);
      },
    };
  };
  const config = resolveCluster({ workers: 2, log: (line) => void lines.push(line), ...options });
  return { supervisor: new ClusterSupervisor(config, launch), workers, lines };
}

const ready = (worker: FakeWorker): void => worker.ready();

describe("ClusterSupervisor", () => {
  test("starts one worker, then the others, and tells them the ports that the system chose", async () => {
    const { supervisor, workers } = supervise({ workers: 3 }, (worker, nth) => {
      if (nth === 1) {
        assert.equal(workers.length, 1);
        worker.say({ httpsd: "cluster", type: "listening", nth: 0, port: 4_711 });
      }
      worker.ready();
    });
    await supervisor.start();
    assert.deepEqual(
      workers.map(({ start: { id, index, of, ports } }) => ({ id, index, of, ports })),
      [
        { id: 1, index: 0, of: 3, ports: {} },
        { id: 2, index: 1, of: 3, ports: { 0: 4_711 } },
        { id: 3, index: 2, of: 3, ports: { 0: 4_711 } },
      ],
    );
    assert.deepEqual(supervisor.workers.map(({ state }) => state), ["ready", "ready", "ready"]);
  });

  test("waits twice as long each time that a worker dies at its start, and reports it once", async () => {
    const timeouts = { restartMs: 4, maxRestartMs: 20 };
    const begun: number[] = [];
    const { supervisor, workers, lines } = supervise({ workers: 1, timeouts }, (worker, nth) => {
      begun.push(performance.now());
      if (nth === 1 || nth === 12) worker.ready();
      else worker.end();
    });
    const failing: (string | undefined)[] = [];
    supervisor.addEventListener("failing", ({ error }) => void failing.push(error?.code));
    await supervisor.start();
    workers[0]!.end("by SIGSEGV");
    await until(
      () => workers.length === 12 && supervisor.workers[0]?.state === "ready",
      "it lives",
    );
    const pauses = begun.slice(1).map((at, i) => at - begun[i]!);
    for (const [i, pause] of pauses.slice(1).entries()) {
      const least = Math.min(20, 4 * 2 ** (i + 1));
      assert.ok(pause >= least - 1.5, `pause ${i + 1} is ${pause}, not ${least}`);
    }
    assert.deepEqual(failing, ["WORKER_FAILED"]);
    assert.equal(lines.filter((line) => line.includes("5 times in a row")).length, 1);
    assert.match(lines[0]!, /^httpsd: Worker 1 \(pid 10001\) ended by SIGSEGV$/);
    await stopped(supervisor, workers);
  });

  test("rejects when a first worker fails, and stops the others", async () => {
    const { supervisor, workers } = supervise({ workers: 3 }, (worker, nth) => {
      if (nth !== 3) return worker.ready();
      worker.say({
        httpsd: "cluster",
        type: "failed",
        message: "No key",
        code: "INVALID_CERTIFICATE",
      });
      worker.end();
    }, (worker) => worker.end("by SIGKILL"));
    const starting = supervisor.start();
    await until(() => workers[0]?.told.length === 1 && workers[1]?.told.length === 1, "they drain");
    for (const worker of workers.slice(0, 2)) worker.end("with exit code 0", true);
    await assert.rejects(starting, {
      code: "WORKER_FAILED",
      message: "Worker 3 (pid 10003) could not start: No key (INVALID_CERTIFICATE)",
    });
    assert.deepEqual(supervisor.workers, []);
  });

  test("kills what is not ready in time, and what does not end, even if no end is reported", async () => {
    const timeouts = { startMs: 30, drainMs: 0 };
    const { supervisor, workers } = supervise(
      { workers: 1, timeouts },
      () => {},
      () => {},
    );
    await assert.rejects(supervisor.start(), { code: "WORKER_TIMEOUT", message: /in 30 ms/ });
    assert.equal(workers[0]!.killed > 0, true);
  });

  test("kills a worker whose event loop hangs, and starts another; not one that says it is alive", async () => {
    const alive = new Set<FakeWorker>();
    const timeouts = { hangMs: 200, restartMs: 1, startMs: 5_000 };
    const { supervisor, workers, lines } = supervise({ workers: 2, timeouts }, (worker, nth) => {
      assert.equal(worker.start.beatMs, 50);
      worker.ready();
      if (nth !== 2) alive.add(worker);
    });
    const beats = setInterval(() => {
      for (const worker of alive) worker.say({ httpsd: "cluster", type: "beat" });
    }, 5);
    await supervisor.start();
    await until(() => workers.length === 3 && supervisor.workers.length === 2, "it is replaced");
    assert.deepEqual(workers.map(({ killed }) => killed), [0, 1, 0]);
    assert.deepEqual(lines, [
      "httpsd: Worker 2 (pid 10002) has not answered for 200 ms: find what blocks its event loop, or " +
      "raise timeouts.hangMs",
    ]);
    clearInterval(beats);
    supervisor.kill();
  });

  test("reports each worker that runs on although it was killed, by a line and by an event", async () => {
    const timeouts = { hangMs: 200, restartMs: 1, drainMs: 10, startMs: 5_000 };
    const why = "It cannot be ended";
    const end = (worker: FakeWorker) => worker.end("with exit code 1");
    const { supervisor, workers, lines } = supervise({ workers: 1, timeouts }, ready, end, why);
    const stuck: (number | string | undefined)[] = [];
    supervisor.addEventListener("stuck", ({ worker, error }) => {
      stuck.push(worker?.id, error?.code, error?.message);
    });
    const beats = setInterval(() => {
      for (const worker of workers.slice(1)) worker.say({ httpsd: "cluster", type: "beat" });
    }, 5);
    await supervisor.start();
    await until(() => workers.length === 2 && supervisor.workers[0]?.state === "ready", "another");
    const line = (id: number) => `Worker ${id} (pid ${10_000 + id}) runs on: ${why}`;
    const first = [1, "WORKER_TIMEOUT", line(1)];
    assert.deepEqual(stuck, first);
    await supervisor.reload(); // the other one does not end when it is asked to
    assert.deepEqual(stuck, [...first, 2, "WORKER_TIMEOUT", line(2)]);
    assert.deepEqual(lines.filter((line) => line.includes("runs on")), [
      `httpsd: ${line(1)}`,
      `httpsd: ${line(2)}`,
    ]);
    clearInterval(beats);
    supervisor.kill();
  });

  test("lets a worker hang for ever when hangMs is 0", async () => {
    const { supervisor, workers } = supervise({ workers: 1, timeouts: { hangMs: 0 } }, ready);
    await supervisor.start();
    assert.equal(workers[0]!.start.beatMs, 0);
    supervisor.kill();
  });

  test("keeps the old workers when a new one does not get ready", async () => {
    const { supervisor, workers } = supervise({}, (worker, nth) => {
      if (nth === 3) worker.end();
      else worker.ready();
    });
    await supervisor.start();
    await assert.rejects(supervisor.reload(), {
      code: "WORKER_FAILED",
      message: /before it was ready/,
    });
    assert.deepEqual(supervisor.workers.map(({ id }) => id), [1, 2]);
    assert.ok(workers.every(({ told }) => told.length === 0));
    await stopped(supervisor, workers);
  });

  test("reloads once more, not more often, when it is asked to during a reload", async () => {
    const { supervisor, workers } = supervise({ workers: 1 }, ready);
    await supervisor.start();
    const first = supervisor.reload();
    const again = [supervisor.reload(), supervisor.reload()];
    await until(() => workers.length === 2, "a new one");
    workers[0]!.end("with exit code 0", true);
    await first;
    await until(() => workers.length === 3, "and once more");
    workers[1]!.end("with exit code 0", true);
    await Promise.all(again);
    assert.deepEqual(supervisor.workers.map(({ id }) => id), [3]);
    await stopped(supervisor, workers);
    await assert.rejects(supervisor.reload(), { code: "NOT_STARTED" });
  });

  test("starts no second worker where one dies while its successor starts", async () => {
    const { supervisor, workers } = supervise(
      { workers: 1, timeouts: { restartMs: 1 } },
      (worker, nth) => {
        if (nth === 1) worker.ready();
        else {
          workers[0]!.end("by SIGKILL");
          setTimeout(() => worker.ready(), 30);
        }
      },
    );
    await supervisor.start();
    await supervisor.reload();
    assert.equal(workers.length, 2);
    await stopped(supervisor, workers);
  });

  test("starts another where one dies before the others are ready", async () => {
    const timeouts = { restartMs: 1 };
    const { supervisor, workers, lines } = supervise({ timeouts }, (worker, nth) => {
      if (nth !== 2) worker.ready();
    });
    const starting = supervisor.start();
    await until(() => workers.length === 2, "the second");
    workers[0]!.end("by SIGSEGV");
    await until(() => workers.length === 3, "another in the place of the first");
    workers[1]!.ready();
    await starting;
    assert.deepEqual(supervisor.workers.map(({ id, index }) => [id, index]), [[2, 1], [3, 0]]);
    assert.deepEqual(lines, ["httpsd: Worker 1 (pid 10001) ended by SIGSEGV"]);
    await stopped(supervisor, workers);
  });

  test("starts none after it was stopped, in a place that was empty when it reloaded", async () => {
    const timeouts = { restartMs: 20 };
    const { supervisor, workers } = supervise({ workers: 1, timeouts }, (worker, nth) => {
      if (nth === 1) worker.ready();
    });
    await supervisor.start();
    workers[0]!.end("by SIGSEGV");
    const reloading = supervisor.reload();
    await until(() => workers.length === 2, "the one that is to take its place");
    await supervisor.stop();
    await assert.rejects(reloading, { code: "WORKER_FAILED" });
    await new Promise((resolve) => setTimeout(resolve, 3 * timeouts.restartMs));
    assert.equal(workers.length, 2);
  });

  test("waits no longer for a worker that drains when it is stopped with a shorter time", async () => {
    const { supervisor, workers } = supervise({ workers: 1, timeouts: { drainMs: 60_000 } }, ready);
    await supervisor.start();
    const reloading = supervisor.reload();
    await until(() => workers[0]!.told.length === 1, "the first one drains");
    const stopping = supervisor.stop({ drainMs: 0 });
    workers[1]!.end("with exit code 0", true);
    await Promise.all([stopping, reloading]);
    assert.deepEqual(workers.map(({ killed }) => killed), [1, 0]);
  });

  test("kills a worker that drains by itself, and does not end", async () => {
    const timeouts = { drainMs: 0, restartMs: 1 };
    const { supervisor, workers } = supervise({ workers: 1, timeouts }, ready);
    await supervisor.start();
    workers[0]!.say({ httpsd: "cluster", type: "draining" });
    await until(() => workers.length === 2, "another in its place");
    assert.equal(workers[0]!.killed, 1);
    await stopped(supervisor, workers);
  });

  test("contains listeners and log functions that throw, and refuses unknown events", async () => {
    const { supervisor, workers } = supervise({
      workers: 1,
      timeouts: { restartMs: 1 },
      log() {
        throw new Error("A log that is full");
      },
    }, ready);
    const { error } = console;
    const shown: unknown[] = [];
    console.error = (...args) => void shown.push(args[0]);
    try {
      supervisor.addEventListener("ready", () => {
        throw new Error("A listener that is broken");
      });
      await supervisor.start();
      workers[0]!.end();
      await until(() => supervisor.workers[0]?.state === "ready", "another is ready");
    } finally {
      console.error = error;
    }
    assert.ok(shown.length >= 3, `${shown}`);
    assert.throws(
      () => supervisor.addEventListener("redy" as "ready", () => {}),
      /did you mean ready/,
    );
    assert.throws(() => supervisor.addEventListener("ready", 7 as never), {
      code: "INVALID_CONFIG",
    });
    await stopped(supervisor, workers);
  });
});

/** Stops a supervisor whose workers end as soon as they are told to. */
async function stopped(
  supervisor: ClusterSupervisor,
  workers: readonly FakeWorker[],
): Promise<void> {
  const stopping = supervisor.stop();
  assert.equal(stopping, supervisor.stop());
  for (const worker of workers) worker.end("with exit code 0", true);
  await stopping;
  assert.deepEqual(supervisor.workers, []);
}

test("messages are read strictly, and those of the program left alone", () => {
  const mark = { httpsd: "cluster" };
  for (const foreign of [undefined, null, 7, "x", [], {}, { type: "ready" }, { httpsd: "other" }]) {
    assert.equal(readFromWorker(foreign), "foreign");
    assert.equal(readFromSupervisor(foreign), "foreign");
  }
  for (
    const bad of [
      {},
      { type: "ready", more: 1 },
      { type: "exit" },
      { type: "listening", nth: 0, port: 0 },
      { type: "listening", nth: 5_000, port: 1 },
      { type: "failed", message: "x".repeat(10_001) },
      { type: "drain", drainMs: 1 },
    ]
  ) assert.equal(readFromWorker({ ...mark, ...bad }), undefined, JSON.stringify(bad));
  assert.equal(readFromSupervisor({ ...mark, type: "drain", drainMs: -1 }), undefined);
  assert.equal(readFromSupervisor({ ...mark, type: "ready" }), undefined);
  const start = { id: 1, index: 0, of: 1, ports: { 0: 80 }, drainMs: 1, beatMs: 0, nameLogs: true };
  assert.deepEqual(readStart(JSON.stringify(start)), start);
  for (const bad of ["", "{", "null", JSON.stringify({ ...start, ports: { a: 1 } })]) {
    assert.equal(readStart(bad), undefined);
  }
});

test("the parts of what is shared out add up to the whole", () => {
  for (const total of [1, 2, 7, 10_000]) {
    for (const  of of[1, 2, 3, 8]) {
      const parts = Array.from({ length: of }, (_, index) => partOf(total, { index, of }));
      assert.equal(parts.reduce((sum, part) => sum + part), total);
      assert.ok(Math.max(...parts) - Math.min(...parts) <= 1);
    }
  }
  assert.equal(partOf(Infinity, { index: 1, of: 2 }), Infinity);
  assert.deepEqual([
    rateOf(7),
    rateOf(7, { of: 2, index: 1 } as Share),
    rateOf(1, { of: 2, index: 1 } as Share),
  ], [7, 3, 1]);
  const share = { index: 0, of: 2 } as Share;
  const limits = { maxConnections: 5 };
  assert.equal(
    placeOf({ port: 1, reusePort: false, limits }, share).config.limits.maxConnections,
    3,
  );
  for (const where of [{ path: "/x" }, { fd: 3 }]) {
    assert.throws(() => placeOf({ port: 1, reusePort: false, limits, ...where }, share), {
      code: "INVALID_CONFIG",
      message: /is not for the workers of a cluster/,
    });
  }
});
