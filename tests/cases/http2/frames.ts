/**
 * The types of frames, and error codes: RFC 9113 sections 6 and 7.
 *
 * @module
 */
import {
  Code,
  continuation,
  data,
  Flag,
  frame,
  goaway,
  headers,
  join,
  ping,
  priority,
  reset,
  Setting,
  settings,
  settingsAck,
  Type,
  uint32,
  windowUpdate,
} from "../../http2_client.ts";
import { encode } from "../../http2_hpack.ts";
import {
  acknowledged,
  ALIVE,
  answered,
  BROKEN,
  bytesCame,
  type ConformanceCase,
  equal,
  isAck,
  MALFORMED,
  MORE,
  OK,
  OPEN,
  type Outcome,
  OVERFLOW,
  read,
  received,
  requestsOf,
  type Scheme,
  WRONG_SIZE,
} from "./case.ts";

/** What each type of frame may be and do. */
export function frameCases(scheme: Scheme): ConformanceCase[] {
  const { get, post } = requestsOf(scheme);
  const GET = get();
  const POST = post("/read");
  const HOLD = get("/hold");
  const dataFrames: ConformanceCase[] = [
    {
      name: "DATA on stream 0",
      section: "6.1",
      h2spec: "http2/6.1/1",
      steps: [data(0, "test")],
      expect: [BROKEN],
    },
    {
      name: "DATA with more padding than payload",
      section: "6.1",
      h2spec: "http2/6.1/3",
      steps: [
        headers(1, post("/read", ["content-length", "4"]), OPEN),
        frame(Type.DATA, Flag.PADDED | Flag.END_STREAM, 1, [6, 84, 101, 115, 116]),
      ],
      expect: [BROKEN],
    },
    {
      name: "DATA whose padding is as long as its payload",
      section: "6.1",
      steps: [headers(1, POST, OPEN), frame(Type.DATA, Flag.PADDED, 1, [5, 84, 101, 115, 116])],
      expect: [BROKEN],
    },
    {
      name: "DATA with padding, and of padding alone",
      section: "6.1",
      h2spec: "generic/3.1/1 to 3",
      steps: [
        headers(1, post("/read", ["content-length", "6"]), OPEN),
        data(1, "abc", { ...OPEN, padding: 255 }),
        data(1, "", { ...OPEN, padding: 10 }),
        data(1, "def", { padding: 0 }),
      ],
      expect: [{ status: 200, check: ({ body }) => equal(body.toString(), "abcdef") }],
    },
    {
      name: "DATA without a byte, with and without END_STREAM",
      section: "6.1",
      steps: [headers(1, POST, OPEN), data(1, "", OPEN), data(1, "")],
      expect: [{ status: 200, check: ({ body }) => equal(body.length, 0) }],
    },
    {
      name: "HEADERS on stream 0",
      section: "6.2",
      h2spec: "http2/6.2/3",
      steps: [headers(0, GET)],
      expect: [BROKEN],
    },
    {
      name: "HEADERS with more padding than payload",
      section: "6.2",
      h2spec: "http2/6.2/4",
      steps: [
        frame(
          Type.HEADERS,
          Flag.PADDED | Flag.END_HEADERS | Flag.END_STREAM,
          1,
          join([encode(GET).length + 1], encode(GET)),
        ),
      ],
      expect: [BROKEN],
    },
    {
      name: "HEADERS with padding",
      section: "6.2",
      h2spec: "generic/3.2/1, 2",
      steps: [headers(1, GET, { padding: 200 })],
      expect: [OK],
    },
    {
      name: "HEADERS with the fields of priority",
      section: "6.2",
      h2spec: "generic/3.2/3",
      steps: [headers(1, GET, { priority: { dependsOn: 0, exclusive: true, weight: 255 } })],
      expect: [OK],
    },
    {
      name: "HEADERS with padding and the fields of priority",
      section: "6.2",
      steps: [headers(1, GET, { padding: 1, priority: { dependsOn: 3 } })],
      expect: [OK],
    },
    {
      name: "HEADERS without a byte, behind which all is in CONTINUATION",
      section: "6.2",
      steps: [headers(1, new Uint8Array(0), MORE), continuation(1, GET)],
      expect: [OK],
    },
    {
      name: "END_STREAM on HEADERS holds when CONTINUATION follows",
      section: "6.2",
      steps: [headers(1, POST, MORE), continuation(1, [["x-a", "b"]])],
      expect: [{ status: 200, check: ({ body }) => equal(body.length, 0) }],
    },
    {
      name: "PRIORITY on stream 0",
      section: "6.3",
      h2spec: "http2/6.3/1",
      steps: [priority(0, { dependsOn: 0, weight: 255 })],
      expect: [BROKEN],
    },
    ...[4, 6].map((length): ConformanceCase => ({
      name: `PRIORITY of ${length} bytes`,
      section: "6.3",
      ...(length === 4 && { h2spec: "http2/6.3/2" }),
      steps: [headers(1, HOLD), frame(Type.PRIORITY, 0, 1, new Uint8Array(length))],
      expect: [{ reset: ["FRAME_SIZE_ERROR"] }],
    })),
    {
      name: "PRIORITY of an idle stream, then HEADERS of a lower one",
      section: "6.3",
      h2spec: "generic/3.3/5; http2/6.3/3 strict",
      steps: [priority(3, { dependsOn: 0, weight: 255 }), headers(1, GET)],
      expect: [OK],
    },
    {
      name: "RST_STREAM on stream 0",
      section: "6.4",
      h2spec: "http2/6.4/1",
      steps: [reset(0)],
      expect: [BROKEN],
    },
    ...[3, 5].map((length): ConformanceCase => ({
      name: `RST_STREAM of ${length} bytes`,
      section: "6.4",
      ...(length === 3 && { h2spec: "http2/6.4/3" }),
      steps: [headers(1, HOLD), frame(Type.RST_STREAM, 0, 1, new Uint8Array(length))],
      expect: [WRONG_SIZE],
    })),
    {
      name: "PUSH_PROMISE of a client",
      section: "6.6",
      h2spec: "http2/8.2/1",
      steps: [
        headers(1, HOLD),
        frame(Type.PUSH_PROMISE, Flag.END_HEADERS, 1, join(uint32(2), encode(GET))),
      ],
      expect: [BROKEN],
    },
    {
      name: "PUSH_PROMISE of a client on stream 0",
      section: "6.6",
      steps: [frame(Type.PUSH_PROMISE, Flag.END_HEADERS, 0, join(uint32(2), encode(GET)))],
      expect: [BROKEN],
    },
  ];

  const settingsFrames: ConformanceCase[] = [
    {
      name: "an acknowledgement with a payload",
      section: "6.5",
      h2spec: "http2/6.5/1",
      steps: [frame(Type.SETTINGS, Flag.ACK, 0, [0])],
      expect: [WRONG_SIZE],
    },
    {
      name: "an acknowledgement with a setting",
      section: "6.5",
      steps: [frame(Type.SETTINGS, Flag.ACK, 0, [0, 3, 0, 0, 0, 100])],
      expect: [WRONG_SIZE],
    },
    {
      name: "SETTINGS on stream 1",
      section: "6.5",
      h2spec: "http2/6.5/2",
      steps: [frame(Type.SETTINGS, 0, 1, [0, 3, 0, 0, 0, 100])],
      expect: [BROKEN],
    },
    {
      name: "an acknowledgement on stream 1",
      section: "6.5",
      steps: [frame(Type.SETTINGS, Flag.ACK, 1)],
      expect: [BROKEN],
    },
    ...[1, 5, 7, 8].map((length): ConformanceCase => ({
      name: `SETTINGS of ${length} bytes`,
      section: "6.5",
      ...(length === 8 && { h2spec: "http2/6.5/3" }),
      steps: [frame(Type.SETTINGS, 0, 0, new Uint8Array(length))],
      expect: [WRONG_SIZE],
    })),
    {
      name: "all settings at once",
      section: "6.5",
      h2spec: "generic/3.5/1",
      steps: [
        settings(
          [Setting.HEADER_TABLE_SIZE, 4096],
          [Setting.ENABLE_PUSH, 1],
          [Setting.MAX_CONCURRENT_STREAMS, 100],
          [Setting.INITIAL_WINDOW_SIZE, 65_535],
          [Setting.MAX_FRAME_SIZE, 16_384],
          [Setting.MAX_HEADER_LIST_SIZE, 100],
        ),
        acknowledged(2),
      ],
      expect: [ALIVE],
    },
    ...([
      ["ENABLE_PUSH is 2", Setting.ENABLE_PUSH, 2, BROKEN, "http2/6.5.2/1"],
      ["ENABLE_PUSH is 2^32-1", Setting.ENABLE_PUSH, 2 ** 32 - 1, BROKEN],
      [
        "INITIAL_WINDOW_SIZE is 2^31",
        Setting.INITIAL_WINDOW_SIZE,
        2 ** 31,
        OVERFLOW,
        "http2/6.5.2/2, http2/6.9.2/3",
      ],
      ["INITIAL_WINDOW_SIZE is 2^32-1", Setting.INITIAL_WINDOW_SIZE, 2 ** 32 - 1, OVERFLOW],
      ["MAX_FRAME_SIZE is 16,383", Setting.MAX_FRAME_SIZE, 16_383, BROKEN, "http2/6.5.2/3"],
      ["MAX_FRAME_SIZE is 0", Setting.MAX_FRAME_SIZE, 0, BROKEN],
      ["MAX_FRAME_SIZE is 2^24", Setting.MAX_FRAME_SIZE, 2 ** 24, BROKEN, "http2/6.5.2/4"],
      ["ENABLE_CONNECT_PROTOCOL is 2", Setting.ENABLE_CONNECT_PROTOCOL, 2, BROKEN],
      ["NO_RFC7540_PRIORITIES is 2", Setting.NO_RFC7540_PRIORITIES, 2, BROKEN],
    ] as [string, number, number, Outcome, string?][]).map(
      ([name, id, value, outcome, h2spec]): ConformanceCase => ({
        name,
        section: id === 8 ? "RFC 8441 3" : id === 9 ? "RFC 9218 2.1" : "6.5.2",
        ...(h2spec && { h2spec }),
        steps: [settings([id, value])],
        expect: [outcome],
      }),
    ),
    ...([
      ["ENABLE_PUSH is 0", [[Setting.ENABLE_PUSH, 0]]],
      ["ENABLE_PUSH is 1", [[Setting.ENABLE_PUSH, 1]]],
      ["MAX_CONCURRENT_STREAMS is 0", [[Setting.MAX_CONCURRENT_STREAMS, 0]]],
      ["INITIAL_WINDOW_SIZE is 2^31-1", [[Setting.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]]],
      ["MAX_FRAME_SIZE is 2^24-1", [[Setting.MAX_FRAME_SIZE, 2 ** 24 - 1]]],
      ["HEADER_TABLE_SIZE is 2^32-1", [[Setting.HEADER_TABLE_SIZE, 2 ** 32 - 1]]],
      ["MAX_HEADER_LIST_SIZE is 2^32-1", [[Setting.MAX_HEADER_LIST_SIZE, 2 ** 32 - 1]]],
      ["ENABLE_CONNECT_PROTOCOL is 1", [[Setting.ENABLE_CONNECT_PROTOCOL, 1]]],
      ["an unknown setting", [[0xff, 1]], "http2/6.5.2/5"],
      ["unknown settings of all numbers", [[0, 9], [7, 9], [0xffff, 2 ** 32 - 1], [0x0a0a, 1]]],
      ["no setting", []],
      ["32 settings", Array.from({ length: 32 }, () => [3, 100])],
    ] as [string, [number, number][], string?][]).map(
      ([name, entries, h2spec]): ConformanceCase => ({
        name,
        section: "6.5.2",
        ...(h2spec && { h2spec }),
        steps: [settings(...entries), acknowledged(2), headers(1, GET)],
        expect: [OK],
      }),
    ),
    {
      name: "NO_RFC7540_PRIORITIES is 1, from the beginning",
      section: "RFC 9218 2.1",
      client: { settings: [[Setting.NO_RFC7540_PRIORITIES, 1]] },
      steps: [headers(1, GET)],
      expect: [OK],
    },
    {
      name: "two values of one setting: the last one holds",
      section: "6.5.3",
      h2spec: "http2/6.5.3/1",
      client: { giveBack: false },
      steps: [
        settings([Setting.INITIAL_WINDOW_SIZE, 100], [Setting.INITIAL_WINDOW_SIZE, 1]),
        headers(1, GET),
        bytesCame(1, 1),
      ],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 1) }],
    },
    {
      name: "each SETTINGS is acknowledged",
      section: "6.5.3",
      h2spec: "http2/6.5.3/2",
      steps: [settings([Setting.ENABLE_PUSH, 0]), settings(), settings(), acknowledged(4)],
      expect: [{ alive: true, sees: ({ frames }) => equal(frames.filter(isAck).length, 4) }],
    },
    {
      name: "SETTINGS hold for what is sent behind their acknowledgement",
      section: "6.5.3",
      client: { giveBack: false },
      steps: [settings([Setting.INITIAL_WINDOW_SIZE, 2]), headers(1, GET), bytesCame(1, 2)],
      expect: [{
        alive: true,
        sees: (client) => {
          const acks = client.frames.filter(isAck);
          const ack = client.frames.indexOf(acks[1]!);
          const first = client.frames.findIndex(({ type }) => type === Type.DATA);
          equal(ack < first, true);
          equal(received(client, 1), 2);
        },
      }],
    },
    {
      name: "an acknowledgement of nothing",
      section: "6.5.3",
      steps: [settingsAck()],
      expect: [ALIVE, BROKEN],
    },
  ];

  const controls: ConformanceCase[] = [
    {
      name: "PING is answered with its bytes",
      section: "6.7",
      h2spec: "http2/6.7/1, generic/3.7/1",
      steps: [ping("h2spec\0\0"), (client) => client.settled("h2\x00\xff\x80spe")],
      expect: [{
        alive: true,
        sees: ({ frames }) => {
          const pings = frames.filter(({ type }) => type === Type.PING);
          equal(pings[0]!.payload.toString("latin1"), "h2spec\0\0");
          equal(pings[0]!.flags, Flag.ACK);
        },
      }],
    },
    {
      name: "an answer of PING is not answered",
      section: "6.7",
      h2spec: "http2/6.7/2",
      steps: [ping("invalid\0", { ack: true })],
      expect: [{
        alive: true,
        sees: ({ frames }) =>
          equal(frames.some(({ payload }) => payload.toString("latin1") === "invalid\0"), false),
      }],
    },
    {
      name: "PING on stream 1",
      section: "6.7",
      h2spec: "http2/6.7/3",
      steps: [frame(Type.PING, 0, 1, new Uint8Array(8))],
      expect: [BROKEN],
    },
    {
      name: "an answer of PING on stream 1",
      section: "6.7",
      steps: [frame(Type.PING, Flag.ACK, 1, new Uint8Array(8))],
      expect: [BROKEN],
    },
    ...[0, 7, 9, 16].map((length): ConformanceCase => ({
      name: `PING of ${length} bytes`,
      section: "6.7",
      steps: [frame(Type.PING, 0, 0, new Uint8Array(length))],
      expect: [WRONG_SIZE],
    })),
    {
      name: "PING of 6 bytes on stream 1",
      section: "6.7",
      h2spec: "http2/6.7/4, which takes FRAME_SIZE_ERROR alone",
      steps: [frame(Type.PING, 0, 1, new Uint8Array(6))],
      expect: [WRONG_SIZE],
    },
    {
      name: "GOAWAY on stream 1",
      section: "6.8",
      h2spec: "http2/6.8/1",
      steps: [frame(Type.GOAWAY, 0, 1, new Uint8Array(8))],
      expect: [BROKEN],
    },
    ...[0, 7].map((length): ConformanceCase => ({
      name: `GOAWAY of ${length} bytes`,
      section: "6.8",
      steps: [frame(Type.GOAWAY, 0, 0, new Uint8Array(length))],
      expect: [WRONG_SIZE],
    })),
    {
      name: "GOAWAY of a client without streams ends the connection",
      section: "6.8",
      h2spec: "generic/3.8/1",
      steps: [goaway(0, Code.NO_ERROR, "h2spec")],
      expect: [{ over: true }],
    },
    {
      name: "GOAWAY of a client lets its streams finish, then ends the connection",
      section: "6.8",
      steps: [
        headers(1, POST, OPEN),
        goaway(0),
        read,
        data(1, "late"),
        async (client) => {
          const { status, body } = await client.answer(1);
          equal(status, 200);
          equal(body.toString(), "late");
        },
      ],
      expect: [{ over: true }],
    },
    {
      name: "GOAWAY twice, the second with a lower stream",
      section: "6.8",
      steps: [headers(1, HOLD), goaway(2 ** 31 - 1), goaway(0)],
      expect: [ALIVE],
    },
    {
      name: "WINDOW_UPDATE of 0 on the connection",
      section: "6.9",
      h2spec: "http2/6.9/1",
      steps: [windowUpdate(0, 0)],
      expect: [BROKEN],
    },
    {
      name: "WINDOW_UPDATE of 0, with the reserved bit, on the connection",
      section: "6.9",
      steps: [frame(Type.WINDOW_UPDATE, 0, 0, uint32(0x8000_0000))],
      expect: [BROKEN],
    },
    {
      name: "WINDOW_UPDATE of 0 on a stream",
      section: "6.9",
      h2spec: "http2/6.9/2",
      steps: [headers(1, HOLD, OPEN), windowUpdate(1, 0)],
      expect: [MALFORMED],
    },
    {
      name: "WINDOW_UPDATE of 0 on a stream that was answered early",
      section: "6.9",
      h2spec: "http2/6.9/2",
      steps: [headers(1, GET, OPEN), windowUpdate(1, 0)],
      expect: [MALFORMED],
    },
    ...[0, 3, 5].map((length): ConformanceCase => ({
      name: `WINDOW_UPDATE of ${length} bytes`,
      section: "6.9",
      ...(length === 3 && { h2spec: "http2/6.9/3" }),
      steps: [frame(Type.WINDOW_UPDATE, 0, 0, new Uint8Array(length))],
      expect: [WRONG_SIZE],
    })),
    {
      name: "WINDOW_UPDATE of 3 bytes on a stream",
      section: "6.9",
      steps: [headers(1, HOLD), frame(Type.WINDOW_UPDATE, 0, 1, [0, 0, 1])],
      expect: [WRONG_SIZE],
    },
    {
      name: "WINDOW_UPDATE of 1 on the connection and on a stream",
      section: "6.9",
      h2spec: "generic/3.9/1, 2",
      steps: [windowUpdate(0, 1), headers(1, GET), windowUpdate(1, 1)],
      expect: [OK],
    },
    {
      name: "a window of 1 byte gets 1 byte",
      section: "6.9.1",
      h2spec: "http2/6.9.1/1",
      client: { giveBack: false },
      steps: [settings([Setting.INITIAL_WINDOW_SIZE, 1]), headers(1, GET), bytesCame(1, 1)],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 1) }],
    },
    {
      name: "a window of no byte gets HEADERS and no DATA",
      section: "6.9.1",
      client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
      steps: [
        headers(1, GET),
        (client) => client.until(() => client.soFar(1).status === 200, "HEADERS"),
      ],
      expect: [{ alive: true, sees: (client) => equal(client.count(Type.DATA), 0) }],
    },
    {
      name: "a body byte by byte through a window of 1 byte",
      section: "6.9.1",
      client: { settings: [[Setting.INITIAL_WINDOW_SIZE, 1]] },
      steps: [headers(1, GET)],
      expect: [{ status: 200, check: ({ body }) => equal(body.toString(), "conformance") }],
    },
    {
      name: "no byte more than the connection's window",
      section: "6.9.1",
      client: { giveBack: false, settings: [[Setting.INITIAL_WINDOW_SIZE, 1_000_000]] },
      steps: [headers(1, get("/big")), bytesCame(1, 65_535), windowUpdate(0, 1), read],
      expect: [{
        alive: true,
        sees: (client) => equal(received(client, 1), 65_536),
      }],
    },
    {
      name: "no byte more than the stream's window, and others go on",
      section: "6.9.1",
      client: { giveBack: false },
      steps: [
        windowUpdate(0, 1_000_000),
        headers(1, get("/big")),
        bytesCame(1, 65_535),
        headers(3, GET),
        answered(3),
      ],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 65_535) }],
    },
    {
      name: "the connection's window above 2^31-1",
      section: "6.9.1",
      h2spec: "http2/6.9.1/2",
      steps: [windowUpdate(0, 2 ** 31 - 1), windowUpdate(0, 2 ** 31 - 1)],
      expect: [OVERFLOW],
    },
    {
      name: "the connection's window at 2^31-1",
      section: "6.9.1",
      steps: [windowUpdate(0, 2 ** 31 - 1 - 65_535), headers(1, GET)],
      expect: [OK],
    },
    {
      name: "the connection's window at 2^31",
      section: "6.9.1",
      steps: [windowUpdate(0, 2 ** 31 - 65_535)],
      expect: [OVERFLOW],
    },
    {
      name: "a stream's window above 2^31-1",
      section: "6.9.1",
      h2spec: "http2/6.9.1/3",
      steps: [
        headers(1, HOLD, OPEN),
        windowUpdate(1, 2 ** 31 - 1),
        windowUpdate(1, 2 ** 31 - 1),
      ],
      expect: [{ reset: ["FLOW_CONTROL_ERROR"] }],
    },
    {
      name: "the window above 2^31-1 of a stream that was answered early",
      section: "6.9.1",
      h2spec: "http2/6.9.1/3",
      steps: [headers(1, GET, OPEN), windowUpdate(1, 2 ** 31 - 1), windowUpdate(1, 2 ** 31 - 1)],
      expect: [{ reset: ["FLOW_CONTROL_ERROR"] }],
    },
    {
      name: "a window that grows while a body waits for it",
      section: "6.9.2",
      h2spec: "http2/6.9.2/1",
      client: { giveBack: false },
      steps: [
        settings([Setting.INITIAL_WINDOW_SIZE, 0]),
        acknowledged(2),
        headers(1, GET),
        settings([Setting.INITIAL_WINDOW_SIZE, 1]),
        bytesCame(1, 1),
      ],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 1) }],
    },
    {
      name: "a window that shrinks below zero",
      section: "6.9.2",
      h2spec: "http2/6.9.2/2",
      client: { giveBack: false },
      steps: [
        settings([Setting.INITIAL_WINDOW_SIZE, 3]),
        acknowledged(2),
        headers(1, GET),
        bytesCame(1, 3),
        settings([Setting.INITIAL_WINDOW_SIZE, 2]),
        acknowledged(3),
        windowUpdate(1, 2),
        bytesCame(1, 4),
      ],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 4) }],
    },
    {
      name: "a window that stays below zero gets nothing",
      section: "6.9.2",
      client: { giveBack: false },
      steps: [
        settings([Setting.INITIAL_WINDOW_SIZE, 5]),
        headers(1, GET),
        bytesCame(1, 5),
        settings([Setting.INITIAL_WINDOW_SIZE, 0]),
        windowUpdate(1, 4),
        read,
        windowUpdate(1, 1),
        read,
      ],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 5) }],
    },
    {
      name: "SETTINGS that lift a stream's window above 2^31-1",
      section: "6.9.2",
      steps: [
        settings([Setting.INITIAL_WINDOW_SIZE, 0]),
        headers(1, HOLD, OPEN),
        windowUpdate(1, 2 ** 31 - 1),
        settings([Setting.INITIAL_WINDOW_SIZE, 1]),
      ],
      expect: [OVERFLOW],
    },
    {
      name: "SETTINGS change nothing about the connection's window",
      section: "6.9.2",
      client: { giveBack: false },
      steps: [
        settings([Setting.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]),
        headers(1, get("/big")),
        bytesCame(1, 65_535),
        read,
      ],
      expect: [{ alive: true, sees: (client) => equal(received(client, 1), 65_535) }],
    },
    {
      name: "more CONTINUATION than one",
      section: "6.10",
      h2spec: "http2/6.10/1, generic/3.10/1, 2",
      steps: [
        headers(1, GET, MORE),
        continuation(1, [["x-a", "b"]], MORE),
        continuation(1, [["x-a", "b"]]),
      ],
      expect: [OK],
    },
    {
      name: "CONTINUATION, then DATA",
      section: "6.10",
      h2spec: "http2/6.10/2",
      steps: [
        headers(1, POST, { ...OPEN, ...MORE }),
        continuation(1, [["x-a", "b"]], MORE),
        data(1, "test"),
      ],
      expect: [BROKEN],
    },
    {
      name: "CONTINUATION on stream 0",
      section: "6.10",
      h2spec: "http2/6.10/3",
      steps: [headers(1, GET, MORE), continuation(0, [["x-a", "b"]])],
      expect: [BROKEN],
    },
    {
      name: "CONTINUATION behind HEADERS that ended the block",
      section: "6.10",
      h2spec: "http2/6.10/4",
      steps: [headers(1, HOLD), continuation(1, [["x-a", "b"]])],
      expect: [BROKEN],
    },
    {
      name: "CONTINUATION behind CONTINUATION that ended the block",
      section: "6.10",
      h2spec: "http2/6.10/5",
      steps: [
        headers(1, HOLD, MORE),
        continuation(1, [["x-a", "b"]]),
        continuation(1, [["x-a", "b"]]),
      ],
      expect: [BROKEN],
    },
    {
      name: "CONTINUATION behind DATA",
      section: "6.10",
      h2spec: "http2/6.10/6",
      steps: [
        headers(1, POST, { ...OPEN, ...MORE }),
        data(1, "test"),
        continuation(1, [["x-a", "b"]]),
      ],
      expect: [BROKEN],
    },
    {
      name: "CONTINUATION of another stream",
      section: "6.10",
      steps: [headers(1, GET, MORE), continuation(3, [["x-a", "b"]])],
      expect: [BROKEN],
    },
    {
      name: "WINDOW_UPDATE within a block",
      section: "6.10",
      steps: [headers(1, GET, MORE), windowUpdate(0, 1)],
      expect: [BROKEN],
    },
    {
      name: "RST_STREAM within a block",
      section: "6.10",
      steps: [headers(1, GET, MORE), reset(1)],
      expect: [BROKEN],
    },
    {
      name: "GOAWAY with an unknown code",
      section: "7",
      h2spec: "http2/7/1",
      steps: [goaway(0, 0xff)],
      expect: [{ over: true }],
    },
    {
      name: "RST_STREAM with an unknown code",
      section: "7",
      h2spec: "http2/7/2",
      steps: [headers(1, post("/hold"), OPEN), reset(1, 0xff)],
      expect: [ALIVE],
    },
  ];

  return [...dataFrames, ...settingsFrames, ...controls];
}
