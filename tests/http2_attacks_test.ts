/**
 * What clients do to servers of HTTP/2 to wear them out. Each attack gets its exact reaction; what it
 * costs in memory and processor time is bounded; and a good client beside it is served all the while.
 *
 * The server is in a process of its own. Attacks that are about time are in this one, on a clock that
 * goes as the test says.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, describe, test } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Report } from "./attacks/server.ts";
import {
  type ClientOptions,
  type CodeName,
  codeName,
  continuation,
  data,
  frame,
  goaway,
  headers,
  Http2Client,
  join,
  ping,
  PREFACE,
  priority,
  priorityUpdate,
  requestFields,
  reset,
  Setting,
  settings,
  settingsAck,
  Type,
  windowUpdate,
} from "./http2_client.ts";
import { encode, type Field, indexed, literal } from "./http2_hpack.ts";
import { started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { certificates, type Mode, MODES, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

const TEST_MS = 60_000;
const WAIT_MS = 30_000;

/** What an attack may cost: the process, other than its live objects, takes memory as it likes. */
const BOUNDS = { heapMiB: 8, peakMiB: 120, cpuMs: 4_000 };

/** A server in its process. */
class AttackedServer {
  readonly mode: Mode;
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(mode: Mode, child: ChildProcess, lines: AsyncIterator<string>, port: number) {
    this.mode = mode;
    this.port = port;
    this.#process = child;
    this.#lines = lines;
  }

  static async start(mode: Mode, options: HttpsServerOptions = {}): Promise<AttackedServer> {
    const script = fileURLToPath(new URL("./attacks/server.ts", import.meta.url));
    const args = runtime === "deno" ? ["run", "-A", "--quiet", script] : [script];
    const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const { cert, key } = await certificates();
    const transport = mode === "tls" ? { cert, key } : { transportMode: "insecure" };
    child.stdin!.write(`${JSON.stringify({ ...transport, ...options })}\n`);
    const { value } = await lines.next();
    assert.ok(value !== undefined, "The server did not start");
    return new AttackedServer(mode, child, lines, Number(value));
  }

  /** What it has done since it was asked last. */
  async report(): Promise<Report> {
    this.#process.stdin!.write("report\n");
    const { value } = await this.#lines.next();
    assert.ok(value !== undefined, "The server is gone");
    return JSON.parse(value);
  }

  /** Ends its input, upon which it ends by itself. */
  async stop(): Promise<void> {
    const exit = once(this.#process, "exit");
    this.#process.stdin!.end();
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 15_000);
    await exit;
    clearTimeout(timer);
  }

  async connect(options: ClientOptions = {}): Promise<Http2Client> {
    const client = await Http2Client.connect(this.port, this.mode, options);
    return await client.ready();
  }
}

const servers = new Map<string, Promise<AttackedServer>>();
afterAll(async () => {
  await Promise.all([...servers.values()].map(async (server) => (await server).stop()));
});

function serverFor(mode: Mode, options: HttpsServerOptions = {}): Promise<AttackedServer> {
  const key = JSON.stringify([mode, options]);
  let server = servers.get(key);
  if (server === undefined) servers.set(key, server = AttackedServer.start(mode, options));
  return server;
}

/** Runs an attack beside a good client, and gives what the server did, within bounds. */
async function assertUnharmed(
  server: AttackedServer,
  attack: () => Promise<void>,
  bounds: Partial<typeof BOUNDS> = {},
): Promise<Report> {
  const most = { ...BOUNDS, ...bounds };
  using good = await server.connect();
  assert.equal((await good.fetch()).status, 200);
  const before = await server.report();
  let over = false;
  let asked = 0;
  const asking = (async () => {
    do {
      const answer = await good.answer(good.request(), WAIT_MS);
      assert.equal(answer.status, 200);
      assert.equal(answer.body.toString(), "well");
      asked++;
      good.frames.length = 0;
      await new Promise((resolve) => setTimeout(resolve, 10));
    } while (!over);
  })();
  try {
    await Promise.race([attack(), asking]);
  } finally {
    over = true;
  }
  await asking;
  assert.ok(asked > 0);
  using next = await server.connect();
  assert.equal((await next.fetch()).status, 200);
  const report = await server.report();
  report.handlers -= asked + 1;
  assert.ok(report.cpuMs < most.cpuMs, `${report.cpuMs} ms of processor time`);
  const peak = report.peakMiB - before.peakMiB;
  assert.ok(peak < most.peakMiB, `${before.peakMiB} MiB became ${report.peakMiB}`);
  let { heapMiB } = report;
  for (let tries = 0; heapMiB > before.heapMiB + most.heapMiB && tries < 5; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 200)); // what is over may not be let go yet
    ({ heapMiB } = await server.report());
  }
  assert.ok(heapMiB < before.heapMiB + most.heapMiB, `${before.heapMiB} became ${heapMiB} MiB`);
  assert.deepEqual(await sessionsOf(server), 2, "the sessions of the good clients");
  return report;
}

/** How many sessions are open, when those of clients that are gone are over. */
async function sessionsOf(server: AttackedServer): Promise<number> {
  let { sessions } = await server.report();
  for (let tries = 0; sessions > 2 && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    ({ sessions } = await server.report());
  }
  return sessions;
}

/** Waits for GOAWAY with a code, and the end of the connection. */
async function goneWith(client: Http2Client, code: CodeName): Promise<void> {
  await client.until(
    () => client.goaway !== undefined && (client.ended || client.closed),
    `GOAWAY with ${code}`,
    WAIT_MS,
  );
  assert.equal(client.goaway!.code, code, client.story());
}

/** How many streams were reset with a code. */
function resets({ frames }: Http2Client, code: CodeName): number {
  return frames.filter(({ type, payload }) =>
    type === Type.RST_STREAM && codeName(payload.readUInt32BE()) === code
  ).length;
}

/** So many frames, made by their number. */
function many(count: number, make: (i: number) => Uint8Array): Uint8Array {
  return Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
}

/** The number of the stream that is opened as the i-th, from 0. */
const nth = (i: number): number => 2 * i + 1;

interface Attack {
  readonly name: string;
  readonly client?: ClientOptions;
  readonly options?: HttpsServerOptions;
  readonly bounds?: Partial<typeof BOUNDS>;
  /** Attacks, and asserts what comes of it on the wire. */
  run(client: Http2Client, scheme: "http" | "https"): Promise<void>;
  /** What the server has done. */
  then?(report: Report): void;
}

const POST = (path: string, scheme: string, ...fields: Field[]): Field[] =>
  requestFields({ method: "POST", path, scheme, fields });
const GET = (path: string, scheme: string, ...fields: Field[]): Field[] =>
  requestFields({ path, scheme, fields });
const OPEN = { endStream: false };
const MORE = { endHeaders: false };

/** Faults of streams that make the server reset them, each with its code. */
const PROVOCATIONS: Record<
  string,
  { code: CodeName; provoke: (id: number, scheme: string) => Uint8Array }
> = {
  "WINDOW_UPDATE of 0": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), windowUpdate(id, 0)),
  },
  "a window that is too large": {
    code: "FLOW_CONTROL_ERROR",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), windowUpdate(id, 2 ** 31 - 1)),
  },
  "DATA behind END_STREAM": {
    code: "STREAM_CLOSED",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), data(id, "x")),
  },
  "HEADERS behind END_STREAM": {
    code: "STREAM_CLOSED",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), headers(id, [["x", "y"]])),
  },
  "heads that are malformed": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) => headers(id, GET("/hold", scheme, ["X-UPPER", "1"])),
  },
  "PRIORITY of a wrong size": {
    code: "FRAME_SIZE_ERROR",
    provoke: (id, scheme) =>
      join(headers(id, GET("/hold", scheme)), frame(Type.PRIORITY, 0, id, [1, 2, 3])),
  },
  "streams that depend on themselves": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) => headers(id, GET("/hold", scheme), { priority: { dependsOn: id } }),
  },
  "DATA beyond content-length": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) =>
      join(headers(id, POST("/hold", scheme, ["content-length", "1"]), OPEN), data(id, "xyz")),
  },
  "trailers that do not end the stream": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) =>
      join(headers(id, POST("/hold", scheme), OPEN), headers(id, [["x", "y"]], OPEN)),
  },
};

/** Frames that carry nothing of a request. */
const EMPTY_FRAMES: Record<string, (i: number, scheme: string) => Uint8Array> = {
  "PING": () => ping(),
  "answers of PING": () => ping("pingping", { ack: true }),
  "SETTINGS": () => settings(),
  "SETTINGS of 32 entries": () =>
    settings(...Array.from({ length: 32 }, () => [Setting.INITIAL_WINDOW_SIZE, 1] as const)),
  "acknowledgements of SETTINGS": () => settingsAck(),
  "PRIORITY": (i) => priority(nth(i), { dependsOn: 0 }),
  "PRIORITY_UPDATE of one stream": () => priorityUpdate(1, "u=1"),
  "frames of unknown types": () => frame(0xbb, 0, 0),
  "frames of unknown types on streams": (i) => frame(0xbb, 0, nth(i), [1, 2, 3]),
  "GOAWAY": () => goaway(),
  "WINDOW_UPDATE of 1 on the connection": () => windowUpdate(0, 1),
};

/** The same on a stream that is open. */
const EMPTY_FRAMES_OF_A_STREAM: Record<string, () => Uint8Array> = {
  "DATA without a byte": () => data(1, "", OPEN),
  "DATA of padding": () => data(1, "", { ...OPEN, padding: 3 }),
  "WINDOW_UPDATE of 1 on a stream": () => windowUpdate(1, 1),
  "PRIORITY_UPDATE of an open stream": () => priorityUpdate(1, "u=7, i"),
};

const ATTACKS: Attack[] = [
  {
    name: "rapid reset",
    async run(client, scheme) {
      client.send(many(5_000, (i) => join(headers(nth(i), GET("/hold", scheme)), reset(nth(i)))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      assert.ok(client.goaway!.lastStreamId < nth(1_200), client.story());
    },
    then: ({ handlers }) => assert.ok(handlers <= 1_200, `${handlers} handlers`),
  },
  {
    name: "rapid reset of handlers that do not heed it",
    async run(client, scheme) {
      client.send(many(5_000, (i) => join(headers(nth(i), GET("/deaf", scheme)), reset(nth(i)))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      assert.ok(resets(client, "REFUSED_STREAM") <= 110, client.story());
    },
    then: ({ handlers }) => assert.equal(handlers, 100),
  },
  ...Object.entries(PROVOCATIONS).map(([name, { code, provoke }]): Attack => ({
    name: `resets provoked by ${name}`,
    async run(client, scheme) {
      client.send(many(1_000, (i) => provoke(nth(i), scheme)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      const count = resets(client, code);
      assert.ok(count >= 100 && count <= 130, `${count} resets; ${client.story()}`);
    },
    then: ({ handlers }) => assert.ok(handlers <= 130, `${handlers} handlers`),
  })),
  {
    name: "streams above the limit",
    async run(client, scheme) {
      client.send(many(1_000, (i) => headers(nth(i), GET("/hold", scheme))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      const count = resets(client, "REFUSED_STREAM");
      assert.ok(count >= 100 && count <= 130, `${count} resets; ${client.story()}`);
      assert.equal(client.goaway!.lastStreamId, nth(99));
    },
    then: ({ handlers }) => assert.equal(handlers, 100),
  },
  {
    name: "CONTINUATION without a byte",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme), MORE));
      client.send(many(20_000, () => continuation(1, new Uint8Array(0), MORE)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "CONTINUATION of a field each",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme), MORE));
      client.send(many(10_000, () => continuation(1, [["x-a", "b"]], MORE)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "CONTINUATION of full size",
    async run(client, scheme) {
      const full = Buffer.alloc(16_384, 0x82);
      client.send(headers(1, GET("/", scheme), MORE));
      client.send(many(200, () => continuation(1, full, MORE)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  ...Object.entries(EMPTY_FRAMES).map(([name, make]): Attack => ({
    name: `a flood of ${name}`,
    async run(client, scheme) {
      client.send(headers(1, GET("/hold", scheme)));
      client.send(many(5_000, (i) => make(i, scheme)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
  })),
  ...Object.entries(EMPTY_FRAMES_OF_A_STREAM).map(([name, make]): Attack => ({
    name: `a flood of ${name}`,
    async run(client, scheme) {
      client.send(headers(1, POST("/hold", scheme), OPEN));
      client.send(many(5_000, make));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
  })),
  {
    name: "more settings than 32 in one frame",
    async run(client) {
      client.send(settings(...Array.from({ length: 33 }, () => [0x99, 1] as const)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
  },
  {
    name: "priorities of streams that are never opened",
    async run(client) {
      client.send(many(5_000, (i) => priorityUpdate(nth(i), "u=1, i")));
      await client.until(() => client.ended || client.closed, "the end", WAIT_MS);
      const code = client.goaway!.code as string;
      assert.ok(["PROTOCOL_ERROR", "ENHANCE_YOUR_CALM"].includes(code), client.story());
    },
  },
  {
    name: "a bomb of HPACK",
    async run(client, scheme) {
      const entry = literal("x-bomb", "b".repeat(4_000), "incremental");
      client.send(headers(1, join(encode(GET("/", scheme)), entry)));
      assert.equal((await client.answer(1)).status, 200);
      const bomb = join(encode(GET("/", scheme)), Buffer.alloc(16_000, indexed(62)[0]));
      client.send(headers(3, bomb));
      assert.equal((await client.answer(3, WAIT_MS)).status, 431);
      assert.equal((await client.fetch({ scheme, path: "/" }, undefined, 5)).status, 200);
    },
    then: ({ handlers }) => assert.equal(handlers, 2),
  },
  {
    name: "bombs of HPACK, one behind the other",
    async run(client, scheme) {
      const entry = literal("x-bomb", "b".repeat(4_000), "incremental");
      client.send(headers(1, join(encode(GET("/", scheme)), entry)));
      const bomb = join(encode(GET("/", scheme)), Buffer.alloc(16_000, indexed(62)[0]));
      client.send(many(400, (i) => headers(nth(i + 1), bomb)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 1),
  },
  {
    name: "1,500 fields",
    async run(client, scheme) {
      const fields = Array.from({ length: 1_500 }, (): Field => ["a", "b"]);
      client.send(headers(1, GET("/", scheme, ...fields)));
      assert.equal((await client.answer(1)).status, 431);
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    },
    then: ({ handlers }) => assert.equal(handlers, 1),
  },
  {
    name: "a field of 15,900 bytes, and a target of 9,000",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme, ["x-long", "a".repeat(16_200)])));
      client.send(headers(3, GET(`/${"a".repeat(9_000)}`, scheme)));
      assert.equal((await client.answer(1)).status, 431);
      assert.equal((await client.answer(3)).status, 414);
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "a hundred endless answers that no window lets through",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    async run(client, scheme) {
      client.send(many(100, (i) => headers(nth(i), GET("/endless", scheme))));
      await client.until(() => client.count(Type.HEADERS) === 100, "the heads", WAIT_MS);
      await client.settled("settled!", WAIT_MS);
      assert.equal(client.count(Type.DATA), 0);
    },
    then: ({ pieces }) => assert.ok(pieces <= 400, `${pieces} pieces`),
    bounds: { heapMiB: 30 },
  },
  {
    name: "endless answers on a connection whose window is not given back",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]], giveBack: false },
    async run(client, scheme) {
      client.send(many(100, (i) => headers(nth(i), GET("/endless", scheme))));
      await client.until(() => client.count(Type.HEADERS) === 100, "the heads", WAIT_MS);
      await client.settled("settled!", WAIT_MS);
      const length = client.frames.filter(({ type }) => type === Type.DATA)
        .reduce((sum, { payload }) => sum + payload.length, 0);
      assert.equal(length, 65_535);
    },
    then: ({ pieces }) => assert.ok(pieces <= 500, `${pieces} pieces`),
    bounds: { heapMiB: 30 },
  },
  {
    name: "a body beyond the stream's window",
    async run(client, scheme) {
      client.send(headers(1, POST("/hold", scheme), OPEN));
      const full = new Uint8Array(16_384);
      client.send(many(17, () => data(1, full, OPEN))); // 278,528 bytes of 262,144
      const { reset } = await client.answer(1, WAIT_MS);
      assert.equal(reset, "FLOW_CONTROL_ERROR");
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    },
  },
  {
    name: "bodies beyond the connection's window",
    async run(client, scheme) {
      const full = new Uint8Array(16_384);
      for (const id of [1, 3, 5, 7, 9]) {
        client.send(headers(id, POST("/hold", scheme), OPEN));
        client.send(many(16, () => data(id, full, OPEN))); // 5 × 262,144 of 1,048,576 bytes
      }
      await goneWith(client, "FLOW_CONTROL_ERROR");
    },
  },
  {
    name: "a body that nothing reads, of DATA of a byte each",
    async run(client, scheme) {
      client.send(headers(1, POST("/hold", scheme), OPEN));
      client.send(many(262_144, () => data(1, "x", OPEN)));
      await client.settled("settled!", WAIT_MS);
    },
    bounds: { heapMiB: 8, cpuMs: 6_000 },
  },
  {
    name: "a body of DATA of a byte each",
    async run(client, scheme) {
      client.send(headers(1, POST("/read", scheme), OPEN));
      client.send(many(200_000, () => data(1, "x", OPEN)), data(1));
      assert.equal((await client.answer(1, WAIT_MS)).body.toString(), "200000");
    },
    bounds: { cpuMs: 6_000 },
  },
  {
    name: "DATA for streams that the server has reset gives the connection's window back",
    async run(client, scheme) {
      const full = new Uint8Array(16_384);
      for (let i = 0; i < 80; i++) {
        const id = nth(i);
        client.send(
          headers(id, POST("/read", scheme, ["X-UPPER", "1"]), OPEN),
          data(id, full, OPEN), // 80 × 16 KB are more than the window
        );
        await client.answer(id);
      }
      const id = nth(80);
      client.send(headers(id, POST("/read", scheme), OPEN), data(id, full));
      assert.equal((await client.answer(id)).body.toString(), "16384");
    },
  },
  {
    name: "requests whose answers are not let through",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    async run(client, scheme) {
      client.send(many(5_000, (i) => headers(nth(i), GET("/", scheme))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 100),
  },
  {
    name: "WINDOW_UPDATE and SETTINGS that make all streams try again and again",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    async run(client, scheme) {
      client.send(many(100, (i) => headers(nth(i), GET("/big", scheme))));
      client.send(many(5_000, (i) => settings([Setting.INITIAL_WINDOW_SIZE, i % 2])));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    bounds: { cpuMs: 6_000 },
  },
  {
    name: "a size update of HPACK's table in every head",
    async run(client, scheme) {
      const block = join([0x20, 0x3f, 0xe1, 0x1f], encode(GET("/", scheme)), [
        ...literal("x-a", "b".repeat(3_000), "incremental"),
      ]);
      for (let i = 0; i < 20; i++) {
        client.send(many(50, (k) => headers(nth(50 * i + k), block)));
        await client.answer(nth(50 * i + 49), WAIT_MS);
      }
    },
    then: ({ handlers }) => assert.equal(handlers, 1_000),
  },
];

for (const mode of MODES) {
  const scheme = mode === "tls" ? "https" : "http";
  describe(`attacks on HTTP/2, ${mode}`, () => {
    for (const { name, options, client: how, bounds, run, then } of ATTACKS) {
      test(name, async () => {
        const server = await serverFor(mode, options);
        const report = await assertUnharmed(server, async () => {
          using client = await server.connect(how);
          await run(client, scheme);
        }, bounds);
        then?.(report);
      }, TEST_MS);
    }
  });
}

/** A server whose clock goes as the test says, and what it needs. */
async function onClock(mode: Mode, options: HttpsServerOptions = {}) {
  const clock = new TestClock();
  const { port, server } = await started(answer, options, mode, clock);
  let read = 0;
  server.addEventListener("data", ({ bytes }) => read += bytes);
  return {
    clock,
    server,
    /** Sends, and waits until the server has read it. */
    async read(client: Http2Client, bytes: Uint8Array): Promise<void> {
      const before = read;
      client.send(bytes);
      await until(() => read >= before + bytes.length, "the server has read it");
    },
    connect: (how: ClientOptions = {}) => Http2Client.connect(port, mode, how),
  };
}

async function answer(request: Request): Promise<Response> {
  switch (new URL(request.url).pathname) {
    case "/read":
      return new Response(`${(await request.arrayBuffer()).byteLength}`);
    case "/hold":
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      return new Response("too late");
    case "/pausing": {
      const piece = new Uint8Array(10);
      return new Response(new ReadableStream({ start: (controller) => controller.enqueue(piece) }));
    }
    case "/big":
      return new Response("b".repeat(200_000));
    default:
      return new Response("well");
  }
}

/** Lets time pass up to just before a deadline, then beyond. */
async function expires(
  clock: TestClock,
  ms: number,
  client: Http2Client,
  isOver: () => boolean,
): Promise<void> {
  await clock.advance(ms - 2_000);
  if (!client.closed && !client.ended) await client.settled();
  assert.ok(!isOver(), `Before its time; ${client.story()}`);
  await clock.advance(4_000);
  await until(isOver, `what the deadline does; ${client.story()}`);
}

const isGone = (client: Http2Client) => () => client.ended || client.closed;

for (const mode of MODES) {
  const scheme = mode === "tls" ? "https" : "http";
  describe(`deadlines of HTTP/2, ${mode}`, () => {
    test("a client without a preface is cut", async () => {
      const { clock, connect, server, read } = await onClock(mode);
      using client = await connect({ settings: null, acknowledge: false });
      await until(() => server.sessions.size === 1, "the session");
      await read(client, PREFACE.subarray(0, 10));
      await read(client, PREFACE.subarray(10, 20));
      const due = mode === "tls" ? 10_000 : 30_000; // without TLS it might be one of HTTP/1.1
      await clock.advance(due - 2_000);
      assert.ok(!client.closed && !client.ended);
      await clock.advance(4_000);
      await until(isGone(client), "the end");
    });

    test("a client without SETTINGS is cut", async () => {
      const { clock, connect, server } = await onClock(mode);
      using client = await connect({ settings: null });
      client.send(PREFACE);
      await client.until(() => client.count(Type.SETTINGS) > 0, "the server's SETTINGS");
      await clock.advance(8_000);
      assert.ok(!client.closed && !client.ended);
      await clock.advance(4_000);
      await until(isGone(client), "the end");
      await until(() => server.sessions.size === 0, "no session");
    });

    test("SETTINGS that are not acknowledged end the connection", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect({ acknowledge: false });
      assert.equal((await client.fetch({ scheme })).status, 200);
      await expires(clock, 10_000, client, () => client.goaway !== undefined);
      await goneWith(client, "SETTINGS_TIMEOUT");
    });

    const HEAD = headers(1, GET("/", scheme), MORE);
    const UNFINISHED: [what: string, bytes: Uint8Array, ms: number, code: CodeName][] = [
      ["that waits for CONTINUATION", HEAD, 30_000, "ENHANCE_YOUR_CALM"],
      ["that is cut in its frame", HEAD.subarray(0, -1), 30_000, "ENHANCE_YOUR_CALM"],
      ["that is no more than 5 bytes of a frame", HEAD.subarray(0, 5), 60_000, "NO_ERROR"],
    ];
    for (const [what, bytes, ms, code] of UNFINISHED) {
      test(`half a head ${what} has its time to become whole`, async () => {
        const { clock, connect, read } = await onClock(mode);
        using client = await connect();
        await client.ready();
        await client.settled();
        await read(client, bytes);
        await clock.advance(ms - 2_000);
        assert.ok(!client.ended && !client.closed, client.story());
        await clock.advance(4_000);
        await goneWith(client, code);
      });
    }

    test("a head in bytes that come again and again has no more time", async () => {
      const { clock, connect, read } = await onClock(mode);
      using client = await connect();
      await client.ready();
      await client.settled();
      const head = headers(1, GET("/", scheme));
      await read(client, head.subarray(0, 9));
      for (let at = 9; at < 9 + 28; at++) {
        await read(client, head.subarray(at, at + 1));
        await clock.advance(1_000);
      }
      assert.ok(!client.ended && !client.closed, client.story());
      await clock.advance(4_000);
      await goneWith(client, "ENHANCE_YOUR_CALM");
    });

    test("half a body gets 408, and the connection goes on", async () => {
      const { clock, connect } = await onClock(mode, { limits: { minBodyBytesPerSecond: 0 } });
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN), data(1, "half", OPEN));
      await client.settled();
      await expires(clock, 30_000, client, () => client.soFar(1).status === 408);
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    });

    test("a body in bytes that come again and again gets 408", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN));
      for (let i = 0; i < 60 && client.soFar(1).status === 0; i++) {
        client.send(data(1, "x", OPEN));
        await client.settled();
        await clock.advance(5_000);
      }
      await client.until(() => client.soFar(1).status === 408, "408");
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    });

    test("an answer that no window lets through is reset, and the connection goes on", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
      await client.ready();
      client.send(headers(1, GET("/big", scheme)));
      await client.until(() => client.soFar(1).status === 200, "the head");
      await client.settled();
      await expires(clock, 30_000, client, () => client.soFar(1).reset === "CANCEL");
      client.send(settings([Setting.INITIAL_WINDOW_SIZE, 65_535]));
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    });

    test("an idle connection ends with GOAWAY", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect();
      assert.equal((await client.fetch({ scheme })).status, 200);
      await client.settled();
      await clock.advance(58_000);
      assert.equal(client.goaway, undefined);
      await clock.advance(4_000);
      await goneWith(client, "NO_ERROR");
      assert.equal(client.goaway!.lastStreamId, 1);
    });

    test("frames that carry nothing do not keep an idle connection", async () => {
      const { clock, connect } = await onClock(mode);
      using client = await connect();
      assert.equal((await client.fetch({ scheme })).status, 200);
      for (let i = 0; i < 12 && client.goaway === undefined; i++) {
        client.send(ping(), settings(), windowUpdate(0, 1_000));
        await new Promise((resolve) => setTimeout(resolve, 2));
        await clock.advance(6_000);
      }
      await goneWith(client, "NO_ERROR");
    });

    const BUDGETS: Record<
      string,
      { burst: number; perSecond: number; make: (i: number) => Uint8Array }
    > = {
      "frames that carry nothing": { burst: 990, perSecond: 100, make: () => ping() },
      "resets by the client": {
        burst: 1_000,
        perSecond: 33,
        make: (i) => join(headers(nth(i), GET("/hold", scheme)), reset(nth(i))),
      },
      "resets by the server": {
        burst: 100,
        perSecond: 10,
        make: (i) => headers(nth(i), GET("/", scheme, ["X-UPPER", "1"])),
      },
    };
    for (const [name, { burst, perSecond, make }] of Object.entries(BUDGETS)) {
      test(`${name}: the budget is spent once, and comes again with time`, async () => {
        const { clock, connect } = await onClock(mode);
        using client = await connect();
        await client.ready();
        let made = 0;
        const spend = async (count: number): Promise<void> => {
          for (let left = count; left > 0; left -= 50) {
            const some = Math.min(left, 50); // of handlers that have to settle
            client.send(many(some, (i) => make(made + i)));
            made += some;
            if (name !== "frames that carry nothing") await client.settled("settled!", WAIT_MS);
          }
          if (name !== "frames that carry nothing") return;
          await client.until(() => client.count(Type.PING) >= made, "the answers", WAIT_MS);
        };
        await spend(burst);
        await clock.advance(2_000);
        await spend(2 * perSecond);
        await clock.advance(2_000);
        for (let i = 0; i < 2 * perSecond + 60; i++) client.send(make(made + i));
        await goneWith(client, "ENHANCE_YOUR_CALM");
      }, TEST_MS);
    }

    test("a client that ends its side gets the answers that it waits for", async () => {
      const { connect, server } = await onClock(mode);
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN), data(1, "abc"));
      client.send(headers(3, GET("/", scheme)));
      client.end();
      assert.equal((await client.answer(1)).body.toString(), "3");
      assert.equal((await client.answer(3)).status, 200);
      await client.over();
      await until(() => server.sessions.size === 0, "no session");
    });

    test("a client that ends its side in the middle of a body gets 400", async () => {
      const { connect } = await onClock(mode);
      using client = await connect();
      await client.ready();
      client.send(headers(1, POST("/read", scheme), OPEN), data(1, "abc", OPEN));
      await client.settled();
      client.end();
      assert.equal((await client.answer(1)).status, 400);
      await client.over();
    });

    test("a client that ends its side gives no window back: its answer is cut", async () => {
      const { connect, server, clock } = await onClock(mode);
      using client = await connect({ giveBack: false });
      await client.ready();
      client.send(headers(1, GET("/big", scheme)));
      await client.until(() => client.soFar(1).body.length === 65_535, "all that fits");
      client.end();
      await until(() => [...server.sessions][0]?.connection.peerEnded === true, "its end");
      await clock.advance(1_000);
      await until(() => server.sessions.size === 0, "no session");
    });

    test("a client that ends its side does not wait long for an answer that pauses", async () => {
      const { connect, server, clock } = await onClock(mode, { timeouts: { lingerMs: 2_000 } });
      using client = await connect();
      await client.ready();
      client.send(headers(1, GET("/pausing", scheme)));
      await client.until(() => client.soFar(1).body.length === 10, "the first piece");
      client.end();
      await until(() => [...server.sessions][0]?.connection.peerEnded === true, "its end");
      await clock.advance(1_000);
      assert.equal(server.sessions.size, 1);
      await clock.advance(3_000);
      await until(() => server.sessions.size === 0, "no session");
    });
  });

  describe(`memory that a client of HTTP/2 makes the server hold, ${mode}`, () => {
    test("the answers of PINGs that are not read cut the connection", async () => {
      const plenty = { burst: 1e9, perSecond: 1e9 };
      const server = await serverFor(mode, { http2: { controlFrames: plenty } });
      const report = await assertUnharmed(server, async () => {
        using client = await server.connect();
        client.socket.pause();
        const pings = many(20_000, () => ping());
        for (let i = 0; i < 2_000 && !client.closed && !client.socket.destroyed; i++) {
          if (client.socket.write(pings)) continue;
          await new Promise<void>((resolve) => {
            client.socket.once("drain", resolve);
            client.socket.once("close", resolve);
          });
        }
        await until(() => client.closed || client.socket.destroyed, "the cut", WAIT_MS);
      }, { cpuMs: 20_000 });
      assert.ok(report.ends["CONNECTION_ABORTED"], JSON.stringify(report.ends));
    }, TEST_MS);
  });
}
