/**
 * What tests of attacks and deadlines of HTTP/2 share.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Report } from "./attacks/server.ts";
import {
  type ClientOptions,
  type CodeName,
  codeName,
  Http2Client,
  requestFields,
  Type,
} from "./http2_client.ts";
import type { Field } from "./http2_hpack.ts";
import { PINNED, runtime } from "./runtime.ts";
import { certificates, type Mode, until } from "./support.ts";

export const TEST_MS = 60_000;
export const WAIT_MS = 30_000;

/** What an attack may cost: the process, other than its live objects, takes memory as it likes. */
export const BOUNDS = { heapMiB: 8, peakMiB: 120, cpuMs: 4_000 };

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
    const args = runtime === "deno" ? ["run", "-A", "--quiet", PINNED, script] : [script];
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

/** Ends the servers when the tests of a file are over. */
export function stopAttackedServersAfterAll(): void {
  afterAll(async () => {
    const all = [...servers.values()];
    servers.clear(); // on Bun another file may have the same map
    await Promise.all(all.map(async (server) => (await server).stop()));
  });
}

export function serverFor(mode: Mode, options: HttpsServerOptions = {}): Promise<AttackedServer> {
  const key = JSON.stringify([mode, options]);
  let server = servers.get(key);
  if (server === undefined) servers.set(key, server = AttackedServer.start(mode, options));
  return server;
}

/** Runs an attack beside a good client, and gives what the server did, within bounds. */
export async function assertUnharmed(
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
  await until(
    async () => sessions <= 2 || ({ sessions } = await server.report()).sessions <= 2,
    "the sessions of clients that are gone are over",
    WAIT_MS,
  );
  return sessions;
}

/** Waits for GOAWAY with a code, and the end of the connection. */
export async function goneWith(client: Http2Client, code: CodeName): Promise<void> {
  await client.until(
    () => client.goaway !== undefined && (client.ended || client.closed),
    `GOAWAY with ${code}`,
    WAIT_MS,
  );
  assert.equal(client.goaway!.code, code, client.story());
}

/** So many frames, made by their number. */
export function many(count: number, make: (i: number) => Uint8Array): Uint8Array {
  return Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
}

/** The number of the stream that is opened as the i-th, from 0. */
export const nth = (i: number): number => 2 * i + 1;

export const POST = (path: string, scheme: string, ...fields: Field[]): Field[] =>
  requestFields({ method: "POST", path, scheme, fields });
export const GET = (path: string, scheme: string, ...fields: Field[]): Field[] =>
  requestFields({ path, scheme, fields });
export const OPEN = { endStream: false };
export const MORE = { endHeaders: false };

export async function answer(request: Request): Promise<Response> {
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

/** How many streams were reset with a code. */
export function resets({ frames }: Http2Client, code: CodeName): number {
  return frames.filter(({ type, payload }) =>
    type === Type.RST_STREAM && codeName(payload.readUInt32BE()) === code
  ).length;
}
