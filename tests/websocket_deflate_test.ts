/** permessage-deflate: RFC 7692, the negotiation and the codec. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { createDeflateRaw, createInflateRaw, deflateRawSync } from "node:zlib";
import { describe, test } from "bun:test";
import { ContextDeflater, deflateMessage, Inflater } from "../lib/websocket/deflate.ts";
import { type DeflateOptions, negotiateDeflate } from "../lib/websocket/deflate_negotiation.ts";
import { parseExtensions } from "../lib/websocket/extensions.ts";
import { oneShotZlib, ReusedZlib, reusedZlibWorks } from "../lib/runtime/zlib_states.ts";
import { Random } from "./random.ts";
import { countCpu } from "./support.ts";
import { assertRuntime } from "./runtime.ts";
import { maxDistance } from "./inflate_distance.ts";
import { hex } from "./websocket_cases.ts";

assertRuntime();

/** What a sender removes from the end of each message. */
const SYNC_TAIL = hex("00 00 ff ff");

const WINDOW_BITS = [8, 9, 10, 11, 12, 13, 14, 15];

function negotiate(field: string, options?: DeflateOptions): string | undefined {
  return negotiateDeflate(parseExtensions([field])!, options)?.response.replaceAll(" ", "");
}

/** Text that compresses, with repeats at every distance. */
function sampleText(bytes: number, seed = 7): Uint8Array {
  const random = new Random(seed).fraction;
  const words = Array.from({ length: 400 }, () => random().toString(36).slice(2, 4 + random() * 9));
  let text = "";
  while (text.length < bytes) text += words[Math.floor(random() * words.length)] + " ";
  return new TextEncoder().encode(text.slice(0, bytes));
}

function noise(bytes: number): Uint8Array {
  const random = new Random(bytes).fraction;
  return Uint8Array.from({ length: bytes }, () => random() * 256);
}

describe("negotiateDeflate()", () => {
  const both = { serverContextTakeover: true, clientContextTakeover: true };
  const NONE = ";server_no_context_takeover;client_no_context_takeover";
  const accepted: [offer: string, options: DeflateOptions | undefined, response: string][] = [
    ["permessage-deflate", undefined, NONE],
    ["permessage-deflate", both, ""],
    ["permessage-deflate; server_no_context_takeover", both, ";server_no_context_takeover"],
    ["permessage-deflate; client_no_context_takeover", both, ";client_no_context_takeover"],
    ["permessage-deflate; server_max_window_bits=10", both, ";server_max_window_bits=10"],
    ["permessage-deflate; server_max_window_bits=8", both, ";server_max_window_bits=8"],
    ['permessage-deflate; server_max_window_bits="12"', both, ";server_max_window_bits=12"],
    [
      "permessage-deflate; server_max_window_bits=15",
      { ...both, serverMaxWindowBits: 11 },
      ";server_max_window_bits=11",
    ],
    [
      "permessage-deflate; server_max_window_bits=9",
      { ...both, serverMaxWindowBits: 11 },
      ";server_max_window_bits=9",
    ],
    ["permessage-deflate", { ...both, serverMaxWindowBits: 9 }, ";server_max_window_bits=9"],
    ["permessage-deflate; client_max_window_bits", both, ";client_max_window_bits=15"],
    ["permessage-deflate; client_max_window_bits=8", both, ";client_max_window_bits=8"],
    [
      "permessage-deflate; client_max_window_bits",
      { ...both, clientMaxWindowBits: 10 },
      ";client_max_window_bits=10",
    ],
    [
      "permessage-deflate; client_max_window_bits=9",
      { ...both, clientMaxWindowBits: 10 },
      ";client_max_window_bits=9",
    ],
    // It cannot be given the window, so it loses the context.
    ["permessage-deflate", { ...both, clientMaxWindowBits: 10 }, ";client_no_context_takeover"],
    // The first acceptable offer wins.
    ["x-webkit-deflate-frame, permessage-deflate", both, ""],
    [
      "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9, permessage-deflate",
      both,
      ";server_max_window_bits=9",
    ],
    ["permessage-deflate; server_max_window_bits=7, permessage-deflate", both, ""],
  ];
  for (const [offer, options, response] of accepted) {
    test(`accepts ${offer} with ${JSON.stringify(options)}`, () => {
      assert.equal(negotiate(offer, options), "permessage-deflate" + response);
    });
  }

  test("gives the whole agreement", () => {
    const offers = parseExtensions([
      "permessage-deflate; server_max_window_bits=9; client_max_window_bits=11",
    ])!;
    const { response: _, ...agreement } = negotiateDeflate(offers, { ...both, memLevel: 5 })!;
    assert.deepEqual(agreement, {
      ...both,
      serverMaxWindowBits: 9,
      clientMaxWindowBits: 11,
      level: 6,
      memLevel: 5,
    });
  });

  test("declines what is malformed or unknown", () => {
    const params = [
      ..."server_max_window_bits | server_max_window_bits=7 | server_max_window_bits=16".split(
        " | ",
      ),
      ..."server_max_window_bits=08 | server_max_window_bits=1e1 | server_max_window_bits=-8".split(
        " | ",
      ),
      ..."server_max_window_bits=9;server_max_window_bits=9 | client_max_window_bits=0".split(
        " | ",
      ),
      ..."client_max_window_bits=16 | client_max_window_bits;client_max_window_bits=9".split(" | "),
      ..."server_no_context_takeover=1 | client_no_context_takeover=true | foo | foo=1".split(
        " | ",
      ),
      ..."server_no_context_takeover;server_no_context_takeover | __proto__ | SERVER_MAX_WINDOW_BITS=9"
        .split(" | "),
    ];
    for (const param of params) {
      assert.equal(negotiate(`permessage-deflate;${param}`), undefined, param);
    }
    assert.equal(negotiate("permessage-bzip2, x-permessage-deflate"), undefined);
    assert.equal(negotiateDeflate([]), undefined);
  });

  test("throws on options outside their range", () => {
    const wrong: DeflateOptions[] = [
      { serverMaxWindowBits: 7 },
      { serverMaxWindowBits: 16 },
      { clientMaxWindowBits: 9.5 },
      { level: 10 },
      { level: -1 },
      { memLevel: 0 },
      { memLevel: NaN },
    ];
    for (const options of wrong) {
      assert.throws(() => negotiateDeflate([], options), { code: "INVALID_CONFIG" });
    }
  });
});

const SETTINGS = { serverMaxWindowBits: 15, level: 6, memLevel: 8 };

describe("deflateMessage()", () => {
  test("gives the RFC's bytes for Hello and for an empty message", () => {
    const hello = deflateMessage(new TextEncoder().encode("Hello"), SETTINGS);
    assert.deepEqual([...hello], [...hex("f2 48 cd c9 c9 07 00")]);
    assert.deepEqual([...deflateMessage(new Uint8Array(0), SETTINGS)], [0]);
  });

  for (const serverMaxWindowBits of WINDOW_BITS) {
    test(`stays inside a window of ${serverMaxWindowBits} bits, at every level`, () => {
      const text = sampleText(100_000);
      for (let level = 0; level <= 9; level++) {
        const deflated = deflateMessage(text, { serverMaxWindowBits, level, memLevel: 8 });
        assert.ok(maxDistance(deflated) <= 1 << serverMaxWindowBits, `level ${level}`);
        assert.ok(level === 0 || deflated.length < text.length);
      }
    });
  }

  test("is read by a foreign inflater with just that window", async () => {
    for (const windowBits of WINDOW_BITS) {
      const text = sampleText(70_000, windowBits);
      const deflated = deflateMessage(text, { ...SETTINGS, serverMaxWindowBits: windowBits });
      assert.deepEqual(await foreignInflate([deflated], windowBits), Buffer.from(text));
    }
  });
});

describe("ContextDeflater", () => {
  test("gives the RFC's bytes for Hello twice", async () => {
    const deflater = new ContextDeflater(SETTINGS);
    const hello = new TextEncoder().encode("Hello");
    assert.deepEqual([...await deflater.deflate(hello)], [...hex("f2 48 cd c9 c9 07 00")]);
    assert.deepEqual([...await deflater.deflate(hello)], [...hex("f2 00 11 00 00")]);
    deflater.close();
  });

  for (const serverMaxWindowBits of WINDOW_BITS) {
    test(`keeps its context in a window of ${serverMaxWindowBits} bits`, async () => {
      const deflater = new ContextDeflater({ ...SETTINGS, serverMaxWindowBits });
      const messages = [1, 2, 3].map((seed) => sampleText(20_000, seed));
      messages.splice(1, 0, new Uint8Array(0), noise(200_000));
      const deflated = await Promise.all(messages.map((message) => deflater.deflate(message)));
      deflater.close();
      assert.ok(maxDistance(...deflated) <= 1 << serverMaxWindowBits);
      const inflated = await foreignInflate(deflated, serverMaxWindowBits);
      assert.deepEqual(inflated, Buffer.concat(messages));
    });
  }

  test("close() rejects what waits and what comes later", async () => {
    const deflater = new ContextDeflater(SETTINGS);
    const waiting = [noise(500_000), noise(10)].map((message) => deflater.deflate(message));
    await Promise.resolve();
    deflater.close();
    deflater.close();
    waiting.push(deflater.deflate(noise(10)));
    for (const result of await Promise.allSettled(waiting)) {
      assert.equal(result.status, "rejected");
      assert.equal((result as PromiseRejectedResult).reason.code, "WS_CANNOT_SEND");
    }
  });
});

describe("zlib's states", () => {
  const MESSAGE_TAIL = hex("00 00 ff ff 01 00 00 ff ff");
  const options = { windowBits: 15, level: 6, memLevel: 8 };

  test("can be used again on this runtime", () => assert.ok(reusedZlibWorks()));

  for (
    const [name, zlib] of [["oneShotZlib", oneShotZlib], ["ReusedZlib", new ReusedZlib()]] as const
  ) {
    // 64 KiB is the step in which output is taken.
    for (const length of [1, 100, 65535, 65536, 65537, 131072, 300_000]) {
      test(`${name} gives ${length} bytes back, and shows where they end`, () => {
        for (const bytes of [sampleText(length), noise(length)]) {
          const deflated = zlib.deflate(bytes, options);
          const followed = Buffer.concat([deflated, MESSAGE_TAIL.subarray(4), noise(9)]);
          const inflated = zlib.inflate(followed, length);
          assert.ok(Buffer.from(bytes).equals(inflated!.output));
          assert.equal(inflated!.consumed, followed.length - 9);
          assert.equal(inflated!.output.byteLength, inflated!.output.buffer.byteLength);
          assert.equal(zlib.inflate(followed, length - 1), undefined);
        }
      });
    }

    test(`${name} forgets each message: no reference reaches another's`, async () => {
      const deflater = new ContextDeflater(SETTINGS);
      const secret = sampleText(500);
      const [first, second] = await Promise.all([
        deflater.deflate(secret),
        deflater.deflate(secret),
      ]);
      deflater.close();
      for (let time = 0; time < 2; time++) {
        assert.ok(zlib.inflate(Buffer.concat([first, MESSAGE_TAIL]), 500));
        assert.throws(() => zlib.inflate(Buffer.concat([second, MESSAGE_TAIL]), 500));
      }
    });

    test(`${name} goes on after data that is damaged or cut`, () => {
      const deflated = zlib.deflate(sampleText(500), options);
      const whole = Buffer.concat([deflated, MESSAGE_TAIL.subarray(4)]);
      for (const broken of [hex("ff ff ff"), whole.subarray(0, 50), hex("")]) {
        assert.throws(() => zlib.inflate(broken, 500));
        assert.equal(zlib.inflate(whole, 500)!.output.length, 500);
      }
    });
  }
});

describe("Inflater", () => {
  const inflater = (clientContextTakeover: boolean, clientMaxWindowBits = 15) =>
    new Inflater({ clientContextTakeover, clientMaxWindowBits });

  for (const windowBits of WINDOW_BITS) {
    test(`follows a foreign deflater's context over a window of ${windowBits} bits`, async () => {
      const random = new Random(windowBits).fraction;
      const messages = Array.from(
        { length: 60 },
        (_, i) => sampleText(1 + Math.floor(random() * random() * 60_000), i % 7),
      );
      const reader = inflater(true, windowBits);
      const deflated = await foreignDeflate(messages, Math.max(9, windowBits));
      for (const [i, payload] of deflated.entries()) {
        const inflated = reader.inflate(payload, 100_000);
        assert.ok(Buffer.from(messages[i]!).equals(inflated), `message ${i}`);
        assert.equal(inflated.constructor, Uint8Array);
      }
    });
  }

  test("inflates large messages whole", () => {
    for (const message of [sampleText(3_000_000), noise(1_000_000)]) {
      const inflated = inflater(true).inflate(deflateMessage(message, SETTINGS), message.length);
      assert.ok(Buffer.from(message).equals(inflated));
    }
  });

  test("keeps the limit to the byte", () => {
    for (const takeover of [false, true]) {
      const reader = inflater(takeover);
      for (const size of [1, 2, 1023, 1024, 1025, 65_536, 100_000]) {
        const deflated = deflateMessage(sampleText(size), SETTINGS);
        assert.equal(reader.inflate(deflated, size).length, size);
        assert.throws(() => inflater(takeover).inflate(deflated, size - 1), {
          code: "WS_TOO_LARGE",
          closeCode: 1009,
        });
      }
      assert.equal(reader.inflate(Uint8Array.of(0), 0).length, 0);
      assert.equal(reader.inflate(deflateMessage(noise(9), SETTINGS), Infinity).length, 9);
    }
  });

  test("a bomb of 1000:1 takes no more memory than the limit, and little time", () => {
    const limit = 1 << 20;
    const mebibyte = Buffer.concat([deflateMessage(new Uint8Array(limit), SETTINGS), SYNC_TAIL]);
    const bomb = Buffer.concat([...Array.from({ length: 256 }, () => mebibyte), hex("00")]);
    assert.ok(bomb.length * 900 < 256 * limit, "256 MiB in less than 300 KiB");
    const before = process.memoryUsage().rss;
    const cpuMs = countCpu();
    let most = 0;
    for (let i = 0; i < 20; i++) {
      assert.throws(() => inflater(false).inflate(bomb, limit), { code: "WS_TOO_LARGE" });
      most = Math.max(most, process.memoryUsage().rss - before);
    }
    assert.ok(cpuMs() < 2_000);
    // Twenty times the limit and its copies, were nothing ever freed; far less than 20 × 256 MiB.
    assert.ok(most < 64 << 20, `${most} bytes`);
  }, 30_000);

  test("final blocks are bounded, and nothing but a whole message passes", () => {
    const final = "03 00 ";
    assert.equal(inflater(false).inflate(hex(final.repeat(8) + "00"), 10).length, 0);
    const invalid = { code: "WS_INVALID_DATA", closeCode: 1007 };
    assert.throws(() => inflater(false).inflate(hex(final.repeat(9) + "00"), 10), invalid);

    const message = deflateMessage(sampleText(500), SETTINGS);
    for (let length = 0; length < message.length; length++) {
      assert.throws(() => inflater(false).inflate(message.subarray(0, length), 1000), invalid);
    }
    assert.throws(
      () => inflater(false).inflate(Buffer.concat([message, hex("ff")]), 1000),
      invalid,
    );
  });

  test("a message of many final blocks over 64 KiB each", () => {
    const text = sampleText(200_000);
    const parts = [text, text, text].map((part) => deflateRawSync(part));
    const payload = Buffer.concat([...parts, hex("00")]);
    const inflated = inflater(false).inflate(payload, 600_000);
    assert.ok(Buffer.concat([text, text, text]).equals(inflated));
    assert.throws(() => inflater(false).inflate(payload, 599_999), { code: "WS_TOO_LARGE" });
  });

  test("damaged messages throw WebSocketError and nothing else", () => {
    const random = new Random(7692).fraction;
    const message = deflateMessage(sampleText(2_000), SETTINGS);
    for (let round = 0; round < 3_000; round++) {
      const damaged = Uint8Array.from(message);
      damaged[Math.floor(random() * damaged.length)] = random() * 256;
      try {
        inflater(true).inflate(damaged, 5_000);
      } catch (error) {
        assert.match(String((error as { code: unknown }).code), /^WS_(INVALID_DATA|TOO_LARGE)$/);
      }
    }
  });
});

/** Deflates with one zlib stream, as a client does; its flush marker is cut off. */
function foreignDeflate(messages: Uint8Array[], windowBits: number): Promise<Uint8Array[]> {
  const deflater = createDeflateRaw({ windowBits });
  const pieces: Uint8Array[] = [];
  deflater.on("data", (piece: Uint8Array) => pieces.push(piece));
  return messages.reduce<Promise<Uint8Array[]>>(async (before, message) => {
    const deflated = await before;
    deflater.write(message);
    await new Promise<void>((resolve) => deflater.flush(2, resolve));
    return [...deflated, Buffer.concat(pieces.splice(0)).subarray(0, -4)];
  }, Promise.resolve([]));
}

/** Inflates with one zlib stream, as a client does. */
async function foreignInflate(payloads: Uint8Array[], windowBits: number): Promise<Uint8Array> {
  const inflater = createInflateRaw({ windowBits });
  const pieces: Uint8Array[] = [];
  inflater.on("data", (piece: Uint8Array) => pieces.push(piece));
  await new Promise<void>((resolve, reject) => {
    inflater.on("error", reject);
    for (const payload of payloads) {
      inflater.write(payload);
      inflater.write(SYNC_TAIL);
    }
    inflater.flush(() => resolve());
  });
  return Buffer.concat(pieces);
}
