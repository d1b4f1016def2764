/**
 * Reading below Deno's TLS streams: the trial, what still goes through the stream, and the fallback,
 * on sockets whose handle is the test's.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { describe, test } from "bun:test";
import { capabilities } from "../lib/runtime/capabilities.ts";
import { ReadsBelow } from "../lib/runtime/deno_tls_read.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { sClient, startServer } from "./tls_support.ts";

assertRuntime();

type OnRead = (this: unknown, buffer: unknown, length?: unknown) => unknown;

/** A socket whose stream makes `made` of what its handle reads, and what came which way. */
function socketOf(made: (buffer: ArrayBuffer) => Uint8Array = (buffer) => new Uint8Array(buffer)) {
  const handle = {
    onread(buffer?: ArrayBuffer) {
      assert.equal(this, handle);
      socket.push(buffer === undefined ? null : Buffer.from(made(buffer)));
    },
    setOnread(onread: OnRead) {
      handle.onread = onread as typeof handle.onread;
    },
  };
  const socket = Object.assign(new Duplex({ read() {}, write() {} }), { _handle: handle });
  const ways: string[] = [];
  socket.on("data", (piece: Buffer) => ways.push(`stream ${piece.toString("latin1")}`));
  socket.on("end", () => ways.push("end"));
  return {
    socket,
    ways,
    take: (bytes: Uint8Array) => void ways.push(`below ${Buffer.from(bytes).toString("latin1")}`),
    read: (text: string) => handle.onread(new TextEncoder().encode(text).buffer),
    end: () => handle.onread(),
  };
}

describe("reads below TLS streams", () => {
  test("are in force on Deno once bytes have come, and not needed elsewhere", async () => {
    await using server = await startServer();
    for (let i = 0; i < 2; i++) assert.equal((await sClient(server.port)).status, 200);
    const expected = runtime === "deno" ? "in force" : "not needed";
    assert.equal(capabilities.internals["denoTlsRead"], expected);
  });

  test("begin behind the first bytes, which are compared; the end goes through the stream", async () => {
    const reads = new ReadsBelow("untried");
    const { socket, ways, take, read, end } = socketOf();
    reads.of(socket, take);
    await setImmediate(); // the stream flows
    read("one");
    assert.equal(reads.state, "in force");
    read("two");
    const other = socketOf();
    reads.of(other.socket, other.take);
    await setImmediate();
    other.read("three");
    end();
    await setImmediate();
    assert.deepEqual(ways, ["stream one", "below two", "end"]);
    assert.deepEqual(other.ways, ["below three"]);
  });

  test("keep the order: what comes while the stream waits, or bytes wait in it, goes through it", async () => {
    const reads = new ReadsBelow("in force");
    const { socket, ways, take, read } = socketOf();
    reads.of(socket, take);
    read("one");
    await setImmediate();
    read("two");
    socket.pause();
    read("three");
    socket.resume();
    read("four"); // it flows, but the third waits
    await setImmediate();
    read("five");
    assert.deepEqual(ways, [
      "below one",
      "below two",
      "stream three",
      "stream four",
      "below five",
    ]);
  });

  test("end with the socket", async () => {
    const reads = new ReadsBelow("in force");
    const { socket, ways, take, read } = socketOf();
    reads.of(socket, take);
    await setImmediate();
    socket.destroy();
    read("late");
    assert.deepEqual(ways, []);
  });

  const wrong: Record<string, (buffer: ArrayBuffer) => Uint8Array> = {
    "is not at the beginning of its memory": (buffer) => new Uint8Array(buffer, 1),
    "does not fill its memory": (buffer) => new Uint8Array(buffer, 0, 2),
    "is something else": (buffer) => new Uint8Array(buffer.byteLength),
  };
  for (const [what, made] of Object.entries(wrong)) {
    test(`are given up where what is read ${what}`, async () => {
      const reads = new ReadsBelow("untried");
      const { socket, ways, take, read } = socketOf(made);
      reads.of(socket, take);
      await setImmediate();
      read("one");
      read("two");
      assert.equal(reads.state, "fallback");
      assert.equal(ways.length, 2);
      assert.ok(ways.every((way) => way.startsWith("stream")), ways.join());
    });
  }

  test("are given up where a handle has no such members, and sockets stay as they are", async () => {
    const reads = new ReadsBelow("untried");
    const { socket, ways, take, read } = socketOf();
    const { onread } = socket._handle;
    reads.of(Object.assign(new Duplex({ read() {} }), { _handle: { onread } }), take);
    assert.equal(reads.state, "fallback");
    reads.of(socket, take);
    assert.equal(socket._handle.onread, onread);
    await setImmediate();
    read("one");
    assert.deepEqual(ways, ["stream one"]);
  });
});
