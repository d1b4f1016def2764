/**
 * Carries one response on an HTTP/2 stream: HEADERS, DATA within the client's windows, and the end
 * (RFC 9113 section 8.1). What may not be sent yet waits here.
 *
 * @module
 */
import { type HttpsdError, StateError } from "../errors.ts";
import { assertFieldValue, type Fields } from "../http/response_rules.ts";
import type { HeadEnd, ResponseSink } from "../http/response_sink.ts";
import { type Chunk, front, rest } from "../net/chunks.ts";
import { ErrorCode } from "./error_code.ts";
import type { Output, Sender } from "./output.ts";
import { COPIED_BYTES } from "./frame_writer.ts";
import { DEFAULT_PRIORITY, type Priority } from "./priority.ts";
import {
  beginHead,
  encodeHead,
  encodeTrailers,
  encodeTunnelHead,
  type PartialHead,
} from "./response_head.ts";
import type { UnsentAnswer } from "../net/unsent.ts";
import { type SendWindow, TINY_BYTES } from "./windows.ts";

/** The stream that a sink sends on. */
export interface SinkStream {
  /** Its number. */
  readonly id: number;
  /** The sending side of its connection. */
  readonly output: Output;
  /** How much DATA the client takes on it. */
  readonly window: SendWindow;
  /** Whether a request needs the connection no more. */
  readonly lasts: boolean;
  /** Takes no further request on the connection. */
  closeAfterwards(): void;
  /** Ends the stream without a whole response. */
  reset(code: ErrorCode): void;
  /** Takes note that the last frame is on its way. */
  ended(): void;
  /** Takes note that the head that was sent is all of the response. */
  headWasAll(): void;
  /** Takes note that the client reads. */
  progressed(): void;
  /** Reports what is on its way; `undefined` where it need not be reported. */
  readonly wrote: ((part: "head" | "body", bytes: number) => void) | undefined;
}

/** From so many bytes on, the memory of a body is freed when it has left. */
const FREED_BYTES = 64 * 1024;

/** What most responses have waiting. */
const NO_QUEUE: Chunk[] = [];

/** One response on a stream. */
export class Http2ResponseSink implements ResponseSink, Sender {
  /** What the schedule goes by. */
  readonly stream: SinkStream;
  readonly id: number;
  priority: Priority = DEFAULT_PRIORITY;
  sentBytes = 0;
  group = -1;
  #head: PartialHead | undefined;
  /** Head blocks that wait: interim ones, and the final one. */
  #blocks: Uint8Array[] | undefined;
  /** Body bytes that wait. */
  #queue: Chunk[] = NO_QUEUE;
  #queuedBytes = 0;
  /** What counts what waits, unless a tunnel does: WebSockets have a limit of their own. */
  #waiting: UnsentAnswer | undefined;
  /** Whether some of them may change once they were sent. */
  #changes = false;
  /** The body, where its memory is to be freed when it has left. */
  #own: Uint8Array | undefined;
  /** Whether something that waited was sent, and may not have left. */
  #leaving = false;
  #hasBody = true;
  /** The trailer section, or `null` for none; `undefined` until all of the body was handed over. */
  #tail: Uint8Array | null | undefined;
  #over = false;

  /** Makes the sink of the answer on `stream`. */
  constructor(stream: SinkStream) {
    this.stream = stream;
    this.id = stream.id;
  }

  get keepAlive(): boolean {
    return this.stream.lasts;
  }

  get blocked(): boolean {
    return this.#waits || this.#leaving;
  }

  /** How many bytes of the body wait. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get #waits(): boolean {
    return this.#queue.length > 0 || this.#blocks !== undefined;
  }

  /**
   * Obeys the fields of an answer. Other reasons that make an answer the last one of an HTTP/1.1
   * connection, such as a handler that failed, concern its own stream alone.
   */
  closeAfterwards(isAsked: boolean): void {
    if (isAsked) this.stream.closeAfterwards();
  }

  informational(status: number, fields: Fields): void {
    this.#sendHead(encodeHead(status, fields), false);
  }

  /** Answers an extended CONNECT (RFC 8441 section 5): 200 in place of 101. */
  switchProtocols(fields: Fields): number {
    this.#sendHead(encodeTunnelHead(fields), false);
    return 200;
  }

  raw(): void {
    throw new StateError("NOT_SUPPORTED", "HTTP/2 sends no raw bytes: use send()");
  }

  begin(status: number, reason: string | undefined): void {
    if (reason !== undefined) assertFieldValue("reason", reason); // as on HTTP/1.1, though unsent
    this.#head = beginHead(status);
  }

  field(name: string, value: string): void {
    this.#head = this.#head!.field(name, value);
  }

  /** Does nothing: HTTP/2 has no upgrade (RFC 9113 section 8.6). */
  offer(): void {}

  open(end: HeadEnd): void {
    this.#hasBody = end.hasBody;
    const block = this.#head!.end(end.length, end.dated);
    this.#head = undefined;
    if (!end.hasBody) this.#tail = null;
    this.#sendHead(block, !end.hasBody);
    this.stream.wrote?.("head", block.length);
    if (this.#over) this.stream.headWasAll();
  }

  #sendHead(block: Uint8Array, endStream: boolean): void {
    const { output, id } = this.stream;
    if (this.#blocks === undefined && !output.blocked) {
      output.headers(id, block, endStream);
      output.schedule();
      if (endStream) this.#ends();
    } else {
      (this.#blocks ??= []).push(block);
      output.add(this);
    }
  }

  whole(head: HeadEnd, body: Chunk, isOwn: boolean): boolean {
    const bodiless = body.length === 0 && head.hasBody ? { ...head, hasBody: false } : head;
    this.open(bodiless);
    // What is sent at once is short, and not worth it.
    if (isOwn && typeof body !== "string" && body.length >= FREED_BYTES) {
      this.#own = body;
      this.#hand(body, undefined, true);
    } else if (bodiless.hasBody) this.#hand(body, body, true);
    this.#countWaiting(body);
    return this.#over;
  }

  data(chunk: Chunk): boolean {
    if (chunk.length === 0) return !this.blocked;
    const mayGoOn = this.#hand(chunk, undefined, false);
    this.#countWaiting(chunk);
    return mayGoOn;
  }

  /** Counts a chunk that waits. */
  #countWaiting(chunk: Chunk): void {
    if (this.#queue.length > 0) (this.#waiting ??= this.stream.output.unsentAnswer()).add(chunk);
  }

  /** Takes bytes as {@linkcode Http2ResponseSink.data} does, which must not change afterwards. */
  lasting(chunk: Uint8Array): boolean {
    return chunk.length === 0 ? !this.blocked : this.#hand(chunk, chunk, false);
  }

  /**
   * Sends a piece of the body at once where it is short, and in its turn where it is not. One that
   * is not `lasting` may change when this has returned `true`, and what is sent at once leaves
   * later.
   */
  #hand(chunk: Chunk, lasting: Chunk | undefined, isLast: boolean): boolean {
    const { output, window, id } = this.stream;
    const { length } = chunk;
    if (isLast) this.#tail = null;
    if (!this.#waits && length <= window.size && output.hasRoomFor(length)) {
      window.take(length);
      output.mayBeAnswered();
      output.data(id, lasting ?? copyOf(chunk), isLast);
      output.schedule();
      if (isLast) this.#ends();
    } else {
      if (this.#queue === NO_QUEUE) this.#queue = [];
      this.#queue.push(chunk);
      this.#queuedBytes += length;
      if (lasting === undefined) this.#changes = true;
      output.add(this);
    }
    this.stream.wrote?.("body", length);
    return !this.blocked;
  }

  end(trailers: Fields): boolean {
    if (this.#over) return true; // the head has said so
    const fields = [...trailers];
    this.#tail = fields.length > 0 ? encodeTrailers(fields) : null;
    if (this.#waits) return false;
    if (this.stream.output.blocked) {
      this.#blocks = [];
      this.stream.output.add(this);
      return false;
    }
    this.#sendTail();
    return !this.#leaving;
  }

  #sendTail(): void {
    const { output, id } = this.stream;
    if (this.#tail) output.headers(id, this.#tail, true);
    else output.data(id, "", true);
    output.schedule();
    this.#ends();
  }

  #ends(): void {
    this.#over = true;
    this.stream.ended();
  }

  get ready(): boolean {
    return this.#blocks !== undefined || (this.#queue.length > 0 && this.stream.window.size > 0);
  }

  sendSome(most: number): number | undefined {
    const sent = this.#sendNext(most);
    if (sent !== undefined) this.#leaving = true;
    return sent;
  }

  #sendNext(most: number): number | undefined {
    const hadBlocks = this.#sendBlocks();
    const queue = this.#queue;
    if (queue.length === 0) {
      if (this.#tail !== undefined && !this.#over) this.#sendTail();
      return 0;
    }
    const { output, window, id } = this.stream;
    const first = queue[0]!;
    const length = Math.min(first.length, most, window.size);
    if (length <= 0) return hadBlocks ? 0 : undefined;
    const whole = length === first.length;
    if (whole) queue.shift();
    else queue[0] = rest(first, length);
    this.#queuedBytes -= length;
    if (queue.length === 0) this.#waiting?.clear();
    else this.#waiting?.moved();
    const isLast = whole && queue.length === 0 && this.#tail === null;
    window.take(length);
    if (whole || length >= TINY_BYTES) output.mayBeAnswered();
    output.data(id, whole ? first : front(first, length), isLast, this.#changes);
    if (isLast) this.#ends();
    else if (queue.length === 0 && this.#tail) this.#sendTail();
    return length;
  }

  /** Sends head blocks that wait; returns whether there were any. */
  #sendBlocks(): boolean {
    const blocks = this.#blocks;
    if (blocks === undefined) return false;
    this.#blocks = undefined;
    const { output, id } = this.stream;
    for (const [i, block] of blocks.entries()) {
      const isEnd = i === blocks.length - 1 && !this.#hasBody;
      output.headers(id, block, isEnd);
      if (!isEnd) continue;
      this.#ends();
      this.stream.headWasAll();
    }
    return true;
  }

  sent(): void {
    this.#leaving = false;
    if (this.#over && this.#own !== undefined) {
      this.stream.output.free(this.#own);
      this.#own = undefined;
    }
    this.stream.progressed();
  }

  /** Takes its turn again, since its window has grown. */
  widened(): void {
    if (this.#waits) this.stream.output.add(this);
  }

  resume(): boolean {
    return this.#tail === undefined ? !this.blocked : this.#over;
  }

  abort(): void {
    this.#drop();
    this.stream.reset(ErrorCode.InternalError);
  }

  gone(_reason: HttpsdError): void {
    this.#drop();
  }

  #drop(): void {
    this.#over = true;
    this.#queue = NO_QUEUE;
    this.#queuedBytes = 0;
    this.#waiting?.clear();
    this.#own = undefined; // some of it may be on its way
    this.#leaving = false;
    this.#blocks = undefined;
    this.stream.output.remove(this);
  }
}

/** Bytes that no other will change. */
function copyOf(chunk: Chunk): Chunk {
  return typeof chunk === "string" || chunk.length <= COPIED_BYTES ? chunk : new Uint8Array(chunk);
}
