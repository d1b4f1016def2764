/**
 * The kinds of frames and their flags, for the reader and the writer (RFC 9113 sections 4.1 and 6).
 *
 * @module
 */

/** The types of frames that are known here. */
export const FrameType = {
  Data: 0x00,
  Headers: 0x01,
  Priority: 0x02,
  RstStream: 0x03,
  Settings: 0x04,
  PushPromise: 0x05,
  Ping: 0x06,
  GoAway: 0x07,
  WindowUpdate: 0x08,
  Continuation: 0x09,
  /** RFC 9218 section 7.1. */
  PriorityUpdate: 0x10,
} as const;

/** The flags of frames; what a flag means depends on the type of the frame. */
export const Flag = {
  /** Of DATA and HEADERS: the peer sends no more on this stream. */
  EndStream: 0x01,
  /** Of SETTINGS and PING: an answer. */
  Ack: 0x01,
  /** Of HEADERS and CONTINUATION: the field block is complete. */
  EndHeaders: 0x04,
  /** Of DATA and HEADERS: there is padding, and a byte that gives its length. */
  Padded: 0x08,
  /** Of HEADERS: there are five bytes of priority. */
  Priority: 0x20,
} as const;

/** The length of a frame's header in bytes. */
export const FRAME_HEADER_BYTES = 9;

/** What the client's side of a connection begins with (RFC 9113 section 3.4). */
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
