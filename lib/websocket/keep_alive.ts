/**
 * When a quiet client is pinged, when it counts as dead, and when an unused socket is closed: the
 * original's keep-alive engine (`keep_alive.c` of its `wss_server`), without timers.
 *
 * @module
 */
import type { Clock } from "../net/clock.ts";

/** The periods, in ms; `Infinity` turns one off. */
export interface KeepAliveTimes {
  /** How long nothing may come before a Ping is due, and from one Ping to the next. */
  readonly pingPeriodMs: number;
  /** How long nothing may come before the client is dead. */
  readonly notAliveMs: number;
  /** How long no message may go either way. */
  readonly idleMs: number;
}

/** What has to be done now. */
export type Due = "ping" | "dead" | "idle" | undefined;

/** The keep-alive of one socket; all times are on the clock that it is given. */
export class KeepAlive {
  readonly #times: KeepAliveTimes;
  readonly #clock: Pick<Clock, "now">;
  #seenAt: number;
  #pingedAt: number;
  /** When the first Ping was sent since something came; it is unanswered. */
  #askedAt = Infinity;
  #usedAt: number;

  /** Starts now. */
  constructor(times: KeepAliveTimes, clock: Pick<Clock, "now">) {
    this.#times = times;
    this.#clock = clock;
    this.#seenAt = this.#pingedAt = this.#usedAt = clock.now();
  }

  /** Notes that bytes came: the client is alive. */
  seen(now: number): void {
    this.#seenAt = now;
    this.#askedAt = Infinity;
  }

  /** Notes that a message came or went: the socket is used. */
  used(): void {
    // Reading the clock costs as much as reading a short message: not where the result is unused.
    if (this.#times.idleMs !== Infinity) this.#usedAt = this.#clock.now();
  }

  /** When {@linkcode KeepAlive.due} may next have something; traffic moves it back, never ahead. */
  get next(): number {
    return Math.min(this.#pingDue, this.#deadDue, this.#usedAt + this.#times.idleMs);
  }

  /** Returns what is due; a Ping that it returns counts as sent. */
  due(now: number): Due {
    if (this.#deadDue <= now) return "dead";
    if (this.#usedAt + this.#times.idleMs <= now) return "idle";
    if (this.#pingDue > now) return undefined;
    this.#pingedAt = now;
    this.#askedAt = Math.min(this.#askedAt, now);
    return "ping";
  }

  /**
   * Where Pings are sent, no client is dead before it was pinged in time: this process may have
   * stalled.
   */
  get #deadDue(): number {
    const { pingPeriodMs, notAliveMs } = this.#times;
    if (pingPeriodMs >= notAliveMs) return this.#seenAt + notAliveMs;
    return this.#askedAt + (notAliveMs - pingPeriodMs);
  }

  get #pingDue(): number {
    return Math.max(this.#seenAt, this.#pingedAt) + this.#times.pingPeriodMs;
  }
}
