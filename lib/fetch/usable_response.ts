/**
 * Whether what a handler returned can be sent (Fetch standard).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { shown } from "../options.ts";

/**
 * What a handler returned, if it is a response. Whether its body was used is seen when that is
 * taken: looking before would cost more than sending it.
 *
 * @throws {HttpError} `HANDLER_FAILED` when it is none, or is `Response.error()`
 */
export function asResponse(result: unknown): Response {
  if (!(result instanceof Response)) {
    throw new HttpError(
      500,
      "HANDLER_FAILED",
      `The handler returned ${shown(result)}, which is not a Response: ${insteadOf(result)}`,
    );
  }
  if (result.type === "error") {
    throw new HttpError(500, "HANDLER_FAILED", "Response.error() cannot be sent: return a status");
  }
  return result;
}

/** The error of a response whose body was read, or sent, before. */
export function usedAlready(): HttpError {
  return new HttpError(
    500,
    "HANDLER_FAILED",
    "The Response was used already: return a new one for each request",
  );
}

function insteadOf(result: unknown): string {
  if (typeof result === "string") return "return new Response(text)";
  const isForeign = Object.prototype.toString.call(result) === "[object Response]";
  if (isForeign) return "return new Response(other.body, other), it is another library's";
  return typeof result === "object" && result !== null
    ? "return Response.json(value)"
    : "return one";
}
