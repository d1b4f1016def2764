/**
 * What is known of one request and its answer: for `http:exchange` events and for observers, who see
 * it from its head to its end. It is made only where something listens.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";
import type { Clock } from "../net/clock.ts";
import type { HttpVersion, RequestHead } from "./request_head.ts";
import type { Session } from "./session.ts";
import { type TraceContext, traceContextOf } from "./trace_context.ts";

/**
 * How an exchange ended: its response was written as a `whole`; the `client` left before, or broke
 * off; or the `server` cut it: a handler that failed in the middle, a deadline, the end of the
 * server.
 */
export type ExchangeEnd = "whole" | "client" | "server";

/** One request and its answer. */
export interface ExchangeReport {
  /** The session that the request came on. */
  readonly session: Session;
  /** The version of HTTP. */
  readonly version: HttpVersion;
  /** The method; `undefined` for a request whose head could not be read. */
  readonly method: string | undefined;
  /** The target as sent, with its query; `undefined` for a request whose head could not be read. */
  readonly target: string | undefined;
  /** The path as sent, without the query; `undefined` for a request whose head could not be read. */
  readonly path: string | undefined;
  /** The query as sent, without the `?`; empty when there is none. */
  readonly query: string;
  /** The `host[:port]` that the request is for, if the client named one. */
  readonly host: string | undefined;
  /**
   * The template of the route that was chosen; `undefined` when none was, as for fetch handlers, and
   * for one that is empty.
   */
  readonly route: string | undefined;
  /**
   * The status that was answered, 101 (200 on HTTP/2) for an upgrade; `undefined` before there is
   * one, and for an exchange that ended without, or whose handler sent raw bytes.
   */
  readonly status: number | undefined;
  /**
   * How many bytes of the request's body had come by the end of the response; `undefined` where a
   * platform carries a body that was not read through this server.
   */
  readonly requestBytes: number | undefined;
  /**
   * How many bytes of the response's body were written; `undefined` where a platform sends a
   * `Response` by itself.
   */
  readonly responseBytes: number | undefined;
  /** When the head had come, in ms since 1970. */
  readonly receivedAt: number;
  /** How long after that the response's head was written, in ms; `undefined` if it was not. */
  readonly firstByteMs: number | undefined;
  /** How long after `receivedAt` it ended, or for how long it goes on by now; in ms. */
  readonly durationMs: number;
  /** How it ended; `undefined` before. */
  readonly ended: ExchangeEnd | undefined;
  /** The error that was answered, or that ended it early. */
  readonly error: HttpsdError | undefined;
  /** Whether the connection, or the stream, has become a WebSocket's. */
  readonly upgraded: boolean;
  /** The trace that the request belongs to, if it came with a valid `traceparent`. */
  readonly trace: TraceContext | undefined;
  /** Returns the value of the request's first field of this name, in any case. */
  get(name: string): string | undefined;
  /** Returns the values of all the request's fields of this name, in any case, as they were sent. */
  getAll(name: string): string[];
}

/** What an exchange tells of itself, at any time. */
export interface ExchangeFacts {
  readonly session: Session;
  readonly head: RequestHead;
  readonly isUnread: boolean;
  readonly route: string | undefined;
  readonly upgraded: boolean;
  readonly clock: Clock;
  readonly requestBytes: number | undefined;
  readonly response: {
    readonly status: number | undefined;
    readonly writtenBytes: number | undefined;
    /** Whether it was handed over with its head, in one go. */
    readonly atOnce: boolean;
  };
}

/** An exchange as it goes; it no longer changes once it has ended. */
export class ExchangeRecord implements ExchangeReport {
  readonly receivedAt: number;
  /** What observers follow it with: the first of them, since there is rarely another. */
  observation: ExchangeObservation | undefined;
  /** The others. */
  moreObservations: ExchangeObservation[] | undefined;
  /** Whether one of them runs what answers the request. */
  isWrapped = false;
  readonly #facts: ExchangeFacts;
  readonly #began: number;
  #firstByteMs: number | undefined;
  // What is known when it has ended.
  #ended: ExchangeEnd | undefined;
  #error: HttpsdError | undefined;
  #route: string | undefined;
  #status: number | undefined;
  #requestBytes: number | undefined;
  #responseBytes: number | undefined;
  #durationMs = 0;
  #trace: TraceContext | null | undefined;

  /** Begins the record of an exchange whose head has come at `began`, on its clock. */
  constructor(facts: ExchangeFacts, began: number, receivedAt: number) {
    this.#facts = facts;
    this.#began = began;
    this.receivedAt = receivedAt;
  }

  /** Has an observer follow it. */
  follow(observation: ExchangeObservation): void {
    if (this.observation === undefined) this.observation = observation;
    else if (this.moreObservations === undefined) this.moreObservations = [observation];
    else this.moreObservations.push(observation);
    if (observation.run !== undefined) this.isWrapped = true;
  }

  /** Notes that the response's head is being written. */
  responds(): void {
    this.#firstByteMs ??= this.#elapsed;
  }

  /** Ends the record. */
  end(ended: ExchangeEnd, error: HttpsdError | undefined): void {
    const { response, requestBytes, route } = this.#facts;
    this.#route = named(route);
    this.#error = error;
    this.#status = response.status;
    this.#requestBytes = requestBytes;
    this.#responseBytes = response.writtenBytes;
    // Asking the clock takes longer than writing a short answer.
    const wroteAtOnce = ended === "whole" && response.atOnce;
    this.#durationMs = wroteAtOnce ? this.#firstByteMs ?? this.#elapsed : this.#elapsed;
    this.#ended = ended;
  }

  get #elapsed(): number {
    return this.#facts.clock.now() - this.#began;
  }

  get session(): Session {
    return this.#facts.session;
  }

  get version(): HttpVersion {
    return this.#facts.head.version;
  }

  get method(): string | undefined {
    return this.#read?.method;
  }

  get target(): string | undefined {
    return this.#read?.target;
  }

  get path(): string | undefined {
    return this.#read?.path;
  }

  get query(): string {
    return this.#facts.head.query;
  }

  get host(): string | undefined {
    return this.#facts.head.host;
  }

  get route(): string | undefined {
    return this.#ended === undefined ? named(this.#facts.route) : this.#route;
  }

  get status(): number | undefined {
    return this.#ended === undefined ? this.#facts.response.status : this.#status;
  }

  get requestBytes(): number | undefined {
    return this.#ended === undefined ? this.#facts.requestBytes : this.#requestBytes;
  }

  get responseBytes(): number | undefined {
    return this.#ended === undefined ? this.#facts.response.writtenBytes : this.#responseBytes;
  }

  get firstByteMs(): number | undefined {
    return this.#firstByteMs;
  }

  get durationMs(): number {
    return this.#ended === undefined ? this.#elapsed : this.#durationMs;
  }

  get ended(): ExchangeEnd | undefined {
    return this.#ended;
  }

  get error(): HttpsdError | undefined {
    return this.#error;
  }

  get upgraded(): boolean {
    return this.#facts.upgraded;
  }

  get trace(): TraceContext | undefined {
    if (this.#trace === undefined) this.#trace = traceContextOf(this.#facts.head) ?? null;
    return this.#trace ?? undefined;
  }

  get(name: string): string | undefined {
    return this.#facts.head.get(name.toLowerCase());
  }

  getAll(name: string): string[] {
    return this.#facts.head.getAll(name.toLowerCase());
  }

  /** The head, if it could be read. */
  get #read(): RequestHead | undefined {
    return this.#facts.isUnread ? undefined : this.#facts.head;
  }
}

/** A template; none where it is empty, which Prometheus takes for a label that is not there. */
function named(route: string | undefined): string | undefined {
  return route === "" ? undefined : route;
}

/** Follows one exchange. */
export interface ExchangeObservation {
  /**
   * Runs what answers the request, which `handle` does: calls it once, before returning, such as in
   * an asynchronous context of its own. Default: it is called as it is.
   */
  run?(handle: () => void): void;
  /** Takes note that the exchange has ended. */
  ended?(exchange: ExchangeReport): void;
}

/**
 * Observes the exchanges of a server. What its methods throw becomes an `error` event with code
 * `HOOK_FAILED`, and affects no request.
 */
export interface ExchangeObserver {
  /**
   * Takes note of a request, before it is routed; returns what follows it, if anything. Default: only
   * `ended` is called.
   */
  begin?(exchange: ExchangeReport): ExchangeObservation | undefined;
  /**
   * Takes note that an exchange has ended; only of an observer without `begin`, to which it is all
   * that counts: an observation of each exchange costs more. Default: nothing is done.
   */
  ended?(exchange: ExchangeReport): void;
  /**
   * Hands over what it still has, as a log does; called when the server stops and all exchanges have
   * ended, and waited for, for half a second at most. Default: there is nothing.
   */
  settle?(): unknown;
}
