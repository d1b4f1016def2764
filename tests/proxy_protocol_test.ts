/** PROXY protocol: data cases in every cut, and what lies behind the header. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import { ConnectionError } from "../lib/errors.ts";
import { CidrSet } from "../lib/net/cidr.ts";
import {
  type ProxyHeader,
  ProxyHeaderReader,
  type ProxyResult,
} from "../lib/net/proxy_protocol.ts";
import cases from "./cases/proxy.json" with { type: "json" };
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const BEHIND = Buffer.from("\x16\x03\x01PROXY \r\n", "latin1");

describe("ProxyHeaderReader", () => {
  for (const { name, hex, expected } of cases.done) {
    test(`reads ${name}`, () => {
      const bytes = Buffer.from(hex, "hex");
      for (const size of [1, 7, 100, Infinity]) {
        const { result, rest } = push(Buffer.concat([bytes, BEHIND]), size);
        assert.equal(result.state, "done");
        const plain = toPlain(result.header);
        assert.deepEqual({ ...plain, ...expected }, plain);
        assert.equal(result.header.length, bytes.length);
        assert.deepEqual(rest, BEHIND);
      }
    });

    test(`waits for the last byte of ${name}`, () => {
      const reader = new ProxyHeaderReader();
      const bytes = Buffer.from(hex, "hex");
      assert.equal(reader.push(bytes.subarray(0, -1)).state, "need");
      assert.equal(reader.push(new Uint8Array(0)).state, "need");
      assert.equal(reader.push(bytes.subarray(-1)).state, "done");
    });
  }

  for (const { name, hex, message } of cases.refused) {
    test(`refuses ${name}`, () => {
      for (const size of [1, 7, Infinity]) {
        const { result } = push(Buffer.from(hex, "hex"), size);
        assert.equal(result.state, "error");
        assert.ok(result.error instanceof ConnectionError);
        assert.equal(result.error.code, "PROXY_HEADER");
        assert.equal(result.error.message, `PROXY header is refused: ${message}`);
      }
    });
  }

  for (const { name, hex } of cases.absent) {
    test(`gives back what is no header: ${name}`, () => {
      const bytes = Buffer.from(hex, "hex");
      for (const size of [1, 3, Infinity]) {
        const { result, rest } = push(bytes, size);
        assert.equal(result.state, "absent");
        assert.deepEqual(rest, bytes);
      }
    });
  }

  test("recognizes an absent header by its first byte", () => {
    assert.equal(new ProxyHeaderReader().push(Uint8Array.of(0x16)).state, "absent");
  });
});

describe("CidrSet", () => {
  const set = new CidrSet([
    "10.0.0.0/8",
    "192.168.1.7",
    "::1",
    "2001:db8::/32",
    "::ffff:172.16.0.0/108",
    "fe80::/10",
  ]);

  for (
    const address of [
      "10.0.0.0",
      "10.255.255.255",
      "192.168.1.7",
      "::1",
      "0:0:0:0:0:0:0:1",
      "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
      "2001:DB8::",
      "::ffff:10.1.2.3",
      "::ffff:a01:203",
      "172.31.255.255",
      "fe80::1%eth0",
    ]
  ) {
    test(`has ${address}`, () => assert.equal(set.has(address), true));
  }

  for (
    const address of [
      "9.255.255.255",
      "11.0.0.0",
      "192.168.1.8",
      "::2",
      "::",
      "2001:db7:ffff::",
      "2001:db9::",
      "::ffff:11.0.0.0",
      "::10.1.2.3", // the deprecated IPv4-compatible form is no IPv4 address
      "172.32.0.0",
      "",
      "10.1.2",
      "10.01.2.3",
      "10.1.2.3 ",
      "localhost",
      "%",
    ]
  ) {
    test(`has not "${address}"`, () => assert.equal(set.has(address), false));
  }

  test("keeps IPv4 and IPv6 apart", () => {
    assert.equal(new CidrSet(["::/0"]).has("10.0.0.1"), false);
    assert.equal(new CidrSet(["::/0"]).has("::ffff:10.0.0.1"), false);
    assert.equal(new CidrSet(["0.0.0.0/0"]).has("::1"), false);
    assert.equal(new CidrSet(["0.0.0.0/0"]).has("::ffff:10.0.0.1"), true);
    assert.equal(new CidrSet([]).has("10.0.0.1"), false);
  });

  for (
    const [block, message] of [
      ["", "no IP address"],
      ["10.0.0", "no IP address"],
      ["/8", "no IP address"],
      ["example.com", "no IP address"],
      ["fe80::1%eth0", "no IP address"],
      ["[::1]", "no IP address"],
      ["10.0.0.0/33", "goes from 0 to 32"],
      ["::/129", "goes from 0 to 128"],
      ["::ffff:10.0.0.0/95", "goes from 96 to 128"],
      ["10.0.0.0/", "goes from 0 to 32"],
      ["10.0.0.0/08", "goes from 0 to 32"],
      ["10.0.0.0/-1", "goes from 0 to 32"],
      ["10.0.0.0/8/8", "goes from 0 to 32"],
      ["10.0.0.0/255.0.0.0", "goes from 0 to 32"],
      ["10.0.0.7/8", "bits set beyond its prefix length"],
      ["2001:db8::1/32", "bits set beyond its prefix length"],
    ] as const
  ) {
    test(`refuses "${block}"`, () => {
      assert.throws(() => new CidrSet([block]), (error: Error) => {
        assert.equal((error as Error & { code: string }).code, "INVALID_CONFIG");
        return error.message.includes(message);
      });
    });
  }
});

/** Pushes in pieces of `size` until there is an answer; `rest` counts the pieces left over. */
function push(bytes: Buffer, size: number): { result: ProxyResult; rest: Buffer } {
  const reader = new ProxyHeaderReader();
  let result: ProxyResult = { state: "need" };
  let at = 0;
  while (result.state === "need" && at < bytes.length) {
    const end = Math.min(bytes.length, at + size);
    result = reader.push(bytes.subarray(at, end));
    at = end;
  }
  const behind = "rest" in result ? result.rest : new Uint8Array(0);
  return { result, rest: Buffer.concat([behind, bytes.subarray(at)]) };
}

/** The header as the case file has it: bytes in hex, `null` for `undefined`. */
function toPlain(header: ProxyHeader): object {
  return JSON.parse(JSON.stringify({
    ...header,
    uniqueId: header.uniqueId && hex(header.uniqueId),
    tlvs: header.tlvs.map(({ type, value }) => ({ type, hex: hex(value) })),
  }, (_, value) => value === undefined ? null : value));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
