/**
 * The options of a server, their defaults and their checks. A configuration is a frozen copy: the
 * caller's object is never changed and never read again. The file is one thing, and long because it
 * has each option three times: its documentation, its default, its check. What counts or times is in
 * limits.ts.
 *
 * @module
 */
import { servedNames } from "./alpn.ts";
import * as v from "valibot";
import { capabilities } from "./runtime/capabilities.ts";
import { ConfigError, type HttpsdError } from "./errors.ts";
import { HOST_NAMES, serverNames } from "./foreign_names.ts";
import { ESP_IDF_NAMES, type EspIdfOptions, fromEspIdf } from "./httpd/esp_idf_options.ts";
import type { UriMatcher } from "./httpd/matcher.ts";
import { responseFields, uriMatch } from "./httpd/route.ts";
import { HTTP2_NAMES, HTTP2_OPTION, type Http2Config, type Http2Options } from "./http2/options.ts";
import type { Session } from "./http/session.ts";
import { LIMITS, type ServerLimits, type ServerTimeouts, TIMEOUTS } from "./limits.ts";
import {
  type Advice,
  adviceFrom,
  adviceInGroup,
  checkOptions,
  duration,
  either,
  flag,
  given,
  hook,
  isPlain,
  members,
  type MembersWords,
  milliseconds,
  number,
  oneOf,
  optionError,
  withoutUndefined,
  yesOrNo,
} from "./options.ts";
import { runtime } from "./runtime/current.ts";
import type { CertSelect } from "./tls/cert_select.ts";
import type { CertificateSource } from "./tls/certificate_source.ts";
import { assertServed } from "./tls/served.ts";
import {
  ALPN_PROTOCOLS,
  CIPHER_NAMES,
  CLIENT_AUTH,
  type ClientAuthOptions,
  type HostOptions,
  IDENTITY_ENTRIES,
  type IdentityOptions,
  type WrittenClientAuth,
} from "./tls/options.ts";
import type { PeerCertificate } from "./tls/peer_certificate.ts";
import type { TlsInfo } from "./tls/tls_info.ts";
import { type ClusterBus, isBus } from "./websocket/cluster/bus.ts";

/** With TLS or without (original: `httpd_ssl_transport_mode_t`). */
export type TransportMode = "secure" | "insecure";

/** A TLS version that can be served. */
export type TlsVersion = "TLSv1.2" | "TLSv1.3";

/** What {@linkcode HttpsServerOptions.userCallback} is called with. */
export interface TlsSessionChange {
  /** The session begins, ends, or never came to be (original: `HTTPD_SSL_USER_CB_SESS_*`). */
  readonly state: "create" | "close" | "error";
  /** The session; `undefined` in state `"error"`. */
  readonly session: Session | undefined;
  /** The handshake's facts; `undefined` in state `"error"`. */
  readonly tls: TlsInfo | undefined;
  /** Why there is no session; `undefined` in the other states. */
  readonly error: HttpsdError | undefined;
  /** The client's address. */
  readonly remoteAddress: string;
  /** The option `tlsUserData` (original: `ssl_userdata`). */
  readonly tlsUserData: unknown;
}

/** Which peers speak the PROXY protocol, versions 1 and 2. */
export interface ProxyProtocolOptions {
  /** The addresses of the proxies, as CIDR blocks or single addresses; `"unix:"`: any on a UNIX socket. */
  readonly trustedProxies: readonly string[];
  /**
   * `"required"`: every connection must come from a trusted proxy, with a header. `"optional"`:
   * a trusted proxy may leave it out, and others connect directly. Default: `"required"`.
   */
  readonly mode?: "required" | "optional";
}

/** The options that {@linkcode HttpsServer.reload} can change while the server runs. */
export interface ReloadOptions extends IdentityOptions {
  /** Certificates for names, besides the default one. Default: none. */
  readonly identities?: readonly HostOptions[];
  /** The issuers of client certificates; `null`: none is requested. Default: none is requested. */
  readonly clientAuth?: ClientAuthOptions | null;
  /** Short for `clientAuth: { ca, mode: "required" }` (original: `cacert_pem`). Default: none. */
  readonly cacert?: ClientAuthOptions["ca"];
}

/**
 * The options of `serve()` and of `HttpsServer`. Times are in ms, sizes in bytes. A default that
 * names no other server is httpsd's own.
 */
export interface HttpsServerOptions extends ReloadOptions {
  /** The name or address to listen on, IPv6 with or without brackets. Default: every address of this machine. */
  readonly hostname?: string;
  /** The port; 0 lets the system choose. Default: 443, or 80 in insecure mode, as in ESP-IDF. */
  readonly port?: number;
  /**
   * Whether other processes of this user, and other servers of this one, may listen on the same
   * port with this option (`SO_REUSEPORT`): Linux shares new connections out among them.
   * Default: `false`.
   */
  readonly reusePort?: boolean;
  /**
   * Listens on a UNIX socket in place of a hostname and port. What a dead process has left there is
   * replaced; a live one's is `ADDRESS_IN_USE`. It is removed when the server stops. Default: none.
   */
  readonly path?: string;
  /** The permissions of `path`, such as `0o660`. Default: by the process's umask. */
  readonly pathMode?: number;
  /**
   * Listens on the socket that has this descriptor, which another program has opened, in place of a
   * hostname and port: {@linkcode inheritedSockets} has those of systemd. Default: none.
   */
  readonly fd?: number;
  /**
   * `"insecure"` serves plain HTTP, with everything else the same. Default: `"secure"`, as in
   * ESP-IDF.
   */
  readonly transportMode?: TransportMode;
  /**
   * Whether plain HTTP on the port for TLS is sent to HTTPS (308) rather than answered 400: GET and
   * HEAD, for the names and addresses of the certificates. Default: `false`.
   */
  readonly redirectHttp?: boolean;
  /**
   * The application protocols spoken (ALPN), in order of preference. Default:
   * `["h2", "http/1.1"]`, without what `http2` or `http1` turns off.
   */
  readonly alpnProtocols?: readonly string[];
  /** Whether HTTP/2 is served, with its limits. Default: `true`. */
  readonly http2?: boolean | Http2Options;
  /** Whether HTTP/1.1 is served. Default: `true`. */
  readonly http1?: boolean;
  /**
   * Only this TLS version (original: `tls_version`); short for `minVersion` and `maxVersion`.
   * Default: none.
   */
  readonly tlsVersion?: TlsVersion;
  /** The oldest TLS version. Default: `"TLSv1.2"`, as in Node. */
  readonly minVersion?: TlsVersion;
  /** The newest TLS version. Default: `"TLSv1.3"`, as in Node. */
  readonly maxVersion?: TlsVersion;
  /**
   * The cipher suites up to TLS 1.2, by OpenSSL names (original: `ciphersuites_list`). Bun only.
   * Default: Mozilla's intermediate list, which is what Deno always serves.
   */
  readonly ciphers?: readonly string[];
  /** Whether sessions may be resumed with tickets. `false` on Bun only. Default: `true`, as in Node. */
  readonly sessionTickets?: boolean;
  /**
   * A source of certificates, such as `automaticCertificates()`: asked for each ClientHello, before
   * `certSelect`. In insecure mode it answers its challenges by HTTP. Default: none.
   */
  readonly certificates?: CertificateSource;
  /** Chooses a certificate for each ClientHello (original: `cert_select_cb`). Default: none. */
  readonly certSelect?: CertSelect;
  /** Refuse, with alert unrecognized_name, names that no identity is for. Default: `false`. */
  readonly strictSni?: boolean;
  /** Any value to pass to the hooks (original: `ssl_userdata`). Default: none. */
  readonly tlsUserData?: unknown;
  /**
   * Asked about each certificate that was verified, after the handshake and before anything is
   * read, as for revocation. Only `true` lets the client in; anything else, or a throw, cuts the
   * connection. Default: none.
   */
  readonly verifyClient?: (
    certificate: PeerCertificate,
    session: Session,
  ) => boolean | Promise<boolean>;
  /** Called when a TLS session begins, ends, or fails (original: `user_cb`). Default: none. */
  readonly userCallback?: (change: TlsSessionChange) => void;
  /**
   * Asked about each new session, before anything is read. Only `true` lets it in, as `ESP_OK` does
   * in the original's `open_fn`; anything else, or a throw, cuts the connection. Default: none.
   */
  readonly openFn?: (session: Session) => boolean | Promise<boolean>;
  /** Called when a session that `openFn` let in is over (original: `close_fn`). Default: none. */
  readonly closeFn?: (session: Session, error: HttpsdError | undefined) => void;
  /** Follow certificate files that change on disk. Default: `false`. */
  readonly watch?: boolean;
  /** How often watched files are looked at. Default: 5,000. */
  readonly watchIntervalMs?: number;
  /**
   * How many days before a certificate expires the event `expiring` comes. Default: 14 days, or a third
   * of its lifetime where that is less.
   */
  readonly expiryNoticeDays?: number;
  /** Not supported by any runtime: keys of session tickets that several machines share. */
  readonly sessionTicketKeys?: Uint8Array;
  /** Not supported by any runtime: OCSP answers stapled to the certificate (RFC 6066). */
  readonly ocspStapling?: boolean;
  /** Not supported by any runtime: requests in early data (RFC 8470). */
  readonly earlyData?: boolean;
  /** Not supported: there is no secure element here. Give a `KeyProvider` as `key` instead. */
  readonly useSecureElement?: boolean;
  /** Not supported: there is no ECDSA peripheral here. Give a `KeyProvider` as `key` instead. */
  readonly useEcdsaPeripheral?: boolean;
  /** Not supported: there are no eFuses here. Give a `KeyProvider` as `key` instead. */
  readonly ecdsaKeyEfuseBlk?: number;
  /** Read PROXY headers from these peers. Default: from no peer. */
  readonly proxyProtocol?: ProxyProtocolOptions;
  /**
   * TCP keep-alive probes, the first after `idleMs` (original: `keep_alive_enable`). Default:
   * `false`, as in ESP-IDF and Node.
   */
  readonly keepAlive?: boolean | { readonly idleMs: number };
  /**
   * Connects the WebSockets of this server with those of other processes and hosts: what
   * `broadcast()` and `publish()` send reaches theirs too. Default: none.
   */
  readonly bus?: ClusterBus;
  /** How many, how large and how fast. */
  readonly limits?: ServerLimits;
  /** For how long. */
  readonly timeouts?: ServerTimeouts;
  /**
   * `"esp-idf"`: the defaults of the original, to the number, and its names of options, which
   * {@linkcode EspIdfServerOptions} lists. See docs/esp-idf.md. Default: none.
   */
  readonly profile?: "esp-idf";
  /** What handlers share, as `server.context` (original: `global_user_ctx`). Default: none. */
  readonly globalUserContext?: unknown;
  /**
   * Called with `globalUserContext` when the server has stopped (original:
   * `global_user_ctx_free_fn`). Default: none.
   */
  readonly globalUserContextFree?: (context: unknown) => void;
  /** How route templates are compared with paths. Default: {@linkcode matchExact}, as in ESP-IDF. */
  readonly uriMatch?: UriMatcher;
  /**
   * Fields of every answer, by name, such as `Strict-Transport-Security`: in every version of HTTP,
   * those of errors and of requests that could not be read included, but not interim answers, the 101
   * of WebSockets, and `sendRaw()`. An answer that has the field itself keeps its own; `Set-Cookie`
   * and `Vary` are added. Default: none.
   */
  readonly responseFields?: Readonly<Record<string, string>>;
  /** Stops the server when it is aborted, as in `Deno.serve`. Default: none. */
  readonly signal?: AbortSignal;
}

/**
 * The options of a server with `profile: "esp-idf"`, which also takes the names of the original's
 * structures in camelCase, in their units.
 */
export interface EspIdfServerOptions extends HttpsServerOptions, EspIdfOptions {
  /** The original's defaults and names. */
  readonly profile: "esp-idf";
  /** `user_cb`: `userCallback`. */
  readonly userCb?: (change: TlsSessionChange) => void;
}

const version = v.optional(oneOf("TLSv1.2", "TLSv1.3"));

/** An option for what no runtime can do: only its neutral value passes. */
const unsupported = <T>(schema: v.GenericSchema<T>, neutral: T, why: string) =>
  v.optional(v.pipe(
    schema,
    v.check((value) => value === neutral, `is not supported on ${runtime.name}, ${why}`),
  ));

const hardware = <T>(schema: v.GenericSchema<T>, neutral: T) =>
  unsupported(schema, neutral, "there is no such hardware here: give a KeyProvider as key");

/** Names of others, wherever they are written. */
const advice = adviceFrom(serverNames);

const clientAuth = v.nullish(CLIENT_AUTH);

const host = v.pipe(
  members({
    ...IDENTITY_ENTRIES,
    names: v.optional(v.array(v.string("must be names"), "must be an array of names")),
    alpnProtocols: v.optional(ALPN_PROTOCOLS),
    clientAuth,
  }, { advice: adviceFrom(serverNames, HOST_NAMES) }),
  v.transform((options) => options as HostOptions), // undefined counts as left out
);

const RELOADABLE = {
  ...IDENTITY_ENTRIES,
  identities: v.optional(v.array(host, "must be an array of { cert, key, names, … }"), []),
  clientAuth,
  cacert: v.optional(given<ClientAuthOptions["ca"]>("the CA's certificate")),
};

/** The groups of options, with the names in each. */
export const GROUPS = {
  limits: Object.keys(LIMITS),
  timeouts: Object.keys(TIMEOUTS),
  http2: HTTP2_NAMES,
};

const inGroup = {
  advice: adviceInGroup(GROUPS, isServerOption, advice),
  shape: "an object of options",
};

const ENTRIES = {
  ...RELOADABLE,
  hostname: v.optional(
    v.pipe(
      v.string("must be a name or address"),
      v.nonEmpty("must not be empty"),
      v.regex(/^[^/]*$/, "must be a name or address alone, without https:// or a path"),
      v.transform((hostname) => /^\[(.*)\]$/.exec(hostname)?.[1] ?? hostname),
    ),
  ),
  port: v.optional(number("a port", 0, 65535)),
  reusePort: flag(false),
  path: v.optional(
    v.pipe(
      v.string("must be the path of a socket"),
      v.nonEmpty("must not be empty"),
      v.regex(/^[^\0]*$/, "must be the path of a socket, without null characters"),
    ),
  ),
  pathMode: v.optional(number("permissions such as 0o660", 0, 0o777)),
  fd: v.optional(number("a file descriptor", 0, 2 ** 31 - 1)),
  transportMode: v.optional(oneOf("secure", "insecure"), "secure"),
  redirectHttp: flag(false),
  alpnProtocols: v.optional(ALPN_PROTOCOLS),
  http2: v.optional(HTTP2_OPTION, true),
  http1: flag(true),
  tlsVersion: version,
  minVersion: version,
  maxVersion: version,
  ciphers: v.optional(CIPHER_NAMES),
  sessionTickets: flag(true),
  certificates: v.optional(
    v.custom<CertificateSource>(
      isSource,
      "must be a source of certificates: give what automaticCertificates() returned, or an object " +
        "with select() and covers()",
    ),
  ),
  certSelect: hook<CertSelect>(),
  strictSni: flag(false),
  tlsUserData: v.optional(v.unknown()),
  verifyClient: hook<NonNullable<HttpsServerOptions["verifyClient"]>>(),
  userCallback: hook<NonNullable<HttpsServerOptions["userCallback"]>>(),
  openFn: hook<NonNullable<HttpsServerOptions["openFn"]>>(),
  closeFn: hook<NonNullable<HttpsServerOptions["closeFn"]>>(),
  watch: flag(false),
  watchIntervalMs: duration(5_000),
  expiryNoticeDays: v.optional(number("a count of days", 0, 365)),
  sessionTicketKeys: unsupported(
    v.unknown(),
    undefined,
    "its tickets are for this process only: leave it out",
  ),
  ocspStapling: unsupported(yesOrNo, false, "its TLS cannot staple: leave it out"),
  earlyData: unsupported(yesOrNo, false, "its TLS takes none: leave it out"),
  useSecureElement: hardware(yesOrNo, false),
  useEcdsaPeripheral: hardware(yesOrNo, false),
  ecdsaKeyEfuseBlk: hardware(v.number("must be a number"), 0),
  proxyProtocol: v.optional(members({
    trustedProxies: v.array(v.string("must be addresses"), "must be an array of addresses"),
    mode: v.optional(oneOf("required", "optional"), "required"),
  })),
  keepAlive: v.optional(
    either<boolean, { idleMs: number }>(
      (value) => typeof value === "boolean",
      yesOrNo,
      members({ idleMs: milliseconds() }, { shape: "true, false or { idleMs }" }),
    ),
    false,
  ),
  bus: v.optional(
    v.custom<ClusterBus>(
      isBus,
      "must be a bus, as redisBus(client) and natsBus(connection) of @httpsd/httpsd/bus make one",
    ),
  ),
  profile: v.optional(oneOf("esp-idf")),
  limits: v.optional(members(LIMITS, inGroup), {}),
  timeouts: v.optional(members(TIMEOUTS, inGroup), {}),
  uriMatch,
  responseFields,
  globalUserContext: v.optional(v.unknown()),
  globalUserContextFree: hook<(context: unknown) => void>(),
  signal: v.optional(
    v.custom<AbortSignal>((value) => value instanceof AbortSignal, "must be an AbortSignal"),
  ),
};

const WORDS: MembersWords = { advice, shape: "an object", groups: GROUPS };
const SCHEMA = members(ENTRIES, WORDS);
const ESP_IDF_SCHEMA = members(ENTRIES, { ...WORDS, others: ESP_IDF_NAMES });

function isSource(value: unknown): boolean {
  const { select, covers } = Object(value) as Partial<CertificateSource>;
  return typeof select === "function" && typeof covers === "function";
}

/** Whether a server has an option of this name. */
function isServerOption(name: string): boolean {
  return Object.hasOwn(ENTRIES, name);
}

const fixed: Advice = (name) =>
  isServerOption(name)
    ? "cannot be reloaded: it is set once, when the server is made"
    : advice(name);

const RELOAD_SCHEMA = members(RELOADABLE, { advice: fixed, shape: "an object" });

/** Options with all defaults in. */
export type Config =
  & Omit<Readonly<v.InferOutput<typeof SCHEMA>>, "cacert" | "clientAuth">
  & { readonly clientAuth: WrittenClientAuth | null | undefined }
  & {
    readonly port: number;
    readonly minVersion: TlsVersion;
    readonly maxVersion: TlsVersion;
    readonly alpnProtocols: readonly string[];
    readonly http2: Http2Config | false;
  };

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, the value and what is allowed;
 * `NOT_SUPPORTED` naming the option and the runtime that cannot do it
 */
export function resolveConfig(options: HttpsServerOptions): Config {
  const esp = isPlain(options) && options.profile === "esp-idf";
  const output = esp
    ? checkOptions("", ESP_IDF_SCHEMA, fromEspIdf(options))
    : checkOptions("", SCHEMA, withoutUndefined(options));
  assertSupported(output);
  assertOnePlace(output);
  if (output.redirectHttp && output.transportMode === "insecure") {
    throw optionError("", "redirectHttp", "is for a port that speaks TLS: leave it out");
  }
  const served = { http1: output.http1, http2: output.http2 !== false };
  if (!served.http1 && !served.http2) {
    throw optionError("", "http1", "is false, and http2 too: leave one of them out");
  }
  for (const { alpnProtocols } of [output, ...output.identities]) {
    assertServed(alpnProtocols, served);
  }
  const { tlsVersion, minVersion = tlsVersion, maxVersion = tlsVersion } = output;
  const config = {
    ...output,
    port: output.port ?? (output.transportMode === "secure" ? 443 : 80),
    alpnProtocols: output.alpnProtocols ?? servedNames(served),
    clientAuth: policyOf("", output),
    minVersion: minVersion ?? "TLSv1.2",
    maxVersion: maxVersion ?? "TLSv1.3",
    limits: Object.freeze(output.limits),
    timeouts: Object.freeze(output.timeouts),
    http2: output.http2 && Object.freeze(output.http2),
  };
  if (config.minVersion > config.maxVersion) {
    throw optionError(
      "",
      "minVersion",
      `is ${config.minVersion}: it must not be newer than maxVersion`,
    );
  }
  return Object.freeze(config);
}

/** The options of a reload, checked. */
export type ReloadConfig =
  & Omit<Readonly<v.InferOutput<typeof RELOAD_SCHEMA>>, "cacert" | "clientAuth">
  & Pick<Config, "clientAuth">;

/**
 * Checks the options of a reload; what is left out is `undefined`, except `identities`.
 *
 * @throws {ConfigError} as {@linkcode resolveConfig}; `INVALID_CONFIG` for an option of the server
 * that cannot change
 */
export function resolveReload(options: ReloadOptions): ReloadConfig {
  const output = checkOptions("reload()", RELOAD_SCHEMA, withoutUndefined(options));
  return { ...output, clientAuth: policyOf("reload()", output) };
}

/** The one policy that two options can say, with the name of the one that was written. */
function policyOf(
  callee: string,
  { cacert, clientAuth }: Pick<v.InferOutput<typeof RELOAD_SCHEMA>, "cacert" | "clientAuth">,
): WrittenClientAuth | null | undefined {
  if (cacert === undefined) return clientAuth;
  if (clientAuth) {
    throw optionError(callee, "cacert", "says the same as clientAuth: give one of them");
  }
  return { ca: cacert, mode: "required", option: "cacert" };
}

/** Refuses what this runtime would have to ignore. */
function assertSupported(options: v.InferOutput<typeof SCHEMA>): void {
  const { name } = runtime;
  if (options.ciphers !== undefined && !capabilities.ciphers) {
    throw notSupported("ciphers", `${name} serves a fixed list of cipher suites: leave it out`);
  }
  if (!options.sessionTickets && !capabilities.sessionTicketsOff) {
    throw notSupported("sessionTickets", `${name} cannot turn them off: leave it out`);
  }
  for (const [option, works] of [["path", "unixSockets"], ["fd", "inheritedSockets"]] as const) {
    if (options[option] === undefined || capabilities[works]) continue;
    throw notSupported(option, "this system has no such sockets: leave it out");
  }
  if (options.reusePort && !capabilities.reusePort) {
    throw notSupported("reusePort", "only Linux shares a port out: leave it out");
  }
}

/** Refuses a second place to listen, which would be ignored. */
function assertOnePlace(options: v.InferOutput<typeof SCHEMA>): void {
  const { hostname, port, path, pathMode, fd, reusePort } = options;
  if (pathMode !== undefined && path === undefined) {
    throw optionError("", "pathMode", "is for the option path: give that too");
  }
  const chosen = fd !== undefined ? "fd" : path !== undefined ? "path" : undefined;
  if (chosen === undefined) return;
  const others = { hostname, port, reusePort: reusePort || undefined, path };
  for (const [name, value] of Object.entries(others)) {
    if (value === undefined || name === chosen) continue;
    throw optionError(
      "",
      name,
      `is given beside ${chosen}, and says another place to listen: leave it out`,
    );
  }
}

function notSupported(option: string, why: string): ConfigError {
  return new ConfigError("NOT_SUPPORTED", `Option ${option}: ${why}`);
}
