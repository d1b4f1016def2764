/**
 * What the tests of buses share: a bus in memory that does as it is told, brokers of the machine, and
 * servers with a WebSocket that joins topics.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { connect as connectNats } from "@nats-io/transport-node";
import { createClient } from "redis";
import { natsBus, redisBus } from "../lib/bus/mod.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Clock } from "../lib/net/clock.ts";
import type {
  BusGap,
  BusState,
  BusStateListener,
  ClusterBus,
} from "../lib/websocket/cluster/bus.ts";
import type { Started } from "./http_support.ts";
import { freePorts } from "./ports.ts";
import { type Child, start, until } from "./support.ts";
import { withRoute } from "./websocket_support.ts";

/** A broker in memory; buses of it deliver at the end of the turn. */
export class MemoryBroker {
  readonly subscriptions = new Map<string, Set<(bytes: Uint8Array) => void>>();

  /** How often a channel is subscribed to. */
  count(channel: string): number {
    return this.subscriptions.get(channel)?.size ?? 0;
  }

  /** Delivers bytes, whatever they are. */
  deliver(channel: string, bytes: unknown): void {
    for (const receive of this.subscriptions.get(channel) ?? []) receive(bytes as Uint8Array);
  }
}

/** A bus of a {@linkcode MemoryBroker} that can be away, slow, or wrong. */
export class MemoryBus implements ClusterBus {
  readonly broker: MemoryBroker;
  readonly published: { channel: string; bytes: Uint8Array }[] = [];
  readonly listeners = new Set<BusStateListener>();
  state: BusState = "up";
  /** While it is set, what is asked of the bus waits for `release()`. */
  isSlow = false;
  /** What `publish()` and `subscribe()` reject with. */
  refusal: Error | undefined;
  #waiting: (() => void)[] = [];

  constructor(broker: MemoryBroker = new MemoryBroker(), state: BusState = "up") {
    this.broker = broker;
    this.state = state;
  }

  async publish(channel: string, bytes: Uint8Array): Promise<void> {
    this.published.push({ channel, bytes });
    await this.#pass();
    this.broker.deliver(channel, bytes);
  }

  async subscribe(
    channel: string,
    receive: (bytes: Uint8Array) => void,
  ): Promise<() => Promise<void>> {
    await this.#pass();
    const receivers = this.broker.subscriptions.get(channel) ?? new Set();
    this.broker.subscriptions.set(channel, receivers.add(receive));
    return async () => {
      await this.#pass();
      receivers.delete(receive);
    };
  }

  onState(changed: BusStateListener): () => void {
    this.listeners.add(changed);
    changed(this.state);
    return () => void this.listeners.delete(changed);
  }

  turn(state: BusState, cause?: unknown): void {
    this.state = state;
    for (const listener of this.listeners) listener(state, cause);
  }

  release(): void {
    this.isSlow = false;
    for (const go of this.#waiting.splice(0)) go();
  }

  async #pass(): Promise<void> {
    if (this.isSlow) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.refusal !== undefined) throw this.refusal;
  }
}

/** A server with a bus: a WebSocket that says `join x` subscribes to x, others get it answered. */
export interface BusHost extends Started {
  states: BusState[];
  gaps: Omit<BusGap, "cause">[];
}

/** Starts a server with a bus; clients join topics by `join <topic>` and leave by `leave <topic>`. */
export async function withBus(
  bus: ClusterBus,
  options: HttpsServerOptions = {},
  clock?: Clock,
): Promise<BusHost> {
  const host = await withRoute(
    {
      async onMessage(ws, message) {
        const [verb, topic = ""] = String(message).split(" ");
        if (verb === "join") await ws.subscribe(topic);
        if (verb === "leave") ws.unsubscribe(topic);
        await ws.send(`${verb} ${topic}`);
      },
    },
    { ...options, bus },
    "plain",
    clock,
  );
  return { ...host, ...recordBus(host) };
}

/** Starts such a server with a bus of a broker, and waits until it is up. */
export async function withBroker(
  bus: ClusterBus,
  options: HttpsServerOptions = {},
): Promise<BusHost> {
  const host = await withBus(bus, options);
  await until(() => host.server.bus!.state === "up", "The bus is up");
  host.states.length = 0;
  return host;
}

/** Notes what a server reports about its bus; what it has reported at its start is not noted. */
export function recordBus({ server }: Started): Pick<BusHost, "states" | "gaps"> {
  const states: BusState[] = [];
  const gaps: Omit<BusGap, "cause">[] = [];
  server.addEventListener("bus:state", ({ state }) => void states.push(state));
  server.addEventListener("bus:gap", ({ reason, topic, missing }) => {
    gaps.push({ reason, topic, missing });
  });
  return { states, gaps };
}

/** A broker of the machine, as a process of this test's own. */
export interface Broker extends AsyncDisposable {
  readonly kind: BrokerKind;
  readonly port: number;
  readonly url: string;
  /** Ends it at once. */
  kill(): Promise<void>;
  /** Starts it again, on the same port. */
  restart(): Promise<void>;
  /** Stops it without ending it, or lets it go on. */
  pause(isPaused: boolean): void;
}

/** The brokers that a bus is tested with. */
export const BROKER_KINDS = ["redis", "nats"] as const;

/** One of {@linkcode BROKER_KINDS}. */
export type BrokerKind = (typeof BROKER_KINDS)[number];

/** The program of a broker. */
export const PROGRAMS = { redis: "redis-server", nats: "nats-server" } as const;

/** Starts a broker on a free port of 127.0.0.1. */
export async function startBroker(kind: BrokerKind): Promise<Broker> {
  const [port] = await freePorts(1) as [number];
  const folder = mkdtempSync(join(tmpdir(), `httpsd-${kind}-`));
  const args = kind === "redis"
    ? ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    : ["-a", "127.0.0.1", "-p", `${port}`];
  let child: ChildProcess | undefined;
  const restart = async () => {
    child = spawn(PROGRAMS[kind], args, { stdio: "ignore" });
    const failed = once(child, "error").then(([error]) => {
      throw new Error(`Cannot start ${PROGRAMS[kind]}: apt-get install ${PROGRAMS[kind]}`, {
        cause: error,
      });
    });
    failed.catch(() => {});
    await Promise.race([failed, until(() => listens(port), `${kind} listens`)]);
  };
  // Not child.kill(): Deno takes a program that is stopped for one that has ended.
  const send = (signal: NodeJS.Signals) => void process.kill(child!.pid!, signal);
  const kill = async () => {
    if (child === undefined) return;
    send("SIGKILL");
    child = undefined;
    // Deno does not report the end of every program.
    await until(async () => !await listens(port), `${kind} is gone`);
  };
  await restart();
  return {
    kind,
    port,
    url: `${kind}://127.0.0.1:${port}`,
    kill,
    restart,
    pause: (isPaused) => send(isPaused ? "SIGSTOP" : "SIGCONT"),
    async [Symbol.asyncDispose]() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The script's export; tsc, which does not read JavaScript, needs its type. */
const { runtimeBinary }: { runtimeBinary(name: "deno" | "bun"): string } = await import(
  new URL("../scripts/runtimes.mjs", import.meta.url).href
);

/** Runs a file of tests/ in a process of its own, on a runtime. */
export function startFile(name: "deno" | "bun", file: string, ...args: string[]): Child {
  const script = fileURLToPath(new URL(`./${file}`, import.meta.url));
  const flags = name === "deno" ? ["run", "-A", "--node-modules-dir=manual", "--no-check"] : [];
  return start(runtimeBinary(name), [...flags, script, ...args]);
}

/** A client of a broker, and a bus of it. */
export interface Joined extends AsyncDisposable {
  readonly bus: ClusterBus;
}

/** Makes a client that comes back quickly, and a bus of it. */
export async function joinBroker({ kind, port }: Pick<Broker, "kind" | "port">): Promise<Joined> {
  if (kind === "nats") {
    const connection = await connectNats({
      servers: `127.0.0.1:${port}`,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
    });
    return { bus: natsBus(connection), [Symbol.asyncDispose]: () => connection.close() };
  }
  const client = await openRedis(port);
  return {
    bus: redisBus(client),
    [Symbol.asyncDispose]: () => Promise.resolve(client.destroy()),
  };
}

/** A client of Redis that comes back quickly. */
export async function openRedis(port: number) {
  const client = createClient({ socket: { host: "127.0.0.1", port, reconnectStrategy: 50 } });
  client.on("error", () => {}); // tests look at what arrives
  await client.connect();
  return client;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
