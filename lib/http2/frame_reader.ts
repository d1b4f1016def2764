/**
 * The reader of a client's frames, sans I/O: bytes are pushed in, events are pulled out (RFC 9113
 * sections 3.4, 4 and 6; RFC 9218 section 7.1).
 *
 * It decides every rule that needs no state of streams, with the scope and code that the RFC gives
 * it. What comes out depends on the bytes alone, never on how they were cut into pieces, except
 * where a DATA frame is cut. Frames that no correct client sends, such as PUSH_PROMISE or those of
 * a stream with an even number, are refused here: this server pushes nothing.
 *
 * The file is one thing, a state machine whose steps share the frame that is being read: one method
 * for each part of a frame and for each type.
 *
 * @module
 */
import { GrowingBytes, NO_BYTES } from "../bytes.ts";
import { latin1 } from "../runtime/latin1.ts";
import { connectionFault, ErrorCode, type Http2Fault, streamFault } from "./error_code.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, PREFACE } from "./frame_type.ts";
import { checkSetting, SETTING_BYTES } from "./settings.ts";

/** How much of what a client may send. */
export interface FrameLimits {
  /** The payload of a frame, in bytes, as SETTINGS_MAX_FRAME_SIZE announces it. */
  readonly maxFrameBytes: number;
  /** A header block as it travels, in bytes. A longer one is `ENHANCE_YOUR_CALM`. */
  readonly maxBlockBytes: number;
  /** CONTINUATION frames of one header block. More are `ENHANCE_YOUR_CALM`. */
  readonly maxContinuations: number;
  /** Entries of one SETTINGS frame. More are `ENHANCE_YOUR_CALM`. */
  readonly maxSettings: number;
}

/** What {@linkcode FrameReader.next} came to; which fields hold what it means. */
export const FrameStep = {
  /** All bytes are used up: push more. */
  Need: 0,
  /** The preface is complete; SETTINGS come next. */
  Preface: 1,
  /** A piece of a DATA frame: `streamId`, `data`, `flowBytes`, `endStream`. */
  Data: 2,
  /** A whole header block: `streamId`, `block`, `endStream`; `fault` where its stream has one. */
  Headers: 3,
  /** A PRIORITY frame, which means nothing any more: `streamId`. */
  Priority: 4,
  /** RST_STREAM: `streamId`, `errorCode`. */
  Reset: 5,
  /** SETTINGS: `settings`. */
  Settings: 6,
  /** SETTINGS that acknowledge ours. */
  SettingsAck: 7,
  /** PING: `opaque`. */
  Ping: 8,
  /** A PING that answers ours: `opaque`. */
  PingAck: 9,
  /** GOAWAY: `lastStreamId`, `errorCode`. */
  GoAway: 10,
  /** WINDOW_UPDATE: `streamId`, which is 0 for the connection, and `increment`. */
  WindowUpdate: 11,
  /** PRIORITY_UPDATE: `streamId`, which is the one it is about, and `priorityField`. */
  PriorityUpdate: 12,
  /** A frame of a type that is not known here. */
  Ignored: 13,
  /**
   * A rule is broken: `fault`. After one of a stream the frames go on; after one of the connection
   * nothing follows.
   */
  Fault: 14,
} as const;

/** One of the {@linkcode FrameStep}s. */
export type FrameStep = typeof FrameStep[keyof typeof FrameStep];

/** What a step of the reader's own comes to when there is nothing to report yet. */
const GO_ON = -1;
type Progress = FrameStep | typeof GO_ON;

// Where in a frame the next byte belongs.
const IN_PREFACE = 0;
const AT_HEADER = 1;
const AT_DATA_PADDING = 2; // the byte that gives its length
const IN_DATA = 3;
const AT_BLOCK_PREFIX = 4; // the same byte of HEADERS, and the priority
const IN_BLOCK = 5;
const IN_WHOLE = 6; // a payload that is read in one go
const IN_PRIORITY_FIELD = 7;
const IN_SKIPPED = 8;
const FAILED = 9;

/** What PRIORITY_UPDATE has before its field value. */
const PRIORITY_UPDATE_PREFIX_BYTES = 4;
/** The dependency and the weight of RFC 7540. */
const PRIORITY_BYTES = 5;

const PREFACE_BYTES = Uint8Array.from(PREFACE, (character) => character.charCodeAt(0));

/**
 * Reads the frames of one client, from the preface on.
 *
 * ```ts
 * reader.push(bytes);
 * while ((step = reader.next()) !== FrameStep.Need) { … }
 * ```
 *
 * A field is valid after the steps that name it, until the next one. Views (`data`, `block`,
 * `opaque`) are of what was pushed, where they can be.
 */
export class FrameReader {
  /** The stream of the frame. */
  streamId = 0;
  /** A piece of a DATA frame's data: empty only where the frame has none. */
  data: Uint8Array = NO_BYTES;
  /** What counts for flow control with this piece, in bytes; padding counts with the first. */
  flowBytes = 0;
  /** Whether the client sends no more on the stream; of DATA it is said with the last piece. */
  endStream = false;
  /** A header block, joined if it came in several frames. */
  block: Uint8Array = NO_BYTES;
  /** The entries of a SETTINGS frame, id and value by turns. */
  readonly settings: number[] = [];
  /** The eight bytes of a PING. */
  opaque: Uint8Array = NO_BYTES;
  /** The code of RST_STREAM or GOAWAY; any number up to 2^32-1. */
  errorCode = 0;
  /** The last of this server's streams that the client has seen. */
  lastStreamId = 0;
  /** By how many bytes a window grows. */
  increment = 0;
  /** A value as the `Priority` field has it (RFC 9218 section 4), one character per byte. */
  priorityField = "";
  /**
   * What is wrong. After `FrameStep.Headers`: what is wrong with the stream, whose block has to be
   * decoded all the same, since the frames behind it depend on that.
   */
  fault: Http2Fault | undefined;

  readonly #limits: FrameLimits;
  #state = IN_PREFACE;
  /** The bytes pushed last, used up to `#pos`. */
  #input: Uint8Array = NO_BYTES;
  #pos = 0;

  // The frame that is being read
  #type = 0;
  #flags = 0;
  /** How much of the payload is still to come, but for padding. */
  #left = 0;
  /** How much padding follows. */
  #padding = 0;
  /** What `flowBytes` has besides the next piece of data. */
  #overhead = 0;
  /** Whether SETTINGS have to come next. */
  #expectsSettings = true;

  // The header block that is being read
  /** The stream whose CONTINUATION has to come next; 0 for none. */
  #blockStream = 0;
  #blockEndsStream = false;
  #blockFault: Http2Fault | undefined;
  #blockBytes = 0;
  #continuations = 0;
  /** What has come of a block, or of a field of PRIORITY_UPDATE, that came in pieces. */
  #kept: GrowingBytes | undefined;

  /** What has come of a header or of a short payload that was cut. */
  #scratch: Uint8Array | undefined;
  #scratchBytes = 0;
  /** The header or payload that was read last, and where it begins. */
  #bytes: Uint8Array = NO_BYTES;
  #at = 0;

  /** Makes a reader for one connection. */
  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /**
   * Hands over the next bytes; they must not change while a view of them is in use. Only for a
   * reader whose last step was `FrameStep.Need`, or a new one; a failed reader ignores them.
   *
   * @throws {TypeError} Bytes of the last push are left.
   */
  push(bytes: Uint8Array): void {
    if (this.#state === FAILED) return;
    if (this.#pos < this.#input.length) {
      throw new TypeError(
        "Bytes are left: call next() until it returns FrameStep.Need, then push()",
      );
    }
    this.#input = bytes;
    this.#pos = 0;
  }

  /** Goes on to the next event. Once the connection is at fault, that is what it always returns. */
  next(): FrameStep {
    let progress: Progress;
    do {
      progress = this.#advance();
    } while (progress === GO_ON);
    return progress;
  }

  /** Whether no byte of a next frame has come, nor one that a header block still needs. */
  get idle(): boolean {
    return this.#state === AT_HEADER && this.#scratchBytes === 0 && this.#blockStream === 0 &&
      this.#pos === this.#input.length;
  }

  /** Whether a header block has begun and not ended. */
  get inBlock(): boolean {
    return this.#blockStream !== 0;
  }

  #advance(): Progress {
    switch (this.#state) {
      case IN_PREFACE:
        return this.#readPreface();
      case AT_HEADER:
        return this.#readHeader();
      case AT_DATA_PADDING:
        return this.#readDataPadding();
      case IN_DATA:
        return this.#readData();
      case AT_BLOCK_PREFIX:
        return this.#readBlockPrefix();
      case IN_BLOCK:
        return this.#readBlock();
      case IN_WHOLE:
        return this.#readWhole();
      case IN_PRIORITY_FIELD:
        return this.#readPriorityField();
      case IN_SKIPPED:
        return this.#skip();
      default:
        return FrameStep.Fault;
    }
  }

  #readPreface(): Progress {
    // `#left` counts what has come of it: it is 0 in a new reader.
    while (this.#left < PREFACE_BYTES.length) {
      if (this.#pos === this.#input.length) return this.#need();
      if (this.#input[this.#pos++] !== PREFACE_BYTES[this.#left++]) {
        return this.#fail(ErrorCode.ProtocolError, "The client's preface is not that of HTTP/2");
      }
    }
    this.#state = AT_HEADER;
    return FrameStep.Preface;
  }

  #readHeader(): Progress {
    if (!this.#collect(FRAME_HEADER_BYTES)) return this.#need();
    const bytes = this.#bytes;
    const at = this.#at;
    const length = bytes[at]! << 16 | bytes[at + 1]! << 8 | bytes[at + 2]!;
    this.#type = bytes[at + 3]!;
    this.#flags = bytes[at + 4]!;
    this.streamId = uint31(bytes, at + 5);
    this.#left = length;
    this.#padding = 0;
    if (length > this.#limits.maxFrameBytes) {
      return this.#fail(
        ErrorCode.FrameSizeError,
        `A frame has ${length} bytes: send at most ${this.#limits.maxFrameBytes}`,
      );
    }
    if (this.#blockStream !== 0 && !this.#continues()) {
      return this.#fail(
        ErrorCode.ProtocolError,
        `A frame of type ${this.#type} interrupts the header block of stream ${this.#blockStream}`,
      );
    }
    if (this.#expectsSettings) {
      if (this.#type !== FrameType.Settings || this.#has(Flag.Ack)) {
        return this.#fail(ErrorCode.ProtocolError, "The first frame is not SETTINGS");
      }
      this.#expectsSettings = false;
    }
    return this.#begin(length);
  }

  #continues(): boolean {
    return this.#type === FrameType.Continuation && this.streamId === this.#blockStream;
  }

  /** Checks what the header says, and goes where the payload is read. */
  #begin(length: number): Progress {
    switch (this.#type) {
      case FrameType.Data:
        return this.#beginData(length);
      case FrameType.Headers:
        return this.#beginHeaders(length);
      case FrameType.Continuation:
        return this.#beginContinuation(length);
      case FrameType.Settings:
        return this.#beginSettings(length);
      case FrameType.WindowUpdate:
        if (length !== 4) return this.#failLength("WINDOW_UPDATE", "4");
        if (this.#isServers()) return this.#failStream("WINDOW_UPDATE");
        return this.#goTo(IN_WHOLE);
      case FrameType.RstStream:
        if (length !== 4) return this.#failLength("RST_STREAM", "4");
        if (!this.#isClients()) return this.#failStream("RST_STREAM");
        return this.#goTo(IN_WHOLE);
      case FrameType.Ping:
        if (length !== 8) return this.#failLength("PING", "8");
        if (this.streamId !== 0) return this.#failStream("PING");
        return this.#goTo(IN_WHOLE);
      case FrameType.GoAway:
        if (this.streamId !== 0) return this.#failStream("GOAWAY");
        if (length < 8) return this.#failLength("GOAWAY", "8 or more");
        this.#padding = length - 8; // debug data
        this.#left = 8;
        return this.#goTo(IN_WHOLE);
      case FrameType.Priority:
        return this.#beginPriority(length);
      case FrameType.PriorityUpdate:
        if (this.streamId !== 0) return this.#failStream("PRIORITY_UPDATE");
        if (length < PRIORITY_UPDATE_PREFIX_BYTES) {
          return this.#failLength("PRIORITY_UPDATE", "4 or more");
        }
        this.#left = PRIORITY_UPDATE_PREFIX_BYTES;
        this.#padding = length - PRIORITY_UPDATE_PREFIX_BYTES; // the field, read behind the stream
        return this.#goTo(IN_WHOLE);
      case FrameType.PushPromise:
        return this.#fail(ErrorCode.ProtocolError, "A client cannot push: PUSH_PROMISE");
      default:
        this.#state = IN_SKIPPED;
        return FrameStep.Ignored;
    }
  }

  #beginData(length: number): Progress {
    if (!this.#isClients()) return this.#failStream("DATA");
    if (!this.#has(Flag.Padded)) return this.#goTo(IN_DATA);
    if (length === 0) return this.#failLength("padded DATA", "1 or more");
    return this.#goTo(AT_DATA_PADDING);
  }

  #readDataPadding(): Progress {
    if (!this.#collect(1)) return this.#need();
    this.#padding = this.#bytes[this.#at]!;
    this.#left -= 1 + this.#padding;
    if (this.#left < 0) return this.#failPadding("DATA");
    this.#overhead = 1 + this.#padding;
    return this.#goTo(IN_DATA);
  }

  #readData(): Progress {
    const start = this.#pos;
    const available = Math.min(this.#left, this.#input.length - start);
    if (available === 0 && this.#left > 0) return this.#need();
    this.data = available === 0 ? NO_BYTES : this.#input.subarray(start, start + available);
    this.#pos = start + available;
    this.#left -= available;
    this.flowBytes = available + this.#overhead;
    this.#overhead = 0;
    this.endStream = this.#left === 0 && this.#has(Flag.EndStream);
    if (this.#left === 0) this.#endFrame();
    // The receiver of the last piece may transfer its buffer, which empties every view of it.
    if (this.#pos === this.#input.length) this.#letGo();
    return FrameStep.Data;
  }

  #beginHeaders(length: number): Progress {
    if (!this.#isClients()) return this.#failStream("HEADERS");
    this.#blockStream = this.streamId;
    this.#blockEndsStream = this.#has(Flag.EndStream);
    this.#blockFault = undefined;
    this.#blockBytes = 0;
    this.#continuations = 0;
    const prefix = this.#prefixBytes();
    if (length < prefix) return this.#failLength("HEADERS", `${prefix} or more`);
    return prefix === 0 ? this.#beginFragment() : this.#goTo(AT_BLOCK_PREFIX);
  }

  #prefixBytes(): number {
    return (this.#has(Flag.Padded) ? 1 : 0) + (this.#has(Flag.Priority) ? PRIORITY_BYTES : 0);
  }

  #readBlockPrefix(): Progress {
    const length = this.#prefixBytes();
    if (!this.#collect(length)) return this.#need();
    let at = this.#at;
    if (this.#has(Flag.Padded)) this.#padding = this.#bytes[at++]!;
    this.#left -= length + this.#padding;
    if (this.#left < 0) return this.#failPadding("HEADERS");
    if (this.#has(Flag.Priority) && uint31(this.#bytes, at) === this.streamId) {
      this.#blockFault = dependsOnItself(this.streamId);
    }
    return this.#beginFragment();
  }

  #beginContinuation(length: number): Progress {
    if (this.#blockStream === 0) {
      return this.#fail(ErrorCode.ProtocolError, "CONTINUATION without a header block to continue");
    }
    if (++this.#continuations > this.#limits.maxContinuations) {
      return this.#fail(
        ErrorCode.EnhanceYourCalm,
        `A header block has more than ${this.#limits.maxContinuations} CONTINUATION frames`,
      );
    }
    this.#left = length;
    return this.#beginFragment();
  }

  #beginFragment(): Progress {
    this.#blockBytes += this.#left;
    if (this.#blockBytes > this.#limits.maxBlockBytes) {
      return this.#fail(
        ErrorCode.EnhanceYourCalm,
        `A header block has more than ${this.#limits.maxBlockBytes} bytes`,
      );
    }
    return this.#goTo(IN_BLOCK);
  }

  #readBlock(): Progress {
    const isLast = this.#has(Flag.EndHeaders);
    const fragment = this.#take(isLast, this.#limits.maxBlockBytes);
    if (fragment === undefined) return this.#need();
    this.#endFrame();
    if (!isLast) return GO_ON;
    this.block = fragment;
    this.endStream = this.#blockEndsStream;
    this.fault = this.#blockFault;
    this.#blockStream = 0;
    return FrameStep.Headers;
  }

  #beginSettings(length: number): Progress {
    if (this.streamId !== 0) return this.#failStream("SETTINGS");
    if (this.#has(Flag.Ack)) {
      if (length !== 0) return this.#failLength("SETTINGS with ACK", "0");
      this.#endFrame();
      return FrameStep.SettingsAck;
    }
    if (length % SETTING_BYTES !== 0) return this.#failLength("SETTINGS", "a multiple of 6");
    const most = this.#limits.maxSettings;
    if (length > most * SETTING_BYTES) {
      return this.#fail(ErrorCode.EnhanceYourCalm, `SETTINGS with more than ${most} entries`);
    }
    return this.#goTo(IN_WHOLE);
  }

  #readSettings(length: number): Progress {
    const bytes = this.#bytes;
    this.settings.length = 0;
    for (let at = this.#at; at < this.#at + length; at += SETTING_BYTES) {
      const id = bytes[at]! << 8 | bytes[at + 1]!;
      const value = uint32(bytes, at + 2);
      const fault = checkSetting(id, value);
      if (fault !== undefined) return this.#failWith(fault);
      this.settings.push(id, value);
    }
    return FrameStep.Settings;
  }

  #beginPriority(length: number): Progress {
    if (this.streamId === 0) return this.#failStream("PRIORITY");
    if (length === PRIORITY_BYTES) return this.#goTo(IN_WHOLE);
    this.#state = IN_SKIPPED;
    this.fault = streamFault(
      this.streamId,
      ErrorCode.FrameSizeError,
      `PRIORITY has ${length} bytes instead of ${PRIORITY_BYTES}`,
    );
    return FrameStep.Fault;
  }

  #readWhole(): Progress {
    const length = this.#left;
    if (!this.#collect(length)) return this.#need();
    this.#left = 0;
    this.#endFrame();
    switch (this.#type) {
      case FrameType.Settings:
        return this.#readSettings(length);
      case FrameType.WindowUpdate:
        return this.#readWindowUpdate();
      case FrameType.RstStream:
        this.errorCode = uint32(this.#bytes, this.#at);
        return FrameStep.Reset;
      case FrameType.Ping:
        this.opaque = this.#bytes.subarray(this.#at, this.#at + length);
        return this.#has(Flag.Ack) ? FrameStep.PingAck : FrameStep.Ping;
      case FrameType.GoAway:
        this.lastStreamId = uint31(this.#bytes, this.#at);
        this.errorCode = uint32(this.#bytes, this.#at + 4);
        return FrameStep.GoAway;
      case FrameType.Priority:
        if (uint31(this.#bytes, this.#at) !== this.streamId) return FrameStep.Priority;
        this.fault = dependsOnItself(this.streamId);
        return FrameStep.Fault;
      default:
        return this.#beginPriorityField();
    }
  }

  #readWindowUpdate(): Progress {
    this.increment = uint31(this.#bytes, this.#at);
    if (this.increment > 0) return FrameStep.WindowUpdate;
    const message = "WINDOW_UPDATE with an increment of 0";
    if (this.streamId === 0) return this.#fail(ErrorCode.ProtocolError, message);
    this.fault = streamFault(this.streamId, ErrorCode.ProtocolError, message);
    return FrameStep.Fault;
  }

  /** Goes on behind the number of the stream that PRIORITY_UPDATE is about. */
  #beginPriorityField(): Progress {
    this.streamId = uint31(this.#bytes, this.#at);
    if (!this.#isClients()) return this.#failStream("The priority of PRIORITY_UPDATE");
    this.#left = this.#padding;
    this.#padding = 0;
    return this.#goTo(IN_PRIORITY_FIELD);
  }

  #readPriorityField(): Progress {
    const field = this.#take(true, this.#limits.maxFrameBytes);
    if (field === undefined) return this.#need();
    this.priorityField = latin1(field, 0, field.length);
    this.#endFrame();
    return FrameStep.PriorityUpdate;
  }

  #skip(): Progress {
    const skipped = Math.min(this.#left, this.#input.length - this.#pos);
    this.#pos += skipped;
    this.#left -= skipped;
    if (this.#left > 0) return this.#need();
    return this.#goTo(AT_HEADER);
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  /** Whether the stream is one that a client can open. */
  #isClients(): boolean {
    return (this.streamId & 1) === 1;
  }

  /** Whether the stream is one that only this server could open, which it never does. */
  #isServers(): boolean {
    return this.streamId !== 0 && (this.streamId & 1) === 0;
  }

  #goTo(state: number): typeof GO_ON {
    this.#state = state;
    return GO_ON;
  }

  /** Goes on behind the frame, or behind its padding. */
  #endFrame(): void {
    this.#left = this.#padding;
    this.#state = this.#left > 0 ? IN_SKIPPED : AT_HEADER;
  }

  /** Makes the next `length` bytes `#bytes` from `#at` on; `false`: not all of them have come. */
  #collect(length: number): boolean {
    const start = this.#pos;
    const available = this.#input.length - start;
    if (this.#scratchBytes === 0 && available >= length) {
      this.#bytes = this.#input;
      this.#at = start;
      this.#pos = start + length;
      return true;
    }
    const scratch = this.#scratch ??= new Uint8Array(
      Math.max(FRAME_HEADER_BYTES, this.#limits.maxSettings * SETTING_BYTES),
    );
    const end = start + Math.min(length - this.#scratchBytes, available);
    while (this.#pos < end) scratch[this.#scratchBytes++] = this.#input[this.#pos++]!;
    if (this.#scratchBytes < length) return false;
    this.#scratchBytes = 0;
    this.#bytes = scratch;
    this.#at = 0;
    return true;
  }

  /**
   * Takes the next `#left` bytes, a view of the input if they are all in it, behind those that were
   * kept; `undefined` when not all of them have come, or more belong to it: then they are kept.
   */
  #take(isLast: boolean, cap: number): Uint8Array | undefined {
    const start = this.#pos;
    const end = start + Math.min(this.#left, this.#input.length - start);
    if (start === end && this.#left > 0) return undefined;
    this.#left -= end - start;
    this.#pos = end;
    const isWhole = isLast && this.#left === 0;
    if (isWhole && this.#kept === undefined) return this.#input.subarray(start, end);
    this.#kept ??= new GrowingBytes();
    if (end > start) this.#kept.add(this.#input.subarray(start, end), cap);
    if (this.#left > 0) return undefined;
    if (!isLast) return NO_BYTES;
    const whole = this.#kept.take();
    this.#kept = undefined;
    return whole;
  }

  #failLength(frame: string, wanted: string): FrameStep {
    return this.#fail(
      ErrorCode.FrameSizeError,
      `${frame} has ${this.#left} bytes instead of ${wanted}`,
    );
  }

  #failStream(frame: string): FrameStep {
    return this.#fail(ErrorCode.ProtocolError, `${frame} on stream ${this.streamId}`);
  }

  #failPadding(frame: string): FrameStep {
    return this.#fail(ErrorCode.ProtocolError, `${frame} with more padding than payload`);
  }

  #fail(code: ErrorCode, message: string): FrameStep {
    return this.#failWith(connectionFault(code, message));
  }

  #failWith(fault: Http2Fault): FrameStep {
    this.fault = fault;
    this.#state = FAILED;
    this.#letGo();
    this.#kept = this.#scratch = undefined;
    this.#bytes =
      this.data =
      this.block =
      this.opaque =
        NO_BYTES;
    return FrameStep.Fault;
  }

  /** Lets go of what is used up, so that an idle connection holds no buffers. */
  #need(): FrameStep {
    this.#letGo();
    this.#bytes =
      this.data =
      this.block =
      this.opaque =
        NO_BYTES;
    return FrameStep.Need;
  }

  #letGo(): void {
    this.#input = NO_BYTES;
    this.#pos = 0;
  }
}

function dependsOnItself(streamId: number): Http2Fault {
  return streamFault(
    streamId,
    ErrorCode.ProtocolError,
    `Stream ${streamId} depends on itself (RFC 7540 section 5.3.1)`,
  );
}

/** A number of 32 bits. */
function uint32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}

/** A number of 31 bits; the bit before it is reserved, and ignored. */
function uint31(bytes: Uint8Array, at: number): number {
  return uint32(bytes, at) & 0x7fffffff;
}
