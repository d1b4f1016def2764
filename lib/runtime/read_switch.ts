/**
 * Stops and starts the bytes of one socket, so that a paused reader holds a bounded queue whatever
 * its peer sends.
 *
 * On Bun, and for plain TCP on both runtimes, `pause()` and `resume()` do this. Deno's `TLSSocket`
 * ignores them: there the raw handle under the TLS is stopped.
 *
 * Undocumented: `readStop()` and `readStart()` of a socket's `_handle`. Each socket is checked
 * before its handshake. The fallback is {@linkcode PacedSocket} between TCP and TLS, made of public
 * API only.
 *
 * @module
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { runtime } from "./current.ts";
import { declareInternal, type InternalState } from "./internals.ts";

/** Stops and starts one socket's bytes. */
export interface Flow {
  /** Stops the bytes, after those on their way through the runtime. */
  stop(): void;
  /** Starts the bytes again. */
  start(): void;
}

/** How the bytes under a TLS socket are stopped. */
export type TlsFlow = "pause" | "handle" | "paced";

/** The way that suits the running runtime, or the fallback where its handle has changed. */
export function detectTlsFlow(raw: Socket): TlsFlow {
  if (runtime.name !== "deno") return "pause";
  const works = rawHandle(raw) !== undefined;
  state = works ? "in force" : "fallback";
  return works ? "handle" : "paced";
}

let state: InternalState = runtime.name === "deno" ? "untried" : "not needed";

declareInternal("readSwitch", () => state);

/** The flow of a socket that obeys `pause()` and `resume()`. */
export function pausingFlow(socket: Duplex): Flow {
  return { stop: () => void socket.pause(), start: () => void socket.resume() };
}

/** The flow of Deno's TLS sockets: the handle of the raw socket under them. */
export function handleFlow(raw: Socket): Flow {
  return {
    stop: () => void rawHandle(raw)?.readStop(),
    start: () => void rawHandle(raw)?.readStart(),
  };
}

interface RawHandle {
  readStop(): void;
  readStart(): void;
}

function rawHandle(raw: Socket): RawHandle | undefined {
  const handle = (raw as { _handle?: Partial<RawHandle> | null })._handle;
  const usable = typeof handle?.readStop === "function" && typeof handle.readStart === "function";
  return usable ? handle as RawHandle : undefined;
}

/** Deno writes a fatal alert after it has destroyed the stream: see docs/runtimes.md. */
const ALERT_GRACE_MS = 20;

/** A TCP socket as a Duplex whose reading side really stops. */
export class PacedSocket extends Duplex implements Flow {
  readonly #raw: Socket;
  #stopped = false;
  #doomed = false;

  /** Takes over a raw socket, with the bytes that were unshifted into it. */
  constructor(raw: Socket) {
    super({ allowHalfOpen: true });
    this.#raw = raw;
    raw.on("data", (bytes) => {
      if (!this.push(bytes) || this.#stopped) raw.pause();
    });
    raw.on("end", () => this.push(null));
    raw.on("error", (error) => super.destroy(error));
    raw.on("close", () => super.destroy());
  }

  /** Destroys the stream and its socket, after a moment in which it can still be written. */
  override destroy(error?: Error): this {
    if (this.#doomed) return this;
    this.#doomed = true;
    setTimeout(() => super.destroy(error), ALERT_GRACE_MS);
    return this;
  }

  stop(): void {
    this.#stopped = true;
    this.#raw.pause();
  }

  start(): void {
    this.#stopped = false;
    this.#raw.resume();
  }

  override _read(): void {
    if (!this.#stopped) this.#raw.resume();
  }

  override _write(bytes: Uint8Array, _: string, done: (error?: Error | null) => void): void {
    this.#raw.write(bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#raw.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#raw.destroy();
    done(error);
  }
}
