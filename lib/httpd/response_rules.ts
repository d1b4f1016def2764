/**
 * What no handler may say in a response, whatever carries it (RFC 9110 sections 7.6.1 and 8.6).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import { isBodiless } from "./status.ts";

/** Fields that belong to the connection, which is the server's (RFC 9110 section 7.6.1). */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Whether a response without a body may say how long the body would be (RFC 9110 section 8.6). */
export function mayDeclare(status: number, request: { readonly method: string }): boolean {
  return status === 304 || (request.method === "HEAD" && !isBodiless(status));
}

/**
 * The length that a handler declares, which has to be the one of its body where that is known.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function declaredLength(value: string, actual: number | undefined): number {
  const declared = /^\d{1,16}$/.test(value) ? Number(value) : NaN;
  if (!Number.isSafeInteger(declared)) {
    throw badResponse(`Content-Length ${value} is no length in bytes`);
  }
  if (actual !== undefined && actual !== declared) {
    throw badResponse(`Content-Length says ${declared}, but the body has ${actual} bytes`);
  }
  return declared;
}

/** The error of a response that breaks HTTP. */
export function badResponse(message: string): HttpError {
  return new HttpError(500, "BAD_RESPONSE", message);
}
