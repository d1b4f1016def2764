/**
 * Flow control: how many bytes of DATA each side may send, on a stream and on the whole connection
 * (RFC 9113 sections 5.2 and 6.9).
 *
 * @module
 */
import { MAX_WINDOW } from "./bounds.ts";

/** A WINDOW_UPDATE of less is not worth a frame, nor is DATA. */
export const TINY_BYTES = 256;

/** How much this side may send. */
export class SendWindow {
  #size: number;

  /** Makes a window of `size` bytes. */
  constructor(size: number) {
    this.#size = size;
  }

  /** How many bytes may be sent now; below 0 after the client has made its windows smaller. */
  get size(): number {
    return this.#size;
  }

  /** Takes `bytes` that are sent, at most {@linkcode SendWindow.size}. */
  take(bytes: number): void {
    this.#size -= bytes;
  }

  /**
   * Grows by a WINDOW_UPDATE, or changes by what SETTINGS_INITIAL_WINDOW_SIZE has changed, up or
   * down. `false`: the window would be larger than 2^31-1, a `FLOW_CONTROL_ERROR`; it stays.
   */
  change(delta: number): boolean {
    if (this.#size + delta > MAX_WINDOW) return false;
    this.#size += delta;
    return true;
  }
}

/**
 * How much the client may send. Bytes are owed to it once they have been read by what they are for;
 * they are given back in one WINDOW_UPDATE when half of the window is owed.
 */
export class ReceiveWindow {
  /** How many bytes the client may still send. */
  #size: number;
  /** How many bytes may be given back. */
  #owed: number;
  readonly #half: number;

  /**
   * Makes a window of `target` bytes of which the client knows `size` so far. What is missing is
   * owed to it: call {@linkcode ReceiveWindow.giveBack} with 0 for the first WINDOW_UPDATE.
   */
  constructor(target: number, size: number = target) {
    this.#size = size;
    this.#owed = Math.max(0, target - size);
    this.#half = Math.ceil(target / 2);
  }

  /** How many bytes the client may still send. */
  get size(): number {
    return this.#size;
  }

  /** Counts bytes that have come; `false`: more than the window allowed, a `FLOW_CONTROL_ERROR`. */
  receive(bytes: number): boolean {
    this.#size -= bytes;
    return this.#size >= 0;
  }

  /**
   * Gives back bytes that take no more memory here; 0 for whatever is owed. Returns the increment of
   * the WINDOW_UPDATE that is to be sent now, or 0 while it is too early for one.
   */
  giveBack(bytes: number): number {
    this.#owed += bytes;
    if (this.#owed < this.#half && bytes > 0) return 0;
    const increment = this.#owed;
    this.#size += increment;
    this.#owed = 0;
    return increment;
  }

  /**
   * Changes by what the client's window has changed when it acknowledged a
   * SETTINGS_INITIAL_WINDOW_SIZE: for a stream that was open before, with the size of then.
   */
  change(delta: number): void {
    this.#size += delta;
  }
}
