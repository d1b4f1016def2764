/**
 * The checks of what an identity is loaded from. Misspelt names must not be ignored: they may guard
 * something.
 *
 * @module
 */
import * as v from "valibot";
import { SERVER_NAMES } from "../foreign_names.ts";
import { adviceFrom, checkOptions, given, members, oneOf, text, yesOrNo } from "../options.ts";
import type { ClientAuthOptions } from "./client_auth.ts";
import type { IdentityOptions } from "./identity.ts";

const FORMS = "give PEM text, PEM or DER bytes, or the file that holds it";

/** The members of {@linkcode IdentityOptions}; what is in them is checked when they are read. */
export const IDENTITY_ENTRIES = {
  cert: v.optional(given<NonNullable<IdentityOptions["cert"]>>(`a certificate: ${FORMS}`)),
  key: v.optional(
    given<NonNullable<IdentityOptions["key"]>>(`a private key: ${FORMS}, or a KeyProvider`),
  ),
  pfx: v.optional(
    given<NonNullable<IdentityOptions["pfx"]>>("a PKCS#12 file: give its bytes, or its path"),
  ),
  passphrase: v.optional(text),
  allowExpired: v.optional(yesOrNo, false),
};

const advice = adviceFrom(SERVER_NAMES);

/** The members of {@linkcode ClientAuthOptions}. */
export const CLIENT_AUTH = members({
  ca: given<ClientAuthOptions["ca"]>("the CA's certificate"),
  mode: v.optional(oneOf("required", "optional"), "required"),
}, { advice });

const SCHEMA = members(IDENTITY_ENTRIES, { advice });

/**
 * Checks the options of `loadIdentity()`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function assertIdentityOptions(options: IdentityOptions): void {
  checkOptions("loadIdentity()", SCHEMA, options);
}
