/**
 * The protocol of one WebSocket (RFC 6455) on a tunnel: reads frames, keeps deadlines, and shakes
 * hands at the end. Its states:
 *
 * | state     | what it is                                         | goes on to                    |
 * | --------- | -------------------------------------------------- | ----------------------------- |
 * | open      | messages go both ways                              | answering, closing, failed    |
 * | answering | the client's Close frame came, and what it had     | ending: that is handled, the  |
 * |           | sent before is still handled; messages may be sent | program closes, or it is time |
 * | closing   | this side's Close frame leaves behind what waits,  | ending: the client's came;    |
 * |           | and the client's is awaited                        | failed                        |
 * | ending    | the client's Close frame came, this side's leaves; |                               |
 * |           | then the tunnel is closed                          |                               |
 * | failed    | the client broke a rule: a Close frame was sent    |                               |
 * |           | that says which, and nothing more is read          |                               |
 * | closed    | the tunnel is over, which may happen in any state  |                               |
 *
 * It is longer than other files, since every method leads from one of these states to another, or
 * holds a deadline of one. Receiving is in reading.ts, sending in sending.ts.
 *
 * @module
 */
import { contain } from "../contain/callbacks.ts";
import { ConnectionError, type HttpsdError, WebSocketError } from "../errors.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import { TurnBudget } from "../net/turns.ts";
import { NO_BYTES } from "../bytes.ts";
import { call, run } from "./callback.ts";
import { CloseCode, type CloseStatus, encodeClose } from "./close.ts";
import { closedError, endedByOthers, isOfOthers } from "./closed_error.ts";
import { SocketDeadlines } from "./deadlines.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import type { Member, WebSocketHub } from "./hub.ts";
import { Opcode } from "./opcode.ts";
import type { SocketConfig } from "./options.ts";
import type { EncodedMessage } from "./prepared_message.ts";
import { Reading } from "./reading.ts";
import type { Receiver, ReceiverHost } from "./receivers.ts";
import { Sender } from "./sender.ts";
import { Sending, type SendingHost } from "./sending.ts";
import { type CloseInfo, ReadyState, type ServerWebSocket } from "./socket.ts";
import { PingBudget } from "./timeouts.ts";

/** Where an engine is in its life: see the table above. */
type State = "open" | "answering" | "closing" | "ending" | "failed" | "closed";

/** The state that programs see. */
const READY_STATES: Record<State, ReadyState> = {
  open: ReadyState.Open,
  answering: ReadyState.Open,
  closing: ReadyState.Closing,
  ending: ReadyState.Closing,
  failed: ReadyState.Closing,
  closed: ReadyState.Closed,
};

/** The engine of one socket. */
export class Engine implements Protocol, ReceiverHost, SendingHost, Member {
  readonly kind = "websocket";
  readonly tunnel: Tunnel;
  /** The receiving side. */
  readonly reading: Reading;
  /** The sending side. */
  readonly sending: Sending;
  readonly #config: SocketConfig;
  readonly #hub: WebSocketHub;
  readonly #sender: Sender;
  readonly #deadlines: SocketDeadlines;
  readonly #pings: PingBudget;
  readonly #turn = new TurnBudget(PIECES_PER_TURN, () => this.#pump());
  readonly #closed = Promise.withResolvers<CloseInfo>();

  #ws!: ServerWebSocket;
  #state: State = "open";
  /** Whether callbacks are called. */
  #hasOpened = false;
  #pumping = false;
  /** How many bytes had been inflated when that was last looked at. */
  #inflated = 0;
  /** In which turn of the event loop the use of the session was last reported. */
  #touchedIn = -1;
  /** What the client's Close frame says, once it came. */
  #peerStatus: CloseStatus | undefined;
  #error: HttpsdError | undefined;
  /** Whether the program has closed or cut the socket: what it still sends is its own mistake. */
  #ownClose = false;

  /** Makes an engine on a tunnel, on which nothing is read or written before `open()`. */
  constructor(
    tunnel: Tunnel,
    config: SocketConfig,
    agreement: DeflateAgreement | undefined,
    hub: WebSocketHub,
  ) {
    this.tunnel = tunnel;
    this.#config = config;
    this.#hub = hub;
    this.reading = new Reading(this, config, agreement);
    this.#sender = new Sender({
      tunnel,
      agreement,
      threshold: config.deflate?.threshold ?? Infinity,
      closedError: () => this.#closedError(),
    });
    this.sending = new Sending(this, this.#sender, config.limits.maxBufferedBytes);
    this.#deadlines = new SocketDeadlines(tunnel, config);
    this.#pings = new PingBudget(config.limits.maxPingsPerSecond);
  }

  /**
   * Opens the socket that programs hold as `ws`: calls `opened`, and then the other callbacks. None is
   * called, and `false` returned, where a listener that was told of it has cut it already.
   */
  open(ws: ServerWebSocket, opened: (ws: ServerWebSocket) => unknown): boolean {
    this.#ws = ws;
    const { onMessage, onFrame } = this.#config.callbacks;
    if (onFrame !== undefined) {
      this.reading.deliverFrames((frame) => call(this, onFrame, this.#ws, frame));
    } else if (onMessage !== undefined) {
      this.reading.deliverMessages((message) => call(this, onMessage, this.#ws, message));
    }
    this.#hub.add(this);
    if (this.#state === "closed") return false;
    this.#hasOpened = true;
    this.#deadlines.arm();
    this.reading.openedBy(run(this, () => opened(ws)));
    return true;
  }

  /** What programs hold. */
  get ws(): ServerWebSocket {
    return this.#ws;
  }

  /** Where the socket is in its life, as programs see it. */
  get readyState(): ReadyState {
    return READY_STATES[this.#state];
  }

  /** Resolves when the tunnel is over. */
  get whenClosed(): Promise<CloseInfo> {
    return this.#closed.promise;
  }

  get isOpen(): boolean {
    return this.#state === "open" || this.#state === "answering";
  }

  // What the program does.

  deliver(message: EncodedMessage): void {
    void this.sending.deliver(message); // a client that cannot keep up is closed at its own limit
  }

  /** Begins the closing handshake with the payload of a Close frame. */
  close(payload: Uint8Array): void {
    this.#ownClose = true;
    if (this.isOpen) this.#beginClose(payload);
  }

  /** Cuts the tunnel. */
  destroy(): void {
    this.#ownClose = true;
    this.tunnel.destroy();
  }

  /** Closes with 1011 and reports what a callback threw; see {@linkcode ServerWebSocket.fail}. */
  callbackFailed(cause: unknown): void {
    const isOpen = this.isOpen;
    if (!isOfOthers(cause)) this.#report(callbackError(cause));
    else if (isOpen) this.#report(cause); // another socket was closed, and this one fails by it
    if (isOpen) this.#beginClose(encodeClose(CloseCode.InternalError, "The server failed"));
  }

  sent(): void {
    if (this.isOpen) this.used();
    if (!this.#pumping) this.#watchReader(); // after the pump, once
  }

  tooSlow(error: WebSocketError): void {
    this.#report(error);
    if (!this.isOpen) return; // onError has closed it
    this.#beginClose(encodeClose(error.closeCode, "Client reads too slowly"));
  }

  // What the tunnel reports.

  bytesReady(): void {
    this.#deadlines.heard();
    this.#turn.renew();
    this.#pump();
  }

  /** Limits how long callbacks may hold back what a client had sent that has ended its side. */
  peerEnded(): void {
    this.#watchLeaver();
  }

  /** Limits how long the program may take nothing, since the client's end is not seen meanwhile. */
  stopped(): void {
    this.#watchInput();
  }

  drained(): void {
    this.#deadlines.read();
    this.#sender.drained();
  }

  shutdown(): void {
    if (this.isOpen) this.#beginClose(encodeClose(CloseCode.GoingAway));
  }

  leave(): void {
    this.shutdown();
  }

  closed(error: HttpsdError | undefined): void {
    const status = this.#peerStatus;
    this.#leaveOpen("closed");
    this.#sender.abort();
    const info: CloseInfo = {
      code: status?.code ?? CloseCode.Abnormal,
      reason: status?.reason ?? "",
      wasClean: status !== undefined && this.#sender.closeWritten,
      error: this.#error ?? error,
    };
    this.#closed.resolve(info);
    if (!this.#hasOpened) return;
    const { callbacks } = this.#config;
    const report = () => void run(this, () => callbacks.onClose?.(this.#ws, info));
    const receiver = this.reading.begun;
    if (receiver?.inbox.isDelivered) receiver.inbox.whenHandled(report);
    else report();
    receiver?.end(this.#closedError());
  }

  /** Takes steps until the client, or the program, must be waited for. */
  #pump(): void {
    if (this.#pumping) return; // a callback that made room comes back here
    this.#pumping = true;
    this.tunnel.cork();
    try {
      while (this.#turn.mayGoOn() && this.#step());
    } finally {
      this.tunnel.uncork();
      this.#pumping = false;
    }
    this.#watchReader();
    this.#watchInput();
  }

  /** One step; false when there is something to wait for. */
  #step(): boolean {
    const { tunnel } = this;
    if (tunnel.closed || tunnel.closing || this.#heardAll) return false;
    const { receiver } = this.reading;
    if (!this.#reads(receiver)) return false;
    if (receiver.next()) {
      this.#turn.spend();
      this.#countInflated(receiver);
      return true;
    }
    const bytes = tunnel.take();
    if (bytes !== undefined) {
      this.#turn.spend(bytes.length >> PIECE_BITS);
      receiver.push(bytes);
    } else if (tunnel.ended) {
      tunnel.close(); // without a Close frame: not clean
    }
    return bytes !== undefined;
  }

  /** Whether nothing that may still come would be looked at. */
  get #heardAll(): boolean {
    return this.#state === "failed" || this.#peerStatus !== undefined;
  }

  /** Whether bytes of the client would be taken now. */
  #reads(receiver: Receiver): boolean {
    return !receiver.full && !this.#deadlines.throttled;
  }

  /** Whether bytes would be read now that the client sends. */
  #hears(receiver: Receiver | undefined): boolean {
    return !this.tunnel.stopped && (receiver === undefined || this.#reads(receiver));
  }

  /** Counts what a client makes its server inflate against its turn, and then its time. */
  #countInflated({ inflatedBytes }: Receiver): void {
    const bytes = inflatedBytes - this.#inflated;
    if (bytes === 0) return;
    this.#inflated = inflatedBytes;
    this.#turn.spend(bytes >> PIECE_BITS);
    this.#deadlines.inflated(bytes);
  }

  // What the receiver reports.

  used(): void {
    this.#deadlines.used();
    this.#touch();
  }

  pinged(payload: Uint8Array): void {
    if (!this.#mayPing() || !this.isOpen) return;
    const { manualControlFrames, callbacks: { onPing } } = this.#config;
    if (manualControlFrames) return;
    this.#sender.answerPing(payload);
    if (onPing !== undefined) void call(this, onPing, this.#ws, payload);
  }

  ponged(payload: Uint8Array): void {
    if (!this.#mayPing() || !this.isOpen) return;
    const { callbacks } = this.#config;
    void run(this, () => callbacks.onPong?.(this.#ws, payload));
  }

  /** Answers a Close frame when what came before it was handled. */
  peerClosed(status: CloseStatus): void {
    this.#peerStatus = status;
    if (!this.isOpen) {
      this.#state = "ending";
      this.#finishHandshake();
      return;
    }
    this.#state = "answering";
    this.#deadlines.stopKeepAlive();
    this.#deadlines.awaitEnd();
    const { receiver } = this.reading;
    receiver.inbox.whenHandled(() => this.#answerClose(status));
    receiver.end(this.#closedError());
  }

  /** Fails the socket: sends the code of the broken rule, and reads no more (section 7.1.7). */
  broken(error: WebSocketError): void {
    if (this.#state === "failed") return;
    this.#report(error);
    this.#leaveOpen("failed");
    this.reading.begun?.discard(endedByOthers(error));
    this.#sender.closeNow(encodeClose(error.closeCode, error.message));
    this.tunnel.close();
  }

  taken(): void {
    this.#deadlines.taken();
    if (!this.#pumping) this.#watchInput(); // after the pump, once
  }

  madeRoom(): void {
    this.#pump();
  }

  /** Reports that the session is in use, once in a turn of the event loop. */
  #touch(): void {
    const { turn } = this.#hub;
    if (this.#touchedIn === turn) return;
    this.#touchedIn = turn;
    this.#hub.touched(this);
  }

  /** Whether the client may send the Ping or Pong that came; otherwise the socket has failed. */
  #mayPing(): boolean {
    this.#touch();
    if (this.#pings.spend(this.tunnel.clock.now())) return true;
    const message =
      `More than ${this.#config.limits.maxPingsPerSecond} Ping and Pong frames in a second`;
    this.broken(new WebSocketError(CloseCode.PolicyViolation, "WS_PING_FLOOD", message));
    return false;
  }

  // How it ends.

  #closedError(): WebSocketError {
    return closedError(this.#ownClose);
  }

  #answerClose({ code, reason }: CloseStatus): void {
    if (!this.isOpen) return;
    this.#beginClose(code === CloseCode.NoStatus ? encodeClose() : encodeClose(code, reason));
  }

  #beginClose(payload: Uint8Array): void {
    this.#leaveOpen(this.#state === "answering" ? "ending" : "closing");
    this.#deadlines.awaitEnd();
    this.reading.receiver.discard(this.#closedError());
    this.#sender.close(payload, () => this.#finishHandshake());
    this.#deadlines.arm();
    this.#pump(); // the client's Close may lie behind what the program had not taken
  }

  /** Finishes the tunnel when both Close frames have been sent; the server first (section 7.1.1). */
  #finishHandshake(): void {
    if (this.#state === "ending" && this.#sender.closeWritten) this.tunnel.close();
  }

  /** Leaves "open" or a later state: the socket is no longer one of the server's. */
  #leaveOpen(state: State): void {
    this.#state = state;
    this.#deadlines.stopKeepAlive();
    this.#hub.remove(this);
  }

  #report(error: HttpsdError): void {
    this.#hub.failed(this, error);
    if (this.#error !== undefined) return;
    this.#error = error;
    const failed = (cause: unknown) => this.#hub.failed(this, callbackError(cause));
    contain(() => this.#config.callbacks.onError?.(this.#ws, error), failed);
  }

  // Deadlines.

  /** Waits for a client that does not read. */
  #watchReader(): void {
    if (this.#sender.blocked) this.#deadlines.awaitReader();
  }

  /** Counts what waits, and waits for what makes it more or less. */
  #watchInput(): void {
    const { tunnel } = this;
    const receiver = this.reading.begun;
    if (tunnel.closed || tunnel.closing || receiver === undefined) return;
    tunnel.hold(receiver.waitingBytes); // which may start a tunnel that is stopped
    this.#watchMessage(receiver);
    this.#watchProgram();
    this.#watchLeaver();
  }

  /** Waits for a message that has begun and not ended. */
  #watchMessage(receiver: Receiver): void {
    const reading = this.#hears(receiver) && !this.#turn.waiting;
    this.#deadlines.awaitMessage(receiver, this.#state === "open", reading);
  }

  /** Waits for a program that takes nothing, where so much waits that nothing is read. */
  #watchProgram(): void {
    const otherwise = this.#state !== "open" || this.#deadlines.throttled || this.#turn.waiting;
    this.#deadlines.awaitProgram(this.tunnel.stopped && !otherwise);
  }

  /** Waits for the callbacks that hold back what a client had sent that is gone. */
  #watchLeaver(): void {
    const { tunnel } = this;
    if (!tunnel.peerEnded || tunnel.closed || tunnel.closing) return;
    if (!this.#heardAll && !this.#deadlines.awaitsEnd) this.#deadlines.awaitEnd();
  }

  expired(): void {
    const receiver = this.reading.begun;
    switch (this.#deadlines.overdue(this.#hears(receiver))) {
      case "unread":
        return this.#timeOut("The client did not read in time");
      case "closing":
        this.#closeOverdue();
        break;
      case "message":
        this.#messageOverdue();
        break;
      case "stopped":
        this.#programOverdue();
        break;
      case "throttled":
        this.#pump();
        break;
      case "ping":
        void this.#sender.sendControl(Opcode.Ping, NO_BYTES);
        break;
      case "idle":
        this.#beginClose(encodeClose(CloseCode.GoingAway, "No message for too long"));
        break;
      case "dead":
        this.#timeOut("The client is not alive: it neither sends nor answers");
    }
    this.#deadlines.arm();
  }

  #closeOverdue(): void {
    if (this.#state === "answering") {
      this.#answerClose(this.#peerStatus!); // a callback holds up the answer
    } else if (this.#state === "open") {
      this.#timeOut("The client is gone, and a callback holds up what it had sent");
    } else {
      this.#timeOut("The closing handshake did not end in time");
    }
  }

  #messageOverdue(): void {
    const message =
      "The message did not come in time: see timeouts.messageMs, limits.minMessageBytesPerSecond";
    this.broken(new WebSocketError(CloseCode.PolicyViolation, "WS_MESSAGE_TIMEOUT", message));
  }

  /** Says goodbye, and reads on, so that the end of a client that has left is seen. */
  #programOverdue(): void {
    const message = "The program takes nothing of what waits: see timeouts.messageMs";
    this.#report(new ConnectionError("CONNECTION_TIMEOUT", message));
    if (!this.isOpen) return; // onError has closed it
    this.#beginClose(encodeClose(CloseCode.InternalError, "The server takes nothing"));
  }

  #timeOut(message: string): void {
    const error = new ConnectionError("CONNECTION_TIMEOUT", message);
    this.#report(error);
    this.tunnel.destroy(error);
  }
}

/**
 * How much of one client is looked at in one turn of the event loop: a message is a piece, and so
 * is each KiB that is read or inflated.
 */
const PIECES_PER_TURN = 256;
const PIECE_BITS = 10;

function callbackError(cause: unknown): WebSocketError {
  return new WebSocketError(
    CloseCode.InternalError,
    "WS_CALLBACK_FAILED",
    "A WebSocket callback threw",
    { cause },
  );
}
