/**
 * Writes one response: chooses its framing (RFC 9112 section 6), keeps to the length it promised,
 * and says when it is over. Whatever a handler does, what is on the wire is a whole message or a
 * cut connection.
 *
 * @module
 */
import { type HttpError, StateError } from "../errors.ts";
import { type Chunk, front, isAscii, rest } from "../net/chunks.ts";
import type { Connection } from "../net/connection.ts";
import { beginHead, CHUNK_END, chunkHead, dateLine, encodeHead, lastChunk } from "./encoder.ts";
import type { RequestHead } from "./head.ts";
import {
  badResponse,
  declaredLength,
  type Fields,
  mayDeclare,
  Role,
  roleOf,
} from "./response_rules.ts";
import { isBodiless } from "./status.ts";
import { utf8 } from "./utf8.ts";

/** The status line and fields of a response. */
export interface ResponseHead {
  /** The status code. */
  readonly status: number;
  /** The reason phrase; the standard one when absent. */
  readonly reason?: string | undefined;
  /** The fields, without those that the framing decides. */
  readonly fields?: Fields;
}

/** How the body's end is found. */
type Framing = "none" | "length" | "chunked" | "close" | "raw";

/** A long body is written in pieces of so many bytes, so that a slow client holds one of them. */
const PIECE_BYTES = 64 * 1024;

/** Whom a response tells how it goes. */
export interface ResponseProgress {
  /** The head is about to be written: the last time for `closeAfterwards()` to be told in it. */
  starting(): void;
  /** All is written. */
  done(): void;
  /** A write waits for the client to read. */
  blocked(): void;
  /** The head was written, or so many bytes of the body; absent where nobody wants to know. */
  wrote?: ((part: "head" | "body", bytes: number) => void) | undefined;
}

/** What of a request decides how its response is framed. */
export type AnsweredRequest = Pick<RequestHead, "method" | "minorVersion" | "keepAlive">;

/** The one response of one exchange. */
export class ResponseWriter {
  readonly #connection: Connection;
  readonly #request: AnsweredRequest;
  readonly #progress: ResponseProgress;
  #keepAlive: boolean;
  #framing: Framing | undefined;
  #remaining = 0;
  /** Body bytes that were handed over and wait for the client to read. */
  #queue: Chunk[] = [];
  /** Whether the first of them is the rest of a chunk whose length was written. */
  #inChunk = false;
  /** What comes behind the body; `undefined` until all of it was handed over. */
  #tail: Chunk | undefined;
  #ended = false;
  #blocked = false;
  #draining: PromiseWithResolvers<void> | undefined;

  /** Makes the writer for the answer to `request`. */
  constructor(connection: Connection, request: AnsweredRequest, progress: ResponseProgress) {
    this.#connection = connection;
    this.#request = request;
    this.#progress = progress;
    this.#keepAlive = request.keepAlive;
  }

  /** Whether the head is written. */
  get started(): boolean {
    return this.#framing !== undefined;
  }

  /** Whether all is written. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether all was handed over; the end of a long body may still wait for the client to read. */
  get answered(): boolean {
    return this.#ended || this.#tail !== undefined;
  }

  /** Whether the connection may serve another request after this response. */
  get keepAlive(): boolean {
    return this.#keepAlive;
  }

  /** Whether a body would be thrown away: HEAD, 204, 304. */
  get bodiless(): boolean {
    return this.#framing === "none";
  }

  /** Whether the client is gone, so that nobody reads what is written. */
  get gone(): boolean {
    return this.#connection.closed;
  }

  /** Whether the handler frames the response itself. */
  get raw(): boolean {
    return this.#framing === "raw";
  }

  /** Makes this the last response of the connection. */
  closeAfterwards(): void {
    this.#keepAlive = false;
  }

  /** Writes an interim response such as 100 or 103; nothing for an HTTP/1.0 client. */
  inform(status: number, fields: Fields = []): void {
    if (this.#request.minorVersion === 0 || this.started) return;
    this.#connection.write(encodeHead(status, fields));
  }

  /**
   * Writes the 101 after which the connection speaks another protocol.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  switchProtocols(fields: Fields): void {
    this.#assertUnsent();
    this.#connection.write(encodeHead(101, [["Connection", "Upgrade"], ...fields]));
    this.#framing = "none";
    this.#ended = true;
  }

  #assertUnsent(): void {
    if (!this.started) return;
    throw new StateError("ALREADY_SENT", "The response was sent already: send one per request");
  }

  /**
   * Leaves head, body and framing to the handler: what is written goes out as it is.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  startRaw(): void {
    this.#assertUnsent();
    this.#progress.starting();
    this.#framing = "raw";
    this.#remaining = Infinity;
  }

  /** Writes a whole response, as fast as the client reads it; `body` must not change afterwards. */
  send(head: ResponseHead, body: string | Uint8Array): void {
    const chunk = typeof body === "string" && !isAscii(body) ? utf8(body) : body;
    this.#connection.cork();
    try {
      this.start(head, chunk.length);
      this.#handOver(chunk);
      this.end();
    } finally {
      this.#connection.uncork();
    }
  }

  /**
   * Writes the head of a response whose body has `length` bytes, `undefined` when that is not
   * known. A `Content-Length` field from the handler counts as known.
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the head is not allowed; nothing is written then
   */
  start({ status, reason, fields = [] }: ResponseHead, length: number | undefined): void {
    this.#assertUnsent();
    if (status < 200) throw badResponse(`Status ${status} is no answer: use 200 to 999`);
    this.#progress.starting();
    const bodiless = this.#request.method === "HEAD" || isBodiless(status);
    // No body says nothing of the length where there never is one to see: 304, and HEAD.
    const unknown = status === 304 || (bodiless && length === 0);
    let declared = unknown ? undefined : length;
    let dated = false;
    let close = !this.#keepAlive;
    const encoder = beginHead(status, reason);
    for (const [name, value] of fields) {
      switch (roleOf(name)) {
        case Role.Length:
          declared = declaredLength(value, bodiless ? undefined : length);
          break;
        case Role.Connection:
          close ||= /(^|[\s,])close($|[\s,])/i.test(value);
          break;
        case Role.Upgrade: // RFC 9110 section 15.5.22
          if (status !== 426) break;
          encoder.field(name, value);
          encoder.line("Connection: Upgrade\r\n");
          break;
        case Role.HopByHop:
          break;
        case Role.Date:
          dated = true;
          encoder.field(name, value);
          break;
        case Role.Message:
          encoder.field(name, value);
      }
    }
    if (!dated) encoder.line(dateLine());
    const framing = bodiless ? "none" : this.#frame(declared);
    if (declared !== undefined && (framing === "length" || mayDeclare(status, this.#request))) {
      encoder.line(`Content-Length: ${declared}\r\n`);
    }
    if (framing === "chunked") encoder.line("Transfer-Encoding: chunked\r\n");
    if (framing === "close") close = true;
    if (close) encoder.line("Connection: close\r\n");
    else if (this.#request.minorVersion === 0) encoder.line("Connection: keep-alive\r\n");
    const bytes = encoder.end();
    this.#framing = framing;
    this.#remaining = declared ?? Infinity;
    this.#keepAlive = !close;
    this.#connection.write(bytes);
    this.#wrote("head", bytes.length);
  }

  /** Tells who wants to know, after the bytes have left: with events, order goes before speed. */
  #wrote(part: "head" | "body", bytes: number): void {
    const { wrote } = this.#progress;
    if (wrote === undefined) return;
    this.#connection.flush();
    wrote(part, bytes);
  }

  #frame(declared: number | undefined): Framing {
    if (declared !== undefined) return "length";
    return this.#request.minorVersion === 0 ? "close" : "chunked";
  }

  /**
   * Writes body bytes as fast as the client reads them, behind those handed over before. Resolves
   * when the next may follow; the bytes must not change until then.
   *
   * @throws {StateError} `ALREADY_SENT` after the end of the body
   * @throws {HttpError} `BAD_RESPONSE` when the body is longer than its `Content-Length`; the
   * connection is cut, since the client cannot be told otherwise
   */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.answered) {
      throw new StateError("ALREADY_SENT", "The response is over: write before its end");
    }
    this.#handOver(bytes);
    if (this.#blocked) await (this.#draining ??= Promise.withResolvers()).promise;
  }

  #handOver(bytes: Chunk): void {
    if (bytes.length === 0 || this.#framing === "none") return;
    if (bytes.length > this.#remaining) {
      throw this.#broken(`longer than its Content-Length by ${bytes.length - this.#remaining}`);
    }
    this.#remaining -= bytes.length;
    this.#queue.push(bytes);
    this.#sendOn();
  }

  /** Writes what was handed over until the client has to read, and ends the body if that is all. */
  #sendOn(): void {
    if (this.#connection.closed) this.#queue = [];
    while (this.#queue.length > 0 && !this.#blocked) this.#writePiece();
    if (this.#queue.length === 0 && this.#tail !== undefined) this.#finish(this.#tail);
    else if (this.#blocked) this.#progress.blocked();
  }

  #writePiece(): void {
    const first = this.#queue[0]!;
    const whole = first.length <= PIECE_BYTES;
    const piece = whole ? first : front(first, PIECE_BYTES);
    if (whole) this.#queue.shift();
    else this.#queue[0] = rest(first, PIECE_BYTES);
    const mayGoOn = this.#framing === "chunked"
      ? this.#writeChunked(piece, first.length, whole)
      : this.#connection.write(piece);
    this.#blocked = !mayGoOn && !this.#connection.closed;
    this.#wrote("body", piece.length);
  }

  /** Writes the next piece of a chunk, of which `left` bytes are left; with its frame at the ends. */
  #writeChunked(piece: Chunk, left: number, last: boolean): boolean {
    this.#connection.cork();
    if (!this.#inChunk) this.#connection.write(chunkHead(left));
    this.#connection.write(piece);
    this.#inChunk = !last;
    const mayGoOn = this.#connection.write(last ? CHUNK_END : "");
    this.#connection.uncork();
    return mayGoOn;
  }

  /** The session's call: the connection can be written again, or is gone. */
  wake(): void {
    this.#blocked = false;
    this.#sendOn();
    if (this.#blocked) return;
    this.#draining?.resolve();
    this.#draining = undefined;
  }

  /** Whether the client has to read before more can be written. */
  get blocked(): boolean {
    return this.#blocked && !this.#ended;
  }

  /**
   * Ends the body, behind what was handed over.
   *
   * @throws {HttpError} `BAD_RESPONSE` when it is shorter than its `Content-Length`; the connection
   * is cut, so that the client does not take the part for the whole. And for trailer fields that
   * HTTP does not allow
   */
  end(trailers: Fields = []): void {
    if (this.answered) return;
    if (this.#framing === "length" && this.#remaining > 0 && !this.#connection.closed) {
      throw this.#broken(`shorter than its Content-Length by ${this.#remaining}`);
    }
    this.#tail = this.#framing === "chunked" ? lastChunk(trailers) : "";
    this.#sendOn();
  }

  #finish(tail: Chunk): void {
    this.#connection.write(tail);
    this.#ended = true;
    if (tail.length > 0) this.#wrote("body", 0);
    this.#progress.done();
  }

  /** Cuts the connection in the middle of the response: the client must not take it for whole. */
  abort(error: HttpError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#keepAlive = false;
    this.#queue = [];
    // The missing end tells the client, but for a body that ends with the connection.
    if (this.#framing === "close" || this.#framing === "raw") this.#connection.reset(error);
    else this.#connection.cutBehind(error);
  }

  #broken(how: string): HttpError {
    const error = badResponse(`The response body is ${how} bytes: the connection was cut`);
    this.abort(error);
    return error;
  }
}
