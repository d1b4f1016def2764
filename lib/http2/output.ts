/**
 * What one connection sends: gathers the frames of all streams, and writes them once in a turn of
 * the event loop, as far as the client reads and its windows allow.
 *
 * Small answers go into the next write at once. Whatever is longer, or has to wait, waits in its
 * stream; when the client may be sent more, the `Scheduler` says which stream is next.
 *
 * @module
 */
import { ConnectionError } from "../errors.ts";
import type { Chunk } from "../net/chunks.ts";
import type { ConnectionEngine } from "../net/engine.ts";
import type { UnsentAnswer } from "../net/unsent.ts";
import type { ErrorCode } from "./error_code.ts";
import { FrameWriter } from "./frame_writer.ts";
import { PeerTable } from "./hpack/encoder.ts";
import type { Priority } from "./priority.ts";
import { type Scheduled, Scheduler, TURN_BYTES } from "./scheduler.ts";
import { DEFAULT_WINDOW } from "./settings.ts";
import { SendWindow } from "./windows.ts";

/** So much is gathered before it is written, also within a turn, in bytes. */
const WRITE_BYTES = 64 * 1024;
/** A body of so many bytes goes out beside its head; a longer one takes its turn. */
const SMALL_BYTES = 16 * 1024;
/**
 * What is written later in the same turn, as what follows a promise that is settled, goes into the
 * same write: so many turns of the microtask queue are waited for it.
 */
const SETTLING_TURNS = 4;

/** How many frames may answer one of DATA. */
const ANSWERS = 3;
/**
 * How many may be owed at a time: those to all DATA that can be under way to a client that has not
 * read for a while, however short its frames. Without it a long connection would save up a flood.
 */
const MAX_ANSWERS = 262_144;

/** The answer of a stream that has something to send. */
export interface Sender extends Scheduled {
  /** Whether there is more that may be sent, as far as the stream goes. */
  readonly ready: boolean;
  /**
   * Sends the next frames, with at most `most` bytes of DATA; returns how many there were,
   * `undefined` where nothing at all could be sent.
   */
  sendSome(most: number): number | undefined;
  /** Goes on, after what was sent has left. */
  sent(): void;
}

/** The sending side of a connection. */
export class Output {
  /** What gathers frames. */
  readonly writer = new FrameWriter();
  /** How many frames that carry nothing the client may still send as answers to DATA. */
  #answers = 0;
  /** The changes of its table that the client's decoder has to be sent. */
  readonly table = new PeerTable();
  /** How much DATA the client takes on the whole connection. */
  readonly window = new SendWindow(DEFAULT_WINDOW);
  readonly #connection: ConnectionEngine;
  readonly #maxUnsentBytes: number;
  readonly #scheduler = new Scheduler<Sender>();
  /** Streams that could send, were it not for the connection's window. */
  readonly #waiting = new Set<Sender>();
  /** Streams of which something was sent that may not have left. */
  readonly #sent = new Set<Sender>();
  /** Whether some of what was gathered may change once it was sent. */
  #changes = false;
  #turns = 0;
  #flushing = false;
  readonly #settle = (): void => {
    if (--this.#turns > 0) queueMicrotask(this.#settle);
    else this.flush();
  };

  /**
   * Makes the sending side. A client that does not read is cut when more than `maxUnsentBytes` wait of
   * what answers its frames.
   */
  constructor(connection: ConnectionEngine, maxUnsentBytes: number) {
    this.#connection = connection;
    this.#maxUnsentBytes = maxUnsentBytes;
  }

  /**
   * Notes that DATA is sent that a client may answer: by a WINDOW_UPDATE for the stream, and by one for
   * the connection, however small, and by a PING, as gRPC measures the way. DATA that is tiny since the
   * client's window is earns nothing; that at the end of each whole window is, too, and has answers.
   */
  mayBeAnswered(): void {
    this.#answers = Math.min(this.#answers + ANSWERS, MAX_ANSWERS);
  }

  /** Whether a frame that carries nothing may be an answer to DATA; none is to more than one. */
  takeAnswer(): boolean {
    if (this.#answers === 0) return false;
    this.#answers--;
    return true;
  }

  /** What counts the chunks of one answer that wait for the client to read. */
  unsentAnswer(): UnsentAnswer {
    return this.#connection.unsentAnswer();
  }

  /** Whether the client has to read before more is sent. */
  get blocked(): boolean {
    return this.#connection.blocked;
  }

  /** Whether a body of so many bytes may go into the next write, as far as the connection goes. */
  hasRoomFor(bytes: number): boolean {
    return bytes <= SMALL_BYTES && bytes <= this.window.size && !this.#connection.blocked;
  }

  /** Sends a head or trailers. */
  headers(streamId: number, block: Uint8Array, endStream: boolean): void {
    this.writer.headers(streamId, this.table.send(block), endStream);
  }

  /**
   * Sends DATA, at most as much as both windows have. What may `change` may do so from the sender's
   * next `sent()` on.
   */
  data(streamId: number, data: Chunk, endStream: boolean, change = false): void {
    if (change) this.#changes = true;
    this.window.take(data.length);
    this.writer.data(streamId, data, endStream);
  }

  /** Sends RST_STREAM. */
  reset(streamId: number, code: ErrorCode): void {
    this.writer.reset(streamId, code);
    this.schedule();
  }

  /** Gives back a part of a receive window; stream 0 is the connection. */
  windowUpdate(streamId: number, increment: number): void {
    this.writer.windowUpdate(streamId, increment);
    this.schedule();
  }

  /** Lets a stream send as soon as it may. */
  add(sender: Sender): void {
    this.#scheduler.add(sender);
    this.schedule();
  }

  /** Forgets a stream. */
  remove(sender: Sender): void {
    this.#scheduler.remove(sender);
    this.#waiting.delete(sender);
    this.#sent.delete(sender);
  }

  /** Gives a stream another place among the others. */
  reprioritize(sender: Sender, priority: Priority): void {
    this.#scheduler.reprioritize(sender, priority);
  }

  /** The connection's window has grown. */
  widened(): void {
    for (const sender of this.#waiting) this.#scheduler.add(sender);
    this.#waiting.clear();
    this.schedule();
  }

  /** Writes what was gathered, and what may be sent, at the end of this turn. */
  schedule(): void {
    if (this.blocked) return this.#wait();
    if (this.writer.pendingBytes >= WRITE_BYTES) this.#write();
    if (this.#turns > 0 || this.#flushing) return;
    this.#turns = SETTLING_TURNS;
    queueMicrotask(this.#settle);
  }

  /** While the client does not read, what waits here are answers to its frames: bodies wait in streams. */
  #wait(): void {
    if (this.writer.pendingBytes <= this.#maxUnsentBytes) return;
    this.#connection.destroy(
      new ConnectionError("CONNECTION_ABORTED", "The client does not read what answers its frames"),
    );
  }

  /** Writes it now, unless the client has to read before. */
  flush(): void {
    this.#turns = 0;
    const connection = this.#connection;
    if (connection.blocked || this.#flushing) return;
    this.#flushing = true;
    connection.cork();
    try {
      this.#write();
      while (!connection.blocked && this.#sendNext());
      this.#write();
    } finally {
      connection.uncork();
      this.#flushing = false;
    }
    this.#reportSent();
  }

  /** Frees the memory of a body whose frames were all given to the connection, once they have left. */
  free(bytes: Uint8Array): void {
    this.#connection.free(bytes);
  }

  /** The client has read: goes on. */
  drained(): void {
    this.#reportSent();
    this.flush();
  }

  /** All that was sent has left: its memory is its owner's again, and more may follow. */
  #reportSent(): void {
    for (const sender of this.#sent) {
      if (this.#connection.blocked) return;
      this.#sent.delete(sender);
      sender.sent();
    }
  }

  /** Writes what was gathered, whether the client reads or not: the connection is about to end. */
  flushLast(): void {
    this.#turns = 0;
    this.#write();
  }

  /** Lets one stream send; returns `false` when none may. */
  #sendNext(): boolean {
    const sender = this.#scheduler.next();
    if (sender === undefined) return false;
    const most = Math.min(this.window.size, TURN_BYTES);
    const sent = sender.sendSome(Math.max(0, most));
    this.#scheduler.wrote(sender, sent ?? 0);
    if (!sender.ready) {
      this.#scheduler.remove(sender);
    } else if (this.window.size <= 0) {
      this.#scheduler.remove(sender);
      this.#waiting.add(sender);
    }
    if (sent !== undefined) this.#sent.add(sender);
    if (this.writer.pendingBytes >= WRITE_BYTES) this.#write();
    return true;
  }

  #write(): void {
    if (this.writer.pendingBytes === 0) return;
    const connection = this.#connection;
    connection.cork(); // several chunks are one write
    for (const chunk of this.writer.take()) connection.write(chunk, this.#changes);
    connection.uncork();
    this.#changes = false;
  }
}
