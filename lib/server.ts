/**
 * The server: takes connections from the gate, gives them sessions, and their requests handlers.
 *
 * @module
 */
import { assertRuntime } from "./capabilities.ts";
import { type Config, type HttpsServerOptions, resolveConfig } from "./config.ts";
import { ConfigError, HttpError, HttpsdError, StateError } from "./errors.ts";
import {
  DataEvent,
  DisconnectedEvent,
  ServerErrorEvent,
  ServerEvent,
  ServerEvents,
  SessionEvent,
} from "./events.ts";
import type { Exchange } from "./httpd/exchange.ts";
import { sendResponse, toRequest } from "./httpd/fetch.ts";
import { HttpdRequest } from "./httpd/request.ts";
import { type Route, Router } from "./httpd/router.ts";
import { Session, type SessionHost } from "./httpd/session.ts";
import type { Connection, Observer } from "./net/connection.ts";
import { Deadlines } from "./net/deadlines.ts";
import { Gate, type Refusal } from "./net/gate.ts";
import { type Address, Listener } from "./net/listener.ts";
import { SecurityContext } from "./tls/context.ts";
import { loadIdentity } from "./tls/identity.ts";

/** What a fetch handler is told besides the request. */
export interface RequestInfo {
  /** The session that the request came on: address, TLS facts, context. */
  readonly session: Session;
  /** The server. */
  readonly server: HttpsServer;
}

/** Answers a request with a response. */
export type FetchHandler = (request: Request, info: RequestInfo) => Response | Promise<Response>;

/** Where a server is in its life. */
export type ServerState = "idle" | "starting" | "running" | "stopping";

/** How to stop. */
export interface StopOptions {
  /** How long requests under way may take to end, in ms. Default: the option `drainMs`. */
  readonly drainMs?: number;
}

/** An HTTPS server (original: `httpd_handle_t`). It can be started again after it was stopped. */
export class HttpsServer extends ServerEvents implements AsyncDisposable {
  readonly #config: Config;
  readonly #handler: FetchHandler | undefined;
  readonly #router = new Router();
  readonly #deadlines: Deadlines;
  readonly #gate: Gate;
  readonly #sessions = new Set<Session>();
  readonly #host: SessionHost;
  readonly #observer: Observer = {
    received: (connection, bytes) => this.#tellBytes("data", connection, bytes),
    sent: (connection, bytes) => this.#tellBytes("sent", connection, bytes),
  };
  #state: ServerState = "idle";
  #context: SecurityContext | undefined;
  #listener: Listener | undefined;
  #stopping: Promise<void> | undefined;
  #emptied: (() => void) | undefined;

  /**
   * Makes a server that does not listen yet. `handler` answers what no route answers.
   *
   * @throws {ConfigError} `INVALID_CONFIG` naming the option
   */
  constructor(options: HttpsServerOptions, handler?: FetchHandler) {
    super();
    assertRuntime();
    const config = this.#config = resolveConfig(options);
    this.#handler = handler;
    this.#deadlines = new Deadlines([
      config.handshakeTimeoutMs,
      config.headersTimeoutMs,
      config.recvWaitTimeoutMs,
      config.sendWaitTimeoutMs,
      config.idleTimeoutMs,
      config.lingerMs,
    ]);
    this.#gate = new Gate({
      context: () => this.#context,
      handshakeTimeoutMs: config.handshakeTimeoutMs,
      sendTimeoutMs: config.sendWaitTimeoutMs,
      lingerMs: config.lingerMs,
      deadlines: this.#deadlines,
      admitted: (connection) => this.#admitted(connection),
      refused: (refusal) => this.#refused(refusal),
    });
    this.#host = {
      limits: config,
      handle: (exchange) => this.#handle(exchange),
      failed: (session, error) => this.#tellError(error, { session }),
      ended: (session, error) => this.#ended(session, error),
    };
  }

  /** Where the server is in its life. */
  get state(): ServerState {
    return this.#state;
  }

  /**
   * The address that is listened on.
   *
   * @throws {StateError} `NOT_STARTED`
   */
  get address(): Address {
    if (this.#listener === undefined) {
      throw new StateError("NOT_STARTED", "The server does not listen: await start() first");
    }
    return this.#listener.address;
  }

  /** The sessions that are open now. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions;
  }

  /**
   * Adds a route; at any time (original: `httpd_register_uri_handler`).
   *
   * @throws {StateError} `HANDLER_EXISTS`
   */
  route(route: Route): this {
    this.#router.add(route);
    return this;
  }

  /**
   * Checks the certificate and listens (original: `httpd_ssl_start`).
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE`
   * @throws {ListenError} when the address cannot be opened
   * @throws {StateError} `ALREADY_STARTED`; `NOT_STARTED` when it was stopped while it started
   */
  async start(): Promise<void> {
    if (this.#state !== "idle") {
      throw new StateError("ALREADY_STARTED", "The server runs already: stop it first");
    }
    const { signal, hostname, port, backlogConn: backlog } = this.#config;
    signal?.throwIfAborted();
    this.#state = "starting";
    try {
      this.#context = this.#createContext();
      this.#listener = await Listener.open(
        { hostname, port, backlog },
        (raw) => this.#gate.admit(raw),
        (error) => this.#tellError(error),
      );
    } catch (error) {
      this.#state = "idle";
      throw error;
    }
    this.#state = "running";
    this.dispatchEvent(new ServerEvent("start", this));
    signal?.addEventListener("abort", this.#stopOnAbort, { once: true });
  }

  #createContext(): SecurityContext | undefined {
    const { transportMode, cert, key, passphrase, alpnProtocols } = this.#config;
    if (transportMode === "insecure") return undefined;
    if (cert === undefined || key === undefined) {
      throw new ConfigError(
        "INVALID_CERTIFICATE",
        'Options cert and key are needed: give them, or use transportMode: "insecure"',
      );
    }
    const identity = loadIdentity({ cert, key, ...(passphrase !== undefined && { passphrase }) });
    return new SecurityContext({
      identity,
      alpnProtocols,
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.3",
    });
  }

  /**
   * Accepts no more, lets requests under way end for `drainMs`, then cuts what is left (original:
   * `httpd_ssl_stop`). Idle connections are closed at once. Calling it again returns the same
   * promise; on a server that does not run it does nothing. A handler may call it, but one that
   * awaits it makes it wait for the whole of `drainMs`.
   */
  stop(options: StopOptions = {}): Promise<void> {
    if (this.#state === "idle") return Promise.resolve();
    return this.#stopping ??= this.#stop(options.drainMs ?? this.#config.drainMs);
  }

  async #stop(drainMs: number): Promise<void> {
    this.#state = "stopping";
    this.#config.signal?.removeEventListener("abort", this.#stopOnAbort);
    this.#listener?.close();
    this.#gate.close();
    for (const session of this.#sessions) session.close();
    if (!await this.#emptyWithin(drainMs)) {
      for (const session of this.#sessions) session.destroy();
    }
    this.#listener = undefined;
    this.#stopping = undefined;
    this.#state = "idle";
    this.dispatchEvent(new ServerEvent("stop", this));
  }

  /** Whether the last session ended in time. */
  #emptyWithin(ms: number): Promise<boolean> {
    if (this.#sessions.size === 0) return Promise.resolve(true);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), ms);
    this.#emptied = () => {
      clearTimeout(timer);
      resolve(true);
    };
    return promise;
  }

  readonly #stopOnAbort = (): void => void this.stop();

  /** Stops as {@linkcode HttpsServer.stop} does; for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #admitted(connection: Connection): void {
    if (this.#state === "stopping" || this.#state === "idle") {
      connection.destroy();
      return;
    }
    const session = new Session(connection, this.#host);
    this.#sessions.add(session);
    if (this.hasListened("data") || this.hasListened("sent")) {
      this.#sessionOf.set(connection, session);
      connection.observer = this.#observer;
    }
    if (this.hasListened("connected")) {
      this.dispatchEvent(new SessionEvent("connected", this, session));
    }
  }

  readonly #sessionOf = new WeakMap<Connection, Session>();

  #tellBytes(type: "data" | "sent", connection: Connection, bytes: number): void {
    if (!this.hasListened(type)) return;
    const session = this.#sessionOf.get(connection);
    if (session !== undefined) this.dispatchEvent(new DataEvent(type, this, session, bytes));
  }

  #refused({ error, endpoints }: Refusal): void {
    this.#tellError(error, { remoteAddress: endpoints.remoteAddress });
  }

  #ended(session: Session, error: HttpsdError | undefined): void {
    this.#sessions.delete(session);
    if (this.hasListened("disconnected")) {
      this.dispatchEvent(new DisconnectedEvent(this, session, error));
    }
    if (this.#sessions.size === 0) this.#emptied?.();
  }

  /** Runs the handler for a request; whatever it does, the request is answered or cut. */
  #handle(exchange: Exchange): void {
    try {
      const result = this.#dispatch(exchange);
      if (result instanceof Promise) {
        result.catch((error) => this.#handlerFailed(exchange, error));
      }
    } catch (error) {
      this.#handlerFailed(exchange, error);
    }
  }

  #dispatch(exchange: Exchange): void | Promise<void> {
    const { method, path } = exchange.head;
    const match = this.#router.match(method, path);
    if (match.route !== undefined) return this.#runRoute(exchange, match.route);
    if (this.#handler !== undefined) return this.#runFetch(exchange, this.#handler);
    if (match.allow.length === 0) exchange.sendError(404);
    else exchange.sendError(405, undefined, [["Allow", match.allow.join(", ")]]);
  }

  async #runRoute(exchange: Exchange, route: Route): Promise<void> {
    const response = await route.handler(new HttpdRequest(exchange));
    if (response !== undefined) return await sendResponse(exchange, response);
    if (exchange.response.ended || exchange.session.connection.closed) return;
    throw new HttpError(500, "HANDLER_FAILED", "The handler ended without a whole response");
  }

  async #runFetch(exchange: Exchange, handler: FetchHandler): Promise<void> {
    const info = { session: exchange.session, server: this };
    await sendResponse(exchange, await handler(toRequest(exchange), info));
  }

  #handlerFailed(exchange: Exchange, cause: unknown): void {
    const error = cause instanceof HttpsdError
      ? cause
      : new HttpError(500, "HANDLER_FAILED", "The handler threw", { cause });
    try {
      exchange.fail(error);
    } finally {
      this.#tellError(error, { session: exchange.session });
    }
  }

  #tellError(error: HttpsdError, where?: { session?: Session; remoteAddress?: string }): void {
    if (this.hasListened("error")) {
      this.dispatchEvent(new ServerErrorEvent(this, error, where));
    } else if (error.code === "HANDLER_FAILED" || error.code === "BAD_RESPONSE") {
      // The developer's own mistakes must not vanish; a client's noise may.
      console.error(error);
    }
  }

  protected override listenerFailed(type: string, cause: unknown): void {
    const error = new HttpsdError("LISTENER_FAILED", `A listener for ${type} threw`, { cause });
    if (type === "error") console.error(error);
    else this.#tellError(error);
  }
}

/**
 * Starts a server that answers every request with `handler`.
 *
 * @throws {ConfigError} when an option or the certificate cannot be used
 * @throws {ListenError} when the address cannot be opened
 */
export async function serve(
  options: HttpsServerOptions,
  handler: FetchHandler,
): Promise<HttpsServer> {
  const server = new HttpsServer(options, handler);
  await server.start();
  return server;
}
