/**
 * IPv4 addresses that are written as IPv6, without what else an address needs of Node, so that edge
 * apps can use it.
 *
 * @module
 */

/** How a dual-stack socket has the address of an IPv4 client (RFC 4291 section 2.5.5.2). */
const MAPPED = /^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$/;

/** An address as a socket has it; one of IPv4 as what it is. */
export function unmapped(address: string): string {
  return MAPPED.exec(address)?.[1] ?? address;
}
