/**
 * The errors of HTTP/2, as they are sent on the wire (RFC 9113 sections 5.4 and 7).
 *
 * @module
 */

/** The error codes of RST_STREAM and GOAWAY (RFC 9113 section 7). */
export const ErrorCode = {
  /** Nothing is wrong: a graceful end. */
  NoError: 0x00,
  /** The peer broke a rule that has no code of its own. */
  ProtocolError: 0x01,
  /** This side failed. */
  InternalError: 0x02,
  /** More was sent than a window allows, or a window grew too large. */
  FlowControlError: 0x03,
  /** SETTINGS were not acknowledged in time. */
  SettingsTimeout: 0x04,
  /** A frame came for a stream whose side was ended. */
  StreamClosed: 0x05,
  /** A frame has a length that it may not have. */
  FrameSizeError: 0x06,
  /** The stream was refused before anything was done with it, so that it may be sent again. */
  RefusedStream: 0x07,
  /** The stream is no longer wanted. */
  Cancel: 0x08,
  /** A field block cannot be decoded, and with it the state of compression is lost. */
  CompressionError: 0x09,
  /** The connection of a CONNECT request was reset or closed. */
  ConnectError: 0x0a,
  /** The peer does too much of what costs too much. */
  EnhanceYourCalm: 0x0b,
  /** The properties of the transport do not suffice: TLS below 1.2, or a prohibited suite. */
  InadequateSecurity: 0x0c,
  /** The request needs HTTP/1.1. */
  Http11Required: 0x0d,
} as const;

/** One of the {@linkcode ErrorCode}s. */
export type ErrorCode = typeof ErrorCode[keyof typeof ErrorCode];

/** The names of the codes as RFC 9113 writes them, by code. */
const NAMES = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
] as const;

/** The name of an error code; a peer may send codes that have none (RFC 9113 section 7). */
export function errorCodeName(code: number): string {
  return NAMES[code] ?? `error code ${code}`;
}

/**
 * A broken rule of HTTP/2, internal: the driver answers it with RST_STREAM or GOAWAY and reports it
 * as an `HttpsdError` (RFC 9113 sections 5.4.1 and 5.4.2).
 */
export class Http2Fault extends Error {
  override readonly name = "Http2Fault";
  /** What the fault ends: one stream, or the connection. */
  readonly scope: "connection" | "stream";
  /** The stream at fault; 0 for a fault of the connection. */
  readonly streamId: number;
  /** The error code that is sent to the peer. */
  readonly code: ErrorCode;

  /** Makes a fault of the stream `streamId`, or of the connection where that is 0. */
  constructor(streamId: number, code: ErrorCode, message: string) {
    super(message);
    this.scope = streamId === 0 ? "connection" : "stream";
    this.streamId = streamId;
    this.code = code;
  }
}

/** A fault that ends the connection with GOAWAY. */
export function connectionFault(code: ErrorCode, message: string): Http2Fault {
  return new Http2Fault(0, code, message);
}

/** A fault that ends one stream with RST_STREAM. */
export function streamFault(streamId: number, code: ErrorCode, message: string): Http2Fault {
  return new Http2Fault(streamId, code, message);
}
