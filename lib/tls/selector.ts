/**
 * Which certificate a client is shown: by the name it asks for, or where it asks for none, by the
 * address it connected to; by the protocols it speaks and the signatures it can verify; or by the
 * source of certificates, and where that has none by the hook `certSelect`.
 *
 * @module
 */
import { HTTP1, type ServedVersions } from "../alpn.ts";
import { assertServed } from "./served.ts";
import { isThenable } from "../contain/callbacks.ts";
import { type Endpoints, normalizeAddress } from "../endpoints.ts";
import { TlsError } from "../errors.ts";
import {
  type CertSelect,
  type CertSelection,
  checkSelection,
  refuse,
  Refused,
} from "./cert_select.ts";
import type { CheckedAnswer, ContainedSource } from "./certificate_source.ts";
import { policyOf } from "./client_auth.ts";
import type { ClientHello } from "./client_hello.ts";
import type { ClientPolicy } from "./client_policy.ts";
import { assertSettings, SecurityContext, sharesVersion, type TlsSettings } from "./context.ts";
import { readIdentity } from "./identity.ts";
import { filesDigestOf, type Identity } from "./loaded_identity.ts";
import { NameTable, normalizeName } from "./names.ts";
import type { ClientAuthOptions, HostOptions } from "./options.ts";
import { byAddress, byName, type LoadedHosts } from "./owners.ts";
import { ContextCache, type LoadedPolicies, Policies } from "./policies.ts";
import { canVerify } from "./signing.ts";
import { loadX509 } from "./x509.ts";

/** What a {@linkcode Selector} is made of. */
export interface SelectorOptions {
  /** The identity for clients that no other is for. */
  readonly fallback: HostOptions | undefined;
  /** The identities for names. */
  readonly hosts: readonly HostOptions[];
  /** The server's client-auth policy. */
  readonly clientAuth: ClientAuthOptions | undefined;
  /** The server's application protocols. */
  readonly alpnProtocols: readonly string[];
  /** Which versions of HTTP the server speaks: other names of them cannot be offered. */
  readonly served: ServedVersions;
  /** Refuse unknown names instead of showing the fallback. */
  readonly strictSni: boolean;
  /** The source of certificates, which is asked first. */
  readonly source?: ContainedSource | undefined;
  /** The user's hook. */
  readonly certSelect: CertSelect | undefined;
  /** What the hook gets as `tlsUserData`. */
  readonly tlsUserData: unknown;
  /** What is the same for all contexts. */
  readonly settings: TlsSettings;
}

/** What was read from files. */
export interface Watched {
  /** The options to load it by again. */
  readonly source: HostOptions | ClientAuthOptions;
  /** The identity or policy: the same as long as it is not loaded again. */
  readonly loaded: object;
  /** The absolute paths of the files. */
  readonly files: readonly string[];
  /** A digest of their contents as they were read. */
  readonly digest: string;
}

/** An immutable set of contexts and the rules to choose among them. */
export class Selector {
  readonly #options: SelectorOptions;
  readonly #loaded: LoadedHosts;
  readonly #policy: ClientPolicy | undefined;
  readonly #policies: LoadedPolicies;
  readonly #fallback: readonly SecurityContext[];
  readonly #names = new NameTable<SecurityContext[]>();
  readonly #addresses: ReadonlyMap<string, SecurityContext[]>;
  readonly #chosen: ContextCache;
  readonly #severalPolicies: boolean;

  private constructor(
    options: SelectorOptions,
    loaded: LoadedHosts,
    policy: ClientPolicy | undefined,
    policies: LoadedPolicies,
  ) {
    this.#options = options;
    this.#loaded = loaded;
    this.#policy = policy;
    this.#policies = policies;
    this.#chosen = new ContextCache(options.settings);
    const { fallback, hosts } = options;
    this.#fallback = fallback === undefined ? [] : [loaded.get(fallback)!];
    for (const [name, contexts] of byName(hosts, fallback, loaded)) this.#names.set(name, contexts);
    this.#addresses = byAddress(hosts, fallback, loaded);
    const inUse = new Set([...loaded.values()].map((context) => context.clientAuth));
    if (options.source !== undefined) inUse.add(policy);
    this.#severalPolicies = inUse.size > 1 || options.certSelect !== undefined;
  }

  /**
   * Loads and checks all identities. What `previous` has loaded from the same options objects is
   * kept unread, but for those in `changed`. A context that turns out to be the same is kept too, so
   * that sessions and tickets outlive a reload of their neighbours.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE`, `INVALID_CONFIG`; `previous` stays as it was
   */
  static async load(
    options: SelectorOptions,
    previous?: Selector,
    changed: ReadonlySet<HostOptions | ClientAuthOptions> = new Set(),
  ): Promise<Selector> {
    assertSettings(options.settings);
    // The hook may ask for client certificates, which the library reads when a handler looks at
    // them.
    if (options.certSelect !== undefined) await loadX509();
    for (const { alpnProtocols } of options.hosts) assertServed(alpnProtocols, options.served);
    const policies = new Policies(previous === undefined ? new Map() : previous.#policies, changed);
    const policy = options.clientAuth && await policies.get(options.clientAuth);
    const before: LoadedHosts = previous === undefined ? new Map() : previous.#loaded;
    const known = new Map(
      [...before.values()].map((context) => [originOf(context.identity), context]),
    );
    const loaded = new Map<HostOptions, SecurityContext>();
    for (const host of options.fallback ? [...options.hosts, options.fallback] : options.hosts) {
      const current = changed.has(host) ? undefined : before.get(host);
      const context = new SecurityContext({
        identity: current?.identity ?? await readIdentity(host),
        alpnProtocols: host.alpnProtocols ?? options.alpnProtocols,
        clientAuth: host.clientAuth === undefined
          ? policy
          : host.clientAuth === null
          ? undefined
          : await policies.get(host.clientAuth),
        settings: options.settings,
      });
      const same = current ?? known.get(originOf(context.identity));
      loaded.set(host, same !== undefined && context.equals(same) ? same : context);
    }
    return new Selector(options, loaded, policy, policies.loaded);
  }

  /** The options that it was loaded from. */
  get options(): SelectorOptions {
    return this.#options;
  }

  /** The loaded identities with the options that they come from. */
  *identities(): Iterable<[HostOptions, Identity]> {
    for (const [host, context] of this.#loaded) yield [host, context.identity];
  }

  /** What was read from files: identities and policies. */
  *watched(): Iterable<Watched> {
    for (const [source, identity] of this.identities()) {
      const { files } = identity;
      if (files.length > 0) {
        yield { source, loaded: identity, files, digest: filesDigestOf(identity) };
      }
    }
    for (const [source, policy] of this.#policies) {
      const { files, digest } = policy;
      if (files.length > 0) yield { source, loaded: policy, files, digest };
    }
  }

  /** Whether there is a TLS version for this client. */
  sharesVersion(hello: ClientHello): boolean {
    return sharesVersion(this.#options.settings, hello);
  }

  /**
   * Chooses a context, or refuses.
   *
   * @throws {TlsError} `TLS_SELECTION_FAILED` when the source or the hook throws, rejects or returns
   * what cannot be used
   */
  select(
    hello: ClientHello,
    endpoints: Endpoints,
  ): SecurityContext | Refused | Promise<SecurityContext | Refused> {
    const { source, served } = this.#options;
    const answer = source?.select(hello, endpoints, served);
    return answer instanceof Promise
      ? answer.then((settled) => this.#fromSource(settled, hello, endpoints))
      : this.#fromSource(answer, hello, endpoints);
  }

  /** The context for what the source has answered; where that is nothing, the hook is asked. */
  #fromSource(
    answer: CheckedAnswer,
    hello: ClientHello,
    endpoints: Endpoints,
  ): SecurityContext | Refused | Promise<SecurityContext | Refused> {
    if (answer === undefined) return this.#byHook(hello, endpoints);
    if (answer instanceof Refused) return answer;
    const { identity, alpnProtocols = this.#options.alpnProtocols } = answer;
    return this.#chosen.get(identity, this.#policy, alpnProtocols);
  }

  #byHook(
    hello: ClientHello,
    endpoints: Endpoints,
  ): SecurityContext | Refused | Promise<SecurityContext | Refused> {
    const { certSelect, tlsUserData } = this.#options;
    if (certSelect === undefined) return this.#bySni(hello, endpoints);
    try {
      const answer = certSelect(hello, { ...endpoints, tlsUserData });
      if (!isThenable(answer)) return this.#chosenBy(answer, hello, endpoints);
      return Promise.resolve(answer)
        .then((settled) => this.#chosenBy(settled, hello, endpoints))
        .catch((cause) => {
          throw selectionFailed(cause);
        });
    } catch (cause) {
      throw selectionFailed(cause);
    }
  }

  /** The context for what a hook returned, which may be anything. */
  #chosenBy(
    answer: CertSelection,
    hello: ClientHello,
    endpoints: Endpoints,
  ): SecurityContext | Refused {
    if (answer === undefined || answer === null) return this.#bySni(hello, endpoints);
    if (answer instanceof Refused) return answer;
    const { identity, alpnProtocols, clientAuth } = checkSelection(answer, this.#options.served);
    return this.#chosen.get(
      identity,
      clientAuth === undefined
        ? this.#policy
        : clientAuth === null
        ? undefined
        : policyOf(clientAuth),
      alpnProtocols ?? this.#options.alpnProtocols,
    );
  }

  /** The context for the name that a client asks for, or for the address, if it asks for none. */
  #bySni(hello: ClientHello, { localAddress }: Endpoints): SecurityContext | Refused {
    const { serverName } = hello;
    const own = serverName === undefined
      ? this.#byAddress(localAddress)
      : this.#names.get(serverName);
    const strict = this.#options.strictSni && serverName !== undefined;
    const candidates = own ?? (strict ? [] : this.#fallback);
    return bestFor(hello, candidates) ?? refuse("unrecognized_name");
  }

  #byAddress(address: string): readonly SecurityContext[] | undefined {
    return this.#addresses.size === 0
      ? undefined
      : this.#addresses.get(normalizeAddress(address) ?? "");
  }

  /** Whether every connection may speak for every host. */
  get speaksForAll(): boolean {
    return !this.#severalPolicies;
  }

  /**
   * Whether a connection may carry requests for `host` (RFC 9110 section 7.4): under the policy of
   * one name it must not reach what another name protects with a different policy.
   */
  speaksFor(connection: ServedConnection, host: string | undefined): boolean {
    if (this.speaksForAll || host === undefined) return true;
    const { context, sni } = connection;
    const asked = hostname(host);
    const address = normalizeAddress(asked);
    if (address !== undefined) return this.#speaksForAddress(connection, address);
    const name = normalizeName(asked);
    if (name === sni) return true;
    if (name !== undefined && this.#isSourced(name)) return context.clientAuth === this.#policy;
    if (this.#options.certSelect !== undefined) return false;
    const candidates = name === undefined ? undefined : this.#names.get(name);
    return isUnderPolicyOf(context, candidates ?? this.#fallback);
  }

  /**
   * The same where the host is an address. A client that named no server speaks for the address that
   * it connected to; behind a translation of addresses that is not the one it knows, so an address
   * that no identity is for goes by the fallback, and with a hook by the hook's choice.
   */
  #speaksForAddress({ context, sni, localAddress }: ServedConnection, address: string): boolean {
    if (sni === undefined && address === normalizeAddress(localAddress)) return true;
    if (this.#isSourced(address)) return context.clientAuth === this.#policy;
    const own = this.#addresses.get(address);
    if (this.#options.certSelect !== undefined) {
      return sni === undefined && (own === undefined || isUnderPolicyOf(context, own));
    }
    return isUnderPolicyOf(context, own ?? this.#fallback);
  }

  /** Whether the host of an authority is a name or address of an identity, or of the source. */
  isFor(authority: string): boolean {
    const asked = hostname(authority);
    const address = normalizeAddress(asked);
    if (address !== undefined) return this.#addresses.has(address) || this.#isSourced(address);
    const name = normalizeName(asked);
    return name !== undefined && (this.#names.get(name) !== undefined || this.#isSourced(name));
  }

  /** Whether the source has a certificate for a name or address; the server's policy holds there. */
  #isSourced(name: string): boolean {
    return this.#options.source?.covers(name) ?? false;
  }
}

/**
 * The same for identities of one certificate from the same files: of two files with the same in them
 * one may be renewed before the other, so each is watched.
 */
function originOf({ fingerprint256, files }: Identity): string {
  return [fingerprint256, ...files].join("\0");
}

/** The input of the choice for a connection, and its result. */
export interface ServedConnection {
  /** The context that was chosen. */
  readonly context: SecurityContext;
  /** The name that the client asked for. */
  readonly sni: string | undefined;
  /** The address that the client connected to. */
  readonly localAddress: string;
}

/** Whether all candidates ask for the same client certificates as `context`. */
function isUnderPolicyOf(
  context: SecurityContext,
  candidates: readonly SecurityContext[],
): boolean {
  return candidates.every((candidate) => candidate.clientAuth === context.clientAuth);
}

/** The host of an authority, without its port and without the brackets of an IPv6 address. */
function hostname(authority: string): string {
  const host = authority.replace(/:\d*$/, "");
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

/** A client that offers no protocols speaks HTTP/1.1 (RFC 7301 leaves it to the application). */
const IMPLIED_PROTOCOLS = [HTTP1];

/** The first that shares a protocol with the client and whose signatures it can verify. */
function bestFor(
  hello: ClientHello,
  candidates: readonly SecurityContext[],
): SecurityContext | undefined {
  if (candidates.length < 2) return candidates[0];
  const offered = hello.alpnProtocols.length > 0 ? hello.alpnProtocols : IMPLIED_PROTOCOLS;
  const speaking = candidates.filter(({ alpnProtocols }) =>
    alpnProtocols.some((protocol) => offered.includes(protocol))
  );
  const pool = speaking.length > 0 ? speaking : candidates;
  return pool.find(({ identity }) => canVerify(hello, identity.keyType)) ?? pool[0];
}

function selectionFailed(cause: unknown): TlsError {
  if (cause instanceof TlsError) return cause;
  return new TlsError("TLS_SELECTION_FAILED", "Hook certSelect threw", { cause });
}
