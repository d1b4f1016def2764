/**
 * What metrics and spans call the parts of an exchange, by OpenTelemetry's semantic conventions for
 * HTTP servers. Each value is one of few, whatever clients send.
 *
 * @module
 */
import type { ExchangeReport } from "../http/exchange_report.ts";

/** The methods that the conventions know; others are `_OTHER`. */
const METHODS: ReadonlyMap<string | undefined, number> = new Map(
  ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"]
    .map((method, index) => [method, index + 1]),
);

/** What any other method is called, and that of a request whose head could not be read. */
export const OTHER = "_OTHER";

/** The bounds of `http.server.request.duration`, in seconds. */
export const DURATION_BOUNDS: readonly number[] = [
  ...[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75],
  ...[1, 2.5, 5, 7.5, 10],
];

/** `http.request.method`. */
export function methodOf({ method }: ExchangeReport): string {
  return method !== undefined && METHODS.has(method) ? method : OTHER;
}

/** A number below 32 for each method that the conventions know, and 0 for others. */
export function methodCodeOf({ method }: ExchangeReport): number {
  return METHODS.get(method) ?? 0;
}

/** `url.scheme`. */
export function schemeOf({ session }: ExchangeReport): "http" | "https" {
  return session.tls === undefined ? "http" : "https";
}

/**
 * `error.type`: the code of what ended the exchange early, or the status where that says that the
 * server has failed; `undefined` for any other.
 */
export function errorTypeOf({ ended, error, status }: ExchangeReport): string | undefined {
  if (ended !== "whole" && ended !== undefined) return error?.code ?? OTHER;
  return status !== undefined && status >= 500 ? String(status) : undefined;
}
