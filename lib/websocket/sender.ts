/**
 * The sending side of one socket: frames leave whole and messages in order, however they are
 * compressed; and a program that sends can wait for the client to read.
 *
 * @module
 */
import { NO_BYTES } from "../bytes.ts";
import { ignore } from "../contain/callbacks.ts";
import type { Tunnel } from "../http/tunnel.ts";
import type { WebSocketError } from "../errors.ts";
import { cannotSend } from "./close.ts";
import { ContextDeflater, deflateMessage } from "./deflate.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import { Opcode } from "./opcode.ts";
import { encodeFrame, encodeMessage } from "./frame_encoder.ts";
import {
  type Bytes,
  bytesOf,
  EncodedMessage,
  encodedOf,
  PreparedMessage,
} from "./prepared_message.ts";

/** Writes something, at once or when its promise settles. */
type Job = () => void | Promise<void>;

interface WaitingJob {
  readonly bytes: number;
  readonly run: Job;
  readonly done: PromiseWithResolvers<void>;
}

/** The parts that a {@linkcode Sender} uses. */
export interface SenderParts {
  /** What it sends on. */
  readonly tunnel: Tunnel;
  /** The agreement on compression. */
  readonly agreement: DeflateAgreement | undefined;
  /** From how many bytes on a message is compressed. */
  readonly threshold: number;
  /** Makes the error of what can no longer be sent. */
  readonly closedError: () => WebSocketError;
}

/** What a job that waits takes besides its bytes. */
const JOB_OVERHEAD = 256;

const DONE = Promise.resolve();

/** Sends on one tunnel. */
export class Sender {
  readonly #tunnel: Tunnel;
  readonly #agreement: DeflateAgreement | undefined;
  readonly #threshold: number;
  readonly #closedError: () => WebSocketError;
  #deflater: ContextDeflater | undefined;

  /** A message is compressed or read, which those behind it must not overtake. */
  #busy = false;
  #jobs: WaitingJob[] = [];
  /** Whether the program has begun a message in fragments, and not ended it. */
  #inFragments = false;
  /** What came from elsewhere meanwhile, and waits for its end. */
  #behindFragments: WaitingJob[] = [];
  #waitingBytes = 0;
  /** The program's sends that wait for the client to read. */
  #draining: PromiseWithResolvers<void> | undefined;
  #pong: Uint8Array | undefined;

  #close: { readonly payload: Uint8Array; readonly written: () => void } | undefined;
  #closeWritten = false;
  #ended: WebSocketError | undefined;

  /** Makes the sender of one socket. */
  constructor({ tunnel, agreement, threshold, closedError }: SenderParts) {
    this.#tunnel = tunnel;
    this.#agreement = agreement;
    this.#threshold = threshold;
    this.#closedError = closedError;
  }

  /** How many bytes wait to be sent. */
  get bufferedBytes(): number {
    return this.#waitingBytes + this.#tunnel.bufferedBytes;
  }

  /** Whether the client must read before more should be sent. */
  get blocked(): boolean {
    return !this.#tunnel.write(NO_BYTES);
  }

  /** Whether the Close frame has been written, after which nothing may follow. */
  get closeWritten(): boolean {
    return this.#closeWritten;
  }

  /**
   * Sends a message in its turn; resolves when the next may follow. Rejects with `WS_CANNOT_SEND`
   * inside a message that is sent in fragments: only the program can end that, and it would wait
   * here for itself.
   *
   * @param compress overrides the threshold
   */
  send(data: string | Bytes | PreparedMessage, compress: boolean | undefined): Promise<void> {
    if (this.#inFragments) return failed(this.#ended ?? insideFragments());
    if (data instanceof PreparedMessage) return this.#sendEncoded(encodedOf(data), compress);
    // The common case: nothing to wait for, nothing to compress. While the client does not read,
    // each frame has its own memory, so that what waits is what is counted.
    if (this.#isFree && this.#agreement === undefined && !this.blocked) {
      return this.#writeNow(encodeMessage(typeof data === "string" ? data : bytesOf(data)));
    }
    return this.#sendEncoded(new EncodedMessage(data), compress);
  }

  /** Sends a message that others get too: behind one that is sent in fragments, if there is one. */
  deliver(message: EncodedMessage): Promise<void> {
    if (!this.#inFragments || this.#ended !== undefined) {
      return this.#sendEncoded(message, undefined);
    }
    const write = () => this.#write(message, undefined);
    return this.#wait(this.#behindFragments, message.payload.length, write);
  }

  #sendEncoded(message: EncodedMessage, compress: boolean | undefined): Promise<void> {
    if (this.#isFree && this.#agreement === undefined) return this.#writeNow(message.frame);
    return this.#inTurn(message.payload.length, () => this.#write(message, compress));
  }

  #writeNow(frame: Uint8Array): Promise<void> {
    this.#tunnel.write(frame);
    return this.#ready();
  }

  /** Whether a message can be written now, before no other. */
  get #isFree(): boolean {
    return !this.#busy && this.#ended === undefined;
  }

  /** Sends a message whose bytes have to be read first; those behind it wait. */
  sendLater(bytes: number, read: () => Promise<EncodedMessage>): Promise<void> {
    if (this.#inFragments) return failed(this.#ended ?? insideFragments());
    return this.#inTurn(bytes, async () => this.#write(await read(), undefined));
  }

  /**
   * Sends a data frame in its turn. One that does not end its message begins one in fragments: until
   * the frame that ends it, other messages are rejected as {@linkcode Sender.send} says.
   */
  sendFrame(opcode: Opcode, payload: Uint8Array, fin: boolean): Promise<void> {
    if (this.#ended !== undefined) return failed(this.#ended);
    const continues = opcode === Opcode.Continuation;
    if (continues && !this.#inFragments) {
      return failed(cannotSend("A Continuation needs a message to continue: send its start first"));
    }
    if (!continues && this.#inFragments) return failed(insideFragments());
    const frame = encodeFrame(opcode, payload, { fin });
    this.#inFragments = !fin;
    const sent = this.#inTurn(frame.length, () => void this.#tunnel.write(frame));
    if (fin && continues) this.#letFollow();
    return sent;
  }

  /** The message in fragments has ended: what waited behind it comes next. */
  #letFollow(): void {
    this.#jobs.push(...this.#behindFragments);
    this.#behindFragments = [];
    this.#startNext();
  }

  /** Sends a Ping or Pong, between frames of whatever is under way. */
  sendControl(opcode: Opcode, payload: Uint8Array): Promise<void> {
    if (this.#ended !== undefined) return failed(this.#ended);
    this.#tunnel.write(encodeFrame(opcode, payload));
    return this.#ready();
  }

  /**
   * Answers a Ping. While the client does not read, only the latest is answered, later (RFC 6455
   * section 5.5.3).
   */
  answerPing(payload: Uint8Array): void {
    if (this.#ended !== undefined) return;
    if (this.blocked) this.#pong = payload;
    else this.#tunnel.write(encodeFrame(Opcode.Pong, payload));
  }

  /** Sends the Close frame behind all that was sent before; calls `written` when it has left. */
  close(payload: Uint8Array, written: () => void): void {
    if (this.#ended !== undefined) return;
    this.#ended = this.#closedError();
    this.#close = { payload, written };
    // The last fragment can no longer come; a Close frame may come inside a message.
    for (const job of this.#behindFragments) this.#reject(job);
    this.#behindFragments = [];
    if (!this.#busy) this.#startNext();
  }

  /** Sends the Close frame now and drops what has not left. */
  closeNow(payload: Uint8Array): void {
    if (this.#closeWritten) return;
    this.#end();
    this.#tunnel.write(encodeFrame(Opcode.Close, payload));
    this.#closeWritten = true;
  }

  /** Rejects all that waits, since the tunnel is over. */
  abort(): void {
    this.#end();
    this.#draining?.reject(this.#ended);
    this.#draining = undefined;
  }

  /** Goes on, since the client has read. */
  drained(): void {
    const pong = this.#pong;
    this.#pong = undefined;
    if (pong !== undefined) this.answerPing(pong);
    this.#draining?.resolve();
    this.#draining = undefined;
  }

  #end(): void {
    this.#ended ??= this.#closedError();
    this.#close = undefined;
    this.#pong = undefined;
    this.#rejectJobs();
    this.#deflater?.close();
  }

  #rejectJobs(): void {
    const jobs = [...this.#jobs, ...this.#behindFragments];
    this.#jobs = [];
    this.#behindFragments = [];
    for (const job of jobs) this.#reject(job);
  }

  #reject({ bytes, done }: WaitingJob): void {
    this.#waitingBytes -= bytes;
    done.reject(this.#ended);
  }

  /** Writes a message now; a promise when it has to be compressed in its connection's context. */
  #write(message: EncodedMessage, compress: boolean | undefined): void | Promise<void> {
    if (this.#closeWritten) throw this.#closedError(); // it came while the message was read
    const agreement = this.#agreement;
    if (agreement === undefined || !(compress ?? message.payload.length >= this.#threshold)) {
      this.#tunnel.write(message.frame);
    } else if (agreement.serverContextTakeover) {
      return this.#writeInContext(message, agreement);
    } else {
      this.#tunnel.write(message.frameFor(agreement, deflateMessage));
    }
  }

  async #writeInContext(message: EncodedMessage, agreement: DeflateAgreement): Promise<void> {
    const deflater = this.#deflater ??= new ContextDeflater(agreement);
    const payload = await deflater.deflate(message.payload).catch((error) => {
      throw this.#ended ?? error; // a compressor is closed with its socket
    });
    if (this.#closeWritten) throw this.#closedError();
    this.#tunnel.write(encodeFrame(message.opcode, payload, { rsv1: true }));
  }

  #inTurn(bytes: number, run: Job): Promise<void> {
    if (this.#ended !== undefined) return failed(this.#ended);
    if (!this.#busy) return this.#start(run);
    return this.#wait(this.#jobs, bytes, run);
  }

  #wait(jobs: WaitingJob[], bytes: number, run: Job): Promise<void> {
    const done = Promise.withResolvers<void>();
    done.promise.catch(ignore);
    jobs.push({ bytes: bytes + JOB_OVERHEAD, run, done });
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
    while (!this.#busy) {
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
    if (this.#tunnel.closed) return failed(this.#closedError());
    if (!this.blocked || this.#closeWritten) return DONE;
    if (this.#draining === undefined) {
      this.#draining = Promise.withResolvers();
      this.#draining.promise.catch(ignore);
    }
    return this.#draining.promise;
  }
}

/** A rejected promise that counts as handled, so that it never ends a program that ignores it. */
function failed(error: WebSocketError): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(ignore);
  return promise;
}

function insideFragments(): WebSocketError {
  return cannotSend("A message is being sent in fragments: end it first, with final: true");
}
