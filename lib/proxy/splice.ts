/**
 * A WebSocket between the client and the upstream: bytes both ways as they are, so that extensions
 * are agreed on between the two ends, and no message is held here.
 *
 * @module
 */
import type { Socket } from "node:net";
import { ConnectionError, type HttpsdError } from "../errors.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import { sparesReader } from "../net/slow_reader.ts";

/** Passes bytes on between a tunnel and a socket; none is read from the one that the other does not take. */
export class Splice implements Protocol {
  readonly kind = "websocket";
  readonly #tunnel: Tunnel;
  readonly #socket: Socket;
  readonly #idleMs: number;
  /** Whether the upstream has not read what it was sent. */
  #isFull = false;

  /** Joins the client's side and the upstream's, which has sent `head` already. */
  constructor(tunnel: Tunnel, socket: Socket, head: Uint8Array, idleMs: number) {
    this.#tunnel = tunnel;
    this.#socket = socket;
    this.#idleMs = idleMs;
    socket.on("data", (bytes: Uint8Array) => this.#toClient(bytes));
    socket.on("drain", () => {
      this.#isFull = false;
      this.bytesReady();
    });
    socket.on("end", () => tunnel.close());
    socket.on("error", () => this.#lost());
    socket.on("close", () => this.#lost());
    socket.pause();
    queueMicrotask(() => {
      if (head.length > 0) this.#toClient(head);
      if (!this.#isStuck) socket.resume();
      this.#moved();
    });
  }

  /** Whether the client has not read what it was sent. */
  #isStuck = false;

  bytesReady(): void {
    while (!this.#isFull) {
      const bytes = this.#tunnel.take();
      if (bytes === undefined) break;
      this.#isFull = !this.#socket.write(bytes);
      this.#moved();
    }
    // Over HTTP/2 a client may send only as much again as waits no more.
    this.#tunnel.hold(this.#isFull ? this.#socket.writableLength : 0);
    if (this.#tunnel.ended) this.#socket.end();
  }

  peerEnded(): void {
    if (this.#tunnel.ended) this.#socket.end();
  }

  /** Too much waits for an upstream that does not read: the deadline is what ends that. */
  stopped(): void {}

  drained(): void {
    this.#isStuck = false;
    this.#socket.resume();
  }

  expired(): void {
    if (sparesReader(this.#tunnel)) return;
    const message = "No byte went either way on a WebSocket that is passed on";
    this.#tunnel.destroy(new ConnectionError("CONNECTION_TIMEOUT", message));
  }

  closed(_error: HttpsdError | undefined): void {
    this.#socket.destroy();
  }

  /** A Close frame of this server's could land inside another frame: the upstream is left instead. */
  shutdown(): void {
    this.#socket.end();
    this.#tunnel.close();
  }

  leave(): void {}

  #toClient(bytes: Uint8Array): void {
    if (this.#tunnel.closed || this.#tunnel.closing) return;
    this.#moved();
    if (this.#tunnel.write(bytes)) return;
    this.#isStuck = true;
    this.#socket.pause();
  }

  #moved(): void {
    this.#tunnel.deadline = this.#tunnel.after(this.#idleMs);
  }

  /** The upstream is gone; after its end this is the rest of a graceful close. */
  #lost(): void {
    if (this.#tunnel.closed || this.#tunnel.closing) return;
    const message = "The upstream of a WebSocket is gone";
    this.#tunnel.destroy(new ConnectionError("CONNECTION_CLOSED", message));
  }
}
