/**
 * The deadlines of one socket: one for each of the `SOCKET_STATES` that it is in. Its tunnel watches
 * the earliest.
 *
 * @module
 */
import type { Tunnel } from "../http/tunnel.ts";
import { type Due, KeepAlive } from "./keep_alive.ts";
import type { SocketConfig } from "./options.ts";
import type { Receiver } from "./receivers.ts";
import { InflateBudget, MessageWait, type SocketState } from "./timeouts.ts";

/** What a socket whose deadline has passed has to do something about. */
export type Overdue = Exclude<SocketState, "quiet"> | Due;

/** Keeps the deadlines of one socket; `Infinity` is one for a state that the socket is not in. */
export class SocketDeadlines {
  readonly #tunnel: Tunnel;
  readonly #closeMs: number;
  readonly #messageMs: number;
  readonly #keepAlive: KeepAlive;
  readonly #message: MessageWait;
  readonly #inflating: InflateBudget;
  /** Until the client has to send something, or may be idle. */
  #quietUntil = Infinity;
  /** Until its message, or its part of one, has to come. */
  #messageUntil = Infinity;
  /** Until it is read again. */
  #throttledUntil = Infinity;
  /** Until the program has to take something. */
  #stoppedUntil = Infinity;
  /** Until it has to read. */
  #unreadUntil = Infinity;
  /** Until the closing handshake has to be over. */
  #closingUntil = Infinity;
  /** Whether a quiet client is pinged, and cut when it does not answer. */
  #keepsAlive = true;

  /** Makes the deadlines of a socket that is quiet. */
  constructor(tunnel: Tunnel, config: SocketConfig) {
    this.#tunnel = tunnel;
    this.#closeMs = config.timeouts.closeMs;
    this.#messageMs = config.timeouts.messageMs;
    this.#keepAlive = new KeepAlive({
      pingPeriodMs: config.pingPeriodMs,
      notAliveMs: config.notAliveMs,
      idleMs: config.timeouts.idleMs,
    }, tunnel.clock);
    this.#message = new MessageWait({
      messageMs: config.timeouts.messageMs,
      minMessageBytesPerSecond: config.limits.minMessageBytesPerSecond,
    });
    this.#inflating = new InflateBudget(config.limits.maxInflatedBytesPerSecond);
  }

  /** Sets the tunnel's deadline to the earliest. */
  arm(): void {
    const tunnel = this.#tunnel;
    if (tunnel.closed || tunnel.closing) return;
    this.#quietUntil = this.#keepsAlive ? this.#keepAlive.next : Infinity;
    tunnel.deadline = Math.min(
      this.#quietUntil,
      this.#messageUntil,
      this.#throttledUntil,
      this.#stoppedUntil,
      this.#unreadUntil,
      this.#closingUntil,
    );
  }

  /** Notes that bytes came, so that the client counts as alive. */
  heard(): void {
    this.#keepAlive.seen(this.#now());
  }

  /** Notes that a message came or went, so that the socket is not idle. */
  used(): void {
    this.#keepAlive.used();
  }

  /** Whether nothing is read, since too much was inflated. */
  get throttled(): boolean {
    return this.#throttledUntil !== Infinity;
  }

  /** Counts bytes that were inflated, and throttles a client that has sent too many. */
  inflated(bytes: number): void {
    const now = this.#now();
    const due = this.#inflating.spend(bytes, now);
    if (due === now) return;
    this.#throttledUntil = due;
    this.arm();
  }

  /** Waits for the program to take something, unless that is waited for already; or does not. */
  awaitProgram(holdsBack: boolean): void {
    if (holdsBack === (this.#stoppedUntil !== Infinity)) return;
    this.#stoppedUntil = holdsBack ? this.#programTakesUntil() : Infinity;
    this.arm();
  }

  /** An old connection's program has what is left of its age, but enough to take something. */
  #programTakesUntil(): number {
    const tunnel = this.#tunnel;
    const byAge = Math.max(tunnel.oldAt, tunnel.after(tunnel.sendTimeoutMs));
    return Math.min(tunnel.after(this.#messageMs), byAge);
  }

  /** Stops waiting for the program, since it has taken something. */
  taken(): void {
    this.#stoppedUntil = Infinity;
  }

  /** Waits for the client to read, unless that is waited for already. */
  awaitReader(): void {
    if (this.#unreadUntil !== Infinity) return;
    this.#unreadUntil = this.#tunnel.after(this.#tunnel.sendTimeoutMs);
    this.arm();
  }

  /** Stops waiting for the client to read, since it has. */
  read(): void {
    this.#unreadUntil = Infinity;
  }

  /**
   * Waits for the rest of the message that has begun and not ended, if there is one.
   *
   * @param listens whether messages are still taken
   * @param reading whether the next bytes would be read now
   */
  awaitMessage(receiver: Receiver, listens: boolean, reading: boolean): void {
    const message = listens ? receiver.unfinished : undefined;
    if (message === undefined && !this.#message.underWay) return;
    const bytes = receiver.unfinishedBytes;
    this.#messageUntil = this.#message.goOn(message, reading, bytes, this.#now());
    this.arm();
  }

  /** Whether the end is waited for. */
  get awaitsEnd(): boolean {
    return this.#closingUntil !== Infinity;
  }

  /** Waits for the end of the closing handshake, or of what holds it up, from now. */
  awaitEnd(): void {
    this.#closingUntil = this.#tunnel.after(this.#closeMs);
    this.arm();
  }

  /** Stops pinging the client, since the closing handshake has begun. */
  stopKeepAlive(): void {
    this.#keepsAlive = false;
  }

  /**
   * Returns what is overdue. A Ping counts as sent, and a client that was throttled may be read.
   *
   * @param hears whether the client would be heard if it sent something
   */
  overdue(hears: boolean): Overdue {
    const now = this.#now();
    const muted = this.#tunnel.muted === true;
    if (muted && this.#messageUntil <= now) this.#messageUntil = this.#message.excuse(now);
    const reads = this.#tunnel.readUntil > now;
    if (reads) this.#spare(now);
    if (this.#unreadUntil <= now) return "unread";
    if (this.#closingUntil <= now) return "closing";
    if (this.#messageUntil <= now) return "message";
    if (this.#stoppedUntil <= now) return "stopped";
    if (this.#throttledUntil <= now) {
      this.#throttledUntil = Infinity;
      this.#keepAlive.seen(now); // meanwhile the client could not be heard
      return "throttled";
    }
    if (!this.#keepsAlive) return undefined;
    if (!hears || reads || muted) this.#keepAlive.seen(now);
    return this.#keepAlive.due(now);
  }

  /**
   * Waits longer for a client that reads, slow as it may be: a Close frame, or over HTTP/2 the window
   * for its message, is behind what it has to read.
   */
  #spare(now: number): void {
    const { readUntil } = this.#tunnel;
    if (this.#unreadUntil <= now) this.#unreadUntil = readUntil;
    if (this.#messageUntil <= now) this.#messageUntil = readUntil;
    if (this.#closingUntil <= now) this.#closingUntil = readUntil;
  }

  #now(): number {
    return this.#tunnel.clock.now();
  }
}
