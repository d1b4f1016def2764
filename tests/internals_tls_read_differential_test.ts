/**
 * Reading below Deno's TLS streams beside the streams themselves: the same connection, generated, is
 * read in both ways, and has to be the same. Records of all sizes, cut and joined anywhere on their
 * way; pauses; readers that stop; every way to end.
 *
 * A failure names its case and the seed; `HTTPSD_SEED=7` runs other cases, `HTTPSD_CASES` more.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import process from "node:process";
import tls from "node:tls";
import { afterAll, test } from "bun:test";
import { ReadsBelow } from "../lib/runtime/deno_tls_read.ts";
import { handleFlow } from "../lib/runtime/read_switch.ts";
import { seed } from "./differential_support.ts";
import { Random } from "./random.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { blocks, certificates, digestOf, turns, until } from "./support.ts";

assertRuntime();

const CASES = Number(process.env["HTTPSD_CASES"] ?? 21);

/** How a client ends: as it should; without the alert; with the alert and no FIN at first; at once. */
const ENDINGS = ["end", "FIN", "alert", "reset", "cut", "cut by a reset"] as const;

/** Those that come when all that was sent has been read. */
const LATE_ENDINGS = ["end", "FIN", "alert", "reset"] as const;

/** What a client sends in one piece, and how long it waits then. */
interface Write {
  readonly size: number;
  readonly turns: number;
}

/** How a reader stops once it has so many bytes, and for how long. */
interface Stop {
  readonly at: number;
  readonly how: "handle" | "stream";
  readonly turns: number;
}

/** One connection. */
interface Plan {
  readonly version: "TLSv1.2" | "TLSv1.3";
  readonly writes: readonly Write[];
  readonly stops: readonly Stop[];
  readonly ending: (typeof ENDINGS)[number];
  /** After so many bytes of TLS what is between client and server cuts, where the ending says so. */
  readonly cutAt: number;
  /** Into pieces of at most so many bytes TLS is cut on its way. */
  readonly pieces: number;
  /** Has chance cut it alike. */
  readonly seed: number;
}

/** A plan by chance; the seventh of each seven is a burst that a reader stops in. */
function planOf(random: Random, index: number): Plan {
  const isBurst = index % 7 === 6;
  const sizes = [1, 2, 100, 1_000, 16_383, 16_384, 16_385, 40_000];
  const writes: Write[] = Array.from({ length: 1 + random.below(isBurst ? 4 : 12) }, () => ({
    size: isBurst ? 700_000 : random.oneIn(3) ? 1 + random.below(20_000) : random.pick(sizes),
    turns: isBurst || random.oneIn(2) ? 0 : random.below(4),
  }));
  const total = writes.reduce((sum, { size }) => sum + size, 0);
  const how = random.pick(["handle", "stream"] as const);
  return {
    version: random.pick(["TLSv1.2", "TLSv1.3"]),
    writes,
    stops: Array.from({ length: isBurst ? 3 : random.below(3) }, () => ({
      at: random.below(total),
      how,
      turns: 1 + random.below(20),
    })).sort((one, other) => one.at - other.at),
    // Deno loses an end that comes while a stream is paused (docs/runtimes.md): it waits for the rest.
    ending: random.pick(how === "stream" ? LATE_ENDINGS : ENDINGS),
    cutAt: random.below(total),
    pieces: random.pick(
      total < 20_000 ? [50, 1_400] : isBurst ? [200_000] : [5_000, 16_500, 70_000],
    ),
    seed: random.next(),
  };
}

/** What came of a connection. */
interface Outcome {
  readonly bytes: Buffer;
  /** All but bytes, in order. */
  readonly events: string[];
  /** The most that came while a reader had stopped. */
  most: number;
}

const closing: (() => void)[] = [];
afterAll(() => closing.forEach((close) => close()));

/** A server that hands each TLS socket over, with the TCP socket below; as the acceptor's. */
async function openServer() {
  const { cert, key } = await certificates();
  const shaken: { socket: tls.TLSSocket; raw: net.Socket }[] = [];
  const secure = tls.createServer({ cert, key }); // never listens
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (raw) => {
    raw.on("error", () => {});
    raw.allowHalfOpen = false;
    secure.once("secureConnection", (socket) => {
      raw.allowHalfOpen = socket.allowHalfOpen = true;
      shaken.push({ socket, raw });
    });
    secure.emit("connection", raw);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => server.close());
  return { port: (server.address() as AddressInfo).port, shaken };
}

/** Carries the bytes of one client to the server, in pieces, as far as its plan says. */
class Between {
  readonly #server: net.Socket;
  readonly #random: Random;
  readonly #plan: Plan;
  readonly #queue: Buffer[] = [];
  /** How many bytes may still pass; they are counted behind the handshake. */
  left = Infinity;
  #hasEnded = false;
  #running = false;
  /** Whether the client's FIN goes on. */
  passesEnd = true;

  constructor(client: net.Socket, server: net.Socket, plan: Plan) {
    this.#server = server;
    this.#random = new Random(plan.seed);
    this.#plan = plan;
    server.on("data", (bytes) => client.write(bytes)).on("end", () => client.end());
    server.on("error", () => client.destroy()).on("close", () => client.destroy());
    client.on("data", (bytes: Buffer) => {
      this.#queue.push(bytes);
      void this.#run();
    });
    client.on("end", () => {
      this.#hasEnded = true;
      void this.#run();
    });
    client.on("error", () => {});
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (let bytes = this.#queue.shift(); bytes !== undefined; bytes = this.#queue.shift()) {
      for (let at = 0; at < bytes.length && this.left > 0;) {
        const end = at + Math.min(1 + this.#random.below(this.#plan.pieces), this.left);
        const piece = bytes.subarray(at, end);
        at = end;
        this.left -= piece.length;
        if (!this.#server.write(piece)) {
          await Promise.race([once(this.#server, "drain"), once(this.#server, "close")]);
        }
        if (this.#random.oneIn(4)) await turns(1);
      }
      if (this.left === 0) return this.#cut();
    }
    this.#running = false;
    if (this.#hasEnded && this.passesEnd) this.#server.end();
  }

  #cut(): void {
    if (this.#plan.ending === "cut") this.#server.end();
    else this.reset();
  }

  end(): void {
    this.#server.end();
  }

  reset(): void {
    this.#server.resetAndDestroy();
  }
}

/** Makes a connection as planned, and reads it with `reads`. */
async function connection(plan: Plan, reads: ReadsBelow, server: Server): Promise<Outcome> {
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const accepted = once(listener, "connection") as Promise<[net.Socket]>;
  const client = tls.connect({
    port: (listener.address() as AddressInfo).port,
    host: "127.0.0.1",
    rejectUnauthorized: false,
    minVersion: plan.version,
    maxVersion: plan.version,
  });
  client.on("error", () => {});
  const [inner] = await accepted;
  const outer = net.connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
  outer.setNoDelay(true);
  const between = new Between(inner, outer, plan);
  await until(() => server.shaken.length > 0, "the server has shaken hands");
  const { socket, raw } = server.shaken.shift()!;
  const reading = read(socket, raw, plan, reads);
  await until(() => client.authorizationError !== undefined, "the client has shaken hands");
  if (plan.ending.startsWith("cut")) between.left = plan.cutAt;
  between.passesEnd = plan.ending === "end";

  const total = plan.writes.reduce((sum, { size }) => sum + size, 0);
  const source = Buffer.concat([...blocks(total, plan.seed % 1_000)]);
  let at = 0;
  for (const { size, turns: pause } of plan.writes) {
    client.write(source.subarray(at, at += size));
    if (pause > 0) await turns(pause);
  }
  if (plan.stops.some(({ how }) => how === "stream")) {
    await until(() => reading.size() === total, "all has come");
    await turns();
  }
  if (plan.ending === "end" || plan.ending === "alert") client.end();
  else if (!plan.ending.startsWith("cut")) {
    await until(() => reading.size() === total, "all has come");
    if (plan.ending === "FIN") between.end();
    else between.reset();
  }
  if (plan.ending === "alert") {
    await until(() => reading.size() === total, "all has come");
    await turns();
    between.end();
  }
  await until(() => reading.outcome.events.includes("close"), "it is closed");
  client.destroy();
  listener.close();
  const bytes = Buffer.concat(reading.pieces);
  assert.deepEqual(bytes, source.subarray(0, bytes.length), "what came is not what was sent");
  return { ...reading.outcome, bytes };
}

type Server = Awaited<ReturnType<typeof openServer>>;

/** Reads as lib/net/wire.ts does, and ends when the client has. */
function read(socket: tls.TLSSocket, raw: net.Socket, plan: Plan, reads: ReadsBelow) {
  const outcome = { events: [] as string[], most: 0 };
  const pieces: Uint8Array[] = [];
  const flow = handleFlow(raw);
  const stops = [...plan.stops];
  let size = 0;
  let isStopped = false;
  let sinceStop = 0;
  const take = (bytes: Uint8Array): void => {
    if (outcome.events.includes("end")) outcome.events.push("bytes behind the end");
    pieces.push(bytes);
    size += bytes.length;
    if (isStopped) outcome.most = Math.max(outcome.most, sinceStop += bytes.length);
    if (isStopped || stops.length === 0 || size < stops[0]!.at) return;
    const { how, turns: pause } = stops.shift()!;
    isStopped = true;
    sinceStop = 0;
    if (how === "handle") flow.stop();
    else socket.pause();
    void turns(pause).then(() => {
      isStopped = false;
      if (how === "handle") flow.start();
      else socket.resume();
    });
  };
  socket.on("data", take);
  socket.on("end", () => {
    outcome.events.push("end");
    socket.end();
  });
  socket.on("finish", () => outcome.events.push("finish"));
  socket.on("error", (error: NodeJS.ErrnoException) => outcome.events.push(`error ${error.code}`));
  socket.on("close", () => outcome.events.push("close"));
  reads.of(socket, take);
  return { outcome, pieces, size: () => size };
}

if (runtime === "deno") {
  test(`what is read below a TLS stream is what the stream passes on (seed ${seed})`, async () => {
    const random = new Random(seed);
    const server = await openServer();
    const stream = new ReadsBelow("fallback");
    const below = new ReadsBelow("in force");
    const ends = new Set<string>();
    for (let index = 0; index < CASES; index++) {
      const plan = planOf(random, index);
      const name = `case ${index} of seed ${seed}: ${JSON.stringify(plan)}`;
      try {
        const expected = await connection(plan, stream, server);
        const actual = await connection(plan, below, server);
        assert.deepEqual(actual.events, expected.events);
        if (plan.ending !== "cut by a reset") { // which takes what was on its way
          assert.equal(digestOf([actual.bytes]), digestOf([expected.bytes]));
        }
        // Below TLS, one piece may be on its way through the runtime; a stream that is paused gives none.
        const more = plan.stops.some(({ how }) => how === "stream") ? 0 : 64 * 1024;
        assert.ok(actual.most <= expected.most + more, `${actual.most} came behind a stop`);
        ends.add(`${plan.ending}: ${actual.events}`);
      } catch (cause) {
        throw new Error(name, { cause });
      }
    }
    assert.equal(below.state, "in force");
    if (process.env["VERBOSE"]) console.log([...ends].sort());
  }, 60_000);
}
