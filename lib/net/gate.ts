/**
 * The gate: every accepted socket passes it, or is closed by it. It looks at the first bytes, lets
 * a security context be chosen, shakes hands, and hands out a {@linkcode Connection}; all of that
 * within one deadline from accept.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { TlsError } from "../errors.ts";
import type { SecurityContext } from "../tls/context.ts";
import { toTlsError } from "../tls/tls_errors.ts";
import { readTlsInfo } from "../tls/tls_info.ts";
import { Connection, type Endpoints } from "./connection.ts";
import { after, type Deadlines, type Waiting } from "./deadlines.ts";
import {
  detectTlsFlow,
  type Flow,
  handleFlow,
  PacedSocket,
  pausingFlow,
  type TlsFlow,
} from "./flow.ts";

/** What the gate decides by, and whom it tells. */
export interface GateOptions {
  /** The context to shake hands with; `undefined` in plain mode. */
  readonly context: () => SecurityContext | undefined;
  /** How long from accept to the end of the handshake, in ms. */
  readonly handshakeTimeoutMs: number;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /** How long a closed connection waits for the peer's end, in ms. */
  readonly lingerMs: number;
  /** The clock that all deadlines are watched by. */
  readonly deadlines: Deadlines;
  /** Overrides the detected flow control; for tests of the fallback. */
  readonly tlsFlow?: TlsFlow | undefined;
  /** A connection passed the gate. */
  readonly admitted: (connection: Connection) => void;
  /** A connection did not; its socket is closed already. */
  readonly refused: (refusal: Refusal) => void;
}

/** A connection that did not pass the gate. */
export interface Refusal {
  /** Why. */
  readonly error: TlsError;
  /** Where it came from. */
  readonly endpoints: Endpoints;
  /** How far it had come. */
  readonly phase: "first bytes" | "handshake";
}

/** What a client hears that speaks HTTP to a TLS port. */
const NOT_TLS_ANSWER = Buffer.from(answer(
  "400 Bad Request",
  "This port speaks HTTPS: use https:// in the address.\n",
));

function answer(status: string, text: string): string {
  return `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
    `Content-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`;
}

/** Takes sockets in and gives connections out. */
export class Gate {
  readonly #options: GateOptions;
  readonly #waiting = new Set<Admission>();

  /** Makes a gate that knows no socket yet. */
  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** How many sockets are on their way through. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Takes a socket as accepted. */
  admit(raw: Socket): void {
    const admission = new Admission(raw, this.#options, () => this.#waiting.delete(admission));
    this.#waiting.add(admission);
    admission.begin();
  }

  /** Cuts every socket on its way. */
  close(): void {
    for (const admission of this.#waiting) {
      admission.refuse(new TlsError("TLS_PEER_CLOSED", "The server stopped during the handshake"));
    }
  }
}

/** One socket's way through the gate. */
class Admission implements Waiting {
  readonly #raw: Socket;
  readonly #options: GateOptions;
  readonly #leave: () => void;
  readonly #endpoints: Endpoints;
  #phase: Refusal["phase"] = "first bytes";
  #over = false;
  deadline: number;

  constructor(raw: Socket, options: GateOptions, leave: () => void) {
    this.#raw = raw;
    this.#options = options;
    this.#leave = leave;
    // A socket that is reset at once has no addresses any more: keep what there is now.
    this.#endpoints = {
      remoteAddress: raw.remoteAddress ?? "",
      remotePort: raw.remotePort ?? 0,
      localAddress: raw.localAddress ?? "",
      localPort: raw.localPort ?? 0,
    };
    this.deadline = after(options.handshakeTimeoutMs);
  }

  begin(): void {
    const context = this.#options.context();
    if (context === undefined) {
      const flow = pausingFlow(this.#raw);
      this.#admit(this.#connection(this.#raw, flow, undefined));
      return;
    }
    this.#options.deadlines.watch(this);
    this.#raw.on("error", this.#failed);
    this.#raw.on("close", this.#closed);
    this.#raw.once("data", (bytes: Uint8Array) => this.#firstBytes(bytes, context));
  }

  expire(): void {
    this.refuse(
      new TlsError(
        "TLS_HANDSHAKE_TIMEOUT",
        `The handshake was not over in ${this.#options.handshakeTimeoutMs} ms`,
      ),
    );
  }

  refuse(error: TlsError): void {
    if (this.#over) return void this.#raw.destroy();
    this.#settle();
    this.#leave();
    this.#raw.on("error", ignoreLateError);
    this.#raw.destroy();
    this.#options.refused({ error, endpoints: this.#endpoints, phase: this.#phase });
  }

  #firstBytes(bytes: Uint8Array, context: SecurityContext): void {
    if (this.#over) return;
    if (bytes[0] !== TLS_HANDSHAKE_RECORD) {
      this.#refuseNonTls(bytes[0]);
      return;
    }
    const raw = this.#raw;
    raw.pause();
    raw.unshift(bytes);
    this.#phase = "handshake";
    const tlsFlow = this.#options.tlsFlow ?? detectTlsFlow(raw);
    const paced = tlsFlow === "paced" ? new PacedSocket(raw) : undefined;
    const stream: Duplex = paced ?? raw;
    context.accept(stream, {
      secured: (socket) => {
        if (this.#over) return void socket.destroy();
        const flow = paced ?? (tlsFlow === "handle" ? handleFlow(raw) : pausingFlow(socket));
        this.#admit(this.#connection(socket, flow, socket));
      },
      failed: (error) => this.refuse(toTlsError(error)),
    });
  }

  /** A client that speaks plain HTTP is told so; any other is just cut. */
  #refuseNonTls(firstByte: number | undefined): void {
    const error = new TlsError("TLS_NOT_TLS", "The client does not speak TLS");
    if (!isUpperCaseLetter(firstByte)) {
      this.refuse(error);
      return;
    }
    const farewell = this.#connection(this.#raw, pausingFlow(this.#raw), undefined);
    farewell.write(NOT_TLS_ANSWER);
    farewell.finish();
    this.#settle();
    this.#raw.once("close", this.#leave);
    this.#options.refused({ error, endpoints: this.#endpoints, phase: this.#phase });
  }

  #connection(socket: Socket, flow: Flow, tls: TLSSocket | undefined): Connection {
    return new Connection({
      socket,
      raw: this.#raw,
      flow,
      endpoints: this.#endpoints,
      tls: tls && readTlsInfo(tls, false),
      sendTimeoutMs: this.#options.sendTimeoutMs,
      lingerMs: this.#options.lingerMs,
      deadlines: this.#options.deadlines,
    });
  }

  #admit(connection: Connection): void {
    this.#settle();
    this.#leave();
    this.#options.admitted(connection);
  }

  /** What the socket says from here on is for others. */
  #settle(): void {
    this.#over = true;
    this.#options.deadlines.unwatch(this);
    this.#raw.off("error", this.#failed);
    this.#raw.off("close", this.#closed);
  }

  readonly #failed = (error: Error): void => this.refuse(toTlsError(error));
  readonly #closed = (): void =>
    this.refuse(
      new TlsError("TLS_PEER_CLOSED", "The client closed before the handshake was over"),
    );
}

function isUpperCaseLetter(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x41 && byte <= 0x5a;
}

/** A refused socket may still report the reset that the refusal caused. */
function ignoreLateError(): void {}

/** The content type of the record that a ClientHello comes in (RFC 8446 section 5.1). */
const TLS_HANDSHAKE_RECORD = 0x16;
