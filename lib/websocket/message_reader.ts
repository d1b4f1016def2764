/**
 * Whole WebSocket messages out of frames, without I/O (RFC 6455 sections 5.4 and 5.6): gathers the
 * fragments, inflates what is compressed, decodes text. On top of the frame parser, for programs that
 * want messages rather than frames.
 *
 * @module
 */
import { isUtf8 } from "node:buffer";
import { asBuffer } from "../buffer.ts";
import { GrowingBytes, NO_BYTES } from "../bytes.ts";
import { WebSocketError } from "../errors.ts";
import type { CloseStatus } from "./close.ts";
import type { Inflater } from "./deflate.ts";
import { Opcode } from "./opcode.ts";
import { type FrameLimits, FrameParser, FrameStep } from "./frame_parser.ts";

/** What {@linkcode MessageReader.next} came to. */
export const MessageStep = {
  /** All bytes are used up: push more. */
  Need: 0,
  /** A text message is in `text`. */
  Text: 1,
  /** A binary message is in `bytes`. */
  Binary: 2,
  /** A Ping: its payload is in `bytes`. */
  Ping: 3,
  /** A Pong: its payload is in `bytes`. */
  Pong: 4,
  /** A Close frame: see `closeStatus`. Nothing follows but Need. */
  Close: 5,
  /** The peer broke a rule: see `error`. Nothing follows. */
  Fail: 6,
} as const;

/** One of the {@linkcode MessageStep}s. */
export type MessageStep = typeof MessageStep[keyof typeof MessageStep];

/**
 * Reads messages and control frames one after another.
 *
 * The memory it takes follows the bytes that have come, never a length that a header announces, and
 * stays below twice `maxPayloadBytes`; inflating takes up to `maxPayloadBytes` more.
 */
export class MessageReader {
  /** After Text: the message. */
  text = "";
  /** After Binary, Ping and Pong: the payload, a copy that is the caller's to keep. */
  bytes: Uint8Array = NO_BYTES;

  readonly #parser: FrameParser;
  readonly #inflater: Inflater | undefined;
  readonly #maxPayloadBytes: number;
  #error: WebSocketError | undefined; // one that the parser cannot know
  #opcode: Opcode = Opcode.Text; // of the message under way
  readonly #gathered = new GrowingBytes(); // what came of it in pieces
  #piece: Uint8Array = NO_BYTES; // what came of it in one piece, unless it is in `text`
  /** Whether the message came in one piece. */
  #whole = false;

  /**
   * Makes a reader for one connection.
   *
   * @param limits `maxPayloadBytes` caps a message as it travels, and once more when it is inflated
   * @param inflater the connection's, when permessage-deflate was negotiated
   */
  constructor(limits: Omit<FrameLimits, "deflate">, inflater?: Inflater) {
    this.#parser = new FrameParser({ ...limits, deflate: inflater !== undefined });
    this.#maxPayloadBytes = limits.maxPayloadBytes;
    this.#inflater = inflater;
  }

  /** After Close: what the frame says. */
  get closeStatus(): CloseStatus | undefined {
    return this.#parser.closeStatus;
  }

  /** Which message, or frame between messages, has begun and not ended; see the frame parser's. */
  get unfinished(): number | undefined {
    return this.#parser.unfinished;
  }

  /** How many payload bytes of that message have come. */
  get unfinishedBytes(): number {
    return this.#parser.unfinishedBytes;
  }

  /** How many of the pushed bytes wait for `next()`. */
  get waitingBytes(): number {
    return this.#parser.waitingBytes;
  }

  /** After Fail: which rule was broken; the peer gets its `closeCode`. */
  get error(): WebSocketError | undefined {
    return this.#error ?? this.#parser.error;
  }

  /** Gives the next bytes, which are modified; allowed at the start and after Need. */
  push(bytes: Uint8Array): void {
    this.#parser.push(bytes);
  }

  /** Goes on to the next message or control frame. */
  next(): MessageStep {
    if (this.#error !== undefined) return MessageStep.Fail;
    for (;;) {
      switch (this.#parser.next()) {
        case FrameStep.Need:
          return MessageStep.Need;
        case FrameStep.Header:
          this.#beginFrame();
          break;
        case FrameStep.Data:
          this.#takeData();
          break;
        case FrameStep.End: {
          const step = this.#endFrame();
          if (step !== MessageStep.Need) return step;
          break;
        }
        case FrameStep.Fail:
          this.#gathered.take();
          return MessageStep.Fail;
      }
    }
  }

  #beginFrame(): void {
    const { opcode } = this.#parser;
    if (opcode >= Opcode.Close) {
      this.bytes = NO_BYTES;
    } else if (opcode !== Opcode.Continuation) {
      this.#opcode = opcode;
    }
  }

  #takeData(): void {
    const parser = this.#parser;
    if (parser.opcode >= Opcode.Close) {
      this.bytes = new Uint8Array(parser.data); // not slice(): a Buffer's does not copy
      return;
    }
    if (parser.isWholeMessage) {
      this.#whole = true;
      if (this.#opcode === Opcode.Text && !parser.compressed) this.text = parser.text;
      else this.#piece = parser.data;
      return;
    }
    this.#gathered.add(parser.data, this.#maxPayloadBytes);
  }

  /** Need: there is nothing to report yet. */
  #endFrame(): MessageStep {
    switch (this.#parser.opcode) {
      case Opcode.Close:
        return MessageStep.Close;
      case Opcode.Ping:
        return MessageStep.Ping;
      case Opcode.Pong:
        return MessageStep.Pong;
      default:
        return this.#parser.fin ? this.#endMessage() : MessageStep.Need;
    }
  }

  #endMessage(): MessageStep {
    const whole = this.#whole;
    const payload = whole ? this.#piece : this.#gathered.take();
    this.#whole = false;
    this.#piece = NO_BYTES;
    try {
      if (this.#parser.compressed) return this.#endCompressed(payload);
      if (this.#opcode === Opcode.Text) {
        if (!whole) this.text = decodeText(payload);
        return MessageStep.Text;
      }
      this.bytes = whole ? new Uint8Array(payload) : payload;
      return MessageStep.Binary;
    } catch (error) {
      if (!(error instanceof WebSocketError)) throw error;
      this.#error = error;
      return MessageStep.Fail;
    }
  }

  #endCompressed(payload: Uint8Array): MessageStep {
    // The parser lets a compressed frame pass only when there is an inflater.
    const message = this.#inflater!.inflate(payload, this.#maxPayloadBytes);
    if (this.#opcode === Opcode.Binary) {
      this.bytes = message;
      return MessageStep.Binary;
    }
    if (!isUtf8(message)) {
      throw new WebSocketError(1007, "WS_INVALID_DATA", "Text message is not UTF-8");
    }
    this.text = decodeText(message);
    return MessageStep.Text;
  }
}

/** Decodes valid text; a byte order mark is part of it, since RFC 6455 gives it no meaning. */
function decodeText(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("utf8");
}
