/**
 * Messages: RFC 9113 section 8.
 *
 * @module
 */
import { data, headers, requestFields, Type } from "../../http2_client.ts";
import type { Field } from "../../http2_hpack.ts";
import {
  answered,
  type ConformanceCase,
  equal,
  MALFORMED,
  OK,
  OPEN,
  type Outcome,
  REFUSED,
  requestsOf,
  type Scheme,
} from "./case.ts";

/** Which requests are well-formed, and what an answer is. */
export function messageCases(scheme: Scheme): ConformanceCase[] {
  const { get, post } = requestsOf(scheme);
  const GET = get();
  /** The pseudo-fields without those named, with those given behind them. */
  const without = (names: string[], ...more: Field[]): Field[] => [
    ...GET.filter(([name]) => !names.includes(name)),
    ...more,
  ];
  const instead = (name: string, value: string, method = "GET"): Field[] =>
    requestFields({ scheme, method }).map(([key, old]) => [key, key === name ? value : old]);

  /** Heads that are malformed, or refused with an answer where that is allowed. */
  const heads: [
    name: string,
    section: string,
    fields: Field[],
    outcomes: Outcome[],
    h2spec?: string,
  ][] = [
    ["a name in upper case", "8.2.1", get("/", ["X-TEST", "ok"]), [MALFORMED], "http2/8.1.2/1"],
    ["a name that is empty", "8.2.1", get("/", ["", "ok"]), [MALFORMED]],
    ["a name of a colon", "8.2.1", get("/", [":", "ok"]), [MALFORMED]],
    ["a colon in a name", "8.2.1", get("/", ["x:test", "ok"]), [MALFORMED]],
    ["connection", "8.2.2", get("/", ["connection", "keep-alive"]), [MALFORMED], "http2/8.1.2.2/1"],
    ["connection: close", "8.2.2", get("/", ["connection", "close"]), [MALFORMED]],
    ["proxy-connection", "8.2.2", get("/", ["proxy-connection", "keep-alive"]), [MALFORMED]],
    ["keep-alive", "8.2.2", get("/", ["keep-alive", "timeout=5"]), [MALFORMED]],
    ["transfer-encoding", "8.2.2", get("/", ["transfer-encoding", "chunked"]), [MALFORMED]],
    ["upgrade", "8.2.2", get("/", ["upgrade", "h2c"]), [MALFORMED]],
    [
      "te: trailers, deflate",
      "8.2.2",
      get("/", ["trailers", "test"], ["te", "trailers, deflate"]),
      [
        MALFORMED,
      ],
      "http2/8.1.2.2/2",
    ],
    ["te: gzip", "8.2.2", get("/", ["te", "gzip"]), [MALFORMED]],
    ["te that is empty", "8.2.2", get("/", ["te", ""]), [MALFORMED]],
    ["an unknown pseudo-field", "8.3", get("/", [":test", "ok"]), [MALFORMED], "http2/8.1.2.1/1"],
    ["a pseudo-field of responses", "8.3", get("/", [":status", "200"]), [
      MALFORMED,
    ], "http2/8.1.2.1/2"],
    ["a pseudo-field behind a field", "8.3", [["x-test", "ok"], ...GET], [
      MALFORMED,
    ], "http2/8.1.2.1/4"],
    ["a pseudo-field among the fields", "8.3", without([":path"], ["x-a", "b"], [":path", "/"]), [
      MALFORMED,
    ]],
    ["an empty :path", "8.3.1", instead(":path", ""), [MALFORMED], "http2/8.1.2.3/1"],
    ["no :method", "8.3.1", without([":method"]), [MALFORMED], "http2/8.1.2.3/2"],
    ["neither :method nor :scheme", "8.3.1", without([":method", ":scheme"]), [
      MALFORMED,
    ], "http2/8.1.2.3/2"],
    ["no :scheme", "8.3.1", without([":scheme"]), [MALFORMED], "http2/8.1.2.3/3"],
    ["no :path", "8.3.1", without([":path"]), [MALFORMED], "http2/8.1.2.3/4"],
    ["no pseudo-field at all", "8.3.1", [["x-test", "ok"]], [MALFORMED]],
    ["no field at all", "8.3.1", [], [MALFORMED]],
    ["two :method", "8.3.1", get("/", [":method", "GET"]), [MALFORMED], "http2/8.1.2.3/5"],
    ["two :method, one behind the other", "8.3", [[":method", "GET"], ...GET], [MALFORMED]],
    ["two :scheme", "8.3.1", [[":scheme", scheme], ...GET], [MALFORMED], "http2/8.1.2.3/6"],
    ["two :path", "8.3.1", [[":path", "/"], ...GET], [MALFORMED], "http2/8.1.2.3/7"],
    ["two :authority", "8.3.1", [[":authority", "localhost"], ...GET], [MALFORMED]],
    ["an empty :method", "8.3.1", instead(":method", ""), REFUSED],
    ["a :method with a space", "8.3.1", instead(":method", "GET /"), [
      ...REFUSED,
      { status: 501 },
    ]],
    ["an empty :scheme", "8.3.1", instead(":scheme", ""), REFUSED],
    ["a :path without a slash", "8.3.1", instead(":path", "foo"), REFUSED],
    ["a :path with a host", "8.3.1", instead(":path", "http://x/"), REFUSED],
    ["a :path with a space", "8.3.1", instead(":path", "/a b"), REFUSED],
    ["a :path that is a request line", "8.3.1", instead(":path", "/a HTTP/1.1"), REFUSED],
    ["a :path with lines", "8.2.1", instead(":path", "/ HTTP/1.1\r\nx: y"), REFUSED],
    ["a :path with NUL", "8.2.1", instead(":path", "/a\0b"), REFUSED],
    ["a :path with a fragment", "8.3.1", instead(":path", "/a#b"), REFUSED],
    ["a :path beyond ASCII", "8.3.1", instead(":path", "/\xe4"), REFUSED],
    ["a :path of * with GET", "8.3.1", instead(":path", "*"), REFUSED],
    ["an :authority with a user", "8.3.1", instead(":authority", "me@localhost"), REFUSED],
    ["an :authority with a path", "8.3.1", instead(":authority", "localhost/x"), REFUSED],
    ["an :authority with lines", "8.2.1", instead(":authority", "localhost\r\nx: y"), REFUSED],
    ["an empty :authority", "8.3.1", instead(":authority", ""), REFUSED],
    ["neither :authority nor host", "8.3.1", without([":authority"]), REFUSED],
    ["an empty host alone", "8.3.1", without([":authority"], ["host", ""]), REFUSED],
    ["host that is not :authority", "8.3.1", get("/", ["host", "example.com"]), REFUSED],
    ["two host fields", "8.3.1", get("/", ["host", "localhost"], ["host", "localhost"]), [
      ...REFUSED,
      OK,
    ]],
    [
      "two host fields that differ",
      "8.3.1",
      get("/", ["host", "localhost"], ["host", "b"]),
      REFUSED,
    ],
    ["CONNECT with :scheme and :path", "8.5", instead(":method", "CONNECT"), REFUSED],
    ["CONNECT without :authority", "8.5", [[":method", "CONNECT"]], REFUSED],
    ["CONNECT without a port", "8.5", [[":method", "CONNECT"], [":authority", "localhost"]], [
      ...REFUSED,
      { status: 501 },
    ]],
    ["content-length that is no number", "8.1.1", post("/", ["content-length", "+1"]), REFUSED],
    ["content-length and no body", "8.1.1", post("/", ["content-length", "1"]), [MALFORMED]],
    ["content-length and no body, with GET", "8.1.1", get("/", ["content-length", "1"]), [
      MALFORMED,
    ]],
    [
      "two content-length that differ",
      "8.1.1",
      post("/", ["content-length", "0"], ["content-length", "1"]),
      REFUSED,
    ],
    [":protocol with GET", "RFC 8441 4", [...GET, [":protocol", "websocket"]], [MALFORMED]],
    [":protocol without :scheme and :path", "RFC 8441 4", [
      [":method", "CONNECT"],
      [":authority", "localhost"],
      [":protocol", "websocket"],
    ], [MALFORMED]],
  ];

  /** Heads that are answered. */
  const good: [name: string, section: string, fields: Field[], status: number, h2spec?: string][] =
    [
      ["te: trailers", "8.2.2", get("/", ["te", "trailers"]), 200],
      ["host like :authority", "8.3.1", get("/", ["host", "localhost"]), 200],
      ["host without :authority", "8.3.1", without([":authority"], ["host", "localhost"]), 200],
      ["the pseudo-fields in another order", "8.3", GET.toReversed(), 200],
      ["a value that is empty", "8.2.1", get("/", ["x-a", ""]), 200],
      ["a value with a tab and a space inside", "8.2.1", get("/", ["x-a", "a\t b"]), 200],
      [
        "a name of every sign that tokens may have",
        "8.2.1",
        get("/", ["!#$%&'*+-.^_`|~09az", "x"]),
        200,
      ],
      ["content-length: 0 and no body", "8.1.1", post("/", ["content-length", "0"]), 200],
      ["a method that no server knows", "8.3.1", instead(":method", "FOO"), 501],
      ["CONNECT", "8.5", [[":method", "CONNECT"], [":authority", "localhost:443"]], 501],
      ["an unknown expectation", "8.1", get("/", ["expect", "wonders"]), 417],
    ];

  return [
    ...heads.map(([name, section, fields, expect, h2spec]): ConformanceCase => ({
      name,
      section,
      ...(h2spec && { h2spec }),
      steps: [headers(1, fields)],
      expect,
    })),
    ...good.map(([name, section, fields, status, h2spec]): ConformanceCase => ({
      name,
      section,
      ...(h2spec && { h2spec }),
      steps: [headers(1, fields)],
      expect: [{ status }],
    })),
    {
      name: "names of bytes that no name may have",
      section: "8.2.1",
      steps: forbiddenNameBytes().map((byte, i) =>
        headers(2 * i + 1, get("/", [`x${String.fromCharCode(byte)}y`, "ok"]))
      ),
      expect: [{
        reset: ["PROTOCOL_ERROR"],
        streamIds: forbiddenNameBytes().map((_, i) => 2 * i + 1),
      }],
    },
    {
      name: "values with NUL, LF or CR, and with blanks at an end",
      section: "8.2.1",
      steps: FORBIDDEN_VALUES.map((value, i) => headers(2 * i + 1, get("/", ["x-a", value]))),
      expect: [{
        reset: ["PROTOCOL_ERROR"],
        streamIds: FORBIDDEN_VALUES.map((_, i) => 2 * i + 1),
      }],
    },
    {
      name: "GET",
      section: "8.1",
      h2spec: "generic/4/1",
      steps: [headers(1, GET)],
      expect: [{
        status: 200,
        check({ body, fields }) {
          equal(body.toString(), "conformance");
          equal(Object.keys(fields).every((name) => name === name.toLowerCase()), true);
          equal(CONNECTION_FIELDS.some((name) => name in fields), false);
        },
      }],
    },
    {
      name: "HEAD is answered without DATA",
      section: "8.1",
      h2spec: "generic/4/2",
      steps: [headers(1, requestFields({ scheme, method: "HEAD" }))],
      expect: [{ status: 200, check: ({ body }) => equal(body.length, 0) }],
    },
    {
      name: "POST",
      section: "8.1",
      h2spec: "generic/4/3",
      steps: [headers(1, post("/read"), OPEN), data(1, "test")],
      expect: [{ status: 200, check: ({ body }) => equal(body.toString(), "test") }],
    },
    {
      name: "POST that is answered before it is read",
      section: "8.1",
      h2spec: "generic/4/3",
      steps: [headers(1, post(), OPEN), data(1, "test")],
      expect: [OK],
    },
    {
      name: "POST with trailers",
      section: "8.1",
      h2spec: "generic/4/4",
      steps: [
        headers(1, post("/read", ["trailer", "x-test"]), OPEN),
        data(1, "test", OPEN),
        headers(1, [["x-test", "ok"]]),
      ],
      expect: [{ status: 200, check: ({ body }) => equal(body.toString(), "test") }],
    },
    {
      name: "trailers behind the head",
      section: "8.1",
      steps: [headers(1, post("/read"), OPEN), headers(1, [["x-test", "ok"]])],
      expect: [{ status: 200, check: ({ body }) => equal(body.length, 0) }],
    },
    ...["/read", "/"].flatMap((path): ConformanceCase[] => [
      {
        name: `a second head without END_STREAM, to ${path}`,
        section: "8.1",
        h2spec: "http2/8.1/1",
        steps: [
          headers(1, post(path), OPEN),
          data(1, "test", OPEN),
          headers(1, [["x-test", "ok"]], OPEN),
        ],
        expect: [MALFORMED],
      },
      {
        name: `a pseudo-field in trailers, to ${path}`,
        section: "8.1",
        h2spec: "http2/8.1.2.1/3",
        steps: [
          headers(1, post(path), OPEN),
          data(1, "test", OPEN),
          headers(1, [[":method", "POST"]]),
        ],
        expect: [MALFORMED],
      },
      {
        name: `more DATA than content-length, to ${path}`,
        section: "8.1.1",
        h2spec: "http2/8.1.2.6/1",
        steps: [headers(1, post(path, ["content-length", "1"]), OPEN), data(1, "test")],
        expect: [MALFORMED],
      },
      {
        name: `more DATA than content-length in several frames, to ${path}`,
        section: "8.1.1",
        h2spec: "http2/8.1.2.6/2",
        steps: [
          headers(1, post(path, ["content-length", "1"]), OPEN),
          data(1, "test", OPEN),
          data(1, "test"),
        ],
        expect: [MALFORMED],
      },
      {
        name: `less DATA than content-length, to ${path}`,
        section: "8.1.1",
        steps: [headers(1, post(path, ["content-length", "5"]), OPEN), data(1, "test")],
        expect: [MALFORMED],
      },
      {
        name: `less DATA than content-length, then trailers, to ${path}`,
        section: "8.1.1",
        steps: [
          headers(1, post(path, ["content-length", "5"]), OPEN),
          data(1, "test", OPEN),
          headers(1, [["x-test", "ok"]]),
        ],
        expect: [MALFORMED],
      },
    ]),
    {
      name: "a name in upper case in trailers",
      section: "8.2.1",
      steps: [headers(1, post("/read"), OPEN), headers(1, [["X-Test", "ok"]])],
      expect: [MALFORMED],
    },
    {
      name: "a field of the connection in trailers",
      section: "8.2.2",
      steps: [headers(1, post("/read"), OPEN), headers(1, [["connection", "close"]])],
      expect: [MALFORMED],
    },
    {
      name: "DATA behind trailers",
      section: "8.1",
      steps: [
        headers(1, post("/hold"), OPEN),
        headers(1, [["x-test", "ok"]]),
        data(1, "test"),
      ],
      expect: [{ reset: ["STREAM_CLOSED"] }],
    },
    {
      name: "crumbs of cookies are one field",
      section: "8.2.3",
      steps: [headers(1, get("/fields", ["cookie", "a=b"], ["x-a", "1"], ["cookie", "c=d; e=f"]))],
      expect: [{
        status: 200,
        check: ({ body }) => equal(JSON.parse(body.toString("latin1"))["cookie"], "a=b; c=d; e=f"),
      }],
    },
    {
      name: "a field twice",
      section: "8.2",
      steps: [headers(1, get("/fields", ["x-a", "1"], ["x-a", "2"]))],
      expect: [{
        status: 200,
        check: ({ body }) => equal(JSON.parse(body.toString("latin1"))["x-a"], "1, 2"),
      }],
    },
    {
      name: "OPTIONS of *",
      section: "8.3.1",
      steps: [headers(1, instead(":path", "*", "OPTIONS"))],
      expect: [OK, { status: 204 }, { status: 404 }, { status: 405 }],
    },
    {
      name: "expect: 100-continue is answered once, before the body",
      section: "8.1",
      steps: [
        headers(1, post("/read", ["expect", "100-continue"]), OPEN),
        (client) => client.until(() => client.soFar(1).informational.length > 0, "100"),
        data(1, "test"),
      ],
      expect: [{
        status: 200,
        check({ informational, body }) {
          equal(informational.map(({ status }) => status).join(), "100");
          equal(body.toString(), "test");
        },
      }],
    },
    {
      name: "an answer ends the stream while the request goes on: no harm is done",
      section: "8.1",
      steps: [headers(1, post(), OPEN), answered(1), data(1, "te", OPEN), data(1, "st")],
      expect: [OK],
    },
    {
      name: "an answer that needs several frames",
      section: "8.1",
      steps: [headers(1, get("/big"))],
      expect: [{
        status: 200,
        check({ body }, { frames }) {
          equal(body.length, 100_000);
          equal(frames.filter(({ flags, type }) => type === Type.DATA && flags & 1).length, 1);
        },
      }],
    },
  ];
}

const CONNECTION_FIELDS = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
];

/** Bytes that a name may not have (section 8.2.1): those up to space, capitals, and above "~". */
function forbiddenNameBytes(): number[] {
  const bytes: number[] = [];
  for (let byte = 0; byte <= 0x20; byte++) bytes.push(byte);
  for (let byte = 0x41; byte <= 0x5a; byte++) bytes.push(byte);
  return [...bytes, 0x7f, 0x80, 0xa0, 0xe4, 0xff];
}

const FORBIDDEN_VALUES = [
  ...["\0", "\n", "\r", "\r\n"].flatMap((bad) => [bad, `${bad}b`, `a${bad}b`, `a${bad}`]),
  ...[" ", "\t"].flatMap((blank) => [blank, `${blank}b`, `a${blank}`]),
];
