/**
 * Takes the bytes of Deno's TLS sockets from the handle below the stream, which costs a twentieth of
 * a small request less than to have the stream pass them on.
 *
 * Undocumented: `setOnread()` and `onread` of a TLS socket's `_handle`; that what is read comes there
 * as an `ArrayBuffer` of its own, whole and from its beginning; and that anything else, such as the
 * peer's end, comes there without one. The trial is the first bytes that come to any socket: they
 * take the way through the stream, and are compared with what came to the handle. Where they differ,
 * or a handle lacks these members, all goes on through the stream.
 *
 * The end and errors always take the stream's way; bytes do, too, while the stream is not flowing or
 * has others before them. What stops a socket is `read_switch.ts`, which is below both ways.
 *
 * Writing stays with the stream: the handle's `writeBuffer()` takes any amount at once, and whether
 * `oncomplete` will follow is only in an array inside the runtime. So nothing outside can see whether
 * a peer reads (docs/internals.md).
 *
 * @module
 */
import type { Duplex } from "node:stream";
import { runtime } from "./current.ts";
import { declareInternal, type InternalState } from "./internals.ts";

/** Is called with what is read; how long it is, and why there is nothing, is inside the runtime. */
type OnRead = (this: unknown, buffer: unknown, length: unknown) => unknown;

/** What is used of a TLS socket's `_handle`. */
interface TlsHandle {
  readonly onread: OnRead;
  setOnread(onread: OnRead): void;
}

/** Takes bytes from handles, as far as the trial has shown that they are what the stream passes on. */
export class ReadsBelow {
  #state: InternalState;

  /** Begins without a trial, or where none is needed. */
  constructor(state: InternalState = runtime.name === "deno" ? "untried" : "not needed") {
    this.#state = state;
  }

  /** What the trial came to. */
  get state(): InternalState {
    return this.#state;
  }

  /** Passes the bytes of a TLS socket to `take`, where that is possible; the rest to its listeners. */
  of(socket: Duplex, take: (bytes: Uint8Array) => void): void {
    if (this.#state === "not needed" || this.#state === "fallback") return;
    const handle = handleOf(socket);
    if (handle === undefined) {
      this.#state = "fallback";
      return;
    }
    const through = handle.onread;
    const onread = (handle: unknown, buffer: unknown, length: unknown): unknown => {
      const passOn = () => through.call(handle, buffer, length);
      if (!(buffer instanceof ArrayBuffer) || buffer.byteLength === 0 || !isFlowing(socket)) {
        return passOn();
      }
      if (this.#state === "in force") return take(new Uint8Array(buffer));
      return this.#state === "untried" ? this.#compare(socket, buffer, passOn) : passOn();
    };
    handle.setOnread(function (buffer, length) {
      return onread(this, buffer, length);
    });
  }

  /** The trial: has the stream pass the bytes on, and looks whether it makes the same of them. */
  #compare(socket: Duplex, buffer: ArrayBuffer, passOn: () => unknown): unknown {
    const copy = new Uint8Array(buffer.slice(0)); // before those who get it may change it
    let passed: Uint8Array | undefined;
    const look = (piece: Uint8Array): void => void (passed = Uint8Array.from(piece));
    socket.prependListener("data", look);
    try {
      return passOn();
    } finally {
      socket.off("data", look);
      if (passed !== undefined) this.#state = isSame(copy, passed) ? "in force" : "fallback";
    }
  }
}

/** That of all servers. */
export const readsBelow: ReadsBelow = new ReadsBelow();

declareInternal("denoTlsRead", () => readsBelow.state);

function handleOf(socket: Duplex): TlsHandle | undefined {
  const handle = (socket as { _handle?: Partial<TlsHandle> | null })._handle;
  const usable = typeof handle?.onread === "function" && typeof handle.setOnread === "function";
  return usable ? handle as TlsHandle : undefined;
}

/** Whether the stream would pass bytes on at once. */
function isFlowing(socket: Duplex): boolean {
  return socket.readableFlowing === true && socket.readableLength === 0 && !socket.destroyed;
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, i) => byte === other[i]);
}
