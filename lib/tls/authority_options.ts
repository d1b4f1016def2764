/**
 * What a certificate authority and its certificates are made of: the options of
 * `createCertificateAuthority()`, `issue()` and `issueAuthority()`, and their checks.
 *
 * @module
 */
import * as v from "valibot";
import { adviceFrom, members, oneOf, text } from "../options.ts";

/** The kind of key pair to make. */
export type KeyAlgorithm = "ECDSA P-256" | "RSA 2048";

/** When a certificate is valid, and the key that it is for. */
export interface CertificateOptions {
  /** Days from `notBefore` to `notAfter`. Default: 365; for an authority 3650. */
  days?: number;
  /** First moment of validity. Default: an hour ago, or `days` before `notAfter` if earlier. */
  notBefore?: Date;
  /** Last moment of validity. Default: `days` after `notBefore`. */
  notAfter?: Date;
  /** The kind of key pair to make when no `key` is given. Default: `"ECDSA P-256"`. */
  algorithm?: KeyAlgorithm;
  /** The private key to certify, PEM of PKCS#8: P-256 or RSA. Default: a new one. */
  key?: string;
}

/** What a certificate authority is made of. */
export interface CertificateAuthorityOptions extends CertificateOptions {
  /** The common name. Default: `"httpsd development CA"`. */
  name?: string;
}

/** What a leaf certificate is made of. */
export interface IssueOptions extends CertificateOptions {
  /**
   * The subject alternative names: DNS names (also wildcards), IP addresses, e-mail addresses (with
   * an `@`) and URIs (with `://`). Default: `["localhost", "127.0.0.1", "::1"]` for a server, none
   * for a client.
   */
  names?: string[];
  /** The side that the certificate is for (extended key usage). Default: `"server"`. */
  usage?: "server" | "client";
  /** The subject, as in `"CN=alice,O=Acme"` (RFC 4514). Default: the first name as common name. */
  subject?: string;
}

const date = v.optional(
  v.custom<Date>(
    (value) => value instanceof Date && !Number.isNaN(value.getTime()),
    "must be a valid Date",
  ),
);

/** X.509 cannot write years beyond 9999 (RFC 5280 section 4.1.2.5). */
const MAX_DAYS = 2_000_000;
const DAYS_MESSAGE = `must be a number of days, more than 0 and at most ${MAX_DAYS}`;

const CERTIFICATE_ENTRIES = {
  days: v.optional(v.pipe(
    v.number(DAYS_MESSAGE),
    v.check((days) => days > 0 && days <= MAX_DAYS, DAYS_MESSAGE),
  )),
  notBefore: date,
  notAfter: date,
  algorithm: v.optional(oneOf("ECDSA P-256", "RSA 2048")),
  key: v.optional(v.string("must be PEM text")),
};

const VALIDITY_NAMES = {
  validity: "write days",
  validDays: "write days",
  expires: "write notAfter",
  validFrom: "write notBefore",
  validTo: "write notAfter",
  keyType: "write algorithm",
  keySize: 'write algorithm: "RSA 2048"',
};

/** What a certificate that was issued has besides `cert` and `key`: ignored where all of it is given. */
export const ISSUED_BESIDES = {
  certDer: v.optional(v.unknown()),
  serialNumber: v.optional(v.unknown()),
};

/** The members of {@linkcode CertificateAuthorityOptions}. */
export const AUTHORITY_OPTIONS = members({ ...CERTIFICATE_ENTRIES, name: v.optional(text) }, {
  advice: adviceFrom(VALIDITY_NAMES, {
    cn: "write name",
    commonName: "write name",
    subject: "write name",
    pathLength: "leave it out: there is no limit",
  }),
  shape: "an object of CertificateAuthorityOptions",
});

/** The members of {@linkcode IssueOptions}. */
export const ISSUE_OPTIONS = members({
  ...CERTIFICATE_ENTRIES,
  names: v.optional(v.array(v.string("must be names"), "must be an array of names")),
  usage: v.optional(oneOf("server", "client")),
  subject: v.optional(text),
}, {
  advice: adviceFrom(VALIDITY_NAMES, {
    name: 'write names: ["…"], or subject: "CN=…"',
    cn: 'write subject: "CN=…"',
    commonName: 'write subject: "CN=…"',
    organization: 'write subject: "CN=…,O=…"',
    san: "write names",
    altNames: "write names",
    subjectAltName: "write names",
    hosts: "write names",
    domains: "write names",
    dns: "write names",
    ips: "write names",
    client: 'write usage: "client"',
    extKeyUsage: "write usage",
  }),
  shape: "an object of IssueOptions",
});
