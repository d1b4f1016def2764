/**
 * The bytes of an open file as a response body: pieces are read when the client has taken the ones
 * before, and the handle is closed at the end, on failure, and when the client goes away.
 *
 * @module
 */
import type { FileHandle } from "node:fs/promises";
import { HttpError } from "../errors.ts";
import type { ByteRange } from "./ranges.ts";

/** How much is read at a time; a body no longer than this is read at once. */
const PIECE_BYTES = 64 * 1024;

/** What a body is made of: bytes as they are, and ranges of the file. */
export type Segment = Uint8Array<ArrayBuffer> | ByteRange;

/** The length of a segment in bytes. */
export function lengthOf(segment: Segment): number {
  return segment instanceof Uint8Array ? segment.length : segment.end - segment.start;
}

/**
 * Makes a body of segments, which must not be empty. It owns `handle` from now on; a stream that
 * it returns must be read to its end or cancelled.
 *
 * @throws {HttpError} 500 `BAD_RESPONSE` when the file is shorter than its segments; a stream fails
 * with it
 */
export async function fileBody(
  handle: FileHandle,
  segments: readonly Segment[],
): Promise<Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>>> {
  const reader = new SegmentReader(handle, segments);
  const total = segments.reduce((sum, segment) => sum + lengthOf(segment), 0);
  if (total > PIECE_BYTES) return new ReadableStream(new FileSource(reader), { highWaterMark: 0 });
  try {
    return await readAll(reader, total);
  } finally {
    await reader.close();
  }
}

async function readAll(reader: SegmentReader, total: number): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(total);
  let filled = 0;
  while (!reader.done) {
    const piece = await reader.next();
    all.set(piece, filled);
    filled += piece.length;
  }
  return all;
}

/** Reads segments piece by piece. */
class SegmentReader {
  readonly #handle: FileHandle;
  readonly #segments: readonly Segment[];
  #index = 0;
  /** How much of the segment at `#index` was read. */
  #read = 0;

  constructor(handle: FileHandle, segments: readonly Segment[]) {
    this.#handle = handle;
    this.#segments = segments;
  }

  /** Whether all was read. */
  get done(): boolean {
    return this.#index === this.#segments.length;
  }

  async next(): Promise<Uint8Array<ArrayBuffer>> {
    const segment = this.#segments[this.#index]!;
    const piece = segment instanceof Uint8Array ? segment : await this.#readFrom(segment);
    this.#read += piece.length;
    if (this.#read === lengthOf(segment)) {
      this.#index++;
      this.#read = 0;
    }
    return piece;
  }

  async #readFrom({ start, end }: ByteRange): Promise<Uint8Array<ArrayBuffer>> {
    const position = start + this.#read;
    const piece = new Uint8Array(Math.min(PIECE_BYTES, end - position));
    const { bytesRead } = await this.#handle.read(piece, 0, piece.length, position);
    if (bytesRead === 0) {
      throw new HttpError(
        500,
        "BAD_RESPONSE",
        `The file shrank to ${position} bytes while it was sent up to byte ${end}`,
      );
    }
    return piece.subarray(0, bytesRead);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** The stream's side: one read at a time, and no close while one is under way. */
class FileSource implements UnderlyingDefaultSource<Uint8Array<ArrayBuffer>> {
  readonly #reader: SegmentReader;
  #reading = false;
  #cancelled = false;

  constructor(reader: SegmentReader) {
    this.#reader = reader;
  }

  async pull(controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>): Promise<void> {
    this.#reading = true;
    let piece: Uint8Array<ArrayBuffer>;
    try {
      piece = await this.#reader.next();
    } catch (error) {
      await this.#reader.close();
      throw error;
    }
    this.#reading = false;
    if (this.#cancelled) {
      await this.#reader.close();
      return;
    }
    if (!this.#reader.done) {
      controller.enqueue(piece);
      return;
    }
    await this.#reader.close();
    if (this.#cancelled) return;
    controller.enqueue(piece);
    controller.close();
  }

  async cancel(): Promise<void> {
    this.#cancelled = true;
    if (!this.#reading && !this.#reader.done) await this.#reader.close();
  }
}
