/**
 * The WebSocket protocol on a tunnel of memory, without a server, a session or a socket: what carries
 * the tunnel is none of the engine's concern.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import type { HttpsdError } from "../lib/errors.ts";
import type { Session } from "../lib/http/session.ts";
import type { Protocol, Tunnel } from "../lib/http/tunnel.ts";
import { Engine } from "../lib/websocket/engine.ts";
import { SocketHandle } from "../lib/websocket/handle.ts";
import { WebSocketHub } from "../lib/websocket/hub.ts";
import type {
  ServerWebSocket,
  WebSocketMessageStream,
  WebSocketOptions,
} from "../lib/websocket/mod.ts";
import { resolveRouteOptions } from "../lib/websocket/options.ts";
import { assertRuntime } from "./runtime.ts";
import { TestClock } from "./test_clock.ts";
import { type ClientFrame, clientFrame } from "./websocket_cases.ts";

assertRuntime();

const SEND_TIMEOUT_MS = 1_000;

/** A tunnel whose other end is the test. */
class MemoryTunnel implements Tunnel {
  readonly clock = new TestClock();
  readonly sendTimeoutMs = SEND_TIMEOUT_MS;
  readUntil = -Infinity;
  oldAt = Infinity;
  deadline = Infinity;
  closed = false;
  closing = false;
  peerEnded = false;
  stopped = false;
  /** What waits for the program, as the engine counts it. */
  held = 0;
  /** Whether the peer reads what is written. */
  reading = true;
  bufferedBytes = 0;
  /** How it was cut. */
  cut: HttpsdError | undefined;
  /** The writes that have left, each in one piece. */
  readonly writes: Buffer[] = [];
  /** What speaks on it. */
  protocol: Protocol | undefined;
  #corks = 0;
  #pending: Uint8Array[] = [];
  readonly #queue: Uint8Array[] = [];

  get ended(): boolean {
    return this.peerEnded && this.#queue.length === 0;
  }

  after(ms: number): number {
    return this.clock.now() + ms;
  }

  take(): Uint8Array | undefined {
    return this.#queue.shift();
  }

  hold(bytes: number): void {
    this.held = bytes;
  }

  write(bytes: Uint8Array): boolean {
    if (this.closed || this.closing) return false;
    if (bytes.length > 0) this.#pending.push(bytes);
    this.#flush();
    return this.reading;
  }

  cork(): void {
    this.#corks++;
  }

  uncork(): void {
    this.#corks--;
    this.#flush();
  }

  #flush(): void {
    if (this.#corks > 0 || this.#pending.length === 0) return;
    const bytes = Buffer.concat(this.#pending);
    this.#pending = [];
    if (this.reading) this.writes.push(bytes);
    else this.bufferedBytes += bytes.length;
  }

  close(): void {
    this.#flush();
    this.closing = true;
  }

  destroy(error?: HttpsdError): void {
    this.cut = error;
    this.end(error);
  }

  /** Frames come from the peer, in one piece. */
  receive(...frames: ClientFrame[]): void {
    this.#queue.push(Buffer.concat(frames.map(clientFrame)));
    this.protocol!.bytesReady();
  }

  /** Too much waits. */
  stop(): void {
    this.stopped = true;
    this.protocol!.stopped();
  }

  /** The peer ends its side. */
  endPeer(): void {
    this.peerEnded = true;
    this.protocol!.peerEnded();
    this.protocol!.bytesReady();
  }

  /** The tunnel is over. */
  end(error?: HttpsdError): void {
    this.closed = true;
    this.protocol!.closed(error);
  }

  /** Lets time go by up to the deadline, which passes; returns how long that took. */
  expire(): number {
    const ms = this.deadline - this.clock.now();
    void this.clock.advance(ms); // no timers run, so that it is done at once
    this.deadline = Infinity;
    this.protocol!.expired();
    return ms;
  }

  /** What was written and not looked at yet, as hex. */
  written(): string[] {
    return this.writes.splice(0).map((bytes) => bytes.toString("hex"));
  }
}

interface Opened {
  tunnel: MemoryTunnel;
  ws: ServerWebSocket;
  hub: WebSocketHub;
  /** The codes of what failed. */
  errors: string[];
}

/** Opens a socket on a tunnel of memory. */
function opened(options: WebSocketOptions): Opened {
  const errors: string[] = [];
  const hub = new WebSocketHub({
    failed: (_, { code }) => errors.push(code),
    touched: () => {},
    opened: () => {},
    closed: () => {},
  });
  const tunnel = new MemoryTunnel();
  const config = resolveRouteOptions(options);
  const engine = new Engine(tunnel, config, undefined, hub);
  tunnel.protocol = engine;
  const session = {} as Session; // which no engine looks into
  const ws = new SocketHandle(engine, hub, session, { protocol: "", extensions: "" });
  engine.open(ws, (ws) => options.onOpen?.(ws, undefined as never));
  return { tunnel, ws, hub, errors };
}

/** What an item of an inbox, and a chunk of a body, takes besides its bytes. */
const ITEM = 256;
const CHUNK = 256;

const nextTurn = () => new Promise<void>((resolve) => setImmediate(() => resolve()));

const CLOSE_1000: ClientFrame = { op: 8, hex: "03e8" };

describe("the engine on a tunnel of memory", () => {
  test("answers all of a turn in one write, and closes when both have said goodbye", async () => {
    const { tunnel, ws, hub } = opened({ onMessage: (ws, message) => void ws.send(message) });
    assert.deepEqual([...hub.sockets], [ws]);
    tunnel.receive({ op: 1, text: "a" }, { op: 2, hex: "ff" }, { op: 9, text: "p" });
    assert.deepEqual(tunnel.written(), ["8101" + "61" + "8201" + "ff" + "8a01" + "70"]);
    tunnel.receive(CLOSE_1000);
    await Promise.resolve(); // the promises of the callbacks
    assert.deepEqual(tunnel.written(), ["880203e8"]);
    assert.equal(tunnel.closing, true);
    assert.equal(ws.readyState, 2);
    assert.equal(hub.sockets.size, 0);
    tunnel.end();
    assert.equal(ws.readyState, 3);
    assert.deepEqual(await ws.closed, { code: 1000, reason: "", wasClean: true, error: undefined });
  });

  test("answers the client's Close only when what came before it is handled", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { tunnel, ws } = opened({ onMessage: () => promise });
    tunnel.receive({ op: 1, text: "a" }, CLOSE_1000);
    assert.deepEqual(tunnel.written(), []);
    assert.equal(ws.readyState, 1);
    resolve();
    await promise;
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(tunnel.written(), ["880203e8"]);
  });

  test("begins the closing handshake, and cuts a client that does not answer", async () => {
    const { tunnel, ws, errors } = opened({ timeouts: { closeMs: 70 }, onMessage: () => {} });
    ws.close(4000, "x");
    assert.deepEqual(tunnel.written(), ["88030fa078"]);
    assert.equal(tunnel.closing, false);
    assert.equal(tunnel.expire(), 70);
    assert.equal(tunnel.cut?.code, "CONNECTION_TIMEOUT");
    assert.deepEqual(errors, ["CONNECTION_TIMEOUT"]);
    assert.equal((await ws.closed).code, 1006);
  });

  test("is not clean where the client ends without a Close frame", async () => {
    const { tunnel, ws } = opened({ onMessage: () => {} });
    tunnel.endPeer();
    assert.equal(tunnel.closing, true);
    tunnel.end();
    assert.equal((await ws.closed).wasClean, false);
  });

  test("fails a client that breaks a rule, and reads nothing more", async () => {
    const { tunnel, ws, errors } = opened({ onMessage: (ws, message) => ws.send(message) });
    tunnel.receive({ op: 3 }, { op: 1, text: "a" });
    const [close] = tunnel.written();
    assert.match(close!, /^88..03ea/);
    assert.equal(tunnel.closing, true);
    assert.deepEqual(errors, ["WS_PROTOCOL"]);
    tunnel.end();
    assert.equal((await ws.closed).error?.code, "WS_PROTOCOL");
  });

  test("pings a quiet client, and cuts one that does not answer", () => {
    const { tunnel, errors } = opened({ pingPeriodMs: 50, notAliveMs: 80, onMessage: () => {} });
    assert.equal(tunnel.expire(), 50);
    assert.deepEqual(tunnel.written(), ["8900"]);
    tunnel.receive({ op: 10 });
    assert.equal(tunnel.expire() + tunnel.expire(), 50); // the deadline is moved when it has passed
    assert.deepEqual(tunnel.written(), ["8900"]);
    assert.equal(tunnel.expire(), 30);
    assert.deepEqual(errors, ["CONNECTION_TIMEOUT"]);
    assert.equal(tunnel.closed, true);
  });

  test("fails a message that does not come in time", () => {
    const { tunnel, errors } = opened({ timeouts: { messageMs: 60 }, onMessage: () => {} });
    tunnel.receive({ op: 1, fin: false, text: "a" });
    assert.equal(tunnel.expire(), 60);
    assert.match(tunnel.written()[0]!, /^88..03f0/);
    assert.deepEqual(errors, ["WS_MESSAGE_TIMEOUT"]);
  });

  test("holds a sender back that is not read, closes at the cap, and cuts in time", async () => {
    const { tunnel, ws, errors } = opened({ limits: { maxBufferedBytes: 3 }, onMessage: () => {} });
    tunnel.reading = false;
    let sent = false;
    const sending = ws.send("ab").then(() => sent = true);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sent, false);
    await assert.rejects(ws.send("c"), { code: "WS_SLOW_CONSUMER" });
    assert.equal(ws.readyState, 2);
    assert.equal(tunnel.expire(), SEND_TIMEOUT_MS);
    assert.deepEqual(errors, ["WS_SLOW_CONSUMER", "CONNECTION_TIMEOUT"]);
    await assert.rejects(sending, { code: "WS_CLOSED" });
  });

  test("spares a client that reads slowly, and what waits behind that", () => {
    const { tunnel, ws, errors } = opened({
      pingPeriodMs: 50,
      notAliveMs: 80,
      timeouts: { messageMs: 40, closeMs: 40 },
      onMessage: () => {},
    });
    const readsFor = (ms: number) => tunnel.readUntil = tunnel.clock.now() + ms;
    tunnel.reading = false;
    void ws.send("much");
    tunnel.receive({ op: 1, fin: false, text: "a" });
    readsFor(900);
    assert.equal(tunnel.expire(), 40); // its message
    assert.equal(tunnel.expire(), 50); // a Ping
    ws.close();
    assert.equal(tunnel.expire(), 40); // its Close frame
    assert.deepEqual([errors, tunnel.closed], [[], false]);
    assert.equal(tunnel.expire(), 770);
    assert.deepEqual(errors, ["CONNECTION_TIMEOUT"]);
  });

  test("takes no more than it may hold, and goes on when some was handled", async () => {
    const held: (() => void)[] = [];
    const onMessage = (): Promise<void> => new Promise((resolve) => held.push(resolve));
    const { tunnel } = opened({ onMessage });
    for (let i = 0; i < 6; i++) tunnel.receive({ op: 2, repeat: ["00", 20_000] });
    assert.equal(held.length, 1);
    tunnel.endPeer();
    assert.equal(tunnel.ended, false);
    for (let i = 0; i < 6; i++) {
      held[i]!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(held.length, 6);
    assert.equal(tunnel.ended, true);
    assert.equal(tunnel.closing, true);
  });

  test("counts what waits for onMessage, and what it has not come to", async () => {
    const held: (() => void)[] = [];
    const onMessage = (): Promise<void> => new Promise((resolve) => held.push(resolve));
    const { tunnel } = opened({ onMessage });
    tunnel.receive({ op: 2, hex: "00" });
    assert.equal(tunnel.held, 0, "what it works on is its own");
    tunnel.receive({ op: 2, repeat: ["00", 1_000] });
    assert.equal(tunnel.held, 1_000 + ITEM);
    tunnel.receive({ op: 1, text: "abc" });
    assert.equal(tunnel.held, 1_000 + ITEM + 6 + ITEM);
    const big: ClientFrame = { op: 2, repeat: ["00", 70_000] };
    tunnel.receive(big, big);
    const waiting = 1_000 + ITEM + 6 + ITEM + 70_000 + ITEM;
    assert.equal(tunnel.held, waiting + clientFrame(big).length, "the last waits as it came");
    const expected = [
      waiting - 1_000 - ITEM + clientFrame(big).length,
      70_000 + ITEM + clientFrame(big).length,
      70_000 + ITEM,
      0,
    ];
    for (const bytes of expected) {
      held.shift()!();
      await nextTurn();
      assert.equal(tunnel.held, bytes);
    }
  });

  test("counts what waits for onFrame, and for a loop", async () => {
    const done = Promise.withResolvers<void>();
    const frames = opened({ onFrame: () => done.promise });
    frames.tunnel.receive({ op: 2, hex: "00" }, { op: 2, fin: false, hex: "000000" });
    assert.equal(frames.tunnel.held, 3 + ITEM);
    done.resolve();
    await nextTurn();
    assert.equal(frames.tunnel.held, 0);

    let loop!: AsyncIterator<unknown>;
    const { tunnel, ws } = opened({ onOpen: (ws) => void (loop = ws[Symbol.asyncIterator]()) });
    tunnel.receive({ op: 2, hex: "00" }, { op: 2, hex: "0000" });
    assert.equal(tunnel.held, 1 + ITEM + 2 + ITEM);
    await loop.next();
    assert.equal(tunnel.held, 2 + ITEM);
    ws.close();
    assert.equal(tunnel.held, 0, "what is thrown away waits no more");
  });

  test("counts streamed messages that wait with their bodies, and the body under way", async () => {
    let messages!: ReadableStreamDefaultReader<WebSocketMessageStream>;
    const { tunnel } = opened({ onOpen: (ws) => void (messages = ws.messages.getReader()) });
    await nextTurn();
    tunnel.receive({ op: 2, hex: "00" }, { op: 2, fin: false, hex: "0000" });
    assert.equal(tunnel.held, ITEM + 1 + CHUNK + ITEM + 2 + CHUNK);
    await messages.read();
    assert.equal(tunnel.held, ITEM + 2 + CHUNK, "a whole one is the program's");
    const { value } = await messages.read();
    assert.equal(tunnel.held, 2 + CHUNK);
    tunnel.receive({ op: 0, fin: false, hex: "000000" });
    assert.equal(tunnel.held, 2 + CHUNK + 3 + CHUNK);
    const body = value!.body.getReader();
    await body.read();
    await nextTurn();
    assert.equal(tunnel.held, 3 + CHUNK);
    await body.cancel();
    assert.equal(tunnel.held, 0);
  });

  test("bounds the bodies of streamed messages that the program does not take", async () => {
    const { tunnel } = opened({ onOpen: (ws) => void ws.messages.getReader() });
    await nextTurn();
    for (let i = 0; i < 10; i++) tunnel.receive({ op: 2, repeat: ["00", 20_000] });
    assert.equal(tunnel.held, 4 * (ITEM + 20_000 + CHUNK));
  });

  test("hears the client's Close behind streamed messages that nothing takes", async () => {
    const { tunnel, ws } = opened({ onOpen: (ws) => void ws.messages.getReader() });
    await nextTurn();
    ws.close(1000);
    for (let i = 0; i < 10; i++) {
      tunnel.receive({ op: 2, fin: false, repeat: ["00", 70_000] }, { op: 0, hex: "00" });
    }
    assert.equal(tunnel.held, 0);
    tunnel.receive(CLOSE_1000);
    assert.equal(tunnel.closing, true);
  });

  test("closes a socket that is stopped when its program takes nothing in time", async () => {
    const held: (() => void)[] = [];
    const onMessage = (): Promise<void> => new Promise((resolve) => held.push(resolve));
    const endless = { pingPeriodMs: Infinity, notAliveMs: Infinity };
    const { tunnel, errors } = opened({ timeouts: { messageMs: 60 }, ...endless, onMessage });
    for (let i = 0; i < 6; i++) tunnel.receive({ op: 2, repeat: ["00", 30_000] });
    assert.equal(tunnel.deadline, Infinity, "what is read may take its time");
    tunnel.stop();
    void tunnel.clock.advance(40);
    held.shift()!();
    await nextTurn();
    assert.equal(tunnel.expire(), 60, "each message that is taken begins it anew");
    assert.match(tunnel.written()[0]!, /^88..03f3/);
    assert.deepEqual(errors, ["CONNECTION_TIMEOUT"]);
    assert.equal(tunnel.held, 0);
    tunnel.stopped = false;
    tunnel.endPeer();
    assert.equal(tunnel.closing, true, "the rest is read, so that the end is seen");
  });

  test("judges no client while the tunnel is stopped", () => {
    const { tunnel, errors } = opened({
      timeouts: { messageMs: 1_000 },
      pingPeriodMs: 50,
      notAliveMs: 80,
      onMessage: () => {},
    });
    tunnel.receive({ op: 1, fin: false, text: "a" }); // worth 5 s
    tunnel.stop();
    let passed = 0;
    while (errors.length === 0) passed += tunnel.expire();
    assert.equal(passed, 1_000);
    assert.deepEqual(tunnel.written().map((hex) => hex.slice(0, 2)), ["88"]);
    assert.deepEqual(errors, ["CONNECTION_TIMEOUT"], "of the program");
  });

  test("stays closed where onError cuts the socket", async () => {
    const { tunnel, ws } = opened({
      timeouts: { messageMs: 60 },
      onMessage: () => {},
      onError: (ws) => ws.destroy(),
    });
    tunnel.receive({ op: 2, hex: "00" });
    tunnel.stop();
    tunnel.expire();
    assert.equal(ws.readyState, 3);
    await ws.closed;
  });

  test("leaves the server's sockets and its topics when its session ends", async () => {
    const { tunnel, ws, hub } = opened({ onMessage: () => {} });
    ws.subscribe("news");
    assert.equal(hub.publish("news", "x"), 1);
    tunnel.protocol!.leave();
    assert.equal(hub.publish("news", "y") + hub.broadcast("y"), 0);
    assert.deepEqual(tunnel.written(), [], "what is sent to many leaves at the end of the turn");
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(tunnel.written(), ["810178" + "880203e9"]);
  });
});
