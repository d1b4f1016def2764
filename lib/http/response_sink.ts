/**
 * What carries one response to its client: an HTTP/1.1 connection, or a `Response` for a platform.
 * It knows how bytes travel; what may be said in a response is the `ResponseWriter`'s to decide.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";
import type { Chunk } from "../net/chunks.ts";
import type { Fields } from "./response_rules.ts";

/** How the head of a response ends. */
export interface HeadEnd {
  /** What `Content-Length` says; `undefined`: nothing. */
  readonly length: number | undefined;
  /** Whether a body follows. */
  readonly hasBody: boolean;
  /** Whether there was a `Date` among the fields. */
  readonly dated: boolean;
}

/**
 * Carries one response. A writer calls `begin()`, `field()` for each field, then `open()` or
 * `whole()`: nothing may leave before one of these two. It calls nothing after the end, after
 * `abort()`, or after `gone()`.
 */
export interface ResponseSink {
  /** Whether the connection may serve another request after this response. */
  readonly keepAlive: boolean;
  /** Whether the client has to read before more can be written. */
  readonly blocked: boolean;
  /** How many bytes of the body wait. */
  readonly queuedBytes: number;
  /**
   * Makes this the last response of the connection, which its head says if it has not left. `isAsked`:
   * a field of the answer asks for that, which a handler can do on every connection; otherwise it is
   * the server that cannot or will not serve another request behind this one.
   */
  closeAfterwards(isAsked: boolean): void;
  /**
   * Sends an interim response, such as 103.
   *
   * @throws {StateError} `NOT_SUPPORTED` where there are none
   */
  informational(status: number, fields: Fields): void;
  /**
   * Sends the 101, or what is in its place, after which the connection speaks another protocol.
   *
   * @returns the status that was sent
   * @throws {StateError} `NOT_SUPPORTED` where a request has no connection of its own
   */
  switchProtocols(fields: Fields): number;
  /**
   * Sends what `data()` gets without a head and without framing.
   *
   * @throws {StateError} `NOT_SUPPORTED` where there are no raw bytes
   */
  raw(): void;
  /**
   * Begins the head of the final response.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a status or reason that cannot be sent
   */
  begin(status: number, reason: string | undefined): void;
  /**
   * Adds a field to the head.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
   */
  field(name: string, value: string): void;
  /** Adds an `Upgrade` field, which belongs to the connection (RFC 9110 section 15.5.22). */
  offer(protocols: string): void;
  /** Sends the head; the body, if there is one, follows with `data()` and `end()`. */
  open(head: HeadEnd): void;
  /**
   * Sends the head and all of the body; returns as `end()` does. The memory of a body that `isOwn`
   * may be freed when it was sent.
   */
  whole(head: HeadEnd, body: Chunk, isOwn: boolean): boolean;
  /** Takes body bytes; `false`: the client has to read before the next. */
  data(chunk: Chunk): boolean;
  /**
   * Ends the body; `false`: some of it waits for the client to read.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a trailer field that HTTP does not allow
   */
  end(trailers: Fields): boolean;
  /** Goes on when the client may have read; returns what `data()` or `end()` would now. */
  resume(): boolean;
  /** Cuts the response so that the client cannot take it for whole. */
  abort(error: HttpsdError): void;
  /** Lets go of all that waits, since no client will read it. */
  gone(reason: HttpsdError): void;
}
