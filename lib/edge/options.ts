/**
 * The checks of an edge app's options: those of a server that mean something without sockets, and
 * its own.
 *
 * @module
 */
import * as v from "valibot";
import type { HttpsServerOptions } from "../config.ts";
import type { HttpsdError } from "../errors.ts";
import type { Session } from "../http/session.ts";
import type { Http2Options } from "../http2/options.ts";
import { responseFields, uriMatch } from "../httpd/route.ts";
import {
  type ServerLimits,
  type ServerTimeouts,
  SHARED_LIMITS,
  SHARED_TIMEOUTS,
} from "../limits.ts";
import {
  type Advice,
  adviceFrom,
  adviceInGroup,
  callback,
  checkOptions,
  members,
  type MembersWords,
  oneOf,
} from "../options.ts";
import type { ForwardedField } from "./forwarded.ts";

/** The options of a server that mean something without sockets, with the defaults of a server. */
export interface SharedOptions extends Pick<HttpsServerOptions, "uriMatch" | "responseFields"> {
  /** How many, and how large. */
  readonly limits?: Pick<ServerLimits, "maxBodyBytes" | "maxResponseFields" | "maxRoutes">;
  /** For how long. */
  readonly timeouts?: Pick<ServerTimeouts, "handlerMs">;
}

/** The options of {@linkcode createEdgeApp}. */
export interface EdgeOptions extends SharedOptions {
  /**
   * Takes the client's certificate from this field, as `session.tls.peerCertificate`, `authorized`.
   * Name it only where every request comes through a proxy that verifies certificates and removes
   * or replaces what a client sends in the field. Default: no field is trusted.
   */
  readonly trustForwardedCertificates?: ForwardedField;
  /**
   * Called with the error of a handler that fails or a request that is refused. Default:
   * `console.error`.
   */
  readonly reportError?: (error: HttpsdError, session: Session) => void;
}

/** Names of other servers that mean something here; advice on all would be a tenth of an app. */
export const EDGE_NAMES: Readonly<Record<string, string>> = {
  handler: "give the handler as second argument, createEdgeApp(options, handler)",
  fetch: "give the handler as second argument, createEdgeApp(options, handler)",
  onError: "write app.onError(handler)",
  error: "write app.onError(handler)",
  headers: "write responseFields",
  routes: "write app.route({ uri, method, handler }) for each",
  static: "write app.route() for each",
  maxRequestBodySize: "write limits: { maxBodyBytes }",
  timeout: "write timeouts: { handlerMs }",
  handlerTimeoutMs: "write timeouts: { handlerMs }",
  maxUriHandlers: "write limits: { maxRoutes }",
  maxRespHeaders: "write limits: { maxResponseFields }",
};

const advice = adviceFrom(EDGE_NAMES);

const GROUPS = { limits: Object.keys(SHARED_LIMITS), timeouts: Object.keys(SHARED_TIMEOUTS) };

/**
 * The names of a server's options that an edge app has not: all of them, or this does not compile. A
 * list of names is smaller than their checks, which come with sockets.
 */
const OF_SERVERS: Record<
  Exclude<
    keyof HttpsServerOptions | keyof ServerLimits | keyof ServerTimeouts | keyof Http2Options,
    | keyof EdgeOptions
    | keyof NonNullable<EdgeOptions["limits"]>
    | keyof NonNullable<EdgeOptions["timeouts"]>
  >,
  0
> = {
  allowExpired: 0,
  alpnProtocols: 0,
  backlog: 0,
  bus: 0,
  busMs: 0,
  cacert: 0,
  cert: 0,
  certSelect: 0,
  certificates: 0,
  ciphers: 0,
  clientAuth: 0,
  clientResets: 0,
  closeFn: 0,
  connectionWindowBytes: 0,
  controlFrames: 0,
  drainMs: 0,
  earlyData: 0,
  ecdsaKeyEfuseBlk: 0,
  expiryNoticeDays: 0,
  fd: 0,
  globalUserContext: 0,
  globalUserContextFree: 0,
  handshakeMs: 0,
  headerTableBytes: 0,
  headersMs: 0,
  hostname: 0,
  http1: 0,
  http2: 0,
  identities: 0,
  idleMs: 0,
  keepAlive: 0,
  key: 0,
  lingerMs: 0,
  lruPurge: 0,
  maxBusBufferBytes: 0,
  maxBusMessageBytes: 0,
  maxChunkExtBytes: 0,
  maxConcurrentStreams: 0,
  maxConnectionAgeMs: 0,
  maxConnections: 0,
  maxConnectionsPerAddress: 0,
  maxContinuations: 0,
  maxDiscardedBytes: 0,
  maxFrameBytes: 0,
  maxHandshakes: 0,
  maxHeaderBytes: 0,
  maxHeaderFields: 0,
  maxQueuedWork: 0,
  maxRequestsPerConnection: 0,
  maxSettings: 0,
  maxTrailerBytes: 0,
  maxUnreadBytes: 0,
  maxUnsentBytes: 0,
  maxUnsentControlBytes: 0,
  maxUriBytes: 0,
  maxVersion: 0,
  minBodyBytesPerSecond: 0,
  minVersion: 0,
  ocspStapling: 0,
  openFn: 0,
  passphrase: 0,
  path: 0,
  pathMode: 0,
  pfx: 0,
  port: 0,
  profile: 0,
  proxyProtocol: 0,
  receiveMs: 0,
  redirectHttp: 0,
  requestMs: 0,
  reusePort: 0,
  sendMs: 0,
  serverResets: 0,
  sessionTicketKeys: 0,
  sessionTickets: 0,
  settingsMs: 0,
  signal: 0,
  streamWindowBytes: 0,
  strictSni: 0,
  tlsUserData: 0,
  tlsVersion: 0,
  transportMode: 0,
  useEcdsaPeripheral: 0,
  useSecureElement: 0,
  userCallback: 0,
  verifyClient: 0,
  watch: 0,
  watchIntervalMs: 0,
};

const ofSockets: Advice = (name) =>
  Object.hasOwn(OF_SERVERS, name)
    ? "is not known to edge apps: it is for servers with sockets, leave it out"
    : advice(name);

const inGroup: MembersWords = {
  advice: adviceInGroup(GROUPS, (name) => Object.hasOwn(ENTRIES, name), ofSockets),
  shape: "an object of options",
};

const ENTRIES = {
  uriMatch,
  responseFields,
  limits: v.optional(members(SHARED_LIMITS, inGroup), {}),
  timeouts: v.optional(members(SHARED_TIMEOUTS, inGroup), {}),
  trustForwardedCertificates: v.optional(oneOf("client-cert", "x-forwarded-client-cert")),
  reportError: v.optional(
    callback<(error: HttpsdError, session: Session) => void>(),
    () => console.error,
  ),
};

const SCHEMA = members(ENTRIES, { advice: ofSockets, groups: GROUPS });

/** An edge app's options, with all defaults in. */
export type EdgeConfig = v.InferOutput<typeof SCHEMA>;

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function resolveEdgeConfig(options: EdgeOptions): EdgeConfig {
  return checkOptions("createEdgeApp()", SCHEMA, options);
}
