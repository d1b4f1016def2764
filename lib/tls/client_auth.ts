/**
 * A policy for client certificates as programs make it, for the hook `certSelect`.
 *
 * @module
 */
import { checkOptions } from "../options.ts";
import { ClientPolicy, listOf, loadPolicy, readAuthorities } from "./client_policy.ts";
import { CLIENT_AUTH, type ClientAuthOptions } from "./options.ts";
import { givenMaterial, invalid, isPemOrDer } from "./source.ts";

/** Gives the policy that a `ClientAuth` holds: for the selector, and nothing else. */
export let policyOf: (clientAuth: ClientAuth) => ClientPolicy;

/**
 * A checked policy for client certificates, to be made once and used for many connections: it
 * remembers which certificates it has verified.
 */
export class ClientAuth {
  readonly #policy: ClientPolicy;

  static {
    policyOf = (clientAuth) => clientAuth.#policy;
  }

  /**
   * Checks a policy of PEM or DER; {@linkcode loadClientAuth} reads files too.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE` when a CA certificate cannot be read or has expired;
   * `INVALID_CONFIG` naming the option; `NOT_SUPPORTED` on Bun for an intermediate CA without its root
   */
  constructor(options: ClientAuthOptions) {
    const { ca, mode } = checkOptions("ClientAuth", CLIENT_AUTH, options);
    const name = "Option clientAuth.ca";
    const materials = listOf(ca).map((source) => {
      if (source instanceof URL || !isPemOrDer(source)) {
        throw invalid(
          `${name} is not PEM: give PEM or DER, or load the file with loadClientAuth()`,
        );
      }
      return givenMaterial(source, name);
    });
    this.#policy = new ClientPolicy({
      certificates: readAuthorities(materials, "clientAuth.ca"),
      required: mode === "required",
    });
  }

  /** The certificates of the option `ca` as PEM. */
  get ca(): readonly string[] {
    return this.#policy.ca;
  }

  /** Whether a certificate must be shown. */
  get required(): boolean {
    return this.#policy.required;
  }
}

/**
 * Reads and checks a policy for client certificates, files too.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` naming the file or option when a certificate cannot be
 * read or has expired; `INVALID_CONFIG` naming the option; `NOT_SUPPORTED` on Bun for an intermediate
 * CA without its root
 */
export async function loadClientAuth(options: ClientAuthOptions): Promise<ClientAuth> {
  const checked = checkOptions("loadClientAuth()", CLIENT_AUTH, options);
  const { ca, required } = (await loadPolicy(checked)).policy;
  return new ClientAuth({ ca, mode: required ? "required" : "optional" });
}
