/**
 * The httpd API's face of an exchange: the request and the means to answer it, in one object
 * (original: `httpd_req_t` and its functions).
 *
 * @module
 */
import { HttpError, StateError } from "../errors.ts";
import type { HttpsServer } from "../server.ts";
import type { Trailers } from "./body.ts";
import { parseCookies } from "./cookies.ts";
import type { Exchange } from "./exchange.ts";
import { fieldsOf } from "./fetch_request.ts";
import type { ResponseHead } from "../http/response.ts";
import { assertFieldName, assertFieldValue, type Fields } from "../http/response_rules.ts";
import type { Session } from "./session.ts";
import { EMPTY, pump } from "./stream_pump.ts";
import { utf8 } from "../http/utf8.ts";

/** What a request can be told to do for its route. */
export interface RequestOrigin {
  /** The server that the request came to; `undefined` where there is none. */
  readonly server: HttpsServer | undefined;
  /** The most fields that a handler may add to a response. */
  readonly maxRespHeaders: number;
  /** The request cannot be answered by its handler any more: answer the error. */
  readonly failed: (exchange: Exchange, error: HttpError) => void;
  /** The handler answered an error itself. */
  readonly errorAnswered: (exchange: Exchange, error: HttpError) => void;
}

/** What a handler of the httpd API is called with. */
export class HttpdRequest {
  readonly #exchange: Exchange;
  readonly #origin: RequestOrigin;
  readonly #routeContext: unknown;
  readonly #fields: [name: string, value: string][] = [];
  #headers: Headers | undefined;
  #cookies: Map<string, string> | undefined;
  #status = 200;
  #reason: string | undefined;
  #type = "text/html";

  /**
   * Wraps an exchange.
   *
   * @internal
   */
  constructor(exchange: Exchange, origin: RequestOrigin, routeContext: unknown) {
    this.#exchange = exchange;
    this.#origin = origin;
    this.#routeContext = routeContext;
  }

  /**
   * The server that the request came to (original: `req->handle`).
   *
   * @throws {StateError} `NOT_SUPPORTED` in an edge app, which has none
   */
  get server(): HttpsServer {
    const { server } = this.#origin;
    if (server !== undefined) return server;
    throw new StateError("NOT_SUPPORTED", "An edge app has no server: use the app itself");
  }

  /** The session that the request came on (original: `httpd_req_to_sockfd`). */
  get session(): Session {
    return this.#exchange.session;
  }

  /** The `context` of the route that the request went to (original: `req->user_ctx`). */
  get routeContext(): unknown {
    return this.#routeContext;
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

  /** The query exactly as sent, without `?` (original: `httpd_req_get_url_query_str`). */
  get rawQuery(): string {
    return this.#exchange.head.query;
  }

  /** The query, decoded (original: `httpd_query_key_value`, which does not decode). */
  get query(): URLSearchParams {
    return new URLSearchParams(this.#exchange.head.query);
  }

  /** The host and port that the request is for. */
  get host(): string | undefined {
    return this.#exchange.head.host;
  }

  /**
   * The head exactly as received, from the request line to the empty line (original:
   * `httpd_get_raw_req_data`). A view: do not change it.
   *
   * @throws {StateError} `NOT_SUPPORTED` for a request that came without a socket
   */
  get rawHead(): Uint8Array {
    return this.#exchange.head.bytes;
  }

  /** The header fields as sent, in order, with their own spelling. */
  get rawHeaders(): [name: string, value: string][] {
    const { head } = this.#exchange;
    return Array.from(
      { length: head.fieldCount },
      (_, i) => [head.fieldName(i), head.fieldValue(i)],
    );
  }

  /** The header fields; values of the same name are joined. They stay after the response. */
  get headers(): Headers {
    return this.#headers ??= fieldsOf(this.#exchange);
  }

  /** The first value of a field, whatever the case of its name (`httpd_req_get_hdr_value_str`). */
  get(name: string): string | undefined {
    return this.#exchange.head.get(name.toLowerCase());
  }

  /** All values of a field in the order sent. */
  getAll(name: string): string[] {
    return this.#exchange.head.getAll(name.toLowerCase());
  }

  /** The cookies by their case-sensitive names (original: `httpd_req_get_cookie_val`). */
  get cookies(): ReadonlyMap<string, string> {
    return this.#cookies ??= parseCookies(this.getAll("cookie"));
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

  /** Aborted when the client goes away, or the handler takes too long. */
  get signal(): AbortSignal {
    return this.#exchange.signal;
  }

  /** Whether a response was begun. */
  get sent(): boolean {
    return this.#exchange.response.started;
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

  /**
   * Lets the handler end before the response does; whoever holds the request answers it later, as
   * from `queueWork` or a timer (original: `httpd_req_async_handler_begin`). The next request of
   * the connection waits until then. Nothing sent within `deadlineMs` becomes a 503: look at
   * {@linkcode HttpdRequest.sent} before answering, or `send()` throws where nobody catches it.
   */
  detach(deadlineMs = 60_000): void {
    this.#exchange.detach(deadlineMs);
  }

  /**
   * Ends a detached request: what is missing of its response becomes a 500, or a cut connection
   * when the response has begun or the client has gone away (original:
   * `httpd_req_async_handler_complete`).
   */
  complete(): void {
    if (this.#exchange.response.answered) return;
    if (this.#exchange.aborted) return this.session.destroy();
    this.#origin.failed(
      this.#exchange,
      new HttpError(500, "HANDLER_FAILED", "The request was not answered"),
    );
  }

  /** Sets the status, 200 unless set (original: `httpd_resp_set_status`). */
  status(status: number, reason?: string): this {
    this.#assertUnsent();
    if (reason !== undefined) assertFieldValue("reason", reason);
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
   * Adds a response field (original: `httpd_resp_set_hdr`). `Content-Type` replaces the type;
   * the framing's and the connection's fields are the server's, but for `Connection: close`.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow, and for more
   * fields than `maxRespHeaders`
   * @throws {StateError} `ALREADY_SENT`
   */
  header(name: string, value: string): this {
    this.#assertUnsent();
    assertFieldName(name);
    if (name.toLowerCase() === "content-type") return this.type(value);
    assertFieldValue(name, value);
    if (this.#fields.length >= this.#origin.maxRespHeaders) {
      throw new HttpError(
        500,
        "BAD_RESPONSE",
        `More than ${this.#origin.maxRespHeaders} response fields: raise maxRespHeaders`,
      );
    }
    this.#fields.push([name, value]);
    return this;
  }

  /**
   * Sends an interim response, such as 103 with `Link` fields; not to HTTP/1.0 clients.
   *
   * @throws {StateError} `ALREADY_SENT`; `NOT_SUPPORTED` for a request that came without a socket
   * @throws {HttpError} `BAD_RESPONSE` for a status or field that is not allowed
   */
  inform(status: number, fields: Fields): void {
    this.#assertUnsent();
    if (!Number.isInteger(status) || status < 102 || status > 199) {
      throw new HttpError(
        500,
        "BAD_RESPONSE",
        `Status ${status} is no interim one: use 102 to 199`,
      );
    }
    this.#exchange.response.inform(status, fields);
  }

  /**
   * Sends the whole response (original: `httpd_resp_send`).
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  send(body: string | Uint8Array = ""): void {
    this.#exchange.response.send(this.#head(), body);
  }

  /**
   * Sends a value as JSON.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  sendJson(value: unknown): void {
    this.type("application/json").send(JSON.stringify(value));
  }

  /**
   * Sends a piece of a response whose length is not known; resolves when the next may follow
   * (original: `httpd_resp_send_chunk`). What is sent behind the answer to HEAD is thrown away.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left (as all that is thrown
   * here, as a rejection; this one may be left unhandled)
   * @throws {StateError} `ALREADY_SENT` after {@linkcode HttpdRequest.end}
   */
  sendChunk(chunk: string | Uint8Array): Promise<void> {
    const { response } = this.#exchange;
    try {
      if (!response.started) response.start(this.#head(), undefined);
    } catch (error) {
      return Promise.reject(error);
    }
    return response.write(typeof chunk === "string" ? utf8(chunk) : chunk);
  }

  /** Ends a response sent in chunks (original: `httpd_resp_send_chunk` with length 0). */
  end(trailers?: Fields): void {
    const { response } = this.#exchange;
    if (!response.started) response.start(this.#head(), undefined);
    response.end(trailers);
  }

  /**
   * Sends a stream as the body; with `length` in bytes when that is known, so that the client can
   * see how far it is. The source is cancelled when the client leaves.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left (as all that is thrown
   * here, as a rejection; this one may be left unhandled)
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the stream has another length; the connection is cut
   */
  sendStream(source: ReadableStream<Uint8Array>, length?: number): Promise<void> {
    return pump(this.#exchange, source, () => {
      this.#exchange.response.start(this.#head(), length);
      return { bytes: EMPTY };
    });
  }

  /**
   * Answers with an error status and its standard text, or `text` (original:
   * `httpd_resp_send_err`, `httpd_resp_send_custom_err`).
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  sendError(status: number, text?: string): void {
    this.#exchange.sendError(status, text, this.#fields);
    this.#origin.errorAnswered(
      this.#exchange,
      new HttpError(status, "ANSWERED", text ?? `Answered ${status}`),
    );
  }

  /**
   * Sends bytes as they are in place of a response that is made here: head, body and framing are
   * the handler's concern, up to {@linkcode HttpdRequest.end} (original: `httpd_send`). Resolves
   * when the next may follow.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left (as all that is thrown
   * here, as a rejection; this one may be left unhandled)
   * @throws {StateError} `ALREADY_SENT` when a response was sent in another way, or ended;
   * `NOT_SUPPORTED` for a request that came without a socket
   */
  sendRaw(bytes: string | Uint8Array): Promise<void> {
    const { response } = this.#exchange;
    try {
      if (!response.raw) response.startRaw();
    } catch (error) {
      return Promise.reject(error);
    }
    return response.write(typeof bytes === "string" ? utf8(bytes) : bytes);
  }

  /** The fields that were set with {@linkcode HttpdRequest.header}, for whatever answers. */
  get responseFields(): Fields {
    return this.#fields;
  }

  #head(): ResponseHead {
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
