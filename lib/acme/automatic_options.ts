/**
 * The options of `automaticCertificates()`, their defaults and their checks.
 *
 * @module
 */
import * as v from "valibot";
import { normalizeAddress } from "../endpoints.ts";
import { ConfigError } from "../errors.ts";
import {
  adviceFrom,
  callback,
  checkOptions,
  count,
  members,
  oneOf,
  optionError,
  withoutUndefined,
} from "../options.ts";
import { runtime } from "../runtime/current.ts";
import { orderedNames } from "./names.ts";
import type { OnDemandOptions } from "./on_demand.ts";
import { CLIENT, ORDER } from "./options.ts";
import type { CertificateStorage } from "./storage.ts";
import type { AcmeClientOptions, ChallengeType, OrderOptions, SolverOf } from "./types.ts";

/** What sets and removes the TXT records of dns-01 challenges. */
export type DnsSolver = Omit<SolverOf<"dns-01">, "type" | "solves">;

/** The options of {@linkcode automaticCertificates}. */
export interface AutomaticOptions
  extends
    Pick<AcmeClientOptions, "directory" | "ca" | "email" | "agreeToTerms" | "externalAccount">,
    Pick<OrderOptions, "profile" | "keyType" | "preferredChain"> {
  /**
   * The names to have certificates for, one each: DNS names, wildcards such as `*.shop.example`, IP
   * addresses. Clients that name no server get the certificate of the address that they connect to,
   * else the first one's. Default: none, which needs `onDemand`.
   */
  readonly names?: readonly string[];
  /** Where all of it is kept: `fileStorage()`, `redisStorage()`, or one of your own. */
  readonly storage: CertificateStorage;
  /**
   * The challenges that may be used, the preferred first; after a failure the next one is tried.
   * `"tls-alpn-01"` needs a server on port 443 and works on Bun only; `"http-01"` needs one on port 80
   * with these certificates, such as `redirectServer()`. Default: `["dns-01"]` with `dns`; else both
   * on Bun, `"tls-alpn-01"` first where a server has port 443, and `["http-01"]` on Deno.
   */
  readonly challenges?: readonly ChallengeType[];
  /** Sets TXT records, for dns-01, which wildcards need. Default: none. */
  readonly dns?: DnsSolver;
  /** Certificates for other names, when a client asks for them. Default: none. */
  readonly onDemand?: OnDemandOptions;
}

/** Options with the defaults in. */
export interface AutomaticConfig
  extends Omit<AutomaticOptions, "names" | "challenges" | "onDemand" | "directory"> {
  readonly names: readonly string[];
  readonly challenges: readonly ChallengeType[];
  /** Whether the order of the challenges is the program's. */
  readonly prefers: boolean;
  readonly onDemand: Required<OnDemandOptions> | undefined;
  readonly directory: URL;
}

/** An object of the program's with some functions; it may be of a class, and have more. */
function objectWith<T>(what: string, needed: readonly string[], optional: readonly string[] = []) {
  return v.custom<T>((value) => {
    const object = Object(value) as Record<string, unknown>;
    return needed.every((name) => typeof object[name] === "function") &&
      optional.every((name) => ["undefined", "function"].includes(typeof object[name]));
  }, `must be ${what}`);
}

const { directory, ca, email, agreeToTerms, externalAccount } = CLIENT.pipe[1].entries;
const { profile, keyType, preferredChain } = ORDER.pipe[1].entries;
const NAMES = "must be an array of names";

const SCHEMA = members({
  names: v.optional(v.array(v.string(NAMES), NAMES), []),
  email,
  agreeToTerms,
  storage: objectWith<CertificateStorage>(
    "a storage, such as fileStorage()",
    ["get", "set", "delete", "list", "lock"],
  ),
  directory,
  ca,
  profile,
  externalAccount,
  keyType,
  preferredChain,
  challenges: v.optional(
    v.array(oneOf("http-01", "tls-alpn-01", "dns-01"), "must be an array of challenges"),
  ),
  dns: v.optional(
    objectWith<DnsSolver>("an object with set() and remove()", ["set", "remove"], ["settled"]),
  ),
  onDemand: v.optional(members({
    ask: callback<OnDemandOptions["ask"]>(),
    maxPerMinute: v.optional(count(), 10),
  })),
}, {
  advice: adviceFrom({
    domains: "write names",
    hosts: "write names",
    server: "write directory",
    accountKey: "leave it out: it is made, and kept in the storage",
    cacheDir: "write storage: fileStorage(directory)",
    staging: "write directory: LETS_ENCRYPT_STAGING",
  }),
});

const CALLEE = "automaticCertificates()";

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option; `NOT_SUPPORTED` where this runtime cannot
 * answer any of the challenges
 */
export function resolveAutomatic(options: AutomaticOptions): AutomaticConfig {
  const checked = checkOptions(CALLEE, SCHEMA, withoutUndefined(options));
  const names = checked.names.length === 0 ? [] : orderedNames(checked.names);
  if (names.length === 0 && checked.onDemand === undefined) {
    throw optionError(CALLEE, "names", "is empty: give names, or onDemand");
  }
  const challenges = challengesOf(checked);
  for (const name of names) assertProvable(name, challenges);
  return {
    ...withoutUndefined(checked) as AutomaticOptions,
    names,
    challenges,
    prefers: checked.challenges !== undefined,
    onDemand: checked.onDemand,
    directory: new URL(checked.directory),
  };
}

function challengesOf(
  { challenges, dns }: Pick<v.InferOutput<typeof SCHEMA>, "challenges" | "dns">,
): ChallengeType[] {
  const all: ChallengeType[] = dns !== undefined ? ["dns-01"] : ["tls-alpn-01", "http-01"];
  const wanted = [...new Set(challenges ?? all)];
  if (wanted.length === 0) throw optionError(CALLEE, "challenges", "is empty: leave it out");
  if (wanted.includes("dns-01") && dns === undefined) {
    throw optionError(CALLEE, "challenges", "has dns-01: give dns: { set, remove }, too");
  }
  if (dns !== undefined && !wanted.includes("dns-01")) {
    throw optionError(CALLEE, "dns", "is not used: put dns-01 into challenges, or leave it out");
  }
  const possible = wanted.filter((type) => runtime.name !== "deno" || type !== "tls-alpn-01");
  if (possible.length > 0) return possible;
  throw new ConfigError(
    "NOT_SUPPORTED",
    "Option challenges has tls-alpn-01 alone, which Deno's TLS cannot answer: its certificate has a " +
      "critical extension that Deno does not know. Use http-01 or dns-01, or run on Bun",
  );
}

/** Refuses a name that none of the challenges can prove. */
function assertProvable(name: string, challenges: readonly ChallengeType[]): void {
  if (name.startsWith("*.") && !challenges.includes("dns-01")) {
    throw optionError(
      CALLEE,
      "names",
      `has the wildcard ${name}, which dns-01 alone can prove: give dns: { set, remove }`,
    );
  }
  if (normalizeAddress(name) !== undefined && challenges.every((type) => type === "dns-01")) {
    throw optionError(
      CALLEE,
      "names",
      `has the address ${name}, which dns-01 cannot prove: use http-01 or tls-alpn-01`,
    );
  }
}
