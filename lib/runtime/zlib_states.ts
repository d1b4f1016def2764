/**
 * Whole messages through zlib, synchronously, each without a context. To make and clear a zlib state
 * takes several times as long as a short message takes, so states are reset and used again, by all
 * connections: `reset()` makes zlib forget the message before, and reject references to it.
 *
 * `node:zlib` has no synchronous call on a state that stays. Its handles have, as Node.js made them and
 * Deno and Bun did after it: `writeSync`, `reset`, `onerror`, and the counters in `_writeState`. They
 * are no documented API, so they are tried before they are used, with `node:zlib`'s functions to fall
 * back on, which make a state for each message.
 *
 * @module
 */
import { Buffer, kMaxLength } from "node:buffer";
import {
  constants,
  createDeflateRaw,
  createInflateRaw,
  type DeflateRaw,
  deflateRawSync,
  type InflateRaw,
  inflateRawSync,
} from "node:zlib";
import { concat } from "../bytes.ts";
import { declareInternal } from "./internals.ts";

/** What a compressor is made with; zlib's own terms. */
export interface CompressorOptions {
  /** The window has 2^windowBits bytes; 9 to 15. */
  readonly windowBits: number;
  /** 0 to 9: from fast to small. */
  readonly level: number;
  /** 1 to 9: how much memory the tables take. */
  readonly memLevel: number;
}

/** What was inflated, and how many bytes of the input zlib took until the stream's end. */
export interface Inflated {
  /** All of it. */
  readonly output: Uint8Array<ArrayBuffer>;
  /** Less than the input's length when bytes follow the end. */
  readonly consumed: number;
}

/** The way to zlib. */
export interface Zlib {
  /** Compresses to raw deflate data that ends with a sync flush. */
  deflate(bytes: Uint8Array, options: CompressorOptions): Uint8Array<ArrayBuffer>;
  /**
   * Inflates raw deflate data up to its final block.
   *
   * @returns `undefined` for more than `maxBytes` of output; it stops soon after them
   * @throws zlib's error when the data is not valid or not whole
   */
  inflate(bytes: Uint8Array, maxBytes: number): Inflated | undefined;
}

/** A new state for each call, by documented API only. */
export const oneShotZlib: Zlib = {
  deflate(bytes, options) {
    return new Uint8Array(
      deflateRawSync(bytes, { ...options, finishFlush: constants.Z_SYNC_FLUSH }),
    );
  },
  inflate(bytes, maxBytes) {
    try {
      // `info` makes zlib report how much input it took; @types/node does not know the result's type.
      const { buffer, engine } = inflateRawSync(bytes, {
        info: true,
        // zlib wants a limit of at least 1, so it gets one byte more; the check below is exact.
        maxOutputLength: Math.min(maxBytes + 1, kMaxLength),
      }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
      if (buffer.length > maxBytes) return undefined;
      return { output: new Uint8Array(buffer), consumed: engine.bytesWritten };
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE") {
        return undefined;
      }
      throw error;
    }
  },
};

/** States that are used again. */
export class ReusedZlib implements Zlib {
  readonly #deflaters = new Map<number, State>();
  #inflater: State | undefined;

  /** Compresses in the state that is kept for these options. */
  deflate(bytes: Uint8Array, options: CompressorOptions): Uint8Array<ArrayBuffer> {
    const { windowBits, level, memLevel } = options;
    const key = windowBits << 8 | level << 4 | memLevel;
    let state = this.#deflaters.get(key);
    if (state === undefined) {
      state = new State(createDeflateRaw(options));
      this.#deflaters.set(key, state);
    }
    return state.run(bytes, constants.Z_SYNC_FLUSH, Infinity)!.output;
  }

  /** Inflates in the one state that there is for it. */
  inflate(bytes: Uint8Array, maxBytes: number): Inflated | undefined {
    const state = this.#inflater ?? new State(createInflateRaw());
    this.#inflater = undefined; // one that throws is not used again
    const inflated = state.run(bytes, constants.Z_FINISH, maxBytes);
    this.#inflater = state;
    return inflated;
  }
}

/** The part of `node:zlib`'s handles that is used here. */
interface Handle {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void;
  reset(): void;
  onerror: (message: string) => void;
}

/** Where zlib writes to before it is known how much there is: of all states, one at a time. */
let scratch: Uint8Array | undefined;
const SCRATCH_BYTES = 64 * 1024;

/** One zlib state. */
class State {
  readonly #engine: DeflateRaw | InflateRaw; // owns the handle
  readonly #handle: Handle;
  /** After a call: how much room was left in the output, and how many bytes of the input. */
  readonly #left: Uint32Array;
  #error: Error | undefined;

  constructor(engine: DeflateRaw | InflateRaw) {
    this.#engine = engine;
    const { _handle, _writeState } = engine as unknown as {
      _handle?: Partial<Handle> | null;
      _writeState?: unknown;
    };
    if (
      typeof _handle?.writeSync !== "function" || typeof _handle.reset !== "function" ||
      !(_writeState instanceof Uint32Array)
    ) throw new TypeError("The handles of node:zlib have changed");
    this.#handle = _handle as Handle;
    this.#left = _writeState;
    this.#handle.onerror = (message) => void (this.#error = new Error(message));
  }

  /** Runs `bytes` through; `undefined` when the output passes `maxBytes`. */
  run(bytes: Uint8Array, flush: number, maxBytes: number): Inflated | undefined {
    scratch ??= new Uint8Array(SCRATCH_BYTES);
    const pieces: Uint8Array[] = [];
    let length = 0;
    let offset = 0;
    for (;;) {
      const inputLength = bytes.length - offset;
      this.#handle.writeSync(flush, bytes, offset, inputLength, scratch, 0, SCRATCH_BYTES);
      if (this.#error !== undefined) {
        this.#engine.close();
        throw this.#error;
      }
      const room = this.#left[0]!;
      offset += inputLength - this.#left[1]!;
      length += SCRATCH_BYTES - room;
      const over = length > maxBytes;
      if (over || room > 0) {
        this.#handle.reset();
        if (over) return undefined;
        pieces.push(scratch.subarray(0, SCRATCH_BYTES - room));
        return { output: concat(pieces), consumed: offset };
      }
      pieces.push(new Uint8Array(scratch)); // full: there may be more
    }
  }
}

/** An empty final block: what follows a sync flush where data has to end. */
const FINAL_BLOCK = Uint8Array.of(0x01, 0x00, 0x00, 0xff, 0xff);

/** Whether the handles do what is expected of them: the same twice, errors, limits, what is left. */
export function reusedZlibWorks(): boolean {
  const zlib = new ReusedZlib();
  const text = Buffer.alloc(2 * SCRATCH_BYTES, "zlib says the same twice, ");
  const options = { windowBits: 15, level: 6, memLevel: 8 };
  try {
    for (let time = 0; time < 2; time++) {
      const deflated = zlib.deflate(text, options);
      const whole = Buffer.concat([deflated, FINAL_BLOCK, FINAL_BLOCK]);
      const inflated = zlib.inflate(whole, text.length);
      if (inflated === undefined || !text.equals(inflated.output)) return false;
      if (inflated.consumed !== whole.length - FINAL_BLOCK.length) return false;
      if (zlib.inflate(whole, text.length - 1) !== undefined) return false;
      if (!throws(() => zlib.inflate(deflated, text.length))) return false; // it has no end
    }
    return true;
  } catch {
    return false;
  }
}

function throws(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch {
    return true;
  }
}

let chosen: Zlib | undefined;

/** The best way to zlib that works on this runtime; found out at the first call. */
export function zlib(): Zlib {
  return chosen ??= reusedZlibWorks() ? new ReusedZlib() : oneShotZlib;
}

declareInternal("zlibStates", () => {
  if (chosen === undefined) return "untried";
  return chosen instanceof ReusedZlib ? "in force" : "fallback";
});
