/**
 * What Hono apps need of httpsd: the client's address and certificate, the redirect from http to
 * https, route templates for telemetry, and WebSockets. The server passes its facts to `app.fetch` as
 * second argument, which Hono makes `c.env`.
 *
 * @example
 * ```ts
 * import { Hono } from "hono";
 * import { serve } from "@httpsd/httpsd";
 * import { type HttpsdEnv, requireClientCertificate } from "@httpsd/httpsd/hono";
 *
 * const app = new Hono<HttpsdEnv>();
 * app.use("/admin/*", requireClientCertificate({ issuer: "CN=Staff CA" }));
 * app.get("/admin/me", (c) => c.text(c.var.clientCertificate!.subject));
 *
 * await serve({ cert, key, clientAuth: { ca, mode: "optional" } }, app.fetch);
 * ```
 *
 * @module
 */
import type { Context, MiddlewareHandler } from "hono";
import type { ConnInfo } from "hono/conninfo";
import * as v from "valibot";
import { adviceFrom, checkOptions, flag, members, number, optionError, text } from "../options.ts";
import { type HttpsdEnv, sessionOf, standingCertificate } from "./env.ts";

export { type ClientCertificateRules, requireClientCertificate } from "./client_certificate.ts";
export type { HttpsdEnv } from "./env.ts";
export { routeTemplate } from "./route_template.ts";
export { upgradeWebSocket } from "./websocket.ts";

/**
 * The address of the client, in the form of Hono's `hono/conninfo`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the app was called by another server than httpsd
 */
export function getConnInfo(c: Context): ConnInfo {
  const { remoteAddress, remotePort } = sessionOf(c);
  return {
    remote: {
      address: remoteAddress,
      addressType: remoteAddress.includes(":") ? "IPv6" : "IPv4",
      port: remotePort,
      transport: "tcp",
    },
  };
}

/**
 * Middleware that sets `c.var.clientCertificate` to the certificate that the client showed, if it
 * was asked for and was verified by the server's client CAs, and to `undefined` otherwise.
 *
 * The handlers throw `INVALID_CONFIG` when the app was called by another server than httpsd.
 */
export function clientCertificate(): MiddlewareHandler<HttpsdEnv> {
  return async (c, next) => {
    c.set("clientCertificate", standingCertificate(c));
    await next();
  };
}

/** The options of {@linkcode hsts}. */
export interface HstsOptions {
  /**
   * How long browsers remember the rule, in seconds; 0 makes them forget. Default: 31,536,000, a
   * year.
   */
  readonly maxAgeSeconds?: number;
  /** Whether it holds for all names below this one too. Default: `false`. */
  readonly includeSubDomains?: boolean;
  /** Whether browsers may ship with this name in their list. Default: `false`. */
  readonly preload?: boolean;
}

const YEAR_SECONDS = 31_536_000;

const HSTS = members({
  maxAgeSeconds: v.optional(
    number("a whole number of seconds", 0, Number.MAX_SAFE_INTEGER),
    YEAR_SECONDS,
  ),
  includeSubDomains: flag(false),
  preload: flag(false),
}, { advice: adviceFrom({ maxAge: "write maxAgeSeconds" }) });

/**
 * Middleware that makes browsers use https only: `Strict-Transport-Security` (RFC 6797).
 * Responses to plain http go without it, as the RFC asks (section 7.2).
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, and for `preload` without
 * `includeSubDomains` or with less than a year, which the lists of browsers refuse
 */
export function hsts(options: HstsOptions = {}): MiddlewareHandler {
  const { maxAgeSeconds, includeSubDomains, preload } = checkOptions("hsts()", HSTS, options);
  if (preload && (!includeSubDomains || maxAgeSeconds < YEAR_SECONDS)) {
    throw optionError(
      "hsts()",
      "preload",
      "needs includeSubDomains and a maxAgeSeconds of a year or more",
    );
  }
  const policy = `max-age=${maxAgeSeconds}${includeSubDomains ? "; includeSubDomains" : ""}${
    preload ? "; preload" : ""
  }`;
  return async (c, next) => {
    await next();
    if (new URL(c.req.url).protocol === "https:") c.header("strict-transport-security", policy);
  };
}

/** The options of {@linkcode redirectToHttps}. */
export interface RedirectOptions {
  /** The port of the https server. Default: 443. */
  readonly port?: number;
  /** The host to send clients to. Default: the one that they asked for. */
  readonly hostname?: string;
}

const REDIRECT = members({
  port: v.optional(number("a port", 1, 65_535), 443),
  hostname: v.optional(v.pipe(text, v.check(isHost, "must be a host alone"))),
}, {
  advice: adviceFrom({
    host: "write hostname",
    status: "leave it out: it is always 308",
    permanent: "leave it out: it is always 308",
    httpsPort: "write port",
  }),
});

/**
 * Makes a fetch handler for a server in insecure mode that sends every client to the same place by
 * https, with its method and body (308).
 *
 * @throws {ConfigError} `INVALID_CONFIG` for an invalid port or host
 */
export function redirectToHttps(options: RedirectOptions = {}): (request: Request) => Response {
  const { port, hostname } = checkOptions("redirectToHttps()", REDIRECT, options);
  return (request) => {
    const url = new URL(request.url);
    url.protocol = "https:";
    url.port = String(port);
    if (hostname !== undefined) url.hostname = hostname;
    return new Response(null, { status: 308, headers: { location: url.href } });
  };
}

/** Whether a text is a host and nothing else, of which URL parsers would make a path or a user. */
function isHost(text: string): boolean {
  const url = `https://${text}/`;
  return URL.canParse(url) && new URL(url).hostname === text.toLowerCase();
}
