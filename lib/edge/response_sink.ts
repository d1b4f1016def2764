/**
 * Carries one response into a `Response` for the platform to send.
 *
 * @module
 */
import { type HttpsdError, StateError } from "../errors.ts";
import { assertFieldValue, badResponse } from "../http/response_rules.ts";
import type { HeadEnd, ResponseSink } from "../http/response_sink.ts";
import { utf8 } from "../bytes.ts";
import type { Chunk } from "../net/chunks.ts";

/** A handler waits while so many bytes wait for the platform to take them. */
const HIGH_MARK = 64 * 1024;

/** Never read: the client left before there was an answer. */
const CLIENT_CLOSED_REQUEST = 499;

/** What a sink reports. */
export interface FetchSinkEvents {
  /** The platform has taken what there was. */
  drained(): void;
  /** The platform has stopped reading: its client is gone. */
  unread(cause: unknown): void;
  /** The response was cut. */
  cut(error: HttpsdError): void;
}

/** One response of a platform. */
export class FetchResponseSink implements ResponseSink {
  /** The response, as soon as its head is there; rejects when it was cut before. */
  readonly response: Promise<Response>;
  /** Whether to keep the connection is the platform's to decide. */
  readonly keepAlive = true;
  /** What the platform has is not seen here. */
  readonly queuedBytes = 0;
  readonly #events: FetchSinkEvents;
  readonly #settle: PromiseWithResolvers<Response> = Promise.withResolvers();
  #init: { status: number; statusText?: string; headers: Headers } | undefined;
  #stream: ReadableStreamDefaultController<Uint8Array> | undefined;

  /** Makes a sink. */
  constructor(events: FetchSinkEvents) {
    this.#events = events;
    this.response = this.#settle.promise;
  }

  get blocked(): boolean {
    return (this.#stream?.desiredSize ?? 1) <= 0;
  }

  closeAfterwards(): void {}

  informational(): void {
    throw new StateError("NOT_SUPPORTED", "Without a socket there are no interim responses");
  }

  switchProtocols(): never {
    throw new StateError("NOT_SUPPORTED", "Without a socket there is no other protocol to speak");
  }

  raw(): void {
    throw new StateError("NOT_SUPPORTED", "Without a socket no raw bytes can be sent: use send()");
  }

  begin(status: number, reason: string | undefined): void {
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw badResponse(`Status ${status} cannot be sent here: use 200 to 599`);
    }
    if (reason !== undefined) assertFieldValue("reason", reason);
    const statusText = reason === undefined ? {} : { statusText: reason };
    this.#init = { status, headers: new Headers(), ...statusText };
  }

  field(name: string, value: string): void {
    assertFieldValue(name, value);
    this.#init!.headers.append(name, value);
  }

  offer(protocols: string): void {
    this.field("Upgrade", protocols);
  }

  open(head: HeadEnd): void {
    this.#answer(head, head.hasBody ? this.#body() : null);
  }

  whole(head: HeadEnd, body: Chunk): boolean {
    const bytes = typeof body === "string" ? utf8(body) : body;
    this.#answer(head, head.hasBody ? bytes as Uint8Array<ArrayBuffer> : null);
    return true;
  }

  #answer({ length }: HeadEnd, body: BodyInit | null): void {
    const init = this.#init!;
    if (length !== undefined) init.headers.set("Content-Length", String(length));
    this.#settle.resolve(new Response(body, init));
  }

  #body(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>({
      start: (controller) => void (this.#stream = controller),
      pull: () => this.#events.drained(),
      cancel: (cause) => this.#events.unread(cause),
    }, new ByteLengthQueuingStrategy({ highWaterMark: HIGH_MARK }));
  }

  /** Hands over a handler's own `Response`, whose body goes to the platform as it is. */
  pass(response: Response): void {
    this.#settle.resolve(response); // not even looked at: Bun would forget the type of a text
  }

  data(chunk: Chunk): boolean {
    // A copy: the handler may use its own again.
    this.#stream!.enqueue(typeof chunk === "string" ? utf8(chunk) : new Uint8Array(chunk));
    return !this.blocked;
  }

  end(): boolean {
    this.#stream?.close();
    return true;
  }

  resume(): boolean {
    return !this.blocked;
  }

  /** The body fails, or there is no answer at all. */
  abort(error: HttpsdError): void {
    this.#stream?.error(error);
    this.#settle.reject(error);
    this.#events.cut(error);
  }

  /** Fails an answer that was not begun: the session was destroyed. */
  refuse(reason: HttpsdError): void {
    this.#settle.reject(reason);
  }

  /** What has begun fails; without an answer the platform is given one that is never read. */
  gone(reason: HttpsdError): void {
    this.#stream?.error(reason);
    this.#settle.resolve(new Response(null, { status: CLIENT_CLOSED_REQUEST }));
  }
}
