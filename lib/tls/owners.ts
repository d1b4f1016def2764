/**
 * Which loaded identities own a name or an address. Where several do, what the client offers decides
 * between them, so they must have one policy for client certificates.
 *
 * @module
 */
import { normalizeAddress } from "../endpoints.ts";
import { ConfigError } from "../errors.ts";
import type { SecurityContext } from "./context.ts";
import type { Identity } from "./loaded_identity.ts";
import { normalizePattern } from "./names.ts";
import type { HostOptions } from "./options.ts";

/** Loaded hosts by their options object. */
export type LoadedHosts = ReadonlyMap<HostOptions, SecurityContext>;

/**
 * The contexts of each name and wildcard, those of the hosts before the fallback's.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when two hosts have one name and different policies
 */
export function byName(
  hosts: readonly HostOptions[],
  fallback: HostOptions | undefined,
  loaded: LoadedHosts,
): Map<string, SecurityContext[]> {
  const all = fallback === undefined ? hosts : [...hosts, fallback];
  return grouped(all, loaded, namesOf, (host) => host === fallback);
}

/**
 * The contexts of each address: of the hosts whose `names` have it; then the fallback's, which is the
 * one for clients that name no server; then of the hosts that only their certificate is for it.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when two hosts have one address and different policies, and
 * neither the option `names` nor the fallback decides between them
 */
export function byAddress(
  hosts: readonly HostOptions[],
  fallback: HostOptions | undefined,
  loaded: LoadedHosts,
): Map<string, SecurityContext[]> {
  const [named, others] = [hosts.filter(hasNames), hosts.filter((host) => !hasNames(host))];
  const first = fallback === undefined ? named : [...named, fallback];
  const taken = new Set(first.flatMap((host) => addressesOf(host, loaded.get(host)!.identity)));
  return grouped(
    [...first, ...others],
    loaded,
    addressesOf,
    (host, address) => host === fallback || (!hasNames(host) && taken.has(address)),
  );
}

function hasNames({ names }: HostOptions): boolean {
  return names !== undefined;
}

/**
 * The contexts of each key, those of earlier hosts first. Where several share one, what the client
 * offers decides between them, so all must ask for the same client certificates. One that does not is
 * left out where it `yields`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when it does not yield either
 */
function grouped(
  hosts: readonly HostOptions[],
  loaded: LoadedHosts,
  keysOf: (host: HostOptions, identity: Identity) => readonly string[],
  yields: (host: HostOptions, key: string) => boolean,
): Map<string, SecurityContext[]> {
  const table = new Map<string, SecurityContext[]>();
  for (const host of hosts) {
    const context = loaded.get(host)!;
    for (const key of keysOf(host, context.identity)) {
      const contexts = table.get(key);
      if (contexts === undefined) table.set(key, [context]);
      else if (contexts.every((other) => arePooled(other, context))) contexts.push(context);
      else if (!yields(host, key)) {
        throw new ConfigError(
          "INVALID_CONFIG",
          `Option identities has two policies for client certificates of ${key}: give the same ` +
            "clientAuth, or the option names, so that it belongs to one",
        );
      }
    }
  }
  return table;
}

/** Whether a client may choose between the two by its offer. */
function arePooled(one: SecurityContext, other: SecurityContext): boolean {
  return one.clientAuth === other.clientAuth || one.isChallenge || other.isChallenge;
}

/** The names of a host in normal form. */
function namesOf(host: HostOptions, identity: Identity): readonly string[] {
  if (host.names === undefined) return identity.names;
  return host.names.flatMap((name) => {
    const normal = normalizePattern(name);
    if (normal !== undefined) return normal;
    if (normalizeAddress(name) !== undefined) return [];
    throw new ConfigError(
      "INVALID_CONFIG",
      `Option names holds ${
        JSON.stringify(name)
      }: use names such as a.example or *.a.example, and ` +
        "IP addresses",
    );
  });
}

/** The addresses of a host in normal form. */
function addressesOf(host: HostOptions, identity: Identity): readonly string[] {
  if (host.names === undefined) return identity.addresses;
  return host.names.map(normalizeAddress).filter((address) => address !== undefined);
}
