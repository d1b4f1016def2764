/**
 * `profile: "esp-idf"`: the members of the original's `httpd_config_t` and `httpd_ssl_config_t` as
 * options, in camelCase and in their units, and their defaults. This is the one place that maps
 * them to the options of a server; docs/esp-idf.md has the table.
 *
 * @module
 */
import * as v from "valibot";
import {
  bytes,
  callback,
  checkOptions,
  count,
  given,
  isPlain,
  members,
  number,
  optionError,
  withoutUndefined,
  yesOrNo,
} from "../options.ts";
import type { CertSelect } from "../tls/cert_select.ts";
import {
  ALPN_PROTOCOLS,
  CIPHER_NAMES,
  type ClientAuthOptions,
  type IdentityOptions,
} from "../tls/options.ts";
import type { KeySource } from "../tls/private_key.ts";
import type { UriMatcher } from "./matcher.ts";

/**
 * The original's members that have another name in a server's options. Times are in seconds, unless
 * the name says otherwise. A member may not be given beside the option that it sets.
 */
export interface EspIdfOptions {
  /** `max_req_hdr_len`: `limits.maxHeaderBytes`. 0 is the default. Default: 1,024. */
  readonly maxReqHdrLen?: number;
  /** `max_uri_len`: `limits.maxUriBytes`. 0 is the default. Default: 512. */
  readonly maxUriLen?: number;
  /** `server_port`: `port`. */
  readonly serverPort?: number;
  /** `max_open_sockets`: `limits.maxConnections`. Default: 4, or 7 in insecure mode. */
  readonly maxOpenSockets?: number;
  /** `max_uri_handlers`: `limits.maxRoutes`. Default: 8. */
  readonly maxUriHandlers?: number;
  /** `max_resp_headers`: `limits.maxResponseFields`. Default: 8. */
  readonly maxRespHeaders?: number;
  /** `backlog_conn`: `limits.backlog`. Default: 5. */
  readonly backlogConn?: number;
  /** `lru_purge_enable`: `limits.lruPurge`. Default: `true`, or `false` in insecure mode. */
  readonly lruPurgeEnable?: boolean;
  /** `recv_wait_timeout`, in seconds: `timeouts.receiveMs`. Default: 5. */
  readonly recvWaitTimeout?: number;
  /** `send_wait_timeout`, in seconds: `timeouts.sendMs`. Default: 5. */
  readonly sendWaitTimeout?: number;
  /** `global_user_ctx`: `globalUserContext`. */
  readonly globalUserCtx?: unknown;
  /** `global_user_ctx_free_fn`: `globalUserContextFree`. */
  readonly globalUserCtxFreeFn?: (context: unknown) => void;
  /** `enable_so_linger`: whether `lingerTimeout` holds. Default: `false`, which waits for 2 seconds. */
  readonly enableSoLinger?: boolean;
  /** `linger_timeout`, in seconds: `timeouts.lingerMs`; needs `enableSoLinger: true`. */
  readonly lingerTimeout?: number;
  /** `keep_alive_enable`: `keepAlive`. Default: `false`. */
  readonly keepAliveEnable?: boolean;
  /** `keep_alive_idle`, in seconds: `keepAlive.idleMs`; needs `keepAliveEnable: true`. Default: 5. */
  readonly keepAliveIdle?: number;
  /** `uri_match_fn`: `uriMatch`. */
  readonly uriMatchFn?: UriMatcher;
  /** `servercert`: `cert`. */
  readonly servercert?: NonNullable<IdentityOptions["cert"]>;
  /** `prvtkey_pem`: `key`. */
  readonly prvtkeyPem?: KeySource;
  /** `server_key`: `key`. */
  readonly serverKey?: KeySource;
  /** `cacert_pem`: `clientAuth.ca`. */
  readonly cacertPem?: ClientAuthOptions["ca"];
  /** `client_cert_authmode_optional`: whether `clientAuth.mode` is `"optional"`. Default: `false`. */
  readonly clientCertAuthmodeOptional?: boolean;
  /** `port_secure`: `port` in secure mode. Default: 443. */
  readonly portSecure?: number;
  /** `port_insecure`: `port` in insecure mode. Default: 80. */
  readonly portInsecure?: number;
  /** `ssl_userdata`: `tlsUserData`. */
  readonly sslUserdata?: unknown;
  /** `cert_select_cb`: `certSelect`. */
  readonly certSelectCb?: CertSelect;
  /** `alpn_protos`: `alpnProtocols`. Default: none. */
  readonly alpnProtos?: readonly string[];
  /** `tls_handshake_timeout_ms`: `timeouts.handshakeMs`. 0 is the default. Default: 10,000. */
  readonly tlsHandshakeTimeoutMs?: number;
  /** `ciphersuites_list`: `ciphers`, by OpenSSL names. */
  readonly ciphersuitesList?: readonly string[];
}

const MOST_MS = 2 ** 31 - 1;
const seconds = number("a time in seconds", 0, Math.floor(MOST_MS / 1000));
const someSeconds = number("a time in seconds", 1, Math.floor(MOST_MS / 1000));
const port = number("a port", 0, 65535);
const toMs = (time: number) => time * 1000;

/** A number of which 0 means the default. */
const orDefault = (schema: v.GenericSchema<number>) =>
  v.pipe(schema, v.transform((value) => value === 0 ? undefined : value));

/** The members with an option of their own: where that is, and their check, which converts the unit. */
const RENAMED = {
  maxReqHdrLen: ["limits.maxHeaderBytes", orDefault(bytes(0))],
  maxUriLen: ["limits.maxUriBytes", orDefault(bytes(0))],
  maxOpenSockets: ["limits.maxConnections", count()],
  maxUriHandlers: ["limits.maxRoutes", count()],
  maxRespHeaders: ["limits.maxResponseFields", count(0)],
  backlogConn: ["limits.backlog", count(1, 65535)],
  lruPurgeEnable: ["limits.lruPurge", yesOrNo],
  recvWaitTimeout: ["timeouts.receiveMs", v.pipe(someSeconds, v.transform(toMs))],
  sendWaitTimeout: ["timeouts.sendMs", v.pipe(someSeconds, v.transform(toMs))],
  tlsHandshakeTimeoutMs: ["timeouts.handshakeMs", orDefault(number("a time in ms", 0, MOST_MS))],
  serverPort: ["port", port],
  globalUserCtx: ["globalUserContext", v.unknown()],
  globalUserCtxFreeFn: ["globalUserContextFree", callback()],
  uriMatchFn: ["uriMatch", callback()],
  servercert: ["cert", given("a certificate")],
  prvtkeyPem: ["key", given("a private key")],
  serverKey: ["key", given("a private key")],
  userCb: ["userCallback", callback()],
  sslUserdata: ["tlsUserData", v.unknown()],
  certSelectCb: ["certSelect", callback()],
  alpnProtos: ["alpnProtocols", ALPN_PROTOCOLS],
  ciphersuitesList: ["ciphers", CIPHER_NAMES],
} satisfies Record<string, [path: string, schema: v.GenericSchema<unknown>]>;

/** The members that make an option together. */
const COMBINED = {
  enableSoLinger: v.optional(yesOrNo),
  lingerTimeout: v.optional(seconds),
  keepAliveEnable: v.optional(yesOrNo),
  keepAliveIdle: v.optional(seconds),
  cacertPem: v.optional(given<ClientAuthOptions["ca"]>("the CA's certificate")),
  clientCertAuthmodeOptional: v.optional(yesOrNo),
  portSecure: v.optional(port),
  portInsecure: v.optional(port),
};

const SCHEMA = members({
  ...Object.fromEntries(
    Object.entries(RENAMED).map(([name, [, schema]]) => [name, v.optional(schema)]),
  ),
  ...COMBINED,
}, { shape: "an object" });

/** The names of the original that the profile takes. */
export const ESP_IDF_NAMES: readonly string[] = [
  ...Object.keys(RENAMED),
  ...Object.keys(COMBINED),
];

/** A member that was given, the option that it sets, and the option's value. */
type Move = readonly [member: string, path: string, value: unknown];

/**
 * Returns the options of a server with the profile as those of any other: without the original's
 * names, and with its defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the member
 */
export function fromEspIdf(options: object): object {
  const entries = Object.entries(withoutUndefined(options));
  const isOriginal = ([name]: [string, unknown]) => ESP_IDF_NAMES.includes(name);
  const given = checkOptions("", SCHEMA, Object.fromEntries(entries.filter(isOriginal)));
  const rest = Object.fromEntries(entries.filter((entry) => !isOriginal(entry)));
  const secure = rest.transportMode !== "insecure";
  const moved: Record<string, Map<string, unknown>> = {
    top: new Map(),
    limits: new Map(),
    timeouts: new Map(),
  };
  for (const [member, path, value] of movesOf(given, secure)) {
    if (value === undefined) continue;
    const [group, name] = path.includes(".") ? path.split(".") as [string, string] : ["top", path];
    const beside = group === "top" ? rest : rest[group];
    const isTwice = isPlain(beside) && (beside as Record<string, unknown>)[name] !== undefined;
    if (isTwice || moved[group]!.has(name)) {
      throw optionError("", member, `says the same as ${path}: give one of them`);
    }
    moved[group]!.set(name, value);
  }
  const defaults = defaultsOf(secure);
  return {
    alpnProtocols: [],
    http2: false,
    ...Object.fromEntries(moved.top!),
    ...rest,
    limits: over({ ...defaults.limits, ...Object.fromEntries(moved.limits!) }, rest.limits),
    timeouts: over({ ...defaults.timeouts, ...Object.fromEntries(moved.timeouts!) }, rest.timeouts),
  };
}

/** The options that the members set; `undefined` for what is not given. */
function* movesOf(given: v.InferOutput<typeof SCHEMA>, secure: boolean): Generator<Move> {
  for (const [member, [path]] of Object.entries(RENAMED)) {
    yield [member, path, (given as Record<string, unknown>)[member]];
  }
  yield ["lingerTimeout", "timeouts.lingerMs", lingerOf(given)];
  yield ["keepAliveEnable", "keepAlive", keepAliveOf(given)];
  yield secure
    ? ["portSecure", "port", given.portSecure]
    : ["portInsecure", "port", given.portInsecure];
  yield ["cacertPem", "clientAuth", clientAuthOf(given)];
}

/** The policy for client certificates. */
function clientAuthOf(
  { cacertPem, clientCertAuthmodeOptional }: v.InferOutput<typeof SCHEMA>,
): ClientAuthOptions | undefined {
  if (cacertPem !== undefined) {
    return { ca: cacertPem, mode: clientCertAuthmodeOptional ? "optional" : "required" };
  }
  if (!clientCertAuthmodeOptional) return undefined;
  throw optionError("", "clientCertAuthmodeOptional", "needs cacertPem: give it");
}

/** How long to linger; without the original's switch its time means nothing, and has to be 0. */
function lingerOf(
  { enableSoLinger, lingerTimeout = 0 }: v.InferOutput<typeof SCHEMA>,
): number | undefined {
  if (enableSoLinger && lingerTimeout === 0) {
    throw optionError(
      "",
      "enableSoLinger",
      "needs lingerTimeout: give 1 second or more, or close single sessions with destroy()",
    );
  }
  if (!enableSoLinger && lingerTimeout !== 0) {
    throw optionError("", "lingerTimeout", "needs enableSoLinger: true");
  }
  return enableSoLinger ? lingerTimeout * 1000 : undefined;
}

/** The probes; without the original's switch their time means nothing, and has to be 0. */
function keepAliveOf(
  { keepAliveEnable, keepAliveIdle = 0 }: v.InferOutput<typeof SCHEMA>,
): false | { readonly idleMs: number } | undefined {
  if (!keepAliveEnable && keepAliveIdle !== 0) {
    throw optionError("", "keepAliveIdle", "needs keepAliveEnable: true");
  }
  return keepAliveEnable ? { idleMs: (keepAliveIdle || 5) * 1000 } : keepAliveEnable;
}

/** The values of `HTTPD_DEFAULT_CONFIG()` and `HTTPD_SSL_CONFIG_DEFAULT()`. */
function defaultsOf(secure: boolean) {
  return {
    limits: {
      maxConnections: secure ? 4 : 7,
      lruPurge: secure,
      maxRoutes: 8,
      maxResponseFields: 8,
      backlog: 5,
      maxQueuedWork: 6,
      maxUriBytes: 512,
      maxHeaderBytes: 1_024,
    },
    timeouts: { receiveMs: 5_000, sendMs: 5_000, handshakeMs: 10_000, idleMs: Infinity },
  };
}

/**
 * Merges a group over its defaults; a value that is not a group is left for the later check to
 * refuse.
 */
function over(defaults: object, group: unknown): unknown {
  if (group === undefined) return defaults;
  return isPlain(group) ? { ...defaults, ...withoutUndefined(group) } : group;
}
