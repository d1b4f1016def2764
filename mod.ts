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
export * from "./lib/errors.ts";
export * from "./lib/events.ts";
export type { HttpsServerOptions, TransportMode } from "./lib/config.ts";
export type { Connection, Endpoints } from "./lib/net/connection.ts";
export type { Address } from "./lib/net/listener.ts";
export type { IdentityOptions, PemOrDer } from "./lib/tls/identity.ts";
export type { PeerCertificate, TlsInfo } from "./lib/tls/tls_info.ts";
export type { ErrorHandler, FetchHandler, RequestInfo } from "./lib/httpd/dispatcher.ts";
export { matchExact, matchWildcard, type UriMatcher } from "./lib/httpd/matcher.ts";
export type { HttpdRequest } from "./lib/httpd/request.ts";
export type { HandlerRoute, Route, RouteHandler, WebSocketRoute } from "./lib/httpd/router.ts";
export type { Session } from "./lib/httpd/session.ts";
export { HttpsServer, serve, type ServerState, type StopOptions } from "./lib/server.ts";
