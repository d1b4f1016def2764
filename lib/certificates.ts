/**
 * What the choice of certificates is made of, among a server's options.
 *
 * @module
 */
import type { Config } from "./config.ts";
import { ConfigError } from "./errors.ts";
import { DEFAULT_CIPHERS } from "./tls/ciphers.ts";
import { defaultHost } from "./tls/options.ts";
import type { ContainedSource } from "./tls/certificate_source.ts";
import type { SelectorOptions } from "./tls/selector.ts";

/**
 * Returns what a server's certificates are chosen by; `source` is that of its options.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when the options have none
 */
export function selectorOptions(
  config: Config,
  source: ContainedSource | undefined,
): SelectorOptions {
  const { identities, alpnProtocols, strictSni, certSelect, tlsUserData } = config;
  const fallback = defaultHost(config);
  const others = identities.length > 0 || certSelect !== undefined || source !== undefined;
  if (fallback === undefined && !others) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      "Options cert and key are needed: give them, or certificates, or use " +
        'transportMode: "insecure"',
    );
  }
  return {
    fallback,
    hosts: identities,
    clientAuth: config.clientAuth ?? undefined,
    alpnProtocols,
    served: { http1: config.http1, http2: config.http2 !== false },
    strictSni,
    source,
    certSelect,
    tlsUserData,
    settings: {
      minVersion: config.minVersion,
      maxVersion: config.maxVersion,
      ciphers: config.ciphers?.join(":") ?? DEFAULT_CIPHERS,
      sessionTickets: config.sessionTickets,
    },
  };
}
