/**
 * Parses the frames of a client without I/O (RFC 6455 section 5): bytes in, steps out. The parser
 * checks everything that can be known while bytes arrive: masking, lengths,
 * the order of fragments, UTF-8, close codes. It never holds more than one control payload.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { asBuffer, NO_BUFFER } from "../buffer.ts";
import { WebSocketError } from "../errors.ts";
import { type CloseStatus, decodeClose } from "./close.ts";
import { isOpcode, Opcode } from "./opcode.ts";
import { unmask } from "./unmask.ts";
import { Utf8Validator } from "./utf8.ts";

/** What {@linkcode FrameParser.next} came to. */
export const FrameStep = {
  /** All bytes are used up: push more. */
  Need: 0,
  /** A frame begins: `opcode`, `fin`, `compressed` and `payloadLength` are set. */
  Header: 1,
  /** A piece of its payload is in `data`; never empty; a control frame's payload is one piece. */
  Data: 2,
  /** The frame ends; of a Close frame `closeStatus` is set. */
  End: 3,
  /** The peer broke a rule: see `error`. Nothing follows. */
  Fail: 4,
} as const;

/** One of the {@linkcode FrameStep}s. */
export type FrameStep = typeof FrameStep[keyof typeof FrameStep];

/** What the parser lets pass. */
export interface FrameLimits {
  /** The most payload bytes of one frame and of one message, as they travel; may be Infinity. */
  readonly maxPayloadBytes: number;
  /** The most frames of one message; may be Infinity. */
  readonly maxFragments: number;
  /** Whether permessage-deflate was negotiated, so that RSV1 may be set (RFC 7692 section 6). */
  readonly deflate: boolean;
}

/** Where in a frame the next byte belongs. */
const State = {
  FirstByte: 0,
  SecondByte: 1,
  Length: 2,
  MaskingKey: 3,
  DataPayload: 4,
  ControlPayload: 5,
  /** After a Close frame: RFC 6455 section 5.5.1 lets no frame follow, what comes is dropped. */
  Closed: 6,
  Failed: 7,
} as const;
type State = typeof State[keyof typeof State];

/**
 * Parses the frames that a client sends.
 *
 * Push bytes, call `next()` until it needs more. Per frame the steps are Header, any number of
 * Data, End; frames of any length stream through. The result is the same however the bytes are cut,
 * except where Data is cut.
 *
 * **Pushed bytes are modified**: payloads are unmasked in place and handed out as views, so the
 * memory belongs to the parser until it needs more, and to the caller that keeps a view.
 */
export class FrameParser {
  /** The frame's opcode, from Header to End. */
  opcode: Opcode = Opcode.Continuation;
  /** Whether the frame ends its message. */
  fin = false;
  /** Whether the message is compressed: RSV1 of its first frame; false on control frames. */
  compressed = false;
  /** The length of the frame's payload in bytes. */
  payloadLength = 0;
  /** After the End of a Close frame: what it says. */
  closeStatus: CloseStatus | undefined;
  /** After Fail: which rule was broken; the peer gets its `closeCode`. */
  error: WebSocketError | undefined;

  readonly #limits: FrameLimits;
  readonly #utf8 = new Utf8Validator();
  readonly #key = new Uint8Array(4);
  #input: Buffer = NO_BUFFER;
  #position = 0;
  /** Where the last piece of payload is: `data` is a view that not everybody needs. */
  #piece: Buffer = NO_BUFFER;
  #pieceStart = 0;
  #pieceEnd = 0;
  #state: State = State.FirstByte;

  #lengthBytes = 0; // size of the extended length, 2 or 8
  #headerBytes = 0; // bytes read of the extended length or of the masking key
  #payloadBytes = 0; // bytes read of the payload
  #control: Buffer = NO_BUFFER; // a control payload that came in pieces

  #messageOpcode: Opcode = Opcode.Continuation; // of the message under way; Continuation: none
  #messageCompressed = false;
  #messageBytes = 0; // announced by the headers of its data frames
  #messageRead = 0; // of their payloads
  #fragments = 0;
  #ended = 0; // messages, and control frames between them

  /** Makes a parser for one connection. */
  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** Gives the next bytes; allowed at the start and after Need. */
  push(bytes: Uint8Array): void {
    this.#input = asBuffer(bytes);
    this.#position = 0;
  }

  /**
   * Which message, or control frame between messages, has begun and not ended, by a number of its
   * own; undefined between them, and when nothing follows any more.
   */
  get unfinished(): number | undefined {
    if (this.#state >= State.Closed) return undefined;
    const between = this.#state === State.FirstByte && this.#messageOpcode === Opcode.Continuation;
    return between ? undefined : this.#ended;
  }

  /** How many payload bytes of that message have come; none of a control frame between messages. */
  get unfinishedBytes(): number {
    return this.#messageOpcode === Opcode.Continuation ? 0 : this.#messageRead;
  }

  /** How many of the pushed bytes wait for `next()`. */
  get waitingBytes(): number {
    return this.#input.length - this.#position;
  }

  /** After Data: unmasked payload, a view. */
  get data(): Uint8Array {
    const { buffer, byteOffset } = this.#piece;
    return new Uint8Array(buffer, byteOffset + this.#pieceStart, this.#pieceEnd - this.#pieceStart);
  }

  /** After Data of uncompressed text: what `data` says, where no code point is cut. */
  get text(): string {
    return this.#piece.toString("utf8", this.#pieceStart, this.#pieceEnd);
  }

  /** After Data: whether `data` is all of a message. */
  get isWholeMessage(): boolean {
    return this.fin && this.#fragments === 1 &&
      this.#pieceEnd - this.#pieceStart === this.payloadLength;
  }

  /** Goes on to the next step. */
  next(): FrameStep {
    switch (this.#state) {
      case State.DataPayload:
        return this.#readData();
      case State.ControlPayload:
        return this.#readControl();
      case State.Closed:
        return this.#need();
      case State.Failed:
        return FrameStep.Fail;
      default:
        return this.#readHeader();
    }
  }

  #need(): FrameStep {
    this.#letGo();
    return FrameStep.Need;
  }

  /** Lets go of the pushed memory. */
  #letGo(): void {
    this.#piece = this.#input = NO_BUFFER;
    this.#pieceStart = this.#pieceEnd = this.#position = 0;
  }

  #readHeader(): FrameStep {
    while (this.#position < this.#input.length) {
      this.#readHeaderByte(this.#input[this.#position++]!);
      if (this.#state === State.Failed) return FrameStep.Fail;
      if (this.#state >= State.DataPayload) return FrameStep.Header;
    }
    return this.#need();
  }

  #readHeaderByte(byte: number): void {
    switch (this.#state) {
      case State.FirstByte:
        return this.#readFirstByte(byte);
      case State.SecondByte:
        return this.#readSecondByte(byte);
      case State.Length:
        return this.#readLengthByte(byte);
      case State.MaskingKey:
        this.#key[this.#headerBytes++] = byte;
        if (this.#headerBytes === 4) this.#beginPayload();
    }
  }

  /** FIN, RSV1 to 3, opcode; and whether such a frame may come now (sections 5.2 and 5.4). */
  #readFirstByte(byte: number): void {
    const opcode = byte & 0x0f;
    const rsv1 = (byte & 0x40) !== 0;
    this.fin = (byte & 0x80) !== 0;
    if (!isOpcode(opcode)) return this.#failProtocol(`Opcode ${opcode} is reserved`);
    if ((byte & 0x30) !== 0) return this.#failProtocol("RSV2 or RSV3 is set");

    const control = opcode >= Opcode.Close;
    if (rsv1 && (!this.#limits.deflate || control || opcode === Opcode.Continuation)) {
      return this.#failProtocol("RSV1 is set where no compressed message begins");
    }
    if (control) {
      if (!this.fin) return this.#failProtocol("Control frame is fragmented");
    } else if (opcode === Opcode.Continuation) {
      if (this.#messageOpcode === Opcode.Continuation) {
        return this.#failProtocol("Continuation frame without a message to continue");
      }
    } else {
      if (this.#messageOpcode !== Opcode.Continuation) {
        return this.#failProtocol("A message begins inside another");
      }
      this.#beginMessage(opcode, rsv1);
    }
    this.opcode = opcode;
    this.compressed = !control && this.#messageCompressed;
    this.#state = State.SecondByte;
  }

  #beginMessage(opcode: Opcode, compressed: boolean): void {
    this.#messageOpcode = opcode;
    this.#messageCompressed = compressed;
    this.#messageBytes = 0;
    this.#messageRead = 0;
    this.#fragments = 0;
  }

  /** MASK and the 7-bit length. */
  #readSecondByte(byte: number): void {
    if ((byte & 0x80) === 0) return this.#failProtocol("Client frame is not masked");
    const length = byte & 0x7f;
    if (length <= 125) {
      this.payloadLength = length;
      return this.#endLength();
    }
    if (this.opcode >= Opcode.Close) {
      return this.#failProtocol("Control frame is longer than 125 bytes");
    }
    this.payloadLength = 0;
    this.#lengthBytes = length === 126 ? 2 : 8;
    this.#headerBytes = 0;
    this.#state = State.Length;
  }

  #readLengthByte(byte: number): void {
    if (this.#lengthBytes === 8 && this.#headerBytes === 0 && byte >= 0x80) {
      return this.#failProtocol("The top bit of the 64-bit length is set");
    }
    this.payloadLength = this.payloadLength * 0x100 + byte;
    if (++this.#headerBytes < this.#lengthBytes) return;
    const shortest = this.#lengthBytes === 2 ? 126 : 0x10000;
    if (this.payloadLength < shortest) {
      return this.#failProtocol("Payload length is not in its shortest form");
    }
    this.#endLength();
  }

  /** Checks the limits before a single payload byte is taken. */
  #endLength(): void {
    if (this.opcode < Opcode.Close) {
      const { maxPayloadBytes, maxFragments } = this.#limits;
      this.#messageBytes += this.payloadLength;
      // Past 2^53 counting is no longer exact, whatever the limit.
      if (this.#messageBytes > Math.min(maxPayloadBytes, Number.MAX_SAFE_INTEGER)) {
        return this.#fail(
          new WebSocketError(1009, "WS_TOO_LARGE", `Message exceeds ${maxPayloadBytes} bytes`),
        );
      }
      if (++this.#fragments > maxFragments) {
        return this.#fail(
          new WebSocketError(
            1008,
            "WS_TOO_MANY_FRAGMENTS",
            `Message exceeds ${maxFragments} fragments`,
          ),
        );
      }
    }
    this.#headerBytes = 0;
    this.#state = State.MaskingKey;
  }

  #beginPayload(): void {
    this.#payloadBytes = 0;
    this.#state = this.opcode >= Opcode.Close ? State.ControlPayload : State.DataPayload;
  }

  #readData(): FrameStep {
    const missing = this.payloadLength - this.#payloadBytes;
    if (missing === 0) return this.#endData();
    const taken = this.#takePiece(missing);
    if (taken === 0) return this.#need();
    this.#messageRead += taken;
    if (
      this.#validatesText() && !this.#utf8.push(this.#piece, this.#pieceStart, this.#pieceEnd)
    ) return this.#failText();
    return FrameStep.Data;
  }

  #endData(): FrameStep {
    if (this.fin) {
      if (this.#validatesText() && !this.#utf8.complete) return this.#failText();
      this.#messageOpcode = Opcode.Continuation;
    }
    return this.#endFrame();
  }

  /** Compressed text is validated when it is inflated. */
  #validatesText(): boolean {
    return this.#messageOpcode === Opcode.Text && !this.#messageCompressed;
  }

  #readControl(): FrameStep {
    const missing = this.payloadLength - this.#payloadBytes;
    if (missing === 0) return this.#endControl();
    const taken = this.#takePiece(missing);
    if (taken === this.payloadLength) return FrameStep.Data;
    if (taken === 0) return this.#need();
    if (taken === this.#payloadBytes) this.#control = Buffer.alloc(this.payloadLength);
    this.#control.set(this.data, this.#payloadBytes - taken);
    if (taken < missing) return this.#need();
    this.#piece = this.#control;
    this.#pieceStart = 0;
    this.#pieceEnd = this.payloadLength;
    return FrameStep.Data;
  }

  #endControl(): FrameStep {
    if (this.opcode !== Opcode.Close) return this.#endFrame();
    const status = decodeClose(this.data);
    if (status instanceof WebSocketError) {
      this.#fail(status);
      return FrameStep.Fail;
    }
    this.closeStatus = status;
    this.#endFrame();
    this.#state = State.Closed;
    return FrameStep.End;
  }

  #endFrame(): FrameStep {
    this.#piece = this.#control = NO_BUFFER;
    this.#pieceStart = this.#pieceEnd = 0;
    this.#state = State.FirstByte;
    if (this.#messageOpcode === Opcode.Continuation) this.#ended++;
    return FrameStep.End;
  }

  /** Makes the next payload bytes, at most `limit`, the piece, unmasked; returns how many. */
  #takePiece(limit: number): number {
    const start = this.#position;
    const end = Math.min(this.#input.length, start + limit);
    unmask(this.#input, start, end, this.#key, this.#payloadBytes);
    this.#piece = this.#input;
    this.#pieceStart = start;
    this.#pieceEnd = this.#position = end;
    this.#payloadBytes += end - start;
    return end - start;
  }

  #failText(): FrameStep {
    this.#fail(new WebSocketError(1007, "WS_INVALID_DATA", "Text message is not UTF-8"));
    return FrameStep.Fail;
  }

  #failProtocol(message: string): void {
    this.#fail(new WebSocketError(1002, "WS_PROTOCOL", message));
  }

  #fail(error: WebSocketError): void {
    this.error = error;
    this.#letGo();
    this.#state = State.Failed;
  }
}
