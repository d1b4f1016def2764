/**
 * What several test files share: certificates, a bare transport (listener and gate, no HTTP), raw
 * clients in this process and outside of it, and a look at the process's descriptors and memory.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import net from "node:net";
import process from "node:process";
import tls from "node:tls";
import v8 from "node:v8";
import vm from "node:vm";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Connection } from "../lib/net/connection.ts";
import type { Consumer } from "../lib/net/consumer.ts";
import type { ConnectionEngine } from "../lib/net/engine.ts";
import type { Clock } from "../lib/net/clock.ts";
import { Deadlines } from "../lib/net/deadlines.ts";
import type { Refusal } from "../lib/net/admission.ts";
import { Gate, type GateOptions } from "../lib/net/gate.ts";
import { Listener } from "../lib/net/listener.ts";
import { Unread } from "../lib/net/unread.ts";
import { Unsent } from "../lib/net/unsent.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import type { CertSelect } from "../lib/tls/cert_select.ts";
import { NameTable, normalizePattern } from "../lib/tls/names.ts";
import { Selector } from "../lib/tls/selector.ts";
import { PATIENCE_MS, PINNED, runtime } from "./runtime.ts";

/** PEM texts of a certificate for localhost and of the authority that issued it. */
export interface TestCertificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

let issued: Promise<TestCertificates> | undefined;

/** The certificates of this test run, made once. */
export function certificates(): Promise<TestCertificates> {
  return issued ??= createCertificateAuthority().then(async (ca) => {
    const { cert, key } = await ca.issue();
    return { ca: ca.cert, cert, key };
  });
}

/** The engine of a connection, with what programs do not see of it. */
export function engineOf(connection: Connection): ConnectionEngine {
  return connection as ConnectionEngine;
}

/** Without TLS and with it. */
export const MODES = ["plain", "tls"] as const;

/** One of {@linkcode MODES}. */
export type Mode = (typeof MODES)[number];

/** How the bytes of a connection travel: a mode, or under TLS a fallback. */
export type Flow = Mode | "node" | "paced";

/** All of them; TLS is over `node:tls` without being asked for on Deno. */
export const FLOWS: readonly Flow[] = [
  ...MODES,
  ...(runtime === "bun" ? ["node"] as const : []),
  "paced",
];

/** Those under TLS. */
export const TLS_FLOWS: readonly Flow[] = FLOWS.filter((flow) => flow !== "plain");

/** A listener and a gate without anything behind them. */
export interface Transport extends AsyncDisposable {
  readonly mode: Flow;
  readonly port: number;
  readonly gate: Gate;
  /** What waits unread. */
  readonly unread: Unread;
  readonly deadlines: Deadlines;
  /** Every connection that was admitted. */
  readonly connections: ConnectionEngine[];
  /** Every connection that was not. */
  readonly refusals: Refusal[];
  /** The next connection that is admitted, of those not asked for yet; without `admitted` only. */
  accept(): Promise<ConnectionEngine>;
}

/** What a bare transport may be opened with. */
export type TransportOptions =
  & Partial<Pick<GateOptions, "handshakeMs" | "sendTimeoutMs" | "lingerMs">>
  & {
    alpnProtocols?: string[];
    /** Given: every ClientHello is read; otherwise, with one certificate, it is not. */
    certSelect?: CertSelect;
    admitted?: (connection: ConnectionEngine) => void;
    /** Another clock for the deadlines. */
    clock?: Clock;
    /** How much may wait unread in all connections; default: any amount. */
    maxUnreadBytes?: number;
  };

/** Options with more over them, the groups member by member. */
export function withOptions(
  options: HttpsServerOptions,
  more: HttpsServerOptions,
): HttpsServerOptions {
  return {
    ...options,
    ...more,
    limits: { ...options.limits, ...more.limits },
    timeouts: { ...options.timeouts, ...more.timeouts },
  };
}

/** Opens a bare transport on 127.0.0.1; all times are 10 s unless given. */
export async function openTransport(
  mode: Flow,
  { alpnProtocols = [], certSelect, admitted, clock, maxUnreadBytes = Infinity, ...times }:
    TransportOptions = {},
): Promise<Transport> {
  const limits = { handshakeMs: 10_000, sendTimeoutMs: 10_000, lingerMs: 10_000, ...times };
  const deadlines = new Deadlines(Object.values(limits), clock);
  const unread = new Unread(maxUnreadBytes);
  const unsent = new Unsent(Infinity, deadlines.clock);
  const connections: ConnectionEngine[] = [];
  const refusals: Refusal[] = [];
  const unclaimed: ConnectionEngine[] = [];
  let arrived: (() => void) | undefined;
  const selector = mode === "plain" ? undefined : await Selector.load({
    fallback: await certificates(),
    hosts: [],
    clientAuth: undefined,
    alpnProtocols,
    served: { http1: true, http2: true },
    strictSni: false,
    certSelect,
    tlsUserData: undefined,
    settings: {
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.3",
      ciphers: undefined,
      sessionTickets: true,
    },
  });
  const gate = new Gate({
    ...limits,
    selector: () => selector,
    maxConnectionsPerAddress: Infinity,
    maxHandshakes: Infinity,
    deadlines,
    unread,
    unsent,
    admitted(connection) {
      connections.push(connection);
      if (admitted !== undefined) return admitted(connection);
      unclaimed.push(connection);
      arrived?.();
    },
    refused: (refusal) => void refusals.push(refusal),
  });
  const listener = await Listener.open(
    {
      hostname: "127.0.0.1",
      port: 0,
      backlog: 4096,
      tls: mode !== "plain",
      sockets: mode === "node" || mode === "paced" ? mode : undefined,
    },
    (arrival) => gate.admit(arrival),
    (error) => {
      throw error;
    },
  );
  return {
    mode,
    port: listener.address.port,
    gate,
    unread,
    deadlines,
    connections,
    refusals,
    async accept() {
      while (unclaimed.length === 0) await new Promise<void>((resolve) => arrived = resolve);
      return unclaimed.shift()!;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      gate.close();
      for (const connection of connections) connection.destroy();
      await until(() => gate.size === 0 && deadlines.size === 0, "The transport holds nothing");
    },
  };
}

/** Runs what starts a server, whose sockets are those of `node:net` on Bun, too. */
export async function overNodeSockets<T>(start: () => Promise<T>): Promise<T> {
  const before = process.env["HTTPSD_WIRE"];
  process.env["HTTPSD_WIRE"] = "node";
  try {
    return await start();
  } finally {
    if (before === undefined) delete process.env["HTTPSD_WIRE"];
    else process.env["HTTPSD_WIRE"] = before;
  }
}

/** A consumer that writes down what is called. */
export class RecordingConsumer implements Consumer {
  readonly calls: string[] = [];
  /** What `closed` was called with; resolves once. */
  readonly closedWith: Promise<unknown>;
  #resolve!: (error: unknown) => void;

  constructor() {
    this.closedWith = new Promise((resolve) => this.#resolve = resolve);
  }

  bytesReady(): void {
    this.calls.push("bytesReady");
  }
  peerEnded(): void {
    this.calls.push("peerEnded");
  }
  stopped(): void {
    this.calls.push("stopped");
  }
  drained(): void {
    this.calls.push("drained");
  }
  expired(): void {
    this.calls.push("expired");
  }
  closed(error: unknown): void {
    this.calls.push("closed");
    this.#resolve(error);
  }
}

/** Connects to a server in the way of `mode`; the socket keeps its errors to itself. */
export async function connect(
  { mode, port }: { mode: Flow; port: number },
  options: tls.ConnectionOptions = {},
): Promise<net.Socket> {
  if (mode === "plain") return await connectTcp(port);
  const { ca } = await certificates();
  const socket = tls.connect({
    port,
    host: "127.0.0.1",
    servername: "localhost",
    ca,
    allowHalfOpen: true,
    ...options,
  } as tls.ConnectionOptions);
  return await connected(socket, "secureConnect");
}

/** Connects without TLS, whatever the server speaks. */
export async function connectTcp(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  return await connected(socket, "connect");
}

async function connected<T extends net.Socket>(socket: T, event: string): Promise<T> {
  await once(socket, event);
  socket.on("error", () => {}); // tests look at what arrived
  return socket;
}

/** Everything that a socket receives until the other side ends or the socket closes. */
export async function received(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => chunks.push(bytes));
  await new Promise<void>((resolve) => {
    socket.once("end", resolve);
    socket.once("close", () => resolve());
  });
  return Buffer.concat(chunks);
}

/** Resolves when the other side has ended or the socket is closed; what it receives is dropped. */
export async function gone(socket: net.Socket): Promise<void> {
  socket.resume();
  if (socket.readableEnded || socket.closed) return;
  await new Promise<void>((resolve) => {
    socket.once("end", resolve);
    socket.once("close", () => resolve());
  });
}

/** A relay between a client and a server: where a test slows, stops or cuts what passes. */
export interface Relay extends AsyncDisposable {
  readonly port: number;
  /** The sockets of one client: its own and the server's side. */
  accept(): Promise<{ client: net.Socket; server: net.Socket }>;
  /** What one client sends first; nothing of it passes. */
  firstBytes(): Promise<Buffer>;
}

/** Opens a relay to `target` on 127.0.0.1; nothing passes but what the test forwards itself. */
export async function openRelay(target: number): Promise<Relay> {
  const waiting: net.Socket[] = [];
  let arrived: (() => void) | undefined;
  const sockets: net.Socket[] = [];
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    client.on("error", () => {});
    sockets.push(client);
    waiting.push(client);
    arrived?.();
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const next = async (): Promise<net.Socket> => {
    while (waiting.length === 0) await new Promise<void>((resolve) => arrived = resolve);
    return waiting.shift()!;
  };
  return {
    port: (listener.address() as net.AddressInfo).port,
    async firstBytes() {
      const [bytes] = await once(await next(), "data");
      return bytes;
    },
    async accept() {
      const client = await next();
      const server = await connectTcp(target);
      sockets.push(server);
      return { client, server };
    },
    [Symbol.asyncDispose]() {
      listener.close();
      for (const socket of sockets) socket.destroy();
      return Promise.resolve();
    },
  };
}

/** The bytes of a ClientHello that this runtime sends. */
export async function clientHello(): Promise<Buffer> {
  await using relay = await openRelay(1);
  const socket = tls.connect({ port: relay.port, host: "127.0.0.1", servername: "localhost" });
  socket.on("error", () => {});
  const hello = await relay.firstBytes();
  socket.destroy();
  return hello;
}

/** A program that runs outside of this process. */
export interface Child {
  readonly process: ChildProcess;
  /** What it has printed so far. */
  output(): string;
  /** What it printed, once it is over. */
  readonly done: Promise<string>;
}

/** Starts a program; `input` is its whole standard input, which stays open when not given. */
export function start(command: string, args: readonly string[], input?: string): Child {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => output += bytes.toString("latin1"));
  child.stderr.on("data", (bytes: Buffer) => output += bytes.toString("latin1"));
  child.stdin.on("error", () => {}); // it may be over before it has read all
  if (input !== undefined) child.stdin.end(input);
  const done = new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve(output));
  });
  return { process: child, output: () => output, done };
}

/** Ends a program, also one that was sent a signal: on Deno, `child.kill()` works once only. */
export function end({ process: { pid, exitCode, signalCode } }: Child): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // it has just ended
  }
}

/** Runs JavaScript in a process of its own, on the same runtime. */
export function startScript(script: string): Child {
  return start(process.execPath, runtime === "deno" ? ["eval", PINNED, script] : ["-e", script]);
}

/** Runs `openssl s_client` against a port of 127.0.0.1; the end of the input ends it. */
export function openssl(port: number, args: readonly string[], input = ""): Child {
  return start("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, ...args], input);
}

/** Waits until `condition` holds, and fails with `what` when it does not in `ms`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = PATIENCE_MS,
): Promise<void> {
  const deadline = performance.now() + ms;
  while (!await condition()) {
    if (performance.now() > deadline) assert.fail(`Not in ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * Lets the event loop go round `count` times: whatever this process can do on its sockets without
 * time passing is done then, however busy the machine.
 */
export async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

/**
 * Begins to count the CPU time of this process, and gives what reads it, in ms. A limit on work is
 * one on this time: it does not pass while another program has the machine.
 */
export function countCpu(): () => number {
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
}

/** How many file descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** The memory that this process takes after a garbage collection, in MiB. */
export function residentMiB(): number {
  collectGarbage();
  return process.memoryUsage().rss / 2 ** 20;
}

/** The memory that live objects of JavaScript take, in MiB. */
export function heapMiB(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

function collectGarbage(): void {
  const { Bun } = globalThis as { Bun?: { gc(force: boolean): void } };
  if (Bun !== undefined) return Bun.gc(true);
  v8.setFlagsFromString("--expose-gc");
  vm.runInNewContext("gc")();
}

/** Bytes that look random, the same for the same seed. */
export function* blocks(totalBytes: number, seed = 1): Generator<Uint8Array<ArrayBuffer>> {
  const BLOCK = 64 * 1024;
  for (let sent = 0; sent < totalBytes; sent += BLOCK) {
    const block = new Uint8Array(Math.min(BLOCK, totalBytes - sent));
    let state = seed + sent;
    for (let i = 0; i < block.length; i += 8) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      block[i] = state >>> 24;
    }
    yield block;
  }
}

/** The SHA-256 of chunks, in hexadecimal. */
export class Digest {
  readonly #hash = createHash("sha256");
  bytes = 0;

  add(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
  }

  hex(): string {
    return this.#hash.digest("hex");
  }
}

/** The digest of {@linkcode blocks}. */
export function digestOf(chunks: Iterable<Uint8Array>): string {
  const digest = new Digest();
  for (const chunk of chunks) digest.add(chunk);
  return digest.hex();
}

/** Whether a certificate for `pattern` is one for a client that asks for `name`. */
export function matchesName(pattern: string, name: string): boolean {
  if (normalizePattern(pattern) === undefined) return false;
  return new NameTable<true>().set(pattern, true).get(name) === true;
}
