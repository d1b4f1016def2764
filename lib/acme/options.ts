/**
 * The checks of the client's options.
 *
 * @module
 */
import * as v from "valibot";
import type { AcmeError } from "../errors.ts";
import {
  adviceFrom,
  duration,
  either,
  flag,
  given,
  hook,
  members,
  oneOf,
  text,
} from "../options.ts";
import { type ChallengeSolver, LETS_ENCRYPT } from "./types.ts";

const signal = v.optional(
  v.custom<AbortSignal>((value) => value instanceof AbortSignal, "must be an AbortSignal"),
);

/** The members of `CallOptions`. */
export const CALL = members({ signal });

const ADDRESS = /^[^\s,?@<>"]+@[^\s,?@<>"]+$/;
const EMAIL = "must be an e-mail address, or some in an array";
const address = v.pipe(v.string(EMAIL), v.regex(ADDRESS, EMAIL), v.maxLength(320, EMAIL));
const email = either<string, string[]>(
  (value) => !Array.isArray(value),
  address,
  v.pipe(v.array(address), v.minLength(1, EMAIL), v.maxLength(10, EMAIL)),
);

/** The members of `updateAccount()`'s options. */
export const UPDATE = members({ signal, email });

const directory = v.pipe(
  v.custom<string | URL>(
    (value) => (typeof value === "string" || value instanceof URL) && URL.canParse(`${value}`),
    "must be a URL",
  ),
  v.check((value) => new URL(value).protocol === "https:", "must be an https URL"),
);

const HMAC = "must be the key as the CA gave it, in base64url";

/** The members of `AcmeClientOptions`. */
export const CLIENT = members({
  directory: v.optional(directory, LETS_ENCRYPT),
  ca: v.optional(given<string | Uint8Array | URL>("PEM, or the file that has it")),
  accountKey: v.string("must be PEM of a private key: make one by newAccountKey()"),
  email: v.optional(email),
  agreeToTerms: flag(false),
  externalAccount: v.optional(members({
    kid: v.pipe(v.string("must be text"), v.minLength(1, "must be text")),
    hmacKey: v.pipe(v.string(HMAC), v.regex(/^[A-Za-z0-9+/_-]+={0,2}$/, HMAC)),
  })),
  requestMs: duration(30_000),
  orderMs: duration(600_000),
}, {
  advice: adviceFrom({
    directoryUrl: "write directory",
    server: "write directory",
    contact: "write email",
    contacts: "write email",
    key: "write accountKey",
    termsOfServiceAgreed: "write agreeToTerms: true",
    eab: "write externalAccount: { kid, hmacKey }",
    externalAccountBinding: "write externalAccount: { kid, hmacKey }",
    timeout: "write requestMs or orderMs",
  }),
});

/** The types of challenges. */
const TYPES: readonly unknown[] = ["http-01", "tls-alpn-01", "dns-01"];
const SOLVER =
  'must be a solver: { type, set, remove }, with type "http-01", "tls-alpn-01" or "dns-01"';

/** A solver; it may be of a class, and have more members than those that are known. */
const solver = v.custom<ChallengeSolver>((value) => {
  if (typeof value !== "object" || value === null) return false;
  const { type, set, remove, settled, solves } = value as Record<string, unknown>;
  const isOptional = (member: unknown) => member === undefined || typeof member === "function";
  return TYPES.includes(type) && typeof set === "function" && typeof remove === "function" &&
    isOptional(settled) && isOptional(solves);
}, SOLVER);

const NAMES = "must be an array of names";

/** The members of `OrderOptions`. */
export const ORDER = members({
  signal,
  names: v.array(v.string(NAMES), NAMES),
  solvers: v.pipe(
    v.array(solver, "must be an array of solvers"),
    v.minLength(1, "must have a solver"),
  ),
  profile: v.optional(text),
  replaces: v.optional(text),
  privateKey: v.optional(text),
  keyType: v.optional(oneOf("ECDSA P-256", "RSA 2048"), "ECDSA P-256"),
  preferredChain: v.optional(text),
  onFailure: hook<(error: AcmeError) => unknown>(),
}, {
  advice: adviceFrom({
    domains: "write names",
    hosts: "write names",
    key: "write privateKey",
    algorithm: "write keyType",
    challenges: "write solvers",
    solver: "write solvers: [ … ]",
  }),
});

/** The members of `RevokeOptions`. */
export const REVOKE = members({
  signal,
  certificate: text,
  reason: v.optional(
    oneOf(
      "unspecified",
      "keyCompromise",
      "affiliationChanged",
      "superseded",
      "cessationOfOperation",
    ),
  ),
  privateKey: v.optional(text),
}, { advice: adviceFrom({ cert: "write certificate", key: "write privateKey" }) });
