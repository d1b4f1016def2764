/**
 * `loadIdentity()` as programs have it: what reads certificates and keys is loaded with the first.
 *
 * @module
 */
import type { Identity } from "./loaded_identity.ts";
import type { IdentityOptions } from "./options.ts";

/**
 * Reads a certificate chain and its key, and checks that clients will accept them: that they are a
 * pair, in order, valid now, and made for servers.
 *
 * A key provider is waited for as long as it takes.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` naming the file or option and what to do;
 * `NOT_SUPPORTED` for a key, key object or PKCS#12 encryption that the runtime cannot use;
 * `INVALID_CONFIG` for an option that is not known, and for both `pfx` and `cert` or `key`
 */
export async function loadIdentity(options: IdentityOptions): Promise<Identity> {
  const identities = await import("./identity.ts");
  return await identities.loadIdentity(options);
}
