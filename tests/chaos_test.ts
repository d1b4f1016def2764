/**
 * Chaos: clients of every kind and a server whose every deadline is short, which is reloaded, restarted,
 * stalled, kept from opening descriptors, and has its sessions closed, purged and cut; at random, but
 * from a seed. Nothing is lost: no answer is wrong, doubled or misplaced; what was not answered was not
 * touched, unless the connection was cut under it; events come in a legal order; every session ends
 * within its deadlines; and nothing is left: no session, descriptor, timer or memory.
 *
 * `npm run chaos -- --seconds 600 --seed 7` takes longer (`HTTPSD_CHAOS_SECONDS`, `HTTPSD_SEED`).
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { play, ROLES, World } from "./chaos/clients.ts";
import { HTTP2_ROLES } from "./chaos/http2_clients.ts";
import type { Command, Report } from "./chaos/protocol.ts";
import { Random } from "./random.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";

assertRuntime();

const SECONDS = Number(process.env["HTTPSD_CHAOS_SECONDS"] ?? 40);
const SEED = Number(process.env["HTTPSD_SEED"] ?? 20261127);
const verbose = process.env["HTTPSD_CHAOS_SECONDS"] !== undefined;

/** The most descriptors that the server may open. */
const DESCRIPTORS = 128;
/** How long the server may take to be rid of clients that do nothing any more. */
const QUIET_MS = 12_000;

/** The server in its process. */
class ChildServer {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #exit: Promise<unknown[]>;
  #errors = "";

  constructor(mode: string) {
    const script = fileURLToPath(new URL("./chaos/server.ts", import.meta.url));
    const args = runtime === "deno"
      ? ["run", "-A", "--quiet", PINNED, script, mode]
      : [script, mode];
    const limited = `ulimit -n ${DESCRIPTORS} && exec "$0" "$@"`;
    const child = this.#process = spawn("sh", ["-c", limited, process.execPath, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      // Deno's check for updates ends the process where no descriptor is free: docs/runtimes.md.
      env: { ...process.env, DENO_NO_UPDATE_CHECK: "1" },
    });
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    child.stderr!.on("data", (bytes: Uint8Array) => this.#errors += String(bytes));
    this.#exit = once(child, "exit");
  }

  /** Sends a line, and gives what it is answered with. */
  async ask(line: Command | { cert: string; key: string }): Promise<Report> {
    this.#process.stdin!.write(`${JSON.stringify(line)}\n`);
    const { value } = await this.#lines.next();
    assert.ok(value !== undefined, `the server is gone: ${this.#errors}`);
    return JSON.parse(value);
  }

  /** Ends the input, upon which the server stops and has to end by itself. */
  async end(): Promise<void> {
    this.#process.stdin!.end();
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 15_000);
    const [code, signal] = await this.#exit;
    clearTimeout(timer);
    assert.deepEqual([code, signal, this.#errors], [0, null, ""], "a timer or a socket is left");
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }
}

const pairs = await (async () => {
  const ca = await createCertificateAuthority();
  const issue = () => ca.issue().then(({ cert, key }) => ({ cert, key }));
  return [await issue(), await issue()];
})();

/** Until the world is frozen: one misfortune after the other. */
async function makeTrouble(server: ChildServer, world: World, random: Random): Promise<void> {
  const troubles: Record<string, () => Command> = {
    reload: () => ({ do: "reload", ...random.pick(pairs) }),
    close: () => ({ do: "close", chance: random.next() }),
    purge: () => ({ do: "purge", chance: random.next() }),
    cut: () => ({ do: "cut", chance: random.next() }),
    stall: () => ({ do: "stall", ms: random.oneIn(6) ? 900 : 20 }),
    starve: () => ({ do: "starve", ms: random.below(300) }),
    restart: () => ({ do: random.oneIn(4) ? "restart" : "report" }),
  };
  while (!world.frozen) {
    const command = troubles[random.pick(Object.keys(troubles))]!();
    ({ port: world.port } = await server.ask(command));
    world.count(command.do);
    await new Promise((resolve) => setTimeout(resolve, random.below(60)));
  }
}

/** Lets all clients and misfortunes loose for a time, and waits until the server is rid of them. */
async function round(
  roles: typeof ROLES,
  server: ChildServer,
  world: World,
  ms: number,
  random: Random,
): Promise<Report> {
  world.frozen = false;
  const playing = Object.entries(roles).flatMap(([name, [role, clients]]) =>
    Array.from({ length: clients }, () => play(name, role, world, new Random(random.next())))
  );
  playing.push(makeTrouble(server, world, new Random(random.next())));
  const timer = setTimeout(() => world.frozen = true, ms);
  await Promise.all(playing).catch(async (error) => {
    world.frozen = true;
    const { handled, ...report } = await server.ask({ do: "report" });
    const seen = JSON.stringify({ ...report, handled: handled.length }, null, 1);
    throw new Error(`${error.message}; the server has seen ${seen}`, { cause: error });
  });
  clearTimeout(timer);
  const report = await server.ask({ do: "quiet", ms: QUIET_MS });
  for (const client of world.left.splice(0)) client.destroy();
  return report;
}

const PROTOCOLS = { "HTTP/1.1": ROLES, "HTTP/2": HTTP2_ROLES };
const RUNS = Object.entries(PROTOCOLS).flatMap(([protocol, roles]) =>
  (["plain", "tls"] as const).map((mode) => ({ protocol, roles, mode }))
);

describe(`chaos (seed ${SEED})`, () => {
  for (const { protocol, roles, mode } of RUNS) {
    test(`${protocol}, ${mode}`, async () => {
      const random = new Random(SEED);
      const world = new World(mode);
      const server = new ChildServer(mode);
      try {
        ({ port: world.port } = await server.ask(pairs[0]!));
        const ms = Math.max(500, SECONDS * 1000 / RUNS.length - 5_000); // without the start and two quiets
        const first = await round(roles, server, world, ms / 3, random);
        const last = await round(roles, server, world, ms * 2 / 3, random);
        if (verbose) {
          const { counts, heapMiB, residentMiB } = last;
          console.log(mode, { answers: world.answers, ...world.ends }, counts);
          console.log({ heapMiB, before: first.heapMiB, residentMiB, was: first.residentMiB });
        }
        assert.deepEqual(last.wrong, []);
        const [handled, cut] = [new Set(last.handled), new Set(last.cut)];
        for (const { sending, port } of world.unanswered) {
          assert.ok(!handled.has(sending) || cut.has(port), `${sending} is safe to send again`);
        }
        // The sockets were counted exactly; the runtime opens files of its own now and then.
        assert.ok(last.descriptors <= first.descriptors + 4, `${last.descriptors} descriptors`);
        assert.ok(last.heapMiB < first.heapMiB + 8, `${first.heapMiB} became ${last.heapMiB} MiB`);
        for (const name of Object.keys(roles)) assert.ok(world.ends[name], `no ${name} has ended`);
        assert.ok(world.answers > 100, `only ${world.answers} answers`);
        await server.end();
      } finally {
        server.kill();
      }
    }, 120_000 + SECONDS * 2_000);
  }
});
