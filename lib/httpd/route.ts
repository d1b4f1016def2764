/**
 * What a route of the httpd API is, and the checks that it is one and that requests can reach it.
 *
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import { ROUTE_NAMES } from "../foreign_names.ts";
import {
  adviceFrom,
  callback,
  checkOptions,
  isPlain,
  members,
  optionError,
  string,
} from "../options.ts";
import { matchExact, matchWildcard, type UriMatcher } from "./matcher.ts";
import { ANY, METHODS } from "../http/methods.ts";
import { type FieldList, Role, roleOf } from "../http/response_rules.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import { isFieldValue, isToken } from "../http/token.ts";
import type { HttpdRequest } from "./request.ts";

/** Answers a request of the httpd API to the server `S`; a returned `Response` is sent. */
export type RouteHandler<S = ServerHandle> = (
  request: HttpdRequest<S>,
) => Response | void | Promise<Response | void>;

/** A handler and the requests that it is for (original: `httpd_uri_t`). */
export interface HandlerRoute<S = ServerHandle> {
  /** The path that it is for, as the option `uriMatch` compares it. */
  readonly uri: string;
  /** The method in upper case, or `"ANY"` for all but CONNECT and TRACE. */
  readonly method: string;
  /** What answers. */
  readonly handler: RouteHandler<S>;
  /** Any value to pass to the handler, as `request.routeContext` (original: `user_ctx`). */
  readonly context?: unknown;
}

/** The option of that name: how templates are compared with paths; its default and its check. */
export const uriMatch: v.GenericSchema<UriMatcher | undefined, UriMatcher> = v.optional(
  callback<UriMatcher>(),
  () => matchExact,
);

/** The option `responseFields`: its check. */
export const responseFields: v.GenericSchema<
  Readonly<Record<string, string>> | undefined,
  FieldList
> = v.optional(
  v.pipe(
    v.custom<Readonly<Record<string, string>>>(isPlain, "must be an object of fields"),
    v.check(
      (fields) => Object.entries(fields).every(([name, value]) => isToken(name) && isText(value)),
      'must have the names and values of fields, such as { "X-Frame-Options": "DENY" }',
    ),
    v.check(
      (fields) => Object.keys(fields).every((name) => roleOf(name) === Role.Message),
      "must not have Content-Type, Date, or what frames a message or belongs to its connection",
    ),
    v.transform((fields): FieldList => Object.entries(fields)),
  ),
  {},
);

function isText(value: unknown): boolean {
  return typeof value === "string" && isFieldValue(value);
}

const CALLEE = "route()";

const advice = adviceFrom(ROUTE_NAMES);

const uri = string("must be the path as text");

const HANDLER_ROUTE = members({
  uri,
  method: string('must be a method, or "ANY"'),
  handler: callback<RouteHandler<never>>(),
  context: v.optional(v.unknown()),
}, { advice });

/**
 * Checks a route, and returns what may be kept of it.
 *
 * @throws {ConfigError} `INVALID_CONFIG` saying what to write
 */
export function resolveRoute<S>(route: HandlerRoute<S>, uriMatch: UriMatcher): HandlerRoute<S> {
  if (typeof route === "string") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `${CALLEE} takes one object: write route({ uri: "${route}", method: "GET", handler })`,
    );
  }
  const checked = checkOptions(CALLEE, HANDLER_ROUTE, route);
  const { method } = checked;
  if (!METHODS.has(method) && method !== ANY) {
    const upper = method.toUpperCase();
    const known = METHODS.has(upper) || upper === ANY;
    throw optionError(
      CALLEE,
      "method",
      `is unknown: ${known ? `write "${upper}"` : 'use one of HTTP\'s, or "ANY"'}`,
    );
  }
  assertReachable(checked.uri, method, uriMatch);
  return checked as HandlerRoute<S>;
}

/**
 * Throws for a template that the matchers of this package would take for a path that no client asks
 * for. Templates of the program's own matchers are not checked.
 */
function assertReachable(uri: string, method: string, uriMatch: UriMatcher): void {
  if (uriMatch !== matchExact && uriMatch !== matchWildcard) return;
  const wild = uriMatch === matchWildcard;
  const serverWide = uri === "*" && (wild || method === "OPTIONS" || method === ANY);
  const problem = serverWide ? undefined : problemOf(uri, wild);
  if (problem !== undefined) {
    throw optionError(CALLEE, "uri", `is ${JSON.stringify(uri)}: ${problem}`);
  }
}

function problemOf(uri: string, wild: boolean): string | undefined {
  if (!uri.startsWith("/")) {
    return `it must begin with a slash, as in "/${uri.replace(/^\w+:\/\/[^/]*\/?/, "")}"`;
  }
  const parameter = /\/(:\w+|\{[^/]*\})/.exec(uri)?.[1];
  if (parameter !== undefined) {
    const instead = uri.slice(0, uri.indexOf(parameter)) + "*";
    return `parameters such as ${parameter} are not known: write uriMatch: matchWildcard with ` +
      `"${instead}" and read request.path, or use Hono`;
  }
  const base = wild ? uri.replace(/\*\?$|\?\*$|[*?]$/, "") : uri;
  if (base.includes("*")) {
    return wild
      ? "a * is special at the end only: match the rest in the handler, or give a uriMatch of yours"
      : "a * is special with uriMatch: matchWildcard only: give the server that option";
  }
  if (/[?#]/.test(base)) return "a route is for a path: read the query in the handler";
  if (/[^!-~]/.test(base)) return `paths are compared as sent: write "${encodeURI(uri)}"`;
  return undefined;
}
