/**
 * What telemetry needs of a server or an edge app.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import type { ExchangeObserver } from "../http/exchange_report.ts";
import { shown } from "../options.ts";

/** A server, or an edge app: anything whose exchanges can be followed. */
export interface Observable {
  /** Has an observer follow each request; the function that is returned ends that. */
  observe(observer: ExchangeObserver): () => void;
}

/**
 * Refuses what is not a server or an app.
 *
 * @throws {ConfigError} `INVALID_CONFIG` saying what to write
 */
export function assertObservable(callee: string, target: unknown): void {
  if (typeof (Object(target) as Partial<Observable>).observe === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `${callee} takes a server or an edge app first, not ${shown(target)}`,
  );
}
