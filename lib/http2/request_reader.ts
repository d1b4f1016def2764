/**
 * Field blocks in, the heads and trailers of requests out.
 *
 * @module
 */
import { headTooLong, tooManyFields } from "../http/request_rules.ts";
import { allowedInTrailer } from "../http/trailers.ts";
import { ErrorCode, streamFault } from "./error_code.ts";
import { FieldKind, whyMalformed } from "./field.ts";
import { type DecoderLimits, HpackDecoder } from "./hpack/decoder.ts";
import { type HeadLimits, Http2RequestHead } from "./request_head.ts";

/** How much of what a client may send; lengths in bytes. */
export interface RequestLimits extends DecoderLimits, HeadLimits {
  /** The trailer fields of one request, counted as a list. More are 431 `HEADERS_TOO_LARGE`. */
  readonly maxTrailerBytes: number;
}

/**
 * The last head, and the block that it was made of: many clients ask for the same over and over.
 * Kept only of a block that leaves the table as it was, and used until something else changes that.
 */
class LastHead {
  /** A longer block is not kept. */
  static readonly MAX_BYTES = 256;
  readonly #block = new Uint8Array(LastHead.MAX_BYTES);
  #length = -1;
  #version = 0;
  #endStream = false;
  #head: Http2RequestHead | undefined = undefined;

  /** Returns the head if this is its block. */
  find(block: Uint8Array, version: number, endStream: boolean): Http2RequestHead | undefined {
    if (block.length !== this.#length || version !== this.#version) return undefined;
    if (endStream !== this.#endStream) return undefined;
    for (let i = 0; i < block.length; i++) if (block[i] !== this.#block[i]) return undefined;
    return this.#head;
  }

  /** Keeps the head of a block. */
  keep(block: Uint8Array, version: number, endStream: boolean, head: Http2RequestHead): void {
    if (block.length > LastHead.MAX_BYTES) return;
    this.#block.set(block);
    this.#length = block.length;
    this.#version = version;
    this.#endStream = endStream;
    this.#head = head;
  }
}

/**
 * Reads the field blocks of one connection. Every block has to go through it, in the order they
 * come, for each may change how the next is read.
 */
export class RequestReader {
  readonly #limits: RequestLimits;
  readonly #decoder: HpackDecoder;
  /** Made for the first block that leaves the table as it was. */
  #last: LastHead | undefined = undefined;

  /** Makes the reader of a connection. */
  constructor(limits: RequestLimits) {
    this.#limits = limits;
    this.#decoder = new HpackDecoder(limits);
  }

  /** Enforces the announced size of the table, since the client has acknowledged the SETTINGS. */
  settingsAcknowledged(): void {
    this.#decoder.settingsAcknowledged();
  }

  /**
   * Reads the head of a request that begins the stream `streamId`, and that ends it as well where
   * `endStream` says so.
   *
   * @throws {Http2Fault} COMPRESSION_ERROR of the connection, or PROTOCOL_ERROR of the stream
   * @throws {HttpError} 431 `HEADERS_TOO_LARGE`, or what {@linkcode Http2RequestHead} throws: the
   * request is refused, and the connection goes on
   */
  readHead(streamId: number, block: Uint8Array, endStream: boolean): Http2RequestHead {
    const { version } = this.#decoder;
    const known = this.#last?.find(block, version, endStream);
    if (known !== undefined) return known;
    const fields = this.#decoder.decode(block, this.#limits.maxListBytes);
    this.#assertNoExcess(this.#limits.maxListBytes);
    const head = new Http2RequestHead(streamId, fields, endStream, this.#limits);
    // A tunnel's has a key of its own.
    if (version === this.#decoder.version && !head.upgrade) {
      (this.#last ??= new LastHead()).keep(block, version, endStream, head);
    }
    return head;
  }

  /**
   * Reads the trailer fields of a request, without those that no trailer may carry.
   *
   * @throws {Http2Fault} COMPRESSION_ERROR of the connection, or PROTOCOL_ERROR of the stream
   * @throws {HttpError} 431 `HEADERS_TOO_LARGE`
   */
  readTrailers(streamId: number, block: Uint8Array): [name: string, value: string][] {
    const fields = this.#decoder.decode(block, this.#limits.maxTrailerBytes);
    this.#assertNoExcess(this.#limits.maxTrailerBytes);
    const trailers: [name: string, value: string][] = [];
    for (const field of fields) {
      if (field.kind === FieldKind.Malformed || field.isPseudo) {
        const why = field.isPseudo ? `${field.name} is no trailer field` : whyMalformed(field);
        throw streamFault(streamId, ErrorCode.ProtocolError, why);
      }
      if (allowedInTrailer(field.name)) trailers.push([field.name, field.value]);
    }
    return trailers;
  }

  /**
   * Reads a block that nothing is made of, such as one of a stream that is refused.
   *
   * @throws {Http2Fault} COMPRESSION_ERROR of the connection
   */
  skip(block: Uint8Array): void {
    this.#decoder.decode(block, 0);
  }

  #assertNoExcess(maxBytes: number): void {
    const { excess } = this.#decoder;
    if (excess === "bytes") throw headTooLong(maxBytes);
    if (excess === "fields") throw tooManyFields(this.#limits.maxFields);
  }
}
