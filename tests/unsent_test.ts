/** What waits of the answers of all connections together is bounded. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Unsent, UnsentAnswer, type UnsentHolder } from "../lib/net/unsent.ts";
import { Http2Client, Setting } from "./http2_client.ts";
import { GET, type Mode, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { openRelay, type Relay, turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

class Holder implements UnsentHolder {
  unsentBytes = 0;
  movedAt = 0;
  wasCut = false;
  readonly account: Unsent;
  readonly answers: UnsentAnswer[] = [];

  constructor(account: Unsent) {
    this.account = account;
  }

  wait(chunk: Uint8Array | string): UnsentAnswer {
    const answer = new UnsentAnswer(this.account, this);
    this.answers.push(answer);
    answer.add(chunk);
    return answer;
  }
  cutUnsent(): void {
    this.wasCut = true;
    for (const answer of this.answers) answer.clear();
  }
}

describe("the account", () => {
  let time = 0;
  const account = (limit: number) => new Unsent(limit, { now: () => time });
  const cuts = async (...holders: Holder[]) => {
    await Promise.resolve();
    return holders.map(({ wasCut }) => wasCut);
  };

  test("counts what waits, once and while it does", async () => {
    const all = account(Infinity);
    const holder = new Holder(all);
    const first = holder.wait("text");
    holder.wait(new Uint8Array(100)).add(new Uint8Array(10));
    assert.deepEqual([all.bytes, holder.unsentBytes], [114, 114]);
    first.clear();
    first.clear();
    assert.deepEqual([all.bytes, holder.unsentBytes], [110, 110]);
    assert.deepEqual(await cuts(holder), [false]);
  });

  test("counts memory of a program's once, however many answers are made of it", () => {
    const all = account(Infinity);
    const [one, two] = [new Holder(all), new Holder(all)];
    const bytes = new Uint8Array(100_000);
    const answer = one.wait(bytes);
    const other = two.wait(bytes.subarray(50_000));
    assert.deepEqual([all.bytes, one.unsentBytes, two.unsentBytes], [100_000, 100_000, 0]);
    answer.clear();
    other.clear();
    assert.equal(all.bytes, 0);
    two.wait(bytes);
    assert.equal(all.bytes, 100_000);
  });

  test("cuts beyond its limit, and no more than it takes", async () => {
    const all = account(1_000);
    const holders = Array.from({ length: 5 }, () => new Holder(all));
    for (const holder of holders) holder.wait("x".repeat(250));
    assert.equal((await cuts(...holders)).filter(Boolean).length, 1);
    assert.equal(all.bytes, 1_000);
  });

  test("cuts the one that holds most, where all have waited for the same time", async () => {
    const all = account(1_000);
    const [small, large] = [new Holder(all), new Holder(all)];
    large.wait("x".repeat(700));
    small.wait("x".repeat(400));
    assert.deepEqual(await cuts(small, large), [false, true]);
  });

  test("cuts the one that moves least, where all hold the same", async () => {
    const all = account(1_000);
    const [still, moving, late] = [new Holder(all), new Holder(all), new Holder(all)];
    time = 0;
    still.wait("x".repeat(400));
    const answer = moving.wait("x".repeat(400));
    time = 1_000;
    answer.moved();
    late.wait("x".repeat(400));
    assert.deepEqual(await cuts(still, moving, late), [true, false, false]);
  });
});

const LENGTH = 400_000;
const LIMIT = 8_000_000;
const optionsOf = (maxUnsentBytes: number) => ({ limits: { maxUnsentBytes } });
const ASKED = 3 * LIMIT;

/** A body of its own for each answer, as a fetch handler or a route sends it. */
const own = () => new Uint8Array(LENGTH).fill(97);

/** Starts a server and notes why connections end. */
async function watched(handler: () => Response, mode: Mode, limit = LIMIT) {
  const host = await started(handler, optionsOf(limit), mode);
  const ends: (string | undefined)[] = [];
  host.server.addEventListener("disconnected", ({ error }) => void ends.push(error?.code));
  return { ...host, ends };
}

/** A client that asks and does not read; its relay does not: a TLS socket of Deno's reads on. */
async function deaf(relay: Relay, mode: Mode): Promise<RawClient> {
  const connecting = RawClient.connect(relay.port, mode);
  const { client, server } = await relay.accept();
  server.on("error", () => {}); // it is cut
  client.on("data", (bytes: Uint8Array) => void server.write(bytes));
  server.on("data", (bytes: Uint8Array) => void client.write(bytes));
  const connected = await connecting;
  server.pause();
  connected.send(GET("/"));
  return connected;
}

for (const mode of MODES) {
  describe(`maxUnsentBytes, ${mode}`, () => {
    test("bounds the answers of HTTP/2 to clients without a window", async () => {
      const { port, ends } = await watched(() => new Response(own()), mode);
      const clients: Http2Client[] = [];
      const streams = 10;
      for (let asked = 0; asked < ASKED; asked += streams * LENGTH) {
        const settings = [[Setting.INITIAL_WINDOW_SIZE, 0]] as const;
        const client = await Http2Client.connect(port, mode, { settings });
        clients.push(client);
        await client.ready();
        for (let i = 0; i < streams; i++) client.request();
      }
      await until(() => ends.length >= clients.length - 2, "all beyond the limit are cut");
      await turns();
      assert.equal(ends.length, clients.length - 2, "and no more than that");
      assert.deepEqual(new Set(ends), new Set(["CONNECTION_ABORTED"]));
      for (const client of clients) client.destroy();
    }, 20_000);

    test("bounds the answers of HTTP/1.1 to clients that do not read", async () => {
      const long = 16_000_000; // more than the sockets take
      const most = 3;
      const { port, ends } = await watched(
        () => new Response(new Uint8Array(long)),
        mode,
        most * long + 1_000_000,
      );
      await using relay = await openRelay(port);
      const clients: RawClient[] = [];
      for (let i = 0; i < 8; i++) clients.push(await deaf(relay, mode));
      await until(() => ends.length >= clients.length - most, "all beyond the limit are cut");
      await turns();
      assert.equal(ends.length, clients.length - most, "and no more than that");
      assert.deepEqual(new Set(ends), new Set(["CONNECTION_ABORTED"]));
      for (const client of clients) client.destroy();
    }, 20_000);

    test("spares a client that reads, however much that is", async () => {
      const { port, ends } = await watched(() => new Response(own()), mode);
      const idle: Http2Client[] = [];
      const settings = [[Setting.INITIAL_WINDOW_SIZE, 0]] as const;
      using reader = await Http2Client.connect(port, mode);
      await reader.ready();
      for (let i = 0; i < 12; i++) {
        const client = await Http2Client.connect(port, mode, { settings });
        idle.push(client);
        await client.ready();
        for (let n = 0; n < 5; n++) client.request();
        const { body } = await reader.answer(reader.request());
        assert.equal(body.length, LENGTH);
      }
      await until(() => ends.length > 0, "others are cut");
      assert.equal(reader.closed, false);
      for (const client of idle) client.destroy();
    }, 20_000);

    test("lets the same memory wait for any number of clients", async () => {
      const bytes = own();
      const { server, port, errors } = await started(undefined, optionsOf(LIMIT), mode);
      server.route({ uri: "/", method: "GET", handler: (request) => request.send(bytes) });
      const settings = [[Setting.INITIAL_WINDOW_SIZE, 0]] as const;
      const clients: Http2Client[] = [];
      for (let asked = 0; asked < ASKED; asked += 10 * LENGTH) {
        const client = await Http2Client.connect(port, mode, { settings });
        clients.push(client);
        await client.ready();
        for (let i = 0; i < 10; i++) client.request();
        await client.settled(); // its requests were read
      }
      await turns();
      assert.deepEqual(errors, []);
      assert.equal(clients.filter(({ closed, ended }) => closed || ended).length, 0);
      for (const client of clients) client.destroy();
    }, 20_000);
  });
}
