/**
 * The httpd API's face of an exchange: the request and the means to answer it, in one object
 * (original: `httpd_req_t` and its functions).
 *
 * @module
 */
import { StateError } from "../errors.ts";
import type { Session } from "./session.ts";
import type { Trailers } from "./body.ts";
import { assertFieldName, assertFieldValue } from "./encoder.ts";
import type { Exchange } from "./exchange.ts";
import { utf8 } from "./response.ts";

/** What a handler of the httpd API is called with. */
export class HttpdRequest {
  readonly #exchange: Exchange;
  readonly #fields: [string, string][] = [];
  #headers: Headers | undefined;
  #status = 200;
  #reason: string | undefined;
  #type = "text/html";

  /** Wraps an exchange. */
  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** The session that the request came on. */
  get session(): Session {
    return this.#exchange.session;
  }

  /** The method, such as `GET`. */
  get method(): string {
    return this.#exchange.head.method;
  }

  /** The request target exactly as sent (original: `req->uri`). */
  get uri(): string {
    return this.#exchange.head.target;
  }

  /** The path exactly as sent, without the query. */
  get path(): string {
    return this.#exchange.head.path;
  }

  /** The query, decoded. */
  get query(): URLSearchParams {
    return new URLSearchParams(this.#exchange.head.query);
  }

  /** The header fields; values of the same name are joined. */
  get headers(): Headers {
    if (this.#headers === undefined) {
      this.#headers = new Headers();
      const { head } = this.#exchange;
      for (let i = 0; i < head.fieldCount; i++) {
        this.#headers.append(head.fieldName(i), head.fieldValue(i));
      }
    }
    return this.#headers;
  }

  /** The body's length in bytes, `undefined` when it is not declared. */
  get contentLength(): number | undefined {
    return this.#exchange.head.contentLength;
  }

  /** The body as a byte stream. */
  get body(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#exchange.body.stream;
  }

  /** The trailer fields; empty until the body has been read. */
  get trailers(): Trailers {
    return this.#exchange.body.trailers;
  }

  /** Aborted when the client goes away before it has the answer. */
  get signal(): AbortSignal {
    return this.#exchange.signal;
  }

  /**
   * The next bytes of the body, `max` at the most; `undefined` at its end (original:
   * `httpd_req_recv`).
   *
   * @throws {HttpsdError} when the body is malformed, too long or too late, or the client is gone
   */
  recv(max?: number): Promise<Uint8Array | undefined> {
    return this.#exchange.body.read(max);
  }

  /** Sets the status, 200 unless set (original: `httpd_resp_set_status`). */
  status(status: number, reason?: string): this {
    this.#assertUnsent();
    this.#status = status;
    this.#reason = reason;
    return this;
  }

  /** Sets the content type, `text/html` unless set (original: `httpd_resp_set_type`). */
  type(type: string): this {
    this.#assertUnsent();
    assertFieldValue("Content-Type", type);
    this.#type = type;
    return this;
  }

  /**
   * Adds a response field (original: `httpd_resp_set_hdr`).
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
   * @throws {StateError} `ALREADY_SENT`
   */
  header(name: string, value: string): this {
    this.#assertUnsent();
    assertFieldName(name);
    assertFieldValue(name, value);
    this.#fields.push([name, value]);
    return this;
  }

  /**
   * Sends the whole response (original: `httpd_resp_send`).
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  send(body: string | Uint8Array = ""): void {
    this.#exchange.response.send(this.#head(), typeof body === "string" ? utf8(body) : body);
  }

  /**
   * Sends a piece of a response whose length is not known; resolves when the next may follow
   * (original: `httpd_resp_send_chunk`).
   *
   * @throws {StateError} `ALREADY_SENT` after {@linkcode HttpdRequest.end}
   */
  async sendChunk(chunk: string | Uint8Array): Promise<void> {
    const { response, session } = this.#exchange;
    if (response.answered) this.#assertUnsent();
    if (!response.started) response.start(this.#head(), undefined);
    const mayGoOn = response.write(typeof chunk === "string" ? utf8(chunk) : chunk);
    if (!mayGoOn && !session.connection.closed) await response.drained();
  }

  /** Ends a response sent in chunks (original: `httpd_resp_send_chunk` with length 0). */
  end(): void {
    const { response } = this.#exchange;
    if (!response.started) response.start(this.#head(), undefined);
    response.end();
  }

  #head(): { status: number; reason: string | undefined; fields: [string, string][] } {
    return {
      status: this.#status,
      reason: this.#reason,
      fields: [["Content-Type", this.#type], ...this.#fields],
    };
  }

  #assertUnsent(): void {
    if (!this.#exchange.response.started) return;
    throw new StateError("ALREADY_SENT", "The response was sent already: set it up before sending");
  }
}
