/**
 * What programs hold of a WebSocket on the server's side.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";
import type { Session } from "../http/session.ts";
import type { WebSocketMessage, WebSocketMessageStream } from "./incoming.ts";
import type { Opcode } from "./opcode.ts";
import type { Bytes, PreparedMessage } from "./prepared_message.ts";

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

/**
 * The server's end of a WebSocket. Every method may be called at any time and from anywhere: frames
 * leave whole and in the order of the calls. Iterating over it gives its messages.
 */
export interface ServerWebSocket extends AsyncIterable<WebSocketMessage> {
  /** Any value that the program keeps for this socket. */
  context: unknown;
  /** The session whose connection it is. */
  readonly session: Session;
  /** The chosen subprotocol; empty when there is none. */
  readonly protocol: string;
  /** The extensions in use, as the handshake's answer names them; empty when there are none. */
  readonly extensions: string;
  /** Where the socket is in its life. */
  readonly readyState: ReadyState;
  /** How many bytes wait to be sent. */
  readonly bufferedAmount: number;
  /** Resolves when the connection is over. */
  readonly closed: Promise<CloseInfo>;
  /** The topics that it is subscribed to. */
  readonly topics: ReadonlySet<string>;
  /**
   * The messages as streams, for messages that are too long to be held whole; to be asked for in
   * `onOpen` before its first `await`.
   *
   * @throws {StateError} `BODY_USED` when they are read in another way
   */
  readonly messages: ReadableStream<WebSocketMessageStream>;

  /**
   * Sends a message: text as Text, anything else as Binary. What is given is copied. Resolves when
   * the next may follow: at once, or when the client has read enough.
   *
   * Rejects with {@linkcode WebSocketError} `WS_CLOSED` once the socket is closing,
   * `WS_SLOW_CONSUMER` when more than `limits.maxBufferedBytes` waits, and `WS_CANNOT_SEND` inside
   * a message that {@linkcode ServerWebSocket.sendFrame} has begun and not ended. An unhandled
   * rejection has no effect.
   *
   * @param options `compress` overrides the threshold of compression
   * @throws {WebSocketError} `WS_CANNOT_SEND`, at once, for what is neither text nor bytes
   * @throws {ConfigError} `INVALID_CONFIG`, at once, naming the option
   */
  send(
    data: string | Bytes | Blob | PreparedMessage,
    options?: { readonly compress?: boolean },
  ): Promise<void>;

  /**
   * Sends one frame, so that a message can leave in fragments (original: `httpd_ws_send_frame`).
   * From the first fragment to the last, broadcasts wait, and other messages to this socket are
   * rejected: a program that awaited one before the last fragment would never continue. Goes
   * uncompressed. Close frames are sent by {@linkcode ServerWebSocket.close}.
   *
   * Rejects as {@linkcode ServerWebSocket.send} does, and with `WS_CANNOT_SEND` for a frame that is
   * not allowed, such as the start of a message inside another.
   */
  sendFrame(frame: OutgoingFrame): Promise<void>;

  /**
   * Sends a Ping, whose Pong comes to `onPong` or `onFrame`.
   *
   * Rejects as {@linkcode ServerWebSocket.send} does, and with `WS_CANNOT_SEND` beyond 125 bytes.
   */
  ping(payload?: string | Bytes): Promise<void>;

  /**
   * Begins the closing handshake behind what was sent before. What the client still sends is thrown
   * away; if it does not answer in `timeouts.closeMs`, the connection is cut. Does nothing when the
   * socket is closing already.
   *
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999; none when absent
   * @param reason at most 123 bytes of UTF-8
   * @throws {WebSocketError} `WS_CANNOT_SEND` when code or reason may not be sent
   */
  close(code?: number, reason?: string): void;

  /** Cuts the connection now. */
  destroy(): void;

  /**
   * Closes with 1011 and reports `cause`, as when a callback throws: for what fails outside of the
   * callbacks. What could not be sent since a client has left is not reported: the program could
   * not know.
   */
  fail(cause: unknown): void;

  /**
   * Adds the socket to a topic of the server's `publish`, at once; it leaves it when it closes. The
   * promise need not be awaited. With the server's option `bus`, it resolves when the messages of
   * other processes come too, so that what a program loads after that lacks none of them; and when
   * the bus is away, or does not confirm in `timeouts.busMs`: then the event `bus:gap` comes later.
   * It never rejects.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a topic that is not text; with a bus also for one of
   * more than 1,024 bytes, or with half a character
   */
  subscribe(topic: string): Promise<void>;

  /** Takes the socket away from a topic. */
  unsubscribe(topic: string): void;

  /**
   * Gives the messages, one after another, until the socket closes, however it does. What is not
   * asked for waits in a bounded queue, and then in the client.
   *
   * @throws {StateError} `BODY_USED` when they are read in another way: by `onMessage`, `onFrame` or
   * `messages`, or are thrown away since reading did not begin in `onOpen`
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<WebSocketMessage, undefined>;
}
