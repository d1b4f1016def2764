/**
 * What hostile clients send to telemetry: every byte wherever a client can put one, traces that are
 * none, and labels. No line of a log is forged, no series, and no span's parent.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import process from "node:process";
import { accessLog, type AccessRecord } from "../lib/telemetry/access_log.ts";
import { metrics } from "../lib/telemetry/metrics.ts";
import type { HttpsServer } from "../lib/server.ts";
import { headers, Http2Client } from "./http2_client.ts";
import type { Field } from "./http2_hpack.ts";
import { latin1, type Mode, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const BYTES = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code));

/** What a byte is in: `values` are those of fields, and the user of Basic authentication. */
const PLACES = ["method", "target", "values", "name", "host"] as const;
type Place = (typeof PLACES)[number];

/** A request with a byte in one place. */
interface Attack {
  readonly place: Place;
  readonly text: string;
}

const ATTACKS: readonly Attack[] = BYTES.flatMap((byte) =>
  PLACES.map((place) => ({ place, text: `x${byte}${place === "values" ? '" 200 1 "' : ""}forged` }))
);

function fieldsOf({ place, text }: Attack): Field[] {
  const basic = Buffer.from(`${text}:secret`, "latin1").toString("base64");
  const value = place === "values" ? text : "plain";
  return [
    ["user-agent", value],
    ["referer", value],
    ["authorization", place === "name" ? "Basic secret" : `Basic ${basic}`],
    [place === "name" ? text : "other", "value"],
    ["traceparent", `00-${"1".repeat(32)}-${"2".repeat(16)}-01${value}`],
  ];
}

/** Sends an attack as HTTP/1.1, on a connection that may be used up with it. */
class Http1Attacker {
  #client: RawClient | undefined;
  readonly #connect: () => Promise<RawClient>;

  constructor(connect: () => Promise<RawClient>) {
    this.#connect = connect;
  }

  async send(attack: Attack): Promise<void> {
    const { place, text } = attack;
    const method = place === "method" ? text : "GET";
    const target = place === "target" ? `/${text.replaceAll(" ", "+")}` : "/";
    const fields = fieldsOf(attack).map(([name, value]) => `${name}: ${value}\r\n`).join("");
    const client = this.#client ?? await this.#connect();
    client.text = "";
    client.send(latin1(
      `${method} ${target} HTTP/1.1\r\nHost: ${place === "host" ? text : "a"}\r\n${fields}\r\n`,
    ));
    await client.until(() => client.text.endsWith("hello") || client.ended || client.closed);
    const goesOn = /^HTTP\/1\.1 200 (?![^]*HTTP\/1\.1)[^]*hello$/.test(client.text);
    this.#client = goesOn ? client : undefined;
    if (!goesOn) client.destroy();
  }

  end(): void {
    this.#client?.destroy();
  }
}

/** Sends an attack as HTTP/2. */
class Http2Attacker {
  #client: Http2Client | undefined;
  readonly #connect: () => Promise<Http2Client>;

  constructor(connect: () => Promise<Http2Client>) {
    this.#connect = connect;
  }

  async send(attack: Attack): Promise<void> {
    const { place, text } = attack;
    const client = this.#client ??= await this.#connect();
    const id = client.nextStreamId();
    client.send(headers(id, [
      [":method", place === "method" ? text : "GET"],
      [":scheme", "http"],
      [":path", place === "target" ? `/${text}` : "/"],
      [":authority", place === "host" ? text : "a"],
      ...fieldsOf(attack),
    ]));
    await client.until(() =>
      client.ended || client.closed || client.soFar(id).ended ||
      client.soFar(id).reset !== undefined, "an answer");
    if (!client.ended && !client.closed) return;
    client.destroy();
    this.#client = undefined;
  }

  end(): void {
    this.#client?.destroy();
  }
}

const TEXT = String.raw`(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\x[0-9a-f]{2})*`;
const TIME = String.raw`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]`;
const COMBINED = new RegExp(
  String.raw`^127\.0\.0\.1 - - ${TIME} "(${TEXT})" (?:\d{3}|-) (?:\d+|-) "(${TEXT})" "(${TEXT})"$`,
);

function unescaped(text: string): string {
  return text.replace(/\\x([0-9a-f]{2})/g, (_, code) => String.fromCharCode(parseInt(code, 16)));
}

/** Everything that watches a server, and what it has seen. */
function watched(server: HttpsServer) {
  const written = { combined: "", json: "" };
  const logs = (["combined", "json"] as const).map((format) =>
    accessLog(server, { format, sink: (lines) => void (written[format] += lines) })
  );
  const seen = { events: 0 };
  const agents: (string | undefined)[] = [];
  const traces: (string | undefined)[] = [];
  server.addEventListener("http:exchange", ({ exchange }) => {
    seen.events++;
    agents.push(exchange.get("user-agent"));
    traces.push(exchange.trace?.traceId);
  });
  return { logs, written, seen, agents, traces, exposed: metrics(server) };
}

async function attackedBy(
  mode: Mode,
  attackerFor: (port: number) => { send(attack: Attack): Promise<void>; end(): void },
): Promise<void> {
  const { server, port } = await started(() => new Response("hello"), {}, mode);
  const { logs, written, seen, agents, traces, exposed } = watched(server);
  const attackers = Array.from({ length: 8 }, () => attackerFor(port));
  const waiting = [...ATTACKS];
  await Promise.all(attackers.map(async (attacker) => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      await attacker.send(next);
    }
    attacker.end();
  }));
  await until(() => server.sessions.size === 0, "all sessions have ended");
  for (const log of logs) await log.stop();
  const { total } = server.stats().requests;
  assert.ok(total >= ATTACKS.length / 4, String(total));
  assert.deepEqual([seen.events, ...logs.map((log) => log.written)], [total, total, total]);
  assert.match(written.combined + written.json, /^[\x20-\x7e\n]+$/);
  const lines = written.combined.trimEnd().split("\n").map((line) => COMBINED.exec(line) ?? line);
  assert.deepEqual(lines.filter((line) => typeof line === "string"), []);
  const records = written.json.trimEnd().split("\n").map((line) =>
    JSON.parse(line) as AccessRecord
  );
  assert.deepEqual([lines.length, records.length], [total, total]);
  // What a line says is what the client sent, byte for byte.
  assert.deepEqual(lines.map((line) => unescaped(line[3]!)), agents.map((agent) => agent ?? "-"));
  assert.deepEqual(records.map((record) => record["user_agent.original"]), agents);
  assert.deepEqual(new Set(traces), new Set([undefined]), "No traceparent is believed");
  assert.ok(!`${written.combined}${written.json}`.includes("secret"), "No password is logged");
  assert.ok(exposed.text().split("\n").every((line) => !line.includes("forged")));
}

describe("every byte in every place of a request", () => {
  test("over HTTP/1.1", async () => {
    await attackedBy("plain", (port) => new Http1Attacker(() => RawClient.connect(port)));
  }, 30_000);

  test("over HTTP/2 and TLS", async () => {
    await attackedBy(
      "tls",
      (port) => new Http2Attacker(async () => (await Http2Client.connect(port, "tls")).ready()),
    );
  }, 30_000);
});

const REQUESTS = Number(process.env["HTTPSD_REQUESTS"] ?? 300);
const SEED = Number(process.env["HTTPSD_SEED"] ?? 20261127);

test(`${REQUESTS} random methods, targets, names and fields make few series`, async () => {
  const { server, port } = await started(() => new Response("hello"));
  const exposed = metrics(server);
  const random = new Random(SEED);
  let sent = 0;
  const word = () => random.below(2 ** 31).toString(36);
  const known = ["GET", "POST", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND"];
  while (sent < REQUESTS) {
    let requests = "";
    const many = Math.min(50, REQUESTS - sent);
    for (let i = 1; i <= many; i++) {
      const method = i === many ? `X${word()}` : random.pick(known); // one unknown is the last
      requests += `${method} /${word()}?${word()} HTTP/1.1\r\nHost: ${word()}.example\r\n` +
        `${word()}: ${word()}\r\ntraceparent: ${word()}\r\n\r\n`;
    }
    const client = await RawClient.connect(port);
    client.send(requests);
    const answers = (await client.rest()).split("HTTP/1.1 ").length - 1;
    assert.equal(answers, many);
    client.destroy();
    sent += many;
  }
  const series = exposed.text().split("\n").filter((line) => line.includes("_seconds_count{"));
  const counted = series.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  assert.equal(counted, REQUESTS);
  assert.ok(series.length <= 4, series.join("\n")); // GET, POST, and others by status
}, 20_000 + 20 * REQUESTS);
