/**
 * The options of {@linkcode proxy}, checked.
 *
 * @module
 */
import * as v from "valibot";
import {
  adviceFrom,
  checkOptions,
  duration,
  given,
  hook,
  many,
  members,
  oneOf,
  optionError,
  text,
} from "../options.ts";
import { assertUsable, type UpstreamTls } from "./tls.ts";

/** How long the upstream may take, in ms. */
export interface UpstreamTimeouts {
  /** To accept the connection, its TLS handshake included; then 504. Default: 5,000. */
  readonly connectMs?: number;
  /** From the last byte sent to it to the head of its answer; then 504. Default: 60,000. */
  readonly responseMs?: number;
  /**
   * From one piece of an answer's body to the next, while the client reads; then the client's
   * connection is cut, or its stream on HTTP/2. Default: 60,000.
   */
  readonly idleMs?: number;
  /** How long no byte may go either way on a WebSocket; then both sides are cut. Default: 300,000. */
  readonly webSocketIdleMs?: number;
  /** How long an unused connection is kept. Default: 4,000, a second less than Node.js' servers. */
  readonly keepAliveMs?: number;
}

/** How much there may be of each thing. */
export interface UpstreamLimits {
  /**
   * Connections to the upstream at a time; further requests wait for `timeouts.responseMs`.
   * WebSockets do not count. Default: `Infinity`, as many as the server has requests.
   */
  readonly maxConnections?: number;
}

/** The options of {@linkcode proxy}. */
export interface ProxyOptions {
  /**
   * The `Host` that the upstream sees: its own (`"upstream"`, the default), or the one that the
   * client asked for (`"client"`). `X-Forwarded-Host` always has the client's.
   */
  readonly host?: "upstream" | "client";
  /** What the path begins with here and not at the upstream, such as `/api`. Default: nothing. */
  readonly stripPrefix?: string;
  /**
   * Called with the fields that are about to be sent to the upstream, which it may change; what it
   * throws or rejects with is answered 500.
   */
  readonly onRequest?: (fields: Headers, request: Request) => void | Promise<void>;
  /** How an upstream of `https:` is reached. */
  readonly tls?: UpstreamTls;
  /** How long the upstream may take. */
  readonly timeouts?: UpstreamTimeouts;
  /** How much there may be. */
  readonly limits?: UpstreamLimits;
}

const OF = "proxy()";

const pem = given<string | Uint8Array>("PEM, as text or bytes");

const SCHEMA = members({
  host: v.optional(oneOf("upstream", "client"), "upstream"),
  stripPrefix: v.optional(
    v.pipe(text, v.check(isPrefix, 'must begin with "/" and end without, such as "/api"')),
    "",
  ),
  onRequest: hook<NonNullable<ProxyOptions["onRequest"]>>(),
  tls: v.optional(
    members({
      ca: v.optional(given<NonNullable<UpstreamTls["ca"]>>("PEM, or an array of it")),
      cert: v.optional(pem),
      key: v.optional(pem),
      servername: v.optional(text),
    }, {
      advice: adviceFrom({
        rejectUnauthorized: "an upstream is always verified, write ca with what has signed its own",
        insecure: "an upstream is always verified, write ca with what has signed its own",
      }),
    }),
    {},
  ),
  timeouts: v.optional(
    members({
      connectMs: duration(5_000),
      responseMs: duration(60_000),
      idleMs: duration(60_000),
      webSocketIdleMs: duration(300_000),
      keepAliveMs: duration(4_000),
    }),
    {},
  ),
  limits: v.optional(members({ maxConnections: many(Infinity) }), {}),
}, {
  groups: {
    timeouts: ["connectMs", "responseMs", "idleMs", "webSocketIdleMs", "keepAliveMs"],
    limits: ["maxConnections"],
    tls: ["ca", "cert", "key", "servername"],
  },
  advice: adviceFrom({
    target: "write the upstream's URL as the first argument",
    changeOrigin: 'write host: "upstream", which is the default',
    preserveHost: 'write host: "client"',
    pathRewrite: "write stripPrefix, or put a path into the upstream's URL",
    headers: "write onRequest: (fields) => fields.set(…)",
    secure: "an upstream is always verified: write tls: { ca } with what has signed its own",
    ws: "is not needed: WebSockets are passed on",
    xfwd: "is not needed: the fields are always written",
    timeout: "write timeouts: { responseMs }",
    proxyTimeout: "write timeouts: { responseMs }",
  }),
});

/** The options with their defaults. */
export type ProxyConfig = v.InferOutput<typeof SCHEMA>;

function isPrefix(prefix: string): boolean {
  return prefix === "" || /^\/(?:[^?#]*[^/?#])$/.test(prefix);
}

/**
 * Checks what {@linkcode proxy} was given.
 *
 * @throws {ConfigError} `INVALID_CONFIG` or `INVALID_CERTIFICATE` naming the option
 */
export function checkProxy(
  upstream: string | URL,
  options: ProxyOptions,
): { readonly target: URL; readonly config: ProxyConfig } {
  const target = URL.parse(String(upstream));
  const problem = target === null
    ? 'must be a URL, such as "http://127.0.0.1:3000"'
    : !["http:", "https:"].includes(target.protocol)
    ? "must begin with http: or https:"
    : target.username !== "" || target.password !== ""
    ? "must be without a user and password: add Authorization in onRequest"
    : target.search !== "" || target.hash !== ""
    ? "must end with its path"
    : undefined;
  if (target === null || problem !== undefined) throw optionError(OF, "upstream", problem!);
  const config = checkOptions(OF, SCHEMA, options);
  if (target.protocol === "http:" && Object.keys(config.tls).length > 0) {
    throw optionError(OF, "tls", "is for an upstream of https:");
  }
  assertUsable(config.tls as UpstreamTls);
  return { target, config };
}
