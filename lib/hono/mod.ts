/**
 * What Hono apps need of httpsd: the client's address and certificate, the redirect from http to
 * https, and WebSockets. The server passes its facts to `app.fetch` as second argument, which Hono
 * makes `c.env`.
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
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { RequestInfo } from "../fetch/fetch_handler.ts";
import {
  adviceFrom,
  checkOptions,
  either,
  flag,
  hook,
  members,
  number,
  optionError,
  shown,
  text,
} from "../options.ts";
import type { PeerCertificate } from "../tls/peer_certificate.ts";

export { upgradeWebSocket } from "./websocket.ts";

/**
 * The environment of an app that httpsd serves: `new Hono<HttpsdEnv>()`, or
 * `new Hono<HttpsdEnv<HttpsServer>>()` to see the whole server in `c.env.server`.
 */
export interface HttpsdEnv<S = ServerHandle> {
  /** `c.env`: the session and the server. */
  Bindings: RequestInfo<S>;
  /** `c.var`: what this module's middleware sets. */
  Variables: {
    /** The client's certificate, if it was verified; set by {@linkcode clientCertificate}. */
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
 * was asked for and was verified by the server's client CAs, and to `undefined` otherwise.
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
   * Distinguished names (RFC 4514, in the order of the certificate, such as `C=DE, CN=Staff CA`),
   * of which one must be the issuer's.
   */
  readonly issuer?: string | readonly string[];
  /** SHA-256 fingerprints in hexadecimal, with or without colons, of which one must be the certificate's. */
  readonly fingerprint256?: string | readonly string[];
  /** Asked last; only `true` lets pass. */
  readonly verify?: (
    certificate: PeerCertificate,
    c: Context<HttpsdEnv>,
  ) => boolean | Promise<boolean>;
}

/**
 * Middleware that lets only clients pass whose certificate was verified by the server's client CAs
 * and to these rules, and sets `c.var.clientCertificate`. Others are refused with an
 * `HTTPException` of status 403, which `app.onError` may answer; certificates that cannot be read
 * are refused too.
 *
 * A certificate is verified only where the server asks for one: give it `clientAuth`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the rule that is empty or cannot be read; so does
 * the handler when the app was called by another server than httpsd
 */
export function requireClientCertificate(
  rules: ClientCertificateRules = {},
): MiddlewareHandler<HttpsdEnv> {
  const { san, issuer, fingerprint256, verify } = checkRules(rules);
  const sans = allowed("san", san, normalSan);
  const issuers = allowed("issuer", issuer, normalIssuer);
  const fingerprints = allowed("fingerprint256", fingerprint256, normalFingerprint);
  return async (c, next) => {
    const certificate = standingCertificate(c);
    if (certificate === undefined) throw forbidden("A client certificate is needed");
    const shownBy = identify(certificate);
    const isAllowed = (sans === undefined || shownBy.names.some((name) => sans.has(name))) &&
      (issuers === undefined || (shownBy.issuer !== undefined && issuers.has(shownBy.issuer))) &&
      (fingerprints === undefined ||
        fingerprints.has(normalFingerprint("fingerprint256", certificate.fingerprint256))) &&
      (verify === undefined || lets(await verify(certificate, c)));
    if (!isAllowed) throw forbidden("This client certificate may not do this");
    c.set("clientCertificate", certificate);
    await next();
  };
}

const RULES_OF = "requireClientCertificate()";

const names = v.optional(
  either<string, string[]>(
    (value) => typeof value === "string",
    v.pipe(text, v.nonEmpty("must not be empty: leave it out, or name someone")),
    v.pipe(
      v.array(
        v.pipe(
          v.string("must be text"),
          v.nonEmpty("must not be empty: leave it out, or name someone"),
        ),
        "must be text or an array of texts",
      ),
      v.nonEmpty("must not be empty: leave it out, or name someone"),
    ),
  ),
);

const RULES = members({
  san: names,
  issuer: names,
  fingerprint256: names,
  verify: hook<NonNullable<ClientCertificateRules["verify"]>>(),
}, {
  advice: adviceFrom({
    fingerprint: "write fingerprint256",
    fingerprints: "write fingerprint256",
    sha256: "write fingerprint256",
    subject: 'write verify: ({ subject }) => subject === "CN=…"',
    cn: 'write verify: ({ subject }) => subject === "CN=…"',
    commonName: 'write verify: ({ subject }) => subject === "CN=…"',
    serialNumber: 'write verify: ({ serialNumber }) => serialNumber === "…"',
    ca: "write issuer here, and clientAuth: { ca } among the server's options",
    dns: "write san",
    names: "write san",
    altNames: "write san",
    allow: "write san, issuer, fingerprint256 or verify",
  }),
});

/** A rule that is there and says nothing, as from a variable that is not set, would let all pass. */
function checkRules(rules: ClientCertificateRules): v.InferOutput<typeof RULES> {
  const checked = checkOptions(RULES_OF, RULES, rules);
  for (const [rule, value] of Object.entries(rules)) {
    if (value === undefined) {
      throw optionError(RULES_OF, rule, "is undefined: leave it out, or name someone");
    }
  }
  return checked;
}

/** Whether the rule `verify` lets pass; an answer that is none is a mistake that must be heard of. */
function lets(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw optionError(RULES_OF, "verify", `answered ${shown(answer)}: return true or false`);
}

function forbidden(message: string): HTTPException {
  return new HTTPException(403, { message });
}

function allowed(
  rule: string,
  values: string | readonly string[] | undefined,
  normalize: (rule: string, value: string) => string,
): ReadonlySet<string> | undefined {
  if (values === undefined) return undefined;
  const list = typeof values === "string" ? [values] : values;
  return new Set(list.map((value) => normalize(rule, value)));
}

/** A name with its kind, so that a name of one kind never passes for one of another. */
function normalSan(_rule: string, name: string): string {
  if (isIP(name) !== 0) return sanKey("ip", name);
  if (name.includes(":")) return sanKey("url", name);
  return name.includes("@") ? sanKey("email", name) : sanKey("dns", name);
}

function sanKey(type: string, value: string): string {
  return `${type} ${type === "dns" ? value.toLowerCase() : value}`;
}

function normalIssuer(rule: string, name: string): string {
  let normal = "";
  try {
    normal = new Name(name).toString();
  } catch {
    // what the parser does not take is refused below
  }
  if (normal !== "") return normal;
  const problem = `is no distinguished name such as "C=DE, CN=Staff CA": "${name}"`;
  throw optionError(RULES_OF, rule, problem);
}

/** @throws {ConfigError} `INVALID_CONFIG` */
function normalFingerprint(rule: string, fingerprint: string): string {
  const hex = fingerprint.replaceAll(":", "").toLowerCase();
  if (/^[\da-f]{64}$/.test(hex)) return hex;
  throw optionError(RULES_OF, rule, `needs 64 hexadecimal digits, not "${fingerprint}"`);
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

const HSTS = members({
  maxAgeSeconds: v.optional(
    number("a whole number of seconds", 0, Number.MAX_SAFE_INTEGER),
    YEAR_SECONDS,
  ),
  includeSubDomains: flag(false),
  preload: flag(false),
}, { advice: adviceFrom({ maxAge: "write maxAgeSeconds" }) });

/**
 * Middleware that makes browsers use https only: `Strict-Transport-Security` (RFC 6797).
 * Responses to plain http go without it, as the RFC asks (section 7.2).
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, and for `preload` without
 * `includeSubDomains` or with less than a year, which the lists of browsers refuse
 */
export function hsts(options: HstsOptions = {}): MiddlewareHandler {
  const { maxAgeSeconds, includeSubDomains, preload } = checkOptions("hsts()", HSTS, options);
  if (preload && (!includeSubDomains || maxAgeSeconds < YEAR_SECONDS)) {
    throw optionError(
      "hsts()",
      "preload",
      "needs includeSubDomains and a maxAgeSeconds of a year or more",
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

const REDIRECT = members({
  port: v.optional(number("a port", 1, 65_535), 443),
  hostname: v.optional(v.pipe(text, v.check(isHost, "must be a host alone"))),
}, {
  advice: adviceFrom({
    host: "write hostname",
    status: "leave it out: it is always 308",
    permanent: "leave it out: it is always 308",
    httpsPort: "write port",
  }),
});

/**
 * Makes a fetch handler for a server in insecure mode that sends every client to the same place by
 * https, with its method and body (308).
 *
 * @throws {ConfigError} `INVALID_CONFIG` for a port or host that cannot be
 */
export function redirectToHttps(options: RedirectOptions = {}): (request: Request) => Response {
  const { port, hostname } = checkOptions("redirectToHttps()", REDIRECT, options);
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
