/**
 * What clients do to servers of HTTP/2 to wear them out. Each attack gets its exact reaction; what it
 * costs in memory and processor time is bounded; and a good client beside it is served all the while.
 *
 * The server is in a process of its own. Attacks that are about time are in http2_deadlines_test.ts.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Report } from "./attacks/server.ts";
import {
  assertUnharmed,
  type BOUNDS,
  GET,
  goneWith,
  many,
  MORE,
  nth,
  OPEN,
  POST,
  resets,
  serverFor,
  stopAttackedServersAfterAll,
  TEST_MS,
  WAIT_MS,
} from "./http2_attacks_support.ts";
import {
  type ClientOptions,
  type CodeName,
  continuation,
  data,
  frame,
  goaway,
  headers,
  type Http2Client,
  join,
  ping,
  priority,
  priorityUpdate,
  reset,
  Setting,
  settings,
  settingsAck,
  Type,
  webSocketFields,
  windowUpdate,
} from "./http2_client.ts";
import { encode, type Field, indexed, literal } from "./http2_hpack.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { MODES, until } from "./support.ts";
import { clientFrame } from "./websocket_cases.ts";

assertRuntime();
stopServersAfterAll();
stopAttackedServersAfterAll();

interface Attack {
  readonly name: string;
  readonly client?: ClientOptions;
  readonly options?: HttpsServerOptions;
  readonly bounds?: Partial<typeof BOUNDS>;
  /** Attacks, and asserts what comes of it on the wire. */
  run(client: Http2Client, scheme: "http" | "https"): Promise<void>;
  /** What the server has done. */
  then?(report: Report): void;
}

/** Faults of streams that make the server reset them, each with its code. */
const PROVOCATIONS: Record<
  string,
  { code: CodeName; provoke: (id: number, scheme: string) => Uint8Array }
> = {
  "WINDOW_UPDATE of 0": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), windowUpdate(id, 0)),
  },
  "a window that is too large": {
    code: "FLOW_CONTROL_ERROR",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), windowUpdate(id, 2 ** 31 - 1)),
  },
  "DATA behind END_STREAM": {
    code: "STREAM_CLOSED",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), data(id, "x")),
  },
  "HEADERS behind END_STREAM": {
    code: "STREAM_CLOSED",
    provoke: (id, scheme) => join(headers(id, GET("/hold", scheme)), headers(id, [["x", "y"]])),
  },
  "heads that are malformed": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) => headers(id, GET("/hold", scheme, ["X-UPPER", "1"])),
  },
  "PRIORITY of a wrong size": {
    code: "FRAME_SIZE_ERROR",
    provoke: (id, scheme) =>
      join(headers(id, GET("/hold", scheme)), frame(Type.PRIORITY, 0, id, [1, 2, 3])),
  },
  "streams that depend on themselves": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) => headers(id, GET("/hold", scheme), { priority: { dependsOn: id } }),
  },
  "DATA beyond content-length": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) =>
      join(headers(id, POST("/hold", scheme, ["content-length", "1"]), OPEN), data(id, "xyz")),
  },
  "trailers that do not end the stream": {
    code: "PROTOCOL_ERROR",
    provoke: (id, scheme) =>
      join(headers(id, POST("/hold", scheme), OPEN), headers(id, [["x", "y"]], OPEN)),
  },
};

/** Frames that carry nothing of a request. */
const EMPTY_FRAMES: Record<string, (i: number, scheme: string) => Uint8Array> = {
  "PING": () => ping(),
  "answers of PING": () => ping("pingping", { ack: true }),
  "SETTINGS": () => settings(),
  "SETTINGS of 32 entries": () =>
    settings(...Array.from({ length: 32 }, () => [Setting.INITIAL_WINDOW_SIZE, 1] as const)),
  "acknowledgements of SETTINGS": () => settingsAck(),
  "PRIORITY": (i) => priority(nth(i), { dependsOn: 0 }),
  "PRIORITY_UPDATE of one stream": () => priorityUpdate(1, "u=1"),
  "frames of unknown types": () => frame(0xbb, 0, 0),
  "frames of unknown types on streams": (i) => frame(0xbb, 0, nth(i), [1, 2, 3]),
  "GOAWAY": () => goaway(),
  "WINDOW_UPDATE of 1 on the connection": () => windowUpdate(0, 1),
};

/** The same on a stream that is open. */
const EMPTY_FRAMES_OF_A_STREAM: Record<string, () => Uint8Array> = {
  "DATA without a byte": () => data(1, "", OPEN),
  "DATA of padding": () => data(1, "", { ...OPEN, padding: 3 }),
  "WINDOW_UPDATE of 1 on a stream": () => windowUpdate(1, 1),
  "PRIORITY_UPDATE of an open stream": () => priorityUpdate(1, "u=7, i"),
};

const ATTACKS: Attack[] = [
  {
    name: "rapid reset",
    async run(client, scheme) {
      client.send(many(5_000, (i) => join(headers(nth(i), GET("/hold", scheme)), reset(nth(i)))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      assert.ok(client.goaway!.lastStreamId < nth(1_200), client.story());
    },
    then: ({ handlers }) => assert.ok(handlers <= 1_200, `${handlers} handlers`),
  },
  {
    name: "rapid reset of handlers that do not heed it",
    async run(client, scheme) {
      client.send(many(5_000, (i) => join(headers(nth(i), GET("/deaf", scheme)), reset(nth(i)))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      assert.ok(resets(client, "REFUSED_STREAM") <= 110, client.story());
    },
    then: ({ handlers }) => assert.equal(handlers, 100),
  },
  ...Object.entries(PROVOCATIONS).map(([name, { code, provoke }]): Attack => ({
    name: `resets provoked by ${name}`,
    async run(client, scheme) {
      client.send(many(1_000, (i) => provoke(nth(i), scheme)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      const count = resets(client, code);
      assert.ok(count >= 100 && count <= 130, `${count} resets; ${client.story()}`);
    },
    then: ({ handlers }) => assert.ok(handlers <= 130, `${handlers} handlers`),
  })),
  {
    name: "streams above the limit",
    async run(client, scheme) {
      client.send(many(1_000, (i) => headers(nth(i), GET("/hold", scheme))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
      const count = resets(client, "REFUSED_STREAM");
      assert.ok(count >= 100 && count <= 130, `${count} resets; ${client.story()}`);
      assert.equal(client.goaway!.lastStreamId, nth(99));
    },
    then: ({ handlers }) => assert.equal(handlers, 100),
  },
  {
    name: "CONTINUATION without a byte",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme), MORE));
      client.send(many(20_000, () => continuation(1, new Uint8Array(0), MORE)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "CONTINUATION of a field each",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme), MORE));
      client.send(many(10_000, () => continuation(1, [["x-a", "b"]], MORE)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "CONTINUATION of full size",
    async run(client, scheme) {
      const full = Buffer.alloc(16_384, 0x82);
      client.send(headers(1, GET("/", scheme), MORE));
      client.send(many(200, () => continuation(1, full, MORE)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  ...Object.entries(EMPTY_FRAMES).map(([name, make]): Attack => ({
    name: `a flood of ${name}`,
    async run(client, scheme) {
      client.send(headers(1, GET("/hold", scheme)));
      client.send(many(5_000, (i) => make(i, scheme)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
  })),
  ...Object.entries(EMPTY_FRAMES_OF_A_STREAM).map(([name, make]): Attack => ({
    name: `a flood of ${name}`,
    async run(client, scheme) {
      client.send(headers(1, POST("/hold", scheme), OPEN));
      client.send(many(5_000, make));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
  })),
  {
    name: "a flood of HEADERS for a stream that was reset",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme, ["X-UPPER", "1"]), OPEN));
      client.send(many(5_000, () => headers(1, [["x-a", "b"]], OPEN)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "a flood of requests behind GOAWAY",
    async run(client, scheme) {
      client.send(headers(1, GET("/hold", scheme)), goaway());
      client.send(many(5_000, (i) => headers(nth(i + 1), GET("/hold", scheme))));
      await client.until(() => client.ended || client.closed, "the end", WAIT_MS);
      assert.equal(client.goaway!.code, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 1),
  },
  {
    name: "more settings than 32 in one frame",
    async run(client) {
      client.send(settings(...Array.from({ length: 33 }, () => [0x99, 1] as const)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
  },
  {
    name: "priorities of streams that are never opened",
    async run(client) {
      client.send(many(5_000, (i) => priorityUpdate(nth(i), "u=1, i")));
      await client.until(() => client.ended || client.closed, "the end", WAIT_MS);
      const code = client.goaway!.code as string;
      assert.ok(["PROTOCOL_ERROR", "ENHANCE_YOUR_CALM"].includes(code), client.story());
    },
  },
  {
    name: "a bomb of HPACK",
    async run(client, scheme) {
      const entry = literal("x-bomb", "b".repeat(4_000), "incremental");
      client.send(headers(1, join(encode(GET("/", scheme)), entry)));
      assert.equal((await client.answer(1)).status, 200);
      const bomb = join(encode(GET("/", scheme)), Buffer.alloc(16_000, indexed(62)[0]));
      client.send(headers(3, bomb));
      assert.equal((await client.answer(3, WAIT_MS)).status, 431);
      assert.equal((await client.fetch({ scheme, path: "/" }, undefined, 5)).status, 200);
    },
    then: ({ handlers }) => assert.equal(handlers, 2),
  },
  {
    name: "bombs of HPACK, one behind the other",
    async run(client, scheme) {
      const entry = literal("x-bomb", "b".repeat(4_000), "incremental");
      client.send(headers(1, join(encode(GET("/", scheme)), entry)));
      const bomb = join(encode(GET("/", scheme)), Buffer.alloc(16_000, indexed(62)[0]));
      client.send(many(400, (i) => headers(nth(i + 1), bomb)));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 1),
  },
  {
    name: "1,500 fields",
    async run(client, scheme) {
      const fields = Array.from({ length: 1_500 }, (): Field => ["a", "b"]);
      client.send(headers(1, GET("/", scheme, ...fields)));
      assert.equal((await client.answer(1)).status, 431);
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    },
    then: ({ handlers }) => assert.equal(handlers, 1),
  },
  {
    name: "a field of 15,900 bytes, and a target of 9,000",
    async run(client, scheme) {
      client.send(headers(1, GET("/", scheme, ["x-long", "a".repeat(16_200)])));
      client.send(headers(3, GET(`/${"a".repeat(9_000)}`, scheme)));
      assert.equal((await client.answer(1)).status, 431);
      assert.equal((await client.answer(3)).status, 414);
    },
    then: ({ handlers }) => assert.equal(handlers, 0),
  },
  {
    name: "a hundred endless answers that no window lets through",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    async run(client, scheme) {
      client.send(many(100, (i) => headers(nth(i), GET("/endless", scheme))));
      await client.until(() => client.count(Type.HEADERS) === 100, "the heads", WAIT_MS);
      await client.settled("settled!", WAIT_MS);
      assert.equal(client.count(Type.DATA), 0);
    },
    then: ({ pieces }) => assert.ok(pieces <= 400, `${pieces} pieces`),
    bounds: { heapMiB: 30 },
  },
  {
    name: "endless answers on a connection whose window is not given back",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]], giveBack: false },
    async run(client, scheme) {
      client.send(many(100, (i) => headers(nth(i), GET("/endless", scheme))));
      await client.until(() => client.count(Type.HEADERS) === 100, "the heads", WAIT_MS);
      await client.settled("settled!", WAIT_MS);
      const length = client.frames.filter(({ type }) => type === Type.DATA)
        .reduce((sum, { payload }) => sum + payload.length, 0);
      assert.equal(length, 65_535);
    },
    then: ({ pieces }) => assert.ok(pieces <= 500, `${pieces} pieces`),
    bounds: { heapMiB: 30 },
  },
  {
    name: "a body beyond the stream's window",
    async run(client, scheme) {
      client.send(headers(1, POST("/hold", scheme), OPEN));
      const full = new Uint8Array(16_384);
      client.send(many(17, () => data(1, full, OPEN))); // 278,528 bytes of 262,144
      const { reset } = await client.answer(1, WAIT_MS);
      assert.equal(reset, "FLOW_CONTROL_ERROR");
      assert.equal((await client.fetch({ scheme }, undefined, 3)).status, 200);
    },
  },
  {
    name: "bodies beyond the connection's window",
    async run(client, scheme) {
      const full = new Uint8Array(16_384);
      for (const id of [1, 3, 5, 7, 9]) {
        client.send(headers(id, POST("/hold", scheme), OPEN));
        client.send(many(16, () => data(id, full, OPEN))); // 5 × 262,144 of 1,048,576 bytes
      }
      await goneWith(client, "FLOW_CONTROL_ERROR");
    },
  },
  {
    name: "a body that nothing reads, of DATA of a byte each",
    async run(client, scheme) {
      // All are made before the head is sent: the time of a body goes from then on.
      const body = many(262_144, () => data(1, "x", OPEN));
      client.send(headers(1, POST("/hold", scheme), OPEN), body);
      await client.settled("settled!", WAIT_MS);
    },
    bounds: { heapMiB: 8, cpuMs: 6_000 },
  },
  {
    name: "a body of DATA of a byte each",
    async run(client, scheme) {
      const body = many(200_000, () => data(1, "x", OPEN));
      client.send(headers(1, POST("/read", scheme), OPEN), body, data(1));
      assert.equal((await client.answer(1, WAIT_MS)).body.toString(), "200000");
    },
    bounds: { cpuMs: 6_000 },
  },
  {
    name: "DATA for streams that the server has reset gives the connection's window back",
    async run(client, scheme) {
      const full = new Uint8Array(16_384);
      for (let i = 0; i < 80; i++) {
        const id = nth(i);
        client.send(
          headers(id, POST("/read", scheme, ["X-UPPER", "1"]), OPEN),
          data(id, full, OPEN), // 80 × 16 KB are more than the window
        );
        await client.answer(id);
      }
      const id = nth(80);
      client.send(headers(id, POST("/read", scheme), OPEN), data(id, full));
      assert.equal((await client.answer(id)).body.toString(), "16384");
    },
  },
  {
    name: "requests whose answers are not let through",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    async run(client, scheme) {
      client.send(many(5_000, (i) => headers(nth(i), GET("/", scheme))));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    then: ({ handlers }) => assert.equal(handlers, 100),
  },
  {
    name: "WINDOW_UPDATE and SETTINGS that make all streams try again and again",
    client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    async run(client, scheme) {
      client.send(many(100, (i) => headers(nth(i), GET("/big", scheme))));
      client.send(many(5_000, (i) => settings([Setting.INITIAL_WINDOW_SIZE, i % 2])));
      await goneWith(client, "ENHANCE_YOUR_CALM");
    },
    bounds: { cpuMs: 6_000 },
  },
  {
    name: "a size update of HPACK's table in every head",
    async run(client, scheme) {
      const block = join([0x20, 0x3f, 0xe1, 0x1f], encode(GET("/", scheme)), [
        ...literal("x-a", "b".repeat(3_000), "incremental"),
      ]);
      for (let i = 0; i < 20; i++) {
        client.send(many(50, (k) => headers(nth(50 * i + k), block)));
        await client.answer(nth(50 * i + 49), WAIT_MS);
      }
    },
    then: ({ handlers }) => assert.equal(handlers, 1_000),
  },
];

for (const mode of MODES) {
  const scheme = mode === "tls" ? "https" : "http";
  describe(`attacks on HTTP/2, ${mode}`, () => {
    for (const { name, options, client: how, bounds, run, then } of ATTACKS) {
      test(name, async () => {
        const server = await serverFor(mode, options);
        const report = await assertUnharmed(server, async () => {
          using client = await server.connect(how);
          await run(client, scheme);
        }, bounds);
        then?.(report);
      }, TEST_MS);
    }

    test(
      "bodies that nothing reads on many connections: beyond the limit of all they are cut",
      async () => {
        const server = await serverFor(mode, { limits: { maxUnreadBytes: 2_000_000 } });
        const report = await assertUnharmed(server, async () => {
          const full = new Uint8Array(16_000);
          const clients: Http2Client[] = [];
          for (let i = 0; i < 12; i++) {
            const client = await server.connect();
            clients.push(client);
            for (const id of [1, 3, 5, 7]) {
              client.send(headers(id, POST("/hold", scheme), OPEN));
              client.send(many(14, () => data(id, full, OPEN))); // 12 × 4 × 224,000 bytes in all
            }
            await client.settled("settled!", WAIT_MS).catch(() => {}); // it may be the one that is cut
          }
          const left = () => clients.filter(({ closed, ended }) => !closed && !ended).length;
          await until(() => left() <= 5, "the cut ones");
          for (const client of clients) client.destroy();
        });
        assert.ok(report.ends["CONNECTION_ABORTED"]! >= 7, JSON.stringify(report.ends));
      },
      TEST_MS,
    );

    test("messages of a WebSocket whose echoes are not let through stop its client", async () => {
      const server = await serverFor(mode);
      await assertUnharmed(server, async () => {
        using client = await server.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
        client.send(headers(1, webSocketFields("/echo", { scheme }), OPEN));
        await client.until(() => client.soFar(1).status === 200, "the WebSocket", WAIT_MS);
        const message = clientFrame({ op: 2, repeat: ["aa", 7_500] });
        let window = 262_144;
        let seen = 0;
        const granted = (): number => {
          for (; seen < client.frames.length; seen++) {
            const { type, streamId, payload } = client.frames[seen]!;
            if (type === Type.WINDOW_UPDATE && streamId === 1) window += payload.readUInt32BE();
          }
          return window;
        };
        let sent = 0;
        for (let waits = 0; waits < 100;) {
          if (client.soFar(1).reset !== undefined || client.ended) break;
          if (sent + message.length > granted()) {
            waits++;
            await client.settled("settled!", WAIT_MS);
            continue;
          }
          waits = 0;
          client.send(data(1, message, OPEN));
          sent += message.length;
          assert.ok(sent < 40_000_000, "The client is not stopped");
        }
        assert.ok(sent > 0);
      }, { heapMiB: 24 });
    }, TEST_MS);
  });
}
