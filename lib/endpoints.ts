/**
 * Where a connection comes from and goes to, and the one spelling of IP addresses by which they
 * compare as text.
 *
 * @module
 */
import { isIPv4, isIPv6, type Socket } from "node:net";
import { unmapped } from "./mapped_address.ts";

/** The two ends of a connection. An IPv4 address is never written as IPv6. */
export interface Endpoints {
  /** The client's address; behind a trusted proxy, what its PROXY header says; empty on a UNIX socket. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
  /** The address that the client connected to. */
  readonly localAddress: string;
  /** The port that the client connected to. */
  readonly localPort: number;
}

/** Returns the addresses of a socket as it is now; one that was reset at once has none any more. */
export function endpointsOf(raw: Socket): Endpoints {
  return {
    remoteAddress: unmapped(raw.remoteAddress ?? ""),
    remotePort: raw.remotePort ?? 0,
    localAddress: unmapped(raw.localAddress ?? ""),
    localPort: raw.localPort ?? 0,
  };
}

/** The one spelling of the many that an IPv6 address without zone can have; leaves IPv4 as it is. */
export function shortAddress(address: string): string {
  return isIPv4(address) ? address : new URL(`http://[${address}]/`).hostname.slice(1, -1);
}

/** An IPv4 address in IPv6 (RFC 4291 section 2.5.5.2), as URL parsers spell it. */
const MAPPED = /^::ffff:([\da-f]{1,4}):([\da-f]{1,4})$/;

/**
 * The normal form of an IP address: an IPv6 address in its short form, without zone; an IPv4 address
 * that is written as IPv6 (`::ffff:192.0.2.1`, as a dual-stack socket has it) as the IPv4 address.
 *
 * @returns `undefined` when `text` is no address
 */
export function normalizeAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  const zone = text.indexOf("%");
  const address = zone === -1 ? text : text.slice(0, zone);
  if (!isIPv6(address)) return undefined;
  const short = shortAddress(address);
  const mapped = MAPPED.exec(short);
  if (mapped === null) return short;
  const [high, low] = [parseInt(mapped[1]!, 16), parseInt(mapped[2]!, 16)];
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join(".");
}
