/**
 * What tests of automatic certificates share: time that goes as a test says, a CA that does too, a
 * storage in memory, and what a source reports.
 *
 * @module
 */
import assert from "node:assert/strict";
import { AcmeError, type AcmeErrorOptions, type HttpsdError } from "../lib/errors.ts";
import { automaticCertificatesWith } from "../lib/acme/automatic.ts";
import type { AutomaticOptions } from "../lib/acme/automatic_options.ts";
import type { Clock } from "../lib/acme/clock.ts";
import type { IssuingClient } from "../lib/acme/issuer.ts";
import type { CertificateStorage, StorageLock } from "../lib/acme/storage.ts";
import type { AcmeCertificate, OrderOptions, RenewalInfo } from "../lib/acme/types.ts";
import type { Endpoints } from "../lib/endpoints.ts";
import { Refused } from "../lib/tls/cert_select.ts";
import type {
  CertificateFailure,
  CertificateSource,
  SourceReports,
} from "../lib/tls/certificate_source.ts";
import type { ClientHello } from "../lib/tls/client_hello.ts";
import { Identity } from "../lib/tls/loaded_identity.ts";
import { turns, until } from "./support.ts";
import { PATIENCE_MS } from "./runtime.ts";
import { serverCa } from "./tls_support.ts";

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/**
 * Time that goes as a test says. It begins two years ago, so that no certificate of the test begins in
 * the real future.
 */
export class TestTime implements Clock {
  #now = Math.floor(Date.now() / 1000) * 1000 - 730 * DAY_MS;
  readonly #timers = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** What takes real time: it is waited for, and what follows from it. */
  readonly work = new Set<Promise<unknown>>();

  /** How many timers wait. */
  get timers(): number {
    return this.#timers.size;
  }

  /** Goes on by `ms`, from timer to timer; what one has begun has ended when there is another. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const next = [...this.#timers].sort((one, other) => one.at - other.at)[0];
      if (next === undefined || next.at > end) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await new Promise((resolve) => setImmediate(resolve)); // what works beside gets on too
      // Most often that takes no real time.
      for (let turn = 0; turn < 100 && this.#timers.size === 0; turn++) await Promise.resolve();
      while (this.work.size > 0) {
        await Promise.all(this.work);
        await turns();
      }
      if (this.#timers.size === 0) {
        await until(() => this.#timers.size > 0, "what the timer began ends");
      }
    }
    this.#now = end;
  }

  /** Goes on, `step` ms at a time, until `condition` holds; fails with `what` as `until()` does. */
  async until(condition: () => boolean, what: string, step = HOUR_MS): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!condition()) {
      if (performance.now() > deadline) assert.fail(`Not in time: ${what}`);
      await this.advance(step);
      // Work that takes real time, such as making a key, is not to be outrun by small steps.
      if (step < MINUTE_MS) await new Promise((resolve) => setTimeout(resolve, 2));
      if (!condition() && this.#timers.size === 0) await turns(1); // something is under way
    }
  }
}

/** A storage in memory; several sources may share it. */
export class MemoryStorage implements CertificateStorage {
  readonly texts = new Map<string, string>();
  /** The locks that are held, by their names. */
  readonly locks = new Map<string, AbortController>();
  /** What was called. */
  readonly calls: string[] = [];
  /** Fails all calls, or those of some names. */
  broken: false | true | string = false;

  #note(call: string): void {
    this.calls.push(call);
    const isBroken = this.broken === true || this.broken === call.split(" ")[0];
    if (isBroken) throw new Error("The disk is on fire");
  }

  get(key: string): Promise<string | undefined> {
    return this.#run(`get ${key}`, () => this.texts.get(key));
  }

  set(key: string, text: string): Promise<void> {
    return this.#run(`set ${key}`, () => void this.texts.set(key, text));
  }

  delete(key: string): Promise<void> {
    return this.#run(`delete ${key}`, () => void this.texts.delete(key));
  }

  list(prefix: string): Promise<string[]> {
    const keys = () => [...this.texts.keys()].filter((key) => key.startsWith(prefix));
    return this.#run(`list ${prefix}`, keys);
  }

  lock(name: string): Promise<StorageLock | undefined> {
    return this.#run(`lock ${name}`, () => {
      if (this.locks.has(name)) return undefined;
      const lost = new AbortController();
      this.locks.set(name, lost);
      return {
        signal: lost.signal,
        release: async () => {
          await Promise.resolve();
          if (this.locks.get(name) === lost) this.locks.delete(name);
        },
      };
    });
  }

  async #run<T>(call: string, run: () => T): Promise<T> {
    await Promise.resolve();
    this.#note(call);
    return run();
  }

  /** The keys whose last part is `name`. */
  keysOf(name: string): string[] {
    return [...this.texts.keys()].filter((key) => key.endsWith(`/${name}`));
  }
}

/** A CA that does what a test says. */
export class TestCa implements IssuingClient {
  readonly #time: TestTime;
  /** What was ordered. */
  readonly orders: OrderOptions[] = [];
  /** How long its certificates are valid, in ms. */
  lifetimeMs = 90 * DAY_MS;
  /** Fails the next orders. */
  failure: AcmeError | undefined;
  /** What orders wait for. */
  gate: Promise<unknown> | undefined;
  /** When to renew; a function of the time. */
  window: (() => RenewalInfo | undefined) | undefined;
  /** How often it was asked when to renew. */
  questions = 0;
  /** Has solvers answer, with this token. */
  token: string | undefined;

  constructor(time: TestTime) {
    this.#time = time;
  }

  /** The names that were ordered. */
  get names(): string[] {
    return this.orders.map(({ names }) => names.join());
  }

  fail(code: AcmeError["code"], options: AcmeErrorOptions = {}): void {
    this.failure = new AcmeError(code, "As the test says", options);
  }

  async order(options: OrderOptions): Promise<AcmeCertificate> {
    const { names, signal } = options;
    this.orders.push(options);
    if (this.gate !== undefined) {
      const aborted = new Promise<never>((_, reject) =>
        signal?.addEventListener("abort", () => reject(signal.reason))
      );
      await Promise.race([this.gate, aborted]);
    }
    if (this.failure !== undefined) throw this.failure;
    const notBefore = this.#time.now();
    const notAfter = notBefore + this.lifetimeMs;
    const work = serverCa.issue({
      names: [...names],
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
    });
    this.#time.work.add(work);
    const { cert, key } = await work.finally(() => this.#time.work.delete(work));
    return { chain: cert, privateKey: key, names, notBefore, notAfter, replaced: false };
  }

  renewalInfo(): Promise<RenewalInfo | undefined> {
    this.questions++;
    return Promise.resolve(this.window?.());
  }
}

/** A source, and all that it has reported. */
export interface Watched extends AsyncDisposable {
  readonly source: CertificateSource;
  readonly issued: Identity[];
  readonly failed: CertificateFailure[];
  readonly expiring: Identity[];
  readonly errors: HttpsdError[];
  /** Begins, as with a server. */
  start(port?: number): Promise<void>;
  stop(): Promise<void>;
  /** What a client that asks for a name is shown; `undefined`: nothing. */
  ask(serverName?: string, alpn?: readonly string[]): Promise<Identity | "refused" | undefined>;
}

/** Makes a source of these parts. */
export function watched(
  time: TestTime,
  ca: IssuingClient,
  storage: CertificateStorage,
  options: Partial<AutomaticOptions> = {},
  random: () => number = () => 0,
): Watched {
  const source = automaticCertificatesWith({ clock: time, random, client: () => ca }, {
    storage,
    agreeToTerms: true,
    ...(options.onDemand === undefined ? { names: ["shop.example"] } : {}),
    ...options,
  });
  const reported = {
    issued: [] as Identity[],
    failed: [] as CertificateFailure[],
    expiring: [] as Identity[],
    errors: [] as HttpsdError[],
  };
  const reports: SourceReports = {
    issued: (identity) => void reported.issued.push(identity),
    failed: (failure) => void reported.failed.push(failure),
    expiring: (identity) => void reported.expiring.push(identity),
    error: (error) => void reported.errors.push(error),
  };
  return {
    source,
    ...reported,
    start: async (port) => await source.start!(reports, port),
    stop: async () => await source.stop!(reports),
    async ask(serverName, alpnProtocols = ["h2"]) {
      const hello = { serverName, alpnProtocols } as unknown as ClientHello;
      const answer = await source.select(hello, { localAddress: "192.0.2.1" } as Endpoints);
      if (answer instanceof Refused) return "refused";
      return answer instanceof Identity ? answer : answer?.identity;
    },
    [Symbol.asyncDispose]: async () => await source.stop!(reports),
  };
}
