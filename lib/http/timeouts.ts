/**
 * What a connection of HTTP/1.1, or a stream of HTTP/2, waits for, and until when: one deadline at
 * a time, the earliest of those that apply. The driver says what is waited for; each new wait
 * starts its time again, unless the table says otherwise.
 *
 * | wait    | from                                   | until the earliest of                         |
 * | ------- | -------------------------------------- | --------------------------------------------- |
 * | request | the connection, or an answer           | idleMs; maxConnectionAgeMs                    |
 * | head    | the first byte of a head               | headersMs; requestMs                          |
 * | body    | each new piece of a body               | receiveMs; requestMs from the head on;        |
 * |         |                                        | minBodyBytesPerSecond over all waits for this |
 * |         |                                        | body                                          |
 * | drain   | the answer, of a body that is not read | receiveMs                                     |
 * | parting | the answer, of one that is too long    | 100 ms                                        |
 * | reader  | each time that the client has read     | sendMs                                        |
 * | answer  | the client's end, once for all answers | sendMs                                        |
 * | source  | each piece of an answer after that end | lingerMs                                      |
 * | stopped | what waits fills the connection        | requestMs; the later of sendMs and            |
 * |         |                                        | maxConnectionAgeMs                            |
 *
 * @module
 */
import { BodyTime, type PaceLimits, type TimeLimits } from "./times.ts";
import type { Clock } from "../net/clock.ts";

/** What a connection can wait for: a client's bytes, a client that reads, or a handler. */
export const SESSION_WAITS = [
  /** The first byte of a request. */
  "request",
  /** The rest of a head. */
  "head",
  /** The rest of a body that a handler waits for. */
  "body",
  /** The rest of a body that no handler reads. */
  "drain",
  /** A client that reads. */
  "reader",
  /** A handler whose client has ended its side. */
  "answer",
  /** More of an answer whose client has ended its side. */
  "source",
  /** A handler that takes nothing of what waits, so that its client's end would not be seen. */
  "stopped",
] as const;

/** One of {@linkcode SESSION_WAITS}. */
export type Wait = typeof SESSION_WAITS[number];

/**
 * What a stream of HTTP/2 can wait for. The connection reads on, whatever waits in a stream; and a
 * client whose body is too long sees its answer, and stops by itself ("parting").
 */
export type StreamWait = Exclude<Wait, "request" | "head" | "stopped"> | "parting";

/** What a session or a stream can wait for. */
export type AnyWait = Wait | StreamWait;

/** Enough to read an answer that has come, and no delay for clients that wait for the reset. */
const PARTING_MS = 100;

/** Turns what a session waits for into its deadline. Times are on the clock it is given. */
export class Timeouts {
  readonly #timeouts: TimeLimits;
  readonly #limits: PaceLimits;
  readonly #clock: Clock;
  readonly #connectedAt: number;
  #wait: AnyWait | undefined;
  /** The count of requests when the wait began: the head of the next request is another wait. */
  #request = 0;
  #beganAt = 0;
  /** The body of the request under way. */
  readonly #body = new BodyTime();
  /** Since when the answers are waited for that are left of a client that has ended its side. */
  #answersFrom: number | undefined;
  #deadline = Infinity;

  /** Starts with a connection that is established now. */
  constructor(timeouts: TimeLimits, limits: PaceLimits, clock: Clock) {
    this.#timeouts = timeouts;
    this.#limits = limits;
    this.#clock = clock;
    this.#connectedAt = clock.now();
  }

  /** What is waited for. */
  get current(): AnyWait | undefined {
    return this.#wait;
  }

  /** When the wait under way is over. */
  get deadline(): number {
    return this.#deadline;
  }

  /** Until when the request has to come, body and all, once that was waited for. */
  get requestUntil(): number {
    return (this.#body.requestAt ?? Infinity) + this.#timeouts.requestMs;
  }

  /** When the connection is as old as it may become, on the clock. */
  get oldAt(): number {
    return this.#connectedAt + this.#limits.maxConnectionAgeMs;
  }

  /** Whether the connection is older than it may become. */
  get tooOld(): boolean {
    return this.oldAt !== Infinity && this.#clock.now() > this.oldAt;
  }

  /** Takes note that the head of a request is read. */
  requestCame(): void {
    if (this.#wait !== "head") this.#body.requestAt = undefined;
    this.#body.bytes = this.#body.waitedMs = 0;
  }

  /** Takes note that so many bytes of a body are read. */
  bodyCame(bytes: number): void {
    this.#body.bytes += bytes;
  }

  /** Restarts the current wait, since the client has read something. */
  clientRead(): void {
    this.#answersFrom = undefined;
    this.restart();
  }

  /** Restarts the current wait; but all answers to a client that has ended share one time. */
  restart(): void {
    this.#wait = undefined;
  }

  /**
   * Timeouts for something in the course of request number `request`. Returns the new deadline;
   * `undefined` when the wait under way goes on. Each new byte of a body is a new wait.
   */
  begin(wait: AnyWait | undefined, request: number): number | undefined {
    const same = wait === this.#wait && request === this.#request;
    if (same && wait !== "body") return undefined;
    const before = this.#wait;
    this.#wait = wait;
    this.#request = request;
    // The clock is not asked where nothing is timed: it costs as much as parsing a short head.
    if (wait === undefined && before !== "body") return this.#deadline = Infinity;
    const now = this.#clock.now();
    if (before === "body") this.#body.waitedMs += now - this.#beganAt;
    this.#beganAt = now;
    if (wait === "head") this.#body.requestAt = now;
    return this.#deadline = wait === undefined ? Infinity : this.#deadlineOf(wait, now);
  }

  #deadlineOf(wait: AnyWait, now: number): number {
    const timeouts = this.#timeouts;
    switch (wait) {
      case "request":
        return Math.min(now + timeouts.idleMs, this.oldAt);
      case "head":
        return now + Math.min(timeouts.headersMs, timeouts.requestMs);
      case "body":
        return this.#body.deadline(timeouts, this.#limits, now);
      case "drain":
        return now + timeouts.receiveMs;
      case "reader":
        return now + timeouts.sendMs;
      case "answer":
        return (this.#answersFrom ??= now) + timeouts.sendMs;
      case "stopped":
        return now + Math.min(
          timeouts.requestMs,
          Math.max(timeouts.sendMs, this.oldAt - now),
        );
      case "source":
        return now + timeouts.lingerMs;
      case "parting":
        return now + PARTING_MS;
    }
  }
}
