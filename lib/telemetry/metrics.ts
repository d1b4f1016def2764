/**
 * Metrics as Prometheus and all that speak its formats read them, by a fetch handler for a route or a
 * listener of its own. The number of series is bounded, whatever clients send.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { metrics } from "@httpsd/httpsd/metrics";
 *
 * const server = await serve({ cert, key, port: 8443 }, () => new Response("hello\n"));
 * // On a port of its own, which only this machine reaches:
 * await serve({ transportMode: "insecure", hostname: "127.0.0.1", port: 9464 }, metrics(server));
 * ```
 *
 * @module
 */
import * as v from "valibot";
import type { ExchangeObserver, ExchangeReport } from "../http/exchange_report.ts";
import type { HttpVersion } from "../http/request_head.ts";
import type { CountsByCode, ServerStats } from "../http/server_stats.ts";
import { adviceFrom, checkOptions, count, members } from "../options.ts";
import { Exposition, type ExpositionFormat, type Labels } from "./exposition.ts";
import {
  DURATION_BOUNDS,
  errorTypeOf,
  methodCodeOf,
  methodOf,
  schemeOf,
} from "./http_attributes.ts";
import { assertObservable, type Observable } from "./observable.ts";

export type { Observable } from "./observable.ts";

/** A server, or an edge app, which has no counters of its own. */
export interface MetricsTarget extends Observable {
  /** The counters. */
  stats?(): ServerStats;
}

/** The options of {@linkcode metrics}. */
export interface MetricsOptions {
  /**
   * How many series the histogram of durations may have, one for each combination of method, status,
   * route, version, scheme and error. What comes beyond them is counted in one more, with the label
   * `otel_metric_overflow="true"`. Default: 2,000.
   */
  readonly maxSeries?: number;
}

/** The metrics of a server. */
export interface Metrics {
  /** Answers GET and HEAD with the metrics, in the format that the request's `Accept` asks for. */
  readonly fetch: (request: Request) => Response;
  /** Returns such an answer, for a route: `accept` is the value of the request's field. */
  response(accept?: string): Response;
  /** Returns the metrics as text. Default format: `"prometheus"`, the text format 0.0.4. */
  text(format?: "prometheus" | "openmetrics"): string;
  /** Counts no further request. */
  stop(): void;
}

const CALLEE = "metrics()";

const SCHEMA = members({ maxSeries: v.optional(count(1, 1_000_000), 2_000) }, {
  advice: adviceFrom({
    path: "write server.route({ uri, method, handler: (r) => it.response(r.get('accept')) })",
    endpoint: "write server.route({ uri, method, handler: (r) => it.response(r.get('accept')) })",
    port: "write serve({ port, … }, metrics(server))",
    buckets: "leave it out: they are those of OpenTelemetry's conventions",
  }),
});

/** The media types of the formats. */
const TYPES: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/**
 * Begins to count the requests of a server or an edge app; what a server counts by itself
 * (`server.stats()`) is shown besides.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function metrics(target: MetricsTarget, options: MetricsOptions = {}): Metrics {
  assertObservable(CALLEE, target);
  const { maxSeries } = checkOptions(CALLEE, SCHEMA, options);
  const durations = new Durations(maxSeries);
  const stop = target.observe(durations);
  const text = (format: ExpositionFormat = "prometheus"): string => {
    const exposition = new Exposition(format);
    durations.show(exposition);
    const stats = target.stats?.();
    if (stats !== undefined) show(stats, exposition);
    return exposition.end();
  };
  const response = (accept = ""): Response => {
    const format = /application\/openmetrics-text/i.test(accept) ? "openmetrics" : "prometheus";
    return new Response(text(format), {
      headers: { "content-type": TYPES[format], "cache-control": "no-store" },
    });
  };
  return {
    fetch({ method, headers }) {
      if (method === "GET" || method === "HEAD") return response(headers.get("accept") ?? "");
      return new Response(null, { status: 405, headers: { allow: "GET, HEAD" } });
    },
    response,
    text,
    stop,
  };
}

/** One series of the histogram. */
interface Series {
  readonly labels: Labels;
  /** How many durations were in each bucket alone, and above the last bound. */
  readonly counts: number[];
  sum: number;
}

/** The histogram of durations. */
class Durations implements ExchangeObserver {
  readonly #series = new Map<string, Series>();
  /** The series of requests that ended in good order, by route and {@linkcode packed}. */
  readonly #usual = new Map<string | undefined, Map<number, Series>>();
  readonly #maxSeries: number;
  #overflow: Series | undefined;

  constructor(maxSeries: number) {
    this.#maxSeries = maxSeries;
  }

  ended(exchange: ExchangeReport): void {
    const series = this.#usualSeriesOf(exchange);
    const seconds = exchange.durationMs / 1000;
    let bucket = 0;
    while (bucket < DURATION_BOUNDS.length && seconds > DURATION_BOUNDS[bucket]!) bucket++;
    series.counts[bucket]!++;
    series.sum += seconds;
  }

  /** Finds the series without making a text, which takes longer than all else here. */
  #usualSeriesOf(exchange: ExchangeReport): Series {
    const { status, ended, route } = exchange;
    if (ended !== "whole" || status === undefined || status >= 500) return this.#seriesOf(exchange);
    const key = packed(exchange, status);
    const known = this.#usual.get(route)?.get(key);
    if (known !== undefined) return known;
    const series = this.#seriesOf(exchange);
    if (series === this.#overflow) return series; // the maps stay as small as the limit
    const ofRoute = this.#usual.get(route);
    if (ofRoute === undefined) this.#usual.set(route, new Map([[key, series]]));
    else ofRoute.set(key, series);
    return series;
  }

  #seriesOf(exchange: ExchangeReport): Series {
    const method = methodOf(exchange);
    const scheme = schemeOf(exchange);
    const error = errorTypeOf(exchange);
    const { status, route, version } = exchange;
    // No part but the route, the last one, has a space.
    const key = `${method} ${status} ${version} ${scheme} ${error} ${route}`;
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= this.#maxSeries) {
      return this.#overflow ??= seriesFor({ otel_metric_overflow: "true" });
    }
    const made = seriesFor({
      http_request_method: method,
      http_response_status_code: status?.toString(),
      http_route: route,
      network_protocol_version: version,
      url_scheme: scheme,
      error_type: error,
    });
    this.#series.set(key, made);
    return made;
  }

  show(exposition: Exposition): void {
    const all = [...this.#series.values()];
    if (this.#overflow !== undefined) all.push(this.#overflow);
    exposition.histogram(
      {
        name: "http_server_request_duration_seconds",
        help: "How long requests took, from the head to the end of the response.",
        unit: "seconds",
      },
      DURATION_BOUNDS,
      all,
    );
  }
}

const VERSION_CODES: Readonly<Record<HttpVersion, number>> = { "1.0": 0, "1.1": 1, "2": 2 };

/** What labels are made of besides the route, as a number. */
function packed(exchange: ExchangeReport, status: number): number {
  const scheme = exchange.session.tls === undefined ? 0 : 1;
  return ((status * 32 + methodCodeOf(exchange)) * 4 + VERSION_CODES[exchange.version]) * 2 +
    scheme;
}

function seriesFor(labels: Labels): Series {
  return { labels, counts: Array<number>(DURATION_BOUNDS.length + 1).fill(0), sum: 0 };
}

/** Shows what a server counts by itself. */
function show(stats: ServerStats, to: Exposition): void {
  const { connections, handshakes, requests, websockets, bytes, eventLoop, certificates } = stats;
  to.gauge(
    { name: "http_server_active_requests", help: "Requests under way." },
    [[requests.active]],
  );
  to.counter(
    { name: "httpsd_requests_cut", help: "Requests without a whole answer, by who broke off." },
    [[requests.cutByClient, { by: "client" }], [requests.cutByServer, { by: "server" }]],
  );
  to.counter(
    { name: "httpsd_connections_accepted", help: "Sockets accepted." },
    [[connections.accepted]],
  );
  to.counter(
    { name: "httpsd_connections_purged", help: "Connections closed to make room for another." },
    [[connections.purged]],
  );
  to.counter(
    { name: "httpsd_connections_refused", help: "Connections refused, by the code of the error." },
    byCode(connections.refused),
  );
  to.gauge(
    { name: "httpsd_connections", help: "Connections that are open, by what they do." },
    Object.entries(connections.states).map(([state, number]) => [number, { state }] as const),
  );
  to.gauge(
    { name: "httpsd_connections_waiting", help: "Connections that wait for another to close." },
    [[connections.waiting]],
  );
  to.counter(
    { name: "httpsd_tls_handshakes", help: "TLS handshakes that succeeded." },
    [[handshakes.full, { resumed: "false" }], [handshakes.resumed, { resumed: "true" }]],
  );
  to.counter(
    {
      name: "httpsd_tls_handshake_failures",
      help: "TLS handshakes that failed, by the code of the error.",
    },
    byCode(handshakes.failed),
  );
  to.counter(
    { name: "httpsd_websockets_opened", help: "WebSockets opened." },
    [[websockets.opened]],
  );
  to.gauge({ name: "httpsd_websockets", help: "WebSockets that are open." }, [[websockets.open]]);
  to.counter(
    { name: "httpsd_received_bytes", help: "Bytes received, without TLS.", unit: "bytes" },
    [[bytes.received]],
  );
  to.counter(
    { name: "httpsd_sent_bytes", help: "Bytes sent, without TLS.", unit: "bytes" },
    [[bytes.sent]],
  );
  to.gauge(
    {
      name: "httpsd_event_loop_lag_seconds",
      help: "How late the event loop was in the last second.",
      unit: "seconds",
    },
    [[eventLoop.lagMs / 1000]],
  );
  to.gauge(
    {
      name: "httpsd_event_loop_lag_max_seconds",
      help: "How late the event loop was at most in a second of the last minute.",
      unit: "seconds",
    },
    [[eventLoop.maxLagMs / 1000]],
  );
  to.gauge(
    {
      name: "httpsd_certificate_expiry_timestamp_seconds",
      help: "When each certificate in force expires.",
      unit: "seconds",
    },
    certificates.slice(0, MAX_CERTIFICATES).map(({ names, fingerprint256, validTo }) =>
      [
        validTo.getTime() / 1000,
        { name: names[0], fingerprint: fingerprint256.replaceAll(":", "").toLowerCase() },
      ] as const
    ),
  );
}

/** Of so many certificates at most the dates are shown. */
const MAX_CERTIFICATES = 1_000;

function byCode(counts: CountsByCode): [value: number, labels: Labels][] {
  return Object.entries(counts).map(([code, number]) => [number, { code }]);
}
