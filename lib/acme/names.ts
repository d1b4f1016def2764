/**
 * Names of certificates as ACME has them: identifiers (RFC 8555 section 7.1.3, RFC 8738).
 *
 * @module
 */
import { isIPv6 } from "node:net";
import { normalizeAddress } from "../endpoints.ts";
import { ConfigError } from "../errors.ts";
import { normalizePattern } from "../tls/names.ts";
import type { AcmeIdentifier } from "./types.ts";

/** The most names of one certificate that any CA signs. */
const MAX_NAMES = 100;

/**
 * The names in normal form, each once.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for none, too many, or what is neither a name nor an address
 */
export function orderedNames(names: readonly string[]): string[] {
  const normal = [...new Set(names.map(orderedName))];
  if (normal.length > 0 && normal.length <= MAX_NAMES) return normal;
  throw new ConfigError(
    "INVALID_CONFIG",
    `Option names has ${normal.length} names: give 1 to ${MAX_NAMES}`,
  );
}

function orderedName(name: string): string {
  const normal = normalizeAddress(name) ?? normalizePattern(name);
  if (normal !== undefined && !normal.includes("_")) return normal;
  throw new ConfigError(
    "INVALID_CONFIG",
    `Option names has "${
      name.slice(0, 300)
    }", which no CA signs: give host names, wildcards such ` +
      'as "*.shop.example", or IP addresses',
  );
}

/** Whether a name in normal form is an address. */
export function isAddress(name: string): boolean {
  return normalizeAddress(name) !== undefined;
}

/** What a name in normal form is in an order; a wildcard stays one. */
export function identifierOf(name: string): AcmeIdentifier {
  return { type: isAddress(name) ? "ip" : "dns", value: name };
}

/** The name under which the owner of an address is asked for in SNI (RFC 8738 section 6). */
export function reverseName(address: string): string {
  if (!isIPv6(address)) return `${address.split(".").reverse().join(".")}.in-addr.arpa`;
  const [head, tail] = address.split("::").map((part) => part === "" ? [] : part.split(":"));
  const zeros = tail === undefined ? 0 : 8 - head!.length - tail.length;
  const groups = [...head!, ...Array<string>(zeros).fill("0"), ...tail ?? []];
  const digits = groups.map((group) => group.padStart(4, "0")).join("");
  return `${[...digits].reverse().join(".")}.ip6.arpa`;
}
