/**
 * The body of one request: what was parsed and no handler has read yet, never more than a
 * mark. Reading it makes the session read on; not reading it stops the client.
 *
 * @module
 */
import { type HttpsdError, StateError } from "../errors.ts";
import { closeByteStream, transferable } from "../net/streams.ts";
import { bodyTooLong } from "./request_rules.ts";
import { ByteQueue } from "./byte_queue.ts";

/** Nothing more is parsed while so many bytes wait to be read. */
const HIGH_MARK = 64 * 1024;

/** What one piece counts besides its bytes: a client may send the body in chunks of one byte. */
const PIECE_COST = 256;

/** Trailer fields in the order received. */
export type Trailers = readonly (readonly [name: string, value: string])[];

/** What reads the connection for a body. */
export interface BodySource {
  /** A reader waits for bytes: read on. */
  wanted(): void;
  /** So many bytes were read, or thrown away. */
  taken(bytes: number): void;
}

/** The error of who wants all of a body, some of which was read before. */
export function readBefore(): StateError {
  return new StateError(
    "BODY_USED",
    "Some of the body was read before, as by a middleware: read all of it once",
  );
}

/** Holds a request body between the parser and the handler. */
export class RequestBody {
  readonly #source: BodySource;
  readonly #queue = new ByteQueue();
  /** In how many pieces has come what waits, or waited with it. */
  #pieces = 0;
  #ended = false;
  #error: HttpsdError | undefined;
  #waiting: PromiseWithResolvers<void> | undefined;
  #stream: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #discarded: number | undefined;
  #trailers: Trailers = [];
  /** Whether what waits was reported as taken. */
  #shown = false;
  #received = 0;
  #used = false;

  /** Makes an empty body that `source` fills. */
  constructor(source: BodySource) {
    this.#source = source;
  }

  /** Whether the parser has seen the end. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether a reader has asked for bytes. */
  get used(): boolean {
    return this.#used;
  }

  /** Whether the parser should wait for the reader. */
  get full(): boolean {
    return this.#queue.bytes + PIECE_COST * this.#pieces >= HIGH_MARK;
  }

  /** Whether a reader waits for bytes that the client has not sent. */
  get starved(): boolean {
    return this.#waiting !== undefined;
  }

  /** How many bytes wait for a reader. */
  get queuedBytes(): number {
    return this.#queue.bytes;
  }

  /** How many bytes were thrown away since {@linkcode RequestBody.discard}. */
  get discardedBytes(): number {
    return this.#discarded ?? 0;
  }

  /** How many bytes have come. */
  get receivedBytes(): number {
    return this.#received;
  }

  /** The trailer fields; empty until the end. */
  get trailers(): Trailers {
    return this.#trailers;
  }

  /** Takes the next bytes, which must not change any more. */
  push(bytes: Uint8Array): void {
    this.#received += bytes.length;
    if (this.#discarded !== undefined) {
      this.#discarded += bytes.length;
      return this.#source.taken(bytes.length);
    }
    this.#queue.add(bytes);
    this.#pieces++;
    this.#wake();
  }

  /** Ends the body. */
  end(trailers: Trailers): void {
    this.#ended = true;
    this.#trailers = trailers;
    this.#wake();
  }

  /** Fails the body: no more bytes will come, and what reads on throws the reason. */
  fail(error: HttpsdError): void {
    if (this.#ended || this.#error !== undefined) return;
    this.#error = error;
    this.#wake();
  }

  /** Throws away what waits and what comes, since no handler will read it. */
  discard(): void {
    const bytes = this.#queue.clear();
    this.#discarded ??= bytes;
    if (bytes > 0) this.#source.taken(bytes);
    this.#wake();
  }

  /**
   * The next bytes, at most `max`; `undefined` at the end (original: `httpd_req_recv`). What came
   * before a failure is given first.
   *
   * @throws {HttpsdError} when the body is malformed, too long or too late, or the client is gone
   * @throws {StateError} `BODY_USED` when it is being read already, `REQUEST_ENDED` after the
   * exchange
   */
  async read(max = Infinity): Promise<Uint8Array | undefined> {
    this.#used = true;
    while (this.#queue.pieces === 0) {
      if (this.#isOver()) return undefined;
      await this.#more();
    }
    return this.#next(max);
  }

  /**
   * All that is still to be read, in memory: at most `max` bytes, and `limits.maxBodyBytes`.
   *
   * @throws {HttpsdError} as {@linkcode RequestBody.read}; 413 `BODY_TOO_LARGE` beyond `max`
   */
  async readAll(max = Infinity): Promise<Uint8Array> {
    this.#used = true;
    const all = new ByteQueue(); // of a client that sends single bytes, not so many objects
    while (this.#queue.pieces > 0 || !this.#isOver()) {
      if (this.#queue.pieces === 0) {
        await this.#more();
        continue;
      }
      all.add(this.#next(Infinity));
      if (all.bytes > max) throw bodyTooLong(max);
    }
    return all.takeAll();
  }

  /**
   * Returns all that is left of the body, where that is one short piece and no stream was made;
   * `undefined` for any other. It counts as read, and stays for callers of the other methods.
   */
  show(): Uint8Array | undefined {
    if (!this.#ended || this.#queue.pieces !== 1 || this.#stream !== undefined) return undefined;
    const bytes = this.#queue.first!;
    if (bytes.length > HIGH_MARK) return undefined;
    if (!this.#shown) this.#source.taken(bytes.length);
    this.#shown = true;
    return bytes;
  }

  /** Returns whether all was read, where nothing waits; throws what prevents that. */
  #isOver(): boolean {
    if (this.#error !== undefined) throw this.#error;
    if (this.#ended) return true;
    if (this.#discarded === undefined) return false;
    throw new StateError("REQUEST_ENDED", "The exchange is over: read the body before answering");
  }

  /** Resolves when there may be more; only one reader can wait. */
  #more(): Promise<void> {
    if (this.#waiting !== undefined) {
      throw new StateError("BODY_USED", "The body is being read: await the read before this one");
    }
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    this.#source.wanted();
    return promise;
  }

  #next(max: number): Uint8Array {
    return this.#took(this.#queue.take(max)!);
  }

  /** Reports what was taken out of the queue, and that more is wanted. */
  #took(bytes: Uint8Array): Uint8Array {
    if (this.#queue.pieces === 0) this.#pieces = 0;
    if (!this.#shown) this.#source.taken(bytes.length);
    if (!this.#ended) this.#source.wanted();
    return bytes;
  }

  /** The body as a byte stream; cancelling it throws the rest away. */
  get stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#stream ??= new ReadableStream({
      type: "bytes",
      pull: async (controller) => {
        this.#used = true;
        while (this.#queue.pieces === 0) {
          if (this.#isOver()) return closeByteStream(controller as ReadableByteStreamController);
          await this.#more();
        }
        controller.enqueue(transferable(this.#took(this.#queue.takeJoined(HIGH_MARK)!)));
      },
      cancel: () => this.discard(),
    });
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }
}
