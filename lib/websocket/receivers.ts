/**
 * The three ways in which a program may receive: whole messages, frames (the original's), and
 * messages as streams. Each turns bytes into items of an inbox; what concerns the socket itself,
 * the control frames and failures, goes to its {@linkcode ReceiverHost}.
 *
 * @module
 */
import { GrowingBytes } from "../bytes.ts";
import { WebSocketError } from "../errors.ts";
import type { CloseStatus } from "./close.ts";
import type { Inflater } from "./deflate.ts";
import { Opcode } from "./opcode.ts";
import { type FrameLimits, FrameParser, FrameStep } from "./frame_parser.ts";
import { Inbox, type InboxHost } from "./inbox.ts";
import type { WebSocketFrame, WebSocketMessage, WebSocketMessageStream } from "./incoming.ts";
import { MessageReader, MessageStep } from "./message_reader.ts";
import { Utf8Validator } from "./utf8.ts";

/** The socket, as its receiver knows it. */
export interface ReceiverHost extends InboxHost {
  /** Answers a Ping. */
  pinged(payload: Uint8Array): void;
  /** Takes a Pong. */
  ponged(payload: Uint8Array): void;
  /** Notes that a data frame or message has come. */
  used(): void;
  /** Takes a Close frame, after which nothing follows. */
  peerClosed(status: CloseStatus): void;
  /** Fails the socket, since the peer broke a rule. Nothing follows. */
  broken(error: WebSocketError): void;
}

/** Takes bytes. */
export interface Receiver {
  /** Where the items go. */
  readonly inbox: Pick<Inbox<unknown>, "end" | "whenHandled" | "hold" | "isDelivered">;
  /** Whether the program has to take something before more is read. */
  readonly full: boolean;
  /**
   * How many bytes of memory are taken by what came and was not taken: what the reader has not
   * looked at, and what waits for the program; not the message under way.
   */
  readonly waitingBytes: number;
  /**
   * Which message, or frame between messages, has begun and not ended: another number for each;
   * undefined between them.
   */
  readonly unfinished: number | undefined;
  /** How many payload bytes of that message have come. */
  readonly unfinishedBytes: number;
  /** How many bytes have come out of inflating so far. */
  readonly inflatedBytes: number;
  /** Gives the next bytes, which are modified; allowed when `next()` has said false. */
  push(bytes: Uint8Array): void;
  /** Takes a step; false when it needs more bytes. */
  next(): boolean;
  /** Ends the inbox: what waits is still given, a message under way is cut. */
  end(error: WebSocketError): void;
  /** Drops what waits, and ends the inbox. */
  discard(error: WebSocketError): void;
}

/** What reads the bytes of a receiver: whole messages, or frames. */
type Reader = Pick<FrameParser, "push" | "unfinished" | "unfinishedBytes" | "waitingBytes">;

/** What all receivers have in common. */
abstract class BaseReceiver<T> implements Receiver {
  /** Where the items go. */
  readonly inbox: Inbox<T>;
  /** The socket. */
  protected readonly host: ReceiverHost;
  readonly #reader: Reader;
  readonly #inflater: Inflater | undefined;

  /** Makes the receiver of one socket. */
  constructor(host: ReceiverHost, reader: Reader, inflater?: Inflater) {
    this.host = host;
    this.#reader = reader;
    this.#inflater = inflater;
    this.inbox = new Inbox<T>(host);
  }

  get full(): boolean {
    return this.inbox.full;
  }

  get waitingBytes(): number {
    return this.#reader.waitingBytes + this.inbox.waitingBytes;
  }

  get unfinished(): number | undefined {
    return this.#reader.unfinished;
  }

  get unfinishedBytes(): number {
    return this.#reader.unfinishedBytes;
  }

  get inflatedBytes(): number {
    return this.#inflater?.inflatedBytes ?? 0;
  }

  push(bytes: Uint8Array): void {
    this.#reader.push(bytes);
  }

  abstract next(): boolean;

  end(_error: WebSocketError): void {
    this.inbox.end();
  }

  discard(_error: WebSocketError): void {
    this.inbox.discard();
  }
}

/** Receives whole messages. */
export class MessageReceiver extends BaseReceiver<WebSocketMessage> {
  readonly #reader: MessageReader;

  /** Makes the receiver of one socket. */
  constructor(host: ReceiverHost, limits: Omit<FrameLimits, "deflate">, inflater?: Inflater) {
    const reader = new MessageReader(limits, inflater);
    super(host, reader, inflater);
    this.#reader = reader;
  }

  /** Takes a step. */
  override next(): boolean {
    const reader = this.#reader;
    switch (reader.next()) {
      case MessageStep.Need:
        return false;
      case MessageStep.Text:
        this.host.used();
        this.inbox.push(reader.text, reader.text.length * 2);
        break;
      case MessageStep.Binary:
        this.host.used();
        this.inbox.push(reader.bytes, reader.bytes.length);
        break;
      case MessageStep.Ping:
        this.host.pinged(reader.bytes);
        break;
      case MessageStep.Pong:
        this.host.ponged(reader.bytes);
        break;
      case MessageStep.Close:
        this.host.peerClosed(reader.closeStatus!);
        break;
      case MessageStep.Fail:
        this.host.broken(reader.error!);
    }
    return true;
  }
}

/** Receives frames, each whole up to a length, in pieces of that length beyond it. */
export class FrameReceiver extends BaseReceiver<WebSocketFrame> {
  readonly #parser: FrameParser;
  readonly #maxPieceBytes: number;
  readonly #manual: boolean;
  readonly #gathered = new GrowingBytes();
  #remaining = 0;

  /**
   * Makes the receiver of one socket.
   *
   * @param manual whether Ping and Close are the program's to answer
   */
  constructor(
    host: ReceiverHost,
    limits: Omit<FrameLimits, "deflate">,
    maxPieceBytes: number,
    manual: boolean,
  ) {
    const parser = new FrameParser({ ...limits, deflate: false });
    super(host, parser);
    this.#parser = parser;
    this.#maxPieceBytes = maxPieceBytes;
    this.#manual = manual;
  }

  /** Takes a step. */
  override next(): boolean {
    switch (this.#parser.next()) {
      case FrameStep.Need:
        return false;
      case FrameStep.Header:
        this.#remaining = this.#parser.payloadLength;
        break;
      case FrameStep.Data:
        this.#takeData(this.#parser.data);
        break;
      case FrameStep.End:
        this.#endFrame();
        break;
      case FrameStep.Fail:
        this.host.broken(this.#parser.error!);
    }
    return true;
  }

  #takeData(data: Uint8Array): void {
    let rest = data;
    // Control frames are short, and come whole.
    const maxPieceBytes = this.#parser.opcode < Opcode.Close ? this.#maxPieceBytes : Infinity;
    while (this.#gathered.length + rest.length > maxPieceBytes) {
      const fitting = maxPieceBytes - this.#gathered.length;
      this.#gathered.add(rest.subarray(0, fitting));
      this.#deliver(this.#gathered.take());
      rest = rest.subarray(fitting);
    }
    this.#gathered.add(rest);
  }

  #endFrame(): void {
    const { opcode, closeStatus } = this.#parser;
    const payload = this.#gathered.take();
    const delegated = this.#manual || opcode === Opcode.Pong || opcode < Opcode.Close;
    if (opcode === Opcode.Ping) this.host.pinged(payload);
    else if (opcode === Opcode.Pong) this.host.ponged(payload);
    else this.host.used();
    if (delegated) this.#deliver(payload);
    if (opcode === Opcode.Close) this.host.peerClosed(closeStatus!);
  }

  #deliver(payload: Uint8Array): void {
    const { opcode, fin, payloadLength } = this.#parser;
    const isFirst = this.#remaining === payloadLength;
    const remaining = this.#remaining -= payload.length;
    this.inbox.push({
      opcode: isFirst ? opcode : Opcode.Continuation,
      final: fin && remaining === 0,
      payload,
      remaining,
    }, payload.length);
  }
}

/** How many bytes of one body may wait for its reader. */
const BODY_MARK = 64 * 1024;

/** What a chunk of a body takes besides its bytes. */
const CHUNK_OVERHEAD = 256;

/** What a chunk of a body takes. */
const chunkCost = (chunk?: Uint8Array): number => (chunk?.length ?? 0) + CHUNK_OVERHEAD;

/** Receives messages as streams; a compressed one is inflated as a whole first. */
export class StreamReceiver extends BaseReceiver<WebSocketMessageStream> {
  readonly #parser: FrameParser;
  readonly #inflater: Inflater | undefined;
  readonly #maxPayloadBytes: number;
  readonly #gathered = new GrowingBytes();
  readonly #control = new GrowingBytes();
  /** The message under way, unless it is compressed or its body was cancelled. */
  #body: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined;
  #type: WebSocketMessageStream["type"] = "text";

  /** Makes the receiver of one socket. */
  constructor(host: ReceiverHost, limits: Omit<FrameLimits, "deflate">, inflater?: Inflater) {
    const parser = new FrameParser({ ...limits, deflate: inflater !== undefined });
    super(host, parser, inflater);
    this.#parser = parser;
    this.#inflater = inflater;
    this.#maxPayloadBytes = limits.maxPayloadBytes;
  }

  /** Whether the program has to read the body, or take messages, before more is read. */
  override get full(): boolean {
    return super.full || this.#bodyBytes >= BODY_MARK;
  }

  /** Counts the body under way too, once the program has taken its message. */
  override get waitingBytes(): number {
    return super.waitingBytes + (this.inbox.empty ? this.#bodyBytes : 0);
  }

  /** What waits in the body under way. */
  get #bodyBytes(): number {
    return BODY_MARK - (this.#body?.desiredSize ?? BODY_MARK);
  }

  /** Takes a step. */
  override next(): boolean {
    const parser = this.#parser;
    switch (parser.next()) {
      case FrameStep.Need:
        return false;
      case FrameStep.Header:
        if (parser.opcode < Opcode.Close) this.#beginFrame(parser.opcode);
        break;
      case FrameStep.Data:
        if (parser.opcode >= Opcode.Close) this.#control.add(parser.data);
        else if (parser.compressed) this.#gathered.add(parser.data);
        else this.#addToBody(parser.data);
        break;
      case FrameStep.End:
        if (parser.opcode >= Opcode.Close) this.#endControl(parser.opcode);
        else if (parser.fin) this.#endMessage();
        break;
      case FrameStep.Fail:
        this.host.broken(parser.error!);
    }
    return true;
  }

  /** Ends the inbox, and cuts the message under way. */
  override end(error: WebSocketError): void {
    this.#cutBody(error);
    super.end(error);
  }

  /** Drops what waits, and ends the inbox. */
  override discard(error: WebSocketError): void {
    this.#cutBody(error);
    super.discard(error);
  }

  #beginFrame(opcode: Opcode): void {
    this.host.used();
    if (opcode === Opcode.Continuation) return;
    this.#type = opcode === Opcode.Text ? "text" : "binary";
    // After the end of the inbox a body would have no reader, and hold up what follows it.
    if (!this.#parser.compressed && !this.inbox.ended) this.#body = this.#beginBody();
  }

  /** Gives the program a message whose body is to come. */
  #beginBody(): ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> {
    let controller!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (its) => void (controller = its),
      pull: () => this.#bodyTaken(),
      cancel: () => {
        if (this.#body === controller) this.#body = undefined;
        this.#bodyTaken();
      },
    }, { highWaterMark: BODY_MARK, size: chunkCost });
    this.inbox.push({ type: this.#type, body }, 0);
    return controller;
  }

  /** Adds to the body under way, which costs its inbox something while its message waits there. */
  #addToBody(data: Uint8Array): void {
    if (this.#body === undefined) return;
    const chunk = new Uint8Array(data);
    this.#body.enqueue(chunk);
    this.inbox.grow(chunkCost(chunk));
  }

  #bodyTaken(): void {
    this.host.taken();
    this.host.madeRoom();
  }

  #endControl(opcode: Opcode): void {
    const payload = this.#control.take();
    if (opcode === Opcode.Ping) this.host.pinged(payload);
    else if (opcode === Opcode.Pong) this.host.ponged(payload);
    else this.host.peerClosed(this.#parser.closeStatus!);
  }

  #endMessage(): void {
    if (this.#parser.compressed) this.#inflate();
    this.#body?.close();
    this.#body = undefined;
  }

  #inflate(): void {
    try {
      // The parser lets a compressed frame pass only when there is an inflater.
      const bytes = this.#inflater!.inflate(this.#gathered.take(), this.#maxPayloadBytes);
      if (this.#type === "text") assertUtf8(bytes);
      this.#body = this.#beginBody();
      if (bytes.length > 0) this.#addToBody(bytes);
    } catch (error) {
      if (!(error instanceof WebSocketError)) throw error;
      this.host.broken(error);
    }
  }

  #cutBody(error: WebSocketError): void {
    this.#body?.error(error);
    this.#body = undefined;
  }
}

/** Plain text was validated as it came; what was inflated is validated here. */
function assertUtf8(bytes: Uint8Array): void {
  const validator = new Utf8Validator();
  if (validator.push(bytes) && validator.complete) return;
  throw new WebSocketError(1007, "WS_INVALID_DATA", "Text message is not UTF-8");
}
