/**
 * What is sent to a client that does not get as far as a handshake: a fatal alert, or an answer
 * in plain HTTP (RFC 8446 section 6).
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** The descriptions of the alerts that are sent before TLS begins (RFC 8446 section 6.2). */
const DESCRIPTIONS = {
  unexpected_message: 10,
  record_overflow: 22,
  illegal_parameter: 47,
  access_denied: 49,
  decode_error: 50,
  protocol_version: 70,
  internal_error: 80,
  unrecognized_name: 112,
} as const;

/** The name of an alert that can be sent before TLS begins. */
export type Alert = keyof typeof DESCRIPTIONS;

/** Makes a fatal alert in a record of its own, before anything is encrypted (RFC 8446 section 5.1). */
export function alertRecord(alert: Alert): Uint8Array {
  return Uint8Array.of(0x15, 3, 3, 0, 2, 2, DESCRIPTIONS[alert]);
}

const HINT = "This port speaks HTTPS: use https:// in the address.\n";

/** The answer to a client that speaks plain HTTP to a TLS port. */
export const NOT_TLS_ANSWER: Uint8Array = Buffer.from(
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
    `Content-Length: ${HINT.length}\r\nConnection: close\r\n\r\n${HINT}`,
);
