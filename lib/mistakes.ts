/**
 * The developer's own mistakes, which must be visible even if the program does not listen for them;
 * errors of clients need not.
 *
 * @module
 */
import type { ErrorCode, HttpsdError } from "./errors.ts";

const OWN_MISTAKES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "ALREADY_SENT",
  "BAD_RESPONSE",
  "BODY_USED",
  "HANDLER_FAILED",
  "HOOK_FAILED",
  "INVALID_CONFIG",
  "LISTENER_FAILED",
  "NOT_DETACHED",
  "NOT_SUPPORTED",
  "NOT_UPGRADABLE",
  "REQUEST_ENDED",
  "WS_CALLBACK_FAILED",
]);

/** Writes an error to the console if it is the developer's own mistake. */
export function logMistake(error: HttpsdError): void {
  if (OWN_MISTAKES.has(error.code)) console.error(error);
}
