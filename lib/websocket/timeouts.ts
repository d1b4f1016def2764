/**
 * What a socket waits for, and how much a client may ask of it. Without timers; all times are in ms,
 * on the clock of the socket's tunnel.
 *
 * @module
 */

/**
 * Every state in which a WebSocket waits for its client, or for time to pass:
 *
 * - `upgrading`: `onUpgrade` is asked, for `timeouts.upgradeMs` at most; then 503
 * - `quiet`: nothing comes; after `pingPeriodMs` a Ping, after `notAliveMs` it is cut, after
 *   `timeouts.idleMs` without a message closed with 1001
 * - `message`: one has begun and not ended, for `timeouts.messageMs` at most, and no slower than
 *   `limits.minMessageBytesPerSecond`; then 1008
 * - `throttled`: it has made more than `limits.maxInflatedBytesPerSecond` and is read again when it is due
 * - `stopped`: so much waits for the program that nothing is read, nor the client's end seen; it takes
 *   some within `timeouts.messageMs`, or what is left of the server's `limits.maxConnectionAgeMs` if that is
 *   less (but `timeouts.sendMs` at least), or the socket is closed with 1011
 * - `unread`: the client must read, within the server's `timeouts.sendMs`; then it is cut
 * - `closing`: the closing handshake is under way, or the client is gone and a callback holds back
 *   what it had sent, for `timeouts.closeMs` at most; then it is cut
 */
export const SOCKET_STATES = [
  "upgrading",
  "quiet",
  "message",
  "throttled",
  "stopped",
  "unread",
  "closing",
] as const;

/** One of the {@linkcode SOCKET_STATES} of a socket that is open. */
export type SocketState = Exclude<typeof SOCKET_STATES[number], "upgrading">;

/** How long the rest of a message is waited for. */
export interface MessageLimits {
  /** From its first byte to its last, while it is waited for, in ms. */
  readonly messageMs: number;
  /** How fast it must come while it is waited for, in bytes per second; 0 for any speed. */
  readonly minMessageBytesPerSecond: number;
}

/** A message may be slower than `limits.minMessageBytesPerSecond` for so long. */
const RATE_GRACE_MS = 5_000;

/** A client that can send nothing is looked at again after so long. */
const MUTED_MS = 1_000;

/** Measures how long the client takes for its message: the time in which this side would read it. */
export class MessageWait {
  readonly #limits: MessageLimits;
  #message: number | undefined;
  /** Since when its next bytes are waited for. */
  #since: number | undefined;
  #waitedMs = 0;

  /** Waits for nothing yet. */
  constructor(limits: MessageLimits) {
    this.#limits = limits;
  }

  /** Whether a message is under way. */
  get underWay(): boolean {
    return this.#message !== undefined;
  }

  /**
   * Goes on with `message`, by a number of its own; undefined for none.
   *
   * @param reading whether its next bytes would be read now
   * @param bytes how many of its bytes have come
   * @returns until when to wait for the next bytes
   */
  goOn(message: number | undefined, reading: boolean, bytes: number, now: number): number {
    if (this.#since !== undefined) this.#waitedMs += now - this.#since;
    this.#since = undefined;
    if (message !== this.#message) {
      this.#message = message;
      this.#waitedMs = 0;
    }
    if (message === undefined || !reading) return Infinity;
    this.#since = now;
    const { messageMs, minMessageBytesPerSecond } = this.#limits;
    const earned = minMessageBytesPerSecond === 0
      ? Infinity
      : RATE_GRACE_MS + bytes * 1000 / minMessageBytesPerSecond;
    return now + Math.min(messageMs, earned) - this.#waitedMs;
  }

  /** Counts no time in which the client could send nothing; returns until when to wait. */
  excuse(now: number): number {
    this.#since = now;
    return now + MUTED_MS;
  }
}

/** How much a socket may inflate: so many bytes a second, a second's worth of them at once. */
export class InflateBudget {
  readonly #perSecond: number;
  #left: number;
  #at = 0;

  /** Begins with a second's worth. */
  constructor(bytesPerSecond: number) {
    this.#perSecond = this.#left = bytesPerSecond;
  }

  /**
   * Takes what was inflated, which may be more than was left.
   *
   * @returns `now` when there may be more, or the time from which on there may
   */
  spend(bytes: number, now: number): number {
    if (this.#perSecond === Infinity) return now;
    const earned = (now - this.#at) * this.#perSecond / 1000;
    this.#left = Math.min(this.#left + earned, this.#perSecond) - bytes;
    this.#at = now;
    return this.#left >= 0 ? now : now - this.#left * 1000 / this.#perSecond;
  }
}

/** How many Ping and Pong frames a client may send: so many in a second. */
export class PingBudget {
  readonly #perSecond: number;
  /** When the second began that frames are counted in. */
  #since = -Infinity;
  #count = 0;

  /** Begins with none counted. */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Counts one; returns whether it was still allowed. */
  spend(now: number): boolean {
    if (now - this.#since >= 1000) {
      this.#since = now;
      this.#count = 0;
    }
    return ++this.#count <= this.#perSecond;
  }
}
