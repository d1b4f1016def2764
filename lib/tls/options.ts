/**
 * The options that certificates, keys and policies for client certificates are loaded from, and
 * their checks. Misspelt names must not be ignored: a security check may depend on them.
 *
 * @module
 */
import * as v from "valibot";
import { serverNames } from "../foreign_names.ts";
import { adviceFrom, checkOptions, flag, given, members, oneOf, text } from "../options.ts";
import type { KeySource } from "./private_key.ts";
import type { Source } from "./source.ts";

/** What an identity is loaded from: `cert` with `key`, or `pfx`. */
export interface IdentityOptions {
  /**
   * The certificate and behind it the intermediate certificates, each issued by the next: in one
   * source, or in several (original: `servercert`). Default: none.
   */
  readonly cert?: Source | readonly Source[];
  /**
   * The private key: PKCS#8, PKCS#1 or SEC1 in PEM or DER, encrypted or not; a key object; or a
   * provider that fetches it (original: `prvtkey_pem`, `server_key`). Default: the key that is in
   * `cert` too.
   */
  readonly key?: KeySource;
  /** What opens an encrypted key, or `pfx`. Default: none. */
  readonly passphrase?: string;
  /** A PKCS#12 file with certificate, chain and key, instead of `cert` and `key`. Default: none. */
  readonly pfx?: Source;
  /** Serve certificates that have expired, for tests and for clocks that are wrong. Default: false. */
  readonly allowExpired?: boolean;
}

/** A policy for client certificates. */
export interface ClientAuthOptions {
  /**
   * The authorities' certificates that clients' certificates must be issued by: PEM text, PEM or DER
   * bytes, or the files that hold them. A certificate that may issue none, such as a client's own,
   * lets in exactly itself.
   */
  readonly ca: Source | readonly Source[];
  /**
   * `"required"`: no connection without a verified certificate. `"optional"`: `authorized` is
   * whether one was shown and verified. Default: `"required"`.
   */
  readonly mode?: "required" | "optional";
}

/** A policy with the option that it was written as, for messages; default: `clientAuth.ca`. */
export interface WrittenClientAuth extends ClientAuthOptions {
  /** The name of the option. */
  readonly option?: string;
}

/** An identity and what goes with it. */
export interface HostOptions extends IdentityOptions {
  /**
   * What it is shown for: names such as `www.example.com` or `*.example.com`, and for clients that
   * name no server, the IP addresses that they connect to. Default: the certificate's own.
   */
  readonly names?: readonly string[];
  /** The application protocols spoken under these names. Default: the server's. */
  readonly alpnProtocols?: readonly string[];
  /** The policy for client certificates; `null`: none is asked for. Default: the server's. */
  readonly clientAuth?: ClientAuthOptions | null;
}

const FORMS = "give PEM text, PEM or DER bytes, or the file that holds it";

/** The members of {@linkcode IdentityOptions}; their values are checked when they are read. */
export const IDENTITY_ENTRIES = {
  cert: v.optional(given<NonNullable<IdentityOptions["cert"]>>(`a certificate: ${FORMS}`)),
  key: v.optional(
    given<NonNullable<IdentityOptions["key"]>>(`a private key: ${FORMS}, or a KeyProvider`),
  ),
  pfx: v.optional(
    given<NonNullable<IdentityOptions["pfx"]>>("a PKCS#12 file: give its bytes, or its path"),
  ),
  passphrase: v.optional(text),
  allowExpired: flag(false),
};

const advice = adviceFrom(serverNames);

/** The members of {@linkcode ClientAuthOptions}. */
export const CLIENT_AUTH = members({
  ca: given<ClientAuthOptions["ca"]>("the CA's certificate"),
  mode: v.optional(oneOf("required", "optional"), "required"),
}, { advice });

/** The check of names of application protocols. */
export const ALPN_PROTOCOLS: v.GenericSchema<readonly string[]> = v.pipe(
  v.array(
    v.pipe(
      v.string("must be protocol names"),
      v.regex(/^[\x20-\x7e]{1,255}$/, "must be protocol names of 1 to 255 characters"),
    ),
    "must be an array",
  ),
  v.readonly(),
);

/** The check of names of cipher suites. */
export const CIPHER_NAMES: v.GenericSchema<readonly string[]> = v.pipe(
  v.array(
    v.pipe(v.string("must be cipher names"), v.regex(/^[A-Z0-9-]+$/, "must be cipher names")),
    "must be an array of cipher names",
  ),
  v.nonEmpty("must not be empty"),
  v.readonly(),
);

const SCHEMA = members(IDENTITY_ENTRIES, { advice });

/**
 * Checks the options of `loadIdentity()`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function assertIdentityOptions(options: IdentityOptions): void {
  checkOptions("loadIdentity()", SCHEMA, options);
}

/** {@linkcode IdentityOptions} as a checked configuration has them, with what was left out. */
type GivenIdentity = { readonly [K in keyof IdentityOptions]: IdentityOptions[K] | undefined };

/** The identity at the top of a server's options; `undefined` when they have none. */
export function defaultHost(options: GivenIdentity): HostOptions | undefined {
  const { cert, key, pfx, passphrase, allowExpired } = options;
  if (cert === undefined && key === undefined && pfx === undefined) return undefined;
  return {
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(pfx !== undefined && { pfx }),
    ...(passphrase !== undefined && { passphrase }),
    ...(allowExpired !== undefined && { allowExpired }),
  };
}
