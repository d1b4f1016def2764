/**
 * permessage-deflate (RFC 7692): the codec, on `node:zlib`.
 *
 * Memory per connection: without context takeover none at all between messages, which is the
 * default. With the client's takeover, the last 2^`clientMaxWindowBits` bytes that it sent, at most
 * 32 KiB. With the server's, one zlib compressor: 2^(`serverMaxWindowBits` + 2) +
 * 2^(`memLevel` + 9) bytes, 256 KiB by default.
 *
 * Why the calls are synchronous where they can be: a short message takes a few µs to deflate or
 * inflate so; with zlib's stream objects Bun needs 60 to 100 µs. Both runtimes take a dictionary for
 * raw deflate, but Deno 2.9 ignores it; so the inflater gives zlib its history as an ordinary stored
 * block, and only a compressor that keeps its context is a stream.
 *
 * @module
 */
import { constants, createDeflateRaw, type DeflateRaw } from "node:zlib";
import { concat, NO_BYTES } from "../bytes.ts";
import { WebSocketError } from "../errors.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import { type CompressorOptions, type Inflated, zlib } from "../runtime/zlib_states.ts";

/** The part of an agreement that concerns the server's compressor. */
export type CompressorSettings = Pick<
  DeflateAgreement,
  "serverMaxWindowBits" | "level" | "memLevel"
>;

/** What an empty stored block leaves when its header is taken away (RFC 7692 section 7.2.1). */
const SYNC_TAIL = Uint8Array.of(0x00, 0x00, 0xff, 0xff);

/** An empty message: the header of an empty stored block (RFC 7692 section 7.2.3.6). */
const EMPTY_MESSAGE = 0x00;

/**
 * zlib cannot make raw deflate with a window of 256 bytes; it silently takes 512. That is still
 * right for a receiver with 256, because zlib never refers back further than the window less 262
 * bytes, which is 250.
 */
const MIN_ZLIB_WINDOW_BITS = 9;

/**
 * Compresses a whole message without a context, for an agreement without `serverContextTakeover`;
 * the same bytes fit every such connection with the same or a larger window.
 *
 * Takes some 30 ms per MiB at level 6, synchronously.
 *
 * @returns the payload for the message's frames, the first of which has RSV1 set
 */
export function deflateMessage(
  message: Uint8Array,
  agreement: CompressorSettings,
): Uint8Array {
  if (message.length === 0) return Uint8Array.of(EMPTY_MESSAGE);
  return withoutTail(zlib().deflate(message, zlibOptions(agreement)));
}

function withoutTail(deflated: Uint8Array): Uint8Array {
  return deflated.subarray(0, -SYNC_TAIL.length);
}

function zlibOptions(agreement: CompressorSettings): CompressorOptions {
  const { serverMaxWindowBits, level, memLevel } = agreement;
  return { windowBits: Math.max(MIN_ZLIB_WINDOW_BITS, serverMaxWindowBits), level, memLevel };
}

/**
 * Compresses the messages of one connection with one context, for an agreement with
 * `serverContextTakeover`. Messages must be sent in the order of the calls. `close()` frees it.
 */
export class ContextDeflater {
  readonly #zlib: DeflateRaw;
  #pieces: Uint8Array[] = [];
  #last: Promise<unknown> = Promise.resolve(); // settles when the last call is answered
  #rejectCurrent: ((error: WebSocketError) => void) | undefined;
  #error: WebSocketError | undefined;

  /** Makes the compressor of one connection. */
  constructor(agreement: CompressorSettings) {
    this.#zlib = createDeflateRaw(zlibOptions(agreement));
    this.#zlib.on("data", (piece: Uint8Array) => this.#pieces.push(piece));
    this.#zlib.on("error", (cause) => this.#fail("Compression failed", cause));
  }

  /**
   * Compresses a whole message; calls are answered in order.
   *
   * Rejects with {@linkcode WebSocketError} `WS_CANNOT_SEND` after `close()` or when zlib fails.
   */
  deflate(message: Uint8Array): Promise<Uint8Array> {
    const deflated = this.#last.then(() => this.#deflateNow(message));
    this.#last = deflated.catch(() => {}); // the caller gets it; the next call fails again
    return deflated;
  }

  /** Frees zlib's memory; calls that are not answered yet are rejected. */
  close(): void {
    this.#fail("The compressor was closed");
  }

  #deflateNow(message: Uint8Array): Promise<Uint8Array> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (message.length === 0) return Promise.resolve(Uint8Array.of(EMPTY_MESSAGE));
    return new Promise((resolve, reject) => {
      this.#rejectCurrent = reject; // zlib forgets the callback when it is closed
      this.#zlib.write(message);
      this.#zlib.flush(constants.Z_SYNC_FLUSH, () => {
        const deflated = concat(this.#pieces);
        this.#pieces = [];
        resolve(withoutTail(deflated));
      });
    });
  }

  #fail(message: string, cause?: unknown): void {
    if (this.#error !== undefined) return;
    this.#error = new WebSocketError(1011, "WS_CANNOT_SEND", message, { cause });
    this.#rejectCurrent?.(this.#error);
    this.#pieces = [];
    this.#zlib.close();
  }
}

/**
 * After the message: what its sender removed, and an empty final block. So zlib ends just there
 * if, and only if, the message was whole; a message cut inside a block does not pass.
 */
const MESSAGE_TAIL = Uint8Array.of(...SYNC_TAIL, 0x01, 0x00, 0x00, 0xff, 0xff);

/** A stored block's header: BFINAL and BTYPE, LEN, NLEN (RFC 1951 section 3.2.4). */
const STORED_HEADER_BYTES = 5;

/**
 * How many blocks with BFINAL set one message may have (RFC 7692 section 7.2.3.4 has one). Each
 * costs a run through zlib, so thousands would be an attack.
 */
const MAX_FINAL_BLOCKS = 8;

/**
 * Inflates the messages of one connection, synchronously: some 5 ms per MiB of output. The worst
 * that an attacker can do, a payload of nothing but code tables, takes some 130 ms per MiB.
 */
export class Inflater {
  /**
   * How many bytes have come out of zlib: the measure of what its client makes it do. With context
   * takeover the history, which zlib is given anew with each message, counts each time.
   */
  inflatedBytes = 0;

  readonly #windowBytes: number; // 0 without context takeover
  #history: Uint8Array = NO_BYTES;

  /** Makes the inflater of one connection. */
  constructor(
    agreement: Pick<DeflateAgreement, "clientContextTakeover" | "clientMaxWindowBits">,
  ) {
    this.#windowBytes = agreement.clientContextTakeover ? 1 << agreement.clientMaxWindowBits : 0;
  }

  /**
   * Inflates the payload of a whole message. Stops as soon as the output passes `maxBytes`, with
   * about that much memory taken: a decompression bomb does not go off. After a throw the
   * connection must fail; the history is no longer the sender's.
   *
   * @throws {WebSocketError} `WS_TOO_LARGE` (1009) beyond `maxBytes`; `WS_INVALID_DATA` (1007) when
   * the payload is not whole, valid deflate data
   */
  inflate(payload: Uint8Array, maxBytes: number): Uint8Array {
    const outputs: Uint8Array[] = [];
    let left = maxBytes;
    let rest = payload;
    for (let finalBlocks = 0; finalBlocks <= MAX_FINAL_BLOCKS; finalBlocks++) {
      const { output, consumed } = inflateUntilFinal(this.#history, rest, left);
      this.inflatedBytes += this.#history.length + output.length;
      this.#remember(output);
      left -= output.length;
      if (consumed === rest.length + MESSAGE_TAIL.length) {
        return outputs.length === 0 ? output : concat([...outputs, output]);
      }
      outputs.push(output);
      // Nothing is left when the tail was taken for the inside of a block; that does not inflate.
      rest = rest.subarray(consumed);
    }
    throw invalidData();
  }

  #remember(output: Uint8Array): void {
    const window = this.#windowBytes;
    if (window === 0 || output.length === 0) return;
    if (output.length >= window) {
      this.#history = concat([output.subarray(-window)]);
    } else {
      const kept = this.#history.subarray(-(window - output.length));
      this.#history = concat([kept, output]);
    }
  }
}

/** Inflates up to the first block with BFINAL set; without one in `payload` that is the tail's. */
function inflateUntilFinal(
  history: Uint8Array,
  payload: Uint8Array,
  maxBytes: number,
): { output: Uint8Array; consumed: number } {
  const prefix = history.length === 0 ? NO_BYTES : storedBlock(history);
  const inflated = inflate(concat([prefix, payload, MESSAGE_TAIL]), history.length + maxBytes);
  const { output } = inflated;
  return {
    output: history.length === 0 ? output : concat([output.subarray(history.length)]),
    consumed: inflated.consumed - prefix.length,
  };
}

function inflate(bytes: Uint8Array, maxBytes: number): Inflated {
  let inflated: Inflated | undefined;
  try {
    inflated = zlib().inflate(bytes, maxBytes);
  } catch (cause) {
    throw invalidData(cause);
  }
  if (inflated === undefined) throw tooLarge();
  return inflated;
}

function storedBlock(bytes: Uint8Array): Uint8Array {
  const block = new Uint8Array(STORED_HEADER_BYTES + bytes.length);
  const view = new DataView(block.buffer);
  view.setUint16(1, bytes.length, true);
  view.setUint16(3, ~bytes.length, true);
  block.set(bytes, STORED_HEADER_BYTES);
  return block;
}

function tooLarge(): WebSocketError {
  return new WebSocketError(1009, "WS_TOO_LARGE", "Message inflates to more than its limit");
}

function invalidData(cause?: unknown): WebSocketError {
  const message = "Compressed message is not valid deflate data";
  return new WebSocketError(1007, "WS_INVALID_DATA", message, { cause });
}
