/**
 * Writes one response into a `Response` for the platform to send. It keeps to the rules that a
 * response on a connection is held to, so that handlers find no difference.
 *
 * @module
 */
import { type HttpError, type HttpsdError, StateError } from "../errors.ts";
import type { ResponseWriterLike } from "../httpd/exchange.ts";
import type { ResponseHead, ResponseProgress } from "../httpd/response.ts";
import {
  assertFields,
  assertFieldValue,
  badResponse,
  declaredLength,
  type Fields,
  mayDeclare,
  Role,
  roleOf,
} from "../httpd/response_rules.ts";
import { isBodiless } from "../httpd/status.ts";
import { utf8 } from "../httpd/utf8.ts";

/** A handler waits while so many bytes wait for the platform to take them. */
const HIGH_MARK = 64 * 1024;

/** What nobody reads: the client has gone before there was an answer. */
const CLIENT_CLOSED_REQUEST = 499;

/** Whom a builder tells how its response goes. */
export interface BuilderProgress extends ResponseProgress {
  /** The platform has stopped reading: its client is gone. */
  unread(cause: unknown): void;
  /** The response was cut. */
  cut(error: HttpsdError): void;
}

/** The one response to one request. */
export class ResponseBuilder implements ResponseWriterLike {
  /** The response, as soon as its head is there; rejects when it was cut before. */
  readonly response: Promise<Response>;
  readonly #method: string;
  readonly #progress: BuilderProgress;
  readonly #settle: PromiseWithResolvers<Response> = Promise.withResolvers();
  #state: "unsent" | "open" | "passed on" | "ended" = "unsent";
  #bodiless = false;
  /** How many bytes of the declared length are still to come. */
  #remaining = Infinity;
  #stream: ReadableStreamDefaultController<Uint8Array> | undefined;
  #gone = false;
  #draining: PromiseWithResolvers<void> | undefined;

  /** Makes the builder of the answer to a request with this method. */
  constructor(method: string, progress: BuilderProgress) {
    this.#method = method;
    this.#progress = progress;
    this.response = this.#settle.promise;
  }

  /** Whether the head is there. */
  get started(): boolean {
    return this.#state !== "unsent";
  }

  /** Whether all was handed over; the body of a handler's own `Response` may still be read. */
  get answered(): boolean {
    return this.#state === "passed on" || this.#state === "ended";
  }

  /** Whether the response is over. */
  get ended(): boolean {
    return this.#state === "ended";
  }

  /** The connection is the platform's. */
  get keepAlive(): boolean {
    return true;
  }

  /** Whether a body would be thrown away: HEAD, 204, 205, 304. */
  get bodiless(): boolean {
    return this.#bodiless;
  }

  /** No handler frames a `Response`. */
  get raw(): boolean {
    return false;
  }

  /** Whether the platform has to read before more should be written. */
  get blocked(): boolean {
    return this.#state === "open" && (this.#stream?.desiredSize ?? 1) <= 0;
  }

  /** Whether the client is gone, so that nobody reads what is written. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Whether to keep the connection is the platform's to decide. */
  closeAfterwards(): void {}

  /** @throws {StateError} `NOT_SUPPORTED` */
  inform(): void {
    throw new StateError("NOT_SUPPORTED", "Without a socket there are no interim responses");
  }

  /** @throws {StateError} `NOT_SUPPORTED` */
  switchProtocols(): void {
    throw new StateError("NOT_SUPPORTED", "Without a socket there is no other protocol to speak");
  }

  /** @throws {StateError} `NOT_SUPPORTED` */
  startRaw(): void {
    throw new StateError("NOT_SUPPORTED", "Without a socket no raw bytes can be sent: use send()");
  }

  /**
   * Answers with a whole response.
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the head is not allowed
   */
  send(head: ResponseHead, body: string | Uint8Array): void {
    const bytes = typeof body === "string" ? utf8(body) : body;
    const init = this.#begin(head, bytes.length);
    const sent = this.#bodiless ? null : bytes as Uint8Array<ArrayBuffer>;
    this.#open(new Response(sent, init));
    this.#end();
  }

  /**
   * Answers with a body that is still to be written, of `length` bytes where that is known.
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the head is not allowed
   */
  start(head: ResponseHead, length: number | undefined): void {
    const init = this.#begin(head, length);
    this.#open(new Response(this.#bodiless ? null : this.#body(), init));
  }

  /**
   * Answers with a handler's own `Response`, whose body goes to the platform as it is.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  pass(response: Response): void {
    this.#assertUnsent();
    this.#progress.starting();
    if (this.#method === "HEAD" || this.#gone) return this.#passHead(response);
    this.#open(response); // its body is not even looked at: Bun would forget the type of a text
    this.#state = "passed on";
    this.#progress.done();
  }

  #passHead({ status, statusText, headers, body }: Response): void {
    this.#open(new Response(null, { status, statusText, headers }));
    body?.cancel().catch(() => {}); // a source that fails now has nobody left to tell
    this.#end();
  }

  /** Checks the head, and makes it one that the platform takes. */
  #begin({ status, reason, fields = [] }: ResponseHead, length: number | undefined): ResponseInit {
    this.#assertUnsent();
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw badResponse(`Status ${status} is no answer here: use 200 to 599`);
    }
    if (reason !== undefined) assertFieldValue("reason", reason);
    this.#progress.starting();
    const bodiless = this.#method === "HEAD" || isBodiless(status) || status === 205;
    const unknown = status === 304 || (bodiless && length === 0);
    let declared = unknown ? undefined : length;
    const headers = new Headers();
    for (const [name, value] of fields) {
      const role = roleOf(name);
      assertFieldValue(name, value);
      if (role === Role.Length) {
        declared = declaredLength(value, bodiless ? undefined : length);
      } else if (
        role === Role.Message || role === Role.Date || (role === Role.Upgrade && status === 426)
      ) {
        headers.append(name, value);
      }
    }
    if (declared !== undefined && (!bodiless || mayDeclare(status, { method: this.#method }))) {
      headers.set("Content-Length", String(declared));
    }
    this.#bodiless = bodiless;
    this.#remaining = declared ?? Infinity;
    return { status, headers, ...(reason !== undefined && { statusText: reason }) };
  }

  #assertUnsent(): void {
    if (!this.started) return;
    throw new StateError("ALREADY_SENT", "The response was sent already: send one per request");
  }

  #open(response: Response): void {
    this.#state = "open";
    this.#settle.resolve(response);
  }

  #body(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#stream = controller;
      },
      pull: () => this.wake(),
      cancel: (cause) => this.#progress.unread(cause),
    }, new ByteLengthQueuingStrategy({ highWaterMark: HIGH_MARK }));
  }

  /**
   * Writes body bytes; resolves when the next may follow.
   *
   * @throws {StateError} `ALREADY_SENT` after the end of the body
   * @throws {HttpError} `BAD_RESPONSE` when the body is longer than its `Content-Length`; it is cut
   */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.answered) {
      throw new StateError("ALREADY_SENT", "The response is over: write before its end");
    }
    if (bytes.length === 0 || this.#bodiless || this.#gone) return;
    if (bytes.length > this.#remaining) {
      throw this.#broken(`longer than its Content-Length by ${bytes.length - this.#remaining}`);
    }
    this.#remaining -= bytes.length;
    this.#stream?.enqueue(new Uint8Array(bytes)); // a copy: the handler may use its own again
    if (this.blocked) await (this.#draining ??= Promise.withResolvers()).promise;
  }

  /** The platform has taken what there was, or is gone. */
  wake(): void {
    this.#draining?.resolve();
    this.#draining = undefined;
  }

  /**
   * Ends the body.
   *
   * @throws {HttpError} `BAD_RESPONSE` when it is shorter than its `Content-Length`, where it is
   * cut; and for trailer fields that HTTP does not allow, although a `Response` carries none
   */
  end(trailers: Fields = []): void {
    if (this.answered) return;
    assertFields(trailers);
    const missing = Number.isFinite(this.#remaining) && !this.#bodiless && !this.#gone;
    if (missing && this.#remaining > 0) {
      throw this.#broken(`shorter than its Content-Length by ${this.#remaining}`);
    }
    if (!this.#gone) this.#stream?.close();
    this.#end();
  }

  #end(): void {
    this.#state = "ended";
    this.#progress.done();
  }

  /** Cuts the response: its body fails, or there is none at all. */
  abort(error: HttpsdError): void {
    if (this.answered) return;
    if (!this.#gone) this.#stream?.error(error);
    this.#settle.reject(error);
    this.#state = "ended";
    this.#progress.cut(error);
  }

  /** The client is gone: what is written from now on goes nowhere. */
  leave(reason: HttpsdError): void {
    this.#settle.resolve(new Response(null, { status: CLIENT_CLOSED_REQUEST }));
    this.#close(reason);
  }

  /** Cuts off the client as if it were gone; where it has no answer, that fails. */
  close(reason: HttpsdError): void {
    this.#settle.reject(reason);
    this.#close(reason);
  }

  #close(reason: HttpsdError): void {
    if (this.#state === "open" && !this.#gone) this.#stream?.error(reason);
    this.#gone = true;
    this.wake();
  }

  #broken(how: string): HttpError {
    const error = badResponse(`The response body is ${how} bytes: it was cut`);
    this.abort(error);
    return error;
  }
}
