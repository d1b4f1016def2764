/**
 * Every state in which a connection waits has a deadline: the states are enumerated from the types in
 * lib/, each is entered on real sockets with its own deadline short and every other one endless, and a
 * clock that goes as the test says shows that it ends then, and not before. The table in
 * docs/security.md is held to the same states, options, defaults and tests.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import type { HttpsServerOptions } from "../lib/config.ts";
import { resolveConfig } from "../lib/config.ts";
import type { SessionState } from "../lib/http/session.ts";
import type { StreamWait, Wait } from "../lib/http/timeouts.ts";
import type { ConnectionWait } from "../lib/http2/connection.ts";
import type { ClosingState } from "../lib/net/engine.ts";
import type { GatePhase } from "../lib/net/admission.ts";
import {
  resolveRouteOptions,
  type WebSocketRouteTimeouts,
  type WebSocketSettings,
} from "../lib/websocket/options.ts";
import type { SOCKET_STATES } from "../lib/websocket/timeouts.ts";
import {
  GET,
  type Mode,
  MODES,
  RawClient,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import {
  data,
  headers,
  join,
  PREFACE,
  requestFields,
  Setting,
  settings,
  settingsAck,
} from "./http2_client.ts";
import { assertRuntime } from "./runtime.ts";
import { clientHello, connectTcp, engineOf, until, withOptions } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { clientFrame } from "./websocket_cases.ts";
import { handshake } from "./websocket_support.ts";

assertRuntime();

stopServersAfterAll();

type State =
  | `gate: ${GatePhase}`
  | `session: ${Exclude<SessionState, "idle" | "closing">}`
  | `request: ${Wait}`
  | `http2: ${ConnectionWait}`
  | `stream: ${Exclude<StreamWait, "parting">}` // that has a time of its own: http2_clients_test.ts
  | `closing: ${ClosingState}`
  | `websocket: ${typeof SOCKET_STATES[number]}`;

/** The states that are one of the others by another name, or have their deadline beside it. */
type More =
  | "request: request, by age"
  | "http2: request, by age"
  | "request: body, in all"
  | "websocket: quiet, and dead";

/** How a state is entered. */
interface Scenario {
  /** The option whose time runs in it. */
  readonly deadline: `${"timeouts" | "limits" | "websocket" | "http2"}.${string}`;
  readonly options?: HttpsServerOptions;
  /** Default: both. */
  readonly modes?: readonly Mode[];
  /** Enters the state; gives the client that is in it. */
  enter(host: Host): Promise<RawClient>;
  /** Whether it is over. Default: the server has ended its side, or closed. */
  over?(host: Host, client: RawClient): boolean;
}

interface Host extends Started {
  readonly mode: Mode;
  readonly clock: TestClock;
  /** How many bytes of requests the server has read. */
  readonly read: () => number;
  /** Whether a handler's signal was aborted. */
  readonly aborted: () => boolean;
}

const DEADLINE_MS = 1_000;
const ENDLESS_MS = 1_000_000;

/** Every deadline, as good as endless. */
const ENDLESS: HttpsServerOptions = {
  timeouts: {
    handshakeMs: ENDLESS_MS,
    headersMs: ENDLESS_MS,
    receiveMs: ENDLESS_MS,
    requestMs: ENDLESS_MS,
    handlerMs: ENDLESS_MS,
    sendMs: ENDLESS_MS,
    idleMs: ENDLESS_MS,
    lingerMs: ENDLESS_MS,
  },
  limits: { maxConnectionAgeMs: ENDLESS_MS, minBodyBytesPerSecond: 0 },
  http2: { settingsMs: ENDLESS_MS },
};
const ENDLESS_WEBSOCKET: WebSocketSettings & { timeouts: WebSocketRouteTimeouts } = {
  pingPeriodMs: ENDLESS_MS,
  notAliveMs: ENDLESS_MS * 2,
  timeouts: {
    upgradeMs: ENDLESS_MS,
    idleMs: ENDLESS_MS,
    closeMs: ENDLESS_MS,
    messageMs: ENDLESS_MS,
  },
  limits: { minMessageBytesPerSecond: 0 },
};

/** Options in which the one at `path` is short. */
function shortened<T extends object>(options: T, path: string | undefined): T {
  if (path === undefined) return options;
  const [name, member] = path.split(".") as [keyof T, string?];
  const value = member === undefined ? DEADLINE_MS : { ...options[name], [member]: DEADLINE_MS };
  return { ...options, [name]: value };
}

const never = () => new Promise<never>(() => {});

/** Connects, sends, and waits until the server has read all of it. */
async function sent(host: Host, text: string | Uint8Array): Promise<RawClient> {
  const client = await RawClient.connect(host.port, host.mode);
  const before = host.read();
  client.send(text);
  await until(() => host.read() >= before + text.length, "the server has read it");
  return client;
}

const silent = (bytes: Uint8Array) => async ({ port }: Host): Promise<RawClient> => {
  const client = new RawClient(await connectTcp(port));
  if (bytes.length > 0) client.send(bytes);
  return client;
};

const NOTHING = new Uint8Array(0);
const HELLO = await clientHello();
const POST = (path: string, length: number, body = "") =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n${body}`;

/** Asks for more than the system takes, and does not read. */
async function unread(host: Host, path: string, over: () => boolean): Promise<RawClient> {
  const client = await RawClient.connect(host.port, host.mode);
  client.socket.pause();
  client.send(GET(path));
  await until(over, "the client has to read");
  return client;
}

const sessionOf = ({ server }: Host) => [...server.sessions][0];

/** A WebSocket that is open. */
async function open(host: Host, bytes: Uint8Array = NOTHING): Promise<RawClient> {
  const client = await sent(host, handshake("/ws"));
  await client.expect("\r\n\r\n");
  client.text = "";
  if (bytes.length === 0) return client;
  const before = host.read();
  client.send(bytes);
  await until(() => host.read() >= before + bytes.length, "the server has read it");
  return client;
}

/** Speaks HTTP/2 from the first byte on: SETTINGS, their acknowledgement, and what follows. */
const http2 = (host: Host, ...frames: Uint8Array[]) =>
  sent(host, join(PREFACE, settings(), settingsAck(), ...frames));
const request = (path: string, method = "GET") =>
  headers(1, requestFields({ path, method }), { endStream: method === "GET" });
const isReset = (_: Host, { text }: RawClient) => text.includes("\0\0\x04\x03\0\0\0\0\x01");

const PLAIN = ["plain"] as const;
const TLS = ["tls"] as const;

const scenarios: Record<State | More, Scenario> = {
  "gate: accept": {
    deadline: "timeouts.handshakeMs",
    options: { limits: { maxConnections: 1, lruPurge: false } },
    modes: PLAIN,
    async enter(host) {
      await sent(host, "GET ");
      return await silent(NOTHING)(host);
    },
  },
  "gate: proxy header": {
    deadline: "timeouts.handshakeMs",
    options: { proxyProtocol: { trustedProxies: ["127.0.0.1"] } },
    enter: silent(new TextEncoder().encode("PROXY ")),
  },
  "gate: client hello": {
    deadline: "timeouts.handshakeMs",
    modes: TLS,
    enter: silent(HELLO.subarray(0, 50)),
  },
  "gate: selection": {
    deadline: "timeouts.handshakeMs",
    options: { certSelect: never },
    modes: TLS,
    enter: silent(HELLO),
  },
  "gate: handshake": { deadline: "timeouts.handshakeMs", modes: TLS, enter: silent(HELLO) },
  "session: opening": {
    deadline: "timeouts.handshakeMs",
    options: { openFn: never },
    enter: ({ port, mode }) => RawClient.connect(port, mode),
  },
  "session: busy": {
    deadline: "timeouts.handlerMs",
    enter: (host) => sent(host, GET("/never")),
    over: (_, { text }) => text.startsWith("HTTP/1.1 503 "),
  },
  "request: request": {
    deadline: "timeouts.idleMs",
    async enter(host) {
      const client = await sent(host, GET("/"));
      await client.expect("\r\n\r\nanswer");
      return client;
    },
  },
  "request: request, by age": {
    deadline: "limits.maxConnectionAgeMs",
    async enter(host) {
      const client = await sent(host, GET("/"));
      await client.expect("\r\n\r\nanswer");
      return client;
    },
  },
  "request: head": { deadline: "timeouts.headersMs", enter: (host) => sent(host, "GET / HT") },
  "request: body": {
    deadline: "timeouts.receiveMs",
    enter: (host) => sent(host, POST("/read", 100, "half")),
  },
  "request: body, in all": {
    deadline: "timeouts.requestMs",
    enter: (host) => sent(host, POST("/read", 100, "half")),
  },
  "request: drain": {
    deadline: "timeouts.receiveMs",
    async enter(host) {
      const client = await sent(host, POST("/", 100, "half"));
      await client.expect("\r\n\r\nanswer");
      return client;
    },
  },
  "request: reader": {
    deadline: "timeouts.sendMs",
    modes: PLAIN, // TLS clients cannot stop reading on Deno
    enter: (host) =>
      unread(host, "/endless", () => (sessionOf(host)?.connection.bufferedBytes ?? 0) > 0),
    over: ({ server }) => server.sessions.size === 0,
  },
  "request: answer": {
    deadline: "timeouts.sendMs",
    async enter(host) {
      const client = await sent(host, GET("/never"));
      client.end();
      await until(host.aborted, "the server has seen the end");
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "request: source": {
    deadline: "timeouts.lingerMs",
    async enter(host) {
      const client = await sent(host, GET("/paused"));
      await client.expect("begun");
      client.end();
      await until(host.aborted, "the server has seen the end");
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "request: stopped": {
    deadline: "timeouts.requestMs",
    async enter(host) {
      const client = await RawClient.connect(host.port, host.mode);
      client.send(POST("/never", 2 ** 20, "x".repeat(2 ** 20)));
      await until(
        () => (sessionOf(host) !== undefined && engineOf(sessionOf(host)!.connection).stopped),
        "the server reads no more",
      );
      return client;
    },
    over: ({ aborted }) => aborted(),
  },
  "http2: preface": {
    deadline: "http2.settingsMs",
    modes: PLAIN,
    enter: (host) => sent(host, PREFACE),
  },
  "http2: acknowledgement": {
    deadline: "http2.settingsMs",
    modes: PLAIN,
    enter: (host) => sent(host, join(PREFACE, settings())),
  },
  "http2: head": {
    deadline: "timeouts.headersMs",
    modes: PLAIN,
    enter: (host) => http2(host, headers(1, requestFields(), { endHeaders: false })),
  },
  "http2: request": {
    deadline: "timeouts.idleMs",
    modes: PLAIN,
    async enter(host) {
      const client = await http2(host, request("/"));
      await client.expect("answer");
      return client;
    },
  },
  "http2: request, by age": {
    deadline: "limits.maxConnectionAgeMs",
    modes: PLAIN,
    async enter(host) {
      const client = await http2(host, request("/"));
      await client.expect("answer");
      return client;
    },
  },
  "stream: body": {
    deadline: "timeouts.receiveMs",
    modes: PLAIN,
    enter: (host) => http2(host, request("/read", "POST"), data(1, "half", { endStream: false })),
    over: ({ errors }) => errors.some(({ code }) => code === "REQUEST_TIMEOUT"),
  },
  "stream: drain": {
    deadline: "timeouts.receiveMs",
    modes: PLAIN,
    async enter(host) {
      const client = await http2(host, request("/", "POST"));
      await client.expect("answer");
      return client;
    },
    over: isReset,
  },
  "stream: reader": {
    deadline: "timeouts.sendMs",
    modes: PLAIN,
    enter: (host) => http2(host, settings([Setting.INITIAL_WINDOW_SIZE, 0]), request("/")),
    over: isReset,
  },
  "stream: answer": {
    deadline: "timeouts.sendMs",
    modes: PLAIN,
    async enter(host) {
      const client = await http2(host, request("/never"));
      client.end();
      await until(host.aborted, "the server has seen the end");
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "stream: source": {
    deadline: "timeouts.lingerMs",
    modes: PLAIN,
    async enter(host) {
      const client = await http2(host, request("/paused"));
      await client.expect("begun");
      client.end();
      await until(host.aborted, "the server has seen the end");
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "closing: sending": {
    deadline: "timeouts.sendMs",
    modes: PLAIN,
    async enter(host) {
      const buffered = () => sessionOf(host)?.connection.bufferedBytes ?? 0;
      const client = await RawClient.connect(host.port, host.mode);
      client.socket.pause();
      await until(() => sessionOf(host) !== undefined, "the session is there");
      const session = sessionOf(host)!;
      await until(() => {
        session.send(new Uint8Array(256 * 1024));
        return buffered() > 256 * 1024;
      }, "the client has to read");
      session.close();
      assert.equal(session.state, "closing");
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "closing: lingering": {
    deadline: "timeouts.lingerMs",
    async enter(host) {
      const client = await sent(
        host,
        GET("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
      );
      await client.rest();
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "websocket: upgrading": {
    deadline: "websocket.timeouts.upgradeMs",
    enter: (host) => sent(host, handshake("/upgrading")),
    over: (_, { text }) => text.startsWith("HTTP/1.1 503 "),
  },
  "websocket: quiet": {
    deadline: "websocket.timeouts.idleMs",
    enter: (host) => open(host),
    over: (_, { text }) => text.startsWith("\x88"),
  },
  "websocket: quiet, and dead": {
    deadline: "websocket.notAliveMs",
    enter: (host) => open(host),
  },
  "websocket: message": {
    deadline: "websocket.timeouts.messageMs",
    enter: (host) => open(host, clientFrame({ op: 1, text: "hello" }).subarray(0, 8)),
    over: (_, { text }) => text.startsWith("\x88"),
  },
  "websocket: throttled": {
    deadline: "websocket.limits.maxInflatedBytesPerSecond",
    enter: never, // websocket_limits_test.ts has it: it ends with more being read
  },
  "websocket: stopped": {
    deadline: "websocket.timeouts.messageMs",
    async enter(host) {
      const client = await sent(host, handshake("/held"));
      await client.expect("\r\n\r\n");
      client.text = "";
      const message = clientFrame({ op: 2, repeat: ["41", 60_000] });
      for (let i = 0; i < 20; i++) client.send(message);
      await until(
        () => engineOf(sessionOf(host)!.connection).stopped,
        "the server reads no more",
      );
      return client;
    },
    over: (_, { text }) => text.startsWith("\x88"),
  },
  "websocket: unread": {
    deadline: "timeouts.sendMs",
    modes: PLAIN,
    async enter(host) {
      const client = await open(host);
      client.socket.pause();
      const [socket] = host.server.websockets;
      await until(() => {
        void socket!.send(new Uint8Array(256 * 1024));
        return socket!.bufferedAmount > 0;
      }, "the client has to read");
      return client;
    },
    over: ({ server }) => server.sessions.size === 0,
  },
  "websocket: closing": {
    deadline: "websocket.timeouts.closeMs",
    async enter(host) {
      const client = await open(host);
      const [socket] = host.server.websockets;
      socket!.close(1000);
      await client.until(() => client.text.startsWith("\x88"));
      return client;
    },
  },
};

/** Starts a server for one state: its deadline is short, every other one endless. */
async function hostFor({ deadline, options }: Scenario, mode: Mode): Promise<Host> {
  const clock = new TestClock();
  const [webSocketOption] = deadline.startsWith("websocket.") ? [deadline.slice(10)] : [];
  let aborted = false;
  let read = 0;
  const serverOption = webSocketOption === undefined ? deadline : undefined;
  const host = await started(
    async (request) => {
      request.signal.addEventListener("abort", () => aborted = true);
      const { pathname } = new URL(request.url);
      if (pathname === "/never") return await never();
      if (pathname === "/read") return new Response(await request.text());
      if (pathname === "/paused") {
        return new Response(
          new ReadableStream({ start: (its) => its.enqueue(new TextEncoder().encode("begun")) }),
        );
      }
      if (pathname !== "/endless") return new Response("answer");
      return new Response(
        new ReadableStream({ pull: (its) => its.enqueue(new Uint8Array(64 * 1024)) }),
      );
    },
    shortened(withOptions(ENDLESS, options ?? {}), serverOption),
    mode,
    clock,
  );
  const { server } = host;
  const settings = shortened(ENDLESS_WEBSOCKET, webSocketOption);
  const onMessage = () => {};
  server.route({ uri: "/ws", websocket: { ...settings, onMessage } });
  server.route({ uri: "/held", websocket: { ...settings, onMessage: never } });
  server.route({ uri: "/upgrading", websocket: { ...settings, onUpgrade: never, onMessage } });
  server.addEventListener("data", ({ bytes }) => void (read += bytes));
  return { ...host, mode, clock, read: () => read, aborted: () => aborted };
}

describe("a connection leaves in time, and not before", () => {
  for (const [state, scenario] of Object.entries(scenarios)) {
    if (scenario.enter === never) continue;
    for (const mode of scenario.modes ?? MODES) {
      test(`${state}, ${mode}`, async () => {
        const host = await hostFor(scenario, mode);
        const client = await scenario.enter(host);
        const over = () => scenario.over?.(host, client) ?? (client.ended || client.closed);
        await host.clock.advance(DEADLINE_MS * 0.7);
        assert.equal(over(), false, "too early");
        let passed = 0.7 * DEADLINE_MS;
        await until(() => {
          // Bit by bit, for what the server has not quite come to yet; the others are much longer.
          if (!over() && (passed += 100) < 50 * DEADLINE_MS) void host.clock.advance(100);
          return over();
        }, "the state is over");
        client.destroy();
      });
    }
  }
});

describe("the table in docs/security.md", () => {
  const text = readFileSync(new URL("../docs/security.md", import.meta.url), "utf8");
  const [, section = ""] = /^## Deadlines$([^]*?)^## /m.exec(text) ?? [];
  const rows = [
    ...section.matchAll(
      /^\| `([a-z\d]+: [^`]+)` +\| (.+?) +\| `([^`]+)` +\| (.+?) +\| (.+?) +\|$/gm,
    ),
  ];

  test("has every state, with the deadline that runs in it", () => {
    const documented = Object.fromEntries(rows.map(([, state, , deadline]) => [state, deadline]));
    const wanted = Object.fromEntries(
      Object.entries(scenarios).map(([state, { deadline }]) => [state, deadline]),
    );
    assert.deepEqual(documented, wanted);
  });

  test("has the defaults", () => {
    const config: object = resolveConfig({ transportMode: "insecure" });
    const webSocket: object = resolveRouteOptions({});
    for (const [, state, , deadline, documented] of rows) {
      const [from, path] = deadline!.startsWith("websocket.")
        ? [webSocket, deadline!.slice(10)]
        : [config, deadline!];
      const value = path.split(".").reduce(
        (at, name) => (at as never)[name],
        from,
      ) as never as number;
      assert.equal(
        documented,
        value === Infinity ? "`Infinity`" : value.toLocaleString("en"),
        state!,
      );
    }
  });

  test("names tests that are there", () => {
    for (const [, state, , , , where] of rows) {
      const [, file, title] = /^(\w+_test\.ts)(?:, "(.+)")?$/.exec(where!) ?? [];
      const url = new URL(`./${file}`, import.meta.url);
      assert.ok(file !== undefined && existsSync(url), `${state}: ${where}`);
      const source = readFileSync(url, "utf8");
      for (const part of (title ?? "").split(" … ")) {
        assert.ok(source.includes(part), `${state}: ${part}`);
      }
    }
  });
});
