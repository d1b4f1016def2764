/**
 * The clients of the chaos test that speak HTTP/2: what those of clients.ts do to connections, these
 * do to connections and to streams.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mutate } from "../fuzz/engine.ts";
import { frames as fuzzed } from "../fuzz/http2_frames.ts";
import {
  Code,
  data,
  Flag,
  headers,
  Http2Client,
  join,
  ping,
  PREFACE,
  priorityUpdate,
  requestFields,
  reset,
  Setting,
  settings,
  Type,
  webSocketFields,
  windowUpdate,
} from "../http2_client.ts";
import type { Random } from "../random.ts";
import { clientFrame } from "../websocket_cases.ts";
import { type Role, STUCK_MS, type World } from "./clients.ts";
import { ROUTES, secret } from "./protocol.ts";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const OPEN = { endStream: false };

/** Statuses that refuse a request whose client was too slow, or whose server is about to stop. */
const REFUSALS = [408, 503];

async function connect(
  world: World,
  options: Parameters<typeof Http2Client.over>[1] = {},
): Promise<Http2Client | undefined> {
  const socket = await world.socket(["h2"]);
  return socket && Http2Client.over(socket, options);
}

/** A request on its way, and what it must be answered with. */
interface Sending {
  readonly sending: string;
  readonly streamId: number;
  readonly answer: string;
}

/** Sends a request, its body in pieces between which others may come. */
async function send(world: World, client: Http2Client, random: Random): Promise<Sending> {
  const number = random.below(1_000_000);
  const sending = `${++world.sendings}`;
  const route = random.pick(ROUTES);
  const path = `/${route}?number=${number}&sending=${sending}&ms=${random.below(6)}`;
  const length = random.oneIn(4) ? random.below(20_000) : 0;
  const answer = secret(number) + (route === "early" ? "" : "x".repeat(length));
  const streamId = client.nextStreamId();
  const scheme = world.mode === "tls" ? "https" : "http";
  const fields = requestFields({ scheme, method: "POST", path });
  if (random.oneIn(5)) {
    fields.push(["priority", `u=${random.below(8)}${random.oneIn(2) ? ", i" : ""}`]);
  }
  const padding = random.oneIn(5) ? { padding: random.below(256) } : {};
  client.send(headers(streamId, fields, { endStream: length === 0, ...padding }));
  for (let left = length; left > 0 && !client.closed;) {
    const size = Math.min(left, 1 + random.below(16_000));
    left -= size;
    if (random.oneIn(3)) await sleep(random.below(4));
    client.send(data(streamId, "b".repeat(size), { endStream: left === 0, ...padding }));
    if (random.oneIn(8)) client.send(priorityUpdate(streamId, `u=${random.below(8)}`));
  }
  return { sending, streamId, answer };
}

const isOver = (client: Http2Client): boolean => client.ended || client.closed;

/** Whether all that will come on a stream has come. */
function isAnswered(client: Http2Client, streamId: number): boolean {
  return client.frames.some(({ type, flags, streamId: id }) =>
    id === streamId && (type === Type.RST_STREAM ||
      (type === Type.DATA || type === Type.HEADERS) && (flags & Flag.END_STREAM) !== 0)
  );
}

/** Waits, and fails when the server neither does it nor ends the connection. */
async function wait(client: Http2Client, done: () => boolean, what: string): Promise<void> {
  await client.until(() => done() || isOver(client), what, STUCK_MS);
}

const serverEnds = (client: Http2Client): Promise<void> =>
  wait(client, () => false, "an end by the server");

/** Holds an answer to what it must be; `false` when there is none. */
function check(world: World, client: Http2Client, { streamId, answer }: Sending): boolean {
  const { status, body, ended, reset } = client.soFar(streamId);
  if (!ended || reset !== undefined && reset !== "NO_ERROR") return false;
  if (REFUSALS.includes(status)) return true;
  assert.equal(status, 200, client.story());
  assert.equal(body.toString("latin1"), answer, `stream ${streamId}`);
  world.answers++;
  return true;
}

/**
 * Sends batches on one connection, all of a batch at once, until it ends; what was not answered must
 * not have been handled, so that it is safe to send again.
 */
const faithful: Role = async (world, random) => {
  const client = await connect(world);
  if (client === undefined) return;
  const port = client.socket.localPort!;
  while (!world.frozen && !isOver(client) && client.goaway === undefined) {
    const batch = await Promise.all(
      Array.from({ length: 1 + random.below(6) }, () => send(world, client, random)),
    );
    const done = () => batch.every(({ streamId }) => isAnswered(client, streamId));
    await wait(client, done, "the answers");
    for (const sending of batch) {
      if (check(world, client, sending)) continue;
      world.count("unanswered on HTTP/2");
      world.unanswered.push({ sending: sending.sending, port });
    }
    client.frames.length = 0;
    if (random.oneIn(4)) await sleep(random.below(30));
  }
  if (client.goaway !== undefined) await serverEnds(client);
  world.leave(client);
};

/** Resets some of its streams, and waits for the answers of the others. */
const resetter: Role = async (world, random) => {
  const client = await connect(world);
  if (client === undefined) return;
  for (let turns = 1 + random.below(4); turns > 0 && !isOver(client); turns--) {
    const batch = await Promise.all(
      Array.from({ length: 1 + random.below(8) }, () => send(world, client, random)),
    );
    if (random.oneIn(2)) await sleep(random.below(8));
    const kept = batch.filter(({ streamId }) => {
      if (random.oneIn(2)) return true;
      client.send(reset(streamId, random.pick([Code.CANCEL, Code.NO_ERROR, 0xff])));
      return false;
    });
    const done = () => kept.every(({ streamId }) => isAnswered(client, streamId));
    await wait(client, done, "the answers of those that were not reset");
    for (const sending of kept) check(world, client, sending);
  }
  if (random.oneIn(2)) return client.resetConnection();
  world.leave(client);
};

/** Sends requests and ends its side, at once or later. */
const halfCloser: Role = async (world, random) => {
  const client = await connect(world);
  if (client === undefined) return;
  const batch = await Promise.all(
    Array.from({ length: 1 + random.below(4) }, () => send(world, client, random)),
  );
  if (random.oneIn(2)) await sleep(random.below(10));
  client.end();
  await serverEnds(client);
  for (const sending of batch) check(world, client, sending);
  world.leave(client);
};

/** Says the beginning of something, and waits to be thrown out. */
const staller: Role = async (world, random) => {
  const client = await connect(world, { settings: null, acknowledge: random.oneIn(2) });
  if (client === undefined) return;
  const scheme = world.mode === "tls" ? "https" : "http";
  const head = headers(1, requestFields({ scheme, method: "POST", path: "/none" }), OPEN);
  const text = join(PREFACE, settings(), head, data(1, "x".repeat(100), OPEN), ping());
  client.send(text.subarray(0, 1 + random.below(text.length)));
  await serverEnds(client);
  world.leave(client);
};

/** Sends frames that are broken somewhere. */
const breaker: Role = async (world, random) => {
  const client = await connect(world, { settings: null });
  if (client === undefined) return;
  const bytes = mutate(fuzzed.corpus, fuzzed.tokens, random);
  if (random.oneIn(2)) client.send(PREFACE, settings());
  await client.drip(bytes, 1 + random.below(bytes.length));
  if (random.oneIn(3)) client.end();
  await serverEnds(client);
  world.leave(client);
};

/** Asks for more than its windows let through, opens them a little or not at all. */
const slowReader: Role = async (world, random) => {
  const client = await connect(world, {
    giveBack: false,
    settings: [[Setting.INITIAL_WINDOW_SIZE, random.pick([0, 1, 1_000, 65_535, 10_000_000])]],
  });
  if (client === undefined) return;
  const scheme = world.mode === "tls" ? "https" : "http";
  const ids = Array.from({ length: 1 + random.below(4) }, () => client.nextStreamId());
  client.send(...ids.map((id) => headers(id, requestFields({ scheme, path: "/big" }))));
  for (let turns = random.below(20); turns > 0 && !isOver(client); turns--) {
    await sleep(random.below(30));
    client.send(windowUpdate(random.pick([0, ...ids]), 1 + random.below(100_000)));
  }
  const done = () => ids.every((id) => isAnswered(client, id));
  await wait(client, done, "an end of answers that are not read");
  if (random.oneIn(2)) return client.resetConnection();
  world.leave(client);
};

/** Opens WebSockets on streams, exchanges numbered messages, and leaves in one of many ways. */
const upgrader: Role = async (world, random) => {
  const client = await connect(world);
  if (client === undefined) return;
  const ids = Array.from({ length: 1 + random.below(3) }, () => client.nextStreamId());
  const scheme = world.mode === "tls" ? "https" : "http";
  for (const id of ids) {
    client.send(headers(id, webSocketFields("/ws", { scheme }), OPEN));
  }
  const opened = (id: number) => client.soFar(id).status > 0 || isAnswered(client, id);
  await wait(client, () => ids.every(opened), "the WebSockets");
  const number = () => secret(random.below(1_000_000));
  const expected = new Map(ids.map((id) => [id, [] as string[]]));
  for (let turns = random.below(8); turns > 0 && !isOver(client); turns--) {
    const id = random.pick(ids);
    if (client.soFar(id).status !== 200 || isAnswered(client, id)) continue;
    const text = number();
    client.send(data(id, clientFrame({ op: 1, text }), OPEN));
    expected.get(id)!.push(text);
    const came = () => textsOf(client, id).length >= expected.get(id)!.length;
    await wait(client, () => came() || isAnswered(client, id), "the message");
  }
  for (const [id, texts] of expected) {
    const got = textsOf(client, id);
    assert.deepEqual(got, texts.slice(0, got.length), "other messages than those that were sent");
    world.answers += got.length;
  }
  const id = random.pick(ids);
  switch (random.below(6)) {
    case 0: // in good order
      if (!isAnswered(client, id)) client.send(data(id, clientFrame({ op: 8, hex: "03e8" })));
      break;
    case 1:
      if (!isAnswered(client, id)) client.send(data(id, clientFrame({ op: 1, text: "x" }), OPEN));
      break;
    case 2:
      client.send(reset(id));
      break;
    case 3:
      return client.resetConnection();
    case 4:
      client.end();
      break;
    case 5: // does nothing
  }
  await serverEnds(client);
  world.leave(client);
};

/** The text messages that have come on a stream, each of less than 126 bytes; Pings are left out. */
function textsOf(client: Http2Client, streamId: number): string[] {
  const { body } = client.soFar(streamId);
  const texts: string[] = [];
  for (let at = 0; at + 2 <= body.length;) {
    const end = at + 2 + body[at + 1]!;
    if (end > body.length) break;
    if ((body[at]! & 15) === 1) texts.push(body.toString("latin1", at + 2, end));
    at = end;
  }
  return texts;
}

/** All of them, with how many there are of each. */
export const HTTP2_ROLES: Readonly<Record<string, readonly [role: Role, clients: number]>> = {
  faithful: [faithful, 8],
  resetter: [resetter, 3],
  halfCloser: [halfCloser, 2],
  staller: [staller, 3],
  breaker: [breaker, 3],
  slowReader: [slowReader, 2],
  upgrader: [upgrader, 3],
};
