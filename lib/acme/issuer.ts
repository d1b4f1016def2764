/**
 * Gets certificates from the CA, or from the storage where another process has got them: of all
 * processes one orders at a time for a name, and an attempt that failed counts for all of them.
 *
 * @module
 */
import { AcmeError, HttpsdError } from "../errors.ts";
import { loadIdentity } from "../tls/identity.ts";
import type { Identity } from "../tls/loaded_identity.ts";
import type { Clock } from "./clock.ts";
import type { Records, StoredCertificate, StoredFailure } from "./records.ts";
import { type Random, retryDelay, type Validity } from "./schedule.ts";
import type { StorageLock } from "./storage.ts";
import type { AcmeClient, ChallengeSolver, OrderOptions } from "./types.ts";

/** What is used of an ACME client. */
export type IssuingClient = Pick<AcmeClient, "order" | "renewalInfo">;

/** A certificate, ready to be shown. */
export interface Loaded extends Validity {
  /** PEM, as the CA gave it. */
  readonly chain: string;
  /** What is shown. */
  readonly identity: Identity;
}

/** What an {@linkcode Issuer} is made of. */
export interface IssuerParts {
  /** What is kept. */
  readonly records: Records;
  /** Gives the client; it rejects when the account's key cannot be had. */
  readonly client: () => Promise<IssuingClient>;
  /** What can answer challenges, the preferred first. */
  readonly solvers: () => readonly ChallengeSolver[];
  /** What all orders have. */
  readonly order: Pick<OrderOptions, "profile" | "keyType" | "preferredChain">;
  /** The time. */
  readonly clock: Clock;
  /** Chance. */
  readonly random: Random;
  /** Takes what goes wrong without failing an order. */
  readonly report: (error: HttpsdError) => void;
}

/** An order failed; nothing is ordered for the name before `retryAt`. */
export class OrderFailed extends Error {
  /** Why. */
  readonly error: HttpsdError;
  /** The next attempt, in ms since 1970. */
  readonly retryAt: number;

  /** Wraps the reason. */
  constructor(error: HttpsdError, retryAt: number) {
    super(error.message);
    this.error = error;
    this.retryAt = retryAt;
  }
}

/** An attempt before this one has failed, of this process or another: nothing was ordered. */
export class Postponed extends Error {
  /** The next attempt, in ms since 1970. */
  readonly retryAt: number;

  /** Says until when. */
  constructor(retryAt: number) {
    super("An earlier order failed");
    this.retryAt = retryAt;
  }
}

/** How many orders of one process are under way at once. */
const AT_ONCE = 4;

/** How much the clocks of processes that share a storage may differ, in ms. */
const CLOCKS_MS = 10 * 60_000;

/** How often it is looked whether another process is done, in ms. */
const LOOK_MS = 1_000;

/** How long another process is waited for, in ms: longer than an order may take. */
const OTHERS_MS = 11 * 60_000;

/** Orders certificates. */
export class Issuer {
  readonly #parts: IssuerParts;
  #underWay = 0;
  readonly #waiting: (() => void)[] = [];

  /** Makes an issuer. */
  constructor(parts: IssuerParts) {
    this.#parts = parts;
  }

  /**
   * Loads the certificate for a name from the storage, an expired one too.
   *
   * @throws {HttpsdError} `ACME_STORAGE_FAILED`, or why what is there cannot be shown
   */
  async load(name: string): Promise<Loaded | undefined> {
    const stored = await this.#parts.records.certificate(name);
    return stored === undefined ? undefined : await loaded(stored);
  }

  /**
   * Until when nothing is ordered for a name since that has failed, in ms since 1970.
   *
   * @throws {HttpsdError} `ACME_STORAGE_FAILED`
   */
  async postponedUntil(name: string): Promise<number | undefined> {
    const failure = await this.#parts.records.failure(name);
    return failure === undefined ? undefined : postponing(failure, this.#parts.clock.now());
  }

  /**
   * Gets a certificate for a name other than `current`: one that another process got meanwhile if
   * `suits` accepts it, else by an order.
   *
   * @throws {OrderFailed}, {@linkcode Postponed}; the reason of `signal` when that is aborted
   */
  async issue(
    name: string,
    current: Loaded | undefined,
    suits: (other: Loaded) => boolean,
    signal: AbortSignal,
  ): Promise<Loaded> {
    try {
      return await this.#issue(name, current, suits, signal);
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof OrderFailed || cause instanceof Postponed) throw cause;
      // The storage has failed: what is not kept is not known to other processes.
      throw new OrderFailed(asError(cause), this.#parts.clock.now() + this.#delay(1, current));
    }
  }

  async #issue(
    name: string,
    current: Loaded | undefined,
    suits: (other: Loaded) => boolean,
    signal: AbortSignal,
  ): Promise<Loaded> {
    const { records, clock } = this.#parts;
    const until = clock.now() + OTHERS_MS;
    for (;;) {
      const lock = await records.lock(`certificates/${name}`);
      try {
        const other = await this.#other(name);
        if (other !== undefined && other.chain !== current?.chain && suits(other)) return other;
        const failure = await records.failure(name);
        const postponed = failure && postponing(failure, clock.now());
        if (postponed !== undefined && postponed > clock.now()) throw new Postponed(postponed);
        if (lock !== undefined) {
          const fresh = await this.#order(name, current, failure?.failures ?? 0, lock, signal);
          if (fresh !== undefined) return fresh;
        }
      } finally {
        await lock?.release().catch((error) => this.#parts.report(error));
      }
      if (clock.now() > until) {
        const message = `Another process has been ordering for ${name} too long`;
        throw new AcmeError("ACME_TIMEOUT", message);
      }
      await pause(clock, LOOK_MS, signal);
    }
  }

  /** What the storage has now; what cannot be shown is replaced by an order. */
  async #other(name: string): Promise<Loaded | undefined> {
    try {
      return await this.load(name);
    } catch (error) {
      if (error instanceof AcmeError && error.cause !== undefined) throw error;
      this.#parts.report(asError(error));
      return undefined;
    }
  }

  /** Orders; `undefined`: the lock was lost, as of a machine that slept, and another process orders. */
  async #order(
    name: string,
    current: Loaded | undefined,
    failures: number,
    lock: StorageLock,
    signal: AbortSignal,
  ): Promise<Loaded | undefined> {
    const { records, client, clock, order, report } = this.#parts;
    await this.#enter();
    try {
      signal.throwIfAborted();
      const issued = await (await client()).order({
        ...order,
        names: [name],
        solvers: this.#solvers(failures),
        ...(current === undefined ? {} : { replaces: current.chain }),
        signal: AbortSignal.any([signal, lock.signal]),
        onFailure: report,
      });
      const fresh = await loaded(issued);
      // What cannot be kept is shown all the same: the CA does not issue it twice for nothing.
      await records.keepCertificate(name, issued).catch(report);
      if (failures > 0) await records.keepFailure(name, undefined).catch(report);
      return fresh;
    } catch (cause) {
      signal.throwIfAborted(); // the server stops: that is no failure
      if (lock.signal.aborted) return undefined; // nor is this, or the other would be kept from trying
      const error = asError(cause);
      const retryAfterMs = error instanceof AcmeError ? error.retryAfterMs : undefined;
      const at = clock.now();
      const until = at + this.#delay(failures + 1, current, retryAfterMs);
      await records.keepFailure(name, { failures: failures + 1, until, at }).catch(report);
      throw new OrderFailed(error, until);
    } finally {
      this.#leave();
    }
  }

  /** The solvers; after each failure another one is the first. */
  #solvers(failures: number): ChallengeSolver[] {
    const solvers = this.#parts.solvers();
    const first = failures % solvers.length;
    return [...solvers.slice(first), ...solvers.slice(0, first)];
  }

  #delay(failures: number, validity: Validity | undefined, retryAfterMs?: number): number {
    return retryDelay({ failures, validity, retryAfterMs }, this.#parts.random);
  }

  /** Waits until there is room for another order. */
  async #enter(): Promise<void> {
    if (this.#underWay >= AT_ONCE) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#underWay++;
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#underWay--;
    else next();
  }
}

/** Until when a failure postpones an order; not at all where a wrong clock has put it into the future. */
function postponing({ until, at = 0 }: StoredFailure, now: number): number {
  return at > now + CLOCKS_MS ? now : until;
}

async function loaded({ chain, privateKey }: StoredCertificate): Promise<Loaded> {
  const identity = await loadIdentity({ cert: chain, key: privateKey, allowExpired: true });
  const { validFrom, validTo } = identity;
  return { chain, identity, notBefore: validFrom.getTime(), notAfter: validTo.getTime() };
}

/** What was thrown, as an error of ours: what the client throws is one already. */
export function asError(cause: unknown): HttpsdError {
  if (cause instanceof HttpsdError) return cause;
  return new AcmeError("ACME_STORAGE_FAILED", "The lock of an order failed", { cause });
}

/** Waits; rejects with the reason of `signal` when that is aborted. */
function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(ms, () => {
      signal.removeEventListener("abort", stop);
      resolve();
    });
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
