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
  if (typeof (Object(observer) as { begin?: unknown }).begin === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `observe() takes an object with begin(exchange), not ${shown(observer)}`,
  );
}
