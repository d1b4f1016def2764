/**
 * The rules of HTTP/2 against a server on real sockets: what is sent, what may come back, and that
 * the connection is as good as before where only a stream was at fault.
 *
 * With HTTP2_TARGET=port the cases go to another server on 127.0.0.1 that speaks HTTP/2 without TLS,
 * to see what others make of them.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import type { TLSSocket } from "node:tls";
import { describe, test } from "bun:test";
import { type ConformanceCase, conformanceCases, type Outcome } from "./cases/http2/mod.ts";
import {
  codeName,
  type Frame,
  goaway,
  Http2Client,
  ping,
  PREFACE,
  settings,
  Type,
} from "./http2_client.ts";
import { type Mode, type Started, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { MODES, openssl, received } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const TARGET = process.env["HTTP2_TARGET"];
/** A connection's wait for what is expected, on a machine that does much else. */
const WAIT_MS = 8_000;
const CASE_MS = 20_000;
const BATCH_MS = 120_000;
const AT_A_TIME = 8;
/** Pieces of an input that is sent bit by bit: as many at most, so that long ones end. */
const MAX_PIECES = 300;

const servers = new Map<Mode, Promise<Started>>();

async function portOf(mode: Mode): Promise<number> {
  if (TARGET !== undefined) return Number(TARGET);
  let server = servers.get(mode);
  if (server === undefined) servers.set(mode, server = started(handle, {}, mode));
  return (await server).port;
}

async function handle(request: Request): Promise<Response> {
  switch (new URL(request.url).pathname) {
    case "/read":
      return new Response(await request.arrayBuffer());
    case "/fields":
      return Response.json(Object.fromEntries(request.headers));
    case "/big":
      return new Response("b".repeat(100_000));
    case "/hold":
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      return new Response("too late");
    default:
      return new Response("conformance");
  }
}

/** Sends a step's bytes. */
type Way = (client: Http2Client, bytes: Uint8Array) => void | Promise<void>;

const whole: Way = (client, bytes) => client.send(bytes);

const dripped: Way = (client, bytes) => client.drip(bytes, Math.ceil(bytes.length / MAX_PIECES));

async function run(item: ConformanceCase, mode: Mode, way: Way): Promise<void> {
  const client = await Http2Client.connect(await portOf(mode), mode, {
    ...item.client,
    ...(item.client?.begin === false && { settings: null }),
  });
  try {
    if (item.client?.begin !== false) await client.ready();
    for (const step of item.steps) {
      if (step instanceof Uint8Array) await way(client, step);
      else await step(client);
    }
    await judge(client, item.expect);
  } catch (error) {
    throw new Error(`${item.section} ${item.name}: ${(error as Error).message}`, { cause: error });
  } finally {
    client.destroy();
  }
}

/** Whether what an outcome waits for has come. */
function hasCome(client: Http2Client, outcome: Outcome): boolean {
  if ("alive" in outcome) return pongs(client) > 0;
  if ("over" in outcome) return client.ended || client.closed;
  if ("goaway" in outcome) {
    return (client.ended || client.closed) &&
      (outcome.goaway as unknown[]).includes(client.goaway?.code) &&
      (outcome.lastStreamId ?? client.goaway?.lastStreamId) === client.goaway?.lastStreamId;
  }
  if ("reset" in outcome) {
    return (outcome.streamIds ?? [1]).every((streamId) =>
      (outcome.reset as unknown[]).includes(client.soFar(streamId).reset)
    );
  }
  const { status, ended } = client.soFar(outcome.streamId ?? 1);
  return ended && status === outcome.status;
}

const ALIVE = "alive?!\x00";

function pongs({ frames }: Http2Client): number {
  return frames.filter(({ type, payload }) =>
    type === Type.PING && payload.toString("latin1") === ALIVE
  ).length;
}

/** The streams that were reset, but for those that were answered in full and then with NO_ERROR. */
function resets({ frames }: Http2Client): number[] {
  const isReset = ({ type, payload }: Frame) =>
    type === Type.RST_STREAM && codeName(payload.readUInt32BE()) !== "NO_ERROR";
  return frames.filter(isReset).map(({ streamId }) => streamId);
}

async function judge(client: Http2Client, outcomes: Outcome[]): Promise<void> {
  if (outcomes.some((outcome) => "alive" in outcome)) {
    await client.settled(ALIVE, WAIT_MS).catch(() => {}); // what came instead is judged below
  }
  let outcome: Outcome | undefined;
  const what = JSON.stringify(outcomes);
  await client.until(
    () => {
      outcome = outcomes.find((each) => hasCome(client, each));
      return outcome !== undefined;
    },
    what,
    WAIT_MS,
  );
  if (outcome === undefined || "over" in outcome || "goaway" in outcome) return;
  await client.settled("good as!", WAIT_MS);
  const expected = "reset" in outcome ? outcome.streamIds ?? [1] : [];
  assert.deepEqual(resets(client), expected, client.story());
  // What answers a client's own GOAWAY is no fault.
  assert.equal(client.goaway?.code ?? "NO_ERROR", "NO_ERROR");
  if ("alive" in outcome) outcome.sees?.(client);
  if ("status" in outcome) outcome.check?.(client.soFar(outcome.streamId ?? 1), client);
}

const SCHEMES = { plain: "http", tls: "https" } as const;

for (const mode of TARGET === undefined ? MODES : ["plain"] as const) {
  const cases = conformanceCases(SCHEMES[mode]).filter(({ only }) => (only ?? mode) === mode);
  describe(`HTTP/2, ${mode}`, () => {
    for (const item of cases) {
      const suite = item.h2spec === undefined ? "" : ` (h2spec ${item.h2spec})`;
      test(`${item.section}: ${item.name}${suite}`, () => run(item, mode, whole), CASE_MS);
    }

    test("the same bit by bit", async () => {
      const left = [...cases];
      const faults: string[] = [];
      const worker = async (): Promise<void> => {
        for (let item; (item = left.shift()) !== undefined;) {
          await run(item, mode, dripped).catch(({ message }: Error) => faults.push(message));
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, worker));
      assert.deepEqual(faults, []);
    }, BATCH_MS);
  });
}

/** What a client offers, and what it is given; `undefined`: the handshake is refused. */
const OFFERS: readonly [offered: string[], given: string | false | undefined][] = [
  [["h2"], "h2"],
  [["h2", "http/1.1"], "h2"],
  [["http/1.1", "h2"], "h2"], // the server's order counts (RFC 7301 section 3.2)
  [["foo", "h2"], "h2"],
  [["http/1.1"], "http/1.1"],
  [[], false],
  [["h2c"], undefined],
  [["foo"], undefined],
];

describe("HTTP/2 over TLS", () => {
  for (const [offered, given] of TARGET === undefined ? OFFERS : []) {
    test(`3.2: ALPN with ${offered.join(" and ") || "nothing"}`, async () => {
      const options = { settings: null, tls: { ALPNProtocols: offered } };
      const connecting = Http2Client.connect(await portOf("tls"), "tls", options);
      if (given === undefined) return await assert.rejects(connecting);
      using client = await connecting;
      const { alpnProtocol } = client.socket as TLSSocket;
      assert.equal(alpnProtocol || false, given);
      if (given === "h2") {
        client.send(PREFACE, settings());
        assert.equal((await client.fetch({ scheme: "https" })).status, 200);
      } else {
        // Prior knowledge is for connections without TLS: this is a request of HTTP/1.1.
        const answer = received(client.socket);
        client.send(PREFACE);
        assert.match((await answer).toString("latin1"), /^HTTP\/1\.1 505 /);
      }
    });
  }

  const SUITES: readonly [suite: string, adequate: boolean][] = [
    ["ECDHE-ECDSA-AES128-GCM-SHA256", true],
    ["ECDHE-ECDSA-CHACHA20-POLY1305", true],
    ["ECDHE-ECDSA-AES128-SHA", false],
  ];
  for (const [suite, adequate] of TARGET === undefined ? SUITES : []) {
    test(`9.2.2: TLS 1.2 with ${suite}`, async () => {
      // Deno chooses among its own suites, all of which are adequate: the handshake is refused.
      const options = runtime === "bun" ? { ciphers: [suite] } : {};
      const { port } = await started(handle, options, "tls");
      const args = ["-tls1_2", "-cipher", suite, "-alpn", "h2", "-servername", "localhost"];
      const input = Buffer.concat([PREFACE, settings(), ping("in TLS12"), goaway()]);
      const text = input.toString("latin1");
      const output = await openssl(port, [...args, "-quiet", "-ign_eof"], text).done;
      assert.equal(output.includes("in TLS12"), adequate, JSON.stringify(output));
      if (adequate) return;
      const inadequate = "\0\0\0\0\0\0\0\x0c"; // of GOAWAY: no stream, INADEQUATE_SECURITY
      assert.ok(
        output.includes(runtime === "bun" ? inadequate : "handshake failure"),
        JSON.stringify(output),
      );
    }, CASE_MS);
  }
});
