/**
 * The user's handle on a client's connection: its facts, what handlers keep for it, and the ways to
 * end it. What a protocol does on the connection is a {@linkcode SessionDriver}'s concern:
 * HTTP/1.1's is http1/connection.ts, and a request without a socket has the one in edge/driver.ts.
 *
 * @module
 */
import { type HttpsdError, StateError } from "../errors.ts";
import type { LineEntry } from "../line.ts";
import type { Connection } from "../net/connection.ts";
import type { ProxyHeader } from "../net/proxy_protocol.ts";
import type { SecurityContext } from "../tls/context.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { SessionContext } from "./session_context.ts";
import { nextSessionId } from "./session_id.ts";

/**
 * Where a session is in its life: its hooks have not let it in; it waits for a request, or is a
 * WebSocket; a request is under way; nothing is read any more.
 */
export type SessionState = "opening" | "idle" | "busy" | "closing";

/** What is known of the client of a session. */
export interface Peer {
  /** The client's address; empty on a UNIX socket, and where the platform does not say. */
  readonly remoteAddress: string;
  /** The client's port; 0 on a UNIX socket, and where the platform does not say. */
  readonly remotePort: number;
  /** The handshake's facts; `undefined` in plain mode, and where the platform does not say. */
  readonly tls: TlsInfo | undefined;
  /** The PROXY header that the addresses are from. */
  readonly proxy?: ProxyHeader | undefined;
  /** What the handshake was decided by. */
  readonly context?: SecurityContext | undefined;
}

/** What a protocol is to the sessions that it carries. */
export interface SessionDriver {
  /** What is known of the client. */
  readonly peer: Peer;
  /** The connection underneath; `undefined` where a platform keeps it to itself. */
  readonly connection: Connection | undefined;
  /** What is spoken, such as `http` or `websocket`. */
  readonly kind: string;
  /** Where the session is in its life. */
  readonly state: SessionState;
  /** Whether a request is under way. */
  readonly busy: boolean;
  /** How many requests have come, with the one under way. */
  readonly requests: number;
  /** Makes the session the most recently used one. */
  touch(): void;
  /**
   * Writes raw bytes, which belong to the driver from now on.
   *
   * @throws {StateError} `ALREADY_SENT` where they would break what is being sent; `NOT_SUPPORTED`
   * where there is no connection
   */
  send(bytes: Uint8Array): void;
  /** Ends the session when the request under way is answered; `reason` is what its end reports. */
  close(reason: HttpsdError | undefined): void;
  /** Cuts the session now. */
  destroy(error: HttpsdError | undefined): void;
  /** Reports what a callback of the program threw that does not affect an answer. */
  failed(error: HttpsdError): void;
}

/** The driver of a protocol on a connection of the server's, which has others that need its place. */
export interface ConnectionDriver extends SessionDriver {
  /** The handle on it. */
  readonly session: Session;
  readonly connection: Connection;
  /** Its place among the sessions of the server, whose table writes it; `undefined` at first. */
  entry: LineEntry<ConnectionDriver> | undefined;
  /** Whether a part of a request has come that no handler has yet. */
  readonly receiving: boolean;
  /** Lets the session in: from now on requests are read. */
  begin(): void;
  /**
   * Closes an idle session at once to make room for another (original: `lru_purge_enable`). Returns
   * `false` for one inside a request, which is not closed, and for one that closes already.
   */
  purge(): boolean;
}

/** Makes the handle on a driver. */
export let makeSession: (driver: SessionDriver) => Session;
/** Returns the driver of a session. */
export let driverOf: (session: Session) => SessionDriver;
/** Gives a session another driver, as when its first bytes show what its client speaks. */
export let handOver: (session: Session, driver: SessionDriver) => void;
/** Frees what a session keeps, now. */
export let freeContext: (session: Session) => void;
/** Frees what a session keeps that is over, and from now on whatever it is given, at once. */
export let endContext: (session: Session) => void;

/** A client's connection and what its requests share (original: a socket descriptor's session). */
export class Session {
  /** Unique in this process, never used again. */
  readonly id: number = nextSessionId();
  #driver: SessionDriver;
  readonly #connectedAt = Date.now();
  /** Made when something is kept in it. */
  #context: SessionContext | undefined;
  #over = false;

  private constructor(driver: SessionDriver) {
    this.#driver = driver;
  }

  // What drivers and the server do with a session, and its users cannot.
  static {
    makeSession = (driver) => new Session(driver);
    driverOf = (session) => session.#driver;
    handOver = (session, driver) => void (session.#driver = driver);
    freeContext = (session) => session.#context?.free();
    endContext = (session) => {
      session.#over = true;
      session.#context?.free();
    };
  }

  /**
   * The connection underneath.
   *
   * @throws {StateError} `NOT_SUPPORTED` for a session without a socket
   */
  get connection(): Connection {
    const { connection } = this.#driver;
    if (connection !== undefined) return connection;
    throw new StateError("NOT_SUPPORTED", "A request without a socket has no connection");
  }

  /** When the connection was established. */
  get connectedAt(): Date {
    return new Date(this.#connectedAt);
  }

  /** The client's address; empty where a platform does not say. */
  get remoteAddress(): string {
    return this.#driver.peer.remoteAddress;
  }

  /** The client's port; 0 where a platform does not say. */
  get remotePort(): number {
    return this.#driver.peer.remotePort;
  }

  /** The handshake's facts; `undefined` in plain mode, and where a platform does not say. */
  get tls(): TlsInfo | undefined {
    return this.#driver.peer.tls;
  }

  /**
   * What a trusted proxy said of the client in its PROXY header: besides the addresses the TLS
   * that it ended (`ssl`), the server name that was asked for (`authority`) and an identifier
   * (`uniqueId`), as far as it sent them; `undefined` where no header came.
   */
  get proxy(): ProxyHeader | undefined {
    return this.#driver.peer.proxy;
  }

  /** How many requests have come on this connection, with the one under way. */
  get requests(): number {
    return this.#driver.requests;
  }

  /** Whether a request is under way. */
  get busy(): boolean {
    return this.#driver.busy;
  }

  /** Where the session is in its life. */
  get state(): SessionState {
    return this.#driver.state;
  }

  /**
   * What is spoken on the connection: `http`, `websocket` (original: `httpd_ws_client_info_t`). One
   * of HTTP/2 speaks `websocket` while it carries WebSockets and no request.
   */
  get kind(): string {
    return this.#driver.kind;
  }

  /** Any value that handlers keep for the session (original: `sess_ctx`). */
  get context(): unknown {
    return this.#context?.value;
  }

  /** Keeps another context, without a function to free it. */
  set context(context: unknown) {
    this.setContext(context);
  }

  /**
   * Keeps `context` for the session's handlers. `free` is called with it when another takes its
   * place and when the session ends; what it throws becomes an `error` event (original:
   * `httpd_sess_set_ctx`). A session that is over keeps none: `free` is called at once.
   */
  setContext<T>(context: T, free?: (context: T) => unknown): void {
    this.#context ??= new SessionContext((error) => this.#driver.failed(error));
    this.#context.set(context, free);
    if (this.#over) this.#context.free();
  }

  /**
   * Makes this session the most recently used one, as each answer does
   * (`httpd_sess_update_lru_counter`). Has no effect on a session without a socket.
   */
  touch(): void {
    this.#driver.touch();
  }

  /**
   * Writes bytes as they are, outside of HTTP's framing: the caller is responsible for whether the
   * client understands them (original: `httpd_socket_send`). On a session that is over they are
   * discarded.
   *
   * @throws {StateError} `ALREADY_SENT` in the middle of a response, which they would break, and
   * on a WebSocket; `NOT_SUPPORTED` for a session without a socket
   */
  send(bytes: Uint8Array): void {
    this.#driver.send(new Uint8Array(bytes)); // a copy; not slice(): a Buffer's is a view
  }

  /**
   * Closes when the request under way is answered, or now when there is none (original:
   * `httpd_sess_trigger_close`). `reason` is what `closeFn` and the `disconnected` event report. A
   * session without a socket ends with its request in any case.
   */
  close(reason?: HttpsdError): void {
    this.#driver.close(reason);
  }

  /** Cuts the connection now; without a socket, the answer. */
  destroy(error?: HttpsdError): void {
    this.#driver.destroy(error);
  }
}
