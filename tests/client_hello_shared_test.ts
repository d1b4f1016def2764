/**
 * What ClientHellos share: equal lists are kept once, and give what reading them anew gives, for
 * generated hellos, wrong ones too.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { ClientHelloReader } from "../lib/tls/client_hello_reader.ts";
import { MAX_KNOWN, MAX_SHARED_BYTES, Shared } from "../lib/tls/shared.ts";
import cases from "./cases/client_hello.json" with { type: "json" };
import { seed } from "./differential_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const captured = cases.captured.map(({ hex, bytesBehind }) => {
  const bytes = Buffer.from(hex, "hex");
  return bytes.subarray(0, bytes.length - bytesBehind);
});

describe("ClientHellos that are alike", () => {
  test("share their lists, which no program can change", () => {
    for (const bytes of captured) {
      const [one, other] = [read(bytes), read(bytes)];
      assert.ok(one.hello !== undefined && other.hello !== undefined);
      assert.notEqual(one.hello, other.hello, "each connection has a hello of its own");
      for (const [name, value] of Object.entries(one.hello)) {
        if (!Array.isArray(value) || JSON.stringify(value).length > MAX_SHARED_BYTES) continue;
        assert.equal(value, other.hello[name as keyof typeof other.hello], name);
        assert.throws(() => value.push(1), TypeError);
      }
    }
  });

  test("have a fingerprint as a property of their own", () => {
    const { hello } = read(captured[0]!);
    assert.ok(Object.keys(hello!).includes("ja4"));
    assert.equal({ ...hello! }.ja4, hello!.ja4);
    assert.equal(JSON.parse(JSON.stringify(hello)).ja4, hello!.ja4);
  });

  test("are read as if each were the first, with bytes changed anywhere", () => {
    const random = randomNumbers(seed);
    const hellos = Array.from({ length: 600 }, () => mutated(captured, random));
    const shared = hellos.map(plain);
    assert.ok(shared.filter((text) => text.includes("cipherSuites")).length > 150);
    assert.ok(shared.filter((text) => text.includes("TLS_")).length > 20);
    for (const [index, bytes] of hellos.entries()) {
      if (index % 5 === 0) forgetAll();
      assert.equal(plain(bytes), shared[index], `seed ${seed}, ${bytes.toString("hex")}`);
    }
  });
});

describe("Shared", () => {
  const bytesOf = (text: string): [Buffer, number, number] => {
    const bytes = Buffer.from(`<${text}>`, "latin1");
    return [bytes, 1, bytes.length - 1];
  };
  const texts = () => new Shared((bytes, start, end) => [bytes.toString("latin1", start, end)]);

  test("keeps so many values and no more, the latest", () => {
    const values = texts();
    const first = values.of(...bytesOf("first"));
    for (let i = 1; i < MAX_KNOWN; i++) values.of(...bytesOf(`other ${i}`));
    assert.equal(values.of(...bytesOf("first")), first);
    const last = values.of(...bytesOf("one more"));
    assert.notEqual(values.of(...bytesOf("first")), first);
    assert.deepEqual(values.of(...bytesOf("first")), first);
    assert.equal(values.of(...bytesOf("one more")), last);
  });

  test("keeps none that is long", () => {
    const values = texts();
    const longest = "x".repeat(MAX_SHARED_BYTES);
    assert.equal(values.of(...bytesOf(longest)), values.of(...bytesOf(longest)));
    const longer = [values.of(...bytesOf(`${longest}x`)), values.of(...bytesOf(`${longest}x`))];
    assert.notEqual(longer[0], longer[1]);
    assert.deepEqual(longer[0], longer[1]);
    assert.ok(Object.isFrozen(longer[0]));
  });

  test("keeps nothing of what cannot be read", () => {
    let reads = 0;
    const values = new Shared((): string[] => {
      reads++;
      throw new RangeError("Unreadable");
    });
    for (let i = 0; i < 2; i++) assert.throws(() => values.of(...bytesOf("x")), RangeError);
    assert.equal(reads, 2);
  });
});

function read(bytes: Buffer) {
  const result = new ClientHelloReader().push(bytes);
  return result.state === "hello" ? { hello: result.hello } : { result };
}

/** All that is said of a hello, or what is wrong with it. */
function plain(bytes: Buffer): string {
  const { hello, result } = read(bytes);
  if (hello !== undefined) return JSON.stringify({ ...hello, name: hello.serverName ?? null });
  return result.state === "error" ? `${result.error.code} ${result.error.message}` : result.state;
}

/** Has so many other hellos read that nothing is known of those before. */
function forgetAll(): void {
  for (const bytes of OTHERS) assert.ok(read(bytes).hello !== undefined);
}

const OTHERS = Array.from({ length: MAX_KNOWN }, (_, i) => otherHello(i));

/** A hello none of whose lists another has. */
function otherHello(i: number): Buffer {
  const uint16 = (...values: number[]) =>
    Buffer.from(values.flatMap((value) => [value >> 8, value & 0xff]));
  const vector16 = (content: Buffer) => Buffer.concat([uint16(content.length), content]);
  const extension = (type: number, content: Buffer) =>
    Buffer.concat([uint16(type), vector16(content)]);
  const values = uint16(0xe000 + i, 0xe100 + i);
  const body = Buffer.concat([
    uint16(0x0303),
    Buffer.alloc(33),
    vector16(values),
    Buffer.of(1, 0),
    vector16(Buffer.concat([
      extension(10, vector16(values)),
      extension(13, vector16(values)),
      extension(16, vector16(Buffer.from(`\x04x${String(i).padStart(3, "0")}`))),
      extension(43, Buffer.concat([Buffer.of(values.length), values])),
      extension(0xe000 + i, Buffer.alloc(0)),
    ])),
  ]);
  const message = Buffer.concat([Buffer.of(1, 0), vector16(body)]);
  return Buffer.concat([Buffer.of(22, 3, 1), vector16(message)]);
}

/** One of the inputs with up to three bytes changed; lengths and types are hit more often. */
function mutated(inputs: readonly Buffer[], random: () => number): Buffer {
  const pick = (below: number) => Math.floor(random() * below);
  const bytes = Buffer.from(inputs[pick(inputs.length)]!);
  for (let changes = pick(4); changes > 0; changes--) {
    const at = 9 + pick(bytes.length - 9);
    bytes[at] = random() < 0.5 ? bytes[at]! + (random() < 0.5 ? 1 : -1) : pick(256);
  }
  return bytes;
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ state >>> 15, 1 | state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}
