/**
 * Sets of IP addresses, written as addresses and CIDR blocks (RFC 4632, RFC 4291 section 2.3).
 *
 * `node:net` has `BlockList`, but Deno and Bun disagree on whether an IPv6 block holds IPv4
 * addresses; here the two families never mix. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`, as a
 * dual-stack socket shows its IPv4 peers) is the IPv4 address, in blocks and in lookups.
 *
 * @module
 */
import { normalizeAddress } from "../endpoints.ts";
import { ConfigError } from "../errors.ts";

/** An address as a number of 32 or 128 bits. */
interface Address {
  bits: 32 | 128;
  value: bigint;
}

const MAPPED_PREFIX_LENGTH = 96; // ::ffff:0:0/96, RFC 4291 section 2.5.5.2
const PREFIX_LENGTH = /^(0|[1-9][0-9]{0,2})$/;

/** A set of IP addresses; a lookup does not depend on how many blocks there are. */
export class CidrSet {
  /** Network numbers by `bits/prefixLength`: a lookup tries each prefix length in use. */
  readonly #networks = new Map<string, { bits: number; shift: bigint; values: Set<bigint> }>();

  /**
   * Makes a set of blocks (`"10.0.0.0/8"`, `"2001:db8::/32"`) and single addresses (`"::1"`).
   *
   * @throws {ConfigError} `INVALID_CONFIG` when one is malformed, has an IPv6 zone, or has bits set
   * beyond its prefix length (`10.0.0.7/8`), which is mostly a slip of the pen.
   */
  constructor(blocks: Iterable<string>) {
    for (const block of blocks) this.#add(block);
  }

  /**
   * Whether the address is in the set; the zone of a link-local address (`fe80::1%eth0`) is not
   * looked at. Text that is no IP address is in no set.
   */
  has(address: string): boolean {
    const parsed = parseAddress(address);
    if (parsed === undefined) return false;
    for (const { bits, shift, values } of this.#networks.values()) {
      if (bits === parsed.bits && values.has(parsed.value >> shift)) return true;
    }
    return false;
  }

  #add(block: string): void {
    const { address, prefixLength } = parseBlock(block);
    const shift = BigInt(address.bits - prefixLength);
    const network = address.value >> shift;
    if (network << shift !== address.value) {
      throw new ConfigError(
        "INVALID_CONFIG",
        `"${block}" has bits set beyond its prefix length: write the first address of the block`,
      );
    }
    const key = `${address.bits}/${prefixLength}`;
    const networks = this.#networks.get(key) ??
      { bits: address.bits, shift, values: new Set<bigint>() };
    networks.values.add(network);
    this.#networks.set(key, networks);
  }
}

function parseBlock(block: string): { address: Address; prefixLength: number } {
  const slash = block.indexOf("/");
  const text = slash === -1 ? block : block.slice(0, slash);
  const address = text.includes("%") ? undefined : parseAddress(text);
  if (address === undefined) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `"${block}" is no IP address or CIDR block: write one such as "10.0.0.0/8" or "::1"`,
    );
  }
  if (slash === -1) return { address, prefixLength: address.bits };

  const length = block.slice(slash + 1);
  // The prefix of a mapped block counts the 96 bits before the IPv4 address.
  const skipped = text.includes(":") && address.bits === 32 ? MAPPED_PREFIX_LENGTH : 0;
  const prefixLength = PREFIX_LENGTH.test(length) ? Number(length) - skipped : -1;
  if (prefixLength < 0 || prefixLength > address.bits) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `"${block}" has a wrong prefix length: it goes from ${skipped} to ${skipped + address.bits}`,
    );
  }
  return { address, prefixLength };
}

/** Reads an address, whatever its zone; `undefined` when it is none. */
function parseAddress(text: string): Address | undefined {
  const normal = normalizeAddress(text);
  if (normal === undefined) return undefined;
  return normal.includes(":")
    ? { bits: 128, value: parseIPv6(normal) }
    : { bits: 32, value: parseIPv4(normal) };
}

function parseIPv4(text: string): bigint {
  return text.split(".").reduce((value, byte) => value << 8n | BigInt(byte), 0n);
}

/** Reads the normal form of an address. */
function parseIPv6(normal: string): bigint {
  const [head = [], tail = []] = normal.split("::").map((side) => side.split(":").filter(Boolean));
  const zeros = Array<string>(8 - head.length - tail.length).fill("0");
  return [...head, ...zeros, ...tail].reduce(
    (value, group) => value << 16n | BigInt(`0x${group}`),
    0n,
  );
}
