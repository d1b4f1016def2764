/**
 * The server of the chaos test, in a process of its own: `server.ts plain|tls`. It takes a certificate
 * and commands as lines of JSON on its standard input and answers on its standard output. At the end
 * of its input it stops, and then has to end by itself: a timer or socket that is left keeps it.
 *
 * @module
 */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import type { SessionEvent } from "../../lib/events.ts";
import type { ExchangeReport } from "../../lib/http/exchange_report.ts";
import type { HttpdRequest } from "../../lib/httpd/request.ts";
import { type ConnectionDriver, driverOf, type Session } from "../../lib/http/session.ts";
import { HttpsServer } from "../../lib/server.ts";
import { heapMiB, openDescriptors, residentMiB } from "../support.ts";
import {
  BIG_BYTES,
  type Command,
  DEADLINES,
  type Report,
  secret,
  WEBSOCKET_DEADLINES,
} from "./protocol.ts";

const handled = new Map<string, number>();
const wrong: string[] = [];
const cut: number[] = [];
const counts: Record<string, number> = {};
const count = (what: string): void => void (counts[what] = (counts[what] ?? 0) + 1);

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Notes that a handler began with the request, and gives its answer once the body is read. */
async function work(query: URLSearchParams, body: AsyncIterable<Uint8Array>): Promise<string> {
  note(query);
  let length = 0;
  for await (const bytes of body) length += bytes.length;
  await sleep(Number(query.get("ms")));
  return secret(Number(query.get("number"))) + "x".repeat(length);
}

function note(query: URLSearchParams): void {
  const sending = query.get("sending")!;
  const times = (handled.get(sending) ?? 0) + 1;
  handled.set(sending, times);
  if (times > 1) wrong.push(`sending ${sending} was handled ${times} times`);
}

const HALF = 8;
const handlers = {
  send: async (request: HttpdRequest) => request.send(await work(request.query, request.body)),
  async chunks(request: HttpdRequest) {
    const text = await work(request.query, request.body);
    await request.sendChunk(text.slice(0, HALF));
    await request.sendChunk(text.slice(HALF));
    request.end();
  },
  /** Answers before the body is there, which the server has to get rid of. */
  early(request: HttpdRequest) {
    note(request.query);
    return request.send(secret(Number(request.query.get("number"))));
  },
};

/** How long a session may live: its age, then the longest of what may still be under way. */
const LONGEST_MS = DEADLINES.limits.maxConnectionAgeMs + DEADLINES.timeouts.requestMs +
  DEADLINES.timeouts.sendMs * 12 + DEADLINES.timeouts.lingerMs;

/** Which event may come after which, in one session. */
const MIDDLE = [
  "data",
  "sent",
  "http:header",
  "http:data",
  "http:headerssent",
  "http:sent",
  "http:error",
];
const NEXT: Record<string, readonly string[]> = {
  "begin": ["connected"],
  "connected": ["http:connected"],
  "http:connected": [...MIDDLE, "http:disconnected"],
  "http:disconnected": ["disconnected"],
  "disconnected": [],
};
for (const type of MIDDLE) NEXT[type] = [...MIDDLE, "http:disconnected"];

/** What has happened in a session. */
interface Life {
  last: string;
  begun: number;
  heads: number;
  answers: number;
  /** How many exchanges have begun, less those that were reported. */
  unreported: number;
}

/** The last event of each session, by the client's port. */
const lastOf = new Map<number, string>();

function watch(server: HttpsServer, stalledMs: () => number): void {
  const lives = new Map<Session, Life>();
  for (const type of Object.keys(NEXT).slice(1) as SessionEvent["type"][]) {
    server.addEventListener(type, (event) => {
      const session = (event as SessionEvent).session;
      const begun = performance.now() - stalledMs();
      const life = lives.get(session) ??
        { last: "begin", begun, heads: 0, answers: 0, unreported: 0 };
      lives.set(session, life);
      const broken = (rule: string) =>
        wrong.push(
          `${type} after ${life.last} (${life.heads} heads, ${life.answers} answers): ${rule}`,
        );
      if (!NEXT[life.last]!.includes(type)) broken("not in this order");
      if (type === "http:header") life.heads++;
      if (type === "http:headerssent") life.answers++;
      if (type === "http:data" && life.heads === 0) broken("a body without a head");
      if (type === "http:sent" && life.answers === 0) broken("a body without a head");
      if (life.answers > life.heads + 1) broken("more answers than requests"); // and one refusal
      life.last = type;
      lastOf.set(session.remotePort, type);
      count(type);
      if (type === "disconnected") {
        lives.delete(session);
        lastOf.delete(session.remotePort);
        if (life.unreported > 0) broken(`${life.unreported} exchanges were not reported`);
        const lived = begun - life.begun;
        if (lived > LONGEST_MS) wrong.push(`a session lived for ${Math.round(lived)} ms`);
      }
    });
  }
  const reported = new WeakSet<ExchangeReport>();
  server.observe({
    begin({ session }) {
      const life = lives.get(session);
      if (life === undefined) wrong.push("an exchange without a session");
      else life.unreported++;
      return undefined;
    },
  });
  server.addEventListener("http:exchange", ({ exchange }) => {
    const { session, ended, target } = exchange;
    const life = lives.get(session);
    if (life === undefined) wrong.push(`${target} was reported after its session's end`);
    else life.unreported--;
    if (reported.has(exchange)) wrong.push(`${target} was reported twice`);
    if (ended === undefined) wrong.push(`${target} was reported before its end`);
    reported.add(exchange);
    count("http:exchange");
  });
  server.addEventListener("error", ({ error }) => {
    count(error.code);
    const bugs = ["HANDLER_FAILED", "HOOK_FAILED", "LISTENER_FAILED", "BAD_RESPONSE"];
    if (bugs.includes(error.code)) wrong.push(`${error.code}: ${error.message} ${error.cause}`);
  });
}

async function main(mode: string): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const { cert, key } = JSON.parse((await lines.next()).value!);
  let stalled = 0;
  const server = new HttpsServer({
    hostname: "127.0.0.1",
    port: 0,
    limits: { ...DEADLINES.limits, maxConnections: 40, backlog: 20 },
    timeouts: { ...DEADLINES.timeouts, drainMs: 3_000 },
    ...(mode === "tls" ? { cert, key } : { transportMode: "insecure" as const }),
  }, async (request) => {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname !== "/fetch") return new Response(null, { status: 404 });
    return new Response(await work(searchParams, request.body ?? nothing()));
  });
  for (const [name, handler] of Object.entries(handlers)) {
    server.route({ uri: `/${name}`, method: "POST", handler });
  }
  server.route({ uri: "/big", method: "GET", handler: (request) => request.send(big) });
  server.route({
    uri: "/ws",
    websocket: { ...WEBSOCKET_DEADLINES, onMessage: (ws, message) => ws.send(message) },
  });
  watch(server, () => stalled);
  await server.start();
  const act = async (command: Command): Promise<void> => {
    switch (command.do) {
      case "reload":
        if (mode === "tls") await server.reload({ cert: command.cert, key: command.key });
        break;
      case "restart":
        await server.stop();
        await server.start();
        break;
      case "stall": {
        stalled += command.ms;
        const until = performance.now() + command.ms;
        while (performance.now() < until);
        break;
      }
      case "starve":
        await starve(command.ms);
        break;
      case "quiet":
        await quiet(server, command.ms);
        break;
      case "close":
      case "purge":
      case "cut": {
        const all = [...server.sessions];
        const session = all[command.chance % all.length];
        if (session === undefined) break;
        if (command.do === "cut") cut.push(session.remotePort);
        if (command.do === "close") session.close();
        else if (command.do === "purge") (driverOf(session) as ConnectionDriver).purge();
        else session.destroy();
      }
    }
  };
  const report = (): Report => ({
    port: server.address.port,
    handled: [...handled.keys()],
    wrong,
    cut,
    sessions: Array.from(
      server.sessions,
      ({ remotePort, kind, state }) => `${remotePort} ${kind} ${state} ${lastOf.get(remotePort)}`,
    ),
    sockets: sockets(),
    descriptors: openDescriptors(),
    heapMiB: heapMiB(),
    residentMiB: residentMiB(),
    counts,
  });
  const say = (value: unknown) => console.log(JSON.stringify(value));
  say({ port: server.address.port });
  for await (const line of { [Symbol.asyncIterator]: () => lines }) {
    const command = JSON.parse(line) as Command;
    await act(command);
    const { port } = server.address;
    say(command.do === "report" || command.do === "quiet" ? report() : { port });
  }
  await server.stop();
}

const big = new Uint8Array(BIG_BYTES);

async function* nothing(): AsyncGenerator<Uint8Array<ArrayBuffer>> {}

/** Opens files until there is no descriptor left, and closes them after `ms`. */
async function starve(ms: number): Promise<void> {
  const opened: number[] = [];
  try {
    for (;;) opened.push(openSync("/dev/null", "r"));
  } catch {
    count("starved");
  }
  await sleep(ms);
  for (const descriptor of opened) closeSync(descriptor);
}

/** Waits until all connections are over, at the gate too: until only the listening socket is left. */
async function quiet(server: HttpsServer, ms: number): Promise<void> {
  const until = performance.now() + ms;
  while (server.sessions.size > 0 || sockets().length > 1) {
    if (performance.now() > until) {
      wrong.push(
        `after ${ms} ms there are still ${server.sessions.size} sessions ` +
          `(${[...server.sessions].map(({ kind, state }) => `${kind} ${state}`)}) ` +
          `and ${sockets().length - 1} sockets: ${sockets().join(", ")}`,
      );
      return;
    }
    await sleep(20);
  }
}

/** The TCP sockets of this process, as the system writes them: addresses, state, queues. */
function sockets(): string[] {
  const inodes = new Set(
    readdirSync("/proc/self/fd").map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
      } catch {
        return undefined; // the descriptor of the listing itself
      }
    }),
  );
  return readFileSync("/proc/net/tcp", "latin1").split("\n")
    .map((line) => line.trim().split(/ +/))
    .filter(({ 9: inode }) => inode !== undefined && inodes.has(inode))
    .map((fields) => fields.slice(1, 5).join(" "));
}

// Deno takes what it needs for signals late, and ends the process where no descriptor is free then.
process.on("SIGUSR2", () => {});
await main(process.argv[2] ?? "plain");
