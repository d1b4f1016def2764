/**
 * What Hono apps need of httpsd: who is at the other end, whether its certificate will do, the way
 * from http to https, and WebSockets. The server hands its facts to `app.fetch` as second argument, which Hono
 * shows as `c.env`.
 *
 * @example
 * ```ts
 * import { Hono } from "hono";
 * import { serve } from "@httpsd/httpsd";
 * import { type HttpsdEnv, requireClientCertificate } from "@httpsd/httpsd/hono";
 *
 * const app = new Hono<HttpsdEnv>();
 * app.use("/admin/*", requireClientCertificate({ issuer: "CN=Staff CA" }));
 * app.get("/admin/me", (c) => c.text(c.var.clientCertificate!.subject));
 *
 * await serve({ cert, key, clientAuth: { ca, mode: "optional" } }, app.fetch);
 * ```
 *
 * @module
 */
// The ASN.1 library under @peculiar/x509 reads decorator metadata: this import must come first.
import "reflect-metadata";
import { isIP } from "node:net";
import { Name, SubjectAlternativeNameExtension, X509Certificate } from "@peculiar/x509";
import type { Context, MiddlewareHandler } from "hono";
import type { ConnInfo } from "hono/conninfo";
import { HTTPException } from "hono/http-exception";
import { ConfigError } from "../errors.ts";
import type { RequestInfo } from "../httpd/dispatcher.ts";
import type { PeerCertificate } from "../tls/tls_info.ts";

export { upgradeWebSocket } from "./websocket.ts";

/** The environment of an app that httpsd serves: `new Hono<HttpsdEnv>()`. */
export interface HttpsdEnv {
  /** `c.env`: the session and the server. */
  Bindings: RequestInfo;
  /** `c.var`: what this module's middleware sets. */
  Variables: {
    /** The certificate that the client showed, if it stands; set by {@linkcode clientCertificate}. */
    clientCertificate?: PeerCertificate | undefined;
  };
}

/**
 * The address of the client, in the form of Hono's `hono/conninfo`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the app was called by another server than httpsd
 */
export function getConnInfo(c: Context): ConnInfo {
  const { remoteAddress, remotePort } = sessionOf(c);
  return {
    remote: {
      address: remoteAddress,
      addressType: remoteAddress.includes(":") ? "IPv6" : "IPv4",
      port: remotePort,
      transport: "tcp",
    },
  };
}

function sessionOf(c: Context): RequestInfo["session"] {
  const { session } = (c.env ?? {}) as Partial<RequestInfo>;
  if (session !== undefined) return session;
  throw new ConfigError(
    "INVALID_CONFIG",
    "c.env has no session: serve the app with httpsd, or call app.fetch(request, info)",
  );
}

/**
 * Middleware that sets `c.var.clientCertificate` to the certificate that the client showed, if it
 * was asked for and stands up to the server's client CAs, and to `undefined` otherwise.
 *
 * The handlers throw `INVALID_CONFIG` when the app was called by another server than httpsd.
 */
export function clientCertificate(): MiddlewareHandler<HttpsdEnv> {
  return async (c, next) => {
    c.set("clientCertificate", standingCertificate(c));
    await next();
  };
}

function standingCertificate(c: Context): PeerCertificate | undefined {
  const { tls } = sessionOf(c);
  return tls?.authorized ? tls.peerCertificate : undefined;
}

/** What a client's certificate must be; every member that is given must hold. */
export interface ClientCertificateRules {
  /**
   * Subject alternative names, of which the certificate must have one: DNS names (letter case does
   * not count), and to the letter IP addresses (IPv6 in its short form), e-mail addresses and URIs.
   * A wildcard matches nothing but itself.
   */
  readonly san?: string | readonly string[];
  /**
   * Distinguished names (RFC 4514, in the order of the certificate, such as `C=DE, CN=Staff CA`), of
   * which one must be the issuer's.
   */
  readonly issuer?: string | readonly string[];
  /** SHA-256 fingerprints in hexadecimal, with or without colons, of which one must be the certificate's. */
  readonly fingerprint256?: string | readonly string[];
  /** Asked last; `false` refuses. */
  readonly verify?: (
    certificate: PeerCertificate,
    c: Context<HttpsdEnv>,
  ) => boolean | Promise<boolean>;
}

/**
 * Middleware that lets only clients pass whose certificate stands up to the server's client CAs and
 * to these rules, and sets `c.var.clientCertificate`. Others are refused with an `HTTPException` of
 * status 403, which `app.onError` may answer; certificates that cannot be read are refused too.
 *
 * A certificate stands only where the server asks for one: give it `clientAuth`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the rule that is empty or cannot be read; so does
 * the handler when the app was called by another server than httpsd
 */
export function requireClientCertificate(
  rules: ClientCertificateRules = {},
): MiddlewareHandler<HttpsdEnv> {
  const sans = allowed("san", rules.san, normalSan);
  const issuers = allowed("issuer", rules.issuer, normalIssuer);
  const fingerprints = allowed("fingerprint256", rules.fingerprint256, normalFingerprint);
  return async (c, next) => {
    const certificate = standingCertificate(c);
    if (certificate === undefined) throw forbidden("A client certificate is needed");
    const { names, issuer } = identify(certificate);
    const isAllowed = (sans === undefined || names.some((name) => sans.has(name))) &&
      (issuers === undefined || (issuer !== undefined && issuers.has(issuer))) &&
      (fingerprints === undefined ||
        fingerprints.has(normalFingerprint(certificate.fingerprint256))) &&
      (rules.verify === undefined || await rules.verify(certificate, c));
    if (!isAllowed) throw forbidden("This client certificate may not do this");
    c.set("clientCertificate", certificate);
    await next();
  };
}

function forbidden(message: string): HTTPException {
  return new HTTPException(403, { message });
}

function allowed(
  rule: string,
  values: string | readonly string[] | undefined,
  normalize: (value: string) => string,
): ReadonlySet<string> | undefined {
  if (values === undefined) return undefined;
  const list = typeof values === "string" ? [values] : values;
  if (list.length === 0 || list.includes("")) {
    throw new ConfigError("INVALID_CONFIG", `Rule ${rule} is empty: leave it out, or name someone`);
  }
  return new Set(list.map(normalize));
}

/** A name with its kind, so that a name of one kind never passes for one of another. */
function normalSan(name: string): string {
  if (isIP(name) !== 0) return sanKey("ip", name);
  if (name.includes(":")) return sanKey("url", name);
  return name.includes("@") ? sanKey("email", name) : sanKey("dns", name);
}

function sanKey(type: string, value: string): string {
  return `${type} ${type === "dns" ? value.toLowerCase() : value}`;
}

function normalIssuer(name: string): string {
  const message = `Rule issuer is no distinguished name such as "C=DE, CN=Staff CA": "${name}"`;
  let normal: string;
  try {
    normal = new Name(name).toString();
  } catch (cause) {
    throw new ConfigError("INVALID_CONFIG", message, { cause });
  }
  if (normal === "") throw new ConfigError("INVALID_CONFIG", message);
  return normal;
}

/** @throws {ConfigError} `INVALID_CONFIG` */
function normalFingerprint(fingerprint: string): string {
  const hex = fingerprint.replaceAll(":", "").toLowerCase();
  if (/^[\da-f]{64}$/.test(hex)) return hex;
  throw new ConfigError(
    "INVALID_CONFIG",
    `Rule fingerprint256 needs 64 hexadecimal digits, not "${fingerprint}"`,
  );
}

/** What rules compare. */
interface Identity {
  readonly names: readonly string[];
  /** `undefined` when the certificate cannot be read. */
  readonly issuer: string | undefined;
}

const identities = new WeakMap<PeerCertificate, Identity>();

function identify(certificate: PeerCertificate): Identity {
  let identity = identities.get(certificate);
  if (identity === undefined) identities.set(certificate, identity = readIdentity(certificate));
  return identity;
}

/**
 * Reads names from the DER itself: in the runtimes' texts, one name can be made to look like two
 * (`URI:http://a, DNS:admin.example`), as Deno does not quote what it prints.
 */
function readIdentity({ der }: PeerCertificate): Identity {
  try {
    const parsed = new X509Certificate(Uint8Array.from(der));
    const san = parsed.getExtension(SubjectAlternativeNameExtension);
    const names = (san?.names.items ?? []).map(({ type, value }) => sanKey(type, value));
    return { names, issuer: parsed.issuerName.toString() };
  } catch {
    return { names: [], issuer: undefined }; // matches no rule, so it is refused
  }
}

/** The options of {@linkcode hsts}. */
export interface HstsOptions {
  /** How long browsers shall remember, in seconds; 0 makes them forget. Default: 31,536,000, a year. */
  readonly maxAgeSeconds?: number;
  /** Whether it holds for all names below this one too. Default: `false`. */
  readonly includeSubDomains?: boolean;
  /** Whether browsers may ship with this name in their list. Default: `false`. */
  readonly preload?: boolean;
}

const YEAR_SECONDS = 31_536_000;

/**
 * Middleware that tells browsers to come by https only: `Strict-Transport-Security` (RFC 6797).
 * Responses to plain http go without it, as the RFC asks (section 7.2).
 *
 * @throws {ConfigError} `INVALID_CONFIG` for an age that is no whole number, and for `preload`
 * without `includeSubDomains` or with less than a year, which the lists of browsers refuse
 */
export function hsts(options: HstsOptions = {}): MiddlewareHandler {
  const { maxAgeSeconds = YEAR_SECONDS, includeSubDomains = false, preload = false } = options;
  if (!Number.isSafeInteger(maxAgeSeconds) || maxAgeSeconds < 0) {
    throw new ConfigError(
      "INVALID_CONFIG",
      "Option maxAgeSeconds must be a whole number from 0 on",
    );
  }
  if (preload && (!includeSubDomains || maxAgeSeconds < YEAR_SECONDS)) {
    throw new ConfigError(
      "INVALID_CONFIG",
      "Option preload needs includeSubDomains and a maxAgeSeconds of a year or more",
    );
  }
  const policy = `max-age=${maxAgeSeconds}${includeSubDomains ? "; includeSubDomains" : ""}${
    preload ? "; preload" : ""
  }`;
  return async (c, next) => {
    await next();
    if (new URL(c.req.url).protocol === "https:") c.header("strict-transport-security", policy);
  };
}

/** The options of {@linkcode redirectToHttps}. */
export interface RedirectOptions {
  /** The port of the https server. Default: 443. */
  readonly port?: number;
  /** The host to send clients to. Default: the one that they asked for. */
  readonly hostname?: string;
}

/**
 * Makes a fetch handler for a server in insecure mode that sends every client to the same place by
 * https, with its method and body (308).
 *
 * @throws {ConfigError} `INVALID_CONFIG` for a port or host that cannot be
 */
export function redirectToHttps(options: RedirectOptions = {}): (request: Request) => Response {
  const { port = 443, hostname } = options;
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new ConfigError("INVALID_CONFIG", `Option port must be from 1 to 65535, not ${port}`);
  }
  if (hostname !== undefined && !isHost(hostname)) {
    throw new ConfigError("INVALID_CONFIG", `Option hostname is no host: "${hostname}"`);
  }
  return (request) => {
    const url = new URL(request.url);
    url.protocol = "https:";
    url.port = String(port);
    if (hostname !== undefined) url.hostname = hostname;
    return new Response(null, { status: 308, headers: { location: url.href } });
  };
}

/** Whether a text is a host and nothing else, of which URL parsers would make a path or a user. */
function isHost(text: string): boolean {
  const url = `https://${text}/`;
  return URL.canParse(url) && new URL(url).hostname === text.toLowerCase();
}
