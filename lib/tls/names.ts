/**
 * Host names of certificates and of SNI: normal form, wildcard matching and a table from names to
 * values (RFC 9525, formerly RFC 6125; RFC 5890 for internationalized names).
 *
 * The rules are those of RFC 9525 section 6.3 at their strictest:
 * - names compare as lower-case A-labels, without the trailing dot;
 * - a wildcard is the whole left-most label (`*.example.com`, never `w*.example.com`) and matches
 *   exactly one label;
 * - at least two labels follow the wildcard: `*` and `*.com` are no patterns, as in OpenSSL and
 *   browsers;
 * - an IP address is not a name: it never matches, not even itself.
 *
 * @module
 */
import { isIPv4 } from "node:net";
import { domainToASCII } from "node:url";
import { isAscii } from "../bytes.ts";
import { ConfigError } from "../errors.ts";

const MAX_NAME_LENGTH = 253; // RFC 1035 section 2.3.4, in text form
/** Labels of letters, digits and hyphens; underscores live in real host names. */
const LABELS = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/;
const WILDCARD = "*.";

/**
 * The normal form of a host name: A-labels, lower-case, no trailing dot.
 *
 * Internationalized names are converted (`münchen.de` becomes `xn--mnchen-3ya.de`).
 *
 * @returns `undefined` when `name` is an IP address or not a host name.
 */
export function normalizeName(name: string): string | undefined {
  if (name.length > MAX_NAME_LENGTH + 1) return undefined;
  const ascii = toAscii(name);
  const relative = ascii.endsWith(".") ? ascii.slice(0, -1) : ascii;
  if (relative.length > MAX_NAME_LENGTH || !LABELS.test(relative)) return undefined;
  return isIPv4(relative) ? undefined : relative; // an IPv6 address has colons
}

/**
 * The normal form of a certificate's name, which may be a wildcard.
 *
 * @returns `undefined` when `pattern` is neither a host name nor a wildcard by the rules of this
 * module; such a name of a certificate matches nothing.
 */
export function normalizePattern(pattern: string): string | undefined {
  if (!pattern.startsWith(WILDCARD)) return normalizeName(pattern);
  const domain = normalizeName(pattern.slice(WILDCARD.length));
  return domain?.includes(".") ? WILDCARD + domain : undefined;
}

/**
 * A map from names and wildcards to values, for choosing a certificate by SNI.
 *
 * A lookup costs two hash lookups however many names there are. An exact name wins over a wildcard.
 */
export class NameTable<T> {
  readonly #values = new Map<string, T>();

  /**
   * Sets the value of a name or wildcard, replacing the former one.
   *
   * @throws {ConfigError} `INVALID_CONFIG` when `pattern` is neither; see
   * {@linkcode normalizePattern}.
   */
  set(pattern: string, value: T): this {
    const normal = normalizePattern(pattern);
    if (normal === undefined) {
      throw new ConfigError(
        "INVALID_CONFIG",
        `"${pattern}" is not a server name: give a host name or a wildcard such as "*.example.com"`,
      );
    }
    this.#values.set(normal, value);
    return this;
  }

  /** The value for a client's server name: of the name itself, else of the wildcard above it. */
  get(serverName: string): T | undefined {
    const name = normalizeName(serverName);
    if (name === undefined) return undefined;
    if (this.#values.has(name)) return this.#values.get(name);
    const wildcard = wildcardOf(name);
    return wildcard === undefined ? undefined : this.#values.get(wildcard);
  }
}

/** The one wildcard that matches `name`. */
function wildcardOf(name: string): string | undefined {
  const dot = name.indexOf(".");
  return dot === -1 ? undefined : WILDCARD + name.slice(dot + 1);
}

/** Lower-case A-labels; the empty string when the name cannot be converted. */
function toAscii(name: string): string {
  // Runtimes differ in what domainToASCII does to ASCII that is not a host name: leave that to
  // LABELS.
  if (isAscii(name)) return name.toLowerCase();
  return isHostLike(name) ? domainToASCII(name) : "";
}

/** Whether the ASCII part of an internationalized name has host name characters only. */
function isHostLike(name: string): boolean {
  return /^[A-Za-z0-9._\-\u0080-\uffff]*$/.test(name);
}
