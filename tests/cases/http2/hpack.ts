/**
 * Field blocks: RFC 7541, and RFC 9113 section 4.3.
 *
 * @module
 */
import { headers, join, reset, Setting, settings } from "../../http2_client.ts";
import {
  bytesOfBits,
  encode,
  huffman,
  huffmanBits,
  indexed,
  literal,
  sizeUpdate,
  STATIC_ENTRIES,
  string,
} from "../../http2_hpack.ts";
import {
  acknowledged,
  answered,
  BAD_HPACK,
  type ConformanceCase,
  equal,
  MALFORMED,
  OK,
  OPEN,
  type Outcome,
  read,
  requestsOf,
  type Scheme,
} from "./case.ts";

/** What blocks of fields may be. */
export function hpackCases(scheme: Scheme): ConformanceCase[] {
  const { get, post } = requestsOf(scheme);
  const GET = encode(get());
  const FIELDS = encode(get("/fields"));
  const POST = encode(post("/read"));
  const shows = (name: string, value: string | undefined, streamId = 1): Outcome => ({
    status: 200,
    streamId,
    check: ({ body }) => equal(JSON.parse(body.toString("latin1"))[name], value),
  });
  /** What an entry takes up beside its name and value (RFC 7541 section 4.1). */
  const OVERHEAD = 32;
  const KEPT = literal("x-kept", "yes", "incremental");
  const kept = (streamId: number): Uint8Array => headers(streamId, join(FIELDS, indexed(62)));

  const representations: [name: string, bytes: readonly number[], h2spec?: string][] = [
    ["indexed", indexed(58), "generic/5/1"],
    ["incremental, indexed name", literal(58, "h2spec", "incremental"), "generic/5/2"],
    ["incremental, indexed name, coded", literal(58, "h2spec", "incremental", true), "generic/5/3"],
    ["incremental, new name", literal("x-test", "h2spec", "incremental"), "generic/5/4"],
    [
      "incremental, new name, coded",
      literal("x-test", "h2spec", "incremental", true),
      "generic/5/5",
    ],
    ["without indexing, indexed name", literal(58, "h2spec"), "generic/5/6"],
    ["without indexing, indexed name, coded", literal(58, "h2spec", "none", true), "generic/5/7"],
    ["without indexing, new name", literal("x-test", "h2spec"), "generic/5/8"],
    ["without indexing, new name, coded", literal("x-test", "h2spec", "none", true), "generic/5/9"],
    ["never indexed, indexed name", literal(58, "h2spec", "never"), "generic/5/10"],
    ["never indexed, indexed name, coded", literal(58, "h2spec", "never", true), "generic/5/11"],
    ["never indexed, new name", literal("x-test", "h2spec", "never"), "generic/5/12"],
    ["never indexed, new name, coded", literal("x-test", "h2spec", "never", true), "generic/5/13"],
  ];

  const undecodable: [name: string, section: string, block: Uint8Array, h2spec?: string][] = [
    ["an index of 0", "6.1", join(GET, [0x80]), "hpack/6.1/1"],
    ["an index behind both tables", "2.3.3", join(GET, indexed(126)), "hpack/2.3.3/1"],
    ["the first index of a table that is empty", "2.3.3", join(GET, indexed(STATIC_ENTRIES + 1))],
    ["a name's index behind both tables", "2.3.3", join(GET, literal(200, "x"))],
    ["an index that is out of bounds by one", "2.3.3", join(GET, KEPT, indexed(63))],
    ["a size update behind the fields", "4.2", join(GET, sizeUpdate(1)), "hpack/4.2/1"],
    ["a size update among the fields", "4.2", join(KEPT, sizeUpdate(100), GET)],
    ["a size update above the setting", "6.3", join(sizeUpdate(4097), GET), "hpack/6.3/1"],
    ["a size update far above the setting", "6.3", join(sizeUpdate(2 ** 31), GET)],
    [
      "padding of more than 7 bits",
      "5.2",
      join(GET, [0, ...string("x-test", true)], [0x84], huffman("test"), [0xff]),
      "hpack/5.2/1",
    ],
    [
      "padding of zeros",
      "5.2",
      join(
        GET,
        [0, ...string("x-test", true), 0x83],
        bytesOfBits(huffmanBits([116, 101, 115, 116]), "0"),
      ),
      "hpack/5.2/2",
    ],
    [
      "EOS in a string",
      "5.2",
      join(GET, [0, ...string("x-test", true)], coded([116, 256, 101])),
      "hpack/5.2/3",
    ],
    ["EOS alone", "5.2", join(GET, [0, ...string("x-test", true)], coded([256]))],
    ["a string of ones", "5.2", join(GET, [0, ...string("x-test")], [0x81, 0xff])],
    ["a string that is longer than the block", "5.2", join(GET, [0], [0x7f, 0x80, 0x01], [97])],
    ["a value that is cut short", "5.2", join(GET, [0, ...string("x-test"), 5, 97])],
    ["no value", "6.2.2", join(GET, [0, ...string("x-test")])],
    ["an integer that is cut short", "5.1", join(GET, [0xff])],
    ["an integer that is cut short, of several bytes", "5.1", join(GET, [0xff, 0x80, 0x80])],
    ["an integer above 2^32", "5.1", join(GET, [0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])],
    ["an integer of 100 bytes", "5.1", join(GET, [0xff], new Uint8Array(100).fill(0xff), [1])],
    ["a length above 2^32", "5.1", join(GET, [0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f])],
  ];

  return [
    ...representations.map(([name, bytes, h2spec]): ConformanceCase => ({
      name: `a field, ${name}`,
      section: name === "indexed" ? "RFC 7541 6.1" : "RFC 7541 6.2",
      ...(h2spec && { h2spec }),
      steps: [headers(1, join(FIELDS, bytes))],
      expect: [
        shows(
          bytes[0]! & 0x80 || bytes.length < 11 || name.includes("indexed name")
            ? "user-agent"
            : "x-test",
          bytes[0]! & 0x80 ? "" : "h2spec",
        ),
      ],
    })),
    ...undecodable.map(([name, section, block, h2spec]): ConformanceCase => ({
      name,
      section: `RFC 7541 ${section}`,
      ...(h2spec && { h2spec }),
      steps: [headers(1, block)],
      expect: [BAD_HPACK],
    })),
    {
      name: "a block that cannot be decoded on a stream that was reset",
      section: "RFC 7541 2.2",
      steps: [headers(1, GET, OPEN), reset(1), headers(1, Uint8Array.of(0x80))],
      expect: [BAD_HPACK],
    },
    {
      name: "a block that cannot be decoded as trailers",
      section: "RFC 7541 2.2",
      steps: [headers(1, POST, OPEN), headers(1, Uint8Array.of(0x80))],
      expect: [BAD_HPACK],
    },
    {
      name: "a size update",
      section: "RFC 7541 6.3",
      h2spec: "generic/5/14",
      steps: [headers(1, join(sizeUpdate(0), GET))],
      expect: [OK],
    },
    {
      name: "two size updates",
      section: "RFC 7541 4.2",
      h2spec: "generic/5/15",
      steps: [headers(1, join(sizeUpdate(0), sizeUpdate(4096), GET))],
      expect: [OK],
    },
    {
      name: "a size update to 0 empties the table",
      section: "RFC 7541 4.3",
      steps: [
        headers(1, join(GET, KEPT)),
        headers(3, join(sizeUpdate(0), sizeUpdate(4096), FIELDS, indexed(62))),
      ],
      expect: [BAD_HPACK],
    },
    {
      name: "a size update keeps what fits",
      section: "RFC 7541 4.3",
      steps: [
        headers(1, join(GET, literal("x-old", "1", "incremental"), KEPT)),
        headers(3, join(sizeUpdate("x-keptyes".length + OVERHEAD), FIELDS, indexed(62))),
        answered(3),
        headers(5, join(FIELDS, indexed(63))),
      ],
      expect: [{ goaway: ["COMPRESSION_ERROR"], lastStreamId: 3 }],
    },
    {
      name: "an entry is known to the next request",
      section: "RFC 7541 2.3.2",
      steps: [headers(1, join(GET, KEPT)), kept(3)],
      expect: [shows("x-kept", "yes", 3)],
    },
    {
      name: "the newest entry comes first",
      section: "RFC 7541 2.3.3",
      steps: [
        headers(1, join(GET, literal("x-old", "1", "incremental"), KEPT)),
        headers(3, join(FIELDS, indexed(63))),
      ],
      expect: [shows("x-old", "1", 3)],
    },
    {
      name: "the name of an entry",
      section: "RFC 7541 6.2.1",
      steps: [headers(1, join(FIELDS, KEPT, literal(62, "no", "incremental"), indexed(62)))],
      expect: [shows("x-kept", "yes, no, no")],
    },
    {
      name: "the name of an entry that is evicted for the new one",
      section: "RFC 7541 4.4",
      steps: [
        headers(1, join(sizeUpdate(60), GET, literal("x-name", "abcdefgh", "incremental"))),
        headers(3, join(FIELDS, literal(62, "hgfedcba", "incremental"))),
      ],
      expect: [shows("x-name", "hgfedcba", 3)],
    },
    {
      name: "an entry larger than the table empties it",
      section: "RFC 7541 4.4",
      steps: [
        headers(1, join(GET, KEPT)),
        headers(3, join(GET, literal("x-large", "a".repeat(4096), "incremental"))),
        answered(3),
        headers(5, join(FIELDS, indexed(62))),
      ],
      expect: [{ goaway: ["COMPRESSION_ERROR"], lastStreamId: 3 }],
    },
    {
      name: "literals that are not indexed are not kept",
      section: "RFC 7541 6.2.2",
      steps: [
        headers(1, join(GET, literal("x-a", "1", "none"), literal("x-b", "1", "never"))),
        answered(1),
        headers(3, join(FIELDS, indexed(62))),
      ],
      expect: [{ goaway: ["COMPRESSION_ERROR"], lastStreamId: 1 }],
    },
    {
      name: "the oldest entries are evicted",
      section: "RFC 7541 4.4",
      steps: [
        headers(
          1,
          join(
            sizeUpdate(3 * 42),
            GET,
            ...Array.from({ length: 5 }, (_, i) => literal(`x-entry-${i}`, "v", "incremental")),
          ),
        ),
        headers(3, join(FIELDS, indexed(62), indexed(63), indexed(64))),
        async (client) => {
          const body = (await client.answer(3)).body.toString("latin1");
          equal(
            Object.keys(JSON.parse(body)).filter((name) => name.startsWith("x-")).join(),
            [
              "x-entry-2",
              "x-entry-3",
              "x-entry-4",
            ].join(),
          );
        },
        headers(5, join(FIELDS, indexed(65))),
      ],
      expect: [{ goaway: ["COMPRESSION_ERROR"], lastStreamId: 3 }],
    },
    {
      name: "an empty string in Huffman's code",
      section: "RFC 7541 5.2",
      steps: [headers(1, join(FIELDS, [0, ...string("x-test"), 0x80]))],
      expect: [shows("x-test", "")],
    },
    {
      name: "every byte that a value may have in Huffman's code",
      section: "RFC 7541 5.2",
      steps: [headers(1, join(FIELDS, literal("x-test", VISIBLE, "none", true)))],
      expect: [shows("x-test", VISIBLE)],
    },
    {
      name: "a string in Huffman's code that is longer than plain",
      section: "RFC 7541 5.2",
      steps: [headers(1, join(FIELDS, literal("x-test", "~^|".repeat(10), "none", true)))],
      expect: [shows("x-test", "~^|".repeat(10))],
    },
    {
      name: "an integer with needless zeros",
      section: "RFC 7541 5.1",
      steps: [
        headers(
          1,
          join(
            FIELDS,
            [0, ...string("x-test"), 0x7f, 0x80, 0x80, 0x00],
            Uint8Array.from("a".repeat(127), () => 97),
          ),
        ),
      ],
      expect: [shows("x-test", "a".repeat(127)), BAD_HPACK],
    },
    {
      name: "a head that is malformed leaves the table right",
      section: "4.3",
      steps: [headers(1, join(encode(get("/", ["X-UPPER", "1"])), KEPT)), kept(3), answered(3)],
      expect: [MALFORMED],
    },
    {
      name: "a head of too many fields leaves the table right",
      section: "4.3",
      steps: [
        headers(1, join(GET, ...Array.from({ length: 150 }, () => literal("x-n", "1")), KEPT)),
        kept(3),
        async (client) => equal((await client.answer(1)).status, 431),
      ],
      expect: [shows("x-kept", "yes", 3)],
    },
    {
      name: "a stream that is refused leaves the table right",
      section: "4.3",
      steps: [
        (client) =>
          client.send(...Array.from({ length: 100 }, (_, i) => headers(2 * i + 1, get("/hold")))),
        headers(201, join(GET, KEPT)),
        answered(201),
        reset(1),
        read,
        kept(203),
        answered(203),
      ],
      expect: [{ reset: ["REFUSED_STREAM"], streamIds: [201] }],
    },
    {
      name: "trailers leave the table right",
      section: "4.3",
      steps: [headers(1, POST, OPEN), headers(1, Uint8Array.from(KEPT)), kept(3)],
      expect: [shows("x-kept", "yes", 3)],
    },
    {
      name: "trailers behind the server's RST_STREAM leave the table right",
      section: "4.3",
      steps: [
        headers(1, join(POST, encode([["X-UPPER", "1"]])), OPEN),
        headers(1, Uint8Array.from(KEPT)),
        kept(3),
        answered(3),
      ],
      expect: [MALFORMED],
    },
    {
      name: "answers heed a table of no size",
      section: "RFC 7541 4.2",
      client: { settings: [[Setting.HEADER_TABLE_SIZE, 0]] },
      steps: [(client) => void (client.decoder.allowedSize = 0), headers(1, GET), answered(1)],
      expect: [OK],
    },
    {
      name: "answers heed a table that shrinks",
      section: "RFC 7541 4.2",
      steps: [
        headers(1, GET),
        answered(1),
        settings([Setting.HEADER_TABLE_SIZE, 40]),
        acknowledged(2),
        (client) => void (client.decoder.allowedSize = 40),
        headers(3, GET),
      ],
      expect: [{ status: 200, streamId: 3 }],
    },
    {
      name: "answers heed a table that shrinks to nothing and grows again",
      section: "RFC 7541 4.2",
      steps: [
        headers(1, GET),
        answered(1),
        settings([Setting.HEADER_TABLE_SIZE, 0]),
        settings([Setting.HEADER_TABLE_SIZE, 8192]),
        acknowledged(3),
        (client) => void (client.decoder.allowedSize = 8192),
        headers(3, GET),
        answered(3),
        headers(5, GET),
        async (client) => {
          await client.answer(5);
          equal(client.decoder.emptied, true);
        },
      ],
      expect: [{ status: 200, streamId: 5 }],
    },
  ];
}

/** A value in Huffman's code with the byte that says its length. */
function coded(symbols: number[]): Uint8Array {
  const bytes = bytesOfBits(huffmanBits(symbols));
  return join([0x80 | bytes.length], bytes);
}

/** All of ASCII that can be seen. */
const VISIBLE = Array.from({ length: 0x7e - 0x20 }, (_, i) => String.fromCharCode(0x21 + i)).join(
  "",
);
