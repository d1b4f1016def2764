/**
 * Which protocol is spoken on a connection: the driver for each ALPN name of lib/alpn.ts. That of
 * HTTP/2 is a fifth of the server, so it is loaded where it may be spoken only: before a server
 * listens that may agree on it, or with the first client that begins with it unasked.
 *
 * @module
 */
import { ACME_TLS, HTTP1, HTTP2, type ServedProtocol } from "./alpn.ts";
import type { ConnectionDriver } from "./http/session.ts";
import { Http1Connection, type Http1Host } from "./http1/connection.ts";
import type { Http2Host } from "./http2/connection.ts";
import type { Http2Config } from "./http2/options.ts";
import type { ConnectionEngine } from "./net/engine.ts";

/** What the drivers of all protocols need of the server. */
export interface ProtocolHost extends Http1Host, Http2Host {
  readonly limits: Http1Host["limits"] & Http2Host["limits"];
  readonly timeouts: Http1Host["timeouts"] & Http2Host["timeouts"];
  /** Whether HTTP/1.1 is served. */
  readonly http1: boolean;
  /** The limits of HTTP/2; `false` where it is not served. */
  readonly http2: Http2Config | false;
}

/** Takes a connection; returns `undefined` when that ends with its handshake. */
type Speak = (connection: ConnectionEngine, host: ProtocolHost) => ConnectionDriver | undefined;

let http2: typeof import("./http2/connection.ts") | undefined;

/** Whether HTTP/2 can be spoken now. */
export function isHttp2Loaded(): boolean {
  return http2 !== undefined;
}

/** Loads what speaks HTTP/2, once. */
export async function loadHttp2(): Promise<void> {
  http2 ??= await import("./http2/connection.ts");
}

/** The driver of HTTP/2, which has been loaded wherever this is called. */
function http2Driver(
  ...given: ConstructorParameters<NonNullable<typeof http2>["Http2Connection"]>
): ConnectionDriver {
  return new http2!.Http2Connection(...given);
}

const PROTOCOLS: Readonly<Record<ServedProtocol, Speak>> = {
  [HTTP1]: (connection, host) => new Http1Connection(connection, host),
  [HTTP2]: (connection, host) =>
    host.http2 ? http2Driver(connection, host, host.http2) : refuse(connection),
  // The handshake was all that the challenge asks for (RFC 8737 section 3).
  [ACME_TLS]: (connection) => void connection.close(),
};

/**
 * Returns the driver of a connection, by the protocol that was agreed on; where that is unknown or
 * none, HTTP/1.1, or HTTP/2 if that alone is served. Returns `undefined` when the connection ends
 * with its handshake.
 */
export function speak(
  connection: ConnectionEngine,
  host: ProtocolHost,
): ConnectionDriver | undefined {
  const otherwise = host.http1 ? HTTP1 : HTTP2;
  const agreed = connection.tls?.alpn ?? otherwise;
  const name = Object.hasOwn(PROTOCOLS, agreed) ? agreed as ServedProtocol : otherwise;
  return PROTOCOLS[name](connection, host);
}

/**
 * Returns the HTTP/2 driver that takes over a connection whose client has begun with HTTP/2 by prior
 * knowledge (RFC 9113 section 3.3), in the same session; to be called once {@linkcode loadHttp2} is
 * through.
 */
export function goOnInHttp2(
  { connection, session }: Http1Connection,
  host: ProtocolHost,
  config: Http2Config,
): ConnectionDriver {
  return http2Driver(connection, host, config, session);
}

/** Only a hook that chooses certificates can have agreed on what is not served. */
function refuse(connection: ConnectionEngine): undefined {
  connection.destroy();
}
