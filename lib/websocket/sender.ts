/**
 * The sending side of one socket: frames leave whole and messages in order, whoever sends and
 * however it is compressed; and who sends can wait for the client to read.
 *
 * @module
 */
import type { Connection } from "../net/connection.ts";
import { WebSocketError } from "../errors.ts";
import { ContextDeflater } from "./deflate.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import { encodeFrame, encodeMessage, Opcode } from "./frame.ts";
import { type Bytes, bytesOf, PreparedMessage } from "./outgoing.ts";

/** Writes something, at once or when its promise settles. */
type Job = () => void | Promise<void>;

interface WaitingJob {
  readonly bytes: number;
  readonly run: Job;
  readonly done: PromiseWithResolvers<void>;
}

/** What a job that waits takes besides its bytes. */
const JOB_OVERHEAD = 256;

const DONE = Promise.resolve();
const NO_BYTES = new Uint8Array(0);

/** Sends on one connection. */
export class Sender {
  readonly #connection: Connection;
  readonly #agreement: DeflateAgreement | undefined;
  readonly #threshold: number;
  #deflater: ContextDeflater | undefined;

  /** What must not be overtaken: a message that is compressed or read, or one sent in fragments. */
  #busy = false;
  #fragmenting = false;
  #jobs: WaitingJob[] = [];
  #waitingBytes = 0;
  /** The program's sends that wait for the client to read. */
  #draining: PromiseWithResolvers<void> | undefined;
  #pong: Uint8Array | undefined;

  #close: { readonly payload: Uint8Array; readonly written: () => void } | undefined;
  #closeWritten = false;
  #ended: WebSocketError | undefined;

  /**
   * Sends on `connection`.
   *
   * @param threshold from how many bytes on a message is compressed
   */
  constructor(connection: Connection, agreement: DeflateAgreement | undefined, threshold: number) {
    this.#connection = connection;
    this.#agreement = agreement;
    this.#threshold = threshold;
  }

  /** How many bytes wait to be sent. */
  get bufferedBytes(): number {
    return this.#waitingBytes + this.#connection.bufferedBytes;
  }

  /** Whether the client must read before more should be sent. */
  get blocked(): boolean {
    return !this.#connection.write(NO_BYTES);
  }

  /** Whether the Close frame has been written, after which nothing may follow. */
  get closeWritten(): boolean {
    return this.#closeWritten;
  }

  /**
   * Sends a message in its turn; resolves when the next may follow.
   *
   * @param compress overrides the threshold
   */
  send(data: string | Bytes | PreparedMessage, compress: boolean | undefined): Promise<void> {
    if (data instanceof PreparedMessage) {
      if (this.#isFree && this.#agreement === undefined) return this.#writeNow(data.frame);
      return this.#inTurn(data.payload.length, () => this.#write(data, compress));
    }
    // The common case: nothing to wait for, nothing to compress. While the client does not read,
    // each frame has its own memory, so that what waits is what is counted.
    if (this.#isFree && this.#agreement === undefined && !this.blocked) {
      return this.#writeNow(encodeMessage(typeof data === "string" ? data : bytesOf(data)));
    }
    return this.send(new PreparedMessage(data), compress);
  }

  #writeNow(frame: Uint8Array): Promise<void> {
    this.#connection.write(frame);
    return this.#ready();
  }

  /** Whether a message can be written now, before no other. */
  get #isFree(): boolean {
    return !this.#busy && !this.#fragmenting && this.#ended === undefined;
  }

  /** Sends a message whose bytes have to be read first; those behind it wait. */
  sendLater(bytes: number, read: () => Promise<PreparedMessage>): Promise<void> {
    return this.#inTurn(bytes, async () => this.#write(await read(), undefined));
  }

  /**
   * Sends a data frame. One that does not end its message keeps other messages back until the
   * frame that does.
   */
  sendFrame(opcode: Opcode, payload: Uint8Array, fin: boolean): Promise<void> {
    const continues = opcode === Opcode.Continuation;
    if (continues && !this.#fragmenting) {
      return failed(cannotSend("A Continuation needs a message to continue: send its start first"));
    }
    const frame = encodeFrame(opcode, payload, { fin });
    const write = () => {
      this.#fragmenting = !fin;
      this.#connection.write(frame);
    };
    if (!continues) return this.#inTurn(frame.length, write);
    if (this.#ended !== undefined) return failed(this.#ended);
    write();
    this.#startNext();
    return this.#ready();
  }

  /** Sends a Ping or Pong, between frames of whatever is under way. */
  sendControl(opcode: Opcode, payload: Uint8Array): Promise<void> {
    if (this.#ended !== undefined) return failed(this.#ended);
    this.#connection.write(encodeFrame(opcode, payload));
    return this.#ready();
  }

  /**
   * Answers a Ping. While the client does not read, only the latest is answered, later (RFC 6455
   * section 5.5.3).
   */
  answerPing(payload: Uint8Array): void {
    if (this.#ended !== undefined) return;
    if (this.blocked) this.#pong = payload;
    else this.#connection.write(encodeFrame(Opcode.Pong, payload));
  }

  /** Sends the Close frame behind all that was sent before; `written` is told when it has left. */
  close(payload: Uint8Array, written: () => void): void {
    if (this.#ended !== undefined) return;
    this.#ended = closedError();
    this.#close = { payload, written };
    if (this.#fragmenting) this.#rejectJobs(); // its last fragment can no longer come
    if (!this.#busy) this.#startNext();
  }

  /** Sends the Close frame now and drops what has not left. */
  closeNow(payload: Uint8Array): void {
    if (this.#closeWritten) return;
    this.#end();
    this.#connection.write(encodeFrame(Opcode.Close, payload));
    this.#closeWritten = true;
  }

  /** The connection is over: nothing leaves any more. */
  abort(): void {
    this.#end();
    this.#draining?.reject(this.#ended);
    this.#draining = undefined;
  }

  /** The client has read. */
  drained(): void {
    const pong = this.#pong;
    this.#pong = undefined;
    if (pong !== undefined) this.answerPing(pong);
    this.#draining?.resolve();
    this.#draining = undefined;
  }

  #end(): void {
    this.#ended ??= closedError();
    this.#close = undefined;
    this.#pong = undefined;
    this.#rejectJobs();
    this.#deflater?.close();
  }

  #rejectJobs(): void {
    const jobs = this.#jobs;
    this.#jobs = [];
    this.#waitingBytes = 0;
    for (const { done } of jobs) done.reject(this.#ended);
  }

  /** Writes a message now; a promise when it has to be compressed in its connection's context. */
  #write(message: PreparedMessage, compress: boolean | undefined): void | Promise<void> {
    if (this.#closeWritten) throw closedError(); // it came while the message was read
    const agreement = this.#agreement;
    if (agreement === undefined || !(compress ?? message.payload.length >= this.#threshold)) {
      this.#connection.write(message.frame);
    } else if (agreement.serverContextTakeover) {
      return this.#writeInContext(message, agreement);
    } else {
      this.#connection.write(message.frameFor(agreement));
    }
  }

  async #writeInContext(message: PreparedMessage, agreement: DeflateAgreement): Promise<void> {
    this.#deflater ??= new ContextDeflater(agreement);
    const payload = await this.#deflater.deflate(message.payload);
    if (this.#closeWritten) throw closedError();
    this.#connection.write(encodeFrame(message.opcode, payload, { rsv1: true }));
  }

  #inTurn(bytes: number, run: Job): Promise<void> {
    if (this.#ended !== undefined) return failed(this.#ended);
    if (!this.#busy && !this.#fragmenting) return this.#start(run);
    const done = Promise.withResolvers<void>();
    done.promise.catch(ignore);
    this.#jobs.push({ bytes: bytes + JOB_OVERHEAD, run, done });
    this.#waitingBytes += bytes + JOB_OVERHEAD;
    return done.promise;
  }

  #start(run: Job): Promise<void> {
    const running = run();
    if (running === undefined) return this.#ready();
    this.#busy = true;
    const done = running.finally(() => {
      this.#busy = false;
      this.#startNext();
    }).then(() => this.#ready());
    done.catch(ignore);
    return done;
  }

  #startNext(): void {
    while (!this.#busy && !this.#fragmenting) {
      const job = this.#jobs.shift();
      if (job === undefined) break;
      this.#waitingBytes -= job.bytes;
      job.done.resolve(this.#start(job.run));
    }
    if (this.#close === undefined || this.#busy || this.#jobs.length > 0) return;
    const { payload, written } = this.#close;
    this.closeNow(payload);
    written();
  }

  #ready(): Promise<void> {
    if (this.#connection.closed) return failed(closedError());
    if (!this.blocked || this.#closeWritten) return DONE;
    if (this.#draining === undefined) {
      this.#draining = Promise.withResolvers();
      this.#draining.promise.catch(ignore);
    }
    return this.#draining.promise;
  }
}

/** Rejected, but no harm to a program that does not look. */
function failed(error: WebSocketError): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(ignore);
  return promise;
}

/** Who awaits the promise itself is told; who does not must not bring the process down. */
function ignore(): void {}

function closedError(): WebSocketError {
  return new WebSocketError(1006, "WS_CLOSED", "The WebSocket is closed: nothing can be sent");
}

function cannotSend(message: string): WebSocketError {
  return new WebSocketError(1011, "WS_CANNOT_SEND", message);
}
