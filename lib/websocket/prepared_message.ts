/**
 * A message on its way out: encoded once, deflated once per agreement, for however many receivers.
 *
 * @module
 */
import { utf8, viewOf } from "../bytes.ts";
import { isThenable } from "../contain/callbacks.ts";
import { WebSocketError } from "../errors.ts";
import { shown } from "../options.ts";
import { CloseCode } from "./close.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import { Opcode } from "./opcode.ts";
import { encodeFrame } from "./frame_encoder.ts";

/** Bytes in any of their shapes. */
export type Bytes = ArrayBufferLike | ArrayBufferView;

/** Compresses a message: `deflateMessage()` of `deflate.ts`, which is loaded with the first socket. */
export type Deflate = (message: Uint8Array, agreement: DeflateAgreement) => Uint8Array;

/** A message as its one frame, and deflated once per agreement. */
export class EncodedMessage {
  /** The frame's opcode. */
  readonly opcode: Opcode;
  /** The message as one frame, not compressed. */
  readonly frame: Uint8Array;
  /** The bytes of the message. */
  readonly payload: Uint8Array;
  #deflated: Map<string, Uint8Array> | undefined;

  /** Encodes text as a Text message, bytes as a Binary message, or as what `opcode` says. */
  constructor(
    data: string | Bytes,
    opcode: Opcode = typeof data === "string" ? Opcode.Text : Opcode.Binary,
  ) {
    this.opcode = opcode;
    const bytes = bytesOf(data);
    this.frame = encodeFrame(this.opcode, bytes);
    this.payload = this.frame.subarray(this.frame.length - bytes.length);
  }

  /**
   * Returns the message as one frame for connections whose server side keeps no context: compressed,
   * or plain where that is shorter. Connections of the same agreement share it.
   */
  frameFor(agreement: DeflateAgreement, deflate: Deflate): Uint8Array {
    const { serverMaxWindowBits, level, memLevel } = agreement;
    const key = `${serverMaxWindowBits} ${level} ${memLevel}`;
    const known = this.#deflated?.get(key);
    if (known !== undefined) return known;
    const deflated = encodeFrame(this.opcode, deflate(this.payload, agreement), {
      rsv1: true,
    });
    const frame = deflated.length < this.frame.length ? deflated : this.frame;
    (this.#deflated ??= new Map()).set(key, frame);
    return frame;
  }
}

/** Returns what a prepared message was encoded to. */
export let encodedOf: (message: PreparedMessage) => EncodedMessage;

/**
 * A message that is encoded once and can be sent to many sockets. `server.broadcast` and
 * `server.publish` make one of what they are given; make one yourself to send to a choice of your
 * own. Bytes are copied: they may be changed afterwards.
 */
export class PreparedMessage {
  readonly #encoded: EncodedMessage;

  static {
    encodedOf = (message) => message.#encoded;
  }

  /**
   * Encodes text as a Text message, bytes as a Binary message.
   *
   * @throws {WebSocketError} `WS_CANNOT_SEND` for what is neither
   */
  constructor(data: string | Bytes) {
    assertData("PreparedMessage()", data);
    this.#encoded = new EncodedMessage(data);
  }
}

/**
 * Throws for what is neither text nor bytes: a number would be taken for a length, an object for
 * nothing.
 *
 * @throws {WebSocketError} `WS_CANNOT_SEND`
 */
export function assertData(method: string, data: unknown): void {
  if (typeof data === "string" || ArrayBuffer.isView(data) || isBuffer(data)) return;
  const instead = isThenable(data) ? "await it first" : "use JSON.stringify(), or String()";
  throw new WebSocketError(
    CloseCode.InternalError,
    "WS_CANNOT_SEND",
    `${method} takes text or bytes, and was given ${shown(data)}: ${instead}`,
  );
}

function isBuffer(data: unknown): boolean {
  return data instanceof ArrayBuffer ||
    (typeof SharedArrayBuffer === "function" && data instanceof SharedArrayBuffer);
}

/** The bytes of text or of a buffer, not copied. */
export function bytesOf(data: string | Bytes): Uint8Array {
  return typeof data === "string" ? utf8(data) : viewOf(data);
}
