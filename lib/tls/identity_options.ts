/**
 * The checks of what an identity is loaded from. Misspelt names must not be ignored: they may guard
 * something.
 *
 * @module
 */
import * as v from "valibot";
import { SERVER_NAMES } from "../foreign_names.ts";
import { adviceFrom, checkOptions, given, members, text, yesOrNo } from "../options.ts";
import type { IdentityOptions } from "./identity.ts";

/** The members of {@linkcode IdentityOptions}; what is in them is checked when they are read. */
export const IDENTITY_ENTRIES = {
  cert: v.optional(given<NonNullable<IdentityOptions["cert"]>>("a certificate")),
  key: v.optional(given<NonNullable<IdentityOptions["key"]>>("a private key")),
  pfx: v.optional(given<NonNullable<IdentityOptions["pfx"]>>("a PKCS#12 file")),
  passphrase: v.optional(text),
  allowExpired: v.optional(yesOrNo, false),
};

const SCHEMA = members(IDENTITY_ENTRIES, { advice: adviceFrom(SERVER_NAMES) });

/**
 * Checks the options of `loadIdentity()`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function assertIdentityOptions(options: IdentityOptions): void {
  checkOptions("loadIdentity()", SCHEMA, options);
}
