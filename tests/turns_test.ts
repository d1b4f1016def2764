/** The event loop's turns: a stall wrongs no client, and no client takes the turns of others. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers";
import { type Clock, systemClock } from "../lib/net/clock.ts";
import { TurnBudget } from "../lib/net/turns.ts";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, PATIENCE_MS } from "./runtime.ts";
import { certificates, startScript } from "./support.ts";

assertRuntime();

stopServersAfterAll();

/** Blocks the event loop for `ms` once `condition` holds; it may never hold where a test fails. */
function blockUntil(condition: () => boolean, ms: number): void {
  const hopeless = performance.now() + PATIENCE_MS;
  while (!condition() && performance.now() < hopeless);
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** Files by which two processes hear of each other, while one of them does nothing. */
class Signals {
  readonly #directory = mkdtempSync(join(tmpdir(), "httpsd-turns-"));
  /** The server is blocked. */
  readonly stalled = join(this.#directory, "stalled");
  /** The clients have sent what they send meanwhile. */
  readonly sent = join(this.#directory, "sent");

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}

/**
 * A script for a process of its own: `count` clients send `first`; another one asks for /stall, and
 * while that blocks the server they send `then`. Prints the status each of them is answered, or
 * "closed".
 */
async function clientsScript(
  mode: "plain" | "tls",
  port: number,
  { stalled, sent }: Signals,
  { count, first, then }: { count: number; first: string; then: string },
): Promise<string> {
  const { ca } = await certificates();
  const options = { port, host: "127.0.0.1", servername: "localhost", ca };
  return `
    const { existsSync, writeFileSync } = await import("node:fs");
    const { connect } = await import(${JSON.stringify(mode === "plain" ? "node:net" : "node:tls")});
    const open = () => new Promise((resolve) => {
      const socket = connect(${JSON.stringify(options)}, () => resolve(socket));
      socket.on("error", () => {});
    });
    const sockets = [];
    for (let i = 0; i < ${count}; i++) sockets.push(await open());
    const statuses = sockets.map((socket) => new Promise((resolve) => {
      let text = "";
      socket.on("data", (bytes) => {
        text += bytes;
        const status = /^HTTP\\/1\\.1 (\\d+)/.exec(text);
        if (status !== null) resolve(status[1]);
      });
      socket.on("close", () => resolve("closed"));
      socket.on("end", () => resolve("closed"));
    }));
    const staller = await open();
    staller.on("data", () => {});
    for (const socket of sockets) socket.write(${JSON.stringify(first)});
    staller.write(${JSON.stringify(GET("/stall"))});
    while (!existsSync(${JSON.stringify(stalled)})) await new Promise((go) => setTimeout(go, 5));
    const send = (socket) => new Promise((go) => socket.write(${JSON.stringify(then)}, go));
    await Promise.all(sockets.map(send));
    writeFileSync(${JSON.stringify(sent)}, "");
    console.log((await Promise.all(statuses)).join(" "));
    for (const socket of [...sockets, staller]) socket.destroy();
  `;
}

/** A clock that goes during stalls only, so that a busy machine's clients may take their time. */
class StallClock implements Clock {
  readonly every: Clock["every"] = systemClock.every;
  readonly afterReading: Clock["afterReading"] = systemClock.afterReading;
  #now = 0;

  now(): number {
    return this.#now;
  }

  /** Blocks the event loop until the clients have sent, which takes `ms` on this clock. */
  stall({ stalled, sent }: Signals, ms: number): void {
    writeFileSync(stalled, "");
    blockUntil(() => existsSync(sent), 100);
    this.#now += ms;
  }
}

describe("a stall of the event loop", () => {
  const TIMEOUT_MS = 600;
  const STALL_MS = 2_000;
  const options = { timeouts: { idleMs: TIMEOUT_MS, headersMs: TIMEOUT_MS } };
  const cases = {
    "40 requests that were sent in time": { count: 40, first: "", then: GET("/") },
    "10 heads that were completed in time": {
      count: 10,
      first: "GET / HTTP/1.1\r\n",
      then: "Host: a\r\n\r\n",
    },
  };
  for (const mode of MODES) {
    for (const [what, script] of Object.entries(cases)) {
      test(`costs none of ${what} its answer, ${mode}`, async () => {
        const clock = new StallClock();
        using signals = new Signals();
        const { port } = await started(
          (request) => {
            if (request.url.endsWith("/stall")) clock.stall(signals, STALL_MS);
            return new Response("x");
          },
          options,
          mode,
          clock,
        );
        const child = startScript(await clientsScript(mode, port, signals, script));
        assert.equal((await child.done).trim(), Array(script.count).fill("200").join(" "));
      }, 20_000);
    }
  }
});

describe("a client that pipelines 20,000 requests", () => {
  for (const mode of MODES) {
    test(`leaves others their turns, ${mode}`, async () => {
      let turns = 0;
      let most = 0;
      let inTurn = 0;
      let over = false;
      const count = (): void => {
        turns++;
        most = Math.max(most, inTurn);
        inTurn = 0;
        if (!over) setImmediate(count);
      };
      const { port } = await started(
        (request) => {
          if (request.url.endsWith("/many")) inTurn++;
          return new Response("x");
        },
        {},
        mode,
      );
      const [many, good] = [
        await RawClient.connect(port, mode),
        await RawClient.connect(port, mode),
      ];
      count();
      many.send(GET("/many").repeat(19_999));
      many.send("GET /many HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      good.send(GET("/"));
      await good.expect("\r\n\r\nx");
      const before = many.text.split("HTTP/1.1 200").length - 1;
      assert.equal((await many.rest()).split("HTTP/1.1 200").length - 1, 20_000);
      over = true;
      assert.ok(most <= 128, `${most} requests were served between two turns`);
      assert.ok(turns > 150, `${turns} turns`);
      assert.ok(before < 20_000, "the other client did not wait for all");
      many.destroy();
      good.destroy();
    }, 20_000);
  }
});

describe("TurnBudget", () => {
  test("puts off what is beyond it, and goes on in the next turn", async () => {
    const { promise: resumed, resolve } = Promise.withResolvers<void>();
    const budget = new TurnBudget(2, resolve);
    for (let i = 0; i < 2; i++) {
      assert.equal(budget.mayGoOn(), true);
      budget.spend();
    }
    assert.equal(budget.waiting, false);
    assert.equal(budget.mayGoOn(), false);
    budget.renew(); // bytes that come meanwhile give no more
    assert.deepEqual([budget.mayGoOn(), budget.waiting], [false, true]);
    await resumed;
    assert.deepEqual([budget.mayGoOn(), budget.waiting], [true, false]);
  });

  test("goes on beyond what is sure while the turn is short", () => {
    let now = 0;
    const served = (ms: number): number => {
      const budget = new TurnBudget(64, () => {}, 16, () => now);
      let pieces = 0;
      for (; budget.mayGoOn(); pieces++) {
        budget.spend();
        now += ms;
      }
      return pieces;
    };
    assert.deepEqual([0, 0.01, 0.02, 0.04, 0.1, 5].map(served), [64, 64, 64, 33, 17, 17]);
  });
});
