/**
 * Whether what a handler returned can be sent (Fetch standard).
 *
 * @module
 */
import { HttpError } from "../errors.ts";

/** Marks a response that was sent: one whose body is known could be sent twice unseen. */
const SENT = Symbol("sent by httpsd");

/**
 * What a handler returned, if it is a response that can be sent; from now on it counts as sent.
 *
 * @throws {HttpError} `HANDLER_FAILED` when it is none, was used already, or is `Response.error()`
 */
export function usableResponse(result: unknown): Response {
  if (!(result instanceof Response)) {
    throw new HttpError(500, "HANDLER_FAILED", "The handler returned no Response: return one");
  }
  const marked = result as Response & { [SENT]?: true };
  if (result.bodyUsed || marked[SENT]) {
    throw new HttpError(500, "HANDLER_FAILED", "The Response was used already: return a new one");
  }
  if (result.type === "error") {
    throw new HttpError(500, "HANDLER_FAILED", "Response.error() cannot be sent: return a status");
  }
  marked[SENT] = true;
  return result;
}
