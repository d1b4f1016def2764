/**
 * Which certificate a client is shown: by the name it asks for, the protocols it speaks and the
 * signatures it can check; or by the user's own word.
 *
 * @module
 */
import { isThenable } from "../callbacks.ts";
import { ConfigError, TlsError } from "../errors.ts";
import type { Endpoints } from "../net/endpoints.ts";
import { shown } from "../options.ts";
import {
  ClientAuth,
  type ClientAuthOptions,
  type LoadedPolicy,
  loadPolicy,
} from "./client_auth.ts";
import type { ClientHello } from "./client_hello.ts";
import { assertSettings, SecurityContext, sharesVersion, type TlsSettings } from "./context.ts";
import { filesDigestOf, Identity, type IdentityOptions, readIdentity } from "./identity.ts";
import { NameTable, normalizeName, normalizePattern } from "./names.ts";

/** An identity and what goes with it. */
export interface HostOptions extends IdentityOptions {
  /** The names it is shown for, as `www.example.com` or `*.example.com`. Default: the certificate's. */
  readonly names?: readonly string[];
  /** The application protocols spoken under these names. Default: the server's. */
  readonly alpnProtocols?: readonly string[];
  /** Whom client certificates must come from; `null`: none is asked for. Default: the server's. */
  readonly clientAuth?: ClientAuthOptions | null;
}

/** What a `certSelect` hook may answer besides an identity. */
export interface ContextSelection {
  /** The identity to show. */
  readonly identity: Identity;
  /** The application protocols to speak. Default: the server's. */
  readonly alpnProtocols?: readonly string[];
  /** Whom client certificates must come from; `null`: none is asked for. Default: the server's. */
  readonly clientAuth?: ClientAuth | null;
}

/** The alert that a refused client gets (RFC 8446 section 6). */
export type RefusalAlert = "unrecognized_name" | "access_denied";

/** A `certSelect` hook's refusal; made with {@linkcode refuse}. */
export class Refused {
  /** The alert to send. */
  readonly alert: RefusalAlert;

  /** Makes a refusal. */
  constructor(alert: RefusalAlert) {
    this.alert = alert;
  }
}

/**
 * What a `certSelect` hook returns to refuse the connection with a TLS alert.
 *
 * @throws {ConfigError} `INVALID_CONFIG` for an alert that cannot be sent
 */
export function refuse(alert: RefusalAlert = "unrecognized_name"): Refused {
  if (alert !== "unrecognized_name" && alert !== "access_denied") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The alert of refuse() is ${shown(alert)}: use "unrecognized_name" or "access_denied"`,
    );
  }
  return new Refused(alert);
}

/** What a `certSelect` hook answers; nothing: the server's own selection decides. */
export type CertSelection = Identity | ContextSelection | Refused | undefined | null | void;

/** What a `certSelect` hook knows of the connection. */
export interface HandshakeInfo extends Endpoints {
  /** The option `tlsUserData` (original: `ssl_userdata`). */
  readonly tlsUserData: unknown;
}

/** Chooses a certificate for a ClientHello (original: `cert_select_cb`). */
export type CertSelect = (
  hello: ClientHello,
  handshake: HandshakeInfo,
) => CertSelection | Promise<CertSelection>;

/** What a {@linkcode Selector} is made of. */
export interface SelectorOptions {
  /** The identity for clients that name no server, or an unknown one. */
  readonly fallback: HostOptions | undefined;
  /** The identities for names. */
  readonly hosts: readonly HostOptions[];
  /** The server's client-auth policy. */
  readonly clientAuth: ClientAuthOptions | undefined;
  /** The server's application protocols. */
  readonly alpnProtocols: readonly string[];
  /** Refuse unknown names instead of showing the fallback. */
  readonly strictSni: boolean;
  /** The user's hook. */
  readonly certSelect: CertSelect | undefined;
  /** What the hook gets as `tlsUserData`. */
  readonly tlsUserData: unknown;
  /** What is the same for all contexts. */
  readonly settings: TlsSettings;
}

/** Loaded hosts by their options object. */
type Loaded = Map<HostOptions, SecurityContext>;

/** Loaded policies by their options object. */
type LoadedPolicies = ReadonlyMap<ClientAuthOptions, LoadedPolicy>;

/** What was read from files. */
export interface Watched {
  /** The options to load it by again. */
  readonly source: HostOptions | ClientAuthOptions;
  /** What it is: the same as long as it was not loaded again. */
  readonly loaded: object;
  /** The absolute paths of the files. */
  readonly files: readonly string[];
  /** A digest of their contents as they were read. */
  readonly digest: string;
}

/** An immutable set of contexts and the rules to choose among them. */
export class Selector {
  readonly #options: SelectorOptions;
  readonly #loaded: Loaded;
  readonly #clientAuth: ClientAuth | undefined;
  readonly #policies: LoadedPolicies;
  readonly #fallback: readonly SecurityContext[];
  readonly #names = new NameTable<SecurityContext[]>();
  readonly #chosen: ContextCache;
  readonly #severalPolicies: boolean;

  private constructor(
    options: SelectorOptions,
    loaded: Loaded,
    clientAuth: ClientAuth | undefined,
    policies: LoadedPolicies,
  ) {
    this.#options = options;
    this.#loaded = loaded;
    this.#clientAuth = clientAuth;
    this.#policies = policies;
    this.#chosen = new ContextCache(options.settings);
    const { fallback, hosts } = options;
    this.#fallback = fallback === undefined ? [] : [loaded.get(fallback)!];
    for (const [name, contexts] of byName(hosts, fallback, loaded)) this.#names.set(name, contexts);
    const inUse = new Set([...loaded.values()].map((context) => context.clientAuth));
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
    const policies = new Policies(previous === undefined ? new Map() : previous.#policies, changed);
    const clientAuth = options.clientAuth && await policies.get(options.clientAuth);
    const before: Loaded = previous === undefined ? new Map() : previous.#loaded;
    const known = new Map(
      [...before.values()].map((context) => [context.identity.fingerprint256, context]),
    );
    const loaded: Loaded = new Map();
    for (const host of options.fallback ? [...options.hosts, options.fallback] : options.hosts) {
      const current = changed.has(host) ? undefined : before.get(host);
      const context = new SecurityContext({
        identity: current?.identity ?? await readIdentity(host),
        alpnProtocols: host.alpnProtocols ?? options.alpnProtocols,
        clientAuth: host.clientAuth === undefined
          ? clientAuth
          : host.clientAuth === null
          ? undefined
          : await policies.get(host.clientAuth),
        settings: options.settings,
      });
      const same = current ?? known.get(context.identity.fingerprint256);
      loaded.set(host, same !== undefined && context.equals(same) ? same : context);
    }
    return new Selector(options, loaded, clientAuth, policies.loaded);
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
   * @throws {TlsError} `TLS_SELECTION_FAILED` when the hook throws, rejects or answers nonsense
   */
  select(
    hello: ClientHello,
    endpoints: Endpoints,
  ): SecurityContext | Refused | Promise<SecurityContext | Refused> {
    const { certSelect, tlsUserData } = this.#options;
    if (certSelect === undefined) return this.#byName(hello);
    try {
      const answer = certSelect(hello, { ...endpoints, tlsUserData });
      if (!isThenable(answer)) return this.#chosenBy(answer, hello);
      return Promise.resolve(answer)
        .then((settled) => this.#chosenBy(settled, hello))
        .catch((cause) => {
          throw selectionFailed(cause);
        });
    } catch (cause) {
      throw selectionFailed(cause);
    }
  }

  /** The context for a hook's answer, which may be anything. */
  #chosenBy(answer: CertSelection, hello: ClientHello): SecurityContext | Refused {
    if (answer === undefined || answer === null) return this.#byName(hello);
    if (answer instanceof Refused) return answer;
    const { identity, clientAuth, alpnProtocols }: ContextSelection = answer instanceof Identity
      ? { identity: answer }
      : answer;
    const usable = identity instanceof Identity && hasNoOther(answer) &&
      (clientAuth === undefined || clientAuth === null || clientAuth instanceof ClientAuth) &&
      (alpnProtocols === undefined || areServable(alpnProtocols));
    if (!usable) {
      throw new TlsError(
        "TLS_SELECTION_FAILED",
        "Hook certSelect answered what cannot be used: return what loadIdentity() gave, or refuse()",
      );
    }
    return this.#chosen.get(
      identity,
      clientAuth === undefined ? this.#clientAuth : clientAuth ?? undefined,
      alpnProtocols ?? this.#options.alpnProtocols,
    );
  }

  #byName(hello: ClientHello): SecurityContext | Refused {
    const { serverName } = hello;
    const named = serverName === undefined ? undefined : this.#names.get(serverName);
    const strict = this.#options.strictSni && serverName !== undefined;
    const candidates = named ?? (strict ? [] : this.#fallback);
    return bestFor(hello, candidates) ?? refuse("unrecognized_name");
  }

  /**
   * Whether a connection may carry requests for `host` (RFC 9110 section 7.4): it must not reach,
   * under the policy of one name, what another name guards with another.
   */
  speaksFor(context: SecurityContext, sni: string | undefined, host: string | undefined): boolean {
    if (!this.#severalPolicies || host === undefined) return true;
    const name = normalizeName(hostname(host));
    if (name === sni) return true;
    if (this.#options.certSelect !== undefined) return false;
    const candidates = (name === undefined ? undefined : this.#names.get(name)) ?? this.#fallback;
    return candidates.every((candidate) => candidate.clientAuth === context.clientAuth);
  }
}

/** The host of an authority, without its port. */
function hostname(authority: string): string {
  return authority.replace(/:\d*$/, "");
}

/**
 * The contexts of each name and wildcard, those of the hosts first. Where several share a name, what
 * the client offers decides between them, so all must ask for the same client certificates.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when they do not
 */
function byName(
  hosts: readonly HostOptions[],
  fallback: HostOptions | undefined,
  loaded: Loaded,
): Map<string, SecurityContext[]> {
  const table = new Map<string, SecurityContext[]>();
  for (const host of fallback === undefined ? hosts : [...hosts, fallback]) {
    const context = loaded.get(host)!;
    for (const name of namesOf(host, context.identity)) {
      const contexts = table.get(name);
      if (contexts === undefined) table.set(name, [context]);
      else if (contexts.every((other) => arePooled(other, context))) contexts.push(context);
      else if (host !== fallback) {
        throw new ConfigError(
          "INVALID_CONFIG",
          `Option identities has two policies for client certificates of ${name}: give the same clientAuth`,
        );
      }
    }
  }
  return table;
}

/** Whether it is all the same to a handler which of the two a client has chosen by its offer. */
function arePooled(one: SecurityContext, other: SecurityContext): boolean {
  return one.clientAuth === other.clientAuth || one.isChallenge || other.isChallenge;
}

/** The names of a host in normal form. */
function namesOf(host: HostOptions, identity: Identity): readonly string[] {
  if (host.names === undefined) return identity.names;
  return host.names.map((name) => {
    const normal = normalizePattern(name);
    if (normal !== undefined) return normal;
    throw new ConfigError(
      "INVALID_CONFIG",
      `Option names holds ${JSON.stringify(name)}: use names such as a.example or *.a.example`,
    );
  });
}

/** Policies by what they ask for, so that equal ones are one and remember the same clients. */
class Policies {
  readonly loaded = new Map<ClientAuthOptions, LoadedPolicy>();
  readonly #before: LoadedPolicies;
  readonly #changed: ReadonlySet<object>;
  readonly #previous: ReadonlySet<ClientAuth>;
  readonly #byKey = new Map<string, ClientAuth>();

  constructor(before: LoadedPolicies, changed: ReadonlySet<object>) {
    this.#before = before;
    this.#changed = changed;
    this.#previous = new Set([...before.values()].map(({ auth }) => auth));
    for (const policy of this.#previous) this.#byKey.set(policy.key, policy);
  }

  /** The policy of these options; read anew unless it was before, and has not changed. */
  async get(options: ClientAuthOptions): Promise<ClientAuth> {
    const policy = this.loaded.get(options) ?? await this.#load(options);
    this.loaded.set(options, policy);
    return policy.auth;
  }

  async #load(options: ClientAuthOptions): Promise<LoadedPolicy> {
    const kept = this.#changed.has(options) ? undefined : this.#before.get(options);
    if (kept !== undefined) return kept;
    const policy = await loadPolicy(options, this.#previous);
    const { key } = policy.auth;
    const known = this.#byKey.get(key);
    if (known === undefined) this.#byKey.set(key, policy.auth);
    return { ...policy, auth: known ?? policy.auth };
  }
}

/** A client that offers no protocols speaks HTTP/1.1 (RFC 7301 leaves it to the application). */
const IMPLIED_PROTOCOLS = ["http/1.1"];

/** The first that shares a protocol with the client and whose signature it can check. */
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
  return pool.find(({ identity }) => identity.suits(hello)) ?? pool[0];
}

/** Whether a hook's answer has no member that would have to be ignored: it may guard something. */
function hasNoOther(answer: Identity | ContextSelection): boolean {
  return answer instanceof Identity || Object.keys(answer).every((name) => CONTEXT.has(name));
}

const CONTEXT: ReadonlySet<string> = new Set<keyof ContextSelection>([
  "identity",
  "alpnProtocols",
  "clientAuth",
]);

/** ALPN names are 1 to 255 bytes long (RFC 7301 section 3.1); HTTP/2 is not served. */
function areServable(protocols: unknown): boolean {
  return Array.isArray(protocols) &&
    protocols.every((name) =>
      typeof name === "string" && /^[\x20-\x7e]{1,255}$/.test(name) && name !== "h2"
    );
}

function selectionFailed(cause: unknown): TlsError {
  if (cause instanceof TlsError) return cause;
  return new TlsError("TLS_SELECTION_FAILED", "Hook certSelect threw", { cause });
}

/** Contexts for what a hook chose, by identity and policy; never by a name the client sent. */
class ContextCache {
  static readonly #MAX = 4_096;
  readonly #settings: TlsSettings;
  readonly #contexts = new Map<string, SecurityContext>();
  readonly #ids = new WeakMap<object, number>();
  #lastId = 0;

  constructor(settings: TlsSettings) {
    this.#settings = settings;
  }

  get(
    identity: Identity,
    clientAuth: ClientAuth | undefined,
    alpnProtocols: readonly string[],
  ): SecurityContext {
    const ids = [this.#id(identity), clientAuth ? this.#id(clientAuth) : 0];
    const key = JSON.stringify([...ids, ...alpnProtocols]);
    const context = this.#contexts.get(key) ?? new SecurityContext({
      identity,
      clientAuth,
      alpnProtocols: [...alpnProtocols],
      settings: this.#settings,
    });
    // The least recently chosen makes room; its connections live on.
    this.#contexts.delete(key);
    this.#contexts.set(key, context);
    if (this.#contexts.size > ContextCache.#MAX) {
      this.#contexts.delete(this.#contexts.keys().next().value!);
    }
    return context;
  }

  #id(thing: object): number {
    let id = this.#ids.get(thing);
    if (id === undefined) this.#ids.set(thing, id = ++this.#lastId);
    return id;
  }
}
