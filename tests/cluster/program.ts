/**
 * The program of the cluster's tests: `cluster()` with the options of the first argument, as JSON,
 * and a server with those of the second. The supervisor writes what it knows as lines of JSON, and
 * takes commands on its standard input.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { serve } from "../../mod.ts";
import { WORKER_VARIABLE } from "../../lib/cluster/messages.ts";
import { cluster } from "../../lib/cluster/mod.ts";
import { rateLimit } from "../../lib/rate_limit/mod.ts";

const [options = "{}", server = "{}", failing = ""] = process.argv.slice(2);

/** What a worker does. */
async function app(): Promise<void> {
  if (failing === "throw") throw new Error("The program is broken");
  if (failing === "hang") await new Promise(() => setInterval(() => {}, 1_000));
  if (failing === "die") process.exit(3);
  if (failing === "unread") {
    writeFileSync(`${tmpdir()}/httpsd-failing-${process.ppid}`, "");
    throw new Error("Nobody reads this yet");
  }
  if (failing === "permissions") {
    const { Deno } = globalThis as unknown as {
      Deno: { permissions: { querySync(it: object): { state: string } } };
    };
    const names = ["net", "read", "env", "run", "write", "sys", "ffi"];
    const states = names.map((name) => [name, Deno.permissions.querySync({ name }).state]);
    process.stdout.write(
      `${JSON.stringify({ type: "permissions", permissions: Object.fromEntries(states) })}\n`,
    );
    throw new Error("That is all");
  }
  const { threadId } = await import("node:worker_threads");
  const name = threadId === 0 ? process.pid : threadId;
  const limit = rateLimit({ limit: 10, windowMs: 60_000 });
  let calls = 0;
  const { address } = await serve(JSON.parse(server), async (request, { session }) => {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/slow") await delay(Number(searchParams.get("ms")));
    if (pathname === "/drained") await new Promise((resolve) => draining(resolve));
    if (pathname === "/exit") setTimeout(() => process.exit(9));
    if (pathname === "/block") { for (;;); // an event loop that is stuck
     }
    if (pathname === "/garble") {
      process.send?.({ httpsd: "cluster", type: "listening", nth: -1, port: "x" });
      process.send?.("hello");
      process.send?.({ mine: true });
    }
    if (pathname === "/limited") {
      const { refusal } = await limit.take(request, session);
      if (refusal !== undefined) return refusal;
    }
    if (pathname === "/log") console.log("a line %d", 7);
    return Response.json({ name, calls: ++calls });
  });
  console.log("PORT", address.port);
}

/** Calls `then` when this worker is to end. */
function draining(then: (event: Event) => void): void {
  if (started.role === "worker") started.signal.addEventListener("abort", then);
}

/** Does nothing else until a worker has failed and, with all probability, ended. */
function readNothing(): void {
  const file = `${tmpdir()}/httpsd-failing-${process.pid}`;
  const until = performance.now() + 20_000;
  while (!existsSync(file) && performance.now() < until);
  rmSync(file, { force: true });
  const end = performance.now() + 500;
  while (performance.now() < end);
}

if (failing === "unread" && process.env[WORKER_VARIABLE] === undefined) setTimeout(readNothing);
const started = await cluster(JSON.parse(options), app);
if (started.role === "supervisor") {
  const write = (value: unknown) => console.log(JSON.stringify(value));
  for (const type of ["ready", "end", "failing", "stuck", "reload", "stop"] as const) {
    started.addEventListener(type, ({ worker, error }) => {
      write({ type, worker, error: error && { code: error.code, message: error.message } });
    });
  }
  write({ type: "started", pid: process.pid, workers: started.workers });
  const commands = createInterface({ input: process.stdin });
  commands.on("line", async (line) => {
    if (line === "workers") write({ type: "workers", workers: started.workers });
    if (line === "block") { for (;;); // reads nothing any more
     }
    if (line === "reload") {
      await started.reload().catch(({ code }) => write({ type: "reload failed", code }));
    }
    if (line === "stop") {
      await started.stop();
      process.exit(0);
    }
  });
}
