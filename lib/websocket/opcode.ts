/**
 * The opcodes of frames, which both directions share.
 *
 * @module
 */

/** The opcodes of RFC 6455 section 11.8 (original: `httpd_ws_type_t`). */
export const Opcode = {
  /** The next fragment of a message. */
  Continuation: 0x0,
  /** A text message, or its first fragment. */
  Text: 0x1,
  /** A binary message, or its first fragment. */
  Binary: 0x2,
  /** The closing handshake. */
  Close: 0x8,
  /** Asks for a Pong. */
  Ping: 0x9,
  /** Answers a Ping, or shows that the peer lives. */
  Pong: 0xa,
} as const;

/** One of the {@linkcode Opcode}s. */
export type Opcode = typeof Opcode[keyof typeof Opcode];

/** Whether a frame's four opcode bits name one of RFC 6455's. */
export function isOpcode(value: number): value is Opcode {
  return value <= Opcode.Binary || value >= Opcode.Close && value <= Opcode.Pong;
}
