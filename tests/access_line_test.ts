/**
 * Lines are written byte by byte: here they are compared with lines that are put together plainly,
 * for generated exchanges; and when what has gathered is delivered.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { ExchangeReport } from "../lib/http/exchange_report.ts";
import { accessRecord, writeLine } from "../lib/telemetry/access_line.ts";
import { BoundedQueue, GATHER_MS } from "../lib/telemetry/bounded_queue.ts";
import { LineBuffer } from "../lib/telemetry/line_buffer.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { turns } from "./support.ts";

assertRuntime();

const SEED = 20261127;
const TEXTS = [
  ...'/ a Z ~ ! \x20 \x1f \x7e \x7f \x80 \xff \0 \r \n \t " \\ \u0100 \u2028 \ud83d\ude00'.split(
    " ",
  ),
  "/a/path?with=query&of=33+characters",
  "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
  "x".repeat(3_000),
];

function report(random: Random, at: number): ExchangeReport {
  const text = () => Array.from({ length: random.below(4) }, () => random.pick(TEXTS)).join("");
  const maybe = <T>(value: T) => random.below(2) === 0 ? value : undefined;
  const fields: Record<string, string | undefined> = {
    referer: maybe(text()),
    "user-agent": maybe(text()),
  };
  const tls = maybe({
    protocol: "TLSv1.3",
    cipher: "TLS_AES_128_GCM_SHA256",
    resumed: random.below(2) === 0,
    alpn: maybe("h2"),
    sni: maybe("a.example"),
    authorized: random.below(2) === 0,
    peerCertificate: { subject: `CN=${text()}\nO=a b` },
  });
  const isRead = random.below(4) > 0;
  return {
    session: {
      id: random.below(1_000),
      remoteAddress: random.pick(["127.0.0.1", "::1", ""]),
      remotePort: random.below(2) * 4_711,
      tls,
    },
    version: random.pick(["1.0", "1.1", "2"]),
    method: isRead ? random.pick(["GET", "M-SEARCH", "'`|"]) : undefined,
    target: isRead ? text() : undefined,
    path: isRead ? text() : undefined,
    query: text(),
    host: maybe(text()),
    route: maybe(text()),
    status: random.pick([undefined, 101, 200, 404, 503]),
    requestBytes: random.pick([undefined, 0, 3]),
    responseBytes: random.pick([undefined, 0, 2 ** 40]),
    receivedAt: at,
    firstByteMs: maybe(0.1 + 0.2),
    durationMs: 1 / 3,
    ended: random.pick(["whole", "client", "server"]),
    error: maybe({ code: random.pick(["CONNECTION_RESET", text()]) }),
    trace: maybe({ traceId: "0123456789abcdef".repeat(2) }),
    get: (name: string) => fields[name],
  } as unknown as ExchangeReport;
}

/** A text without what would end a field, or a line. */
const escaped = (text: string) =>
  Array.from(text, (character) => {
    if (/[\x20\x21\x23-\x5b\x5d-\x7e]/.test(character)) return character;
    const code = character.codePointAt(0)!;
    const bytes = code > 0xff ? [...new TextEncoder().encode(character)] : [code];
    return bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  }).join("");

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

function common({ session, method, target, version, ...rest }: ExchangeReport): string {
  const { tls } = session;
  const user = tls?.authorized ? escaped(tls.peerCertificate!.subject) : "-";
  const date = new Date(rest.receivedAt);
  const [, day, time] = /-(\d\d)T([\d:]+)/.exec(date.toISOString())!;
  return `${session.remoteAddress || "-"} - ${user.replaceAll(" ", "\\x20")} ` +
    `[${day}/${MONTHS[date.getUTCMonth()]}/${date.getUTCFullYear()}:${time} +0000] ` +
    `"${method === undefined ? "-" : escaped(`${method} ${target} HTTP/${version}`)}" ` +
    `${rest.status ?? "-"} ${rest.responseBytes || "-"}`;
}

const quoted = (text: string | undefined) => text === undefined ? '"-"' : `"${escaped(text)}"`;

const plainly = {
  common: (exchange: ExchangeReport) => common(exchange),
  combined: (exchange: ExchangeReport) =>
    `${common(exchange)} ${quoted(exchange.get("referer"))} ${quoted(exchange.get("user-agent"))}`,
  json: (exchange: ExchangeReport) =>
    JSON.stringify(accessRecord(exchange)).replace(
      /[\x7f-\uffff]/g,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
    ),
} as const;

describe("lines are what they would be, put together plainly", () => {
  for (const format of ["common", "combined", "json"] as const) {
    test(format, () => {
      const random = new Random(SEED);
      const lines = new LineBuffer();
      let expected = "";
      let at = Date.UTC(2026, 11, 31, 23, 59, 58);
      for (let i = 0; i < 500; i++) {
        at += random.below(700);
        const exchange = report(random, at + random.below(4) / 4);
        const start = lines.length;
        writeLine(exchange, format, lines);
        const line = `${plainly[format](exchange)}\n`;
        if (random.below(5) === 0) lines.cut(start); // as where it is dropped
        else expected += line;
        if (random.below(10) > 0) continue;
        assert.equal(lines.length, expected.length);
        assert.equal(lines.take(), expected);
        expected = "";
      }
      assert.equal(lines.take(), expected);
    });
  }

  test("of a record the time is that of Date", () => {
    for (const at of [0, 999.9, 1_000, Date.UTC(2026, 1, 28, 23, 59, 59) + 7.5]) {
      const exchange = { ...report(new Random(SEED), at), receivedAt: at };
      assert.equal(accessRecord(exchange)["@timestamp"], new Date(at).toISOString());
    }
  });
});

/** Runs with timers of this length that only fire when told to; others go on. */
async function withHeldTimers(run: (held: Map<unknown, () => void>) => Promise<void>) {
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  const held = new Map<unknown, () => void>();
  globalThis.setTimeout = ((then: () => void, ms?: number) => {
    if (ms !== GATHER_MS) return set(then, ms);
    const timer = {};
    held.set(timer, then);
    return timer;
  }) as unknown as typeof setTimeout;
  globalThis.clearTimeout = ((timer: unknown) => {
    if (!held.delete(timer)) clear(timer as number);
  }) as unknown as typeof clearTimeout;
  try {
    await run(held);
  } finally {
    globalThis.setTimeout = set;
    globalThis.clearTimeout = clear;
  }
}

describe("what has gathered is delivered", () => {
  const queueOf = (max: number) => {
    const state = { calls: 0 };
    const queue = new BoundedQueue({ max, take: () => [() => state.calls++], failed: () => {} });
    return { queue, state };
  };

  test("once for the items of many turns, by one timer", () =>
    withHeldTimers(async (held) => {
      const { queue, state } = queueOf(1_000);
      for (let i = 0; i < 20; i++) {
        assert.ok(queue.takes(10));
        await turns(1);
      }
      assert.deepEqual([state.calls, queue.delivered, held.size], [0, 0, 1]);
      const [[timer, fire]] = [...held] as [[unknown, () => void]];
      held.delete(timer);
      fire();
      await queue.flushed();
      assert.deepEqual([state.calls, queue.delivered, queue.size, held.size], [1, 20, 0, 0]);
    }));

  test("in the next turn where much waits, or where it is asked for", () =>
    withHeldTimers(async (held) => {
      const { queue, state } = queueOf(100);
      queue.takes(20);
      assert.equal(held.size, 1);
      queue.takes(20);
      assert.equal(held.size, 0);
      await turns();
      assert.deepEqual([state.calls, queue.delivered, queue.dropped], [1, 2, 0]);
      queue.takes(1);
      await queue.flushed();
      assert.deepEqual([state.calls, queue.delivered, held.size], [2, 3, 0]);
    }));
});
