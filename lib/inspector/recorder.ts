/**
 * What an inspector keeps of a server's past. Failed handshakes are kept from the start on, the last
 * few kinds of them, since that costs nothing where none fails. Requests are followed, and counted by
 * the second, only while something looks, and for a little longer, so that a page that is loaded
 * again has its charts.
 *
 * @module
 */
import type { ServerErrorEvent } from "../events.ts";
import type { ExchangeObservation, ExchangeReport } from "../http/exchange_report.ts";
import type { Session } from "../http/session.ts";
import type { HttpsServer } from "../server.ts";
import { Latencies } from "./latencies.ts";

const SECOND_MS = 1_000;

/** How many seconds are kept. */
export const HISTORY_SECONDS = 300;

/** How long requests are followed after the last look, in ms. */
const LINGER_MS = 30_000;

/** How many kinds of failures are kept. */
const MAX_FAILURES = 50;

/** Handshakes, or connections before their session, that failed alike. */
export interface Failure {
  /** The last one. */
  readonly event: ServerErrorEvent<unknown>;
  /** When that was, in ms since 1970. */
  readonly at: number;
  /** How many there were. */
  readonly times: number;
}

/** One second. */
export interface Second {
  /** Which one since the recorder was made; each that follows is one more. */
  readonly number: number;
  /** How many requests ended, by the class of their status; 0: without one. */
  readonly byClass: number[];
  /** How long they took. */
  readonly latencies: Latencies;
  /** How many connections were accepted. */
  accepted: number;
  /** How many connections failed before their session. */
  failed: number;
}

/** Keeps what happens to one server. */
export class Recorder {
  readonly #server: HttpsServer;
  readonly #failures = new Map<string, Failure>();
  /** The requests under way, as far as they began while something looked. */
  readonly #active = new Map<Session, Set<ExchangeReport>>();
  #seconds: Second[] = [];
  #number = 0;
  #second: Second = this.#newSecond();
  #waiting: (() => void)[] = [];
  #viewers = 0;
  #lookedAt = -Infinity;
  #ending: (() => void) | undefined;
  /** The counters at the last tick. */
  #before = { accepted: 0, refused: 0 };

  /** Begins to keep failures. */
  constructor(server: HttpsServer) {
    this.#server = server;
    server.addEventListener("refused", this.#refused);
  }

  /** The failures, the last one first. */
  get failures(): readonly Failure[] {
    return [...this.#failures.values()].reverse();
  }

  /** The seconds that are over, the oldest first. */
  get seconds(): readonly Second[] {
    return this.#seconds;
  }

  /** Whether requests are being followed. */
  get isLooking(): boolean {
    return this.#ending !== undefined;
  }

  /** The requests of a session that are under way, as far as they are known. */
  activeOf(session: Session): Iterable<ExchangeReport> {
    return this.#active.get(session) ?? [];
  }

  /** Notes that something looks now. */
  look(): void {
    this.#lookedAt = performance.now();
    this.#ending ??= this.#begin();
  }

  /** Notes that something looks until the function that is returned is called. */
  watch(): () => void {
    this.#viewers++;
    this.look();
    return () => {
      this.#viewers--;
      this.#lookedAt = performance.now();
    };
  }

  /** Resolves when the next second begins, or when nothing is recorded any more. */
  nextSecond(signal: AbortSignal): Promise<void> {
    if (signal.aborted || !this.isLooking) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#waiting.push(wake);
    signal.addEventListener("abort", wake);
    return promise.finally(() => signal.removeEventListener("abort", wake));
  }

  /** Keeps nothing any more. */
  stop(): void {
    this.#server.removeEventListener("refused", this.#refused);
    this.#failures.clear();
    this.#ending?.();
  }

  #begin(): () => void {
    const stopObserving = this.#server.observe({ begin: (exchange) => this.#began(exchange) });
    const timer = setInterval(() => this.#tick(), SECOND_MS);
    (timer as { unref?(): void }).unref?.();
    this.#before = this.#counters();
    this.#second = this.#newSecond();
    return () => {
      clearInterval(timer);
      stopObserving();
      this.#active.clear();
      this.#seconds = [];
      this.#ending = undefined;
      for (const resolve of this.#waiting.splice(0)) resolve();
    };
  }

  #began(exchange: ExchangeReport): ExchangeObservation {
    const { session } = exchange;
    let active = this.#active.get(session);
    if (active === undefined) this.#active.set(session, active = new Set());
    active.add(exchange);
    return {
      ended: () => {
        active.delete(exchange);
        if (active.size === 0) this.#active.delete(session);
        const { status = 0, durationMs } = exchange;
        const hundreds = Math.trunc(status / 100);
        this.#second.byClass[hundreds <= 5 ? hundreds : 0]!++;
        this.#second.latencies.add(durationMs);
      },
    };
  }

  #tick(): void {
    const counters = this.#counters();
    this.#second.accepted = counters.accepted - this.#before.accepted;
    this.#second.failed = counters.refused - this.#before.refused;
    this.#before = counters;
    this.#seconds.push(this.#second);
    if (this.#seconds.length > HISTORY_SECONDS) this.#seconds.shift();
    this.#second = this.#newSecond();
    for (const resolve of this.#waiting.splice(0)) resolve();
    const isLeft = this.#viewers === 0 && performance.now() > this.#lookedAt + LINGER_MS;
    if (isLeft) this.#ending?.();
  }

  #counters(): { accepted: number; refused: number } {
    const { accepted, refused } = this.#server.counters;
    return { accepted, refused };
  }

  #newSecond(): Second {
    return {
      number: this.#number++,
      byClass: [0, 0, 0, 0, 0, 0],
      latencies: new Latencies(),
      accepted: 0,
      failed: 0,
    };
  }

  readonly #refused = (event: ServerErrorEvent<unknown>): void => {
    const { error: { code }, phase, remoteAddress, sni } = event;
    const key = JSON.stringify([code, phase, remoteAddress, sni]);
    const times = (this.#failures.get(key)?.times ?? 0) + 1;
    this.#failures.delete(key); // the last one goes to the end
    this.#failures.set(key, { event, at: Date.now(), times });
    if (this.#failures.size <= MAX_FAILURES) return;
    const [oldest] = this.#failures.keys();
    this.#failures.delete(oldest!);
  };
}
