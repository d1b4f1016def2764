/**
 * What OpenTelemetry's semantic conventions for HTTP servers call the parts of an exchange, with
 * what only spans have.
 *
 * @module
 */
import type { Attributes } from "@opentelemetry/api";
import type { ExchangeReport } from "../http/exchange_report.ts";
import { errorTypeOf, methodOf, OTHER, schemeOf } from "./http_attributes.ts";

/** The attributes that a span of a request begins with. */
export function requestAttributes(exchange: ExchangeReport): Attributes {
  const method = methodOf(exchange);
  const { session, version, path, query, host } = exchange;
  const { remoteAddress, remotePort, tls } = session;
  const found: Attributes = {
    "http.request.method": method,
    "url.scheme": schemeOf(exchange),
    "network.protocol.name": "http",
    "network.protocol.version": version,
  };
  // One by one: a list that is looked through takes several times as long.
  if (method === OTHER && exchange.method !== undefined) {
    found["http.request.method_original"] = exchange.method;
  }
  if (path !== undefined) found["url.path"] = path;
  if (query !== "") found["url.query"] = redacted(query);
  if (host !== undefined) addServer(host, found);
  if (remoteAddress !== "") {
    found["client.address"] = found["network.peer.address"] = remoteAddress;
  }
  if (remotePort !== 0) found["network.peer.port"] = remotePort;
  const agent = exchange.get("user-agent");
  if (agent !== undefined) found["user_agent.original"] = agent;
  if (tls !== undefined) found["tls.protocol.version"] = tls.protocol.replace(/^TLSv/, "");
  return found;
}

/** Parameters by which whoever has the URL is let in, as the conventions list them. */
const SECRETS = /(^|&)(AWSAccessKeyId|Signature|sig|X-Goog-Signature)=[^&]*/g;

function redacted(query: string): string {
  return query.replace(SECRETS, "$1$2=REDACTED");
}

/** Adds `server.address` and `server.port`, as the client has named them. */
function addServer(host: string, to: Attributes): void {
  const [, address, port] = /^(.*?)(?::(\d{1,5}))?$/.exec(host) ?? [];
  if (address) to["server.address"] = address;
  if (port !== undefined) to["server.port"] = Number(port);
}

/** The attributes of a request that is over, for metrics; each is one of few. */
export function metricAttributes(exchange: ExchangeReport): Attributes {
  const { status, route } = exchange;
  const errorType = errorTypeOf(exchange);
  const found: Attributes = {
    "http.request.method": methodOf(exchange),
    "network.protocol.version": exchange.version,
    "url.scheme": schemeOf(exchange),
  };
  if (status !== undefined) found["http.response.status_code"] = status;
  if (route !== undefined) found["http.route"] = route;
  if (errorType !== undefined) found["error.type"] = errorType;
  return found;
}
