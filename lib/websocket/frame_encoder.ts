/**
 * Encodes the frames of a server without I/O (RFC 6455 section 5): unmasked, the length in its
 * shortest form.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { cannotSend } from "./close.ts";
import { Opcode } from "./opcode.ts";

/** The longest payload of a control frame (RFC 6455 section 5.5). */
const MAX_CONTROL_BYTES = 125;

/** FIN and RSV1 of a frame that is sent. */
export interface FrameFlags {
  /** Whether the frame ends its message; default true. */
  readonly fin?: boolean;
  /** Whether a compressed message begins (RFC 7692 section 6); default false. */
  readonly rsv1?: boolean;
}

/**
 * Makes a whole frame, header and payload in one piece, unmasked as a server sends it. The payload
 * is copied.
 *
 * @throws {WebSocketError} `WS_CANNOT_SEND` for a control frame that is fragmented or longer than 125
 * bytes (RFC 6455 section 5.5), and for RSV1 elsewhere than on Text or Binary
 */
export function encodeFrame(
  opcode: Opcode,
  payload: Uint8Array,
  flags: FrameFlags = {},
): Uint8Array {
  const size = headerSize(payload.length);
  const frame = new Uint8Array(size + payload.length);
  writeHeader(frame, opcode, payload.length, flags);
  frame.set(payload, size);
  return frame;
}

/**
 * Makes the one frame of an uncompressed message, text as Text, bytes as Binary, as
 * {@linkcode encodeFrame} does. Its memory may be shared with others': for what leaves at once.
 */
export function encodeMessage(data: string | Uint8Array): Buffer {
  const isText = typeof data === "string";
  const length = isText ? Buffer.byteLength(data) : data.length;
  const size = headerSize(length);
  const frame = Buffer.allocUnsafe(size + length);
  writeHeader(frame, isText ? Opcode.Text : Opcode.Binary, length, NO_FLAGS);
  if (isText) frame.write(data, size);
  else frame.set(data, size);
  return frame;
}

const NO_FLAGS: FrameFlags = {};

function headerSize(payloadLength: number): number {
  return payloadLength < 126 ? 2 : payloadLength < 0x10000 ? 4 : 10;
}

function writeHeader(
  target: Uint8Array,
  opcode: Opcode,
  payloadLength: number,
  { fin = true, rsv1 = false }: FrameFlags,
): void {
  if (opcode >= Opcode.Close && (!fin || payloadLength > MAX_CONTROL_BYTES)) {
    throw cannotSend(`A control frame must be whole and at most ${MAX_CONTROL_BYTES} bytes long`);
  }
  if (rsv1 && opcode !== Opcode.Text && opcode !== Opcode.Binary) {
    throw cannotSend("RSV1 belongs on the first frame of a message: leave it out here");
  }
  target[0] = (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | opcode;
  if (payloadLength < 126) {
    target[1] = payloadLength;
  } else if (payloadLength < 0x10000) {
    target[1] = 126;
    target[2] = payloadLength >> 8;
    target[3] = payloadLength & 0xff;
  } else {
    target[1] = 127;
    new DataView(target.buffer, target.byteOffset).setBigUint64(2, BigInt(payloadLength));
  }
}
