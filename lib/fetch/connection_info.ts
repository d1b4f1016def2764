/**
 * The client that sent a `Request`, for code that is given nothing else.
 *
 * @module
 */
import { platformRequest } from "./platform_requests.ts";
import { exchangeOf } from "./served_request.ts";
import type { Session } from "../http/session.ts";
import type { TlsInfo } from "../tls/tls_info.ts";

/** What is known of the client that sent a request. */
export interface ConnectionInfo {
  /** The session that the request came on. */
  readonly session: Session;
  /** The handshake's facts; `undefined` in plain mode. */
  readonly tls: TlsInfo | undefined;
  /** The client's address. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
}

/**
 * Returns the facts of the client that sent a request: the same object that a server gave its
 * handler, or that was passed to `server.fetch()`. `undefined` for any other, copies (`new
 * Request(request)`) among them.
 */
export function connectionInfo(request: Request): ConnectionInfo | undefined {
  const session = exchangeOf(request)?.session ?? platformRequest(request)?.session;
  if (session === undefined) return undefined;
  const { tls, remoteAddress, remotePort } = session;
  return { session, tls, remoteAddress, remotePort };
}
