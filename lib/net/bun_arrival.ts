/**
 * Accepted sockets of Bun's own, over which `upgradeTLS` shakes hands.
 *
 * @module
 */
import type { X509Certificate } from "node:crypto";
import type { Endpoints } from "../endpoints.ts";
import { unmapped } from "../mapped_address.ts";
import { TlsError } from "../errors.ts";
import {
  type BunHandlers,
  type BunSocket,
  isTlsFault,
  readFault,
  tlsFault,
} from "../runtime/bun_sockets.ts";
import type { SecurityContext } from "../tls/context.ts";
import { certificateRefused, toTlsError } from "../tls/tls_errors.ts";
import type { Handshaken } from "../tls/handshaken.ts";
import type { Arrival, ArrivalGuest, HandshakeEnd } from "./arrival.ts";
import { BunWire, cut, type SocketOwner, throwOutside } from "./bun_wire.ts";
import { join } from "./chunks.ts";
import { concludeHandshake } from "./steps/handshake.ts";
import type { Wire } from "./wire.ts";

/** The handlers of what is accepted; `accepted` is called with each. */
export function arrivalHandlers(accepted: (arrival: BunArrival) => void): BunHandlers {
  return {
    ...PASSING_ON,
    open(socket) {
      socket.setNoDelay(true);
      accepted(new BunArrival(socket));
    },
  };
}

/** Where the socket below TLS has handlers but no owner, it is the one above that counts. */
const PASSING_ON: BunHandlers = {
  data: ({ data }, bytes) => (data as SocketOwner | undefined)?.onData(bytes),
  drain: ({ data }) => (data as SocketOwner | undefined)?.onDrain(),
  end: ({ data }) => (data as SocketOwner | undefined)?.onEnd(),
  close: ({ data }, error) => (data as SocketOwner | undefined)?.onClosed(error),
  error({ data }, error) {
    if (data === undefined) throwOutside(error);
    else (data as SocketOwner).onError(error);
  },
};

const SECURE: BunHandlers = {
  ...PASSING_ON,
  handshake: ({ data }, ok, error) => (data as BunArrival).shaken(ok, error),
};

const NO_BYTES = new Uint8Array(0);

/** One of Bun's own sockets, before it is a wire. */
export class BunArrival implements Arrival, SocketOwner {
  readonly endpoints: Endpoints;
  #socket: BunSocket;
  /** The socket below TLS. */
  #below: BunSocket | undefined;
  #guest: ArrivalGuest | undefined;
  /** What was read and is to be read again. */
  #unread: Uint8Array = NO_BYTES;
  #isReading = false;
  #isPaused = false;
  #isOver = false;
  #isClosed = false;
  #wire: BunWire | undefined;
  #context: SecurityContext | undefined;
  #end: HandshakeEnd | undefined;

  /** Takes a socket that was accepted just now. */
  constructor(socket: BunSocket) {
    this.#socket = socket;
    socket.data = this;
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
    this.endpoints = {
      remoteAddress: unmapped(remoteAddress),
      remotePort,
      localAddress: unmapped(localAddress),
      localPort,
    };
  }

  reportTo(guest: ArrivalGuest): void {
    this.#guest = guest;
    this.#wire?.reportTo(guest);
  }

  read(): void {
    this.#isReading = true;
    const unread = this.#unread;
    this.#unread = NO_BYTES;
    if (unread.length > 0) this.#guest?.onData(unread);
    if (this.#isReading) this.#resume();
  }

  /** The socket itself is stopped when more comes, which is rare: two calls of the system less. */
  hold(bytes: Uint8Array): void {
    this.#isReading = false;
    this.#unread = bytes;
  }

  #resume(): void {
    if (!this.#isPaused || this.#isOver) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  keepAlive(idleMs: number): void {
    this.#socket.setKeepAlive(true, idleMs);
  }

  plain(): Wire {
    this.#resume();
    return new BunWire(this.#socket, this.#below, this.#guest);
  }

  shakeHands(context: SecurityContext, end: HandshakeEnd): void {
    this.#context = context;
    this.#end = end;
    const below = this.#socket;
    try {
      const pair = below.upgradeTLS({
        isServer: true,
        initialData: this.#unread,
        data: this,
        tls: context.bunTls(),
        socket: SECURE,
      });
      this.#unread = NO_BYTES;
      if (pair === undefined) return; // it is closed, which is reported next
      [this.#below, this.#socket] = pair;
      this.#below.data = undefined;
      this.#resume();
    } catch (cause) {
      const error = new TlsError("TLS_ERROR", "The runtime cannot use the certificate", { cause });
      queueMicrotask(() => this.#fail(error));
    }
  }

  /** The handshake is over. */
  shaken(ok: boolean, error: Error | null): void {
    if (this.#isOver) return;
    if (!ok) return this.#fail(toTlsError(tlsFault(error ?? new Error("The handshake failed"))));
    const context = this.#context!;
    if (error !== null && context.bunTls().rejectUnauthorized) {
      const { authorizationError } = new BunHandshake(this.#socket, error);
      return this.#fail(certificateRefused(authorizationError!, { cause: error }));
    }
    this.#isOver = true;
    const handshake = new BunHandshake(this.#socket, error);
    this.#wire = new BunWire(this.#socket, this.#below, this.#guest);
    concludeHandshake({ wire: this.#wire, handshake, context }, this.#end!);
  }

  #fail(error: TlsError): void {
    const end = this.#end;
    this.#end = undefined;
    end?.failed(error);
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    cut(this.#socket, this.#below, () => this.#isClosed);
  }

  onData(bytes: Uint8Array): void {
    if (this.#isOver) return;
    if (this.#isReading) return this.#guest?.onData(bytes);
    this.#unread = join([this.#unread, bytes], this.#unread.length + bytes.length);
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#socket.pause();
  }

  onDrain(): void {}

  onEnd(): void {
    if (!this.#isOver) this.#guest?.onEnd();
  }

  onError(error: Error): void {
    if (!isTlsFault(error)) throwOutside(error);
    else if (!this.#isOver) this.#fail(toTlsError(tlsFault(error)));
  }

  /** Reports in a microtask: the socket may have been closed by a call from here. */
  onClosed(error: Error | undefined): void {
    // A handshake that fails within upgradeTLS() closes both sockets before one is known as the lower.
    if (this.#isClosed) return;
    const wasOver = this.#isOver;
    this.#isOver = this.#isClosed = true;
    queueMicrotask(() => {
      if (error !== undefined && !wasOver) this.#guest?.onError(readFault(error));
      this.#guest?.onClose();
    });
  }
}

/** What one of Bun's own sockets knows of its handshake, as `node:tls` says it. */
class BunHandshake implements Handshaken {
  readonly #socket: BunSocket;
  readonly #error: Error | null;

  constructor(socket: BunSocket, error: Error | null) {
    this.#socket = socket;
    this.#error = error;
  }

  get authorized(): boolean {
    return this.#error === null;
  }

  get authorizationError(): string | undefined {
    if (this.#error === null) return undefined;
    return (this.#error as NodeJS.ErrnoException).code ?? this.#error.message;
  }

  get alpnProtocol(): string | false | null {
    return this.#socket.alpnProtocol;
  }

  getProtocol(): string {
    return this.#socket.getTLSVersion();
  }

  getCipher(): { readonly name: string } | undefined {
    return this.#socket.getCipher();
  }

  isSessionReused(): boolean {
    return this.#socket.isSessionReused();
  }

  /** Not the socket's own, which takes five times as long: nothing but the bytes is asked for. */
  getPeerCertificate(): { readonly raw: Uint8Array } | undefined {
    return this.getPeerX509Certificate();
  }

  getPeerX509Certificate(): X509Certificate | undefined {
    return this.#socket.getPeerX509Certificate();
  }
}
