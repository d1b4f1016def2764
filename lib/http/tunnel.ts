/**
 * The seam between HTTP and what takes a request's place: after an upgrade, bytes go both ways on a
 * {@linkcode Tunnel}, and a {@linkcode Protocol} speaks on it. An HTTP/1.1 connection is a tunnel
 * after its 101 (RFC 9110 section 7.8); an HTTP/2 stream is one after an extended CONNECT (RFC
 * 8441). Neither side sees what carries the other.
 *
 * @module
 */
import type { HttpsdError } from "../errors.ts";
import type { Clock } from "../net/clock.ts";

/** Bytes both ways, with back-pressure and one deadline. */
export interface Tunnel {
  /** The clock that the deadline is a time of. */
  readonly clock: Clock;
  /** When the protocol's `expired()` is called, on the clock; `Infinity`: never. */
  deadline: number;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /**
   * Until when a peer that must read counts as one that does, slow as it may be, on the clock;
   * `-Infinity` while it need not read. A protocol that waits for it to read waits at least so long.
   */
  readonly readUntil: number;
  /** Whether the client can send nothing now, since others hold back what it sent to them. */
  readonly muted?: boolean;
  /**
   * When what carries the tunnel is as old as it may become (`maxConnectionAgeMs`), on the clock;
   * the program is not waited for much longer then. `Infinity`: never.
   */
  readonly oldAt: number;
  /** Whether the tunnel is over. */
  readonly closed: boolean;
  /** Whether `close()` was called: nothing is read or written any more. */
  readonly closing: boolean;
  /** Whether the peer has ended its side, whatever still waits to be taken. */
  readonly peerEnded: boolean;
  /** Whether the peer has ended its side and every byte of it has been taken. */
  readonly ended: boolean;
  /** Whether no more is read, since too much waits: until some is taken the peer's end is not seen. */
  readonly stopped: boolean;
  /** How many written bytes wait in this process for the peer to read. */
  readonly bufferedBytes: number;
  /** Returns the time on the clock that lies `ms` ahead. */
  after(ms: number): number;
  /** Takes the next received bytes, `undefined` when none wait. They belong to the caller. */
  take(): Uint8Array | undefined;
  /**
   * Counts bytes that were taken, and wait for the program, as waiting to be taken still; `bytes`
   * are all of them now.
   */
  hold(bytes: number): void;
  /**
   * Writes bytes, which must not be changed afterwards. `false`: stop until `drained()`; the bytes
   * are taken in either case. After the end they are discarded.
   */
  write(bytes: Uint8Array): boolean;
  /** Gathers the writes that follow until `uncork()`, so that they leave as one. Calls nest. */
  cork(): void;
  /** Sends what was gathered since `cork()`. */
  uncork(): void;
  /** Closes gracefully: all that was written leaves, then both sides end. */
  close(): void;
  /** Cuts the tunnel at once; `error` is passed on to the protocol's `closed()`. */
  destroy(error?: HttpsdError): void;
}

/** What speaks on a tunnel. What carries the tunnel calls these methods. */
export interface Protocol {
  /** The protocol's name, such as `websocket`. */
  readonly kind: string;
  /** Bytes can be taken, or the peer has ended its side and all of them are taken. */
  bytesReady(): void;
  /** The peer has ended its side; what it had sent before may still wait to be taken. Once. */
  peerEnded(): void;
  /** The tunnel is stopped, since too much waits. */
  stopped(): void;
  /** Writing may go on, after a write that returned `false`. */
  drained(): void;
  /** The tunnel's `deadline` has passed. */
  expired(): void;
  /** The tunnel is over, once; with an error unless both sides ended gracefully. */
  closed(error: HttpsdError | undefined): void;
  /** Ends the protocol gracefully because the session is to end, then calls the tunnel's `close()`. */
  shutdown(): void;
  /**
   * Sends the protocol's last message now, because the session's place is needed and the tunnel is
   * cut after it.
   */
  leave(): void;
}

/** An upgrade that a handler may ask for while it runs, and that its response then decides. */
export interface UpgradeOffer {
  /**
   * Performs the upgrade if `response` is the one that asks for it; returns `false` when it is
   * not, so that it has to be sent.
   */
  complete(response: unknown): boolean;
  /** Ends the offer, once the handler is over: an upgrade that was not performed never will be. */
  withdraw(): void;
}
