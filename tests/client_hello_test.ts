/**
 * ClientHello: hellos of real clients in every cut, published JA4 fingerprints, hellos with one
 * thing wrong each; tests/fuzz/ has mutated ones.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { TlsError } from "../lib/errors.ts";
import { type ClientHello, tlsVersionName } from "../lib/tls/client_hello.ts";
import { ClientHelloReader, type PeekResult } from "../lib/tls/client_hello_reader.ts";
import { ja4 } from "../lib/tls/ja4.ts";
import cases from "./cases/client_hello.json" with { type: "json" };
import { assertRuntime } from "./runtime.ts";
import { countCpu } from "./support.ts";

assertRuntime();

describe("ClientHelloReader on real clients", () => {
  for (const { name, hex, bytesBehind, expected } of cases.captured) {
    const bytes = Buffer.from(hex, "hex");
    const records = bytes.subarray(0, bytes.length - bytesBehind);

    test(`reads ${name}`, () => {
      for (const size of [Infinity, 100, 1]) {
        assert.deepEqual(toPlain(hello(bytes, size)), expected);
      }
    });

    test(`reads ${name} in small records`, () => {
      for (const recordSize of [1, 3, 100]) {
        for (const size of [Infinity, 100, 1]) {
          const cut = Buffer.concat([fragment(records, recordSize), Buffer.from("behind")]);
          assert.deepEqual(toPlain(hello(cut, size)), expected);
        }
      }
    });

    test(`needs every byte of ${name}`, () => {
      const reader = new ClientHelloReader();
      for (const byte of records.subarray(0, -1)) {
        assert.equal(reader.push(Uint8Array.of(byte)).state, "need");
      }
      assert.equal(reader.push(records.subarray(-1)).state, "hello");
      assert.deepEqual(Buffer.from(reader.bytes), Buffer.from(records));
    });
  }

  test("keeps all bytes, those behind the hello too", () => {
    const bytes = Buffer.concat([wire(message({})), Buffer.alloc(200_000, 7)]);
    const reader = new ClientHelloReader();
    assert.equal(reader.push(bytes).state, "hello");
    assert.equal(reader.push(Buffer.from("more")).state, "hello");
    assert.deepEqual(Buffer.from(reader.bytes), Buffer.concat([bytes, Buffer.from("more")]));
  });

  test("copies what is pushed", () => {
    const bytes = wire(message({}));
    const reader = new ClientHelloReader();
    const piece = Uint8Array.from(bytes.subarray(0, 20));
    reader.push(piece);
    piece.fill(0);
    assert.equal(reader.push(bytes.subarray(20)).state, "hello");
  });
});

describe("ja4()", () => {
  for (const { name, hex, ja4 } of cases.ja4) {
    test(`of ${name}`, () => assert.equal(hello(Buffer.from(hex, "hex")).ja4, ja4));
  }

  for (
    const { name, cipherSuites, extensions, signatureAlgorithms, ja4: expected } of cases.ja4Fields
  ) {
    test(`of the fields of ${name}`, () => {
      const fields = { legacyVersion: 0x0303, versions: [0x0303, 0x0304], alpnProtocols: ["h2"] };
      assert.equal(ja4({ ...fields, cipherSuites, extensions, signatureAlgorithms }), expected);
    });
  }

  for (const { hex, characters } of cases.ja4Alpn) {
    test(`shows the protocol 0x${hex} as ${characters}`, () => {
      const alpnProtocols = [Buffer.from(hex, "hex").toString("latin1")];
      assert.equal(ja4({ ...EMPTY, alpnProtocols }), `t12i0000${characters}_${ZEROS}_${ZEROS}`);
    });
  }

  test("of nothing at all", () => {
    assert.equal(ja4(EMPTY), `t12i000000_${ZEROS}_${ZEROS}`);
  });

  test("of extensions without signature algorithms", () => {
    // The last example of FoxIO's description: the hash has no underscore at its end.
    const extensions = cases.ja4Fields[0]!.extensions;
    assert.match(ja4({ ...EMPTY, versions: [0x0304], extensions }), /_6d807ffa2a79$/);
  });

  test("of counts above 99", () => {
    const cipherSuites = Array.from({ length: 150 }, (_, suite) => suite);
    assert.match(ja4({ ...EMPTY, cipherSuites }), /^t12i990000_/);
  });

  for (
    const [version, text] of [[0x0300, "s3"], [0x0002, "s2"], [0x0301, "10"], [
      0x0305,
      "00",
    ]] as const
  ) {
    test(`of version ${tlsVersionName(version)}`, () => {
      assert.equal(ja4({ ...EMPTY, legacyVersion: version }).slice(0, 3), `t${text}`);
    });
  }
});

describe("ClientHelloReader on server names", () => {
  for (
    const [name, expected] of [
      ["example.com", "example.com"],
      ["EXAMPLE.Com", "example.com"],
      ["example.com.", "example.com"],
      ["xn--mnchen-3ya.de", "xn--mnchen-3ya.de"],
      ["192.0.2.7", undefined],
      ["2001:db8::1", undefined],
      ["[::1]", undefined],
      [".", undefined],
      ["a..b", undefined],
      ["two words", undefined],
      ["a/b", undefined],
      ["*.example.com", undefined],
      ["m\u00fcnchen.de", undefined], // Latin-1 is not the A-label that RFC 6066 asks for
      [`${"a".repeat(64)}.com`, undefined],
      [
        `${`${"a".repeat(63)}.`.repeat(4)}`.slice(0, 253),
        `${"a".repeat(63)}.`.repeat(4).slice(0, 253),
      ],
      ["a.".repeat(127) + "a", undefined], // 255 bytes
    ] as const
  ) {
    test(`takes ${JSON.stringify(name.slice(0, 30))} for ${expected?.slice(0, 30)}`, () => {
      const read = hello(wire(message({ extensions: [[0, serverName(name)]] })));
      assert.equal(read.serverName, expected);
      assert.deepEqual(read.extensions, [0]);
    });
  }
});

describe("ClientHelloReader on what is allowed", () => {
  test("a TLS 1.2 hello without extensions", () => {
    const read = hello(wire(message({ extensions: undefined })));
    assert.deepEqual(toPlain(read), {
      serverName: null,
      alpnProtocols: [],
      versions: [0x0303],
      cipherSuites: [0x1301],
      signatureAlgorithms: [],
      groups: [],
      extensions: [],
      legacyVersion: 0x0303,
      hasPreSharedKey: false,
      hasEarlyData: false,
      ja4: read.ja4,
    });
  });

  test("GREASE, which is left out of every list", () => {
    const read = hello(wire(message({
      cipherSuites: uint16s(0x0a0a, 0x1301, 0xfafa),
      extensions: [
        [0x1a1a, Buffer.alloc(0)],
        [10, vector16(uint16s(0x2a2a, 0x001d))],
        [13, vector16(uint16s(0x3a3a, 0x0403))],
        [16, vector16(vector8(Buffer.from([0x4a, 0x4a])), vector8(Buffer.from("h2")))],
        [43, vector8(uint16s(0x5a5a, 0x0304, 0x0303))],
        [0x6a6a, Buffer.alloc(1)],
      ],
    })));
    assert.deepEqual(read.cipherSuites, [0x1301]);
    assert.deepEqual(read.extensions, [10, 13, 16, 43]);
    assert.deepEqual(read.groups, [0x001d]);
    assert.deepEqual(read.signatureAlgorithms, [0x0403]);
    assert.deepEqual(read.alpnProtocols, ["h2"]);
    assert.deepEqual(read.versions.map(tlsVersionName), ["TLSv1.3", "TLSv1.2"]);
  });

  test("values that only look like GREASE", () => {
    const read = hello(wire(message({ cipherSuites: uint16s(0x0a1a, 0x0b0b, 0xaa0a) })));
    assert.deepEqual(read.cipherSuites, [0x0a1a, 0x0b0b, 0xaa0a]);
  });

  test("protocols of any bytes, as Latin-1", () => {
    const list = vector16(vector8(Buffer.from([0, 255])), vector8(Buffer.alloc(255, 0x61)));
    const read = hello(wire(message({ extensions: [[16, list]] })));
    assert.deepEqual(read.alpnProtocols, ["\0\xff", "a".repeat(255)]);
  });

  test("SSL 3.0 in the message, for the TLS stack to refuse", () => {
    assert.deepEqual(hello(wire(message({ version: [3, 0] }))).versions.map(tlsVersionName), [
      "SSLv3",
    ]);
  });

  test("a legacy version above TLS 1.2 offers TLS 1.2", () => {
    assert.deepEqual(hello(wire(message({ version: [3, 4] }))).versions, [0x0303]);
  });

  test("the largest hello, 64 KiB with the headers of its four records", () => {
    const largest = 65536 - 4 * 5 - 4;
    const records = wire(message({ bytes: largest }));
    assert.equal(records.length, 65536);
    for (const size of [Infinity, 1000, 1]) {
      assert.equal(hello(records, size).legacyVersion, 0x0303);
    }
    const longer = wire(message({ bytes: largest + 1 }));
    for (const size of [Infinity, 1000, 1]) {
      assertRefused(longer, size, "TLS_BAD_CLIENT_HELLO", /longer than 65536/);
    }
  });
});

describe("ClientHelloReader refuses", () => {
  const malformed: [name: string, bytes: Buffer, message: RegExp][] = [
    ["another handshake message", wire(Buffer.from([2, 0, 0, 0])), /not a ClientHello/],
    ["a hello that says it has 16 MiB", wire(Buffer.from([1, 255, 255, 255])), /longer than 65536/],
    ["a hello one byte too long for 64 KiB", wire(Buffer.from([1, 0, 255, 248])), /longer than/],
    [
      "a hello whose records make it too long",
      fragment(wire(message({ bytes: 20_000 })), 1),
      /longer than/,
    ],
    ["an empty record", record(Buffer.alloc(0)), /empty record/],
    [
      "an empty record in between",
      Buffer.concat([record(Buffer.from([1])), record(Buffer.alloc(0))]),
      /empty record/,
    ],
    ["a record of 18,433 bytes", Buffer.from([22, 3, 1, 0x48, 0x01]), /Record is longer/],
    [
      "an alert in between",
      Buffer.concat([record(Buffer.from([1])), Buffer.from([21, 3, 1, 0, 2, 1, 0])]),
      /interrupted/,
    ],
    [
      "a record of another version in between",
      Buffer.concat([record(Buffer.from([1])), Buffer.from([22, 2, 0, 0, 2])]),
      /interrupted/,
    ],
    [
      "a second message in the record",
      record(Buffer.concat([message({}), Buffer.from([1])])),
      /goes on behind/,
    ],
    ["an empty hello", wire(Buffer.from([1, 0, 0, 0])), /too short/],
    [
      "a session ID of 33 bytes",
      wire(message({ sessionId: Buffer.alloc(33) })),
      /Session ID is longer/,
    ],
    [
      "no cipher suites",
      wire(message({ cipherSuites: Buffer.alloc(0) })),
      /cipher suites has a wrong length/,
    ],
    [
      "half a cipher suite",
      wire(message({ cipherSuites: Buffer.alloc(3) })),
      /cipher suites has a wrong length/,
    ],
    ["no compression methods", wire(message({ compression: Buffer.alloc(0) })), /methods is empty/],
    ["compression that is forced", wire(message({ compression: Buffer.from([1]) })), /Compression/],
    [
      "bytes behind the extensions",
      wire(message({ behind: Buffer.from([0]) })),
      /has trailing bytes/,
    ],
    ["half an extension", wire(message({ extensions: Buffer.from([0, 0, 0]) })), /too short/],
    [
      "an extension longer than the list",
      wire(message({ extensions: Buffer.from([0, 5, 0, 1]) })),
      /too short/,
    ],
    [
      "an extension that appears twice",
      extensions([5, "00"], [5, "00"]),
      /Extension 5 appears twice/,
    ],
    ["an extension behind pre_shared_key", extensions([41, ""], [5, ""]), /not the last/],
    ["early_data with content", extensions([42, "00"]), /has trailing bytes/],
    ["an empty server name extension", extensions([0, ""]), /too short/],
    ["an empty list of server names", extensions([0, "0000"]), /too short/],
    ["an empty server name", extensions([0, "0003000000"]), /name is empty/],
    ["a server name with a NUL", extensions([0, serverName("a\0.com")]), /NUL/],
    ["a server name of 256 bytes", extensions([0, serverName("a".repeat(256))]), /longer than 255/],
    ["two server names", extensions([0, "0008" + "00000161" + "00000162"]), /has trailing bytes/],
    ["a server name of another type", extensions([0, "0004" + "01000161"]), /not a host name/],
    ["a server name longer than its list", extensions([0, "0004" + "00000261"]), /too short/],
    [
      "bytes behind the list of server names",
      extensions([0, "0004" + "00000161" + "ff"]),
      /has trailing bytes/,
    ],
    ["an empty ALPN extension", extensions([16, ""]), /too short/],
    ["an empty list of protocols", extensions([16, "0000"]), /too short/],
    ["an empty protocol", extensions([16, "0004" + "026832" + "00"]), /Protocol is empty/],
    ["a protocol longer than its list", extensions([16, "0003" + "036832"]), /too short/],
    [
      "bytes behind the list of protocols",
      extensions([16, "0003" + "026832" + "00"]),
      /has trailing bytes/,
    ],
    ["an empty list of versions", extensions([43, "00"]), /wrong length/],
    ["half a version", extensions([43, "03030403"]), /wrong length/],
    ["an empty list of groups", extensions([10, "0000"]), /wrong length/],
    ["half a signature algorithm", extensions([13, "0003040305"]), /wrong length/],
  ];
  for (const [name, bytes, message] of malformed) {
    test(name, () => {
      for (const size of [Infinity, 100, 1]) {
        assertRefused(bytes, size, "TLS_BAD_CLIENT_HELLO", message);
      }
    });
  }

  test("a hello that ends early, wherever", () => {
    const body = message({}).subarray(4);
    const withoutExtensions = body.length - 2; // which TLS 1.2 allows
    for (let length = 0; length < body.length; length++) {
      const { result } = push(wire(handshake(body.subarray(0, length))), Infinity);
      assert.equal(result.state, length === withoutExtensions ? "hello" : "error");
    }
  });

  test("the length that is too long at once, before its bytes come", () => {
    const reader = new ClientHelloReader();
    assert.equal(reader.push(Buffer.from([22, 3, 1, 0x40, 0, 1, 1, 0])).state, "need");
    assert.equal(reader.push(Buffer.from([0])).state, "error");
    assert.equal(reader.bytes.length, 9);
  });

  for (
    const [name, bytes, isHttp] of [
      ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\n\r\n"), true],
      ["an HTTP method that is long", Buffer.from("VERSION-CONTROL / HTTP/1.1\r\n"), true],
      ["HTTP/2 with prior knowledge", Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), true],
      ["SSH", Buffer.from("SSH-2.0-OpenSSH_9.2\r\n"), false],
      ["capital letters without end", Buffer.alloc(70_000, 0x41), false],
      ["zeros", Buffer.alloc(100), false],
      ["an alert", Buffer.from([21, 3, 1, 0, 2, 2, 40]), false],
      ["a handshake record of SSL 2", Buffer.from([22, 2, 0, 0, 1]), false],
      ["high bytes", Buffer.from([0xff, 0xff, 0xff]), false],
      ["a line end", Buffer.from("\r\n"), false],
    ] as const
  ) {
    test(`${name}, which is not TLS`, () => {
      const looksLikeHttp = assertRefused(bytes, Infinity, "TLS_NOT_TLS", /not a TLS handshake/);
      assert.equal(looksLikeHttp, isHttp);
      assertRefused(bytes, 1, "TLS_NOT_TLS", /not a TLS handshake/);
    });
  }

  test("HTTP by its first letter", () => {
    assert.equal(assertRefused(Buffer.from("G"), 1, "TLS_NOT_TLS", /not a TLS/), true);
  });

  test("an SSL 2.0 hello as a version too old", () => {
    const bytes = Buffer.from("802e0100020015000000100700c0030080", "hex");
    for (const size of [Infinity, 1]) {
      assert.equal(assertRefused(bytes, size, "TLS_VERSION", /SSL 2.0/), false);
    }
  });

  test("a hello that is longer than it may be", () => {
    const reader = new ClientHelloReader(1_000);
    const result = reader.push(wire(message({ bytes: 1_200 })));
    assert.ok(result.state === "error");
    assert.match(result.error.message, /longer than 1000 bytes/);
    assert.equal(result.alert, "illegal_parameter");
  });

  for (
    const [name, bytes, alert] of [
      ["a first message of another type", wire(Buffer.from([2, 0, 0, 0])), "unexpected_message"],
      ["a first record of another type", Buffer.from([23, 3, 3, 0, 1, 0]), "unexpected_message"],
      [
        "a record of another type in between",
        Buffer.concat([record(Buffer.from([1])), Buffer.from([20, 3, 3, 0, 1, 1])]),
        "unexpected_message",
      ],
      [
        "a second message in the record",
        record(Buffer.concat([message({}), Buffer.from([1])])),
        "unexpected_message",
      ],
      [
        "compression that is forced",
        wire(message({ compression: Buffer.from([1]) })),
        "illegal_parameter",
      ],
      ["a length beyond 64 KiB", wire(Buffer.from([1, 0xff, 0xff, 0xff])), "illegal_parameter"],
      ["a record that is too long", Buffer.from([22, 3, 1, 0x48, 0x01]), "record_overflow"],
      ["a hello that cannot be read", wire(Buffer.from([1, 0, 0, 0])), "decode_error"],
      [
        "an SSL 2.0 hello",
        Buffer.from("802e0100020015000000100700c0030080", "hex"),
        "protocol_version",
      ],
      ["an alert", Buffer.from([21, 3, 1, 0, 2, 2, 40]), undefined],
      ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\n\r\n"), undefined],
    ] as const
  ) {
    test(`${name}, by the alert ${alert}`, () => {
      for (const size of [Infinity, 1]) {
        const { result } = push(bytes, size);
        assert.ok(result.state === "error");
        assert.equal(result.alert, alert);
      }
    });
  }
});

describe("ClientHelloReader on versions", () => {
  test("takes any version of the message, as supported_versions has the word", () => {
    const versions: [number, Buffer] = [43, Buffer.from("02" + "0304", "hex")];
    for (const version of [[2, 2], [3, 4], [4, 0], [0x7f, 0x1c]] as const) {
      const { legacyVersion, versions: offered } = hello(
        wire(message({ version: [...version], extensions: encode([versions]) })),
      );
      assert.deepEqual([legacyVersion, offered], [version[0] << 8 | version[1], [0x0304]]);
    }
  });

  test("negotiates newer versions without that down to TLS 1.2, and keeps older ones", () => {
    const offered = (version: [number, number]) => hello(wire(message({ version }))).versions;
    assert.deepEqual(([[3, 4], [4, 0], [0xff, 0xff]] as [number, number][]).map(offered), [
      [0x0303],
      [0x0303],
      [0x0303],
    ]);
    assert.deepEqual(([[3, 2], [2, 2]] as [number, number][]).map(offered), [[0x0302], [0x0202]]);
  });
});

describe("ClientHelloReader under attack", () => {
  test("takes 64 KiB byte by byte in linear time", () => {
    const time = (bytes: Buffer): number => {
      const cpuMs = countCpu();
      assert.equal(push(bytes, 1).result.state, "hello");
      return cpuMs();
    };
    const short = fragment(wire(message({ bytes: 1_000 })), 1);
    const long = fragment(wire(message({ bytes: 10_900 })), 1);
    for (let i = 0; i < 7; i++) time(short); // warm up
    const pairs = Array.from({ length: 15 }, () => [time(short), time(long)] as const);
    const [fastShort, fastLong] = [0, 1].map((i) => Math.min(...pairs.map((pair) => pair[i]!)));
    const ratio = fastLong! / Math.max(fastShort!, 0.001);
    assert.ok(ratio < 40, `11 times the bytes took ${ratio} times as long`); // quadratic: 119
  });

  test("grows its memory a few times, not at each byte", () => {
    const reader = new ClientHelloReader();
    const buffers = new Set<ArrayBufferLike>();
    for (const byte of fragment(wire(message({ bytes: 10_900 })), 1)) {
      reader.push(Uint8Array.of(byte));
      buffers.add(reader.bytes.buffer);
    }
    assert.ok(buffers.size <= 20, `${buffers.size} buffers`); // doubling: the logarithm of 64 Ki
  });
});

const ZEROS = "000000000000";
const EMPTY = {
  legacyVersion: 0x0303,
  versions: [],
  alpnProtocols: [],
  cipherSuites: [],
  extensions: [],
  signatureAlgorithms: [],
};

/** Pushes in pieces of `size` until there is an answer. */
function push(bytes: Buffer, size: number): { result: PeekResult; reader: ClientHelloReader } {
  const reader = new ClientHelloReader();
  let result: PeekResult = { state: "need" };
  for (let at = 0; at < bytes.length && result.state === "need"; at += size) {
    result = reader.push(bytes.subarray(at, Math.min(bytes.length, at + size)));
  }
  return { result, reader };
}

function hello(bytes: Buffer, size = Infinity): ClientHello {
  const { result } = push(bytes, size);
  if (result.state === "error") throw result.error;
  assert.equal(result.state, "hello");
  return result.hello;
}

/** Asserts that the bytes are refused; returns whether they look like HTTP. */
function assertRefused(bytes: Buffer, size: number, code: string, message: RegExp): boolean {
  const { result, reader } = push(bytes, size);
  assert.equal(result.state, "error");
  assert.ok(result.error instanceof TlsError);
  assert.equal(result.error.code, code);
  assert.match(result.error.message, message);
  assert.deepEqual(Buffer.from(reader.bytes), bytes.subarray(0, reader.bytes.length));
  return result.looksLikeHttp;
}

/** The hello as the case file has it: `null` for `undefined`. */
function toPlain(hello: ClientHello): object {
  return { ...hello, serverName: hello.serverName ?? null };
}

/** The parts of a ClientHello; what is left out has a value that is right. */
interface Parts {
  version?: [number, number];
  sessionId?: Buffer;
  cipherSuites?: Buffer;
  compression?: Buffer;
  extensions?: [type: number, content: Buffer | string][] | Buffer | undefined;
  behind?: Buffer;
  /** The length of the body, made up with a padding extension (RFC 7685). */
  bytes?: number;
}

/** A handshake message with a ClientHello. */
function message(parts: Parts): Buffer {
  const head = Buffer.concat([
    Buffer.from(parts.version ?? [3, 3]),
    Buffer.alloc(32, 0xaa),
    vector8(parts.sessionId ?? Buffer.alloc(0)),
    vector16(parts.cipherSuites ?? uint16s(0x1301)),
    vector8(parts.compression ?? Buffer.from([0])),
  ]);
  const padding: [number, Buffer][] = parts.bytes === undefined
    ? []
    : [[21, Buffer.alloc(parts.bytes - head.length - 2 - 4)]];
  const list = "extensions" in parts ? parts.extensions : padding;
  const encoded = list === undefined ? Buffer.alloc(0) : vector16(encode(list));
  return handshake(Buffer.concat([head, encoded, parts.behind ?? Buffer.alloc(0)]));
}

function encode(list: NonNullable<Parts["extensions"]>): Buffer {
  if (Buffer.isBuffer(list)) return list;
  return Buffer.concat(list.flatMap(([type, content]) => [
    uint16s(type),
    vector16(typeof content === "string" ? Buffer.from(content, "hex") : content),
  ]));
}

/** The bytes of a ClientHello with these extensions, contents as bytes or in hex. */
function extensions(...list: [type: number, content: Buffer | string][]): Buffer {
  return wire(message({ extensions: list }));
}

function serverName(name: string): Buffer {
  return vector16(Buffer.from([0]), vector16(Buffer.from(name, "latin1")));
}

function handshake(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([1, body.length >> 16, body.length >> 8, body.length]), body]);
}

/** A handshake message in records of at most `size` bytes. */
function wire(message: Buffer, size = 16384): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    records.push(record(message.subarray(at, at + size)));
  }
  return Buffer.concat(records);
}

function record(content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([22, 3, 1]), vector16(content)]);
}

/** The same handshake message in records of `size` bytes. */
function fragment(records: Buffer, size: number): Buffer {
  const contents: Buffer[] = [];
  for (let at = 0; at < records.length;) {
    const end = at + 5 + records.readUInt16BE(at + 3);
    contents.push(records.subarray(at + 5, end));
    at = end;
  }
  return wire(Buffer.concat(contents), size);
}

function uint16s(...values: number[]): Buffer {
  return Buffer.from(values.flatMap((value) => [value >> 8, value]));
}

function vector8(...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([content.length]), content]);
}

function vector16(...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([uint16s(content.length), content]);
}
