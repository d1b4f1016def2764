/**
 * The httpd API's face of an exchange: the request and the means to answer it, in one object
 * (original: `httpd_req_t` and its functions). The file is long because the original has that many
 * functions; each is a few lines that call the exchange.
 *
 * @module
 */
import { NO_BYTES, utf8 } from "../bytes.ts";
import { ContainedAbort } from "../contain/abort.ts";
import { isThenable } from "../contain/callbacks.ts";
import { ConfigError, HttpError, StateError } from "../errors.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import { readBefore, type Trailers } from "../http/body.ts";
import { parseCookies } from "../http/cookies.ts";
import { bodyTooLong } from "../http/request_rules.ts";
import type { FailureHandler } from "../http/dispatcher.ts";
import type { Exchange } from "../http/exchange.ts";
import { chunkBytes } from "../fetch/body_chunk.ts";
import { fieldsOf } from "../fetch/request.ts";
import { type ResponseHead, WRITTEN } from "../http/response.ts";
import {
  assertFieldName,
  assertFieldValue,
  badResponse,
  checkedFields,
  type FieldList,
  type Fields,
} from "../http/response_rules.ts";
import { shown } from "../options.ts";
import type { Session } from "../http/session.ts";
import { type Beginning, pump } from "../http/stream_pump.ts";
import { transferable } from "../net/streams.ts";
import { cookieLine, type CookieOptions } from "./set_cookie.ts";

/** What most handlers add to a response. */
const NO_FIELDS: [name: string, value: string][] = [];

/** What all requests of a server have in common. */
export interface RequestOrigin<S = ServerHandle> {
  /** The server that the requests come to; `undefined` where there is none. */
  readonly server: S | undefined;
  /** The most fields that a handler may add to a response. */
  readonly maxResponseFields: number;
  /** Deals with what fails. */
  readonly failures: FailureHandler;
}

/** What an {@linkcode HttpdRequest} is a face of. */
export interface RequestParts {
  /** The request and its response. */
  readonly exchange: Exchange;
  /** The fields that were set with {@linkcode HttpdRequest.header}. */
  readonly fields: Fields;
}

/** Returns what a request is a face of, for handlers that this package makes itself. */
export let partsOf: (request: HttpdRequest<unknown>) => RequestParts;

/** Takes the fields that were set out of a request, to be sent with an answer made otherwise. */
export let takeFields: (request: HttpdRequest<unknown>) => FieldList;

/** Makes the request of an exchange, or takes the one it has, with the `context` of its route. */
export let requestOf: <S>(
  exchange: Exchange,
  origin: RequestOrigin<S>,
  routeContext: unknown,
) => HttpdRequest<S>;

/** What a handler of the httpd API is called with; `S` is its server. */
export class HttpdRequest<S = ServerHandle> {
  static {
    requestOf = <S>(exchange: Exchange, origin: RequestOrigin<S>, routeContext: unknown) => {
      if (exchange.face === undefined) return new HttpdRequest(exchange, origin, routeContext);
      const request = exchange.face as HttpdRequest<S>;
      if (routeContext !== undefined) request.#routeContext = routeContext;
      return request;
    };
    takeFields = (request) => {
      const fields = request.#fields;
      request.#fields = NO_FIELDS;
      return fields;
    };
    partsOf = (request) => ({ exchange: request.#exchange, fields: request.#fields });
  }

  readonly #exchange: Exchange;
  readonly #origin: RequestOrigin<S>;
  #routeContext: unknown;
  #fields = NO_FIELDS;
  #headers: Headers | undefined;
  #cookies: Map<string, string> | undefined;
  #status = 200;
  #reason: string | undefined;
  #type = "text/html";

  private constructor(exchange: Exchange, origin: RequestOrigin<S>, routeContext: unknown) {
    this.#exchange = exchange;
    this.#origin = origin;
    this.#routeContext = routeContext;
  }

  /**
   * The server that the request came to (original: `req->handle`).
   *
   * @throws {StateError} `NOT_SUPPORTED` in an edge app, which has none
   */
  get server(): S {
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
    const { raw } = this.#exchange.head;
    if (raw !== undefined) return raw;
    throw new StateError(
      "NOT_SUPPORTED",
      "A request without a socket has no raw head: use headers",
    );
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

  /** Aborted when the client leaves, or the handler takes too long. */
  get signal(): AbortSignal {
    return this.#exchange.signalBy(ContainedAbort);
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
   * @throws {ConfigError} `INVALID_CONFIG`, at once, for a `max` that is not a number of bytes
   */
  recv(max?: number): Promise<Uint8Array | undefined> {
    assertMost("recv()", max);
    return this.#exchange.body.read(max);
  }

  /**
   * All of the body, `maxBytes` at the most, in memory. As the other methods that read all of it: to
   * be called once, and before anything else has read of it.
   *
   * @throws {HttpError} 413 `BODY_TOO_LARGE` for a longer one, and as {@linkcode HttpdRequest.recv}
   * @throws {StateError} `BODY_USED` when some of it was read before
   * @throws {ConfigError} `INVALID_CONFIG` for a `maxBytes` that is not a number of bytes
   */
  async bytes(maxBytes?: number): Promise<Uint8Array<ArrayBuffer>> {
    assertMost("bytes()", maxBytes);
    const { body, bodyUsed } = this.#exchange;
    if (bodyUsed) throw readBefore();
    if (maxBytes !== undefined && (this.contentLength ?? 0) > maxBytes) throw bodyTooLong(maxBytes);
    return transferable(await body.readAll(maxBytes));
  }

  /** The body as UTF-8, decoded as `Request.text()` does; throws as {@linkcode HttpdRequest.bytes}. */
  async text(maxBytes?: number): Promise<string> {
    return new TextDecoder().decode(await this.bytes(maxBytes));
  }

  /**
   * The body as JSON, whatever its `Content-Type` says, as in `Request.json()`.
   *
   * @throws {HttpError} 400 `BAD_REQUEST` when it is none, and as {@linkcode HttpdRequest.bytes}
   */
  async json(maxBytes?: number): Promise<unknown> {
    const text = await this.text(maxBytes);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new HttpError(400, "BAD_REQUEST", "The body is not JSON", { cause });
    }
  }

  /**
   * The fields and files of a form, `multipart/form-data` or `application/x-www-form-urlencoded`, as
   * `Request.formData()` reads them: in memory. `multipart()` of `@httpsd/httpsd/multipart`
   * streams.
   *
   * @throws {HttpError} 400 `BAD_REQUEST` when it is none, and as {@linkcode HttpdRequest.bytes}
   */
  async formData(maxBytes?: number): Promise<FormData> {
    const bytes = await this.bytes(maxBytes);
    const headers = { "Content-Type": this.get("content-type") ?? "" };
    try {
      return await new Response(bytes, { headers }).formData();
    } catch (cause) {
      throw new HttpError(400, "BAD_REQUEST", "The body is not a form", { cause });
    }
  }

  /**
   * Lets the handler end before the response does; the holder of the request answers it later, as
   * from `queueWork` or a timer (original: `httpd_req_async_handler_begin`). The next request of
   * the connection waits until then. Nothing sent within `deadlineMs` becomes a 503: check
   * {@linkcode HttpdRequest.sent} before answering, or `send()` throws an uncaught exception.
   * Calling it again sets another deadline, from then on.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a deadline that is not a time in ms
   * @throws {StateError} `ALREADY_SENT` when there is nothing left to send
   */
  detach(deadlineMs = 60_000): void {
    if (typeof deadlineMs !== "number" || !(deadlineMs > 0)) {
      throw invalid(`detach() takes a deadline in ms, more than 0, not ${shown(deadlineMs)}`);
    }
    if (this.#exchange.response.answered) {
      throw new StateError("ALREADY_SENT", "The response was sent already: detach() before that");
    }
    this.#exchange.detach(deadlineMs);
  }

  /**
   * Ends a detached request: what is missing of its response becomes a 500, or a cut connection
   * when the response has begun or the client has gone away (original:
   * `httpd_req_async_handler_complete`). Has no effect on one that was answered.
   *
   * @throws {StateError} `NOT_DETACHED` for a request that its handler still answers
   */
  complete(): void {
    if (!this.#exchange.detached) {
      throw new StateError("NOT_DETACHED", "The request is not detached: call detach() before");
    }
    if (this.#exchange.response.answered) return;
    if (this.#exchange.aborted) return this.#exchange.cut();
    this.#origin.failures.failed(
      this.#exchange,
      new HttpError(500, "HANDLER_FAILED", "The request was not answered"),
    );
  }

  /**
   * Sets the status, 200 unless set (original: `httpd_resp_set_status`).
   *
   * @throws {HttpError} `BAD_RESPONSE` for what is not a final status
   * @throws {StateError} `ALREADY_SENT`
   */
  status(status: number, reason?: string): this {
    this.#assertUnsent();
    if (!Number.isInteger(status) || status < 200 || status > 999) {
      throw badResponse(
        `Status ${shown(status)} is not a final status: use a number from 200 to 999`,
      );
    }
    if (reason !== undefined) assertFieldValue("reason", reason);
    this.#status = status;
    this.#reason = reason;
    return this;
  }

  /**
   * Sets the content type, `text/html` unless set (original: `httpd_resp_set_type`).
   *
   * @throws {HttpError} `BAD_RESPONSE` for what no field may hold
   * @throws {StateError} `ALREADY_SENT`
   */
  type(type: string): this {
    this.#assertUnsent();
    assertFieldValue("Content-Type", type);
    this.#type = type;
    return this;
  }

  /**
   * Adds a response field (original: `httpd_resp_set_hdr`). `Content-Type` replaces the type;
   * the framing's and the connection's fields are the server's, except `Connection: close`.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow, and for more
   * fields than `limits.maxResponseFields`
   * @throws {StateError} `ALREADY_SENT`
   */
  header(name: string, value: string): this {
    this.#assertUnsent();
    assertFieldName(name);
    if (name.toLowerCase() === "content-type") return this.type(value);
    assertFieldValue(name, value);
    if (this.#fields.length >= this.#origin.maxResponseFields) {
      throw new HttpError(
        500,
        "BAD_RESPONSE",
        `More than ${this.#origin.maxResponseFields} response fields: raise limits.maxResponseFields`,
      );
    }
    if (this.#fields === NO_FIELDS) this.#fields = [];
    this.#fields.push([name, value]);
    return this;
  }

  /**
   * Adds a `Set-Cookie` field (RFC 6265): for the whole site, over HTTPS alone, out of reach of
   * scripts, and not in requests that other sites make, unless the options say otherwise.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that a cookie cannot have, and for more
   * fields than `limits.maxResponseFields`
   * @throws {ConfigError} `INVALID_CONFIG` naming the option
   * @throws {StateError} `ALREADY_SENT`
   */
  setCookie(name: string, value: string, options: CookieOptions = {}): this {
    return this.header("Set-Cookie", cookieLine(name, value, options));
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
        `Status ${shown(status)} is not an interim status: use 102 to 199`,
      );
    }
    const list = checkedFields(fields);
    this.#exchange.response.inform(status, list);
  }

  /**
   * Sends the whole response (original: `httpd_resp_send`).
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` for what is neither text nor bytes
   */
  send(body: string | Uint8Array = ""): void {
    assertBody("send()", body);
    this.#exchange.response.send(this.#head(), body);
  }

  /**
   * Sends a value as JSON.
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` for what is not JSON
   */
  sendJson(value: unknown): void {
    if (isThenable(value)) throw badResponse("sendJson() was given a promise: await it first");
    const json: string | undefined = JSON.stringify(value);
    if (json === undefined) {
      throw badResponse(
        `sendJson() was given ${shown(value)}, which is not JSON: send null instead`,
      );
    }
    this.type("application/json").send(json);
  }

  /**
   * Sends a piece of a response whose length is not known; resolves when the next may follow
   * (original: `httpd_resp_send_chunk`). What is sent behind the answer to HEAD is thrown away.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left (as all that is thrown
   * here, as a rejection; this one may be left unhandled)
   * @throws {StateError} `ALREADY_SENT` after {@linkcode HttpdRequest.end}
   * @throws {HttpError} `BAD_RESPONSE` for what is neither text nor bytes
   */
  sendChunk(chunk: string | Uint8Array): Promise<void> {
    const { response } = this.#exchange;
    try {
      assertBody("sendChunk()", chunk);
      if (!response.started) response.start(this.#head(), undefined);
    } catch (error) {
      return this.#heard(Promise.reject(error));
    }
    return this.#heard(response.write(typeof chunk === "string" ? utf8(chunk) : chunk));
  }

  /** Ends a response sent in chunks (original: `httpd_resp_send_chunk` with length 0). */
  end(trailers?: Fields): void {
    const last = trailers === undefined ? undefined : checkedFields(trailers);
    const { response } = this.#exchange;
    if (!response.started) response.start(this.#head(), undefined);
    response.end(last);
  }

  /**
   * Sends a stream as the body; with `length` in bytes when that is known, so that the client can
   * see how far it is. The source is cancelled when the client leaves.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left (as all that is thrown
   * here, as a rejection; this one may be left unhandled)
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the stream has another length, for which the connection
   * is cut; and for what is not a stream
   */
  sendStream(source: ReadableStream<Uint8Array>, length?: number): Promise<void> {
    try {
      assertStream(source, length);
    } catch (error) {
      return this.#heard(Promise.reject(error));
    }
    const begin = (): Beginning => {
      this.#exchange.response.start(this.#head(), length);
      return { bytes: NO_BYTES };
    };
    return this.#heard(pump(this.#exchange, source, { begin, chunkBytes }));
  }

  /**
   * Answers with an error status and its standard text, or `text` (original:
   * `httpd_resp_send_err`, `httpd_resp_send_custom_err`).
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` for what is not an error status or not text
   */
  sendError(status: number, text?: string): void {
    if (!Number.isInteger(status) || status < 400 || status > 599) {
      throw badResponse(
        `Status ${shown(status)} is not an error status: use a number from 400 to 599`,
      );
    }
    if (text !== undefined && typeof text !== "string") {
      throw badResponse(`The text of sendError() is ${shown(text)}: give text, or leave it out`);
    }
    this.#exchange.sendError(status, text, this.#fields);
    this.#exchange.errorAnswered(
      new HttpError(status, "ANSWERED", text ?? `Answered ${status}`),
    );
  }

  /**
   * Sends bytes as they are in place of a response that is made here: the handler is responsible
   * for head, body and framing, up to {@linkcode HttpdRequest.end} (original: `httpd_send`).
   * Resolves when the next may follow.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left (as all that is thrown
   * here, as a rejection; this one may be left unhandled)
   * @throws {StateError} `ALREADY_SENT` when a response was sent in another way, or ended;
   * `NOT_SUPPORTED` for a request that came without a socket
   */
  sendRaw(bytes: string | Uint8Array): Promise<void> {
    const { response } = this.#exchange;
    try {
      assertBody("sendRaw()", bytes);
      if (!response.raw) response.startRaw();
    } catch (error) {
      return this.#heard(Promise.reject(error));
    }
    return this.#heard(response.write(typeof bytes === "string" ? utf8(bytes) : bytes));
  }

  /** Reports a failure that the handler does not wait for, so that it does not end the process. */
  #heard(sending: Promise<void>): Promise<void> {
    if (sending === WRITTEN) return sending;
    sending.catch((error) => {
      if (!this.#exchange.isLoss(error)) {
        this.#origin.failures.sendingFailed(this.#exchange, error);
      }
    });
    return sending;
  }

  #head(): ResponseHead {
    if (this.#fields === NO_FIELDS) {
      return { status: this.#status, reason: this.#reason, type: this.#type };
    }
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

function assertMost(callee: string, max: number | undefined): void {
  if (max === undefined || max === Infinity || (Number.isInteger(max) && max > 0)) return;
  throw invalid(`${callee} takes the most bytes to give, 1 or more, not ${shown(max)}`);
}

function invalid(message: string): ConfigError {
  return new ConfigError("INVALID_CONFIG", message);
}

/** What is sent must be text or bytes: anything else would leave as nothing, or as its name. */
function assertBody(method: string, body: unknown): void {
  if (typeof body === "string" || body instanceof Uint8Array) return;
  throw badResponse(
    `${method} takes text or bytes, and was given ${shown(body)}: ${insteadOf(body)}`,
  );
}

function insteadOf(body: unknown): string {
  if (isThenable(body)) return "await it first";
  if (body instanceof Response) return "return it from the handler";
  if (body instanceof ReadableStream) return "use sendStream()";
  if (body instanceof Blob) return "use sendStream(blob.stream(), blob.size)";
  if (body instanceof ArrayBuffer) return "give new Uint8Array(buffer)";
  if (ArrayBuffer.isView(body)) return "give a Uint8Array of its buffer";
  return "use sendJson(), or String()";
}

function assertStream(source: unknown, length: unknown): void {
  if (!(source instanceof ReadableStream)) {
    const instead = typeof source === "string" || source instanceof Uint8Array
      ? "use send()"
      : typeof (source as { pipe?: unknown } | null | undefined)?.pipe === "function"
      ? "give Readable.toWeb(source)"
      : isThenable(source)
      ? "await it first"
      : "give ReadableStream.from(source) for what can be iterated";
    throw badResponse(
      `sendStream() takes a ReadableStream, and was given ${shown(source)}: ${instead}`,
    );
  }
  if (length === undefined || (Number.isSafeInteger(length) && length as number >= 0)) return;
  throw badResponse(`The length of sendStream() is ${shown(length)}: give bytes, or leave it out`);
}
