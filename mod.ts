/**
 * httpsd: the HTTPS server for Deno and Bun that keeps the connection in its user's hands.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 *
 * const server = await serve({ cert, key, port: 8443 }, (request, { session }) =>
 *   new Response(`hello ${session.tls?.peerCertificate?.subject ?? "stranger"}`));
 * ```
 *
 * @module
 */
export {
  type Capabilities,
  capabilities,
  type InternalState,
  type RuntimeName,
} from "./lib/runtime/capabilities.ts";
export type {
  EspIdfServerOptions,
  HttpsServerOptions,
  ProxyProtocolOptions,
  ReloadOptions,
  TlsSessionChange,
  TlsVersion,
  TransportMode,
} from "./lib/config.ts";
export { type ConnectionInfo, connectionInfo } from "./lib/fetch/connection_info.ts";
export * from "./lib/errors.ts";
export type { EspIdfOptions } from "./lib/httpd/esp_idf_options.ts";
export type { BudgetSize } from "./lib/http2/budgets.ts";
export type { Http2Options } from "./lib/http2/options.ts";
export type { ServerLimits, ServerTimeouts } from "./lib/limits.ts";
export {
  type BusGapEvent,
  type BusStateEvent,
  type CertificateFailedEvent,
  type DataEvent,
  type DisconnectedEvent,
  EVENT_IDS,
  type ExchangeEvent,
  type FailurePlace,
  type IdentityEvent,
  type ServerErrorEvent,
  type ServerEvent,
  type ServerEventListener,
  type ServerEventMap,
  type ServerEventType,
  type SessionEvent,
  type WebSocketEvent,
} from "./lib/events.ts";
export type {
  ExchangeEnd,
  ExchangeObservation,
  ExchangeObserver,
  ExchangeReport,
} from "./lib/http/exchange_report.ts";
export type { TraceContext } from "./lib/http/trace_context.ts";
export type {
  CertificateStats,
  CountsByCode,
  RenewalStats,
  ServerStats,
} from "./lib/http/server_stats.ts";
export type { HttpVersion } from "./lib/http/request_head.ts";
export type { Trailers } from "./lib/http/body.ts";
export type { FetchApp, FetchHandler, RequestInfo } from "./lib/fetch/fetch_handler.ts";
export type { ErrorHandler, Middleware } from "./lib/httpd/face.ts";
export { matchExact, matchWildcard, type UriMatcher } from "./lib/httpd/matcher.ts";
export type { HttpdRequest } from "./lib/httpd/request.ts";
export type { CookieOptions } from "./lib/httpd/set_cookie.ts";
export type { Fields } from "./lib/http/response_rules.ts";
export type { HandlerRoute, RouteHandler } from "./lib/httpd/route.ts";
export type { Route, WebSocketRoute } from "./lib/websocket/route.ts";
export type {
  BusGap,
  BusGapReason,
  BusState,
  BusStateListener,
  BusStatus,
  ClusterBus,
} from "./lib/websocket/cluster/bus.ts";
export type { Session, SessionState } from "./lib/http/session.ts";
export type { ByteStreams } from "./lib/net/wire.ts";
export type { Connection } from "./lib/net/connection.ts";
export type { ProxyEndpoint, ProxyHeader, ProxySsl, ProxyTlv } from "./lib/net/proxy_protocol.ts";
export type { Endpoints } from "./lib/endpoints.ts";
export type { GatePhase } from "./lib/net/admission.ts";
export type { Address } from "./lib/net/listener.ts";
export { type InheritedSocket, inheritedSockets } from "./lib/inherited_sockets.ts";
export type {
  ConnectionCounters,
  ServerHandle,
  ServerState,
  StopOptions,
} from "./lib/http/server_handle.ts";
export { redirectServer, type RedirectServerOptions } from "./lib/redirect.ts";
export { HttpsServer, serve } from "./lib/server.ts";
export {
  type CertSelect,
  type CertSelection,
  type ContextSelection,
  type HandshakeInfo,
  type RefusalAlert,
  refuse,
  type Refused,
} from "./lib/tls/cert_select.ts";
export type { KeyType } from "./lib/tls/certificate.ts";
export type {
  CertificateFailure,
  CertificateRenewal,
  CertificateSource,
  ChallengeAnswer,
  SourceAnswer,
  SourceReports,
  SourceSelection,
} from "./lib/tls/certificate_source.ts";
export { ClientAuth, loadClientAuth } from "./lib/tls/client_auth.ts";
export { type ClientHello, tlsVersionName } from "./lib/tls/client_hello.ts";
export { loadIdentity } from "./lib/tls/load_identity.ts";
export type { Identity } from "./lib/tls/loaded_identity.ts";
export type { ClientAuthOptions, HostOptions, IdentityOptions } from "./lib/tls/options.ts";
export type { PeerCertificate } from "./lib/tls/peer_certificate.ts";
export type { KeyMaterial, KeyProvider, KeySource } from "./lib/tls/private_key.ts";
export type { PemOrDer, Source } from "./lib/tls/source.ts";
export type { TlsInfo } from "./lib/tls/tls_info.ts";
