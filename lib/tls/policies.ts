/**
 * What a selector keeps from one reload to the next and from one connection to the next: policies for
 * client certificates, and the contexts for what a hook chose.
 *
 * @module
 */
import { type ClientPolicy, type LoadedPolicy, loadPolicy } from "./client_policy.ts";
import { SecurityContext, type TlsSettings } from "./context.ts";
import type { Identity } from "./loaded_identity.ts";
import type { ClientAuthOptions } from "./options.ts";

/** Loaded policies by their options object. */
export type LoadedPolicies = ReadonlyMap<ClientAuthOptions, LoadedPolicy>;

/** Loads policies so that equal ones become one, which remembers the clients of both. */
export class Policies {
  /** What has been loaded. */
  readonly loaded = new Map<ClientAuthOptions, LoadedPolicy>();
  readonly #before: LoadedPolicies;
  readonly #changed: ReadonlySet<object>;
  readonly #previous: ReadonlySet<ClientPolicy>;
  readonly #byKey = new Map<string, ClientPolicy>();

  /** Keeps those of `before` unread, unless `changed` has their options. */
  constructor(before: LoadedPolicies, changed: ReadonlySet<object>) {
    this.#before = before;
    this.#changed = changed;
    this.#previous = new Set([...before.values()].map(({ policy }) => policy));
    for (const policy of this.#previous) this.#byKey.set(policy.key, policy);
  }

  /**
   * Gives the policy of these options, and reads it unless that was done before.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE`, `NOT_SUPPORTED`
   */
  async get(options: ClientAuthOptions): Promise<ClientPolicy> {
    const loaded = this.loaded.get(options) ?? await this.#load(options);
    this.loaded.set(options, loaded);
    return loaded.policy;
  }

  async #load(options: ClientAuthOptions): Promise<LoadedPolicy> {
    const kept = this.#changed.has(options) ? undefined : this.#before.get(options);
    if (kept !== undefined) return kept;
    const loaded = await loadPolicy(options, this.#previous);
    const { policy } = loaded;
    const known = this.#byKey.get(policy.key);
    if (known === undefined) this.#byKey.set(policy.key, policy);
    return { ...loaded, policy: known ?? policy };
  }
}

/** Contexts for what a hook chose, by identity and policy; never by a name that the client sent. */
export class ContextCache {
  static readonly #MAX = 4_096;
  readonly #settings: TlsSettings;
  readonly #contexts = new Map<string, SecurityContext>();
  readonly #ids = new WeakMap<object, number>();
  #lastId = 0;

  /** Makes a cache that is empty. */
  constructor(settings: TlsSettings) {
    this.#settings = settings;
  }

  /** Gives the context for a choice, and makes it if need be. */
  get(
    identity: Identity,
    policy: ClientPolicy | undefined,
    alpnProtocols: readonly string[],
  ): SecurityContext {
    const ids = [this.#id(identity), policy ? this.#id(policy) : 0];
    const key = JSON.stringify([...ids, ...alpnProtocols]);
    const context = this.#contexts.get(key) ?? new SecurityContext({
      identity,
      clientAuth: policy,
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
