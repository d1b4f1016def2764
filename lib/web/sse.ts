/**
 * Server-sent events: a response that stays open, and a client that reconnects when it breaks (HTML
 * standard, section 9.2).
 *
 * @example
 * ```ts
 * import { serverSentEvents } from "@httpsd/httpsd/sse";
 *
 * const clock = (request: Request) =>
 *   serverSentEvents(request, async ({ send, signal }) => {
 *     while (!signal.aborted) {
 *       await send({ data: new Date().toISOString() });
 *       await new Promise((resolve) => setTimeout(resolve, 1000));
 *     }
 *   });
 * ```
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { utf8 } from "../bytes.ts";
import * as v from "valibot";
import { ignore, watch } from "../contain/callbacks.ts";
import { ContainedAbort } from "../contain/abort.ts";
import { ConfigError, ConnectionError, HttpError } from "../errors.ts";
import { nextTurn } from "../runtime/turn.ts";
import {
  adviceFrom,
  checkOptions,
  either,
  endlessMs,
  isPlain,
  members,
  milliseconds,
  shown,
  size,
} from "../options.ts";

/** An event. What is left out is not sent. */
export interface ServerSentEvent {
  /** The text, of any number of lines. Without it the client takes note of `id`, no more. */
  readonly data?: string;
  /**
   * The type that listeners are registered for, without line breaks. The client's default:
   * `message`.
   */
  readonly event?: string;
  /** What the client sends as `Last-Event-ID` when it reconnects, without line breaks or NUL. */
  readonly id?: string;
  /** How many ms the client waits before it reconnects after the stream breaks; a whole number. */
  readonly retry?: number;
}

/** How a callback sends events; its members can be taken apart. */
export interface EventSender {
  /**
   * Sends an event. The promise never rejects; it resolves to `true` when the client has taken it
   * and is ready for the next, to `false` when the stream is over. A source that does not wait for
   * it fills a buffer, and a client for which that runs over is cut off.
   *
   * @throws {HttpError} 500 `BAD_RESPONSE`, at once, for line breaks or NUL where none may be, for
   * values that are not text, for a `retry` that is not a whole number, and for unknown members
   */
  readonly send: (event: ServerSentEvent) => Promise<boolean>;
  /** The last event that a client saw before it reconnected; `undefined` when it is new. */
  readonly lastEventId: string | undefined;
  /** Aborted when the stream is over, whichever side ended it. */
  readonly signal: AbortSignal;
}

/**
 * Where events come from: an async iterable, of which the next is asked for when the client has
 * taken the one before, or a callback, whose promise settles when the stream is to end.
 */
export type ServerSentEventSource =
  | AsyncIterable<ServerSentEvent>
  | ((sender: EventSender) => Promise<unknown>);

/** The options of {@linkcode serverSentEvents}. */
export interface ServerSentEventsOptions {
  /**
   * How often an idle stream gets a comment, so that no proxy drops it, in ms. `Infinity`: never.
   * Default: 15,000.
   */
  readonly keepAliveMs?: number;
  /** How many bytes may wait for a slow client before it is cut off. Default: 1 MiB. */
  readonly maxBufferedBytes?: number;
  /** More fields of the response, or other values for those that are set. Default: none. */
  readonly headers?: NonNullable<ConstructorParameters<typeof Headers>[0]>;
}

/**
 * Answers with an event stream. The stream ends when the source does, when `request.signal` is
 * aborted, and when the body is cancelled; the source is stopped by its `return()` or by `signal`.
 * A source that fails breaks the stream with its error, after which browsers reconnect. A client
 * that falls behind by more than `maxBufferedBytes` breaks it with `CONNECTION_ABORTED`. A HEAD
 * request gets the fields, and the source is left alone.
 *
 * The response is `no-store`, and `no-transform`, because compressors hold back what they get.
 * The first thing sent is an empty comment, so that the client knows at once that it is connected.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function serverSentEvents(
  request: Request,
  source: ServerSentEventSource,
  options: ServerSentEventsOptions = {},
): Response {
  const { keepAliveMs, maxBufferedBytes, headers: more } = checkOptions(CALLEE, SCHEMA, options);
  assertArguments(request, source);
  const headers = new Headers({
    "cache-control": "no-store, no-transform",
    "content-type": "text/event-stream",
    "x-accel-buffering": "no", // nginx would gather events
    "x-content-type-options": "nosniff",
  });
  const own = new Headers(more);
  for (const name of own.keys()) headers.delete(name);
  for (const [name, value] of own) headers.append(name, value); // there may be several cookies
  if (request.method === "HEAD") return new Response(null, { headers });
  const stream = new EventStream(request, keepAliveMs, maxBufferedBytes);
  void stream.run(source);
  return new Response(stream.body, { headers });
}

const CALLEE = "serverSentEvents()";

const SCHEMA = members({
  keepAliveMs: v.optional(
    either<number, number>((value) => value === Infinity, endlessMs, milliseconds()),
    15_000,
  ),
  maxBufferedBytes: size(1024 * 1024),
  headers: v.optional(
    v.custom<NonNullable<ConstructorParameters<typeof Headers>[0]>>(
      areHeaders,
      "must be what new Headers() takes",
    ),
  ),
}, {
  advice: adviceFrom({
    ping: "write keepAliveMs",
    pingInterval: "write keepAliveMs",
    heartbeat: "write keepAliveMs",
    interval: "write keepAliveMs",
    retry: "send it in an event, { retry }",
    highWaterMark: "write maxBufferedBytes",
    signal: "leave it out: the request's is used",
    status: "leave it out: browsers take 200 only",
  }),
});

function areHeaders(value: unknown): boolean {
  try {
    new Headers(value as ConstructorParameters<typeof Headers>[0]);
    return typeof value === "object" && value !== null;
  } catch {
    return false; // the constructor throws for what it does not take
  }
}

function assertArguments(request: unknown, source: unknown): void {
  if (!(request instanceof Request)) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `${CALLEE} was given ${
        shown(request)
      } for a request: write serverSentEvents(request, source)`,
    );
  }
  if (typeof source === "function" || isAsyncIterable(source)) return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `The source of ${CALLEE} is ${
      shown(source)
    }: give an async function, or an async iterable such ` +
      "as what an async function* returns",
  );
}

function isAsyncIterable(source: unknown): boolean {
  return typeof (source as AsyncIterable<unknown> | null | undefined)?.[Symbol.asyncIterator] ===
    "function";
}

/** The `Last-Event-ID` of a client that comes back, which browsers send in UTF-8. */
export function lastEventId(request: Request): string | undefined {
  const value = request.headers.get("last-event-id");
  return value ? Buffer.from(value, "latin1").toString("utf8") : undefined;
}

/** So many events are refused before the event loop has its turn. */
const REFUSALS_PER_TURN = 64;

class EventStream implements EventSender {
  readonly lastEventId: string | undefined;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly #request: Request;
  readonly #over = new ContainedAbort((cause) => void this.#failures.push(cause));
  /** What the source threw when it was asked to stop. */
  readonly #failures: unknown[] = [];
  readonly #maxBufferedBytes: number;
  readonly #keepAlive: ReturnType<typeof setInterval> | undefined;
  #controller!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
  /** Resolves when all that was sent is taken, or the stream is over. */
  #taken: PromiseWithResolvers<boolean> | undefined;
  #refusals = 0;

  constructor(request: Request, keepAliveMs: number, maxBufferedBytes: number) {
    this.lastEventId = lastEventId(request);
    this.#request = request;
    this.#maxBufferedBytes = maxBufferedBytes;
    this.body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#settle(true),
      cancel: () => {
        this.#end();
        if (this.#failures.length > 0) throw this.#failures[0];
      },
    }, new ByteLengthQueuingStrategy({ highWaterMark: 1 })); // one byte waiting is one too many
    if (keepAliveMs !== Infinity) {
      this.#keepAlive = setInterval(() => this.#sendKeepAlive(), keepAliveMs);
    }
    request.signal.addEventListener("abort", this.#close, { once: true });
    this.#controller.enqueue(COMMENT);
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  async run(source: ServerSentEventSource): Promise<void> {
    if (this.#request.signal.aborted) return this.#close();
    try {
      if (typeof source === "function") await source(this);
      else await this.#sendAll(source);
      this.#close();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #sendAll(source: AsyncIterable<ServerSentEvent>): Promise<void> {
    const events = source[Symbol.asyncIterator]();
    // What it rejects with because it is asked to stop is no failure; what it throws is one.
    const stop = () => watch(events.return?.(), ignore);
    this.signal.addEventListener("abort", stop, { once: true });
    for (let next = await events.next(); !next.done; next = await events.next()) {
      if (!await this.send(next.value)) return;
    }
    this.signal.removeEventListener("abort", stop); // it ended by itself
  }

  readonly send = (event: ServerSentEvent): Promise<boolean> => {
    const bytes = utf8(encodeEvent(event));
    if (this.signal.aborted) return this.#refused();
    if (this.#buffered + bytes.length > this.#maxBufferedBytes) {
      this.#fail(
        new ConnectionError(
          "CONNECTION_ABORTED",
          `The client reads events too slowly: ${this.#buffered} bytes wait for it`,
        ),
      );
      return Promise.resolve(false);
    }
    this.#controller.enqueue(bytes);
    if (this.#buffered === 0) return Promise.resolve(true);
    this.#taken ??= Promise.withResolvers();
    return this.#taken.promise;
  };

  /** A loop that ignores the result must not starve the event loop. */
  #refused(): Promise<boolean> {
    return ++this.#refusals % REFUSALS_PER_TURN === 0
      ? nextTurn().then(() => false)
      : Promise.resolve(false);
  }

  get #buffered(): number {
    return 1 - (this.#controller.desiredSize ?? 1);
  }

  #sendKeepAlive(): void {
    if (this.#buffered === 0) this.#controller.enqueue(COMMENT);
  }

  readonly #close = (): void => {
    if (this.signal.aborted) return;
    this.#end();
    if (this.#failures.length === 0) this.#controller.close();
    else this.#controller.error(this.#failures[0]);
  };

  #fail(error: unknown): void {
    if (this.signal.aborted) return; // what fails because it was asked to stop is no failure
    this.#end();
    this.#controller.error(error);
  }

  /** Asks the source to stop. */
  #end(): void {
    clearInterval(this.#keepAlive);
    this.#request.signal.removeEventListener("abort", this.#close);
    this.#over.abort();
    this.#settle(false);
  }

  #settle(isReady: boolean): void {
    this.#taken?.resolve(isReady);
    this.#taken = undefined;
  }
}

/** A line that clients ignore, followed by the empty line. */
const COMMENT = utf8(":\n\n");

/** The members of an event. */
const MEMBERS = ["data", "event", "id", "retry"];

function encodeEvent(given: ServerSentEvent): string {
  assertEvent(given);
  const { data, event, id, retry } = given;
  let text = "";
  if (event !== undefined) text += `event: ${singleLine("event", event)}\n`;
  if (id !== undefined) text += `id: ${singleLine("id", id)}\n`;
  if (retry !== undefined) text += `retry: ${wholeNumber(retry)}\n`;
  for (const line of data?.split(/\r\n|\r|\n/) ?? []) text += `data: ${line}\n`;
  return `${text}\n`;
}

/** What is not sent as it was meant must not look as if it were. */
function assertEvent(event: unknown): void {
  if (!isPlain(event)) {
    throw badEvent(
      `The event is ${shown(event)}: send { data: "…" }, and other values as JSON`,
    );
  }
  for (const [name, value] of Object.entries(event)) {
    if (!MEMBERS.includes(name)) {
      throw badEvent(`The event's ${name} is not known: use ${MEMBERS.join(", ")}`);
    }
    if (value === undefined || name === "retry" || typeof value === "string") continue;
    throw badEvent(`The event's ${name} is ${shown(value)}: give text, such as JSON.stringify()'s`);
  }
}

function badEvent(message: string): HttpError {
  return new HttpError(500, "BAD_RESPONSE", message);
}

function singleLine(member: string, value: string): string {
  if (!/[\r\n\0]/.test(value)) return value; // clients ignore an id with NUL
  throw badEvent(`The event's ${member} has a line break or NUL, which would end it: leave it out`);
}

function wholeNumber(retry: number): number {
  if (Number.isSafeInteger(retry) && retry >= 0) return retry;
  throw badEvent(`The event's retry must be whole ms, not ${shown(retry)}`);
}
