/**
 * The certificate of one name: loaded, got, renewed. What is in force stays until there is another.
 *
 * @module
 */
import { AcmeError, type HttpsdError } from "../errors.ts";
import type { CertificateFailure, CertificateRenewal } from "../tls/certificate_source.ts";
import type { Identity } from "../tls/loaded_identity.ts";
import type { Clock } from "./clock.ts";
import {
  asError,
  type Issuer,
  type IssuingClient,
  type Loaded,
  OrderFailed,
  Postponed,
} from "./issuer.ts";
import {
  askAgainAfter,
  checkEvery,
  expiringFrom,
  type Random,
  renewalMoment,
  retryDelay,
} from "./schedule.ts";
import type { RenewalInfo } from "./types.ts";

/** What all managed certificates of a source have. */
export interface ManagedParts {
  /** Gets certificates. */
  readonly issuer: Issuer;
  /** Gives the client, which says when to renew. */
  readonly client: () => Promise<IssuingClient>;
  /** The time. */
  readonly clock: Clock;
  /** Chance. */
  readonly random: Random;
  /** Aborted when the source stops. */
  readonly signal: AbortSignal;
  /** Reports a new certificate. */
  issued(identity: Identity): void;
  /** Reports a failure. */
  failed(failure: CertificateFailure): void;
  /** Reports a certificate that ends and could not be renewed. */
  expiring(identity: Identity): void;
  /** Reports what failed besides. */
  report(error: HttpsdError): void;
}

/** The certificate of one name. */
export class ManagedCertificate {
  /** The name or address that it is for, in normal form. */
  readonly name: string;
  readonly #parts: ManagedParts;
  /**
   * Asked before an order; only certificates that clients have asked for have it, and those are looked
   * at when a client asks again, not by a timer.
   */
  readonly #mayOrder: (() => Promise<boolean>) | undefined;
  #current: Loaded | undefined;
  #window: Pick<RenewalInfo, "start" | "end"> | undefined;
  #renewAt = 0;
  /** The next question for the CA's window. */
  #askAt = 0;
  /** No attempt is made before this. */
  #attemptAt = 0;
  /** The last look; it is in the future where the clock has been set back, and no time above counts. */
  #lookedAt = 0;
  #lookAt = 0;
  #hasFailed = false;
  #lastError: HttpsdError | undefined;
  #isReported = false;
  #looking: Promise<void> | undefined;
  #cancel: (() => void) | undefined;

  /** Makes the certificate of a name, with nothing loaded. */
  constructor(name: string, parts: ManagedParts, mayOrder?: () => Promise<boolean>) {
    this.name = name;
    this.#parts = parts;
    this.#mayOrder = mayOrder;
  }

  /** What is in force. */
  get identity(): Identity | undefined {
    return this.#current?.identity;
  }

  /** What is known of its renewal. */
  get renewal(): CertificateRenewal {
    const next = Math.max(this.#current === undefined ? 0 : this.#renewAt, this.#attemptAt);
    const isTimed = this.#mayOrder === undefined && next > 0;
    return {
      names: [this.name],
      identity: this.identity,
      renewAt: isTimed ? new Date(next) : undefined,
      error: this.#lastError,
    };
  }

  /** What is being done about it now; it never rejects. */
  get work(): Promise<void> | undefined {
    return this.#looking;
  }

  /**
   * Loads what is kept.
   *
   * @throws {HttpsdError} `ACME_STORAGE_FAILED`
   */
  async load(): Promise<void> {
    const { issuer, report } = this.#parts;
    try {
      const kept = await issuer.load(this.name);
      if (kept !== undefined) this.#adopt(kept);
      const until = await issuer.postponedUntil(this.name);
      this.#hasFailed = until !== undefined;
      this.#attemptAt = until ?? 0;
    } catch (cause) {
      const error = asError(cause);
      if (error.code === "ACME_STORAGE_FAILED" && error.cause !== undefined) throw error;
      report(error); // what is kept there cannot be used: it is replaced by an order
    }
  }

  /** Loads what is kept, or gets it, for a client that asks first. Rejects as `load()` does. */
  async open(): Promise<Identity | undefined> {
    await this.load();
    return await this.show();
  }

  /** Begins to look after it by a timer. */
  begin(): void {
    this.#look();
  }

  /** Ends that, and whatever is under way; resolves when that is over. */
  async end(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    await this.#looking;
  }

  /**
   * What to show a client, now or when it is there; `undefined`: nothing. A certificate that is looked
   * at only when clients ask is renewed from here.
   */
  show(): Identity | undefined | Promise<Identity | undefined> {
    const { clock } = this.#parts;
    const now = clock.now();
    const isDue = now >= this.#lookAt || now < this.#lookedAt;
    if (this.#mayOrder !== undefined && isDue) this.#look();
    const current = this.#current;
    const usable = current !== undefined && current.notAfter > clock.now();
    if (usable || this.#looking === undefined) return current?.identity;
    return this.#looking.then(() => this.#current?.identity);
  }

  /** Looks at it now, unless that is under way. */
  #look(): void {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
      this.#schedule();
    });
  }

  #schedule(): void {
    const { clock, signal } = this.#parts;
    const now = clock.now();
    const every = this.#current === undefined ? Infinity : checkEvery(this.#current);
    const attempt = this.#current === undefined || this.#renewAt <= now
      ? Math.max(MIN_WAIT_MS, this.#attemptAt - now)
      : Infinity;
    const wait = Math.min(every, attempt, MAX_WAIT_MS);
    this.#lookAt = now + wait;
    this.#cancel?.();
    this.#cancel = this.#mayOrder !== undefined || signal.aborted
      ? undefined
      : clock.after(wait, () => this.#look());
  }

  /** Never rejects. */
  async #lookOnce(): Promise<void> {
    const { clock, signal } = this.#parts;
    try {
      if (clock.now() < this.#lookedAt) this.#forgetTimes();
      this.#lookedAt = clock.now();
      if (this.#current !== undefined && clock.now() >= this.#askAt) {
        await this.#askWindow(this.#current);
      }
      const now = clock.now();
      if (now >= this.#attemptAt && (this.#current === undefined || now >= this.#renewAt)) {
        await this.#obtain();
      }
      this.#reportEnd();
    } catch (cause) {
      if (!signal.aborted) this.#parts.report(asError(cause));
    }
  }

  /** What was planned by a clock that was ahead is planned anew; the storage knows of failures. */
  #forgetTimes(): void {
    this.#askAt = 0;
    this.#attemptAt = 0;
  }

  /** Asks the CA when to renew (RFC 9773). */
  async #askWindow(current: Loaded): Promise<void> {
    const { client, clock, signal, random, report } = this.#parts;
    let wait = askAgainAfter(current);
    try {
      const inTime = AbortSignal.any([signal, AbortSignal.timeout(Math.min(wait, ASK_MS))]);
      const info = await (await client()).renewalInfo(current.chain, { signal: inTime });
      if (info !== undefined) {
        wait = info.retryAfterMs;
        const { start, end } = info;
        const isSame = this.#window?.start === start && this.#window.end === end;
        if (!isSame) this.#renewAt = renewalMoment(current, this.#window = { start, end }, random);
      }
    } catch (cause) {
      // Without a window a third of its lifetime decides.
      if (!signal.aborted) report(isTimeout(cause) ? unanswered(this.name, cause) : asError(cause));
    }
    this.#askAt = clock.now() + wait;
  }

  async #obtain(): Promise<void> {
    const { issuer, clock, signal } = this.#parts;
    if (this.#mayOrder !== undefined && !await this.#mayOrder()) {
      const wait = this.#current === undefined ? MIN_WAIT_MS : checkEvery(this.#current);
      this.#attemptAt = clock.now() + wait;
      return;
    }
    try {
      const suits = (other: Loaded) =>
        clock.now() < renewalMoment(other, undefined, this.#parts.random);
      const fresh = await issuer.issue(this.name, this.#current, suits, signal);
      this.#adopt(fresh);
      this.#parts.issued(fresh.identity);
    } catch (cause) {
      if (signal.aborted) return;
      this.#hasFailed = true;
      if (cause instanceof Postponed) {
        this.#attemptAt = cause.retryAt;
        return;
      }
      const { error, retryAt } = cause instanceof OrderFailed
        ? cause
        : { error: asError(cause), retryAt: clock.now() + this.#delay() };
      this.#attemptAt = retryAt;
      this.#lastError = error;
      this.#parts.failed({ names: [this.name], error, retryAt: new Date(retryAt) });
    }
  }

  #delay(): number {
    return retryDelay({ failures: 1, validity: this.#current }, this.#parts.random);
  }

  /** Takes a certificate into force. */
  #adopt(fresh: Loaded): void {
    this.#current = fresh;
    this.#window = undefined;
    this.#renewAt = renewalMoment(fresh, undefined, this.#parts.random);
    this.#askAt = 0;
    this.#attemptAt = 0;
    this.#hasFailed = false;
    this.#lastError = undefined;
    this.#isReported = false;
  }

  #reportEnd(): void {
    const current = this.#current;
    if (current === undefined || !this.#hasFailed || this.#isReported) return;
    if (this.#parts.clock.now() < expiringFrom(current)) return;
    this.#isReported = true;
    this.#parts.expiring(current.identity);
  }
}

function isTimeout(cause: unknown): boolean {
  return cause instanceof DOMException && cause.name === "TimeoutError";
}

function unanswered(name: string, cause: unknown): AcmeError {
  const message = `The CA did not say in time when to renew the certificate of ${name}`;
  return new AcmeError("ACME_TIMEOUT", message, { cause });
}

/** How long the CA may take to say when to renew, in ms. */
const ASK_MS = 60_000;

/** The least and the most that pass between two looks, in ms. */
const MIN_WAIT_MS = 250;
const MAX_WAIT_MS = 3_600_000;
