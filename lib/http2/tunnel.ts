/**
 * An HTTP/2 stream as a tunnel, after an extended CONNECT (RFC 8441): DATA both ways. The client's
 * window is given back when the protocol has dealt with the bytes, so that one that takes nothing
 * stops its own stream and no other.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";
import { ByteQueue } from "../http/byte_queue.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import type { Clock } from "../net/clock.ts";
import { ErrorCode } from "./error_code.ts";
import type { Http2ResponseSink } from "./response_sink.ts";

/** The stream of a tunnel. */
export interface TunnelStream {
  readonly clock: Clock;
  readonly sendTimeoutMs: number;
  readonly readUntil: number;
  readonly muted: boolean;
  readonly oldAt: number;
  readonly sink: Http2ResponseSink;
  readonly remoteEnded: boolean;
  readonly isOver: boolean;
  /** Whether all that was written is on its way, and the end of this side behind it. */
  readonly isAnswered: boolean;
  /** How long the client may take to end its side then, in ms. */
  readonly lingerMs: number;
  /** How many bytes a client may send that nothing has dealt with. */
  readonly windowBytes: number;
  /** Has a deadline watched. */
  waits(deadline: number): void;
  /** Lets the client send so many bytes more. */
  release(bytes: number): void;
  /** Ends this side behind what was written. */
  finish(): void;
  /** Ends the stream where both sides have. */
  finished(): void;
  /** Ends the stream with RST_STREAM. */
  reset(code: ErrorCode): void;
}

/** A tunnel on a stream. */
export class Http2Tunnel implements Tunnel {
  readonly #stream: TunnelStream;
  #protocol: Protocol | undefined;
  #deadline = Infinity;
  readonly #queue = new ByteQueue();
  /** Bytes that were taken and not released. */
  #takenBytes = 0;
  #closing = false;
  /** Whether nothing is waited for but that the client ends its side. */
  #lingers = false;
  /** Whether it did not, so that this side has ended the stream. */
  #lingered = false;
  #closed = false;
  #stopped = false;
  #error: HttpsdError | undefined;

  /** Makes a tunnel on a stream. */
  constructor(stream: TunnelStream) {
    this.#stream = stream;
  }

  /** Lets a protocol read, in a microtask. */
  spokenBy<P extends Protocol>(protocol: P): P {
    this.#protocol = protocol;
    queueMicrotask(() => {
      if (this.#closed) return;
      if (this.peerEnded) protocol.peerEnded();
      protocol.bytesReady();
    });
    return protocol;
  }

  get clock(): Clock {
    return this.#stream.clock;
  }

  get deadline(): number {
    return this.#deadline;
  }

  set deadline(deadline: number) {
    this.#deadline = deadline;
    if (!this.#closed && !this.#closing) this.#stream.waits(deadline);
  }

  get sendTimeoutMs(): number {
    return this.#stream.sendTimeoutMs;
  }

  get readUntil(): number {
    return this.#stream.readUntil;
  }

  get muted(): boolean {
    return this.#stream.muted;
  }

  get oldAt(): number {
    return this.#stream.oldAt;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get closing(): boolean {
    return this.#closing;
  }

  get peerEnded(): boolean {
    return this.#stream.remoteEnded;
  }

  get ended(): boolean {
    return this.peerEnded && this.#queue.bytes === 0;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  get bufferedBytes(): number {
    return this.#stream.sink.queuedBytes;
  }

  after(ms: number): number {
    return this.clock.now() + ms;
  }

  take(): Uint8Array | undefined {
    const bytes = this.#queue.take();
    if (bytes === undefined) return undefined;
    this.#takenBytes += bytes.length;
    return bytes;
  }

  hold(bytes: number): void {
    const released = this.#takenBytes - bytes;
    if (released <= 0) return;
    this.#takenBytes = bytes;
    this.#stopped = false;
    this.#stream.release(released);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#closed || this.#closing) return false;
    return this.#stream.sink.lasting(bytes);
  }

  /** Does nothing: what is written in one turn leaves as one. */
  cork(): void {}

  /** Does nothing. */
  uncork(): void {}

  close(): void {
    if (this.#closed || this.#closing) return;
    this.#closing = true;
    this.#dropInput();
    this.#stream.waits(this.after(this.sendTimeoutMs));
    this.#stream.finish();
    this.#linger();
  }

  destroy(error?: HttpsdError): void {
    if (this.#closed) return;
    this.#error ??= error;
    this.#stream.reset(ErrorCode.Cancel);
  }

  // What the stream reports.

  /** Takes bytes that have come. */
  push(bytes: Uint8Array): void {
    if (this.#closing) return this.#stream.release(bytes.length);
    this.#queue.add(bytes);
    this.#protocol?.bytesReady();
    const waiting = this.#queue.bytes + this.#takenBytes;
    if (this.#closed || this.#stopped || 2 * waiting < this.#stream.windowBytes) return;
    this.#stopped = true; // the client may have to wait before it ends its side
    this.#protocol?.stopped();
  }

  /** The client has ended its side. */
  end(): void {
    if (this.#protocol === undefined || this.#closing) return;
    this.#protocol.peerEnded();
    if (!this.#closing && !this.#closed) this.#protocol.bytesReady();
  }

  /** The connection is about to end. */
  shutdown(): void {
    if (!this.#closing && !this.#closed) this.#protocol?.shutdown();
  }

  /** The connection ends at once. */
  leave(): void {
    if (!this.#closing && !this.#closed) this.#protocol?.leave();
  }

  /** Something that waited was sent. */
  wrote(): void {
    this.#stream.finished();
    this.#linger();
    if (!this.#closing && !this.#closed && !this.#stream.sink.blocked) this.#protocol?.drained();
  }

  /** The deadline has passed. */
  expired(): void {
    if (this.#closing) return this.#giveUp();
    this.#deadline = Infinity;
    this.#protocol?.expired();
  }

  /** Waits for the client to end its side, as for one of HTTP/1.1 to close, once all was sent. */
  #linger(): void {
    if (!this.#closing || this.#closed || this.#lingers || !this.#stream.isAnswered) return;
    this.#lingers = true;
    this.#stream.waits(this.after(this.#stream.lingerMs));
  }

  /** The client has not read what was sent last, unless it is only slow; or it does not end its side. */
  #giveUp(): void {
    const { readUntil } = this;
    if (readUntil > this.clock.now()) return this.#stream.waits(readUntil);
    this.#lingered = this.#lingers;
    this.#stream.reset(this.#lingers ? ErrorCode.NoError : ErrorCode.Cancel);
  }

  /** The stream is over. */
  over(error: HttpsdError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#dropInput();
    this.#protocol?.closed(this.#lingered ? undefined : this.#error ?? error);
  }

  #dropInput(): void {
    const bytes = this.#queue.clear() + this.#takenBytes;
    this.#takenBytes = 0;
    if (bytes > 0) this.#stream.release(bytes);
  }
}
