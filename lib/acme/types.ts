/**
 * What the ACME client (RFC 8555) takes and gives: options, challenges, solvers, certificates.
 *
 * @module
 */
import type { AcmeError } from "../errors.ts";
import type { KeyAlgorithm } from "../tls/authority_options.ts";

/** The ways to prove the control of a name (RFC 8555 sections 8.3 and 8.4, RFC 8737). */
export type ChallengeType = "http-01" | "tls-alpn-01" | "dns-01";

/** What a certificate is asked for: a DNS name, or an IP address (RFC 8738). */
export interface AcmeIdentifier {
  /** Which of the two. */
  readonly type: "dns" | "ip";
  /** The name without `*.`, or the address. */
  readonly value: string;
}

/** What all challenges have. */
export interface ChallengeBase {
  /** The name or address that is proven. */
  readonly identifier: AcmeIdentifier;
  /** What the CA calls the challenge: base64url. */
  readonly token: string;
  /** The token and the thumbprint of the account's key (RFC 8555 section 8.1). */
  readonly keyAuthorization: string;
  /** When the client gives the challenge up, in ms since 1970: what is stored for it may go then. */
  readonly expires: number;
}

/** A challenge that is answered over http on port 80 (RFC 8555 section 8.3). */
export interface HttpChallenge extends ChallengeBase {
  /** The kind. */
  readonly type: "http-01";
  /** The path that is asked for; the answer's body is `keyAuthorization`. */
  readonly path: string;
}

/** A challenge that is answered by a TXT record (RFC 8555 section 8.4). */
export interface DnsChallenge extends ChallengeBase {
  /** The kind. */
  readonly type: "dns-01";
  /** The record's name, such as `_acme-challenge.shop.example`, without a dot at its end. */
  readonly recordName: string;
  /**
   * The record's value: a digest in base64url. A name and its wildcard have the same record name, so
   * that two values must be able to be there at once.
   */
  readonly recordValue: string;
}

/** A challenge that is answered in the handshake for `acme-tls/1` on port 443 (RFC 8737). */
export interface TlsAlpnChallenge extends ChallengeBase {
  /** The kind. */
  readonly type: "tls-alpn-01";
  /** The SNI that the CA sends: the name, or for an address its reverse name (RFC 8738 section 6). */
  readonly serverName: string;
  /** PEM of the certificate to show, with the acmeIdentifier extension. */
  readonly certificate: string;
  /** PEM of its PKCS#8 private key. */
  readonly privateKey: string;
}

/** Any challenge. */
export type Challenge = HttpChallenge | DnsChallenge | TlsAlpnChallenge;

/**
 * What answers challenges of one type. What it throws or rejects with fails the order with
 * `ACME_SOLVER_FAILED`; `signal` is aborted when the order is over or out of time.
 */
export interface SolverOf<T extends ChallengeType> {
  /** The type that it answers. */
  readonly type: T;
  /** Whether it can answer for this name; without it, it can for each that the type is defined for. */
  solves?(identifier: AcmeIdentifier, wildcard: boolean): boolean;
  /** Makes the answer available; the CA is told when it has. */
  set(challenge: Extract<Challenge, { type: T }>, signal: AbortSignal): Promise<void> | void;
  /** Takes the answer away; also after a `set()` that failed. Gets ten seconds. */
  remove(challenge: Extract<Challenge, { type: T }>, signal: AbortSignal): Promise<void> | void;
  /** Resolves when the CA can see the answer, as when DNS servers have the record. */
  settled?(challenge: Extract<Challenge, { type: T }>, signal: AbortSignal): Promise<void> | void;
}

/** What answers challenges. */
export type ChallengeSolver = SolverOf<"http-01"> | SolverOf<"tls-alpn-01"> | SolverOf<"dns-01">;

/** The names of the CA for an account at another place (RFC 8555 section 7.3.4). */
export interface ExternalAccount {
  /** What the CA calls the account. */
  readonly kid: string;
  /** The key that the CA gave, in base64url. */
  readonly hmacKey: string;
}

/** The options of `acmeClient()`. */
export interface AcmeClientOptions {
  /**
   * The URL of the CA's directory, https only. Default: {@linkcode LETS_ENCRYPT}; for trials
   * {@linkcode LETS_ENCRYPT_STAGING}.
   */
  readonly directory?: string | URL;
  /**
   * The authorities that the directory's own certificate is verified by, instead of the runtime's:
   * PEM, or the file that has it. Default: the runtime's.
   */
  readonly ca?: string | Uint8Array | URL;
  /**
   * The account's private key: PEM of PKCS#8, P-256, P-384 or RSA of 2048 bits or more. Make one by
   * `newAccountKey()`, and keep it.
   */
  readonly accountKey: string;
  /** Where the CA may write to. Default: nowhere. */
  readonly email?: string | readonly string[];
  /** Whether the CA's terms of service are agreed to; needed where the CA has some. */
  readonly agreeToTerms?: boolean;
  /** The account at the CA that this one is bound to; needed where the CA says so. */
  readonly externalAccount?: ExternalAccount;
  /** How long one request may take from connecting to the last byte, in ms. Default: 30,000. */
  readonly requestMs?: number;
  /** How long an order may take as a whole, in ms. Default: 600,000. */
  readonly orderMs?: number;
}

/** What every call can be given. */
export interface CallOptions {
  /** Ends the call, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What is ordered. */
export interface OrderOptions extends CallOptions {
  /** The names: DNS names, wildcards such as `*.shop.example`, IP addresses. */
  readonly names: readonly string[];
  /** What can answer challenges, the preferred first. */
  readonly solvers: readonly ChallengeSolver[];
  /** One of the profiles in the directory, such as `shortlived`. Default: the CA's choice. */
  readonly profile?: string;
  /**
   * PEM of the certificate that is to be replaced, which tells the CA that it is a renewal (RFC 9773
   * section 5). A CA that says that it has been replaced already is asked again without.
   */
  readonly replaces?: string;
  /** PEM of the PKCS#8 private key to certify. Default: a new one of `keyType`. */
  readonly privateKey?: string;
  /** The kind of key to make. Default: `"ECDSA P-256"`. */
  readonly keyType?: KeyAlgorithm;
  /**
   * The common name of the root or intermediate that the chain should end below: taken from the
   * alternate chains, if one has it. Default: the CA's first chain.
   */
  readonly preferredChain?: string;
  /**
   * Is called with what goes wrong without failing the order: a `remove()` or a listener that threw.
   * Default: it goes to `console.error`.
   */
  readonly onFailure?: (error: AcmeError) => unknown;
}

/** A certificate that the CA issued. */
export interface AcmeCertificate {
  /** PEM: the certificate, then its intermediates. */
  readonly chain: string;
  /** PEM of the PKCS#8 private key. */
  readonly privateKey: string;
  /** The names, normalized. */
  readonly names: readonly string[];
  /** The first moment of its validity, in ms since 1970. */
  readonly notBefore: number;
  /** The last moment of its validity, in ms since 1970. */
  readonly notAfter: number;
  /** Whether the CA took it for the replacement of `replaces`. */
  readonly replaced: boolean;
}

/** When the CA wants a certificate to be renewed (RFC 9773 section 4.2). */
export interface RenewalInfo {
  /** The beginning of the window, in ms since 1970. */
  readonly start: number;
  /** The end of the window, in ms since 1970, after `start`. */
  readonly end: number;
  /** A page that says why. */
  readonly explanationUrl?: string;
  /** When to ask again, in ms from now: 1 minute to 1 day; 6 hours where the CA does not say. */
  readonly retryAfterMs: number;
}

/** What a CA says about itself. */
export interface AcmeDirectory {
  /** Where its terms of service are. */
  readonly termsOfService?: string;
  /** Its web site. */
  readonly website?: string;
  /** Whether accounts must be bound to one that was made elsewhere. */
  readonly externalAccountRequired: boolean;
  /** Its profiles, and what each is. */
  readonly profiles: Readonly<Record<string, string>>;
  /** Whether it says when to renew (RFC 9773). */
  readonly renewalInfo: boolean;
}

/** An account at the CA. */
export interface AcmeAccount {
  /** What the CA knows it by. */
  readonly url: string;
  /** `valid`, or why it cannot be used: `deactivated`, `revoked`. */
  readonly status: string;
}

/** Why a certificate is revoked (RFC 5280 section 5.3.1), as far as a subscriber may say. */
export type RevocationReason =
  | "unspecified"
  | "keyCompromise"
  | "affiliationChanged"
  | "superseded"
  | "cessationOfOperation";

/** Which certificate is revoked, and why. */
export interface RevokeOptions extends CallOptions {
  /** PEM of the certificate; of a chain, the first. */
  readonly certificate: string;
  /** Why. Default: nothing is said. */
  readonly reason?: RevocationReason;
  /** PEM of the certificate's own private key, which then signs instead of the account's. */
  readonly privateKey?: string;
}

/**
 * A client of one CA with one account. Its calls reject with {@linkcode AcmeError}, or with the
 * reason of their signal; all of them end in time.
 */
export interface AcmeClient {
  /** Asks what the CA says about itself; once an hour at most. */
  directory(options?: CallOptions): Promise<AcmeDirectory>;
  /** Finds the account of the key, or creates it; once. */
  account(options?: CallOptions): Promise<AcmeAccount>;
  /** Gives the account the `email` of the options, or another one. */
  updateAccount(options: CallOptions & { email: string | readonly string[] }): Promise<AcmeAccount>;
  /** Replaces the account's key (RFC 8555 section 7.3.5), which is used from then on. */
  rollKey(accountKey: string, options?: CallOptions): Promise<void>;
  /** Gives the account up for ever (RFC 8555 section 7.3.6). */
  deactivate(options?: CallOptions): Promise<void>;
  /** Orders a certificate: answers the challenges, and gives the chain with its key. */
  order(options: OrderOptions): Promise<AcmeCertificate>;
  /** Revokes a certificate (RFC 8555 section 7.6). */
  revoke(options: RevokeOptions): Promise<void>;
  /**
   * Asks when a certificate, PEM, is to be renewed; `undefined` when the CA does not say, or the
   * certificate has no authority key identifier.
   */
  renewalInfo(certificate: string, options?: CallOptions): Promise<RenewalInfo | undefined>;
}

/** The directory of Let's Encrypt. */
export const LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory";

/** The directory of Let's Encrypt for trials: its certificates are not trusted by clients. */
export const LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory";
