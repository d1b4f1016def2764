/**
 * The settings of the server, RFC 9218 and RFC 8441.
 *
 * @module
 */
import { frame, headers, join, priorityUpdate, Setting, Type, uint32 } from "../../http2_client.ts";
import {
  ALIVE,
  answered,
  BROKEN,
  type ConformanceCase,
  equal,
  MALFORMED,
  OK,
  requestsOf,
  type Scheme,
  WRONG_SIZE,
} from "./case.ts";

/** What the server announces, and what others may be added to the protocol. */
export function extensionCases(scheme: Scheme): ConformanceCase[] {
  const { get } = requestsOf(scheme);
  const GET = get();
  const HOLD = get("/hold");
  return [
    {
      name: "the server announces what its defaults are",
      section: "6.5.2",
      steps: [],
      expect: [{
        alive: true,
        sees({ settings, frames }) {
          equal(settings.get(Setting.MAX_CONCURRENT_STREAMS), 100);
          equal(settings.get(Setting.INITIAL_WINDOW_SIZE), 262_144);
          equal(settings.get(Setting.ENABLE_CONNECT_PROTOCOL), 1);
          equal(settings.get(Setting.NO_RFC7540_PRIORITIES), 1);
          equal(settings.get(Setting.ENABLE_PUSH) ?? 0, 0);
          equal(settings.get(Setting.MAX_FRAME_SIZE) ?? 16_384, 16_384);
          equal(settings.get(Setting.HEADER_TABLE_SIZE) ?? 4096, 4096);
          equal(settings.get(Setting.MAX_HEADER_LIST_SIZE)! > 0, true);
          const update = frames.find(({ type }) => type === Type.WINDOW_UPDATE)!;
          equal(update.streamId, 0);
          equal(update.payload.readUInt32BE() + 65_535, 1_048_576);
        },
      }],
    },
    {
      name: "PRIORITY_UPDATE of an idle stream, an open one and a closed one",
      section: "RFC 9218 7.1",
      steps: [
        priorityUpdate(1, "u=0, i"),
        headers(1, GET),
        answered(1),
        priorityUpdate(1, "u=1"),
        headers(3, HOLD),
        priorityUpdate(3, "u=7"),
      ],
      expect: [ALIVE],
    },
    {
      name: "PRIORITY_UPDATE with unknown members",
      section: "RFC 9218 4",
      steps: [priorityUpdate(1, 'a=(b "c");d=?0, u=9, i=5'), headers(1, GET)],
      expect: [OK],
    },
    {
      name: "PRIORITY_UPDATE that cannot be parsed",
      section: "RFC 9218 7.1",
      steps: [priorityUpdate(1, ",,,\0")],
      expect: [ALIVE, BROKEN],
    },
    {
      name: "PRIORITY_UPDATE of stream 0",
      section: "RFC 9218 7.1",
      steps: [priorityUpdate(0, "u=1")],
      expect: [BROKEN],
    },
    {
      name: "PRIORITY_UPDATE on stream 1",
      section: "RFC 9218 7.1",
      steps: [frame(Type.PRIORITY_UPDATE, 0, 1, join(uint32(1), [0x75, 0x3d, 0x31]))],
      expect: [BROKEN],
    },
    {
      name: "PRIORITY_UPDATE of 3 bytes",
      section: "RFC 9218 7.1",
      steps: [frame(Type.PRIORITY_UPDATE, 0, 0, [0, 0, 0])],
      expect: [WRONG_SIZE],
    },
    {
      name: "PRIORITY_UPDATE within a block",
      section: "6.10",
      steps: [headers(1, GET, { endHeaders: false }), priorityUpdate(1, "u=1")],
      expect: [BROKEN],
    },
    {
      name: "a priority field of any kind",
      section: "RFC 9218 5",
      steps: [headers(1, [...GET, ["priority", "u=3;x, i=?1, ((("]])],
      expect: [OK],
    },
    {
      name: "extended CONNECT for an unknown protocol",
      section: "RFC 8441 4",
      steps: [
        headers(1, [
          [":method", "CONNECT"],
          [":protocol", "gopher"],
          [":scheme", scheme],
          [":path", "/"],
          [":authority", "localhost"],
        ], { endStream: false }),
      ],
      expect: [{ status: 501 }, { status: 400 }, MALFORMED],
    },
  ];
}
