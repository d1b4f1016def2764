/**
 * The server: its public face and its life from `start()` to `stop()`. The constructor connects the
 * rooms, in the order in which a connection comes through them: places → gate → reception → driver
 * → dispatcher → handler. The file is long because the face is: most lines are the documentation of
 * one member each.
 *
 * @module
 */
import * as v from "valibot";
import { selectorOptions } from "./certificates.ts";
import { withChallenges } from "./challenges.ts";
import {
  type Config,
  type EspIdfServerOptions,
  type HttpsServerOptions,
  type ReloadOptions,
  resolveConfig,
  resolveReload,
} from "./config.ts";
import type { FetchHost } from "./edge/driver.ts";
import { remoteOf } from "./edge/platform.ts";
import { ConfigError, HttpsdError, StateError } from "./errors.ts";
import { ServerEvent, type ServerEventListener, type ServerEventType } from "./events.ts";
import { connectionTransport, prepareSoon } from "./fetch/connection_transport.ts";
import {
  exchangeHandler,
  ExchangeInfo,
  type FetchApp,
  type FetchHandler,
} from "./fetch/fetch_handler.ts";
import { takeArguments } from "./fetch/handler.ts";
import { Hooks } from "./hooks.ts";
import { Dispatcher } from "./http/dispatcher.ts";
import type { ExchangeObserver } from "./http/exchange_report.ts";
import { ExchangeWatch } from "./http/exchange_watch.ts";
import { Router } from "./http/router.ts";
import type {
  ConnectionCounters,
  ServerHandle,
  ServerState,
  StopOptions,
} from "./http/server_handle.ts";
import type { ServerStats } from "./http/server_stats.ts";
import type { ConnectionDriver, Session } from "./http/session.ts";
import { type ErrorHandler, HttpdFace, type Middleware } from "./httpd/face.ts";
import { readerOf } from "./httpd/matcher.ts";
import { requestOf, takeFields } from "./httpd/request.ts";
import { WorkQueue } from "./httpd/work_queue.ts";
import type { Refusal } from "./net/admission.ts";
import type { Clock } from "./net/clock.ts";
import type { ConnectionEngine } from "./net/engine.ts";
import { Deadlines } from "./net/deadlines.ts";
import { Gate } from "./net/gate.ts";
import type { Arrival } from "./net/arrival.ts";
import { loadProxyHeaderReader } from "./net/steps/proxy_header.ts";
import { type Address, Listener } from "./net/listener.ts";
import { TrustedPeers } from "./net/trusted_peers.ts";
import { Unread } from "./net/unread.ts";
import { Unsent } from "./net/unsent.ts";
import { loadHttp2 } from "./protocols.ts";
import { redirectReader } from "./plain_http.ts";
import { adviceFrom, checkOptions, members, milliseconds, shown } from "./options.ts";
import type { ServerLimits } from "./limits.ts";
import { givenLimits, Places } from "./places.ts";
import { Reception } from "./reception.ts";
import { Reports } from "./reports.ts";
import { assertRuntime, type Capabilities, capabilities } from "./runtime/capabilities.ts";
import { mayLoadLater } from "./runtime/deno_parser.ts";
import { listens, succeed } from "./runtime/hot.ts";
import { ServerListeners } from "./server_listeners.ts";
import { SessionTable } from "./sessions.ts";
import { placeOf, share } from "./share.ts";
import { ContainedSource } from "./tls/certificate_source.ts";
import { Stats } from "./stats.ts";
import { defaultHost } from "./tls/options.ts";
import type { CertificateRotation } from "./tls/rotation.ts";
import type { BusStatus } from "./websocket/cluster/bus.ts";
import { BusLink } from "./websocket/cluster/bus_link.ts";
import { type BroadcastData, WebSocketHub } from "./websocket/hub.ts";
import { webSocketHandler } from "./websocket/late.ts";
import { withUpgrades } from "./websocket/offer.ts";
import { type Route, toHandlerRoute } from "./websocket/route.ts";
import type { ServerWebSocket } from "./websocket/socket.ts";

/** Answers requests without sockets; loaded with the first one, since most programs have none. */
let driver: typeof import("./edge/driver.ts") | undefined;

/** Makes a server with another clock for its deadlines, for tests. */
export let serverWithClock: (
  clock: Clock,
  options: HttpsServerOptions,
  handler?: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
) => HttpsServer;

/** An HTTPS server (original: `httpd_handle_t`). It can be started again after it was stopped. */
export class HttpsServer extends EventTarget implements ServerHandle, AsyncDisposable {
  /** The clock of the server that is being made, if it is to have another than the system's. */
  static #clock: Clock | undefined;
  static {
    serverWithClock = (clock, options, handler) => {
      HttpsServer.#clock = clock;
      try {
        return new HttpsServer(options, handler);
      } finally {
        HttpsServer.#clock = undefined;
      }
    };
  }

  readonly #listeners = new ServerListeners(
    (type, cause) => this.#listenerFailed(type, cause),
    (type) => type === "http:exchange" && this.#watch.hear(),
  );
  readonly #config: Config;
  readonly #router: Router;
  readonly #dispatcher: Dispatcher;
  readonly #httpd: HttpdFace<HttpsServer>;
  readonly #work: WorkQueue;
  readonly #gate: Gate;
  readonly #places: Places;
  readonly #sessions: SessionTable<ConnectionDriver>;
  /** Connections that the hooks have not let in yet. */
  readonly #opening = new Set<ConnectionDriver>();
  readonly #reports: Reports;
  readonly #hooks: Hooks;
  readonly #reception: Reception;
  readonly #hub: WebSocketHub;
  readonly #source: ContainedSource | undefined;
  readonly #watch: ExchangeWatch;
  readonly #stats: Stats;
  /** Carries messages between the hub and those of other processes. */
  readonly #busLink: BusLink | undefined;
  #state: ServerState = "idle";
  #referenced = true;
  /** Takes it off the list of servers that give their place to those of `bun --hot`. */
  #unlist: () => void = () => {};
  /** Prevents what is to be done once the server runs. */
  #unprepare: () => void = () => {};
  /** Whether the server has run, or tried to, and is at rest again. */
  #isOver = false;
  /** Whether connections that were accepted before the stop still become sessions. */
  #letsNewcomersIn = false;
  #certificates: CertificateRotation | undefined;
  #listener: Listener | undefined;
  #stopping: Promise<void> | undefined;
  /** Settled when the server is at rest; `undefined` where nothing waits for that. */
  #finished: PromiseWithResolvers<void> | undefined;
  #madeFetchHost: FetchHost | undefined;
  /** Which of a worker's servers it is whose port the system chooses. */
  readonly #nth: number | undefined;

  // The ordinary form is last: TypeScript reports errors against that one.
  /** Makes a server of options that have the original's names. */
  constructor(
    options: EspIdfServerOptions,
    handler?: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
  );
  /**
   * Makes a server that does not listen yet. `handler` answers what no route answers: a function, or
   * an object with such a function as its `fetch`, which may be one with the options too.
   *
   * @throws {ConfigError} `INVALID_CONFIG` naming the option, or saying what to write;
   * `NOT_SUPPORTED` for an option that this runtime would have to ignore
   */
  constructor(
    options: HttpsServerOptions,
    handler?: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
  );
  constructor(
    options: HttpsServerOptions,
    handler?: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
  ) {
    super();
    assertRuntime();
    const given = takeArguments<HttpsServerOptions, FetchHandler<HttpsServer>>(
      "new HttpsServer()",
      options,
      handler,
    );
    const place = placeOf(resolveConfig(given.options));
    const config = this.#config = place.config;
    this.#nth = place.nth;
    const { limits, timeouts } = config;
    const selector = () => this.#certificates?.selector;
    const reports = this.#reports = new Reports({
      server: this,
      listeners: this.#listeners,
      atRest: () => this.#state === "idle",
    });
    const hooks = this.#hooks = new Hooks(config, reports);
    const source = this.#source = config.certificates &&
      new ContainedSource(config.certificates, reports);
    this.#work = new WorkQueue(limits.maxQueuedWork);
    const deadlines = new Deadlines([
      timeouts.handshakeMs,
      timeouts.headersMs,
      timeouts.receiveMs,
      timeouts.sendMs,
      timeouts.idleMs,
      timeouts.lingerMs,
      timeouts.requestMs,
      timeouts.handlerMs,
    ], HttpsServer.#clock);

    // From the socket to the session.
    const unread = new Unread(limits.maxUnreadBytes);
    const unsent = new Unsent(limits.maxUnsentBytes, deadlines.clock);
    const gate = this.#gate = new Gate({
      selector,
      proxy: config.proxyProtocol && {
        trusted: new TrustedPeers(
          config.proxyProtocol.trustedProxies,
          () => this.#listener?.unix === true,
        ),
        required: config.proxyProtocol.mode === "required",
      },
      readPlain: config.redirectHttp
        ? () => redirectReader((host) => selector()?.isFor(host) === true)
        : undefined,
      maxConnectionsPerAddress: limits.maxConnectionsPerAddress,
      maxHandshakes: limits.maxHandshakes,
      handshakeMs: timeouts.handshakeMs,
      sendTimeoutMs: timeouts.sendMs,
      lingerMs: timeouts.lingerMs,
      deadlines,
      unread,
      unsent,
      admitted: (connection) => this.#admitted(connection),
      refused: (refusal) => this.#refused(refusal),
    });
    const sessions = this.#sessions = new SessionTable({
      now: () => deadlines.clock.now(),
      oneLine: config.profile === "esp-idf",
    });
    const opening = this.#opening;
    const places = this.#places = new Places({
      config,
      given: givenLimits(given.options, config),
      deadlines,
      gate,
      sessions,
      opening,
      refused: (error, endpoints) => {
        this.#listener?.checkSoon();
        this.#refused({ error, endpoints, phase: "accept", hello: undefined });
      },
    });

    // From the session to the handler.
    const { handler: handle } = given;
    const { uriMatch } = config;
    const { maxResponseFields } = limits;
    this.#router = new Router(uriMatch, limits.maxRoutes, readerOf(uriMatch));
    const fallback = handle &&
      exchangeHandler((request, exchange) => handle(request, new ExchangeInfo(exchange, this)));
    const dispatcher = this.#dispatcher = new Dispatcher(
      source !== undefined && config.transportMode === "insecure"
        ? withChallenges(source, this.#router, fallback)
        : this.#router,
      fallback,
      config.responseFields,
    );
    this.#httpd = new HttpdFace({
      requests: { requestOf, takeFields },
      server: this,
      uriMatch,
      maxResponseFields,
      failures: dispatcher,
    });
    const hub = this.#hub = new WebSocketHub({
      failed: (session, error) => reports.error(error, { session }),
      touched: (session) => session.touch(),
      opened: (ws) => {
        this.#stats.webSockets++;
        reports.webSocket("websocket:open", ws);
      },
      closed: (ws) => reports.webSocket("websocket:close", ws),
    });
    const watch = this.#watch = new ExchangeWatch({
      ended: (exchange) => reports.exchange(exchange),
      observerFailed: (cause) =>
        reports.errorAtAnyTime(new HttpsdError("HOOK_FAILED", "An observer threw", { cause })),
    });
    const stats = this.#stats = new Stats({
      secure: config.transportMode !== "insecure",
      places,
      gate,
      sessions,
      opening,
      watch,
      unread,
      unsent,
      websockets: () => hub.sockets.size,
      selector,
    });
    if (config.bus !== undefined) {
      const link = this.#busLink = new BusLink(config.bus, {
        clock: deadlines.clock,
        maxBufferBytes: limits.maxBusBufferBytes,
        maxMessageBytes: limits.maxBusMessageBytes,
        timeoutMs: timeouts.busMs,
        deliver: (topic, message) => hub.deliver(topic, message),
        stateChanged: (state, error) => reports.busState(state, error),
        gap: (gap) => reports.busGap(gap),
        failed: (error) => reports.error(error),
      });
      hub.join(link);
    }
    const transport = withUpgrades(connectionTransport, this.#hub);
    this.#reception = new Reception({
      config,
      transport,
      dispatcher,
      sessions,
      opening,
      places,
      hooks,
      reports,
      leaving: () => this.#state === "stopping",
      watch,
      stats,
      selector,
    });
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
   * Resolves when the server has stopped, whatever has stopped it, as in `Deno.serve()`: at once on
   * one that has, and for one that is not started yet when it stops or its start fails. Never rejects.
   */
  get finished(): Promise<void> {
    if (this.#finished === undefined) {
      this.#finished = Promise.withResolvers();
      if (this.#isOver) this.#finished.resolve();
    }
    return this.#finished.promise;
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

  /** What the option `bus` does and has done; `undefined` without it. */
  get bus(): BusStatus | undefined {
    return this.#busLink?.status;
  }

  /**
   * Sends a message to all WebSockets, or to those that `filter` picks; it is encoded once. A
   * client that does not read delays no other. With the option `bus`, those of other processes get
   * it too, unless there is a filter, which can be called for those of this server only.
   *
   * @returns to how many of this server it was sent
   * @throws {WebSocketError} `WS_CANNOT_SEND` for what is neither text nor bytes, and with a bus for
   * more than `limits.maxBusMessageBytes`
   */
  broadcast(data: BroadcastData, filter?: (ws: ServerWebSocket) => boolean): number {
    return this.#hub.broadcast(data, filter);
  }

  /**
   * Sends a message to all WebSockets that subscribed to `topic`; it is encoded once. With the option
   * `bus`, those of other processes get it too.
   *
   * @returns to how many of this server it was sent
   * @throws {ConfigError} `INVALID_CONFIG` for a topic that is not text, or no name for the bus
   * @throws {WebSocketError} as {@linkcode HttpsServer.broadcast}
   */
  publish(topic: string, data: BroadcastData): number {
    return this.#hub.publish(topic, data);
  }

  /** The sessions that are open now. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions.all;
  }

  /**
   * The sessions that may be closed to make room for a new connection, in the order in which they
   * would be; those inside a request are not among them. Connections that are slow in their handshake
   * go before all of these, new ones are safe for a moment, and with `limits.lruPurge: false` none is
   * closed (original: `httpd_sess_close_lru`). It looks at each session that is open.
   */
  purgeOrder(): Session[] {
    return this.#sessions.inOrder();
  }

  /**
   * The limits in force: those of the options and their defaults, except that `maxConnections` and
   * `backlog` are what fits into the process's limit of open files.
   */
  get limits(): Required<ServerLimits> {
    return { ...this.#config.limits, ...this.#places.limits };
  }

  /** How many connections there are, and how many there were since the server was made. */
  get counters(): ConnectionCounters {
    const { open, waiting, purged } = this.#places;
    const { accepted, refusedAtGate: refused } = this.#stats;
    return { open, waiting, purged, accepted, refused };
  }

  /**
   * What the server does and has done, counted at all times: connections, handshakes, requests,
   * WebSockets, bytes, and the certificates in force. It looks at each session that is open.
   */
  stats(): ServerStats {
    return this.#stats.all;
  }

  /**
   * Has an observer follow each request from now on, from its head to its end; the function that is
   * returned ends that. It may run handlers in a context of its own, as tracing does. Where only the
   * end is of interest, listen for `http:exchange`.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not an observer
   */
  observe(observer: ExchangeObserver): () => void {
    return this.#watch.observe(observer);
  }

  /**
   * Adds a route; at any time (original: `httpd_register_uri_handler`).
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not a route, or one that no request could
   * reach
   * @throws {StateError} `HANDLER_EXISTS`, `HANDLERS_FULL`
   */
  route(route: Route<HttpsServer>): this {
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
   * Runs `middleware` around all that answers requests: routes, the fetch handler, the 404; inside of
   * those that were added before, whenever the routes were added. Fields that it sets before `next()`
   * are those of every answer, errors too, unless the answer has its own; `Set-Cookie` and `Vary` are
   * added to those of the answer. What it throws is answered as the throw of a handler.
   *
   * It is asked about every request that could be read and is for a host of the server; requests of
   * WebSockets too, whose 101 has no fields of others.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not a function
   */
  use(middleware: Middleware<HttpsServer>): this {
    this.#dispatcher.use(this.#httpd.middleware(middleware));
    return this;
  }

  /** Answers all errors that have no handler for their status with `handler`; `null` undoes that. */
  onError(handler: ErrorHandler<HttpsServer> | null): this;
  /**
   * Answers errors of a status with `handler` instead of the standard answer; `null` undoes that
   * (original: `httpd_register_err_handler`). The 503 of `timeouts.handlerMs` and `detach()` is not
   * passed to it, since no handler may delay it further.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a status that is not an error's, or what is not a
   * handler
   */
  onError(status: number, handler: ErrorHandler<HttpsServer> | null): this;
  onError(
    ...given: [ErrorHandler<HttpsServer> | null] | [number, ErrorHandler<HttpsServer> | null]
  ): this {
    this.#dispatcher.onError(...this.#httpd.errorHandler(...given));
    return this;
  }

  /**
   * Answers a request that came on no socket of this server, with the same routes, error handlers
   * and fetch handler; whether it runs or not. So routes can be tried out without a port, and
   * `Deno.serve(server.fetch)` serves them where the platform ends TLS.
   *
   * `platform` is what the platform passes besides the request: the client's address is taken from
   * there on Deno and Bun; it is empty where that does not say. What needs a socket throws
   * `NOT_SUPPORTED` (`session.connection`, `session.send()`, `rawHead`, `inform()`, `sendRaw()`),
   * WebSocket routes answer 501 (426 to a request that is not a handshake), trailer fields are
   * neither received nor sent, and of events only `error`, `http:error` and `http:exchange` are
   * dispatched. A client that is gone (`request.signal`) is answered with an empty 499.
   *
   * @throws {ConnectionError} `CONNECTION_ABORTED` (as a rejection) when a handler calls
   * `session.destroy()` before there is an answer
   */
  readonly fetch: (request: Request, ...platform: unknown[]) => Promise<Response> = async (
    request,
    ...platform
  ) => {
    const peer = { ...remoteOf(request, platform), tls: undefined };
    driver ??= await import("./edge/driver.ts");
    return await driver.answerFetch(this.#fetchHost, request, peer, platform);
  };

  /** What answers requests without sockets. */
  get #fetchHost(): FetchHost {
    if (this.#madeFetchHost !== undefined) return this.#madeFetchHost;
    const { limits: { maxBodyBytes }, timeouts: { handlerMs } } = this.#config;
    return this.#madeFetchHost = {
      dispatcher: this.#dispatcher,
      watch: this.#watch,
      maxBodyBytes,
      handlerMs,
      failed: (error, session) => this.#reports.errorAtAnyTime(error, { session }),
      errorAnswered: (error, session) => this.#reports.errorAnswered(error, session),
    };
  }

  /**
   * Runs `work` between requests, in the order given, and resolves with its result (original:
   * `httpd_queue_work`). What it throws is reported in an `error` event too, so that the promise
   * may be ignored.
   *
   * @throws {StateError} `QUEUE_FULL` (as a rejection) when `limits.maxQueuedWork` wait already
   */
  queueWork<T>(work: () => T | Promise<T>): Promise<T> {
    const result = typeof work === "function" ? this.#work.queue(work) : Promise.reject(
      new ConfigError("INVALID_CONFIG", `queueWork() takes a function, not ${shown(work)}`),
    );
    result.catch((cause) =>
      this.#reports.error(
        cause instanceof HttpsdError
          ? cause
          : new HttpsdError("HOOK_FAILED", "Queued work threw", { cause }),
      )
    );
    return result;
  }

  /**
   * Calls `listener` for each event of `type`; what it throws becomes an `error` event. Events
   * without a listener are not created: adding none is the switch that turns them off (original:
   * `CONFIG_HTTPD_ENABLE_EVENTS`).
   *
   * @throws {ConfigError} `INVALID_CONFIG` for an unknown event, or what is not a listener
   */
  override addEventListener<T extends ServerEventType>(
    type: T,
    listener: ServerEventListener<T, HttpsServer> | null,
    options?: AddEventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.addEventListener(type, this.#listeners.wrap(type, listener), options);
  }

  /** Stops calling `listener` for events of `type`. */
  override removeEventListener<T extends ServerEventType>(
    type: T,
    listener: ServerEventListener<T, HttpsServer> | null,
    options?: EventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.removeEventListener(type, this.#listeners.wrapperOf(listener), options);
  }

  /** What handlers share: the option `globalUserContext` (original: `httpd_get_global_user_ctx`). */
  get context(): unknown {
    return this.#config.globalUserContext;
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
    if (this.#isOver) this.#finished = undefined;
    this.#isOver = false;
    this.#state = "starting";
    signal?.addEventListener("abort", this.#stopOnAbort, { once: true });
    try {
      await this.#open();
      this.#assertNotStopped(); // by what ran in between
    } catch (error) {
      this.#shut();
      await this.#source?.stop();
      this.#rest();
      throw error;
    }
    this.#state = "running";
    this.#unprepare = prepareSoon();
    this.dispatchEvent(new ServerEvent("http:start", this));
    this.dispatchEvent(new ServerEvent("start", this));
    if (this.#state === "running") this.#begin(); // a listener may have stopped it
  }

  /** Begins what goes on while the server runs. */
  #begin(): void {
    this.#certificates?.begin();
    this.#stats.begin();
    this.#busLink?.open();
  }

  async #open(): Promise<void> {
    const { hostname, reusePort, path, pathMode, fd, limits: { backlog } } = this.#config;
    const port = this.#nth === undefined ? this.#config.port : share()?.port(this.#nth) ?? 0;
    this.#places.fitOpenFiles();
    await this.#busLink?.load();
    if (this.#config.proxyProtocol !== undefined) await loadProxyHeaderReader();
    await this.#loadProtocols();
    this.#certificates = await this.#openCertificates();
    this.#assertNotStopped();
    if (this.#certificates !== undefined) await this.#source?.start(this.#config.port);
    this.#assertNotStopped();
    const place = path ?? (fd === undefined ? `${hostname}:${port}` : `fd ${fd}`);
    const before = succeed(place);
    this.#listener = await Listener.open(
      {
        hostname,
        port: port === 0 ? before ?? 0 : port,
        backlog,
        reusePort,
        path,
        pathMode,
        fd,
        tls: this.#certificates !== undefined,
      },
      (arrival) => this.#accepted(arrival),
      (error) => this.#reports.error(error),
    );
    const { port: actual } = this.#listener.address;
    this.#unlist = listens([place, `${hostname}:${actual}`], actual, () => void this.stop());
    if (!this.#referenced) this.#listener.unref();
    this.#assertNotStopped();
    share()?.listening(this, this.#listener.address.port, this.#nth);
  }

  #assertNotStopped(): void {
    if (this.#state === "starting") return;
    this.#config.signal?.throwIfAborted();
    throw new StateError("NOT_STARTED", "The server was stopped while it started");
  }

  /** Stops accepting and refuses connections that have not been admitted yet. */
  #shut(): void {
    this.#config.signal?.removeEventListener("abort", this.#stopOnAbort);
    this.#unprepare();
    this.#listener?.close();
    this.#certificates?.close();
    this.#places.close();
    this.#gate.close();
    for (const { session } of this.#opening) session.destroy();
  }

  /** Loads what may be agreed on in a handshake, so that no client waits for it. */
  async #loadProtocols(): Promise<void> {
    const { transportMode, http1, http2 } = this.#config;
    if (http2 === false) return;
    if (transportMode === "secure" || !http1 || !mayLoadLater()) await loadHttp2();
  }

  async #openCertificates(): Promise<CertificateRotation | undefined> {
    const config = this.#config;
    if (config.transportMode === "insecure") return undefined;
    const { CertificateRotation } = await import("./tls/rotation.ts");
    return await CertificateRotation.open(selectorOptions(config, this.#source), config, {
      failed: (cause) =>
        this.#reports.error(
          new ConfigError("INVALID_CERTIFICATE", "A watched certificate could not be reloaded", {
            cause,
          }),
        ),
      expiring: (identity) => this.#reports.expiring(identity),
    });
  }

  /**
   * Changes certificates and client CAs while the server runs: what is given replaces what was
   * there, what is left out stays. Open connections continue; new handshakes get the new
   * certificates. A pair that is rejected throws, and nothing changes.
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
    let checked: StopOptions;
    try {
      checked = checkOptions("stop()", STOP_OPTIONS, options) as StopOptions;
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#state === "idle") return Promise.resolve();
    return this.#stopping ??= this.#state === "starting"
      ? this.#stopStarting()
      : this.#stop(checked);
  }

  /** The start sees the new state at its next step, fails, and ends what it has begun. */
  #stopStarting(): Promise<void> {
    this.#state = "stopping";
    return this.finished;
  }

  async #stop(
    { drainMs = this.#config.timeouts.drainMs, newcomersMs = 0 }: StopOptions,
  ): Promise<void> {
    this.#state = "stopping";
    const deadline = performance.now() + drainMs;
    if (newcomersMs > 0) await this.#serveNewcomers(newcomersMs, drainMs);
    this.#shut();
    for (const session of this.#sessions.all) session.close();
    if (!await this.#sessions.emptyWithin(Math.max(0, deadline - performance.now()))) {
      for (const session of this.#sessions.all) session.destroy();
    }
    await Promise.all([this.#source?.stop(), this.#busLink?.close(), this.#watch.settle()]);
    const { globalUserContext, globalUserContextFree } = this.#config;
    this.#hooks.run(() => globalUserContextFree?.(globalUserContext));
    this.#rest();
    this.dispatchEvent(new ServerEvent("http:stop", this));
    this.dispatchEvent(new ServerEvent("stop", this));
  }

  /**
   * Accepts no more, and serves those that have come already one request each; others are closed, at
   * once or when they have sent nothing for `silentMs`, in which time this loop goes round often.
   */
  async #serveNewcomers(silentMs: number, ms: number): Promise<void> {
    this.#listener?.close();
    this.#letsNewcomersIn = true;
    const deadline = performance.now() + ms;
    const rounds = new Map<Session, number>();
    let waiting: number;
    do {
      waiting = this.#gate.size + this.#opening.size + this.#places.waiting;
      for (const session of this.#sessions.all) {
        const seen = (rounds.get(session) ?? 0) + 1;
        rounds.set(session, seen);
        // A session that was closed before is so again: what it is inside of is its last request.
        if (session.requests > 0 || seen * NEWCOMERS_CHECK_MS > silentMs) session.close();
        else waiting++;
      }
      await new Promise((resolve) => setTimeout(resolve, NEWCOMERS_CHECK_MS));
    } while (waiting > 0 && performance.now() < deadline);
    this.#letsNewcomersIn = false;
  }

  /** Is as before the start. */
  #rest(): void {
    this.#stats.stop();
    share()?.stopped(this);
    this.#unlist();
    this.#listener = undefined;
    this.#certificates = undefined;
    this.#stopping = undefined;
    this.#state = "idle";
    this.#isOver = true;
    this.#finished?.resolve();
  }

  readonly #stopOnAbort = (): void => void this.stop();

  /**
   * Lets the process end while the server listens, once nothing else keeps it alive, as in Node;
   * connections that are open do. At any time; it lasts over `stop()` and `start()`.
   */
  unref(): this {
    this.#referenced = false;
    this.#listener?.unref();
    return this;
  }

  /** Keeps the process alive while the server listens, as at first. */
  ref(): this {
    this.#referenced = true;
    this.#listener?.ref();
    return this;
  }

  /** Stops as {@linkcode HttpsServer.stop} does; for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #accepted(arrival: Arrival): void {
    const { keepAlive } = this.#config;
    this.#stats.accepted++;
    if (keepAlive !== false) arrival.keepAlive(keepAlive === true ? 0 : keepAlive.idleMs);
    this.#places.offer(arrival);
  }

  #admitted(connection: ConnectionEngine): void {
    if ((this.#state === "stopping" && !this.#letsNewcomersIn) || this.#state === "idle") {
      connection.destroy();
      return;
    }
    this.#stats.admitted(connection.tls);
    this.#reception.take(connection);
  }

  #refused({ error, endpoints: { remoteAddress }, phase, hello }: Refusal): void {
    this.#stats.refusedAtGate++;
    this.#stats.refused(error);
    this.#reports.refused(error, { remoteAddress, phase, sni: hello?.serverName, hello });
    this.#hooks.refused(remoteAddress, error);
  }

  /** What a listener threw becomes an `error` event. */
  #listenerFailed(type: string, cause: unknown): void {
    const error = new HttpsdError("LISTENER_FAILED", `A listener for ${type} threw`, { cause });
    if (type === "error") console.error(error);
    else this.#reports.error(error);
  }
}

/** How often a server that stops checks whether those that have come have been served, in ms. */
const NEWCOMERS_CHECK_MS = 10;

const STOP_OPTIONS = members({
  drainMs: v.optional(milliseconds(0)),
  newcomersMs: v.optional(milliseconds(0)),
}, {
  advice: adviceFrom({
    timeout: "write drainMs",
    timeoutMs: "write drainMs",
    graceful: "write drainMs, 0 for at once",
    closeActiveConnections: "write drainMs: 0",
    force: "write drainMs: 0",
  }),
});

/** Starts a server of options that have the original's names. */
export function serve(
  options: EspIdfServerOptions,
  handler: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
): Promise<HttpsServer>;
/** Starts a server of one object that has the options and, as `fetch`, the handler. */
export function serve(app: HttpsServerOptions & FetchApp<HttpsServer>): Promise<HttpsServer>;
/** Starts a server of one object that has options with the original's names, and `fetch`. */
export function serve(app: EspIdfServerOptions & FetchApp<HttpsServer>): Promise<HttpsServer>;
/**
 * Starts a server that answers every request with `handler`: a function, or an object with such a
 * function as its `fetch`. Options and `fetch` may also be one object, as Deno and Bun have it.
 *
 * @throws {ConfigError} when an option or the certificate cannot be used, or there is no handler
 * @throws {ListenError} when the address cannot be opened
 */
export function serve(
  options: HttpsServerOptions,
  handler: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
): Promise<HttpsServer>;
export async function serve(
  options: HttpsServerOptions,
  handler?: FetchHandler<HttpsServer> | FetchApp<HttpsServer>,
): Promise<HttpsServer> {
  const given = takeArguments<HttpsServerOptions, FetchHandler<HttpsServer>>(
    "serve()",
    options,
    handler,
  );
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
