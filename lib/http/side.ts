/**
 * Which side ended an exchange before it was whole.
 *
 * @module
 */
import type { ConnectionErrorCode, HttpsdError } from "../errors.ts";

/** The ends of a connection that are the client's doing. */
const CLIENTS: ReadonlySet<string> = new Set<ConnectionErrorCode>([
  "CONNECTION_RESET",
  "CONNECTION_CLOSED",
  "CONNECTION_FAILED",
  "HTTP2_PROTOCOL",
  "HTTP2_FLOOD",
]);

/** Which side ended an exchange that has no whole answer. */
export function sideOf(reason: HttpsdError): "client" | "server" {
  return CLIENTS.has(reason.code) ? "client" : "server";
}
