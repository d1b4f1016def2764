/**
 * The check of what `observe()` is given.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import { shown } from "../options.ts";

/**
 * Throws for what is not an observer.
 *
 * @throws {ConfigError} `INVALID_CONFIG`
 */
export function assertObserver(observer: unknown): void {
  const { begin, ended } = Object(observer) as { begin?: unknown; ended?: unknown };
  if (typeof (begin ?? ended) === "function" && typeof (ended ?? begin) === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `observe() takes an object with begin(exchange) or ended(exchange), not ${shown(observer)}`,
  );
}
