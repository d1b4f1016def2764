/**
 * What programs receive: messages, frames, or messages as streams.
 *
 * @module
 */
import type { Opcode } from "./opcode.ts";

/** A whole message: text as a string, binary as bytes. */
export type WebSocketMessage = string | Uint8Array;

/**
 * A frame, or a piece of one that is longer than `maxPieceBytes` (original: `httpd_ws_frame_t`). A
 * frame in pieces reads as if the client had sent each piece as a fragment: what is passed on to
 * `sendFrame()` as it comes is the same message.
 */
export interface WebSocketFrame {
  /** The frame's opcode; Continuation for all of a message but its first fragment or piece. */
  readonly opcode: Opcode;
  /** Whether the message ends with it: the FIN bit, of the last piece of a frame. */
  readonly final: boolean;
  /** The payload, or the next piece of it; yours to keep. */
  readonly payload: Uint8Array;
  /** How many bytes of the frame are still to come, in pieces (original: `left_len`). */
  readonly remaining: number;
}

/** A message that is read while it arrives. */
export interface WebSocketMessageStream {
  /** Whether it is text. */
  readonly type: "text" | "binary";
  /** Its bytes, of text too. Read it or cancel it: the next message comes behind it. */
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
}
