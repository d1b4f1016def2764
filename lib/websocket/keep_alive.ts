/**
 * When a quiet client is pinged, when it counts as dead, and when an unused socket is closed: the
 * original's keep-alive engine (`keep_alive.c` of its `wss_server`), without timers.
 *
 * @module
 */

/** The periods, in ms; `Infinity` turns one off. */
export interface KeepAliveTimes {
  /** How long nothing may come before a Ping is due, and from one Ping to the next. */
  readonly pingPeriodMs: number;
  /** How long nothing may come before the client is dead. */
  readonly notAliveMs: number;
  /** How long no message may go either way. */
  readonly idleTimeoutMs: number;
}

/** What has to be done now. */
export type Due = "ping" | "dead" | "idle" | undefined;

/** The clock of one socket; all times are on the `performance.now()` clock. */
export class KeepAlive {
  readonly #times: KeepAliveTimes;
  #seenAt: number;
  #pingedAt: number;
  #usedAt: number;

  /** Starts at `now`. */
  constructor(times: KeepAliveTimes, now: number) {
    this.#times = times;
    this.#seenAt = this.#pingedAt = this.#usedAt = now;
  }

  /** Bytes came: the client lives. */
  seen(now: number): void {
    this.#seenAt = now;
  }

  /** A message came or went: the socket is used. */
  used(now: number): void {
    this.#usedAt = now;
  }

  /** When {@linkcode KeepAlive.due} may next have something; traffic moves it back, never ahead. */
  get next(): number {
    const { notAliveMs, idleTimeoutMs } = this.#times;
    return Math.min(this.#pingDue, this.#seenAt + notAliveMs, this.#usedAt + idleTimeoutMs);
  }

  /** What is due; a Ping counts as sent when it was told so. */
  due(now: number): Due {
    const { notAliveMs, idleTimeoutMs } = this.#times;
    if (this.#seenAt + notAliveMs <= now) return "dead";
    if (this.#usedAt + idleTimeoutMs <= now) return "idle";
    if (this.#pingDue > now) return undefined;
    this.#pingedAt = now;
    return "ping";
  }

  get #pingDue(): number {
    return Math.max(this.#seenAt, this.#pingedAt) + this.#times.pingPeriodMs;
  }
}
