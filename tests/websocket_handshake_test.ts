/** The WebSocket's opening handshake: RFC 6455 sections 4 and 9.1, and the original's own cases. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { negotiateDeflate } from "../lib/websocket/deflate_negotiation.ts";
import { parseExtensions } from "../lib/websocket/extensions.ts";
import {
  acceptHeaders,
  acceptKey,
  checkUpgrade,
  chooseProtocol,
  type UpgradeRequest,
} from "../lib/websocket/handshake.ts";
import { assertRuntime } from "./runtime.ts";
import { countCpu } from "./support.ts";

assertRuntime();

/** The example of RFC 6455 section 1.2. */
const VALID: readonly (readonly [string, string])[] = [
  ["host", "server.example.com"],
  ["upgrade", "websocket"],
  ["connection", "Upgrade"],
  ["sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="],
  ["origin", "http://example.com"],
  ["sec-websocket-protocol", "chat, superchat"],
  ["sec-websocket-version", "13"],
];

/** The valid request; `changes` replace a field's values, none at all remove it. */
function request(
  changes: Record<string, string[]> = {},
  line: { method?: string; version?: string } = {},
): UpgradeRequest {
  const fields = [
    ...VALID.filter(([name]) => !(name in changes)),
    ...Object.entries(changes).flatMap(([name, values]) => values.map((v) => [name, v] as const)),
  ];
  const getAll = (lowerName: string) =>
    fields.filter(([name]) => name === lowerName).map(([, value]) => value);
  return { method: "GET", version: "1.1", ...line, getAll, get: (name) => getAll(name)[0] };
}

describe("checkUpgrade() accepts", () => {
  test("the RFC's example, with the RFC's answer", () => {
    const upgrade = checkUpgrade(request());
    assert.ok(upgrade.ok);
    assert.equal(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert.deepEqual(upgrade.protocols, ["chat", "superchat"]);
    assert.deepEqual(upgrade.extensions, []);
  });

  const accepted: [name: string, changes: Record<string, string[]>][] = [
    ["tokens in any case", { upgrade: ["WebSocket"], connection: ["UPGRADE"] }],
    ["websocket in a list", { upgrade: ["foo/1, websocket"] }],
    ["websocket in the second field", { upgrade: ["foo", "websocket"] }],
    ["upgrade beside keep-alive, as Firefox sends it", { connection: ["keep-alive, Upgrade"] }],
    ["upgrade in the second field", { connection: ["keep-alive", "upgrade"] }],
    ["a content length of 0", { "content-length": ["0"] }],
    ["no protocols", { "sec-websocket-protocol": [] }],
    ["protocols over several fields", { "sec-websocket-protocol": ["a", "b,c"] }],
    ["an empty list element", { "sec-websocket-protocol": ["a,, b,"] }],
    ["keys that end in each possible digit", { "sec-websocket-key": ["AAAAAAAAAAAAAAAAAAAAAg=="] }],
  ];
  for (const [name, changes] of accepted) {
    test(name, () => assert.equal(checkUpgrade(request(changes)).ok, true));
  }
});

describe("checkUpgrade() refuses", () => {
  const refused: [
    name: string,
    changes: Record<string, string[]>,
    status: number,
    message: string,
    headers?: [string, string][],
  ][] = [
    ["a missing Host", { host: [] }, 400, "Missing Host header"],
    ["an empty Host", { host: [""] }, 400, "Missing Host header"],
    ["no Upgrade", { upgrade: [] }, 426, "This resource is a WebSocket", [
      ["Upgrade", "websocket"],
      ["Connection", "Upgrade"],
    ]],
    ["another Upgrade", { upgrade: ["h2c"] }, 400, "Upgrade header lacks websocket"],
    ["a longer token", { upgrade: ["websocket2"] }, 400, "Upgrade header lacks websocket"],
    ["websocket with a version", { upgrade: ["websocket/13"] }, 400, "Upgrade header lacks"],
    ["U+00A0 around the token", { upgrade: ["\xa0websocket"] }, 400, "Upgrade header lacks"],
    ["no Connection", { connection: [] }, 400, "Connection header lacks upgrade"],
    ["another Connection", { connection: ["keep-alive"] }, 400, "Connection header lacks upgrade"],
    ["no version", { "sec-websocket-version": [] }, 400, "Missing Sec-WebSocket-Version header"],
    [
      "two versions",
      { "sec-websocket-version": ["13", "13"] },
      400,
      "More than one Sec-WebSocket-V",
    ],
    ...["12", "8", "14", "013", "13, 8", "", "13 ,", "+13"].map(
      (version): [string, Record<string, string[]>, number, string, [string, string][]] => [
        `version "${version}"`,
        { "sec-websocket-version": [version] },
        426,
        "WebSocket version not supported",
        [["Upgrade", "websocket"], ["Connection", "Upgrade"], ["Sec-WebSocket-Version", "13"]],
      ],
    ),
    ["no key", { "sec-websocket-key": [] }, 400, "Missing Sec-WebSocket-Key header"],
    [
      "two keys",
      { "sec-websocket-key": ["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="] },
      400,
      "More than one Sec-WebSocket-Key header",
    ],
    ...[
      "AQID", // the original's test
      "",
      "dGhlIHNhbXBsZSBub25jZQ", // no padding
      "dGhlIHNhbXBsZSBub25jZQ=", // half of it
      "dGhlIHNhbXBsZSBub25jZR==", // 4 bits too many
      "dGhlIHNhbXBsZSBub25jZWE=", // 17 bytes
      "dGhlIHNhbXBsZSBub25j", // 15 bytes
      "dGhlIHNhbXBsZSBub25jZ_==", // base64url
      " dGhlIHNhbXBsZSBub25jZQ==",
      "dGhlIHNhbXBsZSBub25jZQ==\n",
    ].map((key): [string, Record<string, string[]>, number, string] => [
      `key ${JSON.stringify(key)}`,
      { "sec-websocket-key": [key] },
      400,
      "Invalid Sec-WebSocket-Key header",
    ]),
    ["a body", { "content-length": ["5"] }, 400, "WebSocket handshake must not have a body"],
    ["a chunked body", { "transfer-encoding": ["chunked"] }, 400, "WebSocket handshake must not"],
    ...["", ",", "a b", "a;b", '"a"', "a, a", "ä"].map(
      (protocol): [string, Record<string, string[]>, number, string] => [
        `protocols ${JSON.stringify(protocol)}`,
        { "sec-websocket-protocol": [protocol] },
        400,
        "Invalid Sec-WebSocket-Protocol header",
      ],
    ),
    [
      "malformed extensions",
      { "sec-websocket-extensions": ["permessage-deflate;"] },
      400,
      "Invalid Sec-WebSocket-Extensions header",
    ],
  ];
  for (const [name, changes, status, message, headers = []] of refused) {
    test(name, () => {
      const refusal = checkUpgrade(request(changes));
      assert.ok(!refusal.ok);
      assert.equal(refusal.status, status);
      assert.ok(refusal.message.startsWith(message), refusal.message);
      assert.deepEqual(refusal.headers, headers);
    });
  }

  test("other methods with 405", () => {
    for (const method of ["POST", "HEAD", "get", "CONNECT"]) {
      const refusal = checkUpgrade(request({}, { method }));
      assert.ok(!refusal.ok);
      assert.equal(refusal.status, 405);
      assert.deepEqual(refusal.headers, [["Allow", "GET"]]);
    }
  });

  test("HTTP/1.0", () => {
    const refusal = checkUpgrade(request({}, { version: "1.0" }));
    assert.ok(!refusal.ok);
    assert.equal(refusal.status, 400);
  });

  test("64 KiB of white space and commas without quadratic work", () => {
    const cpuMs = countCpu();
    for (const filler of [" ", ",", " ,", '"', ";", "\\", "a;", 'a="\\']) {
      const long = "x" + filler.repeat(65536 / filler.length) + "x";
      for (const name of ["upgrade", "sec-websocket-protocol", "sec-websocket-extensions"]) {
        checkUpgrade(request({ [name]: [long] }));
      }
    }
    assert.ok(cpuMs() < 1_000);
  });
});

describe("the answer", () => {
  test("acceptKey() gives the RFC's value", () => {
    assert.equal(acceptKey("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  });

  test("chooseProtocol() follows the client's preference and the exact name", () => {
    assert.equal(chooseProtocol(["b", "a"], ["a", "b"]), "b");
    assert.equal(chooseProtocol(["x", "a"], ["a", "b"]), "a");
    assert.equal(chooseProtocol(["A"], ["a"]), undefined);
    assert.equal(chooseProtocol([], ["a"]), undefined);
    assert.equal(chooseProtocol(["chat"], []), undefined);
  });

  test("acceptHeaders() has protocol and extensions only when they were chosen", () => {
    const upgrade = checkUpgrade(request({ "sec-websocket-extensions": ["permessage-deflate"] }));
    assert.ok(upgrade.ok);
    assert.deepEqual(acceptHeaders(upgrade), [
      ["Upgrade", "websocket"],
      ["Connection", "Upgrade"],
      ["Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
    ]);
    const deflate = negotiateDeflate(upgrade.extensions);
    assert.deepEqual(acceptHeaders(upgrade, "chat", deflate).slice(3), [
      ["Sec-WebSocket-Protocol", "chat"],
      [
        "Sec-WebSocket-Extensions",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
      ],
    ]);
  });
});

describe("parseExtensions()", () => {
  test("reads lists, parameters and quoted values", () => {
    assert.deepEqual(parseExtensions([]), []);
    assert.deepEqual(parseExtensions(["a"]), [{ name: "a", params: [] }]);
    assert.deepEqual(parseExtensions(["a;b;c=d , e ; f = 1", 'g;h="x";h="\\y"']), [
      { name: "a", params: [["b", undefined], ["c", "d"]] },
      { name: "e", params: [["f", "1"]] },
      { name: "g", params: [["h", "x"], ["h", "y"]] },
    ]);
    assert.deepEqual(parseExtensions([", a ,,\tb, "]), [
      { name: "a", params: [] },
      { name: "b", params: [] },
    ]);
    assert.deepEqual(parseExtensions(["__proto__;__proto__=constructor"]), [
      { name: "__proto__", params: [["__proto__", "constructor"]] },
    ]);
  });

  test("refuses what is no extension list", () => {
    const malformed = [
      ..."; | = | a; | a;;b | a;=b | a;b= | a;b=, | a b | a;b c | a=b | a/b".split(" | "),
      ...['"a"', 'a;b="', 'a;b="x', 'a;b="x y"', 'a;b=""', 'a;b="x"y', 'a;b="x\\', "a;b='x y'"],
      ...["ä", "a;\xa0b", "a\nb", "a;b=\x00", "a;b=c=d"],
    ];
    for (const value of malformed) assert.equal(parseExtensions([value]), undefined, value);
    assert.equal(parseExtensions(["a", "b;"]), undefined, "one bad field spoils the list");
  });
});
