/** The cases of cases/websocket.json against servers on real sockets: whole and byte by byte. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import type { CloseInfo } from "../lib/websocket/mod.ts";
import { type Mode, MODES, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import {
  expectedOf,
  inputOf,
  loadCases,
  type Report,
  type WebSocketCase,
} from "./websocket_cases.ts";
import { FrameClient } from "./websocket_support.ts";

assertRuntime();

stopServersAfterAll();

/** Longer inputs go whole only: a segment for each byte takes its time. */
const MAX_BYTEWISE = 300;

const cases = loadCases();

/** What a server made of the input of one case. */
interface Record {
  reports: Report[];
  closed: PromiseWithResolvers<CloseInfo>;
}

/** A server with a route for each case, at `/` and its index. */
async function serveCases(mode: Mode): Promise<{ port: number; records: Map<string, Record> }> {
  const { server, port } = await started(
    undefined,
    { limits: { maxRoutes: 1000 }, timeouts: { lingerMs: 5_000 } },
    mode,
  );
  const records = new Map<string, Record>();
  for (const [index, { deflate = false, takeover = false, limits = {} }] of cases.entries()) {
    const path = `/${index}`;
    const report = (entry: Report) => void records.get(path)!.reports.push(entry);
    server.route({
      uri: path,
      websocket: {
        deflate: deflate && { clientContextTakeover: takeover },
        limits: {
          maxPayloadBytes: limits.maxPayloadBytes === null
            ? Infinity
            : limits.maxPayloadBytes ?? 2 ** 20,
          maxFragments: limits.maxFragments ?? 1024,
          maxPingsPerSecond: Infinity,
        },
        onMessage: (_, m) => report(typeof m === "string" ? ["text", m] : ["binary", inHex(m)]),
        onPing: (_, payload) => report(["ping", inHex(payload)]),
        onPong: (_, payload) => report(["pong", inHex(payload)]),
        onClose: (_, info) => records.get(path)!.closed.resolve(info),
      },
    });
  }
  return { port, records };
}

function inHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

const OFFER = { "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits" };

for (const mode of MODES) {
  for (const how of ["whole", "byte by byte"] as const) {
    describe(`${how}, ${mode}`, () => {
      const chosen = cases.map((one, index) => ({ one, index, input: inputOf(one) }))
        .filter(({ input }) => how === "whole" || input.length <= MAX_BYTEWISE);

      test(`${chosen.length} cases`, async () => {
        const server = await serveCases(mode);
        const PARALLEL = 16;
        for (let at = 0; at < chosen.length; at += PARALLEL) {
          await Promise.all(
            chosen.slice(at, at + PARALLEL).map(({ one, index, input }) =>
              check(one, `/${index}`, input)
            ),
          );
        }

        async function check(one: WebSocketCase, path: string, input: Uint8Array): Promise<void> {
          const closed = Promise.withResolvers<CloseInfo>();
          const record: Record = { reports: [], closed };
          server.records.set(path, record);
          const fields = one.deflate ? OFFER : {};
          const client = await FrameClient.open(server.port, { mode, path, fields });
          if (how === "whole") client.send(input);
          else await client.trickle(input);
          client.socket.end();

          const expected = expectedOf(one);
          const close = expected.reports.find(([kind]) => kind === "close");
          const expectedCode = expected.error?.closeCode ??
            (close?.[0] === "close" ? (close[1] === 1005 ? undefined : close[1]) : "none");
          assert.equal(await sentCode(client), expectedCode, one.name);
          const info = await closed.promise;
          assert.equal(info.error?.code, expected.error?.code, one.name);
          if (close?.[0] === "close") record.reports.push(["close", info.code, info.reason]);
          assert.deepEqual(record.reports, expected.reports, one.name);
        }
      }, 120_000);
    });
  }
}

/** The code of the server's Close frame; `"none"` when it sent no such frame. */
async function sentCode(client: FrameClient): Promise<number | "none" | undefined> {
  for (let frame = await client.next(); frame !== undefined; frame = await client.next()) {
    if (frame.op === 8) return frame.payload.length > 0 ? frame.payload.readUInt16BE(0) : undefined;
  }
  return "none";
}
