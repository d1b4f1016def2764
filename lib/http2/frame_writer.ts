/**
 * The writer of this server's frames, sans I/O: frames go in, chunks of bytes come out (RFC 9113
 * sections 4 and 6).
 *
 * All that one turn of the event loop writes, for all streams of a connection, is taken in one go.
 * Headers, control frames and short bodies lie beside each other in a slab; longer bodies are handed
 * out as they are, cut but never copied.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { NO_BUFFER } from "../buffer.ts";
import { copyAscii, utf8 } from "../bytes.ts";
import type { Chunk } from "../net/chunks.ts";
import type { ErrorCode } from "./error_code.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType } from "./frame_type.ts";
import { MIN_MAX_FRAME_BYTES } from "./bounds.ts";
import { SETTING_BYTES } from "./settings.ts";

/** How much memory is taken at a time. */
const SLAB_BYTES = 64 * 1024;
/** Up to so many bytes of a body are copied beside their frame's header: joining them later costs more. */
export const COPIED_BYTES: number = 4 * 1024;

/**
 * The memory that all writers fill, one behind the other. What was handed out of it is never written
 * again; a slab is let go when it is full, and lives on in what was handed out.
 */
let slab: Buffer = NO_BUFFER;
let slabUsed = 0;

/** Writes the frames of one connection. */
export class FrameWriter {
  /** The longest payload of a frame that the client takes, in bytes. */
  maxFrameBytes: number = MIN_MAX_FRAME_BYTES;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  /** The part of a slab that was filled since the last chunk. */
  #part: Buffer = NO_BUFFER;
  #partStart = 0;
  #partEnd = 0;

  /** How many bytes were written and not taken. */
  get pendingBytes(): number {
    return this.#bytes;
  }

  /** Takes all that was written, in order. */
  take(): Uint8Array[] {
    this.#closePart();
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#bytes = 0;
    return chunks;
  }

  /** Writes SETTINGS; entries are id and value by turns. */
  settings(entries: readonly number[]): void {
    const length = entries.length / 2 * SETTING_BYTES;
    let at = this.#begin(length, FrameType.Settings, 0, 0);
    for (let i = 0; i < entries.length; i += 2, at += SETTING_BYTES) {
      slab[at] = entries[i]! >> 8;
      slab[at + 1] = entries[i]!;
      writeUint32(at + 2, entries[i + 1]!);
    }
  }

  /** Acknowledges the client's SETTINGS. */
  settingsAck(): void {
    this.#begin(0, FrameType.Settings, Flag.Ack, 0);
  }

  /** Writes a PING of eight bytes, or answers the client's. */
  ping(opaque: Uint8Array, isAnswer: boolean): void {
    const at = this.#begin(8, FrameType.Ping, isAnswer ? Flag.Ack : 0, 0);
    slab.set(opaque, at);
  }

  /** Writes GOAWAY: the last stream that was or may yet be dealt with, and why; `debug` is ASCII. */
  goAway(lastStreamId: number, code: ErrorCode, debug = ""): void {
    const at = this.#begin(8 + debug.length, FrameType.GoAway, 0, 0);
    writeUint32(at, lastStreamId);
    writeUint32(at + 4, code);
    copyAscii(debug, slab, at + 8);
  }

  /** Writes RST_STREAM. */
  reset(streamId: number, code: ErrorCode): void {
    writeUint32(this.#begin(4, FrameType.RstStream, 0, streamId), code);
  }

  /** Writes WINDOW_UPDATE; stream 0 is the connection. */
  windowUpdate(streamId: number, increment: number): void {
    writeUint32(this.#begin(4, FrameType.WindowUpdate, 0, streamId), increment);
  }

  /** Writes HEADERS, and CONTINUATION where the block is longer than a frame. */
  headers(streamId: number, block: Uint8Array, endStream: boolean): void {
    const ending = endStream ? Flag.EndStream : 0;
    const most = this.maxFrameBytes;
    if (block.length <= most) {
      this.#copy(FrameType.Headers, ending | Flag.EndHeaders, streamId, block);
      return;
    }
    this.#copy(FrameType.Headers, ending, streamId, block.subarray(0, most));
    for (let at = most; at < block.length; at += most) {
      const flags = at + most < block.length ? 0 : Flag.EndHeaders;
      this.#copy(FrameType.Continuation, flags, streamId, block.subarray(at, at + most));
    }
  }

  /**
   * Writes DATA, in as many frames as the client's limit makes of it; without bytes one empty frame,
   * which has a use with `endStream` alone. The bytes must not change any more.
   */
  data(streamId: number, data: Chunk, endStream: boolean): void {
    const ending = endStream ? Flag.EndStream : 0;
    const { length } = data;
    if (length <= COPIED_BYTES) return this.#copy(FrameType.Data, ending, streamId, data);
    const bytes = typeof data === "string" ? utf8(data) : data;
    const most = this.maxFrameBytes;
    for (let at = 0; at < length; at += most) {
      const end = Math.min(length, at + most);
      this.#writeHeader(end - at, FrameType.Data, end === length ? ending : 0, streamId, 0);
      this.#closePart();
      this.#chunks.push(bytes.subarray(at, end));
      this.#bytes += end - at;
    }
  }

  /** Writes a frame with its payload beside its header. */
  #copy(type: number, flags: number, streamId: number, payload: Chunk): void {
    const at = this.#begin(payload.length, type, flags, streamId);
    if (typeof payload === "string") copyAscii(payload, slab, at);
    else slab.set(payload, at);
  }

  /** Writes a header and reserves the payload behind it; returns where in the slab that is. */
  #begin(length: number, type: number, flags: number, streamId: number): number {
    return this.#writeHeader(length, type, flags, streamId, length);
  }

  #writeHeader(
    length: number,
    type: number,
    flags: number,
    streamId: number,
    reserved: number,
  ): number {
    const at = this.#reserve(FRAME_HEADER_BYTES + reserved);
    slab[at] = length >> 16;
    slab[at + 1] = length >> 8;
    slab[at + 2] = length;
    slab[at + 3] = type;
    slab[at + 4] = flags;
    writeUint32(at + 5, streamId);
    return at + FRAME_HEADER_BYTES;
  }

  /** Reserves the next bytes of the slab, behind this writer's part of it where that is possible. */
  #reserve(bytes: number): number {
    if (slabUsed + bytes > slab.length) {
      slab = Buffer.alloc(Math.max(SLAB_BYTES, bytes));
      slabUsed = 0;
    }
    if (this.#part !== slab || this.#partEnd !== slabUsed) {
      this.#closePart();
      this.#part = slab;
      this.#partStart = slabUsed;
    }
    const at = slabUsed;
    slabUsed += bytes;
    this.#partEnd = slabUsed;
    this.#bytes += bytes;
    return at;
  }

  #closePart(): void {
    if (this.#partEnd > this.#partStart) {
      this.#chunks.push(this.#part.subarray(this.#partStart, this.#partEnd));
    }
    this.#part = NO_BUFFER;
    this.#partStart = this.#partEnd = 0;
  }
}

function writeUint32(at: number, value: number): void {
  slab[at] = value >>> 24;
  slab[at + 1] = value >>> 16;
  slab[at + 2] = value >>> 8;
  slab[at + 3] = value;
}
