/**
 * Every error that httpsd makes: one class per room, each with a stable `code` that programs can
 * match and a message that says what was wrong and what to do.
 *
 * @module
 */

/** Codes of {@linkcode ConfigError}: an option that cannot be used. */
export type ConfigErrorCode =
  /** An option has the wrong type or lies outside its range. */
  | "INVALID_CONFIG"
  /** A certificate or key is missing, unreadable, malformed or does not match its partner. */
  | "INVALID_CERTIFICATE"
  /** The running runtime cannot do what the option asks (original: `ESP_ERR_NOT_SUPPORTED`). */
  | "NOT_SUPPORTED";

/** Codes of {@linkcode StateError}: a call at the wrong time. */
export type StateErrorCode =
  /** The server runs already. */
  | "ALREADY_STARTED"
  /** The server does not run, or was stopped while it started. */
  | "NOT_STARTED"
  /** The response was sent already. */
  | "ALREADY_SENT"
  /** The request was used after its exchange had ended (original: `ESP_ERR_HTTPD_INVALID_REQ`). */
  | "REQUEST_ENDED"
  /** The body was read already, or is being read elsewhere. */
  | "BODY_USED"
  /** `complete()` was called for a request that its handler has not detached. */
  | "NOT_DETACHED"
  /** A route with this template and method exists (original: `ESP_ERR_HTTPD_HANDLER_EXISTS`). */
  | "HANDLER_EXISTS"
  /** The route table is full (original: `ESP_ERR_HTTPD_HANDLERS_FULL`). */
  | "HANDLERS_FULL"
  /** More work than `limits.maxQueuedWork` waits (original: `httpd_queue_work` gives `ESP_FAIL`). */
  | "QUEUE_FULL"
  /** No such route (original: `ESP_ERR_NOT_FOUND`). */
  | "NOT_FOUND"
  /** The request has no connection that could become a WebSocket, or became one already. */
  | "NOT_UPGRADABLE"
  /** The request came without a socket, which the call needs. */
  | "NOT_SUPPORTED";

/** Codes of {@linkcode ListenError}: the address could not be opened, or connections not be accepted. */
export type ListenErrorCode =
  /** Another process listens on this address and port. */
  | "ADDRESS_IN_USE"
  /** The address is not one of this machine's. */
  | "ADDRESS_NOT_AVAILABLE"
  /** The system or the runtime's sandbox refused. */
  | "PERMISSION_DENIED"
  /** The process has as many files open as it may: connections wait in the system's queue. */
  | "TOO_MANY_OPEN_FILES"
  /** Anything else; see `cause`. */
  | "LISTEN_FAILED";

/** Codes of {@linkcode TlsError}: what went wrong on one TLS connection. */
export type TlsErrorCode =
  /** The handshake was not over in `timeouts.handshakeMs`. */
  | "TLS_HANDSHAKE_TIMEOUT"
  /** Client and server share no application protocol (RFC 7301). */
  | "TLS_NO_ALPN"
  /** The client showed no certificate where one is required. */
  | "TLS_CLIENT_CERT_REQUIRED"
  /** The client's certificate was refused. */
  | "TLS_CLIENT_CERT_INVALID"
  /** The first bytes are not a TLS handshake. */
  | "TLS_NOT_TLS"
  /** Client and server share no TLS version. */
  | "TLS_VERSION"
  /** Client and server share no cipher suite, group or signature algorithm. */
  | "TLS_NO_SHARED_PARAMETERS"
  /** The ClientHello is malformed, or larger than the runtime takes: 64 KiB, on Bun 16 KiB. */
  | "TLS_BAD_CLIENT_HELLO"
  /** No certificate for this name, or the selection hook refused or failed. */
  | "TLS_SELECTION_FAILED"
  /** The client sent a fatal alert. */
  | "TLS_PEER_ALERT"
  /** The client closed or reset before the handshake was over. */
  | "TLS_PEER_CLOSED"
  /** Anything else; see `cause`. */
  | "TLS_ERROR";

/** Codes of {@linkcode ConnectionError}: what ended a connection early. */
export type ConnectionErrorCode =
  /** The peer reset the connection or is gone. */
  | "CONNECTION_RESET"
  /** The peer closed in the middle of a message. */
  | "CONNECTION_CLOSED"
  /** The peer did not read or write within a deadline. */
  | "CONNECTION_TIMEOUT"
  /** The server closed: `close()`, `stop()`, or a cap. */
  | "CONNECTION_ABORTED"
  /** More connections from one address than `limits.maxConnectionsPerAddress`. */
  | "TOO_MANY_CONNECTIONS"
  /** More connections than `limits.maxConnections`, and no room was made in time. */
  | "SERVER_FULL"
  /** The hook `openFn` or `verifyClient` refused the connection, or failed. */
  | "CONNECTION_REFUSED"
  /** PROXY header missing, malformed, or from an address that may not send one. */
  | "PROXY_HEADER"
  /** The client broke a rule of HTTP/2 that concerns the whole connection (RFC 9113 section 5.4.1). */
  | "HTTP2_PROTOCOL"
  /** The client did too much of what HTTP/2 allows in small numbers (RFC 9113 section 10.5). */
  | "HTTP2_FLOOD"
  /** Anything else; see `cause`. */
  | "CONNECTION_FAILED";

/** Codes of {@linkcode HttpError}: a request that is refused, or a response that cannot be sent. */
export type HttpErrorCode =
  /** The request breaks the message syntax (RFC 9112). */
  | "BAD_REQUEST"
  /** The request's framing is ambiguous or malformed: a smuggling attempt (RFC 9112 section 6). */
  | "BAD_FRAMING"
  /** The target is longer than `limits.maxUriBytes`. */
  | "URI_TOO_LONG"
  /** The head or the trailers are longer than their caps, or have too many fields. */
  | "HEADERS_TOO_LARGE"
  /** The body is longer than `limits.maxBodyBytes`. */
  | "BODY_TOO_LARGE"
  /** The client ended its side in the middle of the body (RFC 9112 section 8). */
  | "BODY_INCOMPLETE"
  /** The resource is a WebSocket, or the client's WebSocket version is not spoken. */
  | "UPGRADE_REQUIRED"
  /** A method this server does not know. */
  | "NOT_IMPLEMENTED"
  /** The body has a transfer coding besides chunked (RFC 9112 section 6.1). */
  | "UNKNOWN_CODING"
  /** A version other than HTTP/1.x. */
  | "VERSION_NOT_SUPPORTED"
  /** An expectation other than `100-continue` (RFC 9110 section 10.1.1). */
  | "EXPECTATION_FAILED"
  /** The request did not arrive in time. */
  | "REQUEST_TIMEOUT"
  /** The request is for a host this connection may not speak for (RFC 9110 section 15.5.20). */
  | "MISDIRECTED_REQUEST"
  /** No route has the path. */
  | "ROUTE_NOT_FOUND"
  /** There are routes for the path, but none for the method. */
  | "METHOD_NOT_ALLOWED"
  /** The handler did not answer within `timeouts.handlerMs`, or the deadline of `detach()`. */
  | "HANDLER_TIMEOUT"
  /** The handler threw, rejected, or returned something that is not a response. */
  | "HANDLER_FAILED"
  /** The handler's response breaks HTTP: bad field, bad status, wrong length. */
  | "BAD_RESPONSE"
  /** The server that `proxy()` passes requests on to gave no usable answer; see `cause`. */
  | "UPSTREAM_FAILED"
  /** The server that `proxy()` passes requests on to did not answer in time. */
  | "UPSTREAM_TIMEOUT"
  /** The request has come through the same `proxy()` before (RFC 9110 section 7.6.3). */
  | "PROXY_LOOP"
  /** The handler answered with `sendError()`; only `http:error` events report it. */
  | "ANSWERED";

/** Codes of {@linkcode WebSocketError}: why a WebSocket fails, or a frame may not be sent. */
export type WebSocketErrorCode =
  /** The peer's frames break the protocol (RFC 6455; close code 1002). */
  | "WS_PROTOCOL"
  /** Text that is not UTF-8, or compressed data that does not inflate (close code 1007). */
  | "WS_INVALID_DATA"
  /** A message is longer than `limits.maxPayloadBytes` (close code 1009). */
  | "WS_TOO_LARGE"
  /** A message has more fragments than `limits.maxFragments` (close code 1008). */
  | "WS_TOO_MANY_FRAGMENTS"
  /**
   * A message takes longer than `timeouts.messageMs`, or than `limits.minMessageBytesPerSecond`
   * lets it (1008).
   */
  | "WS_MESSAGE_TIMEOUT"
  /** More Ping and Pong frames in a second than `limits.maxPingsPerSecond` (close code 1008). */
  | "WS_PING_FLOOD"
  /** More than `limits.maxBufferedBytes` waits for a client that does not read (close code 1008). */
  | "WS_SLOW_CONSUMER"
  /** The program asks for a frame that RFC 6455 forbids, or compression failed (close code 1011). */
  | "WS_CANNOT_SEND"
  /** A callback or listener of the socket threw or rejected; see `cause` (close code 1011). */
  | "WS_CALLBACK_FAILED"
  /** The socket is closing or closed: nothing can be sent. */
  | "WS_CLOSED";

/** Codes of {@linkcode ClusterError}: what went wrong with a worker. */
export type ClusterErrorCode =
  /** A worker could not start, or ended without being asked to. */
  | "WORKER_FAILED"
  /** A worker was not ready in `timeouts.startMs`, or its event loop was blocked for `timeouts.hangMs`. */
  | "WORKER_TIMEOUT";

/** Codes of {@linkcode BusError}: what keeps messages from other processes. */
export type BusErrorCode =
  /** The bus is away, or has not answered in `timeouts.busMs`; see `cause`. */
  | "BUS_AWAY"
  /** The bus refused a subscription, or failed at something else; see `cause`. */
  | "BUS_FAILED";

/** Codes of plain {@linkcode HttpsdError}: a callback of the user's failed. */
export type CallbackErrorCode =
  /** An event listener threw or rejected; see `cause`. */
  | "LISTENER_FAILED"
  /** A hook threw or rejected, see `cause`; or one that decides returned neither `true` nor `false`. */
  | "HOOK_FAILED";

/** Codes of {@linkcode AcmeError}: why a certificate authority issues no certificate. */
export type AcmeErrorCode =
  /** The CA cannot be reached, its certificate is not trusted, or the connection broke; see `cause`. */
  | "ACME_UNREACHABLE"
  /** A request, a challenge or the whole order was not over in time. */
  | "ACME_TIMEOUT"
  /** The CA's answer is not one of ACME: garbage, too long, a redirect, an address elsewhere. */
  | "ACME_BAD_ANSWER"
  /** The CA refused; see `problem`. */
  | "ACME_REFUSED"
  /** The CA has had too many requests, or is busy; see `retryAfterMs`. */
  | "ACME_RATE_LIMITED"
  /** The CA did not find the answer to a challenge; see `problem`. */
  | "ACME_CHALLENGE_FAILED"
  /** No solver can answer any of the challenges that the CA offers for a name. */
  | "ACME_NO_SOLVER"
  /** A solver threw or rejected; see `cause`. */
  | "ACME_SOLVER_FAILED"
  /** The issued certificate is not what was ordered. */
  | "ACME_WRONG_CERTIFICATE"
  /** The storage of certificates failed, see `cause`; or has something else than was kept there. */
  | "ACME_STORAGE_FAILED";

/** Every stable error code. */
export type ErrorCode =
  | AcmeErrorCode
  | CallbackErrorCode
  | ClusterErrorCode
  | ConfigErrorCode
  | StateErrorCode
  | ListenErrorCode
  | TlsErrorCode
  | ConnectionErrorCode
  | HttpErrorCode
  | WebSocketErrorCode
  | BusErrorCode;

/** The base of every error that httpsd throws, rejects with, or reports in an `error` event. */
export class HttpsdError extends Error {
  /** The name of the class. */
  override readonly name: string = "HttpsdError";
  /** What happened, stable across versions and runtimes. */
  readonly code: ErrorCode;

  /** Makes an error with a stable `code`; `options.cause` keeps the error of the runtime. */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** An option that cannot be used; thrown by the constructor and by `start()`. */
export class ConfigError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "ConfigError";
  /** What happened: one of {@linkcode ConfigErrorCode}. */
  declare readonly code: ConfigErrorCode;

  /** Makes a configuration error. */
  constructor(code: ConfigErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** A call at the wrong time (original: `ESP_ERR_INVALID_STATE` and similar). */
export class StateError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "StateError";
  /** What happened: one of {@linkcode StateErrorCode}. */
  declare readonly code: StateErrorCode;

  /** Makes a state error. */
  constructor(code: StateErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** The listening socket could not be opened; `start()` rejects with it. */
export class ListenError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "ListenError";
  /** What happened: one of {@linkcode ListenErrorCode}. */
  declare readonly code: ListenErrorCode;

  /** Makes a listen error. */
  constructor(code: ListenErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** A handshake that failed; the detail of an `error` event (original: `esp_tls_last_error_t`). */
export class TlsError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "TlsError";
  /** What happened: one of {@linkcode TlsErrorCode}. */
  declare readonly code: TlsErrorCode;

  /** Makes a TLS error. */
  constructor(code: TlsErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** A connection that ended early (original: `HTTPD_SOCK_ERR_*`). */
export class ConnectionError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "ConnectionError";
  /** What happened: one of {@linkcode ConnectionErrorCode}. */
  declare readonly code: ConnectionErrorCode;

  /** Makes a connection error. */
  constructor(code: ConnectionErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** A worker of a cluster that failed. */
export class ClusterError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "ClusterError";
  /** What happened: one of {@linkcode ClusterErrorCode}. */
  declare readonly code: ClusterErrorCode;

  /** Makes an error of a worker. */
  constructor(code: ClusterErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** What an {@linkcode HttpError} may be made with. */
export interface HttpErrorOptions extends ErrorOptions {
  /** Fields for the answer, such as `Allow` or `Retry-After`. Default: none. */
  readonly fields?: readonly (readonly [name: string, value: string])[];
}

/** A request that is refused with `status`, or a response that could not be sent. */
export class HttpError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "HttpError";
  /** What happened: one of {@linkcode HttpErrorCode}. */
  declare readonly code: HttpErrorCode;
  /** The status code that the client is answered with. */
  readonly status: number;
  /** Fields for the answer. */
  readonly fields: readonly (readonly [name: string, value: string])[];

  /** Makes an HTTP error that is answered with `status`. */
  constructor(status: number, code: HttpErrorCode, message: string, options?: HttpErrorOptions) {
    super(code, message, options);
    this.status = status;
    this.fields = options?.fields ?? [];
  }
}

/** A WebSocket that fails, or a frame that may not be sent (original: `ESP_ERR_INVALID_STATE`). */
export class WebSocketError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "WebSocketError";
  /** What happened: one of {@linkcode WebSocketErrorCode}. */
  declare readonly code: WebSocketErrorCode;
  /** The close code that the peer gets (RFC 6455 section 7.4.1). */
  readonly closeCode: number;

  /** Makes a WebSocket error that closes with `closeCode`. */
  constructor(
    closeCode: number,
    code: WebSocketErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(code, message, options);
    this.closeCode = closeCode;
  }
}

/** A refusal as an ACME server words it (RFC 8555 section 6.7, RFC 9457). */
export interface AcmeProblem {
  /** What it is, such as `urn:ietf:params:acme:error:rateLimited`; `about:blank` if not said. */
  readonly type: string;
  /** What the CA says about it. */
  readonly detail?: string;
  /** The status code of the answer. */
  readonly status?: number;
  /** A page on which a person can do something about it, such as agree to new terms; http or https. */
  readonly instance?: string;
  /** What is wrong with each name, where the CA says so. */
  readonly subproblems?: readonly (AcmeProblem & { readonly identifier?: string })[];
}

/** What an {@linkcode AcmeError} may be made with. */
export interface AcmeErrorOptions extends ErrorOptions {
  /** The CA's own words. Default: none. */
  readonly problem?: AcmeProblem | undefined;
  /** When to try again, in ms from now. Default: not known. */
  readonly retryAfterMs?: number | undefined;
}

/** A certificate that was not issued, or a call to a certificate authority that failed. */
export class AcmeError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "AcmeError";
  /** What happened: one of {@linkcode AcmeErrorCode}. */
  declare readonly code: AcmeErrorCode;
  /** The CA's own words, where it gave some. */
  readonly problem: AcmeProblem | undefined;
  /** When the CA wants to be asked again, in ms from when the error was made; at most a week. */
  readonly retryAfterMs: number | undefined;

  /** Makes an error of an ACME client. */
  constructor(code: AcmeErrorCode, message: string, options: AcmeErrorOptions = {}) {
    super(code, message, options);
    this.problem = options.problem;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** A bus that carries no messages between servers, in whole or in part. */
export class BusError extends HttpsdError {
  /** The name of the class. */
  override readonly name = "BusError";
  /** What happened: one of {@linkcode BusErrorCode}. */
  declare readonly code: BusErrorCode;

  /** Makes an error of a bus. */
  constructor(code: BusErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}
