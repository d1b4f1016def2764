/**
 * A WebSocket with the API of browsers (WHATWG WebSockets standard), for fetch handlers:
 * events, `onmessage`, `binaryType`. Underneath is a {@linkcode ServerWebSocket}.
 *
 * @module
 */
import { type AnyListener, SafeListeners } from "../contain/listeners.ts";
import { encodeClose } from "./close.ts";
import type { SocketCallbacks } from "./options.ts";
import type { Bytes } from "./prepared_message.ts";
import type { WebSocketMessage } from "./incoming.ts";
import type { ServerWebSocket } from "./socket.ts";

/** The events of an {@linkcode UpgradedWebSocket}. */
export interface UpgradedWebSocketEventMap {
  /** The handshake is answered: messages can be sent. */
  open: Event;
  /** A message came, in `data`: text as a string, binary as `binaryType` says. */
  // As MessageEvent<…>, which takes no type where the types of the DOM are not loaded.
  message: Omit<MessageEvent, "data"> & { readonly data: string | ArrayBuffer | Blob };
  /** The socket failed; `error` is why. `close` follows. */
  error: ErrorEvent;
  /** The connection is over. */
  close: CloseEvent;
}

/** What `onopen` and its like are set to. */
export type SocketEventHandler<T extends keyof UpgradedWebSocketEventMap> =
  | ((this: UpgradedWebSocket, event: UpgradedWebSocketEventMap[T]) => unknown)
  | null;

/** What drives an {@linkcode UpgradedWebSocket}. */
export interface SocketDriver {
  /** The socket. */
  readonly socket: UpgradedWebSocket;
  /** For the {@linkcode ServerWebSocket} underneath. */
  readonly callbacks: SocketCallbacks;
  /** Opens the socket: the handshake was answered. */
  opened(ws: ServerWebSocket): void;
  /** Closes the socket: its handshake will never be answered. */
  refused(): void;
}

/** Makes a socket that waits for its handshake. */
export let createBrowserSocket: (url: string) => SocketDriver;

/** The server's end of a WebSocket that a fetch handler upgraded. */
export class UpgradedWebSocket extends EventTarget {
  static {
    createBrowserSocket = (url) => {
      const socket = new UpgradedWebSocket(url);
      return {
        socket,
        callbacks: {
          onMessage: (_, message) => socket.#emitMessage(message),
          onError: (_, error) => void socket.#emitError(error.message, error),
          onClose: (_, info) => void socket.dispatchEvent(new CloseEvent("close", info)),
        },
        opened: (ws) => socket.#opened(ws),
        refused: () => socket.#refuse(),
      };
    };
  }

  /** `readyState` before the handshake is answered. */
  static readonly CONNECTING = 0;
  /** `readyState` while messages go both ways. */
  static readonly OPEN = 1;
  /** `readyState` during the closing handshake. */
  static readonly CLOSING = 2;
  /** `readyState` when the connection is over. */
  static readonly CLOSED = 3;
  /** `readyState` before the handshake is answered. */
  readonly CONNECTING = 0;
  /** `readyState` while messages go both ways. */
  readonly OPEN = 1;
  /** `readyState` during the closing handshake. */
  readonly CLOSING = 2;
  /** `readyState` when the connection is over. */
  readonly CLOSED = 3;

  /** What binary messages come as. Default, as in browsers: `"blob"`. */
  binaryType: "blob" | "arraybuffer" = "blob";
  /** The address that the client connected to. */
  readonly url: string;

  #ws: ServerWebSocket | undefined;
  /** What `close()` was called with before the handshake was answered. */
  #closing: Parameters<ServerWebSocket["close"]> | undefined;
  #refused = false;
  readonly #handlers = new Map<string, AnyListener>();
  readonly #listeners = new SafeListeners((type, cause) => this.#listenerFailed(type, cause));

  private constructor(url: string) {
    super();
    this.url = url.replace(/^http/, "ws");
  }

  /** Where the socket is in its life: 0 to 3, as the constants say. */
  get readyState(): number {
    if (this.#refused) return this.CLOSED;
    if (this.#ws !== undefined) return this.#ws.readyState;
    return this.#closing === undefined ? this.CONNECTING : this.CLOSING;
  }

  /** How many bytes wait to be sent. */
  get bufferedAmount(): number {
    return this.#ws?.bufferedAmount ?? 0;
  }

  /** The chosen subprotocol; empty when there is none, and before `open`. */
  get protocol(): string {
    return this.#ws?.protocol ?? "";
  }

  /** The extensions in use; empty before `open`. */
  get extensions(): string {
    return this.#ws?.extensions ?? "";
  }

  /**
   * Sends a message; once the socket is closing it is discarded, as the standard requires.
   *
   * @throws {DOMException} `InvalidStateError` before `open`
   */
  send(data: string | Bytes | Blob): void {
    if (this.readyState === this.CONNECTING) {
      throw new DOMException("The WebSocket is not open yet: await its open event", INVALID_STATE);
    }
    void this.#ws?.send(data);
  }

  /**
   * Begins the closing handshake.
   *
   * @param code 1000 or 3000 to 4999, and what else a server may send; none when absent
   * @param reason at most 123 bytes of UTF-8
   * @throws {WebSocketError} `WS_CANNOT_SEND` when code or reason may not be sent
   */
  close(code?: number, reason?: string): void {
    encodeClose(code, reason); // throws before the handshake too
    if (this.#ws === undefined) this.#closing ??= code === undefined ? [] : [code, reason ?? ""];
    else this.#ws.close(code, reason);
  }

  /** Calls `listener` for each event of `type`; what it throws closes the socket with 1011. */
  override addEventListener<T extends keyof UpgradedWebSocketEventMap>(
    type: T,
    listener:
      | ((event: UpgradedWebSocketEventMap[T]) => unknown)
      | { handleEvent(event: UpgradedWebSocketEventMap[T]): unknown }
      | null,
    options?: AddEventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.addEventListener(type, this.#listeners.wrap(listener as AnyListener), options);
  }

  /** Stops calling `listener` for events of `type`. */
  override removeEventListener<T extends keyof UpgradedWebSocketEventMap>(
    type: T,
    listener:
      | ((event: UpgradedWebSocketEventMap[T]) => unknown)
      | { handleEvent(event: UpgradedWebSocketEventMap[T]): unknown }
      | null,
    options?: EventListenerOptions | boolean,
  ): void {
    if (listener === null) return;
    super.removeEventListener(type, this.#listeners.wrapperOf(listener as AnyListener), options);
  }

  /** Called with the `open` event. */
  get onopen(): SocketEventHandler<"open"> {
    return this.#handler("open");
  }
  /** Called with the `open` event. */
  set onopen(handler: SocketEventHandler<"open">) {
    this.#setHandler("open", handler);
  }
  /** Called with each `message` event. */
  get onmessage(): SocketEventHandler<"message"> {
    return this.#handler("message");
  }
  /** Called with each `message` event. */
  set onmessage(handler: SocketEventHandler<"message">) {
    this.#setHandler("message", handler);
  }
  /** Called with the `error` event. */
  get onerror(): SocketEventHandler<"error"> {
    return this.#handler("error");
  }
  /** Called with the `error` event. */
  set onerror(handler: SocketEventHandler<"error">) {
    this.#setHandler("error", handler);
  }
  /** Called with the `close` event. */
  get onclose(): SocketEventHandler<"close"> {
    return this.#handler("close");
  }
  /** Called with the `close` event. */
  set onclose(handler: SocketEventHandler<"close">) {
    this.#setHandler("close", handler);
  }

  #handler<T extends keyof UpgradedWebSocketEventMap>(type: T): SocketEventHandler<T> {
    return this.#handlers.get(type) as SocketEventHandler<T> | undefined ?? null;
  }

  #setHandler<T extends keyof UpgradedWebSocketEventMap>(
    type: T,
    handler: SocketEventHandler<T>,
  ): void {
    const known = this.#handlers.get(type);
    if (known !== undefined) super.removeEventListener(type, this.#listeners.wrapperOf(known));
    this.#handlers.delete(type);
    if (handler === null) return;
    this.#handlers.set(type, handler as AnyListener);
    super.addEventListener(type, this.#listeners.wrap(handler as AnyListener));
  }

  #opened(ws: ServerWebSocket): void {
    this.#ws = ws;
    if (this.#closing !== undefined) return ws.close(...this.#closing);
    this.dispatchEvent(new Event("open"));
  }

  #refuse(): void {
    this.#refused = true;
    this.#emitError("The handler returned a response other than the upgrade's");
    this.dispatchEvent(new CloseEvent("close", { code: 1006, wasClean: false }));
  }

  #emitMessage(message: WebSocketMessage): void {
    let data: string | ArrayBuffer | Blob;
    if (typeof message === "string") data = message;
    else if (this.binaryType === "blob") data = new Blob([new Uint8Array(message)]);
    else data = new Uint8Array(message).buffer;
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  #emitError(message: string, error?: unknown): void {
    this.dispatchEvent(new ErrorEvent("error", { message, error }));
  }

  /** Closes the socket with 1011, since a listener threw or rejected. */
  #listenerFailed(type: string, cause: unknown): void {
    if (type === "error" || this.#ws === undefined) console.error(cause);
    else this.#ws.fail(cause);
  }
}

const INVALID_STATE = "InvalidStateError";
