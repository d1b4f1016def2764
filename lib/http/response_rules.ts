/**
 * What a handler may put into a response, in any version of HTTP (RFC 9110 sections 5, 7.6.1 and
 * 8.6).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { shown } from "../options.ts";
import { isBodiless } from "./status.ts";
import { isFieldValue, isToken } from "./token.ts";

/** Field lines in sending order. */
export type Fields = Iterable<readonly [name: string, value: string]>;

/** Field lines that can be read more than once. */
export type FieldList = readonly (readonly [name: string, value: string])[];

/**
 * Fields, and those of `defaults` that they do not have themselves; `Set-Cookie` and `Vary` are
 * added in any case, since each says something of its own.
 */
export function withDefaults(fields: Fields, defaults: FieldList): FieldList {
  const own = [...fields];
  const names = new Set(own.map(([name]) => String(name).toLowerCase()));
  const added = defaults.filter(([name]) => {
    const lower = name.toLowerCase();
    return lower === "set-cookie" || lower === "vary" || !names.has(lower);
  });
  return [...own, ...added];
}

/**
 * Throws unless `status` is allowed in a response.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function assertStatus(status: number): void {
  if (Number.isInteger(status) && status >= 100 && status <= 999) return;
  throw badResponse(`Status ${status} is not a status code: use 100 to 999`);
}

/**
 * Throws unless every field is allowed in a response; returns them as a list, since some can be read
 * once only.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function checkedFields(fields: Fields): FieldList {
  if (typeof (fields as Partial<Fields> | null)?.[Symbol.iterator] !== "function") {
    throw badResponse(`Fields are ${shown(fields)}: give pairs, such as [["Link", "…"]]`);
  }
  const list = [...fields];
  for (const [name, value] of list) {
    assertFieldName(name);
    assertFieldValue(name, value);
  }
  return list;
}

/**
 * Throws unless `name` is a field name (RFC 9110 section 5.1).
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function assertFieldName(name: string): void {
  roleOf(name);
}

/** What a field does to the message that carries it. */
export const Role = {
  /** It says something to the client. */
  Message: 0,
  /** It belongs to the connection, which is the server's (RFC 9110 section 7.6.1). */
  HopByHop: 1,
  /** `Connection`, of which the server heeds `close`. */
  Connection: 2,
  /** `Upgrade`, which only the answer 426 may carry. */
  Upgrade: 3,
  /** `Content-Length`. */
  Length: 4,
  /** `Date`, which the server adds where it is missing. */
  Date: 5,
  /** `Content-Type`. */
  Type: 6,
} as const;

/** One of the values of {@linkcode Role}. */
export type Role = (typeof Role)[keyof typeof Role];

const ROLES: Readonly<Record<string, Role>> = {
  "connection": Role.Connection,
  "keep-alive": Role.HopByHop,
  "proxy-connection": Role.HopByHop,
  "te": Role.HopByHop,
  "trailer": Role.HopByHop,
  "transfer-encoding": Role.HopByHop,
  "upgrade": Role.Upgrade,
  "content-length": Role.Length,
  "date": Role.Date,
  "content-type": Role.Type,
};

/** The roles of names that were sent before, as they were spelled: nearly always the same few. */
const KNOWN = new Map<string, Role>();
const MAX_KNOWN = 1_000;
const MAX_KNOWN_LENGTH = 64;

/**
 * The role of a field.
 *
 * @throws {HttpError} `BAD_RESPONSE` when `name` is not a field name
 */
export function roleOf(name: string): Role {
  const known = KNOWN.get(name);
  if (known !== undefined) return known;
  if (typeof name !== "string") throw badResponse(`Field name is ${shown(name)}: give text`);
  if (!isToken(name)) throw badResponse(`Field name ${JSON.stringify(name)} is not a token`);
  const lower = name.toLowerCase();
  const role = Object.hasOwn(ROLES, lower) ? ROLES[lower]! : Role.Message;
  if (KNOWN.size < MAX_KNOWN && name.length <= MAX_KNOWN_LENGTH) KNOWN.set(name, role);
  return role;
}

/**
 * Throws when `value` is not text, or holds a CR, LF, NUL or another character that no field value
 * may hold.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function assertFieldValue(name: string, value: string): void {
  if (typeof value !== "string") {
    throw badResponse(`Field ${name} is ${shown(value)}: give text, such as String(value)`);
  }
  if (isFieldValue(value)) return;
  throw badResponse(`Field ${name} holds a control character or one beyond Latin-1: encode it`);
}

/** Whether a response without a body may say how long the body would be (RFC 9110 section 8.6). */
export function mayDeclare(status: number, method: string): boolean {
  return status === 304 || (method === "HEAD" && !isBodiless(status));
}

/**
 * The length that a handler declares, which has to be the one of its body where that is known.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function declaredLength(value: string, actual: number | undefined): number {
  const declared = /^\d{1,16}$/.test(value) ? Number(value) : NaN;
  if (!Number.isSafeInteger(declared)) {
    throw badResponse(`Content-Length ${value} is not a length in bytes`);
  }
  if (actual !== undefined && actual !== declared) {
    throw badResponse(`Content-Length says ${declared}, but the body has ${actual} bytes`);
  }
  return declared;
}

/** The error of a response that breaks HTTP. */
export function badResponse(message: string): HttpError {
  return new HttpError(500, "BAD_RESPONSE", message);
}
