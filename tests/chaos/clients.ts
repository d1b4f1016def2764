/**
 * The clients of the chaos test. The faithful ones send each of their requests until it is answered,
 * and hold the server to it; the others do what clients and networks do: they pipeline, end one side,
 * reset, stall, send one byte too many, do not read, upgrade and vanish. Whatever is answered to any
 * of them must be right, and each of their connections must end within the server's deadlines.
 *
 * @module
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { RawClient } from "../http_support.ts";
import type { Random } from "../random.ts";
import { runtime } from "../runtime.ts";
import { clientHello } from "../support.ts";
import { clientFrame } from "../websocket_cases.ts";
import { handshake } from "../websocket_support.ts";
import { mutate } from "../fuzz/engine.ts";
import { http } from "../fuzz/targets.ts";
import { ROUTES, secret } from "./protocol.ts";

/** After so long without what must come, a server is stuck: much more than any of its deadlines. */
export const STUCK_MS = 20_000;

/** A request that was sent and not answered, on a connection that nothing but the server has ended. */
export interface Unanswered {
  readonly sending: string;
  /** The client's port. */
  readonly port: number;
}

/** What the clients share. */
export class World {
  readonly mode: "plain" | "tls";
  /** Where the server listens now. */
  port = 0;
  /** The clients shall do nothing any more, and leave their connections as they are. */
  frozen = false;
  sendings = 0;
  /** The numbers of answers that were right. */
  answers = 0;
  readonly unanswered: Unanswered[] = [];
  /** Connections that were left open. */
  readonly left: { destroy(): void }[] = [];
  /** How often each client has come to its end. */
  readonly ends: Record<string, number> = {};

  constructor(mode: "plain" | "tls") {
    this.mode = mode;
  }

  /** Connects; undefined when the server does not take the connection, as while it restarts. */
  async connect(): Promise<RawClient | undefined> {
    const socket = await this.socket();
    return socket && new RawClient(socket);
  }

  /** Connects, and leaves the protocol to the caller. */
  async socket(ALPNProtocols: string[] = []): Promise<net.Socket | undefined> {
    const target = { port: this.port, host: "127.0.0.1", allowHalfOpen: true };
    const secure = { servername: "localhost", rejectUnauthorized: false, ALPNProtocols };
    const socket = this.mode === "plain"
      ? net.connect({ ...target, noDelay: true })
      : tls.connect({ ...target, ...secure } as object);
    const over = new AbortController();
    const events = [this.mode === "plain" ? "connect" : "secureConnect", "error", "close"];
    const stuck = AbortSignal.timeout(STUCK_MS);
    const signal = AbortSignal.any([over.signal, stuck]);
    socket.on("error", () => {}); // it may come in the turn in which another event has been seen
    const event = await Promise.race(
      events.map((event) => once(socket, event, { signal }).then(() => event, () => "error")),
    );
    over.abort();
    assert.ok(!stuck.aborted, "a connection was neither taken nor refused");
    if (event === events[0]) return socket;
    socket.destroy();
    return undefined;
  }

  /** One request with a number of its own. */
  request(random: Random, { length = random.oneIn(4) ? random.below(20_000) : 0 } = {}): Sending {
    const number = random.below(1_000_000);
    const sending = `${++this.sendings}`;
    const route = random.pick(ROUTES);
    const target = `/${route}?number=${number}&sending=${sending}&ms=${random.below(6)}`;
    const chunked = random.oneIn(3);
    const body = "b".repeat(length);
    const head = `POST ${target} HTTP/1.1\r\nHost: localhost\r\n`;
    const text = chunked
      ? `${head}Transfer-Encoding: chunked\r\n\r\n` +
        (length > 0 ? `${length.toString(16)}\r\n${body}\r\n` : "") + "0\r\n\r\n"
      : `${head}Content-Length: ${length}\r\n\r\n${body}`;
    const answer = secret(number) + (route === "early" ? "" : "x".repeat(length));
    return { sending, text, answer };
  }

  /** A client is done with a connection. */
  leave(client: { destroy(): void }): void {
    if (this.frozen) this.left.push(client);
    else client.destroy();
  }

  count(what: string): void {
    this.ends[what] = (this.ends[what] ?? 0) + 1;
  }
}

/** A request on its way, and what it must be answered with. */
interface Sending {
  readonly sending: string;
  readonly text: string;
  readonly answer: string;
}

interface Answer {
  readonly status: number;
  readonly close: boolean;
  readonly body: string;
}

/** Takes the first whole response off what a client has got; `undefined` when there is none yet. */
function takeAnswer(client: RawClient): Answer | undefined {
  const { text } = client;
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const head = text.slice(0, end + 2);
  const status = /^HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n/.exec(head)?.[1];
  assert.ok(status !== undefined, `no response: ${JSON.stringify(text.slice(0, 200))}`);
  const length = /^content-length: (\d+)\r$/im.exec(head)?.[1];
  const framed = length === undefined
    ? takeChunks(text, end + 4)
    : text.length < end + 4 + Number(length)
    ? undefined
    : { body: text.slice(end + 4, end + 4 + Number(length)), end: end + 4 + Number(length) };
  if (framed === undefined) return undefined;
  client.text = text.slice(framed.end);
  return {
    status: Number(status),
    close: /^connection: close\r$/im.test(head),
    body: framed.body,
  };
}

function takeChunks(text: string, at: number): { body: string; end: number } | undefined {
  let body = "";
  for (;;) {
    const line = text.indexOf("\r\n", at);
    if (line < 0) return undefined;
    const size = text.slice(at, line);
    assert.match(size, /^[0-9a-f]+$/, "no chunk size");
    const end = line + 2 + parseInt(size, 16);
    if (text.length < end + 2) return undefined;
    assert.equal(text.slice(end, end + 2), "\r\n", "a chunk of another size");
    body += text.slice(line + 2, end);
    at = end + 2;
    if (size === "0") return { body, end: at };
  }
}

/** Waits for the next answer; `undefined` at the end of the connection. */
async function nextAnswer(client: RawClient): Promise<Answer | undefined> {
  return await within(client, async () => {
    for (;;) {
      const answer = takeAnswer(client);
      if (answer !== undefined || client.ended || client.closed) return answer;
      const { length } = client.text;
      const more = () => client.text.length > length || client.ended;
      await client.until(more).catch(() => {}); // the connection is over
    }
  });
}

/** Waits for the server's end, and fails when it does not come. */
const serverEnds = (client: RawClient): Promise<unknown> => within(client, () => client.rest());

async function within<T>(client: RawClient, wait: () => Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stuck = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const { text, socket: { localPort } } = client;
      const got = JSON.stringify(text.slice(0, 200));
      reject(new Error(`Neither an answer nor an end for port ${localPort}, which has got ${got}`));
    }, STUCK_MS);
  });
  try {
    return await Promise.race([wait(), stuck]);
  } finally {
    clearTimeout(timer);
  }
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Sends a text in one piece or in some. */
async function sendCut(client: RawClient, text: string, random: Random): Promise<void> {
  for (let left = text; left !== "";) {
    const at = random.oneIn(3) ? 1 + random.below(left.length) : left.length;
    client.send(left.slice(0, at));
    left = left.slice(at);
    if (left !== "") await sleep(random.below(4));
  }
}

/** Resets the connection, as a network may. */
function reset({ socket }: RawClient): void {
  ((socket as { _parent?: typeof socket })._parent ?? socket).resetAndDestroy();
}

/**
 * Reads answers to the sendings until there are no more, and holds each to the one that it is for. A
 * refusal may take the place of one answer, as the last.
 */
async function readAnswers(
  world: World,
  client: RawClient,
  sendings: readonly Sending[],
  refusals: readonly number[],
): Promise<number> {
  let answered = 0;
  for (;;) {
    const answer = await nextAnswer(client);
    if (answer === undefined) return answered;
    if (refusals.includes(answer.status)) {
      assert.ok(answer.close, `${answer.status} that is not the last answer`);
      await serverEnds(client);
      assert.equal(client.text, "", "bytes behind the last answer");
      return answered;
    }
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.body, sendings[answered]?.answer, `answer ${answered}`);
    answered++;
    world.answers++;
    if (answer.close) {
      await serverEnds(client);
      assert.equal(client.text, "", "bytes behind the last answer");
      return answered;
    }
    if (answered === sendings.length && refusals.length === 0) return answered;
  }
}

/** A client, from one connection to the next. */
export type Role = (world: World, random: Random) => Promise<void>;

/**
 * Sends batches on one connection until it ends; what was not answered must not have been handled,
 * so that it is safe to send again.
 */
const faithful: Role = async (world, random) => {
  const client = await world.connect();
  if (client === undefined) return;
  const port = client.socket.localPort!;
  while (!world.frozen) {
    const batch = Array.from({ length: 1 + random.below(4) }, () => world.request(random));
    await sendCut(client, batch.map(({ text }) => text).join(""), random);
    const answered = await readBatch(world, client, batch);
    if (answered < batch.length) {
      for (const { sending } of batch.slice(answered)) world.unanswered.push({ sending, port });
      return client.destroy();
    }
    if (client.ended || client.closed) return client.destroy();
    if (random.oneIn(4)) await sleep(random.below(30));
  }
  world.leave(client);
};

/** Reads the answers of a batch: all, or those before the end or before a 408. */
async function readBatch(
  world: World,
  client: RawClient,
  batch: readonly Sending[],
): Promise<number> {
  for (const [i, { answer: body }] of batch.entries()) {
    const answer = await nextAnswer(client);
    if (answer === undefined || answer.status === 408) {
      world.count(answer === undefined ? "ended by the server" : "too slow for the server");
      return i;
    }
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.body, body);
    world.answers++;
    if (answer.close) {
      await serverEnds(client);
      assert.equal(client.text, "", "bytes behind the last answer");
      return i + 1;
    }
  }
  assert.equal(client.text, "", "bytes behind the answers");
  return batch.length;
}

/** Sends requests and ends its side, at once or later. */
const halfCloser: Role = async (world, random) => {
  const client = await world.connect();
  if (client === undefined) return;
  const batch = Array.from({ length: 1 + random.below(3) }, () => world.request(random));
  const text = batch.map(({ text }) => text).join("");
  client.send(random.oneIn(3) ? text.slice(0, random.below(text.length)) : text);
  if (random.oneIn(2)) await sleep(random.below(10));
  client.end();
  await readAnswers(world, client, batch, [400, 408, 500, 503]);
  world.leave(client);
};

/** Sends requests, or the beginning of some, and resets. */
const resetter: Role = async (world, random) => {
  const client = await world.connect();
  if (client === undefined) return;
  const text = world.request(random).text.repeat(1); // no other request's
  client.send(text.slice(0, random.below(text.length + 1)));
  if (random.oneIn(2)) await sleep(random.below(12));
  reset(client);
};

/** Says nothing, or the beginning of something, and waits to be thrown out. */
const staller: Role = async (world, random) => {
  const client = await world.connect();
  if (client === undefined) return;
  const sending = world.request(random);
  const { text } = sending;
  if (!random.oneIn(3)) client.send(text.slice(0, random.below(text.length)));
  await readAnswers(world, client, [sending], [400, 408]);
  world.leave(client);
};

/** Sends too much behind a request, and waits. */
const oneByteTooMany: Role = async (world, random) => {
  const client = await world.connect();
  if (client === undefined) return;
  const sending = world.request(random);
  const rest = random.pick([
    "G",
    "\r",
    "\r\n",
    "\n",
    "\0",
    "\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "\x16",
  ]);
  client.send(sending.text + rest);
  if (random.oneIn(3)) client.end();
  await readAnswers(world, client, [sending], [400, 408]);
  world.leave(client);
};

/** Asks for more than fits anywhere, and does not read. */
const slowReader: Role = async (world, random) => {
  if (world.mode === "tls" && runtime === "deno") return; // its TLS clients cannot stop reading
  const client = await world.connect();
  if (client === undefined) return;
  client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
  client.socket.pause();
  await sleep(random.below(400));
  random.pick([() => client.socket.resume(), () => reset(client), () => {}])();
  world.leave(client);
};

/** Speaks something else. */
const stranger: Role = async (world, random) => {
  const socket = net.connect({ port: world.port, host: "127.0.0.1", allowHalfOpen: true });
  const client = new RawClient(socket);
  const bytes = random.pick([
    () => "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    () => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    () => "",
    () => "\0\0\0\0",
    () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    () => hello.subarray(0, random.below(hello.length)).toString("latin1"),
    () => asText(mutate(http.corpus, http.tokens, random)),
    () => asText(mutate(http.corpus, http.tokens, random)),
  ])();
  client.send(bytes);
  if (random.oneIn(4)) client.end();
  await serverEnds(client);
  world.leave(client);
};

/** What a client of this runtime begins a handshake with. */
const hello = await clientHello();

/** Upgrades, exchanges numbered messages, and leaves in one of many ways. */
const upgrader: Role = async (world, random) => {
  const client = await world.connect();
  if (client === undefined) return;
  client.send(handshake("/ws"));
  const answered = () => client.ended || client.text.includes("\r\n\r\n");
  await within(client, () => client.until(answered).catch(() => {}));
  if (!client.text.startsWith("HTTP/1.1 101 ")) return client.destroy();
  client.text = client.text.slice(client.text.indexOf("\r\n\r\n") + 4);
  const number = () => secret(random.below(1_000_000));
  for (let turns = random.below(5); turns > 0; turns--) {
    const texts = Array.from({ length: 1 + random.below(3) }, number);
    await sendCut(
      client,
      texts.map((text) => asText(clientFrame({ op: 1, text }))).join(""),
      random,
    );
    for (const text of texts) {
      const frame = await nextText(client);
      if (frame === undefined) return client.destroy();
      assert.equal(frame, text, "another message than the one that was sent");
      world.answers++;
    }
  }
  const frame = clientFrame({ op: 1, text: number() });
  switch (random.below(6)) {
    case 0: // in good order
      client.send(clientFrame({ op: 8, hex: "03e8" }));
      break;
    case 1:
      client.send(frame.subarray(0, random.below(frame.length)));
      break;
    case 2:
      client.send(clientFrame({ op: 3 }));
      break;
    case 3:
      return reset(client);
    case 4:
      client.end();
      break;
    case 5: // does nothing
  }
  await serverEnds(client);
  world.leave(client);
};

const asText = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

/** The next text message, of less than 126 bytes; `undefined` when the server closes. */
async function nextText(client: RawClient): Promise<string | undefined> {
  for (;;) {
    await within(
      client,
      () => client.until(() => client.ended || frameIn(client.text) !== undefined).catch(() => {}),
    );
    const frame = frameIn(client.text);
    if (frame === undefined || frame.op === 8) return undefined;
    client.text = client.text.slice(frame.end);
    if (frame.op === 1) return frame.text;
    assert.equal(frame.op, 9, "neither a message nor a Ping");
    client.send(clientFrame({ op: 10, text: frame.text }));
  }
}

function frameIn(text: string): { op: number; text: string; end: number } | undefined {
  const length = text.charCodeAt(1);
  assert.ok(text.length < 2 || length < 126, "a longer frame than any that was sent");
  if (text.length < 2 || text.length < 2 + length) return undefined;
  return { op: text.charCodeAt(0) & 15, text: text.slice(2, 2 + length), end: 2 + length };
}

/** More connections at once than the server takes. */
const crowd: Role = async (world, random) => {
  const sockets = Array.from(
    { length: 70 },
    () => net.connect({ port: world.port, host: "127.0.0.1" }).on("error", () => {}),
  );
  await sleep(random.below(200));
  for (const socket of sockets) socket.destroy();
};

/** All of them, with how many there are of each. */
export const ROLES: Readonly<Record<string, readonly [role: Role, clients: number]>> = {
  faithful: [faithful, 10],
  halfCloser: [halfCloser, 2],
  resetter: [resetter, 1],
  staller: [staller, 3],
  oneByteTooMany: [oneByteTooMany, 2],
  slowReader: [slowReader, 1],
  stranger: [stranger, 2],
  upgrader: [upgrader, 3],
  crowd: [crowd, 1],
};

/** Plays a role until the world is frozen. */
export async function play(name: string, role: Role, world: World, random: Random): Promise<void> {
  while (!world.frozen) {
    await role(world, random);
    world.count(name);
    await sleep(random.below(name === "crowd" ? 2_000 : 20));
  }
}
