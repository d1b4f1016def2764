/**
 * Carries one response over an HTTP/1.1 connection: chooses its framing (RFC 9112 section 6), and
 * keeps what the client has not read yet.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";
import type { HeadEnd, ResponseSink } from "../http/response_sink.ts";
import type { Fields } from "../http/response_rules.ts";
import { type Chunk, front, rest } from "../net/chunks.ts";
import type { ConnectionEngine } from "../net/engine.ts";
import type { UnsentAnswer } from "../net/unsent.ts";
import {
  CHUNK_END,
  chunkHead,
  dateLine,
  encodeHead,
  lastChunk,
  lengthEnd,
  lengthLine,
  SectionEncoder,
} from "./encoder.ts";

/** How the body's end is found. */
type Framing = "none" | "length" | "chunked" | "close" | "raw";

/** A long body is written in pieces of so many bytes, so that a slow client holds one of them. */
const PIECE_BYTES = 64 * 1024;

/** What most responses have waiting. */
const NO_QUEUE: Chunk[] = [];

/** What of a request decides how its response is framed. */
export interface AnsweredRequest {
  /** 0 for HTTP/1.0, 1 for HTTP/1.1. */
  readonly minorVersion: number;
  /** Whether the client wants to keep the connection. */
  readonly keepAlive: boolean;
}

/** What each write is reported to. */
export interface WriteObserver {
  /** The head was written, or so many bytes of the body; `undefined` where it need not be reported. */
  readonly wrote: ((part: "head" | "body", bytes: number) => void) | undefined;
}

/** One response on a connection, one after the other: see answers.ts. */
export class Http1ResponseSink implements ResponseSink {
  #connection!: ConnectionEngine;
  #observer!: WriteObserver;
  #minorVersion = 1;
  #keepAlive = true;
  readonly #head = new SectionEncoder();
  #framing: Framing = "none";
  /** Body bytes that were handed over and wait for the client to read. */
  #queue = NO_QUEUE;
  /** What counts them. */
  #waiting: UnsentAnswer | undefined;
  /** Whether the first of them is the rest of a chunk whose length was written. */
  #inChunk = false;
  /** What comes behind the body; `undefined` until all of it was handed over. */
  #tail: Chunk | undefined;
  #blocked = false;
  /** Whether the body was handed over as a whole, and so never changes. */
  #lasts = false;
  /** The body, where its memory is to be freed behind it. */
  #own: Uint8Array | undefined;

  /** Begins the answer to `request`. */
  answer(connection: ConnectionEngine, request: AnsweredRequest, observer: WriteObserver): void {
    this.#connection = connection;
    this.#observer = observer;
    this.#minorVersion = request.minorVersion;
    this.#keepAlive = request.keepAlive;
  }

  /** Forgets an answer that was written as a whole, at once, so that another can begin. */
  reset(): void {
    this.#connection = undefined!;
    this.#observer = undefined!;
    this.#framing = "none";
    this.#queue = NO_QUEUE;
    this.#waiting = undefined;
    this.#inChunk = this.#blocked = this.#lasts = false;
    this.#tail = this.#own = undefined;
  }

  get keepAlive(): boolean {
    return this.#keepAlive;
  }

  get blocked(): boolean {
    return this.#blocked;
  }

  get queuedBytes(): number {
    return this.#queue.reduce((sum, { length }) => sum + length, 0);
  }

  closeAfterwards(): void {
    this.#keepAlive = false;
  }

  /** Sends nothing to an HTTP/1.0 client, which knows no interim responses. */
  informational(status: number, fields: Fields): void {
    if (this.#minorVersion > 0) this.#connection.write(encodeHead(status, fields));
  }

  switchProtocols(fields: Fields): number {
    this.#connection.write(encodeHead(101, [["Connection", "Upgrade"], ...fields]));
    return 101;
  }

  raw(): void {
    this.#framing = "raw";
  }

  begin(status: number, reason: string | undefined): void {
    this.#head.begin(status, reason);
  }

  field(name: string, value: string): void {
    this.#head.field(name, value);
  }

  offer(protocols: string): void {
    this.#head.field("Upgrade", protocols);
    this.#head.line("Connection: Upgrade\r\n");
  }

  open(end: HeadEnd): void {
    this.#writeHead(this.#endHead(end));
  }

  #writeHead(head: Chunk): void {
    this.#connection.write(head);
    this.#wrote("head", head.length);
  }

  /** Chooses the framing, and ends the head with what says so. */
  #endHead({ length, hasBody, dated }: HeadEnd): Chunk {
    const head = this.#head;
    if (!dated) head.line(dateLine());
    const framing = this.#framing = hasBody ? this.#frame(length) : "none";
    if (framing === "close") this.#keepAlive = false;
    if (this.#keepAlive && this.#minorVersion > 0 && length !== undefined) {
      return head.end(lengthEnd(length)); // nearly always
    }
    if (length !== undefined) head.line(lengthLine(length));
    if (framing === "chunked") head.line("Transfer-Encoding: chunked\r\n");
    if (!this.#keepAlive) head.line("Connection: close\r\n");
    else if (this.#minorVersion === 0) head.line("Connection: keep-alive\r\n");
    return head.end();
  }

  #frame(length: number | undefined): Framing {
    if (length !== undefined) return "length";
    return this.#minorVersion === 0 ? "close" : "chunked";
  }

  /** Reports a write after its bytes have left: with events, order goes before speed. */
  #wrote(part: "head" | "body", bytes: number): void {
    const { wrote } = this.#observer;
    if (wrote === undefined) return;
    this.#connection.flush();
    wrote(part, bytes);
  }

  whole(head: HeadEnd, body: Chunk, isOwn: boolean): boolean {
    const isWritten = this.#writeWhole(head, body, isOwn);
    this.#countWaiting(body);
    return isWritten;
  }

  #writeWhole(end: HeadEnd, body: Chunk, isOwn: boolean): boolean {
    const head = this.#endHead(end);
    this.#lasts = true;
    this.#tail = "";
    const isText = typeof head === "string" && typeof body === "string";
    if (isText && body.length <= PIECE_BYTES && this.#observer.wrote === undefined) {
      this.#connection.write(head + body);
      return true;
    }
    this.#connection.cork();
    try {
      this.#writeHead(head);
      if (body.length > 0) this.#hand(body);
      if (isOwn && typeof body !== "string" && body.length >= PIECE_BYTES) this.#own = body;
      return this.#sendOn();
    } finally {
      this.#connection.uncork();
    }
  }

  data(chunk: Chunk): boolean {
    this.#hand(chunk);
    const mayGoOn = this.#sendOn();
    this.#countWaiting(chunk);
    return mayGoOn;
  }

  /** Writes a chunk that is a piece already; one that is longer, or has to wait, joins the queue. */
  #hand(chunk: Chunk): void {
    if (chunk.length <= PIECE_BYTES && this.#queue.length === 0 && !this.#blocked) {
      this.#writePiece(chunk, chunk.length);
      return;
    }
    if (this.#queue === NO_QUEUE) this.#queue = [];
    this.#queue.push(chunk);
  }

  /** Counts a chunk some of which waits. */
  #countWaiting(chunk: Chunk): void {
    if (this.#queue.length > 0) (this.#waiting ??= this.#connection.unsentAnswer()).add(chunk);
  }

  end(trailers: Fields): boolean {
    this.#tail = this.#framing === "chunked" ? lastChunk(trailers) : "";
    return this.#sendOn();
  }

  resume(): boolean {
    this.#blocked = false;
    return this.#sendOn();
  }

  /** Writes what waits until the client has to read; behind all of it the end, where that is due. */
  #sendOn(): boolean {
    while (this.#queue.length > 0 && !this.#blocked) this.#writeNext();
    if (this.#queue.length === 0) this.#waiting?.clear();
    if (this.#tail === undefined) return !this.#blocked;
    if (this.#queue.length > 0) return false;
    if (this.#tail.length > 0) {
      this.#connection.write(this.#tail);
      this.#wrote("body", 0);
    }
    if (this.#own !== undefined) {
      this.#connection.free(this.#own);
      this.#own = undefined;
    }
    return true;
  }

  #writeNext(): void {
    const first = this.#queue[0]!;
    const { length } = first;
    if (length > PIECE_BYTES) {
      this.#queue[0] = rest(first, PIECE_BYTES);
      this.#writePiece(front(first, PIECE_BYTES), length);
    } else {
      this.#queue.shift();
      this.#writePiece(first, length);
    }
  }

  /** Writes the next piece of a chunk, of which `left` bytes are left. */
  #writePiece(piece: Chunk, left: number): void {
    const mayGoOn = this.#framing === "chunked"
      ? this.#writeChunked(piece, left, piece.length === left)
      : this.#connection.write(piece, !this.#lasts);
    this.#blocked = !mayGoOn && !this.#connection.closed;
    this.#wrote("body", piece.length);
  }

  /** The same with the frame of the chunk at its ends. */
  #writeChunked(piece: Chunk, left: number, last: boolean): boolean {
    this.#connection.cork();
    if (!this.#inChunk) this.#connection.write(chunkHead(left));
    this.#connection.write(piece, true);
    this.#inChunk = !last;
    const mayGoOn = this.#connection.write(last ? CHUNK_END : "");
    this.#connection.uncork();
    return mayGoOn;
  }

  abort(error: HttpsdError): void {
    this.#keepAlive = false;
    this.#drop();
    // The missing end shows it to the client, unless the body ends with the connection.
    if (this.#framing === "close" || this.#framing === "raw") {
      this.#connection.destroy(error, { reset: true });
    } else this.#connection.close({ error });
  }

  gone(): void {
    this.#drop();
  }

  #drop(): void {
    this.#queue = NO_QUEUE;
    this.#own = undefined; // some of it may be on its way
    this.#waiting?.clear();
  }
}
