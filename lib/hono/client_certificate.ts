/**
 * Rules for the certificates of clients, in a file of its own: the library that reads names comes
 * with it, and bundles of apps without such rules leave both out.
 *
 * @module
 */
// The ASN.1 library under @peculiar/x509 reads decorator metadata: this import must come first.
import "reflect-metadata";
import { isIP } from "node:net";
import { Name, SubjectAlternativeNameExtension, X509Certificate } from "@peculiar/x509";
import type { Context, MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import * as v from "valibot";
import {
  adviceFrom,
  checkOptions,
  either,
  hook,
  members,
  optionError,
  shown,
  text,
} from "../options.ts";
import type { PeerCertificate } from "../tls/peer_certificate.ts";
import { type HttpsdEnv, standingCertificate } from "./env.ts";

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
  /**
   * SHA-256 fingerprints in hexadecimal, with or without colons, of which one must be the
   * certificate's.
   */
  readonly fingerprint256?: string | readonly string[];
  /** Called last; only `true` accepts. */
  readonly verify?: (
    certificate: PeerCertificate,
    c: Context<HttpsdEnv>,
  ) => boolean | Promise<boolean>;
}

/**
 * Middleware that accepts only clients whose certificate was verified by the server's client CAs
 * and satisfies these rules, and sets `c.var.clientCertificate`. Others are refused with an
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

/** A rule that is present but empty, as from a variable that is not set, would accept everyone. */
function checkRules(rules: ClientCertificateRules): v.InferOutput<typeof RULES> {
  const checked = checkOptions(RULES_OF, RULES, rules);
  for (const [rule, value] of Object.entries(rules)) {
    if (value === undefined) {
      throw optionError(RULES_OF, rule, "is undefined: leave it out, or name someone");
    }
  }
  return checked;
}

/** Whether the rule `verify` accepts; a result that is not a boolean is a mistake and is reported. */
function lets(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw optionError(RULES_OF, "verify", `returned ${shown(answer)}: return true or false`);
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

/** A name with its kind, so that a name of one kind is never taken for another kind. */
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
  const problem = `is not a distinguished name such as "C=DE, CN=Staff CA": "${name}"`;
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
