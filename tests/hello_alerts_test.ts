/**
 * What clients are answered whose first bytes are no usual ClientHello, beside what the runtime's
 * own server answers: `Deno.serve` is rustls, `Bun.serve` BoringSSL.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import cases from "./cases/client_hello.json" with { type: "json" };
import { assertRuntime, runtime } from "./runtime.ts";
import { certificates, connectTcp } from "./support.ts";
import { startServer } from "./tls_support.ts";

assertRuntime();

const openssl = cases.captured.find(({ name }) => name.startsWith("openssl: TLS 1.2 and 1.3"))!;
/** The hello of an OpenSSL client, without its record's header. */
const HELLO = Buffer.from(openssl.hex, "hex").subarray(5);

/** A handshake message in records of `size` bytes. */
function records(message: Buffer, size = 16_384, type = 22, version = 0x0301): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const content = message.subarray(at, at + size);
    const header = Buffer.from([type, version >> 8, version & 0xff, 0, 0]);
    header.writeUInt16BE(content.length, 3);
    parts.push(header, content);
  }
  return Buffer.concat(parts);
}

function changed(change: (hello: Buffer) => void): Buffer {
  const hello = Buffer.from(HELLO);
  change(hello);
  return hello;
}

const legacy = (version: number) => records(changed((hello) => hello.writeUInt16BE(version, 4)));

/** Where the compression methods are, and the extensions behind them. */
const COMPRESSION = 4 + 2 + 32 + 1 + HELLO[38]! + 2 + HELLO.readUInt16BE(39 + HELLO[38]!);
const EXTENSIONS = COMPRESSION + 2;

/** The hello made up to a body of so many bytes with an extension for padding (RFC 7685). */
function padded(bytes: number): Buffer {
  const padding = Buffer.alloc(bytes + 4 - HELLO.length);
  padding.writeUInt16BE(21, 0);
  padding.writeUInt16BE(padding.length - 4, 2);
  const start = EXTENSIONS + 2;
  const hello = Buffer.concat([HELLO.subarray(0, start), padding, HELLO.subarray(start)]);
  hello.writeUInt16BE(HELLO.readUInt16BE(EXTENSIONS) + padding.length, EXTENSIONS);
  hello.writeUIntBE(hello.length - 4, 1, 3);
  return hello;
}

/** The hello without `supported_versions`: its type is that of no extension. */
function withoutVersions(version: number): Buffer {
  return records(changed((hello) => {
    hello.writeUInt16BE(version, 4);
    for (let at = EXTENSIONS + 2; at < hello.length; at += 4 + hello.readUInt16BE(at + 2)) {
      if (hello.readUInt16BE(at) === 43) hello.writeUInt16BE(0xfe01, at);
    }
  }));
}

const ALERTS: Record<number, string> = {
  10: "unexpected_message",
  22: "record_overflow",
  47: "illegal_parameter",
  50: "decode_error",
  70: "protocol_version",
};

type Answer = string;

/** What comes first: `hello` for a handshake that goes on, an alert, `cut`. */
async function answer(port: number, bytes: Buffer): Promise<Answer> {
  const socket = await connectTcp(port);
  const first = new Promise<Buffer | undefined>((resolve) => {
    socket.once("data", resolve);
    socket.once("end", () => resolve(undefined));
    socket.once("close", () => resolve(undefined));
  });
  socket.write(bytes);
  const reply = await first;
  socket.destroy();
  if (reply === undefined) return "cut";
  if (reply[0] === 22) return "hello";
  return reply[0] === 21 ? ALERTS[reply[6]!] ?? `alert ${reply[6]}` : reply.toString("latin1");
}

/** What httpsd answers, and the runtime's own server where that differs. */
interface Row {
  bytes: Buffer;
  ours: Answer | { deno: Answer; bun: Answer };
  native?: { deno?: Answer; bun?: Answer };
}

const inRecord = (bytes: string) =>
  Buffer.concat([records(HELLO.subarray(0, 10)), Buffer.from(bytes, "hex")]);

const ROWS: Record<string, Row> = {
  "an ordinary hello": { bytes: records(HELLO), ours: "hello" },
  "record version 3.255": { bytes: records(HELLO, 16_384, 22, 0x03ff), ours: "hello" },
  "record version 4.0, which is no TLS": {
    bytes: records(HELLO, 16_384, 22, 0x0400),
    ours: "cut",
    native: { deno: "decode_error", bun: "protocol_version" },
  },
  "a ServerHello": {
    bytes: records(changed((hello) => void (hello[0] = 2))),
    ours: "unexpected_message",
    native: { deno: "decode_error" },
  },
  "a Finished": {
    bytes: records(changed((hello) => void (hello[0] = 20))),
    ours: "unexpected_message",
  },
  "a HelloRequest": { bytes: records(Buffer.alloc(4)), ours: "unexpected_message" },
  "a message of no type": {
    bytes: records(changed((hello) => void (hello[0] = 99))),
    ours: "unexpected_message",
  },
  "a ChangeCipherSpec": {
    bytes: Buffer.from("140301000101", "hex"),
    ours: "unexpected_message",
  },
  "application data": {
    bytes: Buffer.from("1703030003010203", "hex"),
    ours: "unexpected_message",
  },
  "an alert": { bytes: Buffer.from("15030100020228", "hex"), ours: "cut" },
  "no null compression": {
    bytes: records(changed((hello) => void (hello[COMPRESSION + 1] = 1))),
    ours: "illegal_parameter",
  },
  "a session ID of 33 bytes": {
    bytes: records(changed((hello) => void (hello[38] = 33))),
    ours: "decode_error",
  },
  "message version 3.4": { bytes: legacy(0x0304), ours: "hello" },
  "message version 4.0": { bytes: legacy(0x0400), ours: "hello" },
  "message version 127.28": { bytes: legacy(0x7f1c), ours: "hello" },
  "message version 2.2": { bytes: legacy(0x0202), ours: "hello" },
  "message version 3.3, and no list": { bytes: withoutVersions(0x0303), ours: "hello" },
  "message version 3.4, and no list": { bytes: withoutVersions(0x0304), ours: "hello" },
  "message version 4.0, and no list": { bytes: withoutVersions(0x0400), ours: "hello" },
  "message version 255.255, and no list": { bytes: withoutVersions(0xffff), ours: "hello" },
  "message version 3.2, and no list": {
    bytes: withoutVersions(0x0302),
    ours: "protocol_version",
  },
  "message version 2.2, and no list": {
    bytes: withoutVersions(0x0202),
    ours: "protocol_version",
  },
  "a hello of 16,384 bytes": { bytes: records(padded(16_384)), ours: "hello" },
  "a hello of 16,385 bytes": {
    bytes: records(padded(16_385)),
    ours: { deno: "hello", bun: "illegal_parameter" },
  },
  "a hello of 17,000 bytes in one record": {
    bytes: records(padded(17_000), 17_004),
    ours: { deno: "hello", bun: "illegal_parameter" },
    native: { bun: "record_overflow" },
  },
  "a record of 19,000 bytes": {
    bytes: records(padded(19_000), 19_004),
    ours: "record_overflow",
    native: { deno: "decode_error" },
  },
  "a hello of 65,500 bytes": {
    bytes: records(padded(65_500)),
    ours: { deno: "hello", bun: "illegal_parameter" },
  },
  "a hello of 65,535 bytes": {
    bytes: records(padded(65_535)),
    ours: "illegal_parameter",
    native: { deno: "cut" },
  },
  "a hello of 10,000 bytes in records of one": {
    bytes: records(padded(10_000), 1),
    ours: "hello",
  },
  "a length of 16 MiB": {
    bytes: records(changed((hello) => hello.writeUIntBE(0xff_ffff, 1, 3))),
    ours: "illegal_parameter",
    native: { deno: "cut" },
  },
  "an empty record": {
    bytes: Buffer.concat([Buffer.from("1603010000", "hex"), records(HELLO)]),
    ours: "decode_error", // RFC 8446 section 5.1 forbids it
    native: { bun: "hello" },
  },
  "a ChangeCipherSpec in the middle": {
    bytes: inRecord("140301000101"),
    ours: "unexpected_message",
    native: { deno: "cut" },
  },
  "application data in the middle": {
    bytes: inRecord("1703030003010203"),
    ours: "unexpected_message",
    native: { deno: "cut" },
  },
  "bytes behind the hello in its record": {
    bytes: records(Buffer.concat([HELLO, Buffer.from([1, 2, 3])])),
    ours: "unexpected_message",
  },
  "an SSL 2.0 hello": {
    bytes: Buffer.from("802b0100020012000000100100800700c0", "hex"),
    ours: "protocol_version",
    native: { deno: "decode_error" },
  },
};

/** The runtime's own server; what it says of failed handshakes is left alone. */
async function native(): Promise<{ port: number; stop(): Promise<void> }> {
  const { cert, key } = await certificates();
  const hello = () => new Response("hello");
  const { Deno, Bun } = globalThis as unknown as Natives;
  if (Deno !== undefined) {
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, cert, key, onListen() {} },
      hello,
    );
    return { port: server.addr.port, stop: () => server.shutdown() };
  }
  const server = Bun!.serve({ hostname: "127.0.0.1", port: 0, tls: { cert, key }, fetch: hello });
  return { port: server.port, stop: () => server.stop(true) };
}

interface Natives {
  Deno?: {
    serve(options: object, handler: () => Response): {
      addr: { port: number };
      shutdown(): Promise<void>;
    };
  };
  Bun?: { serve(options: object): { port: number; stop(force: boolean): Promise<void> } };
}

describe("the answer to", () => {
  for (const [name, { bytes, ours, native: theirs }] of Object.entries(ROWS)) {
    const expected = typeof ours === "string" ? ours : ours[runtime];
    test(`${name}: ${expected}`, async () => {
      await using server = await startServer();
      assert.equal(await answer(server.port, bytes), expected);
      if (expected !== "hello") {
        const [event] = server.errors;
        const code = expected === "protocol_version"
          ? "TLS_VERSION"
          : expected === "cut"
          ? "TLS_NOT_TLS"
          : "TLS_BAD_CLIENT_HELLO";
        assert.deepEqual([event?.error.code, event?.phase], [code, "client hello"]);
      }
    });

    test(`${name}, by the runtime's own server`, async () => {
      const server = await native();
      try {
        assert.equal(await answer(server.port, bytes), theirs?.[runtime] ?? expected);
      } finally {
        await server.stop();
      }
    });
  }
});
