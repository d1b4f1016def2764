/**
 * How requests come and answers go in the terms of `fetch`: on connections, or as a platform's own
 * messages.
 *
 * @module
 */
import type { Exchange } from "./exchange.ts";

/** Makes a `Request` of an exchange, and an answer of a `Response`. */
export interface Transport {
  /**
   * Returns the request for a fetch handler.
   *
   * @throws {HttpError} for what no `Request` can carry
   */
  requestFor(exchange: Exchange): Request;
  /**
   * Sends what a handler returned, which may be anything.
   *
   * @throws {HttpError} `HANDLER_FAILED` for what is no response that can be sent (or rejects)
   */
  sendResponse(exchange: Exchange, result: unknown): void | Promise<void>;
}
