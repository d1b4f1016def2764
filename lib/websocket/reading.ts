/**
 * How the messages of one socket reach its program. That is decided once, at the latest when
 * `onOpen` has ended:
 *
 * | way       | chosen by                         | receiver                 |
 * | --------- | --------------------------------- | ------------------------ |
 * | messages  | `onMessage`                       | {@linkcode MessageReceiver} |
 * | frames    | `onFrame`                         | {@linkcode FrameReceiver}   |
 * | iterated  | `for await (const message of ws)` | {@linkcode MessageReceiver} |
 * | streamed  | `ws.messages`                     | {@linkcode StreamReceiver}  |
 * | discarded | none of them                      | {@linkcode MessageReceiver} |
 *
 * @module
 */
import { StateError } from "../errors.ts";
import { Inflater } from "./deflate.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import type { ItemHandler } from "./inbox.ts";
import type { WebSocketFrame, WebSocketMessage, WebSocketMessageStream } from "./incoming.ts";
import type { SocketConfig } from "./options.ts";
import {
  FrameReceiver,
  MessageReceiver,
  type Receiver,
  type ReceiverHost,
  StreamReceiver,
} from "./receivers.ts";

/** The receiving side of one socket. */
export class Reading {
  readonly #host: ReceiverHost;
  readonly #config: SocketConfig;
  readonly #agreement: DeflateAgreement | undefined;
  #receiver: Receiver | undefined;
  #messages: ReadableStream<WebSocketMessageStream> | undefined;
  /** Whether the program has begun to read by itself, without callbacks. */
  #selfRead = false;

  /** Makes the receiving side of a socket, of which nothing is read yet. */
  constructor(host: ReceiverHost, config: SocketConfig, agreement: DeflateAgreement | undefined) {
    this.#host = host;
    this.#config = config;
    this.#agreement = agreement;
  }

  /** The receiver; `undefined` while no way is chosen and no bytes were read. */
  get begun(): Receiver | undefined {
    return this.#receiver;
  }

  /** The receiver; bytes that come before a way is chosen are whole messages. */
  get receiver(): Receiver {
    return this.#receiver ??= this.#messageReceiver();
  }

  /** Chooses frames: calls `handler` with each. */
  deliverFrames(handler: ItemHandler<WebSocketFrame>): void {
    const { maxPieceBytes, manualControlFrames } = this.#config;
    const receiver = new FrameReceiver(
      this.#host,
      this.#config.limits,
      maxPieceBytes,
      manualControlFrames,
    );
    this.#receiver = receiver;
    receiver.inbox.deliverTo(handler);
  }

  /** Chooses messages: calls `handler` with each. */
  deliverMessages(handler: ItemHandler<WebSocketMessage>): void {
    const receiver = this.#receiver = this.#messageReceiver();
    receiver.inbox.deliverTo(handler);
  }

  /**
   * Holds back what comes until `onOpen` has ended, which `opening` waits for; if no way is chosen
   * by then, what the client sends is thrown away, so that a client that sends does not get stuck.
   */
  openedBy(opening: void | Promise<void>): void {
    if (this.#receiver?.inbox.isDelivered) {
      if (opening !== undefined) this.#receiver.inbox.hold(opening);
    } else if (opening === undefined) {
      this.#discardUnread();
    } else {
      void opening.then(() => this.#discardUnread());
    }
  }

  #discardUnread(): void {
    if (this.#selfRead) return;
    const { receiver } = this;
    if (receiver instanceof MessageReceiver) receiver.inbox.deliverTo(() => {});
  }

  /**
   * Gives messages one after another.
   *
   * @throws {StateError} `BODY_USED` when they are read in another way
   */
  iterate(): AsyncIterableIterator<WebSocketMessage, undefined> {
    const { receiver } = this;
    if (!(receiver instanceof MessageReceiver) || receiver.inbox.isDelivered) throw alreadyRead();
    this.#selfRead = true;
    const { inbox } = receiver;
    return {
      next: () => inbox.next(),
      return: () => Promise.resolve({ done: true, value: undefined }), // the rest is for the next loop
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /**
   * Gives messages as streams.
   *
   * @throws {StateError} `BODY_USED` when they are read in another way
   */
  get messages(): ReadableStream<WebSocketMessageStream> {
    if (this.#messages !== undefined) return this.#messages;
    if (this.#receiver !== undefined) throw alreadyRead();
    const receiver = new StreamReceiver(this.#host, this.#config.limits, this.#inflater());
    this.#receiver = receiver;
    const { inbox } = receiver;
    this.#selfRead = true;
    return this.#messages = new ReadableStream<WebSocketMessageStream>({
      async pull(controller) {
        const { done, value } = await inbox.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      // A body that the client has cut off rejects, and is over in any case.
      cancel: () => inbox.deliverTo(({ body }) => void body.cancel().catch(() => {})),
    }, { highWaterMark: 0 });
  }

  #messageReceiver(): MessageReceiver {
    return new MessageReceiver(this.#host, this.#config.limits, this.#inflater());
  }

  #inflater(): Inflater | undefined {
    return this.#agreement && new Inflater(this.#agreement);
  }
}

function alreadyRead(): StateError {
  return new StateError(
    "BODY_USED",
    "The messages are being read in another way, or discarded: start in onOpen, in one way",
  );
}
