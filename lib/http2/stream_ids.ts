/**
 * The numbers of a client's streams: which are idle, and which are over and why (RFC 9113 section
 * 5.1.1). Streams that are open are known elsewhere.
 *
 * @module
 */

/** So many of the streams that this side has reset are known at least. */
const MIN_RESETS_KNOWN = 256;

/** The numbers of one connection. */
export class StreamIds {
  #highest = 0;
  /** The numbers that the client has left out last. */
  #skippedFrom = 0;
  #skippedTo = 0;
  #reset: Set<number> | undefined;
  readonly #mostKnown: number;

  /**
   * Makes the numbers of a connection with at most `maxStreams` at a time. What a client has sent for
   * a stream before it heard of its reset may come while as many others are reset, and the next ones.
   */
  constructor(maxStreams: number) {
    this.#mostKnown = Math.max(MIN_RESETS_KNOWN, 2 * maxStreams);
  }

  /** Whether no stream has begun yet that has this number or a higher one. */
  isIdle(id: number): boolean {
    return id > this.#highest;
  }

  /** Takes note that an idle stream begins, with which all lower idle ones are over. */
  begin(id: number): void {
    if (id > this.#highest + 2) {
      this.#skippedFrom = this.#highest + 1;
      this.#skippedTo = id - 1;
    }
    this.#highest = id;
  }

  /** Whether a stream is over that never began, as far as that is known. */
  wasSkipped(id: number): boolean {
    return id >= this.#skippedFrom && id <= this.#skippedTo;
  }

  /** Takes note that this side has reset a stream: what comes for it means nothing. */
  reset(id: number): void {
    const known = this.#reset ??= new Set();
    known.add(id);
    if (known.size <= this.#mostKnown) return;
    for (const oldest of known) {
      known.delete(oldest);
      return;
    }
  }

  /** Whether this side has reset a stream, of the last ones. */
  wasReset(id: number): boolean {
    return this.#reset?.has(id) === true;
  }
}
