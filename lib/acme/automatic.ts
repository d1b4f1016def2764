/**
 * Certificates by themselves: a source for the option `certificates` of a server, which gets them from
 * a CA that speaks ACME, keeps them, and renews them.
 *
 * @module
 */
import { ACME_TLS } from "../alpn.ts";
import { ignore } from "../contain/callbacks.ts";
import { type Endpoints, normalizeAddress } from "../endpoints.ts";
import type { HttpsdError } from "../errors.ts";
import { assertRuntime } from "../runtime/capabilities.ts";
import { refuse } from "../tls/cert_select.ts";
import type {
  CertificateRenewal,
  CertificateSource,
  SourceAnswer,
  SourceReports,
} from "../tls/certificate_source.ts";
import type { ClientHello } from "../tls/client_hello.ts";
import { NameTable, normalizeName } from "../tls/names.ts";
import {
  type AutomaticConfig,
  type AutomaticOptions,
  resolveAutomatic,
} from "./automatic_options.ts";
import { acmeClient } from "./client.ts";
import { type Clock, systemClock } from "./clock.ts";
import { Issuer, type IssuingClient } from "./issuer.ts";
import { newAccountKey } from "./jws.ts";
import { ManagedCertificate, type ManagedParts } from "./managed.ts";
import { isAddress, reverseName } from "./names.ts";
import { Admission } from "./on_demand.ts";
import { Records } from "./records.ts";
import type { Random } from "./schedule.ts";
import { httpAnswer, httpSolver, tlsAlpnAnswer, tlsAlpnSolver } from "./solvers.ts";
import type { ChallengeSolver } from "./types.ts";

/** What tests put in the place of the real thing. */
export interface AutomaticParts {
  /** The time. */
  readonly clock?: Clock;
  /** Chance. */
  readonly random?: Random;
  /** Makes a client with the key of an account. */
  readonly client?: (accountKey: string) => IssuingClient;
}

/**
 * Makes a source of certificates that gets them from a CA, such as Let's Encrypt, keeps them in a
 * storage, and renews them; for the option `certificates`. Nothing is ordered before a server starts,
 * and the start waits for no order.
 *
 * A certificate is renewed at a random moment of the window that the CA suggests (RFC 9773), else when
 * a third of its lifetime is left; the last good one is shown until there is another. After a failure
 * the next attempt waits longer each time, over restarts too. There is no OCSP: neither runtime
 * staples, and CAs have given it up for short lifetimes.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option; `NOT_SUPPORTED` for tls-alpn-01 alone on
 * Deno
 */
export function automaticCertificates(options: AutomaticOptions): CertificateSource {
  return automaticCertificatesWith({}, options);
}

/** Makes such a source of other parts, for tests. */
export function automaticCertificatesWith(
  parts: AutomaticParts,
  options: AutomaticOptions,
): CertificateSource {
  assertRuntime();
  return new AutomaticCertificates(resolveAutomatic(options), parts);
}

/** The most names that are kept in memory because clients asked for them. */
const MAX_ON_DEMAND = 10_000;

/** How many certificates are loaded at once. */
const LOADS_AT_ONCE = 16;

class AutomaticCertificates implements CertificateSource {
  readonly #config: AutomaticConfig;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #newClient: (accountKey: string) => IssuingClient;
  readonly #records: Records;
  readonly #admission: Admission | undefined;
  /** The servers, with their ports. */
  readonly #hosts = new Map<SourceReports, number | undefined>();
  /** Those of the option `names`, in their order; empty while no server runs. */
  #named: ManagedCertificate[] = [];
  #table = new NameTable<ManagedCertificate>();
  #addresses = new Map<string, ManagedCertificate>();
  /** Those that clients have asked for, the least recently asked first. */
  readonly #demanded = new Map<string, Demanded>();
  #parts: ManagedParts | undefined;
  #abort = new AbortController();
  #client: Promise<IssuingClient> | undefined;
  /** Starts and stops, one after another. */
  #turn: Promise<void> = Promise.resolve();

  constructor(config: AutomaticConfig, { clock, random, client }: AutomaticParts) {
    this.#config = config;
    this.#clock = clock ?? systemClock;
    this.#random = random ?? Math.random;
    this.#newClient = client ?? ((accountKey) => this.#realClient(accountKey));
    this.#records = new Records(config.storage, config.directory);
    this.#admission = config.onDemand &&
      new Admission(config.onDemand, this.#clock, (error) => this.#report(error));
  }

  start(reports: SourceReports, port?: number): Promise<void> {
    return this.#inTurn(async () => {
      this.#hosts.set(reports, port);
      if (this.#parts !== undefined) return;
      try {
        await this.#begin();
      } catch (error) {
        this.#hosts.delete(reports);
        await this.#end(); // the next server begins anew
        throw error;
      }
    });
  }

  stop(reports: SourceReports): Promise<void> {
    return this.#inTurn(async () => {
      this.#hosts.delete(reports);
      if (this.#hosts.size === 0) await this.#end();
    });
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(run);
    this.#turn = done.catch(ignore); // its caller gets the error
    return done;
  }

  async #begin(): Promise<void> {
    if (this.#abort.signal.aborted) this.#abort = new AbortController();
    const { names } = this.#config;
    const parts = this.#parts = this.#managedParts(this.#abort.signal);
    this.#named = names.map((name) => new ManagedCertificate(name, parts));
    this.#table = new NameTable();
    this.#addresses = new Map();
    for (const managed of this.#named) {
      if (isAddress(managed.name)) this.#addresses.set(managed.name, managed);
      else this.#table.set(managed.name, managed);
    }
    const waiting = [...this.#named];
    await Promise.all(Array.from({ length: LOADS_AT_ONCE }, async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        await next.load();
      }
    }));
    for (const managed of this.#named) managed.begin();
    this.#records.sweepChallenges(this.#clock.now()).catch((error) => this.#report(error));
  }

  async #end(): Promise<void> {
    this.#abort.abort(stopped());
    const all = [...this.#named, ...[...this.#demanded.values()].map(({ managed }) => managed)];
    this.#demanded.clear();
    this.#parts = undefined;
    this.#client = undefined;
    await Promise.all(all.map((managed) => managed.end()));
  }

  #managedParts(signal: AbortSignal): ManagedParts {
    const [records, clock, random] = [this.#records, this.#clock, this.#random];
    const { profile, keyType, preferredChain } = this.#config;
    const client = () => this.#clientOf();
    const report = (error: HttpsdError) => this.#report(error);
    const order = {
      ...(profile !== undefined && { profile }),
      ...(keyType !== undefined && { keyType }),
      ...(preferredChain !== undefined && { preferredChain }),
    };
    const issuer = new Issuer({
      records,
      client,
      solvers: () => this.#solvers(),
      order,
      clock,
      random,
      report,
    });
    return {
      issuer,
      client,
      clock,
      random,
      signal,
      issued: (identity) => this.#tell((host) => host.issued(identity)),
      failed: (failure) => this.#tell((host) => host.failed(failure)),
      expiring: (identity) => this.#tell((host) => host.expiring(identity)),
      report,
    };
  }

  #solvers(): ChallengeSolver[] {
    const { challenges, prefers, dns } = this.#config;
    // The CA asks port 443: where no server is there, another way is more likely to work.
    const isOn443 = [...this.#hosts.values()].includes(443);
    const all = prefers || isOn443 ? challenges : [...challenges].reverse();
    return all.map((type): ChallengeSolver => {
      if (type === "http-01") return httpSolver(this.#records);
      if (type === "tls-alpn-01") return tlsAlpnSolver(this.#records);
      return {
        type,
        set: (challenge, signal) => dns!.set(challenge, signal),
        remove: (challenge, signal) => dns!.remove(challenge, signal),
        settled: (challenge, signal) => dns!.settled?.(challenge, signal),
      };
    });
  }

  /** The client, made when it is needed first. */
  #clientOf(): Promise<IssuingClient> {
    const making = this.#client ??= this.#accountKey().then(this.#newClient);
    making.catch(() => {
      if (this.#client === making) this.#client = undefined; // the next order tries again
    });
    return making;
  }

  #realClient(accountKey: string): IssuingClient {
    const { directory, ca, email, agreeToTerms, externalAccount } = this.#config;
    return acmeClient({
      accountKey,
      directory,
      ...(ca !== undefined && { ca }),
      ...(email !== undefined && { email }),
      ...(agreeToTerms !== undefined && { agreeToTerms }),
      ...(externalAccount !== undefined && { externalAccount }),
    });
  }

  /** The account's key, which all processes share; made by the first of them. */
  async #accountKey(): Promise<string> {
    const records = this.#records;
    const { signal } = this.#abort;
    for (;;) {
      const kept = await records.account();
      if (kept !== undefined) return kept;
      const lock = await records.lock("account");
      if (lock === undefined) {
        await new Promise<void>((resolve) => this.#clock.after(100, resolve));
        signal.throwIfAborted();
        continue;
      }
      try {
        const meanwhile = await records.account();
        if (meanwhile !== undefined) return meanwhile;
        const key = await newAccountKey();
        await records.keepAccount(key);
        return key;
      } finally {
        await lock.release().catch((error) => this.#report(error));
      }
    }
  }

  #tell(what: (host: SourceReports) => void): void {
    for (const host of this.#hosts.keys()) what(host);
  }

  #report(error: HttpsdError): void {
    this.#tell((host) => host.error(error));
  }

  select(
    { serverName, alpnProtocols }: ClientHello,
    { localAddress }: Endpoints,
  ): SourceAnswer | Promise<SourceAnswer> {
    if (this.#parts === undefined) return undefined;
    if (serverName === undefined) {
      const own = this.#addresses.get(normalizeAddress(localAddress) ?? "");
      return (own ?? this.#named[0])?.show();
    }
    if (alpnProtocols.length === 1 && alpnProtocols[0] === ACME_TLS) {
      return this.#challenge(serverName);
    }
    const named = this.#table.get(serverName);
    return named === undefined ? this.#demand(serverName) : named.show();
  }

  /** What to show to a CA that looks for the answer to its challenge. */
  #challenge(serverName: string): SourceAnswer | Promise<SourceAnswer> {
    const { challenges, names } = this.#config;
    if (!challenges.includes("tls-alpn-01")) return undefined;
    const isOurs = this.#admission !== undefined ||
      names.some((name) => (isAddress(name) ? reverseName(name) : name) === serverName);
    return isOurs ? tlsAlpnAnswer(this.#records, serverName, this.#clock.now()) : undefined;
  }

  /** The certificate of a name that is not among the option `names`. */
  #demand(name: string): SourceAnswer | Promise<SourceAnswer> {
    const admission = this.#admission;
    // No CA signs a name without a dot, or one with an underscore.
    const isPublic = name.includes(".") && !name.includes("_") && normalizeName(name) === name;
    if (admission === undefined || !isPublic) return undefined;
    const known = this.#demanded.get(name) ?? this.#open(name, admission);
    this.#demanded.delete(name);
    this.#demanded.set(name, known); // the most recently asked for is the last
    if (known.opening !== undefined) return known.opening.then((identity) => identity ?? refuse());
    const shown = known.managed.show();
    return shown instanceof Promise
      ? shown.then((identity) => identity ?? refuse())
      : shown ?? refuse();
  }

  /** Begins to get the certificate of a name that a client has asked for first. */
  #open(name: string, admission: Admission): Demanded {
    const managed = new ManagedCertificate(name, this.#parts!, () => admission.admits(name));
    const demanded: Demanded = { managed, opening: undefined };
    demanded.opening = managed.open().finally(() => {
      demanded.opening = undefined;
      // A name that was refused takes no memory, and is asked about again.
      if (managed.identity === undefined) this.#demanded.delete(name);
    });
    this.#makeRoom();
    return demanded;
  }

  #makeRoom(): void {
    for (const [name, { opening, managed }] of this.#demanded) {
      if (this.#demanded.size < MAX_ON_DEMAND) return;
      if (opening === undefined && managed.work === undefined) this.#demanded.delete(name);
    }
  }

  covers(name: string): boolean {
    const managed = this.#table.get(name) ?? this.#addresses.get(name) ??
      this.#demanded.get(name)?.managed;
    return managed?.identity !== undefined;
  }

  *renewals(): Iterable<CertificateRenewal> {
    for (const { renewal } of this.#named) yield renewal;
    for (const { managed: { renewal } } of this.#demanded.values()) yield renewal;
  }

  answerChallenge(token: string): Promise<string | undefined> {
    return httpAnswer(this.#records, token, this.#clock.now());
  }
}

/** A name that clients have asked for. */
interface Demanded {
  readonly managed: ManagedCertificate;
  /** The first look at it, until that is over. */
  opening: Promise<SourceAnswer> | undefined;
}

function stopped(): DOMException {
  return new DOMException("The source of certificates was stopped", "AbortError");
}
