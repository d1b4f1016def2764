/**
 * Accepted sockets of `node:net`, over which `node:tls` shakes hands.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Endpoints, endpointsOf } from "../endpoints.ts";
import {
  detectTlsFlow,
  handleFlow,
  PacedSocket,
  pausingFlow,
  type TlsFlow,
} from "../runtime/read_switch.ts";
import type { SecurityContext } from "../tls/context.ts";
import type { Arrival, ArrivalGuest, HandshakeEnd } from "./arrival.ts";
import { concludeHandshake } from "./steps/handshake.ts";
import { StreamWire, type Wire } from "./wire.ts";

/** Where a socket keeps its arrival, for listeners that all sockets share. */
const ARRIVAL = Symbol("arrival");

interface Carrier extends Duplex {
  [ARRIVAL]: NodeArrival;
}

function reportData(this: Carrier, bytes: Uint8Array): void {
  this[ARRIVAL].guest?.onData(bytes);
}

function reportEnd(this: Carrier): void {
  this[ARRIVAL].guest?.onEnd();
}

function reportError(this: Carrier, error: Error): void {
  this[ARRIVAL].guest?.onError(error);
}

function reportRawClose(this: Carrier): void {
  this[ARRIVAL].rawClosed();
}

function reportClose(this: Carrier): void {
  this[ARRIVAL].closed();
}

/** A socket of `node:net`. */
export class NodeArrival implements Arrival {
  readonly endpoints: Endpoints;
  /** What it reports to. */
  guest: ArrivalGuest | undefined;
  readonly #raw: Socket;
  readonly #tlsFlow: TlsFlow | undefined;
  /** What a handshake failed over, to be destroyed in place of the raw socket: it lets an alert out. */
  #failed: Duplex | undefined;
  #isSecured = false;
  #isClosed = false;

  /** Takes a socket that was accepted just now; `tlsFlow` overrides what was detected, for tests. */
  constructor(raw: Socket, tlsFlow?: TlsFlow) {
    this.#raw = raw;
    this.#tlsFlow = tlsFlow;
    this.endpoints = endpointsOf(raw);
    (raw as unknown as Carrier)[ARRIVAL] = this;
    raw.on("error", reportError);
    raw.on("end", reportEnd);
    raw.on("close", reportRawClose);
  }

  reportTo(guest: ArrivalGuest): void {
    this.guest = guest;
  }

  read(): void {
    this.#raw.on("data", reportData);
  }

  hold(bytes: Uint8Array): void {
    this.#raw.off("data", reportData);
    this.#raw.pause();
    if (bytes.length > 0) this.#raw.unshift(bytes);
  }

  keepAlive(idleMs: number): void {
    this.#raw.setKeepAlive(true, idleMs);
  }

  plain(): Wire {
    this.#raw.off("data", reportData);
    this.#raw.resume(); // from the next tick on, when the wire is open
    return new StreamWire(this.#raw, this.#raw, pausingFlow(this.#raw), false);
  }

  shakeHands(context: SecurityContext, end: HandshakeEnd): void {
    const raw = this.#raw;
    const tlsFlow = this.#tlsFlow ?? detectTlsFlow(raw);
    const paced = tlsFlow === "paced" ? new PacedSocket(raw) : undefined;
    const stream: Duplex = paced ?? raw;
    stream.allowHalfOpen = false; // or Deno does not see a client that leaves in the handshake
    context.accept(stream, {
      secured: (socket) => {
        stream.allowHalfOpen = socket.allowHalfOpen = true;
        const flow = paced ?? (tlsFlow === "handle" ? handleFlow(raw) : pausingFlow(socket));
        // The raw socket's own close does not count: on Bun it comes with the client's end.
        this.#isSecured = true;
        (socket as unknown as Carrier)[ARRIVAL] = this;
        socket.on("close", reportClose);
        const wire = new StreamWire(socket, raw, flow, true);
        concludeHandshake({ wire, handshake: socket, context }, end);
      },
      failed: (error) => {
        this.#failed = stream;
        end.failed(error);
      },
    });
  }

  /** The raw socket is closed. */
  rawClosed(): void {
    if (!this.#isSecured) this.closed();
  }

  /** The socket is closed. */
  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.guest?.onClose();
  }

  destroy(): void {
    (this.#failed ?? this.#raw).destroy();
  }
}
