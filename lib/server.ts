/**
 * The server: takes connections from the gate, gives them sessions, and their requests handlers.
 *
 * @module
 */
import type { Socket } from "node:net";
import * as v from "valibot";
import { contain } from "./contain/callbacks.ts";
import { assertRuntime, type Capabilities, capabilities } from "./runtime/capabilities.ts";
import {
  type Config,
  type HttpsServerOptions,
  type ReloadOptions,
  resolveConfig,
  resolveReload,
  type TlsSessionChange,
} from "./config.ts";
import { remoteOf } from "./edge/platform.ts";
import { answerFetch, type FetchHost } from "./edge/driver.ts";
import {
  ConfigError,
  ConnectionError,
  type ErrorCode,
  type HttpError,
  HttpsdError,
  StateError,
  TlsError,
} from "./errors.ts";
import {
  DataEvent,
  DisconnectedEvent,
  ExpiringEvent,
  type FailurePlace,
  ServerErrorEvent,
  ServerEvent,
  type ServerEventListener,
  type ServerEventType,
  SessionEvent,
} from "./events.ts";
import { takeArguments } from "./fetch/handler.ts";
import { connectionTransport } from "./fetch/connection_transport.ts";
import {
  exchangeHandler,
  ExchangeInfo,
  type FetchApp,
  type FetchHandler,
} from "./fetch/fetch_handler.ts";
import { Dispatcher } from "./http/dispatcher.ts";
import { type ErrorHandler, HttpdFace } from "./httpd/face.ts";
import { Router } from "./http/router.ts";
import { type ConnectionDriver, driverOf, freeContext, type Session } from "./http/session.ts";
import type { Notify } from "./http/session_host.ts";
import { Http1Connection, type Http1Host } from "./http1/connection.ts";
import { WorkQueue } from "./httpd/work_queue.ts";
import type { ConnectionEngine } from "./net/engine.ts";
import type { Clock } from "./net/clock.ts";
import { Deadlines } from "./net/deadlines.ts";
import type { Refusal } from "./net/admission.ts";
import { Gate } from "./net/gate.ts";
import { type Address, Listener } from "./net/listener.ts";
import { fitSockets, openFileLimit, type SocketLimits } from "./net/open_files.ts";
import { SocketCap } from "./net/socket_cap.ts";
import { CidrSet } from "./net/cidr.ts";
import { adviceFrom, checkOptions, members, milliseconds, shown } from "./options.ts";
import { Unread } from "./net/unread.ts";
import { ServerListeners } from "./server_listeners.ts";
import { SessionTable } from "./sessions.ts";
import { ACME_TLS, DEFAULT_CIPHERS } from "./tls/context.ts";
import { defaultHost } from "./tls/options.ts";
import { CertificateRotation } from "./tls/rotation.ts";
import type { SelectorOptions } from "./tls/selector.ts";
import { type BroadcastData, WebSocketHub } from "./websocket/hub.ts";
import { type Route, toHandlerRoute } from "./websocket/route.ts";
import type { ServerWebSocket } from "./websocket/socket.ts";
import { webSocketHandler, withUpgrades } from "./websocket/upgrade.ts";

/** Where a server is in its life. */
export type ServerState = "idle" | "starting" | "running" | "stopping";

/** How to stop. */
export interface StopOptions {
  /** How long requests under way may take to end, in ms. Default: the option `drainMs`. */
  readonly drainMs?: number;
}

/** How many connections a server has, and has had; for a look from outside. */
export interface ConnectionCounters {
  /** Sockets that are open now, those at the gate included. */
  readonly open: number;
  /** Newcomers that wait now for one of them to close. */
  readonly waiting: number;
  /** Sockets that were accepted. */
  readonly accepted: number;
  /** Connections that were turned away before their session: each has had an `error` event. */
  readonly refused: number;
  /** Connections that were closed to make room for another. */
  readonly purged: number;
}

/** How long a newcomer is left alone at the cap before its first request, in ms … */
const PATIENCE_MS = 1_000;
/** … and at the least if it has sent nothing and many wait behind it. */
const MIN_PATIENCE_MS = 50;
/** So many newcomers, or a quarter of the places, push out sessions that have had a request. */
const MIN_ARRIVALS = 4;

/** An HTTPS server (original: `httpd_handle_t`). It can be started again after it was stopped. */
export class HttpsServer extends EventTarget implements AsyncDisposable {
  readonly #listeners = new ServerListeners((type, cause) => this.#listenerFailed(type, cause));
  readonly #config: Config;
  readonly #router: Router;
  readonly #dispatcher: Dispatcher;
  readonly #httpd: HttpdFace;
  readonly #work: WorkQueue;
  readonly #deadlines: Deadlines;
  readonly #gate: Gate;
  readonly #cap: SocketCap;
  readonly #sessions: SessionTable<ConnectionDriver>;
  readonly #hub = new WebSocketHub({
    failed: (session, error) => this.#tellError(error, { session }),
    touched: (session) => session.touch(),
  });
  /** Connections whose hooks have not let them in yet. */
  readonly #opening = new Set<ConnectionDriver>();
  readonly #host: Http1Host;
  #state: ServerState = "idle";
  #certificates: CertificateRotation | undefined;
  #listener: Listener | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #madeFetchHost: FetchHost | undefined;
  readonly #counts = { accepted: 0, refused: 0, purged: 0 };
  /** What the caller said of the number of sockets; the rest may be lowered to what there is. */
  readonly #givenLimits: Partial<SocketLimits>;

  /**
   * Makes a server that does not listen yet. `handler` answers what no route answers: a function, or
   * an object with such a function as its `fetch`, which may be one with the options too.
   *
   * @throws {ConfigError} `INVALID_CONFIG` naming the option, or saying what to write;
   * `NOT_SUPPORTED` for an option that this runtime would have to ignore
   */
  constructor(options: HttpsServerOptions, handler?: FetchHandler | FetchApp);
  /**
   * The same with another clock for its deadlines, for tests.
   *
   * @internal
   */
  constructor(
    options: HttpsServerOptions,
    handler: FetchHandler | FetchApp | undefined,
    clock: Clock,
  );
  /** @internal */
  constructor(options: HttpsServerOptions, handler?: FetchHandler | FetchApp, clock?: Clock) {
    super();
    assertRuntime();
    const given = takeArguments<HttpsServerOptions, FetchHandler>(
      "new HttpsServer()",
      options,
      handler,
    );
    const config = this.#config = resolveConfig(given.options);
    this.#givenLimits = givenLimits(given.options, config);
    this.#router = new Router(config.uriMatch, config.maxUriHandlers);
    this.#work = new WorkQueue(config.maxQueuedWork);
    const { uriMatch, maxRespHeaders } = config;
    const { handler: handle } = given;
    const dispatcher = this.#dispatcher = new Dispatcher(
      this.#router,
      handle &&
        exchangeHandler((request, exchange) => handle(request, new ExchangeInfo(exchange, this))),
    );
    this.#httpd = new HttpdFace({ server: this, uriMatch, maxRespHeaders, dispatcher });
    this.#deadlines = new Deadlines([
      config.handshakeTimeoutMs,
      config.headersTimeoutMs,
      config.recvWaitTimeoutMs,
      config.sendWaitTimeoutMs,
      config.idleTimeoutMs,
      config.lingerMs,
      config.requestTimeoutMs,
      config.handlerTimeoutMs,
    ], clock);
    this.#sessions = new SessionTable({
      now: () => this.#deadlines.clock.now(),
      oneLine: config.profile === "esp-idf",
    });
    this.#gate = new Gate({
      selector: () => this.#certificates?.selector,
      proxy: config.proxyProtocol && {
        trusted: new CidrSet(config.proxyProtocol.trustedProxies),
        required: config.proxyProtocol.mode === "required",
      },
      maxConnectionsPerAddress: config.maxConnectionsPerAddress,
      maxHandshakes: config.maxHandshakes,
      handshakeTimeoutMs: config.handshakeTimeoutMs,
      sendTimeoutMs: config.sendWaitTimeoutMs,
      lingerMs: config.lingerMs,
      deadlines: this.#deadlines,
      unread: new Unread(config.maxUnreadBytes),
      admitted: (connection) => this.#admitted(connection),
      refused: (refusal) => this.#refused(refusal),
    });
    this.#cap = new SocketCap({
      limits: { maxOpenSockets: config.maxOpenSockets, maxWaiting: config.backlogConn },
      waitMs: config.handshakeTimeoutMs,
      deadlines: this.#deadlines,
      makeRoom: (waiting) => this.#makeRoom(waiting),
      admit: (raw, place) => this.#gate.admit(raw, place),
      refused: (error, endpoints) => {
        this.#listener?.checkSoon();
        this.#refused({ error, endpoints, phase: "accept", sni: undefined });
      },
    });
    const notify: Notify = (type, session, bytes) => {
      if (session.connection.closed) return; // a handler goes on where nobody hears it
      if (this.#listeners.has(type)) this.dispatchEvent(new DataEvent(type, this, session, bytes));
    };
    const notifyIfListened = () => this.#listeners.listenToRequests ? notify : undefined;
    const isCrowded = () => this.#isCrowded;
    this.#host = {
      limits: config,
      transport: withUpgrades(connectionTransport, this.#hub),
      get notify() {
        return notifyIfListened();
      },
      speaksFor: (session, host) => {
        const { context, tls } = driverOf(session).peer;
        if (context === undefined) return true;
        const { localAddress } = session.connection;
        const spoken = { context, sni: tls?.sni, localAddress };
        return !!this.#certificates?.selector.speaksFor(spoken, host);
      },
      handle: (driver, exchange) => {
        this.#sessions.busy(driver);
        dispatcher.handle(exchange);
      },
      refuse: (exchange, error) => dispatcher.refuse(exchange, error),
      errorAnswered: (session, error) => {
        if (!session.connection.closed) this.#tellAnswered(error, session);
      },
      touch: (driver) => this.#touch(driver),
      answered: (driver, ends) => this.#answered(driver, ends),
      get crowded() {
        return isCrowded();
      },
      failed: (session, error) => this.#tellError(error, { session }),
      passed: (type, session, bytes) => this.#tellBytes(type, session, bytes),
      ended: (driver, error) => this.#ended(driver, error),
    };
  }

  /** What works on this runtime, and what would throw `NOT_SUPPORTED`. */
  get capabilities(): Capabilities {
    return capabilities;
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

  /** The WebSockets that are open now, in the order in which they were opened. */
  get websockets(): ReadonlySet<ServerWebSocket> {
    return this.#hub.sockets;
  }

  /**
   * Sends a message to all WebSockets, or to those that `filter` picks; it is encoded once. A
   * client that does not read holds up no other.
   *
   * @returns to how many it was sent
   */
  broadcast(data: BroadcastData, filter?: (ws: ServerWebSocket) => boolean): number {
    return this.#hub.broadcast(data, filter);
  }

  /**
   * Sends a message to all WebSockets that subscribed to `topic`; it is encoded once.
   *
   * @returns to how many it was sent
   */
  publish(topic: string, data: BroadcastData): number {
    return this.#hub.publish(topic, data);
  }

  /** The sessions that are open now. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions.all;
  }

  /** How many connections there are, and how many there were since the server was made. */
  get counters(): ConnectionCounters {
    return { open: this.#cap.open, waiting: this.#cap.waiting, ...this.#counts };
  }

  /**
   * Adds a route; at any time (original: `httpd_register_uri_handler`).
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is no route, or one that no request could reach
   * @throws {StateError} `HANDLER_EXISTS`, `HANDLERS_FULL`
   */
  route(route: Route): this {
    this.#router.add(
      this.#httpd.route(toHandlerRoute(route, (config) => webSocketHandler(config, this.#hub))),
    );
    return this;
  }

  /**
   * Removes the route of a template and method, or all routes of the template; requests under way
   * keep theirs (original: `httpd_unregister_uri_handler`, `httpd_unregister_uri`).
   *
   * @throws {StateError} `NOT_FOUND`
   */
  unroute(uri: string, method?: string): this {
    this.#router.remove(uri, method);
    return this;
  }

  /**
   * Answers errors of a status with `handler` instead of the standard answer; `null` undoes that
   * (original: `httpd_register_err_handler`). The 503 of `handlerTimeoutMs` and `detach()` is not
   * asked about, since no handler may delay it further.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is no error's status, or no handler
   */
  onError(status: number, handler: ErrorHandler | null): this {
    this.#dispatcher.onError(status, this.#httpd.errorHandler(status, handler));
    return this;
  }

  /**
   * Answers a request that came on no socket of this server, with the same routes, error handlers
   * and fetch handler; whether it runs or not. So routes can be tried out without a port, and
   * `Deno.serve(server.fetch)` serves them where the platform ends TLS.
   *
   * `platform` is what the platform passes besides the request: the client's address is taken from
   * there on Deno and Bun; it is empty where that does not tell. What needs a socket throws
   * `NOT_SUPPORTED` (`session.connection`, `session.send()`, `rawHead`, `inform()`, `sendRaw()`),
   * WebSocket routes answer 501 (426 to who did not ask for one), trailer fields are neither
   * received nor sent, and of events only `error` and `http:error` are told. A client that is gone
   * (`request.signal`) is answered with an empty 499.
   *
   * @throws {ConnectionError} `CONNECTION_ABORTED` (as a rejection) when a handler calls
   * `session.destroy()` before there is an answer
   */
  readonly fetch: (request: Request, ...platform: unknown[]) => Promise<Response> = async (
    request,
    ...platform
  ) =>
    await answerFetch(this.#fetchHost, request, {
      ...remoteOf(request, platform),
      tls: undefined,
      given: platform,
    });

  /** What answers requests without sockets. */
  get #fetchHost(): FetchHost {
    if (this.#madeFetchHost !== undefined) return this.#madeFetchHost;
    const { maxBodyBytes, handlerTimeoutMs } = this.#config;
    return this.#madeFetchHost = {
      dispatcher: this.#dispatcher,
      maxBodyBytes,
      handlerTimeoutMs,
      failed: (error, session) => this.#tellErrorAnyway(error, { session }),
      errorAnswered: (error, session) => this.#tellAnswered(error, session),
    };
  }

  /**
   * Runs `work` between requests, in the order given, and resolves with its result (original:
   * `httpd_queue_work`). What it throws is told in an `error` event too, so that the promise may be
   * left alone.
   *
   * @throws {StateError} `QUEUE_FULL` (as a rejection) when `maxQueuedWork` wait already
   */
  queueWork<T>(work: () => T | Promise<T>): Promise<T> {
    const result = typeof work === "function" ? this.#work.queue(work) : Promise.reject(
      new ConfigError("INVALID_CONFIG", `queueWork() takes a function, not ${shown(work)}`),
    );
    result.catch((cause) =>
      this.#tellError(
        cause instanceof HttpsdError
          ? cause
          : new HttpsdError("HOOK_FAILED", "Queued work threw", { cause }),
      )
    );
    return result;
  }

  /**
   * Calls `listener` for each event of `type`; what it throws becomes an `error` event. An event
   * without a listener is not made: adding none is the switch that turns it off (original:
   * `CONFIG_HTTPD_ENABLE_EVENTS`).
   *
   * @throws {ConfigError} `INVALID_CONFIG` for an event that never comes, or what is no listener
   */
  override addEventListener<T extends ServerEventType>(
    type: T,
    listener: ServerEventListener<T> | null,
    options?: AddEventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.addEventListener(type, this.#listeners.wrap(type, listener), options);
  }

  /** Stops calling `listener` for events of `type`. */
  override removeEventListener<T extends ServerEventType>(
    type: T,
    listener: ServerEventListener<T> | null,
    options?: EventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.removeEventListener(type, this.#listeners.wrapperOf(listener), options);
  }

  /** What handlers share: the option `globalUserContext` (original: `httpd_get_global_user_ctx`). */
  get context(): unknown {
    return this.#config.globalUserContext;
  }

  #touch(driver: ConnectionDriver): void {
    this.#sessions.touch(driver);
    this.#lookForRoom();
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
    const { signal } = this.#config;
    signal?.throwIfAborted();
    this.#state = "starting";
    signal?.addEventListener("abort", this.#stopOnAbort, { once: true });
    try {
      await (this.#starting = this.#open());
    } catch (error) {
      this.#shut();
      this.#rest();
      throw error;
    }
    this.#state = "running";
    this.dispatchEvent(new ServerEvent("http:start", this));
    this.dispatchEvent(new ServerEvent("start", this));
    this.#certificates?.begin();
  }

  async #open(): Promise<void> {
    const { hostname, port, backlogConn: backlog } = this.#config;
    this.#cap.limits = this.#fittingLimits();
    this.#certificates = await this.#openCertificates();
    this.#assertNotStopped();
    this.#listener = await Listener.open(
      { hostname, port, backlog },
      (raw) => this.#accepted(raw),
      (error) => this.#tellError(error),
    );
    this.#assertNotStopped();
  }

  #assertNotStopped(): void {
    if (this.#state === "starting") return;
    this.#config.signal?.throwIfAborted();
    throw new StateError("NOT_STARTED", "The server was stopped while it started");
  }

  /** Accepts no more and turns away who has not been let in yet. */
  #shut(): void {
    this.#config.signal?.removeEventListener("abort", this.#stopOnAbort);
    this.#listener?.close();
    this.#certificates?.close();
    this.#cap.close();
    this.#gate.close();
    for (const { session } of this.#opening) session.destroy();
  }

  async #openCertificates(): Promise<CertificateRotation | undefined> {
    const config = this.#config;
    if (config.transportMode === "insecure") return undefined;
    const { identities, alpnProtocols, strictSni, certSelect, tlsUserData } = config;
    const fallback = defaultHost(config);
    if (fallback === undefined && identities.length === 0 && certSelect === undefined) {
      throw new ConfigError(
        "INVALID_CERTIFICATE",
        'Options cert and key are needed: give them, or use transportMode: "insecure"',
      );
    }
    const selection: SelectorOptions = {
      fallback,
      hosts: identities,
      clientAuth: config.clientAuth ?? undefined,
      alpnProtocols,
      strictSni,
      certSelect,
      tlsUserData,
      settings: {
        minVersion: config.minVersion,
        maxVersion: config.maxVersion,
        ciphers: config.ciphers?.join(":") ?? DEFAULT_CIPHERS,
        sessionTickets: config.sessionTickets,
      },
    };
    return await CertificateRotation.open(selection, config, {
      failed: (cause) =>
        this.#tellError(
          new ConfigError("INVALID_CERTIFICATE", "A watched certificate could not be reloaded", {
            cause,
          }),
        ),
      expiring: (identity) => this.dispatchEvent(new ExpiringEvent(this, identity)),
    });
  }

  /**
   * Changes certificates and client CAs while the server runs: what is given replaces what was
   * there, what is left out stays. Connections live on; handshakes from now on get the new. A pair
   * that is rejected throws, and everything stays as it was.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE`, `INVALID_CONFIG`
   * @throws {StateError} `NOT_STARTED`, also in insecure mode
   */
  async reload(options: ReloadOptions): Promise<void> {
    if (this.#certificates === undefined || this.#state !== "running") {
      throw new StateError("NOT_STARTED", "The server has no certificates now: start it first");
    }
    const config = resolveReload(options);
    const fallback = defaultHost(config);
    await this.#certificates.reload((current) => ({
      ...current,
      fallback: fallback ?? current.fallback,
      hosts: options.identities === undefined ? current.hosts : config.identities,
      clientAuth: config.clientAuth === undefined
        ? current.clientAuth
        : config.clientAuth ?? undefined,
    }));
  }

  /**
   * Accepts no more, lets requests under way end for `drainMs`, then cuts what is left (original:
   * `httpd_ssl_stop`). Idle connections are closed at once. Calling it again returns the same
   * promise; on a server that does not run it does nothing. A handler may call it, but one that
   * awaits it makes it wait for the whole of `drainMs`.
   *
   * @throws {ConfigError} `INVALID_CONFIG` (as a rejection) naming the option; nothing is stopped
   */
  stop(options: StopOptions = {}): Promise<void> {
    let drainMs: number | undefined;
    try {
      ({ drainMs } = checkOptions("stop()", STOP_OPTIONS, options));
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#state === "idle") return Promise.resolve();
    return this.#stopping ??= this.#state === "starting"
      ? this.#stopStarting()
      : this.#stop(drainMs ?? this.#config.drainMs);
  }

  /** The start sees the new state at its next step, and fails. */
  async #stopStarting(): Promise<void> {
    this.#state = "stopping";
    await Promise.allSettled([this.#starting]);
  }

  async #stop(drainMs: number): Promise<void> {
    this.#state = "stopping";
    this.#shut();
    for (const session of this.#sessions.all) session.close();
    if (!await this.#sessions.emptyWithin(drainMs)) {
      for (const session of this.#sessions.all) session.destroy();
    }
    const { globalUserContext, globalUserContextFree } = this.#config;
    this.#contain(() => globalUserContextFree?.(globalUserContext));
    this.#rest();
    this.dispatchEvent(new ServerEvent("http:stop", this));
    this.dispatchEvent(new ServerEvent("stop", this));
  }

  /** Is as before the start. */
  #rest(): void {
    this.#listener = undefined;
    this.#certificates = undefined;
    this.#starting = undefined;
    this.#stopping = undefined;
    this.#state = "idle";
  }

  readonly #stopOnAbort = (): void => void this.stop();

  /** Stops as {@linkcode HttpsServer.stop} does; for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #accepted(raw: Socket): void {
    const { keepAlive } = this.#config;
    this.#counts.accepted++;
    if (keepAlive !== false) raw.setKeepAlive(true, keepAlive === true ? 0 : keepAlive.idleMs);
    this.#cap.offer(raw);
  }

  /** Whether the answer of a session is to be its last, since a newcomer waits for its place. */
  get #isCrowded(): boolean {
    return this.#config.lruPurge && this.#cap.crowded && this.#mayTakeUsed;
  }

  /**
   * Whether newcomers may still take the places of sessions that have had a request: a part of the
   * places is theirs, the others are kept.
   */
  get #mayTakeUsed(): boolean {
    if (this.#config.profile === "esp-idf") return true;
    // A place that is being freed is a newcomer's already.
    const arriving = this.#gate.size + this.#opening.size + this.#sessions.fresh +
      this.#cap.leaving;
    return arriving < Math.max(MIN_ARRIVALS, this.#cap.limits.maxOpenSockets / 4);
  }

  /** A request was answered: the session is idle, or `ends`; returns whether it is to end. */
  #answered(driver: ConnectionDriver, ends: boolean): boolean {
    if (ends || this.#isCrowded) return true;
    this.#touch(driver);
    return false;
  }

  /** Looks whether a session that has become idle makes room, after what it does now. */
  #lookForRoom(): void {
    if (this.#cap.crowded) queueMicrotask(() => this.#cap.makeRoom());
  }

  /** Closes one connection for one of `waiting` newcomers, by the rules of docs/deployment.md. */
  #makeRoom(waiting: number): true | number {
    const { lruPurge, profile } = this.#config;
    if (!lruPurge) return Infinity;
    const made = profile === "esp-idf"
      ? this.#sessions.purgeLeastRecent() || Infinity
      : this.#purgeInOrder(waiting);
    if (made === true) this.#counts.purged++;
    return made;
  }

  #purgeInOrder(waiting: number): true | number {
    const now = this.#deadlines.clock.now();
    const silentMs = Math.max(MIN_PATIENCE_MS, PATIENCE_MS / (1 + waiting / 8));
    const patience = { now, silentMs, startedMs: PATIENCE_MS };
    const nextAtGate = this.#gate.evict(patience);
    if (nextAtGate === true) return true;
    const made = this.#sessions.purge({ ...patience, used: this.#mayTakeUsed });
    return made === true || Math.min(made, nextAtGate);
  }

  /** The numbers of sockets that fit into the limit of open files. */
  #fittingLimits(): SocketLimits {
    const { maxOpenSockets, backlogConn: maxWaiting } = this.#config;
    const limit = openFileLimit();
    const fitting = fitSockets(this.#givenLimits, { maxOpenSockets, maxWaiting }, limit);
    if (fitting.maxOpenSockets < maxOpenSockets) {
      console.warn(
        `httpsd: maxOpenSockets is ${fitting.maxOpenSockets} instead of ${maxOpenSockets}, and ` +
          `${fitting.maxWaiting} more may wait, since this process may open ${limit} files only: ` +
          "raise the limit (ulimit -n)",
      );
    }
    return fitting;
  }

  #admitted(connection: ConnectionEngine): void {
    if (this.#state === "stopping" || this.#state === "idle") {
      connection.destroy();
      return;
    }
    if (connection.tls?.alpn === ACME_TLS) {
      connection.close(); // the handshake was all that the challenge asks for (RFC 8737 section 3)
      return;
    }
    const driver = new Http1Connection(connection, this.#host);
    const { verifyClient, openFn } = this.#config;
    if (verifyClient === undefined && openFn === undefined) {
      this.#connected(driver);
    } else {
      this.#opening.add(driver);
      void this.#askHooks(driver);
    }
  }

  /** Asks the hooks whether the session may begin; the handshake's deadline holds for them too. */
  async #askHooks(driver: ConnectionDriver): Promise<void> {
    const { session } = driver;
    const { verifyClient, openFn, closeFn } = this.#config;
    try {
      const { peerCertificate, authorized } = session.tls ?? {};
      if (verifyClient !== undefined && peerCertificate !== undefined && authorized) {
        if (!lets("verifyClient", await verifyClient(peerCertificate, session))) {
          throw new TlsError(
            "TLS_CLIENT_CERT_INVALID",
            "Hook verifyClient refused the certificate",
          );
        }
      }
      if (session.connection.closed) return;
      if (openFn !== undefined && !lets("openFn", await openFn(session))) {
        throw new ConnectionError("CONNECTION_REFUSED", "Hook openFn refused the session");
      }
      if (!session.connection.closed) this.#connected(driver);
      else if (openFn !== undefined) this.#contain(() => closeFn?.(session, undefined), session);
    } catch (cause) {
      this.#turnAway(session, cause);
    } finally {
      this.#opening.delete(driver);
    }
  }

  /** A hook refused the session or failed; unless the client is gone, that ends it. */
  #turnAway(session: Session, cause: unknown): void {
    if (cause instanceof TlsError || cause instanceof ConnectionError) { // as the hook decided
      if (!session.connection.closed) session.destroy(cause);
      return;
    }
    const mistake = cause instanceof HttpsdError
      ? cause
      : new HttpsdError("HOOK_FAILED", "A hook threw", { cause });
    if (session.connection.closed) return this.#tellError(mistake, { session });
    if (!this.#listeners.has("error")) logMistake(mistake); // the connection's own end is no mistake
    session.destroy(
      new ConnectionError("CONNECTION_REFUSED", mistake.message, { cause: mistake.cause }),
    );
  }

  /** A session is over that the hooks had not let in. */
  #notOpened(session: Session, error: HttpsdError | undefined): void {
    if (error === undefined) return; // the client has left in good order
    this.#tellError(error, { session });
    this.#tellUser("error", { session: undefined, remoteAddress: session.remoteAddress, error });
  }

  #connected(driver: ConnectionDriver): void {
    const { session, connection } = driver;
    this.#sessions.add(driver);
    this.#lookForRoom();
    this.#tellUser("create", { session, remoteAddress: session.remoteAddress, error: undefined });
    if (this.#listeners.has("connected")) {
      this.dispatchEvent(new SessionEvent("connected", this, session));
    }
    if (connection.closed) return; // by a listener
    if (this.#listeners.has("http:connected")) {
      this.dispatchEvent(new SessionEvent("http:connected", this, session));
    }
    driver.begin();
  }

  /** Calls `userCallback`, which hears of TLS sessions only. */
  #tellUser(
    state: TlsSessionChange["state"],
    change: Pick<TlsSessionChange, "session" | "remoteAddress" | "error">,
  ): void {
    const { userCallback, tlsUserData, transportMode } = this.#config;
    if (userCallback === undefined || transportMode === "insecure") return;
    const { session } = change;
    this.#contain(
      () => userCallback({ ...change, state, tls: session?.tls, tlsUserData }),
      session,
    );
  }

  /** Runs a hook that has no say; what it throws becomes an `error` event. */
  #contain(hook: () => unknown, session?: Session): void {
    contain(
      hook,
      (cause) =>
        this.#tellError(new HttpsdError("HOOK_FAILED", "A hook threw", { cause }), { session }),
    );
  }

  #tellBytes(type: "data" | "sent", session: Session, bytes: number): void {
    if (!this.#listeners.has(type) || !this.#sessions.all.has(session)) return; // not yet, or no more
    this.dispatchEvent(new DataEvent(type, this, session, bytes));
  }

  #refused({ error, endpoints: { remoteAddress }, phase, sni }: Refusal): void {
    this.#counts.refused++;
    this.#tellError(error, { remoteAddress, phase, sni });
    this.#tellUser("error", { session: undefined, remoteAddress, error });
  }

  #ended(driver: ConnectionDriver, error: HttpsdError | undefined): void {
    const { session } = driver;
    if (!this.#sessions.remove(driver)) return this.#notOpened(session, error);
    this.#contain(() => this.#config.closeFn?.(session, error), session);
    if (this.#listeners.has("http:disconnected")) {
      this.dispatchEvent(new DisconnectedEvent("http:disconnected", this, session, error));
    }
    freeContext(session);
    this.#tellUser("close", { session, remoteAddress: session.remoteAddress, error });
    if (this.#listeners.has("disconnected")) {
      this.dispatchEvent(new DisconnectedEvent("disconnected", this, session, error));
    }
  }

  #tellAnswered(error: HttpError, session: Session): void {
    if (!this.#listeners.has("http:error")) return;
    this.dispatchEvent(new ServerErrorEvent("http:error", this, error, { session }));
  }

  #tellError(error: HttpsdError, where?: FailurePlace): void {
    // A handler may outlive its server, but no event comes after `stop`.
    if (this.#state === "idle") logMistake(error);
    else this.#tellErrorAnyway(error, where);
  }

  #tellErrorAnyway(error: HttpsdError, where?: FailurePlace): void {
    if (!this.#listeners.has("error")) logMistake(error);
    else this.dispatchEvent(new ServerErrorEvent("error", this, error, where));
  }

  /** What a listener threw becomes an `error` event. */
  #listenerFailed(type: string, cause: unknown): void {
    const error = new HttpsdError("LISTENER_FAILED", `A listener for ${type} threw`, { cause });
    if (type === "error") console.error(error);
    else this.#tellError(error);
  }
}

const STOP_OPTIONS = members({ drainMs: v.optional(milliseconds(0)) }, {
  advice: adviceFrom({
    timeout: "write drainMs",
    timeoutMs: "write drainMs",
    graceful: "write drainMs, 0 for at once",
    closeActiveConnections: "write drainMs: 0",
    force: "write drainMs: 0",
  }),
});

/**
 * Whether a hook's answer lets in: `true` alone does.
 *
 * @throws {HttpsdError} `HOOK_FAILED` for what is neither `true` nor `false`: it lets nobody in, and
 * is hardly meant
 */
function lets(hook: string, answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw new HttpsdError(
    "HOOK_FAILED",
    `Hook ${hook} answered ${shown(answer)}, which lets nobody in: return true or false`,
  );
}

/** The numbers of sockets that were asked for, by an option or a profile; others may be lowered. */
function givenLimits(
  { maxOpenSockets, backlogConn, profile }: HttpsServerOptions,
  config: Config,
): Partial<SocketLimits> {
  const isGiven = (option: number | undefined) =>
    option !== Infinity && (option !== undefined || profile !== undefined);
  return {
    ...(isGiven(maxOpenSockets) && { maxOpenSockets: config.maxOpenSockets }),
    ...(isGiven(backlogConn) && { maxWaiting: config.backlogConn }),
  };
}

/** The developer's own mistakes, which must not vanish where nobody listens; a client's noise may. */
const OWN_MISTAKES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "ALREADY_SENT",
  "BAD_RESPONSE",
  "BODY_USED",
  "HANDLER_FAILED",
  "HOOK_FAILED",
  "INVALID_CONFIG",
  "LISTENER_FAILED",
  "NOT_DETACHED",
  "NOT_SUPPORTED",
  "NOT_UPGRADABLE",
  "REQUEST_ENDED",
  "WS_CALLBACK_FAILED",
]);

/** Writes the developer's own mistake where nobody listens. */
function logMistake(error: HttpsdError): void {
  if (OWN_MISTAKES.has(error.code)) console.error(error);
}

/**
 * Starts a server that answers every request with `handler`: a function, or an object with such a
 * function as its `fetch`. Options and `fetch` may also be one object, as Deno and Bun have it.
 *
 * @throws {ConfigError} when an option or the certificate cannot be used, or there is no handler
 * @throws {ListenError} when the address cannot be opened
 */
export function serve(
  options: HttpsServerOptions,
  handler: FetchHandler | FetchApp,
): Promise<HttpsServer>;
/** Starts a server of one object that has the options and, as `fetch`, the handler. */
export function serve(app: HttpsServerOptions & FetchApp): Promise<HttpsServer>;
export async function serve(
  options: HttpsServerOptions,
  handler?: FetchHandler | FetchApp,
): Promise<HttpsServer> {
  const given = takeArguments<HttpsServerOptions, FetchHandler>("serve()", options, handler);
  if (given.handler === undefined) {
    throw new ConfigError(
      "INVALID_CONFIG",
      'serve() was given no handler: write serve(options, (request) => new Response("hello\\n")), ' +
        "or make new HttpsServer(options), add routes, and start it",
    );
  }
  const server = new HttpsServer(given.options, given.handler);
  await server.start();
  return server;
}
