/**
 * Writing the `Set-Cookie` field (RFC 6265 section 4.1; the prefixes and `SameSite` of its
 * successor, RFC 6265bis; `Partitioned` of CHIPS).
 *
 * @module
 */
import * as v from "valibot";
import { badResponse } from "../http/response_rules.ts";
import { isToken } from "../http/token.ts";
import {
  adviceFrom,
  checkOptions,
  flag,
  members,
  number,
  oneOf,
  optionError,
  string,
} from "../options.ts";

/** The options of {@linkcode HttpdRequest.setCookie}. */
export interface CookieOptions {
  /** How long the cookie lasts, in seconds; 0 takes it away. Default: as long as the browser runs. */
  readonly maxAgeSeconds?: number;
  /** When the cookie ends, for what knows no `Max-Age`. Default: see `maxAgeSeconds`. */
  readonly expires?: Date;
  /** The domain whose hosts get it, all of them. Default: the host that sets it alone. */
  readonly domain?: string;
  /** The path below which it is sent. Default: `"/"`. */
  readonly path?: string;
  /**
   * Whether it is sent over HTTPS alone. Browsers drop one that comes over plain HTTP from another
   * host than this machine. Default: `true`.
   */
  readonly secure?: boolean;
  /** Whether it is out of reach of the page's scripts. Default: `true`. */
  readonly httpOnly?: boolean;
  /** In which requests of other sites it is: none, navigation, or all. Default: `"Lax"`. */
  readonly sameSite?: "Strict" | "Lax" | "None";
  /** Whether each site that embeds this one has a cookie of its own. Default: `false`. */
  readonly partitioned?: boolean;
}

const CALLEE = "setCookie()";

/** The name of a domain, which may begin with a dot. */
const DOMAIN = /^\.?[\w-]+(\.[\w-]+)*$/;

/** The value of an attribute: neither a control character nor the semicolon that ends it. */
const ATTRIBUTE = /^[\x20-\x3a\x3c-\x7e]*$/;

const SCHEMA = members({
  maxAgeSeconds: v.optional(number("a time in seconds", 0, Number.MAX_SAFE_INTEGER)),
  expires: v.optional(
    v.custom<Date>(
      (value) => value instanceof Date && isCookieYear(value.getUTCFullYear()),
      "must be a valid Date, of the years 1601 to 9999",
    ),
  ),
  domain: v.optional(v.pipe(
    string("must be a name"),
    v.check((domain) => DOMAIN.test(domain), "must be a name alone, without a port"),
  )),
  path: v.optional(
    v.pipe(
      string("must be a path"),
      v.check((path) => path.startsWith("/"), "must begin with a slash"),
      v.check((path) => ATTRIBUTE.test(path), "must be a path, encoded as in a URL"),
    ),
    "/",
  ),
  secure: flag(true),
  httpOnly: flag(true),
  sameSite: v.optional(oneOf("Strict", "Lax", "None"), "Lax"),
  partitioned: flag(false),
}, {
  advice: adviceFrom({ maxAge: "write maxAgeSeconds, in seconds", signed: "sign the value" }),
  shape: "an object of CookieOptions",
});

/** Whether browsers read a date of this year (RFC 6265 section 5.1.1). */
function isCookieYear(year: number): boolean {
  return year >= 1601 && year <= 9999;
}

/** The most characters of a name and its value together (RFC 6265bis section 5.6). */
const MAX_COOKIE = 4_096;

/** Visible ASCII without quotes, comma, semicolon and backslash. */
const VALUE = /^[!#-+\--:<-[\]-~]*$/;

/**
 * The value of a `Set-Cookie` field.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name or value that a cookie cannot have
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, as for those that browsers refuse
 */
export function cookieLine(name: string, value: string, options: CookieOptions): string {
  if (typeof name !== "string" || !isToken(name)) {
    throw badResponse(`The name of a cookie is not a token: ${CALLEE} takes letters and digits`);
  }
  if (typeof value !== "string" || !VALUE.test(value)) {
    throw badResponse(
      `The value of cookie ${name} has a character that none may have: use encodeURIComponent()`,
    );
  }
  const length = name.length + value.length;
  if (length > MAX_COOKIE) {
    throw badResponse(
      `Cookie ${
        name.slice(0, 32)
      } has ${length} characters with its name, and browsers drop one of more ` +
        `than ${MAX_COOKIE}: keep the value on the server`,
    );
  }
  const checked = checkOptions(CALLEE, SCHEMA, options);
  assertKept(name, checked);
  const { maxAgeSeconds, expires, domain, path, secure, httpOnly, sameSite } = checked;
  return [
    `${name}=${value}`,
    maxAgeSeconds !== undefined && `Max-Age=${maxAgeSeconds}`,
    expires && `Expires=${expires.toUTCString()}`,
    domain && `Domain=${domain}`,
    `Path=${path}`,
    secure && "Secure",
    httpOnly && "HttpOnly",
    `SameSite=${sameSite}`,
    checked.partitioned && "Partitioned",
  ].filter(Boolean).join("; ");
}

/** Throws for what a browser would drop without a word. */
function assertKept(name: string, options: v.InferOutput<typeof SCHEMA>): void {
  const { secure, httpOnly, domain, path, sameSite, partitioned } = options;
  const isHost = /^__Host-/i.test(name);
  const isHttp = /^__(Host-)?Http-/i.test(name);
  const isSecure = isHost || isHttp || /^__Secure-/i.test(name);
  if (!secure && (isSecure || sameSite === "None" || partitioned)) {
    throw optionError(CALLEE, "secure", `is false, and browsers drop cookie ${name}: leave it out`);
  }
  if (!httpOnly && isHttp) {
    throw optionError(
      CALLEE,
      "httpOnly",
      `is false, and browsers drop cookie ${name}: leave it out`,
    );
  }
  if (!isHost) return;
  if (domain !== undefined) throw optionError(CALLEE, "domain", "is not for a cookie of __Host-");
  if (path !== "/") throw optionError(CALLEE, "path", 'must be "/" for a cookie of __Host-');
}
