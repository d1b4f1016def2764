/**
 * Traces and metrics by OpenTelemetry's semantic conventions for HTTP servers, through its API: what
 * exports them is the program's, an SDK or Deno itself (`OTEL_DENO=true`). Without either, nothing
 * happens.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { instrument } from "@httpsd/httpsd/otel";
 *
 * const server = await serve({ cert, key, port: 8443 }, () => new Response("hello\n"));
 * instrument(server);
 * ```
 *
 * @module
 */
import {
  type Attributes,
  type Context,
  context,
  createTraceState,
  type Histogram,
  type Link,
  type MeterProvider,
  metrics,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  trace,
  type Tracer,
  type TracerProvider,
  type UpDownCounter,
} from "@opentelemetry/api";
import * as v from "valibot";
import type { ServerErrorEvent, SessionEvent, WebSocketEvent } from "../events.ts";
import type {
  ExchangeObservation,
  ExchangeObserver,
  ExchangeReport,
} from "../http/exchange_report.ts";
import type { Session } from "../http/session.ts";
import { adviceFrom, checkOptions, flag, members } from "../options.ts";
import type { ServerWebSocket } from "../websocket/socket.ts";
import { DURATION_BOUNDS, errorTypeOf, methodOf, OTHER, schemeOf } from "./http_attributes.ts";
import { assertObservable, type Observable } from "./observable.ts";
import { metricAttributes, requestAttributes } from "./otel_attributes.ts";

export type { Observable } from "./observable.ts";

/** The options of {@linkcode instrument}. */
export interface InstrumentOptions {
  /** Makes the tracer. Default: the provider that is registered with the API. */
  readonly tracerProvider?: TracerProvider;
  /** Makes the meter. Default: the provider that is registered with the API. */
  readonly meterProvider?: MeterProvider;
  /**
   * Whether TLS handshakes have spans, those that failed too; the spans of requests link to that of
   * their session. Default: `true`.
   */
  readonly handshakes?: boolean;
  /**
   * Whether WebSockets have spans, from opening to closing, which link to those of their requests.
   * Default: `true`.
   */
  readonly websockets?: boolean;
}

const CALLEE = "instrument()";

const SCHEMA = members({
  tracerProvider: v.optional(provider<TracerProvider>("getTracer")),
  meterProvider: v.optional(provider<MeterProvider>("getMeter")),
  handshakes: flag(true),
  websockets: flag(true),
}, {
  advice: adviceFrom({
    tracer: "write tracerProvider",
    meter: "write meterProvider",
    serviceName: "give it to the SDK, or as OTEL_SERVICE_NAME",
  }),
});

function provider<T>(method: string): v.GenericSchema<T> {
  return v.custom<T>(
    (value) => typeof (Object(value) as Record<string, unknown>)[method] === "function",
    `must be an object with ${method}()`,
  );
}

/**
 * Makes spans and metrics of what a server or an edge app does from now on; the function that is
 * returned ends that.
 *
 * The span of a request is named `{method} {route}` and is a child of the one in its `traceparent`.
 * Handlers run inside it, over every `await`, where a context manager is registered.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function instrument(target: Observable, options: InstrumentOptions = {}): () => void {
  assertObservable(CALLEE, target);
  const { tracerProvider = trace, meterProvider = metrics, handshakes, websockets } = checkOptions(
    CALLEE,
    SCHEMA,
    options,
  );
  const tracer = tracerProvider.getTracer("@httpsd/httpsd");
  const meter = meterProvider.getMeter("@httpsd/httpsd");
  const duration = meter.createHistogram("http.server.request.duration", {
    description: "How long requests took, from the head to the end of the response.",
    unit: "s",
    advice: { explicitBucketBoundaries: [...DURATION_BOUNDS] },
  });
  const active = meter.createUpDownCounter("http.server.active_requests", {
    description: "Requests under way.",
    unit: "{request}",
  });
  const sessions = handshakes && isEventTarget(target) ? new Handshakes(tracer) : undefined;
  const ends = [
    target.observe(new Requests(tracer, duration, active, sessions)),
    ...(sessions === undefined ? [] : [
      listen<SessionEvent>(target, "connected", ({ session }) => sessions.connected(session)),
      listen<ServerErrorEvent>(target, "refused", (event) => sessions.refused(event)),
    ]),
    ...(websockets && isEventTarget(target) ? webSockets(tracer, target) : []),
  ];
  return () => ends.forEach((end) => end());
}

function isEventTarget(target: unknown): target is EventTarget {
  return target instanceof EventTarget;
}

function listen<E>(target: unknown, type: string, listener: (event: E) => void): () => void {
  const listened = target as EventTarget;
  listened.addEventListener(type, listener as unknown as EventListener);
  return () => listened.removeEventListener(type, listener as unknown as EventListener);
}

const FIELDS: TextMapGetter<ExchangeReport> = {
  get: (exchange, name) => exchange.getAll(name).join(",") || undefined, // RFC 9110, 5.3: one list
  keys: () => [], // propagators ask for the fields that they know
};

/**
 * The context that a request came with: from its fields, as the program's propagator reads them. On a
 * socket it is not inside what happens to be active: a request may begin where the one before it
 * ends. One that a platform passes on is inside the platform's own span.
 */
function parentOf(exchange: ExchangeReport): Context {
  const outer = hasSocket(exchange.session) ? ROOT_CONTEXT : context.active();
  const extracted = propagation.extract(outer, exchange, FIELDS);
  if (extracted !== outer && trace.getSpanContext(extracted) !== undefined) return extracted;
  if (exchange.trace === undefined) return extracted;
  const { traceId, parentId: spanId, flags: traceFlags, state } = exchange.trace;
  return trace.setSpanContext(extracted, {
    traceId,
    spanId,
    traceFlags,
    isRemote: true,
    ...(state === "" ? {} : { traceState: createTraceState(state) }),
  });
}

function hasSocket(session: Session): boolean {
  try {
    return session.connection !== undefined;
  } catch {
    return false; // as it says to all that need one
  }
}

/** Makes the spans and metrics of requests. */
class Requests implements ExchangeObserver {
  readonly #tracer: Tracer;
  readonly #duration: Histogram;
  readonly #active: UpDownCounter;
  readonly #handshakes: Handshakes | undefined;

  constructor(
    tracer: Tracer,
    duration: Histogram,
    active: UpDownCounter,
    handshakes: Handshakes | undefined,
  ) {
    this.#tracer = tracer;
    this.#duration = duration;
    this.#active = active;
    this.#handshakes = handshakes;
  }

  begin(exchange: ExchangeReport): ExchangeObservation {
    const counted = countedBy(exchange);
    const parent = parentOf(exchange);
    const name = nameOf(exchange);
    const span = this.#tracer.startSpan(
      name,
      {
        kind: SpanKind.SERVER,
        startTime: exchange.receivedAt,
        attributes: requestAttributes(exchange),
        links: this.#handshakes?.linksOf(exchange.session) ?? [],
      },
      parent,
    );
    const inside = trace.setSpan(parent, span);
    this.#active.add(1, counted); // behind what a program's propagator and sampler may throw
    return {
      run: (handle) => context.with(inside, handle),
      ended: (ended) => {
        this.#active.add(-1, counted);
        this.#duration.record(ended.durationMs / 1000, metricAttributes(ended), inside);
        if (span.isRecording()) tellEnd(span, name, ended);
        span.end(ended.receivedAt + ended.durationMs);
      },
    };
  }
}

/** What requests under way are counted by, of each method and scheme; both are few. */
const counted = new Map<string, Attributes>();

function countedBy(exchange: ExchangeReport): Attributes {
  const method = methodOf(exchange);
  const scheme = schemeOf(exchange);
  const key = `${scheme} ${method}`;
  let attributes = counted.get(key);
  if (attributes === undefined) {
    attributes = Object.freeze({ "http.request.method": method, "url.scheme": scheme });
    counted.set(key, attributes);
  }
  return attributes;
}

/** `{method} {route}`, and the method alone where there is no route. */
function nameOf(exchange: ExchangeReport): string {
  const method = methodOf(exchange);
  const shown = method === OTHER ? "HTTP" : method;
  return exchange.route === undefined ? shown : `${shown} ${exchange.route}`;
}

/** Tells a span what is known of a request that is over. */
function tellEnd(span: Span, name: string, exchange: ExchangeReport): void {
  const { route, status, requestBytes, responseBytes, error } = exchange;
  const errorType = errorTypeOf(exchange);
  const named = nameOf(exchange);
  if (named !== name) span.updateName(named);
  span.setAttributes(known({
    "http.route": route,
    "http.response.status_code": status,
    "http.request.body.size": requestBytes,
    "http.response.body.size": responseBytes,
    "error.type": errorType,
  }));
  // The conventions leave errors of clients unset on a server's span.
  if (errorType !== undefined && exchange.ended !== "client") {
    span.setStatus({ code: SpanStatusCode.ERROR, ...(error && { message: error.message }) });
  }
}

/** Makes the spans of TLS handshakes. */
class Handshakes {
  readonly #tracer: Tracer;
  readonly #links = new WeakMap<Session, Link[]>();

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** The links from a request's span to the handshake of its session. */
  linksOf(session: Session): Link[] {
    return this.#links.get(session) ?? [];
  }

  connected(session: Session): void {
    const { tls, remoteAddress, remotePort, connectedAt } = session;
    if (tls === undefined) return;
    const end = connectedAt.getTime();
    const span = this.#span(end - (tls.handshakeMs ?? 0), {
      "client.address": remoteAddress || undefined,
      "network.peer.address": remoteAddress || undefined,
      "network.peer.port": remotePort || undefined,
      "tls.protocol.version": tls.protocol.replace(/^TLSv/, ""),
      "tls.cipher": tls.cipher,
      "tls.resumed": tls.resumed,
      "tls.next_protocol": tls.alpn,
      "tls.client.server_name": tls.sni,
      "tls.client.ja4": tls.hello?.ja4,
    });
    span.end(end);
    this.#links.set(session, [{ context: span.spanContext() }]);
  }

  refused({ error, phase, remoteAddress, sni, hello }: ServerErrorEvent): void {
    if (!error.code.startsWith("TLS_")) return;
    const now = Date.now();
    const span = this.#span(now, {
      "client.address": remoteAddress,
      "network.peer.address": remoteAddress,
      "tls.client.server_name": sni,
      "tls.client.ja4": hello?.ja4,
      "error.type": error.code,
      "httpsd.phase": phase,
    });
    span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    span.end(now);
  }

  #span(startTime: number, attributes: Attributes): Span {
    return this.#tracer.startSpan("TLS handshake", {
      root: true,
      kind: SpanKind.SERVER,
      startTime,
      attributes: known(attributes),
    });
  }
}

/** Makes the spans of WebSockets. */
function webSockets(tracer: Tracer, target: EventTarget): (() => void)[] {
  const spans = new Map<ServerWebSocket, Span>();
  const end = (ws: ServerWebSocket): void => {
    spans.get(ws)?.end();
    spans.delete(ws);
  };
  return [
    listen<WebSocketEvent>(target, "websocket:open", ({ ws }) => {
      const request = trace.getActiveSpan(); // it opens while its request is answered
      const span = tracer.startSpan("WebSocket", {
        root: true,
        kind: SpanKind.SERVER,
        attributes: known({
          "client.address": ws.session.remoteAddress || undefined,
          "network.protocol.name": "websocket",
          "httpsd.websocket.protocol": ws.protocol || undefined,
        }),
        links: request === undefined ? [] : [{ context: request.spanContext() }],
      });
      if (ws.readyState === 1) spans.set(ws, span);
      else span.end(); // a listener before this one has closed it
    }),
    listen<WebSocketEvent>(target, "websocket:close", ({ ws }) => end(ws)),
    () => [...spans.keys()].forEach(end),
  ];
}

/** What is known of some attributes: the API takes no `undefined` under strict types. */
function known(attributes: Record<string, string | number | boolean | undefined>): Attributes;
function known(attributes: Attributes): Attributes;
function known(attributes: Attributes): Attributes {
  const found: Attributes = {};
  for (const name in attributes) {
    const value = attributes[name];
    if (value !== undefined) found[name] = value;
  }
  return found;
}
