/**
 * The reason of an aborted `request.signal`.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";

/**
 * An `AbortError` as the runtimes' own servers create it, by which any code recognizes that it was
 * asked to stop. The reason is its `cause`.
 */
export function abortError(cause: HttpsdError): DOMException {
  const error = new DOMException(cause.message, "AbortError");
  return Object.defineProperty(error, "cause", {
    value: cause,
    configurable: true,
    writable: true,
  });
}
