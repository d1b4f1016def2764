/**
 * Nothing is lost: clients send numbered requests while connections are reset, closed, cut and
 * purged, certificates change, and the server stops and starts again, at random but from a seed.
 * Every request is answered once and rightly, or its connection ends with the request untouched, so
 * that it is safe to send again; and each session's events follow one another as they may.
 *
 * `HTTPSD_CLIENTS` is how many clients there are (default: 60; the full run: 200), `HTTPSD_SEED`
 * what chance begins with.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import process from "node:process";
import type { ServerErrorEvent, SessionEvent } from "../lib/events.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import type { Session } from "../lib/httpd/session.ts";
import type { HttpsServer } from "../lib/server.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import {
  type Mode,
  MODES,
  RawClient,
  sleep,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connect, until } from "./support.ts";

assertRuntime();

stopServersAfterAll();

const CLIENTS = Number(process.env["HTTPSD_CLIENTS"] ?? 60);
const REQUESTS = 20;
const SEED = Number(process.env["HTTPSD_SEED"] ?? 20261123);
const STUCK_MS = 10_000;

/** Marsaglia's xorshift32: the same numbers in every run. */
function chance(seed: number): (below: number) => number {
  let state = seed || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** What the handler does with one number; whoever answers it otherwise is wrong. */
const secret = (number: number): string => `<${number}:${Math.imul(number, 2654435761) >>> 0}>`;

/** What happened to each request that was sent; the number of a sending is never used again. */
class Book {
  sendings = 0;
  /** Sendings that a handler has begun with. */
  readonly handled = new Map<string, number>();
  /** The client's ports of connections that were reset or cut, where an answer may be lost. */
  readonly cut = new Set<number>();
  /** Sendings that were not answered, and were sent again. */
  again = 0;
  answers = 0;

  handler = async (request: HttpdRequest): Promise<void> => {
    const { query } = request;
    const sending = query.get("sending")!;
    this.handled.set(sending, (this.handled.get(sending) ?? 0) + 1);
    let length = 0;
    for await (const bytes of request.body) length += bytes.length;
    await sleep(Number(query.get("ms")));
    request.send(`${secret(Number(query.get("number")))}${"x".repeat(length)}`);
  };
}

interface Sending {
  readonly number: number;
  readonly sending: string;
  readonly bodyLength: number;
  readonly text: string;
}

function sendingOf(book: Book, number: number, random: (below: number) => number): Sending {
  const sending = `${++book.sendings}`;
  const bodyLength = random(4) === 0 ? random(20_000) : 0;
  const target = `/?number=${number}&sending=${sending}&ms=${random(6)}`;
  const text =
    `POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bodyLength}\r\n\r\n` +
    "b".repeat(bodyLength);
  return { number, sending, bodyLength, text };
}

/** Takes the first whole response off a text; `undefined` when there is none yet. */
function firstResponse(text: string): { body: string; close: boolean; rest: string } | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const head = text.slice(0, end);
  assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
  const length = Number(/^Content-Length: (\d+)$/m.exec(head)![1]);
  if (text.length < end + 4 + length) return undefined;
  return {
    body: text.slice(end + 4, end + 4 + length),
    close: head.includes("\r\nConnection: close"),
    rest: text.slice(end + 4 + length),
  };
}

/** One client, who sends each of its numbers until it is answered. */
class Sender {
  readonly #server: HttpsServer;
  readonly #mode: Mode;
  readonly #book: Book;
  readonly #random: (below: number) => number;
  #client: RawClient | undefined;

  constructor(server: HttpsServer, mode: Mode, book: Book, seed: number) {
    this.#server = server;
    this.#mode = mode;
    this.#book = book;
    this.#random = chance(seed);
  }

  async run(numbers: number[]): Promise<void> {
    const left = [...numbers];
    while (left.length > 0) {
      const batch = left.slice(0, 1 + this.#random(3)); // some are pipelined
      const answered = await this.#send(batch);
      left.splice(0, answered);
      this.#book.again += batch.length - answered;
      if (this.#random(4) === 0) await sleep(this.#random(10));
    }
    this.#client?.destroy();
  }

  /** Resets the connection, as a network may. */
  reset(): void {
    if (this.#client === undefined) return;
    this.#cut(this.#client);
    const { socket } = this.#client;
    ((socket as { _parent?: typeof socket })._parent ?? socket).resetAndDestroy();
  }

  #cut({ socket }: RawClient): void {
    if (socket.localPort !== undefined) this.#book.cut.add(socket.localPort);
  }

  /** Sends a batch; returns how many of it were answered before the connection ended. */
  async #send(numbers: number[]): Promise<number> {
    const client = await this.#connected();
    const port = client.socket.localPort!;
    const batch = numbers.map((number) => sendingOf(this.#book, number, this.#random));
    client.text = "";
    client.send(batch.map(({ text }) => text).join(""));
    let answered = 0;
    let closing = false;
    for (const { number, bodyLength } of batch) {
      const response = await this.#response(client);
      if (response === undefined) break;
      assert.equal(closing, false, "an answer came behind the last one");
      assert.equal(response.body, secret(number) + "x".repeat(bodyLength));
      client.text = response.rest;
      closing = response.close;
      answered++;
      this.#book.answers++;
    }
    if (answered === batch.length) assert.equal(client.text, "", "bytes behind the answers");
    if (answered < batch.length || closing) {
      this.#check(client, port, batch.slice(answered));
      client.destroy();
      this.#client = undefined;
    }
    return answered;
  }

  /** What was not answered was not touched either, unless the connection was cut under it. */
  #check(client: RawClient, port: number, unanswered: Sending[]): void {
    if (this.#book.cut.has(port)) return;
    assert.equal(client.text, "", "half an answer");
    for (const { sending } of unanswered) {
      assert.equal(this.#book.handled.get(sending), undefined, `${sending} is safe to send again`);
    }
  }

  async #response(client: RawClient) {
    const stuck = setTimeout(() => client.socket.destroy(new Error("stuck")), STUCK_MS);
    for (;;) {
      const response = firstResponse(client.text);
      if (response !== undefined || client.ended || client.closed) {
        clearTimeout(stuck);
        assert.notEqual(client.error?.message, "stuck", "neither an answer nor an end");
        return response;
      }
      await client.until(() =>
        client.ended || client.closed || firstResponse(client.text) !== undefined
      ).catch(() => {});
    }
  }

  async #connected(): Promise<RawClient> {
    while (this.#client === undefined) {
      try {
        const { port } = this.#server.address;
        const options = { rejectUnauthorized: false };
        this.#client = new RawClient(await connect({ mode: this.#mode, port }, options));
      } catch {
        await sleep(5); // the server is stopped, or has changed its port
      }
    }
    return this.#client;
  }
}

/** Which http: event may come after which, in one session. */
const NEXT: Record<string, string[]> = {
  "begin": ["connected"],
  "connected": ["http:connected", "http:disconnected"],
  "http:connected": ["http:header", "http:disconnected"],
  "http:header": ["http:data", "http:headerssent", "http:disconnected"],
  "http:data": ["http:data", "http:headerssent", "http:header", "http:disconnected"],
  "http:headerssent": ["http:sent", "http:data", "http:header", "http:disconnected"],
  "http:sent": ["http:sent", "http:data", "http:header", "http:disconnected", "http:error"],
  "http:error": ["http:header", "http:disconnected"],
  "http:disconnected": ["disconnected"],
  "disconnected": [],
};

/** Watches the events of every session go by; `wrong` has what may not follow what. */
function watch(server: HttpsServer): { wrong: string[]; sessions: Map<Session, string> } {
  const wrong: string[] = [];
  const sessions = new Map<Session, string>();
  for (const type of Object.keys(NEXT).slice(1) as SessionEvent["type"][]) {
    server.addEventListener(type, (event) => {
      const { session } = event as SessionEvent | ServerErrorEvent;
      const before = sessions.get(session!) ?? "begin";
      if (!NEXT[before]!.includes(type)) wrong.push(`${type} after ${before}`);
      sessions.set(session!, type);
    });
  }
  return { wrong, sessions };
}

describe("nothing is lost", () => {
  for (const mode of MODES) {
    test(`${CLIENTS} clients, ${CLIENTS * REQUESTS} requests, ${mode}`, async () => {
      const book = new Book();
      const random = chance(SEED);
      const { server } = await started(undefined, {
        maxOpenSockets: Math.ceil(CLIENTS * 0.8),
        handshakeTimeoutMs: 2_000,
        drainMs: STUCK_MS,
      }, mode);
      server.route({ uri: "/", method: "POST", handler: book.handler });
      const { wrong, sessions } = watch(server);
      const senders = Array.from(
        { length: CLIENTS },
        (_, i) => new Sender(server, mode, book, SEED + 7919 * (i + 1)),
      );
      const done = { yet: false };
      const trouble = makeTrouble(server, mode, senders, book, random, done);
      const failures = await Promise.allSettled(
        senders.map((sender, i) =>
          sender.run(Array.from({ length: REQUESTS }, (_, n) => i * REQUESTS + n))
        ),
      );
      done.yet = true;
      const made = await trouble;
      for (const failure of failures) if (failure.status === "rejected") throw failure.reason;
      await until(() => server.sessions.size === 0, "the sessions are over", STUCK_MS);
      assert.equal(book.answers, CLIENTS * REQUESTS);
      for (const [sending, times] of book.handled) assert.equal(times, 1, `sending ${sending}`);
      assert.deepEqual(wrong, []);
      for (const [, last] of sessions) assert.equal(last, "disconnected");
      if (process.env["HTTPSD_CLIENTS"]) {
        console.log(mode, { ...made, sendings: book.sendings, again: book.again });
      }
    }, 60_000 + 1_000 * CLIENTS);
  }
});

/** Until `done`: one misfortune after the other; returns how many of each there were. */
async function makeTrouble(
  server: HttpsServer,
  mode: Mode,
  senders: Sender[],
  book: Book,
  random: (below: number) => number,
  done: { yet: boolean },
): Promise<Record<string, number>> {
  const ca = await createCertificateAuthority();
  const issue = () => ca.issue().then(({ cert, key }) => ({ cert, key }));
  const pairs = [await issue(), await issue()];
  const one = <T>(all: Iterable<T>): T | undefined => {
    const list = [...all];
    return list[random(list.length || 1)];
  };
  const troubles: Record<string, () => unknown> = {
    reset: () => one(senders)!.reset(),
    close: () => one(server.sessions)?.close(),
    purge: () => one(server.sessions)?.purge(),
    cut() {
      const session = one(server.sessions);
      if (session === undefined) return;
      book.cut.add(session.remotePort);
      session.destroy();
    },
    reload: () => mode === "tls" && server.reload(pairs[random(2)]!),
    async restart() {
      if (random(4) > 0) return;
      await server.stop();
      await server.start();
    },
  };
  const made: Record<string, number> = {};
  while (!done.yet) {
    const [name, trouble] = one(Object.entries(troubles))!;
    made[name] = (made[name] ?? 0) + 1;
    await trouble();
    await sleep(random(8));
  }
  return made;
}
