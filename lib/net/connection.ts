/**
 * A connection as programs see it: its facts, its bytes where no protocol reads them, and the two
 * ways to end it. The protocols' side is the {@linkcode ConnectionEngine} in engine.ts.
 *
 * @module
 */
import type { Endpoints } from "../endpoints.ts";
import type { HttpsdError } from "../errors.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import type { ProxyHeader } from "./proxy_protocol.ts";
import type { ByteStreams } from "./wire.ts";

/** A client's connection whose handshake is over. */
export interface Connection extends Endpoints {
  /** The handshake's facts; `undefined` in plain mode. */
  readonly tls: TlsInfo | undefined;
  /** What a trusted proxy said of the client in its PROXY header; `undefined` where none came. */
  readonly proxy: ProxyHeader | undefined;
  /** Whether the connection is over. */
  readonly closed: boolean;
  /** Whether the connection is being closed: nothing is read or written any more. */
  readonly closing: boolean;
  /** Whether the peer has ended its side, whatever of it still waits to be taken. */
  readonly peerEnded: boolean;
  /** How many written bytes wait in this process for the peer to read. */
  readonly bufferedBytes: number;
  /**
   * The incoming bytes as a Web Stream.
   *
   * @throws {StateError} `BODY_USED` where a protocol reads the connection
   */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /**
   * The outgoing bytes as a Web Stream; closing it ends this side only, aborting it cuts both.
   *
   * @throws {StateError} `BODY_USED` where a protocol reads the connection
   */
  readonly writable: WritableStream<Uint8Array>;
  /**
   * Puts something between a plain connection and its socket: `wrap` gets the socket's own streams
   * and returns those to use instead (original: `httpd_sess_set_recv_override` and similar). What
   * has come and was not taken yet passes through it too.
   *
   * @throws {ConfigError} `NOT_SUPPORTED` on a TLS connection, where TLS has that place
   * @throws {ConnectionError} `CONNECTION_CLOSED` when a side has ended already
   */
  override(wrap: (socket: ByteStreams) => ByteStreams): void;
  /**
   * Closes gracefully: all that was written leaves, then this side ends, and what the peer still
   * sends is thrown away until it ends too, so that no reset destroys the last answer (RFC 9112
   * section 9.6). A peer that takes longer for that than the option `timeouts.lingerMs` is cut.
   */
  close(): void;
  /** Cuts the connection at once; `error` is what its end reports. */
  destroy(error?: HttpsdError): void;
}
