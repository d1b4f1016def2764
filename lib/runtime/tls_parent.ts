/**
 * Which raw socket a TLS socket was made of by a `tls.Server` that is fed with
 * `emit("connection", raw)`.
 *
 * Undocumented: `TLSSocket._parent`. With it one `tls.Server` serves all handshakes of a context. The
 * trial lets a server make a TLS socket of a raw one that never connects, and compares. Where it
 * fails, the fallback is a `tls.Server` for each handshake: what it calls back with can only be the
 * one socket. That costs time, memory, and on Bun the sessions, as each server has its own tickets.
 *
 * @module
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer, type TLSSocket } from "node:tls";
import { clearTimeout, setTimeout } from "node:timers";
import { declareInternal, type InternalState } from "./internals.ts";

/** How long the trial waits for the runtime's answer, which takes some ms. */
const TRIAL_MS = 2_000;

/** Reads what is undocumented. */
export type ReadParent = (socket: TLSSocket) => Duplex | undefined;

/** The way from a TLS socket to the raw one under it. */
export class TlsParent {
  readonly #read: ReadParent;
  #trial: Promise<void> | undefined;
  #state: InternalState = "untried";

  /** Its state is `untried` before {@linkcode TlsParent.try}. */
  constructor(
    read: ReadParent = (socket) => (socket as TLSSocket & { _parent?: Duplex })._parent,
  ) {
    this.#read = read;
  }

  /** Makes the trial, once; resolves when it is over, and never rejects. */
  try(): Promise<void> {
    return this.#trial ??= isParentRead((socket) => this.of(socket)).then((works) => {
      this.#state = works ? "in force" : "fallback";
    });
  }

  /** What the trial came to. */
  get state(): InternalState {
    return this.#state;
  }

  /** Whether {@linkcode TlsParent.of} can be relied on. */
  get works(): boolean {
    return this.#state === "in force";
  }

  /** The raw socket under a TLS socket. */
  of(socket: TLSSocket): Duplex | undefined {
    return this.#read(socket);
  }

  /** Puts the fallback in force: a socket came whose parent is not known, despite the trial. */
  giveUp(): void {
    this.#state = "fallback";
  }
}

/** Lets a handshake fail that never began, which is the one way to a socket without a network. */
function isParentRead(read: ReadParent): Promise<boolean> {
  return new Promise((resolve) => {
    const raw = new Socket();
    const timer = setTimeout(() => over(false), TRIAL_MS);
    const over = (works: boolean) => {
      clearTimeout(timer);
      resolve(works);
    };
    try {
      const server = createServer({ handshakeTimeout: -1 });
      server.on("tlsClientError", (_, socket) => over(isRead(read, socket, raw)));
      raw.on("error", () => {});
      server.emit("connection", raw);
      raw.destroy(new Error("A trial: this socket is not meant to connect"));
    } catch {
      over(false);
    }
  });
}

function isRead(read: ReadParent, socket: TLSSocket, raw: Socket): boolean {
  try {
    return read(socket) === raw;
  } catch {
    return false;
  }
}

/** The one that servers use. */
export const tlsParent: TlsParent = new TlsParent();

declareInternal("tlsParent", () => tlsParent.state);
