/**
 * The {@linkcode ServerWebSocket} of programs: checks what it is given, and passes it on to its
 * engine and the server's topics.
 *
 * @module
 */
import * as v from "valibot";
import type { Session } from "../http/session.ts";
import { adviceFrom, checkOptions, flag, members, yesOrNo } from "../options.ts";
import { encodeClose } from "./close.ts";
import type { Engine } from "./engine.ts";
import type { WebSocketHub } from "./hub.ts";
import type { WebSocketMessage, WebSocketMessageStream } from "./incoming.ts";
import { Opcode } from "./opcode.ts";
import { assertData, type Bytes, PreparedMessage } from "./prepared_message.ts";
import type { CloseInfo, OutgoingFrame, ReadyState, ServerWebSocket } from "./socket.ts";

const SEND = members({ compress: v.optional(yesOrNo) });

const NO_OPTIONS: { readonly compress?: boolean } = {};

const FRAME = members({
  opcode: v.picklist(
    [Opcode.Continuation, Opcode.Text, Opcode.Binary, Opcode.Close, Opcode.Ping, Opcode.Pong],
    "must be one of Opcode",
  ),
  payload: v.optional(v.any(), ""),
  final: flag(true),
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

/** What was agreed on in the opening handshake. */
export interface Agreed {
  /** The chosen subprotocol; empty when there is none. */
  readonly protocol: string;
  /** The extensions in use; empty when there are none. */
  readonly extensions: string;
}

/** The handle of one engine. */
export class SocketHandle implements ServerWebSocket {
  context: unknown;
  readonly session: Session;
  readonly protocol: string;
  readonly extensions: string;
  readonly #engine: Engine;
  readonly #hub: WebSocketHub;

  /** Makes the handle of an engine whose socket is among those of `hub` while it is open. */
  constructor(engine: Engine, hub: WebSocketHub, session: Session, agreed: Agreed) {
    this.session = session;
    this.protocol = agreed.protocol;
    this.extensions = agreed.extensions;
    this.#engine = engine;
    this.#hub = hub;
  }

  get readyState(): ReadyState {
    return this.#engine.readyState;
  }

  get bufferedAmount(): number {
    return this.#engine.sending.bufferedBytes;
  }

  get closed(): Promise<CloseInfo> {
    return this.#engine.whenClosed;
  }

  get topics(): ReadonlySet<string> {
    return this.#hub.topicsOf(this.#engine);
  }

  get messages(): ReadableStream<WebSocketMessageStream> {
    return this.#engine.reading.messages;
  }

  send(
    data: string | Bytes | Blob | PreparedMessage,
    options?: { readonly compress?: boolean },
  ): Promise<void> {
    if (!(data instanceof Blob || data instanceof PreparedMessage)) assertData("send()", data);
    const { compress } = options === undefined ? NO_OPTIONS : checkOptions("send()", SEND, options);
    const { sending } = this.#engine;
    return data instanceof Blob ? sending.sendBlob(data) : sending.send(data, compress);
  }

  sendFrame(frame: OutgoingFrame): Promise<void> {
    const { opcode, payload, final } = checkOptions("sendFrame()", FRAME, frame);
    assertData("sendFrame()", payload);
    return this.#engine.sending.sendFrame(opcode, payload, final);
  }

  ping(payload: string | Bytes = ""): Promise<void> {
    return this.sendFrame({ opcode: Opcode.Ping, payload });
  }

  close(code?: number, reason?: string): void {
    this.#engine.close(encodeClose(code, reason));
  }

  destroy(): void {
    this.#engine.destroy();
  }

  fail(cause: unknown): void {
    this.#engine.callbackFailed(cause);
  }

  subscribe(topic: string): Promise<void> {
    return this.#hub.subscribe(this.#engine, topic);
  }

  unsubscribe(topic: string): void {
    this.#hub.unsubscribe(this.#engine, topic);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<WebSocketMessage, undefined> {
    return this.#engine.reading.iterate();
  }
}
