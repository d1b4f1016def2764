/**
 * Which protocol is spoken on a connection: the driver for each ALPN name of lib/alpn.ts.
 *
 * @module
 */
import { HTTP1, type ServedProtocol } from "./alpn.ts";
import type { ConnectionDriver } from "./http/session.ts";
import { Http1Connection, type Http1Host } from "./http1/connection.ts";
import type { ConnectionEngine } from "./net/engine.ts";

/** Takes a connection; returns `undefined` when that ends with its handshake. */
type Speak = (connection: ConnectionEngine, host: Http1Host) => ConnectionDriver | undefined;

const PROTOCOLS: Readonly<Record<ServedProtocol, Speak>> = {
  "http/1.1": (connection, host) => new Http1Connection(connection, host),
  // The handshake was all that the challenge asks for (RFC 8737 section 3).
  "acme-tls/1": (connection) => void connection.close(),
};

/**
 * Has a connection spoken to in the protocol that was agreed on: HTTP/1.1 where it was none that is
 * known. Returns `undefined` when the connection ends with its handshake.
 */
export function speak(connection: ConnectionEngine, host: Http1Host): ConnectionDriver | undefined {
  const agreed = connection.tls?.alpn ?? HTTP1;
  const name = Object.hasOwn(PROTOCOLS, agreed) ? agreed as ServedProtocol : HTTP1;
  return PROTOCOLS[name](connection, host);
}
