/**
 * The routes of an httpsd server where the platform ends TLS: under `deno serve`, as Bun's default
 * export, on Cloudflare Workers, or anywhere else that calls a `fetch`. Nothing here needs a
 * socket, so nothing here can ask for `node:net`, `node:tls` or `node:http`.
 *
 * @example
 * ```ts
 * import { createEdgeApp } from "@httpsd/httpsd/edge";
 *
 * const app = createEdgeApp({}, (request, { session }) =>
 *   new Response(`hello ${session.remoteAddress}`));
 * app.route({ uri: "/uri", method: "GET", handler: (request) => request.send("hello") });
 *
 * export default app;
 * ```
 *
 * What differs from a request on a socket: `headers` are as the platform's `Headers` has them,
 * `uri` is the path and query of the normalised URL, a session lasts for one request, and
 * `session.connection`, `session.send()`, `rawHead`, `inform()`, `sendRaw()` and `server` throw
 * `NOT_SUPPORTED`. Trailer fields are neither received nor sent, WebSocket routes answer 501 (426
 * to requests that are not a handshake), and of events only errors are reported.
 *
 * @module
 */
import { contain, ignore } from "../contain/callbacks.ts";
import { HttpsdError } from "../errors.ts";
import { platformRequest } from "../fetch/platform_requests.ts";
import { takeArguments } from "../fetch/handler.ts";
import { Dispatcher } from "../http/dispatcher.ts";
import type { ExchangeObserver } from "../http/exchange_report.ts";
import type { ExchangeWatch } from "../http/exchange_watch.ts";
import { assertObserver } from "../http/observer.ts";
import { exchangeHandler, nameRoute } from "../fetch/fetch_handler.ts";
import type { Exchange } from "../http/exchange.ts";
import { type ErrorHandler, HttpdFace, type Middleware, type RequestMaker } from "../httpd/face.ts";
import { Router } from "../http/router.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { Session } from "../http/session.ts";
import type { ForwardedField } from "./forwarded.ts";
import { type EdgeOptions, resolveEdgeConfig } from "./options.ts";
import { remoteOf } from "./platform.ts";
import { answerFetch, type FetchHost } from "./driver.ts";
import { isTlsKnown } from "./tls_known.ts";
import { readerOf } from "../httpd/matcher.ts";
import type { HttpdRequest } from "../httpd/request.ts";
import { refuseUpgrade, type Route, toHandlerRoute } from "../websocket/route.ts";

export type { HandlerRoute, RouteHandler } from "../httpd/route.ts";
export type { Route, WebSocketRoute } from "../websocket/route.ts";
export type { ErrorHandler, Middleware } from "../httpd/face.ts";
export type { HttpdRequest } from "../httpd/request.ts";
export type { CookieOptions } from "../httpd/set_cookie.ts";
export { matchExact, matchWildcard, type UriMatcher } from "../httpd/matcher.ts";
export type { ForwardedField } from "./forwarded.ts";

export type { EdgeOptions, SharedOptions } from "./options.ts";

/** What a fetch handler is given besides the request. */
export interface EdgeInfo {
  /** What is known of the client. */
  readonly session: Session;
  /** What the platform passed besides the request, such as Cloudflare's `env` and `ctx`. */
  readonly platform: readonly unknown[];
  /**
   * The template of the route that answers, such as `/items/:id`, for observers, metrics, traces and
   * logs: set by a handler with routes of its own. Default: `undefined`.
   *
   * @throws {ConfigError} `INVALID_CONFIG` (when it is set) for anything but a text or `undefined`
   */
  route: string | undefined;
}

/** Answers a request with a response. */
export type EdgeHandler = (request: Request, info: EdgeInfo) => Response | Promise<Response>;

/** Which of a server's abilities an edge app has. */
export interface EdgeCapabilities {
  /** TLS is ended here. */
  readonly tls: false;
  /** Requests become WebSockets. */
  readonly webSocket: false;
  /** Interim responses, such as 103. */
  readonly interimResponses: false;
  /** Raw heads and raw answers. */
  readonly raw: false;
  /** Trailer fields. */
  readonly trailers: false;
}

const CAPABILITIES: EdgeCapabilities = Object.freeze({
  tls: false,
  webSocket: false,
  interimResponses: false,
  raw: false,
  trailers: false,
});

/** Makes the requests of routes; loaded where there are some, as apps of a fetch handler have none. */
let requests: typeof import("../httpd/request.ts") | undefined;

const REQUESTS: RequestMaker = {
  requestOf: (...given) => requests!.requestOf(...given),
  takeFields: (request) => requests!.takeFields(request),
  async load() {
    requests ??= await import("../httpd/request.ts");
  },
};

/** Routes, error handlers and a fetch handler, to be called by a platform. */
export class EdgeApp {
  readonly #router: Router;
  readonly #httpd: HttpdFace;
  readonly #host: FetchHost;
  /** Follows each request; made with the first observer. */
  #watch: ExchangeWatch | undefined;
  /** What the next request has to wait for. */
  readonly #loading = new Set<() => Promise<void>>();
  readonly #trusted: ForwardedField | undefined;

  /**
   * Makes an app without routes; {@linkcode createEdgeApp} says more.
   *
   * @throws {ConfigError} `INVALID_CONFIG` naming the option
   */
  constructor(options: EdgeOptions = {}, handler?: EdgeHandler | { fetch: EdgeHandler }) {
    const given = takeArguments<EdgeOptions, EdgeHandler>("createEdgeApp()", options, handler);
    const config = resolveEdgeConfig(given.options);
    const { reportError } = config;
    this.#trusted = config.trustForwardedCertificates;
    const { uriMatch, timeouts: { handlerMs } } = config;
    const { maxRoutes, maxResponseFields, maxBodyBytes } = config.limits;
    const { handler: handle } = given;
    this.#router = new Router(uriMatch, maxRoutes, readerOf(uriMatch));
    const dispatcher = new Dispatcher(
      this.#router,
      handle &&
        exchangeHandler((request, exchange) => handle(request, infoOf(request, exchange))),
      config.responseFields,
    );
    this.#httpd = new HttpdFace<ServerHandle>({
      requests: REQUESTS,
      server: undefined,
      uriMatch,
      maxResponseFields,
      failures: dispatcher,
    });
    this.#host = {
      dispatcher,
      watch: {
        begins: (exchange) => this.#watch?.begins(exchange),
        tell: (record) => this.#watch!.tell(record),
        run: (record, handle) => this.#watch!.run(record, handle),
        ends: (record, ...how) => record && this.#watch!.ends(record, ...how),
      },
      maxBodyBytes,
      handlerMs,
      failed: (error, session) => report(reportError, error, session),
      errorAnswered: () => {}, // there are no events of an app
    };
  }

  /**
   * Has an observer follow each request from now on, from its head to its end; the function that is
   * returned ends that. What the observer throws goes to `console.error`.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not an observer
   */
  observe(observer: ExchangeObserver): () => void {
    assertObserver(observer);
    let end: (() => void) | undefined;
    let isOver = false;
    this.#needs(async () => {
      const { ExchangeWatch } = await import("../http/exchange_watch.ts");
      if (isOver || end !== undefined) return;
      this.#watch ??= new ExchangeWatch({
        ended: () => {}, // there are no events of an app
        observerFailed: (cause) => console.error(failedObserver(cause)),
      });
      end = this.#watch.observe(observer);
    });
    return () => {
      isOver = true;
      end?.();
    };
  }

  /** What works here; nothing that needs a socket does. */
  get capabilities(): EdgeCapabilities {
    return CAPABILITIES;
  }

  /**
   * Answers a request. `platform` is what the platform passes besides it: the client's address is
   * taken from there on Deno and Bun, and from Cloudflare's own field on Workers. Errors of handlers
   * are answered; for a client that has left the answer is an empty 499, which is never read.
   *
   * It can be passed on without its app, as to `Deno.serve()`.
   *
   * @throws {ConnectionError} `CONNECTION_ABORTED` (as a rejection) when a handler calls
   * `session.destroy()` before there is an answer
   */
  readonly fetch: (request: Request, ...platform: unknown[]) => Promise<Response> = async (
    request,
    ...platform
  ) => {
    const tls = isTlsKnown(request, this.#trusted)
      ? await (await import("./tls.ts")).tlsOf(request, this.#trusted)
      : undefined;
    for (const load of this.#loading) {
      await load();
      this.#loading.delete(load);
    }
    return await answerFetch(
      this.#host,
      request,
      { ...remoteOf(request, platform), tls },
      platform,
    );
  };

  /**
   * Loads something now, and has requests wait for it. Each loads it by itself: on some platforms
   * none may wait for a promise of another's.
   */
  #needs(load: () => Promise<void>): void {
    this.#loading.add(load);
    load().catch(ignore); // the next request meets it
  }

  /**
   * Adds a route; at any time.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not a route, or one that no request could
   * reach
   * @throws {StateError} `HANDLER_EXISTS`, `HANDLERS_FULL`
   */
  route(route: Route): this {
    this.#router.add(this.#httpd.route(toHandlerRoute(route, () => refuseWebSocket)));
    this.#needs(REQUESTS.load!);
    return this;
  }

  /**
   * Removes the route of a template and method, or all routes of the template; requests under way
   * keep theirs.
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
  use(middleware: Middleware): this {
    this.#host.dispatcher.use(this.#httpd.middleware(middleware));
    this.#needs(REQUESTS.load!);
    return this;
  }

  /** Answers all errors that have no handler for their status with `handler`; `null` undoes that. */
  onError(handler: ErrorHandler | null): this;
  /**
   * Answers errors of a status with `handler` instead of the standard answer; `null` undoes that. The 503 of `timeouts.handlerMs` and `detach()` is not
   * passed to it, since no handler may delay it further.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a status that is not an error's, or what is not a
   * handler
   */
  onError(status: number, handler: ErrorHandler | null): this;
  onError(...given: [ErrorHandler | null] | [number, ErrorHandler | null]): this {
    this.#host.dispatcher.onError(...this.#httpd.errorHandler(...given));
    this.#needs(REQUESTS.load!);
    return this;
  }
}

/**
 * Makes an app for a platform that ends TLS itself; `handler`, a function or an object with such a
 * `fetch`, answers what no route answers. Export it as default for `deno serve`, Bun and Cloudflare
 * Workers, or pass its `fetch` to other code.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function createEdgeApp(
  options: EdgeOptions = {},
  handler?: EdgeHandler | { fetch: EdgeHandler },
): EdgeApp {
  return new EdgeApp(options, handler);
}

function infoOf(request: Request, exchange: Exchange): EdgeInfo {
  return {
    session: exchange.session,
    platform: platformRequest(request)!.given,
    get route() {
      return exchange.route;
    },
    set route(route) {
      nameRoute(exchange, route);
    },
  };
}

function refuseWebSocket(request: HttpdRequest): void {
  refuseUpgrade(requests!.partsOf(request).exchange);
}

function failedObserver(cause: unknown): HttpsdError {
  return new HttpsdError("HOOK_FAILED", "An observer threw", { cause });
}

/** Reports an error; a failure of the report does not affect the request. */
function report(
  reportError: NonNullable<EdgeOptions["reportError"]>,
  error: HttpsdError,
  session: Session,
): void {
  contain(() => reportError(error, session), (cause) => console.error(error, cause));
}
