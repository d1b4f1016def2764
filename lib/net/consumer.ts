/**
 * What a connection reports to: the protocol that reads it, and what counts its bytes.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";

/** What reads a connection: the HTTP session, a WebSocket, or the Web Streams. */
export interface Consumer {
  /** Bytes can be taken, or the peer has ended its side and all of them are taken. */
  bytesReady(): void;
  /** The peer has ended its side; what it had sent before may still wait to be taken. Once. */
  peerEnded(): void;
  /** The socket is stopped, since too much waits: until some is taken the peer's end is not seen. */
  stopped(): void;
  /** After a write that returned `false`: writing may go on. */
  drained(): void;
  /** `connection.deadline` has passed. */
  expired(): void;
  /**
   * The connection is over, once; with an error unless both sides ended gracefully. What a peer
   * sent before it ended its side may still be taken, unless this side cut the connection.
   */
  closed(error: HttpsdError | undefined): void;
}

/** Counts the bytes of a connection as they pass: the source of `data` and `sent` events. */
export interface Observer {
  /** So many bytes were read from the socket, after decryption. */
  received(bytes: number): void;
  /** So many bytes were written to the socket, before encryption. */
  sent(bytes: number): void;
}
