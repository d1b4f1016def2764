/**
 * One WebSocket on one connection (RFC 6455): what programs hold in their hands, and the protocol
 * that the HTTP session hands its connection to after the upgrade.
 *
 * @module
 */
import { contain, isThenable } from "../contain/callbacks.ts";
import * as v from "valibot";
import { ConnectionError, type HttpsdError, StateError, WebSocketError } from "../errors.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import type { Session } from "../http/session.ts";
import { adviceFrom, checkOptions, members, yesOrNo } from "../options.ts";
import { TurnBudget } from "../net/turns.ts";
import { CloseCode, type CloseStatus, encodeClose } from "./close.ts";
import { closedError, endedByOthers, isOfOthers } from "./closed_error.ts";
import { Inflater } from "./deflate.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import { Opcode } from "./opcode.ts";
import type { WebSocketHub } from "./hub.ts";
import { KeepAlive } from "./keep_alive.ts";
import type { SocketConfig } from "./options.ts";
import { assertData, type Bytes, bytesOf, PreparedMessage } from "./prepared_message.ts";
import {
  FrameReceiver,
  MessageReceiver,
  type Receiver,
  type ReceiverHost,
  StreamReceiver,
  type WebSocketMessage,
  type WebSocketMessageStream,
} from "./receivers.ts";
import { Sender } from "./sender.ts";
import { InflateBudget, MessageWait, SocketDeadlines } from "./timeouts.ts";

/** Where a socket is in its life; the numbers of the WebSocket standard. */
export const ReadyState = {
  /** Messages go both ways. */
  Open: 1,
  /** The closing handshake is under way. */
  Closing: 2,
  /** The connection is over. */
  Closed: 3,
} as const;

/** One of the {@linkcode ReadyState}s. */
export type ReadyState = typeof ReadyState[keyof typeof ReadyState];

/** How a socket was closed. */
export interface CloseInfo {
  /** The code of the client's Close frame; 1005 when it had none, 1006 when no frame came. */
  readonly code: number;
  /** The reason in the client's Close frame. */
  readonly reason: string;
  /** Whether both sides had sent their Close frame when the connection ended. */
  readonly wasClean: boolean;
  /** What made the socket fail, or cut its connection. */
  readonly error: HttpsdError | undefined;
}

/** A frame to be sent (original: `httpd_ws_frame_t`). */
export interface OutgoingFrame {
  /** Text or Binary to begin a message, Continuation to go on with it; or Ping, or Pong. */
  readonly opcode: Exclude<Opcode, typeof Opcode.Close>;
  /** The payload; empty when absent. */
  readonly payload?: string | Bytes;
  /** Whether the message ends with the frame. Default: true. */
  readonly final?: boolean;
}

/** What a {@linkcode ServerWebSocket} is made of. */
export interface SocketParts {
  /** The server's sockets. */
  readonly hub: WebSocketHub;
  /** The settings and callbacks. */
  readonly config: SocketConfig;
  /** The chosen subprotocol. */
  readonly protocol: string | undefined;
  /** The agreement on compression. */
  readonly agreement: DeflateAgreement | undefined;
  /** Called once the socket is open; may return a promise. */
  readonly opened: (ws: ServerWebSocket) => unknown;
}

const SEND = members({ compress: v.optional(yesOrNo) });

const NO_OPTIONS: { readonly compress?: boolean } = {};

const FRAME = members({
  opcode: v.picklist(
    [Opcode.Continuation, Opcode.Text, Opcode.Binary, Opcode.Close, Opcode.Ping, Opcode.Pong],
    "must be one of Opcode",
  ),
  payload: v.optional(v.any(), ""),
  final: v.optional(yesOrNo, true),
  /** A frame that `onFrame` was given can be sent as it is, if it is whole. */
  remaining: v.optional(v.literal(0, "must be 0: send a piece of a frame as a fragment")),
}, {
  advice: adviceFrom({
    fin: "write final",
    fragmented: "write final: false",
    type: "write opcode",
    data: "write payload",
  }),
});

/**
 * The server's end of a WebSocket. Every method may be called at any time and from anywhere: frames
 * leave whole and in the order of the calls. Iterating over it gives its messages.
 */
export class ServerWebSocket implements AsyncIterable<WebSocketMessage> {
  /** Anything that the program wants to keep for this socket. */
  context: unknown;
  /** The session whose connection it is. */
  readonly session: Session;
  /** The chosen subprotocol; empty when there is none. */
  readonly protocol: string;
  /** The extensions in use, as the handshake's answer names them; empty when there are none. */
  readonly extensions: string;

  readonly #connection: Tunnel;
  readonly #hub: WebSocketHub;
  readonly #config: SocketConfig;
  readonly #agreement: DeflateAgreement | undefined;
  readonly #sender: Sender;
  readonly #keepAlive: KeepAlive;
  readonly #deadlines = new SocketDeadlines();
  readonly #message: MessageWait;
  readonly #inflating: InflateBudget;
  readonly #turn = new TurnBudget(PIECES_PER_TURN, () => this.#pump());
  readonly #closed = Promise.withResolvers<CloseInfo>();

  #readyState: ReadyState = ReadyState.Open;
  #receiver: Receiver | undefined;
  #messages: ReadableStream<WebSocketMessageStream> | undefined;
  /** Whether the program has begun to read by itself, without callbacks. */
  #selfRead = false;
  #pumping = false;
  /** How many bytes had been inflated when that was last looked at. */
  #inflated = 0;
  /** In which turn of the event loop it was last told that the session is in use. */
  #touchedIn = -1;
  /** Nothing is read any more: the client broke a rule. */
  #broken = false;
  #peerStatus: CloseStatus | undefined;
  #error: HttpsdError | undefined;
  /** Whether the program has closed or cut the socket: what it still sends is a mistake of its own. */
  #ownClose = false;

  #pingWindow = -Infinity; // when the second began that pings are counted in
  #pings = 0;

  readonly #consumer: Protocol = {
    kind: "websocket",
    shutdown: () => this.#closeWith(encodeClose(CloseCode.GoingAway)),
    leave: () => this.#closeWith(encodeClose(CloseCode.GoingAway)),
    bytesReady: () => this.#bytesReady(),
    peerEnded: () => this.#watchLeaver(),
    drained: () => this.#drained(),
    expired: () => this.#expired(),
    closed: (error) => this.#connectionClosed(error),
  };

  readonly #receiverHost: ReceiverHost = {
    pinged: (payload) => this.#pinged(payload),
    ponged: (payload) => this.#ponged(payload),
    used: () => this.#used(),
    peerClosed: (status) => this.#peerClosed(status),
    broken: (error) => this.#fail(error),
    madeRoom: () => this.#pump(),
  };

  /**
   * Answers an opening handshake with 101 and takes over its connection; only upgrades do.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  constructor(
    exchange: Exchange,
    fields: Iterable<readonly [string, string]>,
    { hub, config, protocol = "", agreement, opened }: SocketParts,
  ) {
    this.session = exchange.session;
    this.protocol = protocol;
    this.extensions = agreement?.response ?? "";
    let tunnel!: Tunnel;
    exchange.upgrade(fields, (its) => {
      tunnel = its;
      return this.#consumer;
    });
    this.#connection = tunnel;
    this.#hub = hub;
    this.#config = config;
    this.#agreement = agreement;
    this.#sender = new Sender({
      connection: this.#connection,
      agreement,
      threshold: config.deflate?.threshold ?? Infinity,
      closedError: () => this.#closedError(),
    });
    this.#message = new MessageWait(config);
    this.#inflating = new InflateBudget(config.maxInflatedBytesPerSecond);
    this.#keepAlive = new KeepAlive(config, this.#connection.clock);
    hub.add(this);
    this.#arm();
    this.#open(opened);
  }

  /** Where the socket is in its life. */
  get readyState(): ReadyState {
    return this.#readyState;
  }

  /** How many bytes wait to be sent. */
  get bufferedAmount(): number {
    return this.#sender.bufferedBytes;
  }

  /** Resolves when the connection is over. */
  get closed(): Promise<CloseInfo> {
    return this.#closed.promise;
  }

  /** The topics that it is subscribed to. */
  get topics(): ReadonlySet<string> {
    return this.#hub.topicsOf(this);
  }

  /**
   * Sends a message: text as Text, anything else as Binary. What is given is copied. Resolves when
   * the next may follow: at once, or when the client has read enough.
   *
   * @throws {WebSocketError} `WS_CANNOT_SEND`, at once, for what is neither text nor bytes
   * @throws {ConfigError} `INVALID_CONFIG`, at once, naming the option
   *
   * Rejects with {@linkcode WebSocketError} `WS_CLOSED` once the socket is closing,
   * `WS_SLOW_CONSUMER` when more than `maxBufferedBytes` waits, and `WS_CANNOT_SEND` inside a message
   * that {@linkcode ServerWebSocket.sendFrame} has begun and not ended. A rejection that nobody looks
   * at does no harm.
   *
   * @param options `compress` overrides the threshold of compression
   */
  send(
    data: string | Bytes | Blob | PreparedMessage,
    options?: { readonly compress?: boolean },
  ): Promise<void> {
    if (!(data instanceof Blob || data instanceof PreparedMessage)) assertData("send()", data);
    const { compress } = options === undefined ? NO_OPTIONS : checkOptions("send()", SEND, options);
    return this.#attempt(() => {
      if (data instanceof Blob) {
        const read = async () => new PreparedMessage(await data.arrayBuffer());
        return this.#sender.sendLater(data.size, read);
      }
      return this.#sender.send(data, compress);
    });
  }

  /**
   * Sends one frame, so that a message can leave in fragments (original:
   * `httpd_ws_send_frame`). From the first fragment to the last, broadcasts wait, and other messages
   * to this socket are rejected: whoever awaited one before the last fragment would wait for ever.
   * Goes uncompressed. Close frames are sent by {@linkcode ServerWebSocket.close}.
   *
   * Rejects as {@linkcode ServerWebSocket.send} does, and with `WS_CANNOT_SEND` for a frame that is
   * not allowed, such as the start of a message inside another.
   */
  sendFrame(frame: OutgoingFrame): Promise<void> {
    const { opcode, payload, final } = checkOptions("sendFrame()", FRAME, frame);
    assertData("sendFrame()", payload);
    return this.#attempt(() => {
      const bytes = bytesOf(payload);
      if (opcode >= Opcode.Close) return this.#sendControl(opcode, bytes, final);
      return this.#sender.sendFrame(opcode, bytes, final);
    });
  }

  /**
   * Sends a Ping, whose Pong comes to `onPong` or `onFrame`.
   *
   * Rejects as {@linkcode ServerWebSocket.send} does, and with `WS_CANNOT_SEND` beyond 125 bytes.
   */
  ping(payload: string | Bytes = ""): Promise<void> {
    return this.sendFrame({ opcode: Opcode.Ping, payload });
  }

  /**
   * Begins the closing handshake behind what was sent before. What the client still sends is thrown
   * away; if it does not answer in `closeTimeoutMs`, the connection is cut. Does nothing when the
   * socket is closing already.
   *
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999; none when absent
   * @param reason at most 123 bytes of UTF-8
   * @throws {WebSocketError} `WS_CANNOT_SEND` when code or reason may not be sent
   */
  close(code?: number, reason?: string): void {
    const payload = encodeClose(code, reason);
    this.#ownClose = true;
    this.#closeWith(payload);
  }

  #closeWith(payload: Uint8Array): void {
    if (this.#readyState === ReadyState.Open) this.#beginClose(payload);
  }

  /** Cuts the connection now. */
  terminate(): void {
    this.#ownClose = true;
    this.#connection.destroy();
  }

  /**
   * Sends a message that others get too. It waits behind one that the program sends in fragments.
   *
   * @internal
   */
  deliver(message: PreparedMessage): Promise<void> {
    return this.#attempt(() => this.#sender.deliver(message));
  }

  /**
   * Closes with 1011 and reports `cause`, as when a callback throws: for what fails outside of the
   * callbacks. What could not be sent since a client has left is no failure of the program's.
   */
  fail(cause: unknown): void {
    const isOpen = this.#readyState === ReadyState.Open;
    if (!isOfOthers(cause)) this.#report(callbackError(cause));
    else if (isOpen) this.#report(cause); // another socket was closed, and this one fails by it
    if (isOpen) this.#beginClose(encodeClose(CloseCode.InternalError, "The server failed"));
  }

  /** Adds the socket to a topic of the server's `publish`. It leaves it when it closes. */
  subscribe(topic: string): void {
    this.#hub.subscribe(this, topic);
  }

  /** Takes the socket away from a topic. */
  unsubscribe(topic: string): void {
    this.#hub.unsubscribe(this, topic);
  }

  /**
   * The messages, one after another, until the socket closes, however it does. What is not asked
   * for waits in a bounded queue, and then in the client.
   *
   * @throws {StateError} `BODY_USED` when they are read otherwise: by `onMessage`, `onFrame` or
   * `messages`, or are thrown away since nobody began to read in `onOpen`
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<WebSocketMessage, undefined> {
    const receiver = this.#receiver ??= this.#messageReceiver();
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
   * The messages as streams, for messages that are too long to be held whole; to be asked for in
   * `onOpen` before its first `await`.
   *
   * @throws {StateError} `BODY_USED` when they are read otherwise
   */
  get messages(): ReadableStream<WebSocketMessageStream> {
    if (this.#messages !== undefined) return this.#messages;
    if (this.#receiver !== undefined) throw alreadyRead();
    const { inbox } = this.#receiver = new StreamReceiver(
      this.#receiverHost,
      this.#config,
      this.#inflater(),
    );
    this.#selfRead = true;
    return this.#messages = new ReadableStream<WebSocketMessageStream>({
      async pull(controller) {
        const { done, value } = await inbox.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      // A body that the client has cut rejects, and is over all the same.
      cancel: () => inbox.deliverTo(({ body }) => void body.cancel().catch(() => {})),
    }, { highWaterMark: 0 });
  }

  #open(opened: SocketParts["opened"]): void {
    const { callbacks, maxPieceBytes, manualControlFrames } = this.#config;
    const { onMessage, onFrame } = callbacks;
    if (onFrame !== undefined) {
      const receiver = this.#receiver = new FrameReceiver(
        this.#receiverHost,
        this.#config,
        maxPieceBytes,
        manualControlFrames,
      );
      receiver.inbox.deliverTo((frame) => this.#contain(() => onFrame(this, frame)));
    } else if (onMessage !== undefined) {
      const receiver = this.#receiver = this.#messageReceiver();
      receiver.inbox.deliverTo((message) => this.#contain(() => onMessage(this, message)));
    }
    const opening = this.#contain(() => opened(this));
    if (this.#receiver?.inbox.isDelivered) {
      if (opening !== undefined) this.#receiver.inbox.hold(opening);
    } else if (opening === undefined) {
      this.#discardUnread();
    } else {
      void opening.then(() => this.#discardUnread());
    }
  }

  /** Nobody has begun to read, so nobody will: a client that sends must not get stuck. */
  #discardUnread(): void {
    if (this.#selfRead) return;
    const receiver = this.#receiver ??= this.#messageReceiver();
    if (receiver instanceof MessageReceiver) receiver.inbox.deliverTo(() => {});
  }

  #messageReceiver(): MessageReceiver {
    return new MessageReceiver(this.#receiverHost, this.#config, this.#inflater());
  }

  #inflater(): Inflater | undefined {
    return this.#agreement && new Inflater(this.#agreement);
  }

  #now(): number {
    return this.#connection.clock.now();
  }

  #sendControl(opcode: Opcode, payload: Uint8Array, final: boolean): Promise<void> {
    if (opcode === Opcode.Close || !final) {
      const message = opcode === Opcode.Close
        ? "A Close frame is sent by close(): call that"
        : "A control frame cannot be a fragment: leave out final";
      throw new WebSocketError(CloseCode.InternalError, "WS_CANNOT_SEND", message);
    }
    return this.#sender.sendControl(opcode, payload);
  }

  /** Sends, unless the client is too slow; a failure is told to whoever awaits the promise. */
  #attempt(send: () => Promise<void>): Promise<void> {
    try {
      if (
        this.#readyState === ReadyState.Open &&
        this.#sender.bufferedBytes > this.#config.maxBufferedBytes
      ) {
        throw this.#tooSlow();
      }
      const sent = send();
      if (this.#readyState === ReadyState.Open) this.#used();
      if (!this.#pumping) this.#watchReader(); // after the pump, once
      return sent;
    } catch (error) {
      const failed = Promise.reject(error);
      failed.catch(() => {}); // who does not look must not bring the process down
      return failed;
    }
  }

  #tooSlow(): WebSocketError {
    const error = endedByOthers(
      new WebSocketError(
        CloseCode.PolicyViolation,
        "WS_SLOW_CONSUMER",
        `The client reads too slowly: more than ${this.#config.maxBufferedBytes} bytes wait for it`,
      ),
    );
    this.#report(error);
    this.#beginClose(encodeClose(error.closeCode, "Client reads too slowly"));
    return error;
  }

  /** Sets the deadline for a client that does not read. */
  #watchReader(): void {
    if (this.#deadlines.unread !== Infinity || !this.#sender.blocked) return;
    this.#deadlines.unread = this.#connection.after(this.#connection.sendTimeoutMs);
    this.#arm();
  }

  #drained(): void {
    this.#deadlines.unread = Infinity;
    this.#sender.drained();
  }

  #bytesReady(): void {
    this.#keepAlive.seen(this.#now());
    this.#turn.renew();
    this.#pump();
  }

  /** Takes steps until the client, or the program, must be waited for. */
  #pump(): void {
    if (this.#pumping) return; // a callback that made room comes back here
    this.#pumping = true;
    this.#connection.cork();
    try {
      while (this.#turn.mayGoOn() && this.#step());
    } finally {
      this.#connection.uncork();
      this.#pumping = false;
    }
    this.#watchReader();
    this.#watchMessage();
    this.#watchLeaver();
  }

  /** One step; false when there is something to wait for. */
  #step(): boolean {
    const connection = this.#connection;
    if (connection.closed || connection.closing || this.#heardAll) return false;
    const receiver = this.#receiver ??= this.#messageReceiver();
    if (!this.#reads(receiver)) return false;
    if (receiver.next()) {
      this.#turn.spend();
      this.#countInflated(receiver);
      return true;
    }
    const bytes = connection.take();
    if (bytes !== undefined) {
      this.#turn.spend(bytes.length >> PIECE_BITS);
      receiver.push(bytes);
    } else if (connection.ended) {
      connection.close(); // without a Close frame: not clean
    }
    return bytes !== undefined;
  }

  /** Whether nothing that may still come would be looked at. */
  get #heardAll(): boolean {
    return this.#broken || this.#peerStatus !== undefined;
  }

  /** Whether bytes of the client would be read now. */
  #reads(receiver: Receiver): boolean {
    return !receiver.full && this.#deadlines.throttled === Infinity;
  }

  /** What a client makes its server inflate costs it its turn, and then its time. */
  #countInflated({ inflatedBytes }: Receiver): void {
    const bytes = inflatedBytes - this.#inflated;
    if (bytes === 0) return;
    this.#inflated = inflatedBytes;
    this.#turn.spend(bytes >> PIECE_BITS);
    const now = this.#now();
    const due = this.#inflating.spend(bytes, now);
    if (due === now) return;
    this.#deadlines.throttled = due;
    this.#arm();
  }

  /** Sets the deadline for a message that has begun and not ended. */
  #watchMessage(): void {
    const receiver = this.#receiver;
    if (receiver === undefined) return;
    const listens = !this.#heardAll && this.#readyState === ReadyState.Open;
    const message = listens ? receiver.unfinished : undefined;
    if (message === undefined && !this.#message.underWay) return;
    const reading = this.#reads(receiver) && !this.#turn.waiting;
    const now = this.#now();
    this.#deadlines.message = this.#message.goOn(message, reading, receiver.unfinishedBytes, now);
    this.#arm();
  }

  /** A client that is gone does not wait for the callbacks that hold back what it had sent. */
  #watchLeaver(): void {
    const connection = this.#connection;
    if (!connection.peerEnded || connection.closed || connection.closing) return;
    if (this.#heardAll || this.#deadlines.closing !== Infinity) return;
    this.#deadlines.closing = this.#connection.after(this.#config.closeTimeoutMs);
    this.#arm();
  }

  #used(): void {
    this.#keepAlive.used();
    this.#touch();
  }

  /** Tells that the session is in use, once in a turn of the event loop. */
  #touch(): void {
    const { turn } = this.#hub;
    if (this.#touchedIn === turn) return;
    this.#touchedIn = turn;
    this.#hub.touched(this);
  }

  #pinged(payload: Uint8Array): void {
    if (!this.#countPing() || this.#readyState !== ReadyState.Open) return;
    const { manualControlFrames, callbacks: { onPing } } = this.#config;
    if (manualControlFrames) return;
    this.#sender.answerPing(payload);
    void this.#contain(() => onPing?.(this, payload));
  }

  #ponged(payload: Uint8Array): void {
    if (!this.#countPing() || this.#readyState !== ReadyState.Open) return;
    void this.#contain(() => this.#config.callbacks.onPong?.(this, payload));
  }

  /** False when it was one too many in a second: the socket has failed. */
  #countPing(): boolean {
    const now = this.#now();
    if (now - this.#pingWindow >= 1000) {
      this.#pingWindow = now;
      this.#pings = 0;
    }
    this.#touch();
    const { maxPingsPerSecond } = this.#config;
    if (++this.#pings <= maxPingsPerSecond) return true;
    this.#fail(
      new WebSocketError(
        CloseCode.PolicyViolation,
        "WS_PING_FLOOD",
        `More than ${maxPingsPerSecond} Ping and Pong frames in a second`,
      ),
    );
    return false;
  }

  /** A Close frame came: it is answered when what came before it was handled. */
  #peerClosed(status: CloseStatus): void {
    this.#peerStatus = status;
    if (this.#readyState !== ReadyState.Open) {
      this.#finishHandshake();
      return;
    }
    const receiver = this.#receiver!;
    this.#deadlines.closing = this.#connection.after(this.#config.closeTimeoutMs);
    this.#arm();
    receiver.inbox.whenHandled(() => this.#answerClose(status));
    receiver.end(this.#closedError());
  }

  #closedError(): WebSocketError {
    return closedError(this.#ownClose);
  }

  #answerClose({ code, reason }: CloseStatus): void {
    if (this.#readyState !== ReadyState.Open) return;
    this.#beginClose(code === CloseCode.NoStatus ? encodeClose() : encodeClose(code, reason));
  }

  #beginClose(payload: Uint8Array): void {
    this.#leave(ReadyState.Closing);
    this.#deadlines.closing = this.#connection.after(this.#config.closeTimeoutMs);
    this.#receiver?.discard(this.#closedError());
    this.#sender.close(payload, () => this.#finishHandshake());
    this.#arm();
    this.#pump(); // the client's Close may lie behind what the program had not taken
  }

  /** Ends the connection when both have sent their Close frame; the server first (section 7.1.1). */
  #finishHandshake(): void {
    if (this.#peerStatus !== undefined && this.#sender.closeWritten) this.#connection.close();
  }

  /** The client broke a rule: it is told which, and nothing more is read (section 7.1.7). */
  #fail(error: WebSocketError): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#report(error);
    if (this.#readyState === ReadyState.Open) this.#leave(ReadyState.Closing);
    this.#receiver?.discard(endedByOthers(error));
    this.#sender.closeNow(encodeClose(error.closeCode, error.message));
    this.#connection.close();
  }

  /** The socket is no longer open: it is no longer of the server's sockets. */
  #leave(readyState: ReadyState): void {
    this.#readyState = readyState;
    this.#hub.remove(this);
  }

  /** Runs a callback; what it throws closes the socket. The promise never rejects. */
  #contain(run: () => unknown): void | Promise<void> {
    try {
      const result = run();
      if (!isThenable(result)) return;
      return Promise.resolve(result).then(() => {}, (cause) => this.fail(cause));
    } catch (cause) {
      this.fail(cause);
    }
  }

  #report(error: HttpsdError): void {
    this.#hub.failed(this, error);
    if (this.#error !== undefined) return;
    this.#error = error;
    const failed = (cause: unknown) => this.#hub.failed(this, callbackError(cause));
    contain(() => this.#config.callbacks.onError?.(this, error), failed);
  }

  /** The one deadline: whatever comes next. */
  #arm(): void {
    if (this.#connection.closed || this.#connection.closing) return;
    this.#deadlines.quiet = this.#isKeptAlive ? this.#keepAlive.next : Infinity;
    this.#connection.deadline = this.#deadlines.first;
  }

  get #isKeptAlive(): boolean {
    return this.#readyState === ReadyState.Open && this.#peerStatus === undefined;
  }

  #expired(): void {
    const now = this.#now();
    const { unread, closing, message, throttled } = this.#deadlines;
    if (unread <= now) return this.#timeOut("The client did not read in time");
    if (closing <= now) this.#closeOverdue();
    else if (message <= now) this.#messageOverdue();
    else if (throttled <= now) this.#readOn(now);
    else if (this.#isKeptAlive) this.#keepUp(now);
    this.#arm();
  }

  #closeOverdue(): void {
    if (this.#readyState !== ReadyState.Open) {
      this.#timeOut("The closing handshake did not end in time");
    } else if (this.#peerStatus !== undefined) {
      this.#answerClose(this.#peerStatus); // a callback holds up the answer
    } else {
      this.#timeOut("The client is gone, and a callback holds up what it had sent");
    }
  }

  #messageOverdue(): void {
    const message = "The message did not come in time: see messageTimeoutMs and minMessageRate";
    this.#fail(new WebSocketError(CloseCode.PolicyViolation, "WS_MESSAGE_TIMEOUT", message));
  }

  /** There may be more to inflate. */
  #readOn(now: number): void {
    this.#deadlines.throttled = Infinity;
    this.#keepAlive.seen(now); // meanwhile the client could not be heard
    this.#pump();
  }

  #keepUp(now: number): void {
    // While the program does not take what came, the client cannot be heard.
    if (this.#receiver !== undefined && !this.#reads(this.#receiver)) this.#keepAlive.seen(now);
    switch (this.#keepAlive.due(now)) {
      case "ping":
        void this.#sender.sendControl(Opcode.Ping, NO_BYTES);
        break;
      case "idle":
        this.#beginClose(encodeClose(CloseCode.GoingAway, "No message for too long"));
        break;
      case "dead":
        this.#timeOut("The client is not alive: it neither sends nor answers");
    }
  }

  #timeOut(message: string): void {
    const error = new ConnectionError("CONNECTION_TIMEOUT", message);
    this.#report(error);
    this.#connection.destroy(error);
  }

  #connectionClosed(error: HttpsdError | undefined): void {
    const status = this.#peerStatus;
    this.#leave(ReadyState.Closed);
    this.#sender.abort();
    const info: CloseInfo = {
      code: status?.code ?? CloseCode.Abnormal,
      reason: status?.reason ?? "",
      wasClean: status !== undefined && this.#sender.closeWritten,
      error: this.#error ?? error,
    };
    this.#closed.resolve(info);
    const tell = () => void this.#contain(() => this.#config.callbacks.onClose?.(this, info));
    const receiver = this.#receiver;
    if (receiver?.inbox.isDelivered) receiver.inbox.whenHandled(tell);
    else tell();
    receiver?.end(this.#closedError());
  }
}

/**
 * How much of one client is looked at in one turn of the event loop: a message is a piece, and so
 * is each KiB that is read or inflated.
 */
const PIECES_PER_TURN = 256;
const PIECE_BITS = 10;

const NO_BYTES = new Uint8Array(0);

function callbackError(cause: unknown): WebSocketError {
  return new WebSocketError(
    CloseCode.InternalError,
    "WS_CALLBACK_FAILED",
    "A WebSocket callback threw",
    { cause },
  );
}

function alreadyRead(): StateError {
  return new StateError(
    "BODY_USED",
    "The messages are read otherwise or thrown away: begin to read in onOpen, in one way",
  );
}
