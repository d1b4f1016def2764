/**
 * The payload of a Close frame: which codes may travel, and its two directions (RFC 6455 sections
 * 5.5.1 and 7.4; the codes 1012 to 1014 from the IANA WebSocket Close Code Number Registry).
 *
 * @module
 */
import { NO_BYTES, utf8 } from "../bytes.ts";
import { WebSocketError } from "../errors.ts";

/** The codes that RFC 6455 section 7.4.1 and the IANA registry name; the `*` never travel. */
export const CloseCode = {
  /** The purpose of the connection is fulfilled. */
  Normal: 1000,
  /** The endpoint goes away: the server stops, the page is left. */
  GoingAway: 1001,
  /** The peer broke the protocol. */
  ProtocolError: 1002,
  /** The peer sent a type of data that this endpoint does not take. */
  UnsupportedData: 1003,
  /** `*` The peer's Close frame had no code. */
  NoStatus: 1005,
  /** `*` The connection ended without a Close frame. */
  Abnormal: 1006,
  /** The data does not fit its type: text that is not UTF-8. */
  InvalidData: 1007,
  /** The peer's message breaks a rule of this endpoint. */
  PolicyViolation: 1008,
  /** The message is too big. */
  TooBig: 1009,
  /** The client misses an extension in the server's handshake. */
  MissingExtension: 1010,
  /** The server met something unexpected. */
  InternalError: 1011,
  /** The server restarts. */
  ServiceRestart: 1012,
  /** The server is overloaded. */
  TryAgainLater: 1013,
  /** A gateway got an invalid answer from upstream. */
  BadGateway: 1014,
} as const;

/** What a Close frame says. */
export interface CloseStatus {
  /** The code; 1005 when the frame had none. */
  readonly code: number;
  /** The reason, empty when there was none. */
  readonly reason: string;
}

/** The longest reason in bytes: a control frame's 125 less the code's 2. */
const MAX_REASON_BYTES = 123;

// A byte order mark is part of the text: RFC 6455 gives it no meaning.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Returns whether `code` may be in a Close frame: 1000 to 1003, 1007 to 1014, 3000 to 4999
 * (RFC 6455 section 7.4.2). The others are reserved, or mean that no frame came.
 */
export function isCloseCode(code: number): boolean {
  if (!Number.isInteger(code)) return false;
  return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 ||
    code >= 3000 && code <= 4999;
}

/**
 * Makes the payload of a Close frame. Without `code` it is empty, and then there is no reason.
 *
 * @param code a code that {@linkcode isCloseCode} accepts
 * @param reason at most 123 bytes of UTF-8; default none
 * @throws {WebSocketError} `WS_CANNOT_SEND` when the code may not travel, the reason is too long,
 * or there is a reason without a code
 */
export function encodeClose(code?: number, reason = ""): Uint8Array {
  if (code === undefined) {
    if (reason === "") return NO_BYTES;
    throw cannotSend("A close reason needs a close code: give one, such as 1000");
  }
  if (!isCloseCode(code)) {
    throw cannotSend(`Close code ${code} may not be sent: use 1000-1003, 1007-1014 or 3000-4999`);
  }
  if (typeof reason !== "string") throw cannotSend("The close reason is not text: give text");
  const text = utf8(reason);
  if (text.length > MAX_REASON_BYTES) {
    throw cannotSend(
      `Close reason has ${text.length} bytes of UTF-8: shorten it to ${MAX_REASON_BYTES}`,
    );
  }
  const payload = new Uint8Array(2 + text.length);
  payload[0] = code >> 8;
  payload[1] = code & 0xff;
  payload.set(text, 2);
  return payload;
}

/**
 * Reads the payload of a Close frame.
 *
 * @returns its code and reason; or, not thrown, the error that it is: `WS_PROTOCOL` (1002) for a
 * single byte or a code that may not travel, `WS_INVALID_DATA` (1007) for a reason that is not UTF-8
 */
export function decodeClose(payload: Uint8Array): CloseStatus | WebSocketError {
  if (payload.length === 0) return { code: CloseCode.NoStatus, reason: "" };
  if (payload.length === 1) {
    return new WebSocketError(1002, "WS_PROTOCOL", "Close frame has a payload of one byte");
  }
  const code = payload[0]! << 8 | payload[1]!;
  if (!isCloseCode(code)) {
    return new WebSocketError(1002, "WS_PROTOCOL", `Close frame has the reserved code ${code}`);
  }
  try {
    return { code, reason: decoder.decode(payload.subarray(2)) };
  } catch (cause) {
    return new WebSocketError(1007, "WS_INVALID_DATA", "Close reason is not UTF-8", { cause });
  }
}

/** Makes the error of what cannot be sent. */
export function cannotSend(message: string): WebSocketError {
  return new WebSocketError(CloseCode.InternalError, "WS_CANNOT_SEND", message);
}
