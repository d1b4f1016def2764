/**
 * Which fields a proxy passes on, takes away and writes (RFC 9110 section 7.6, RFC 7239, RFC 9440).
 *
 * @module
 */
import { asBuffer } from "../buffer.ts";
import { listMembers } from "../http/token.ts";
import type { Session } from "../http/session.ts";

/** What concerns one connection only (RFC 9110 section 7.6.1), and what is framed anew. */
const HOP_BY_HOP = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** What this server has dealt with itself, or writes itself. */
const OWN = new Set(["expect", "host", "via"]);

/**
 * What an upstream believes of a proxy, and a client must not say: who it is, how it came. `Proxy`
 * becomes `HTTP_PROXY` in the environment of CGI programs.
 */
const BELIEVED = new Set([
  "client-cert",
  "client-cert-chain",
  "forwarded",
  "proxy",
  "true-client-ip",
  "x-client-cert",
  "x-client-ip",
  "x-cluster-client-ip",
  "x-original-url",
  "x-real-ip",
  "x-rewrite-url",
]);
const BELIEVED_PREFIXES = ["x-forwarded-", "ssl-client-", "x-ssl-"];

/** The opening handshake's own fields, which are made anew for the upstream. */
const HANDSHAKE = new Set(["sec-websocket-key", "sec-websocket-version", "sec-websocket-accept"]);

/**
 * Whether an upstream would believe a field of this name. Many turn `_` and other characters into
 * `-`, or both into `_`, so that `X_Forwarded_For` is the same to them.
 */
function isBelieved(name: string): boolean {
  const plain = name.toLowerCase().replace(/[^a-z\d]/g, "-");
  return BELIEVED.has(plain) || BELIEVED_PREFIXES.some((prefix) => plain.startsWith(prefix));
}

/** The names that a Connection field gives, in lower case. */
function nominated(connection: string | null): Set<string> {
  return new Set(listMembers((connection ?? "").toLowerCase()));
}

/** What the fields of a forwarded request are made of. */
export interface ForwardedRequest {
  /** The client's request. */
  readonly request: Request;
  /** Its session; `undefined` where the platform gives none. */
  readonly session: Session | undefined;
  /** The Host for the upstream; `undefined`: the one that the client asked for. */
  readonly host: string | undefined;
  /** What this proxy calls itself in `Via`. */
  readonly pseudonym: string;
  /** Whether the request is the opening handshake of a WebSocket. */
  readonly opensWebSocket: boolean;
}

/** Returns the fields for the upstream, without those that frame the body. */
export function requestFields(
  { request, session, host, pseudonym, opensWebSocket }: ForwardedRequest,
): Headers {
  const { headers } = request;
  const url = new URL(request.url);
  const connection = nominated(headers.get("connection"));
  const fields = new Headers();
  for (const [name, value] of headers) {
    const dropped = HOP_BY_HOP.has(name) || OWN.has(name) || isBelieved(name) ||
      connection.has(name) || name === "content-length" ||
      (opensWebSocket && HANDSHAKE.has(name));
    if (!dropped) fields.append(name, value);
  }
  fields.set("host", host ?? url.host);
  fields.set("via", [headers.get("via"), `1.1 ${pseudonym}`].filter(Boolean).join(", "));
  const proto = url.protocol.slice(0, -1);
  const address = session?.remoteAddress || undefined; // a socket with a path has none
  if (address !== undefined) fields.set("x-forwarded-for", address);
  fields.set("x-forwarded-host", url.host);
  fields.set("x-forwarded-proto", proto);
  fields.set(
    "forwarded",
    `${address === undefined ? "" : `for=${node(address)};`}host="${url.host}";proto=${proto}`,
  );
  const certificate = session?.tls?.authorized === true ? session.tls.peerCertificate : undefined;
  if (certificate !== undefined) {
    fields.set("client-cert", `:${asBuffer(certificate.der).toString("base64")}:`);
  }
  return fields;
}

/** Whether the request has passed this proxy before. */
export function isLoop(request: Request, pseudonym: string): boolean {
  return listMembers(request.headers.get("via") ?? "")
    .some((member) => member.endsWith(` ${pseudonym}`));
}

/** A node's address as RFC 7239 section 6 writes it. */
function node(address: string): string {
  return address.includes(":") ? `"[${address}]"` : address;
}

/**
 * Returns the fields for the client, from names and values in turn as they came.
 *
 * @throws {TypeError} when one is not a field, or the body has another coding than chunks, which
 * would be taken off here (RFC 9112 section 7)
 */
export function responseFields(raw: readonly string[]): Headers {
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) pairs.push([raw[at]!.toLowerCase(), raw[at + 1]!]);
  const connection = nominated(
    pairs.filter(([name]) => name === "connection").map(([, value]) => value).join(", "),
  );
  const codings = pairs.filter(([name]) => name === "transfer-encoding").map(([, value]) => value);
  const isChunked = codings.length > 0;
  if (isChunked && !/^(?:chunked|identity)$/i.test(codings.join(", "))) {
    throw new TypeError("It has a transfer coding that was not asked for");
  }
  const fields = new Headers();
  for (const [name, value] of pairs) {
    const dropped = HOP_BY_HOP.has(name) || HANDSHAKE.has(name) || connection.has(name) ||
      (isChunked && name === "content-length");
    if (!dropped) fields.append(name, value);
  }
  return fields;
}

/** Where the upstream's paths are at this server. */
export interface Mount {
  /** The upstream's URL. */
  readonly target: URL;
  /** What paths begin with here and not there. */
  readonly stripPrefix: string;
}

/** The path and query that the upstream is asked for; `undefined` when the path is not below the prefix. */
export function upstreamPath(url: URL, { target, stripPrefix }: Mount): string | undefined {
  const rest = below(url.pathname, stripPrefix);
  if (rest === undefined) return undefined;
  return `${withoutSlash(target.pathname)}${rest}${url.search}`;
}

/** A `Location` of the upstream's as the client can follow it; others are left as they are. */
export function clientLocation(location: string, url: URL, { target, stripPrefix }: Mount): string {
  const written = withoutBytes(location);
  const absolute = URL.parse(written);
  if (absolute === null && !location.startsWith("/")) return location; // relative to the path
  const there = absolute ?? URL.parse(written, target);
  if (there === null || there.origin !== target.origin) return location;
  const rest = below(there.pathname, withoutSlash(target.pathname));
  if (rest === undefined) return location;
  const path = `${stripPrefix}${rest}${there.search}${there.hash}`;
  return absolute === null ? path : `${url.origin}${path}`;
}

/** Escapes the bytes that are not ASCII, which a URL parser would take for characters, each as two bytes. */
function withoutBytes(location: string): string {
  return location.replace(
    /[\x80-\xff]/g,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The part of a path that is below a prefix, from its `/` on. */
function below(path: string, prefix: string): string | undefined {
  if (prefix === "") return path;
  if (path === prefix) return "/";
  return path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : undefined;
}

function withoutSlash(path: string): string {
  return path.endsWith("/") ? path.slice(0, -1) : path;
}
