/**
 * The reason of an aborted `request.signal`.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";

/**
 * An `AbortError` as the runtimes' own servers give it, by which code of any kind knows that it was
 * told to stop; why is its `cause`.
 */
export function abortError(cause: HttpsdError): DOMException {
  const error = new DOMException(cause.message, "AbortError");
  return Object.defineProperty(error, "cause", {
    value: cause,
    configurable: true,
    writable: true,
  });
}
