/**
 * Which stream writes next, where several could (RFC 9218 section 10).
 *
 * The more urgent goes first. Among equals those go first that have sent little: a small answer does
 * not wait for a large download, which a client may have asked for before with the same urgency, as
 * all do that send no priorities. Then streams that are not incremental go one after the other, in
 * the order of their numbers, and incremental ones by turns; where there are both, each kind has
 * every other turn. One turn in sixteen is left to what would have to wait, so that it does not
 * starve.
 *
 * @module
 */
import { FRAME_HEADER_BYTES } from "./frame_type.ts";
import type { Priority } from "./priority.ts";

/**
 * How much a stream writes when it is its turn, in bytes: a frame that every client takes, and that
 * fills a TLS record with its header.
 */
export const TURN_BYTES: number = 16 * 1024 - FRAME_HEADER_BYTES;

/** Up to so many bytes an answer counts as small. */
const SMALL_BYTES = 64 * 1024;
/** Every so many turns, what would have to wait has one. */
const SPARED_TURN = 16;

/** A stream, as far as its turns go. Made with `group` -1 and `sentBytes` 0. */
export interface Scheduled {
  /** The number of the stream. */
  readonly id: number;
  /** What the client wants; {@linkcode Scheduler.reprioritize} changes it. */
  priority: Priority;
  /** How much it has sent; the scheduler counts it. */
  sentBytes: number;
  /** Where it waits, or -1 while it does not; the scheduler's own. */
  group: number;
}

/** What waits in one group. */
class Group<T extends Scheduled> {
  /** Streams that are not incremental, by their numbers. */
  readonly sequential: T[] = [];
  /** Incremental streams, by their turns. */
  readonly rotating: T[] = [];
  #sequentialNext = true;

  get isEmpty(): boolean {
    return this.sequential.length === 0 && this.rotating.length === 0;
  }

  /** Returns whose turn it is. */
  first(): T {
    if (this.sequential.length === 0) return this.rotating[0]!;
    if (this.rotating.length === 0) return this.sequential[0]!;
    return this.#sequentialNext ? this.sequential[0]! : this.rotating[0]!;
  }

  add(stream: T): void {
    if (stream.priority.incremental) {
      this.rotating.push(stream);
      return;
    }
    let at = this.sequential.length;
    while (at > 0 && this.sequential[at - 1]!.id > stream.id) at--;
    this.sequential.splice(at, 0, stream);
  }

  remove(stream: T): void {
    const queue = this.#queueOf(stream);
    if (queue[0] === stream) queue.shift();
    else queue.splice(queue.indexOf(stream), 1);
  }

  /** Ends a stream's turn. */
  turn(stream: T): void {
    this.#sequentialNext = stream.priority.incremental;
    if (!stream.priority.incremental) return;
    this.remove(stream);
    this.rotating.push(stream);
  }

  #queueOf(stream: T): T[] {
    return stream.priority.incremental ? this.rotating : this.sequential;
  }
}

/** The streams of one connection that have something to write and may write it. */
export class Scheduler<T extends Scheduled> {
  /** By urgency, and for each: what has sent little, and what has sent much. */
  readonly #groups: (Group<T> | undefined)[] = [];
  /** The groups that are not empty, a bit each. */
  #waiting = 0;
  #turns = 0;
  /** The group that a turn was left to last. */
  #spared = 0;

  /** Whether no stream waits for its turn. */
  get isEmpty(): boolean {
    return this.#waiting === 0;
  }

  /** Adds a stream that has something to write, unless it waits already. */
  add(stream: T): void {
    if (stream.group !== -1) return;
    const index = groupOf(stream);
    const group = this.#groups[index] ??= new Group<T>();
    stream.group = index;
    group.add(stream);
    this.#waiting |= 1 << index;
  }

  /** Takes out a stream that has no more to write, must not, or is over. */
  remove(stream: T): void {
    if (stream.group === -1) return;
    const group = this.#groups[stream.group]!;
    group.remove(stream);
    if (group.isEmpty) this.#waiting &= ~(1 << stream.group);
    stream.group = -1;
  }

  /** Changes what the client wants. */
  reprioritize(stream: T, priority: Priority): void {
    const waits = stream.group !== -1;
    this.remove(stream);
    stream.priority = priority;
    if (waits) this.add(stream);
  }

  /** Returns the stream that writes next, up to {@linkcode TURN_BYTES}; `undefined`: none waits. */
  next(): T | undefined {
    if (this.#waiting === 0) return undefined;
    const first = lowestBit(this.#waiting);
    const others = this.#waiting & ~(1 << first);
    if (others === 0 || this.#turns % SPARED_TURN !== SPARED_TURN - 1) {
      return this.#groups[first]!.first();
    }
    return this.#groups[this.#nextSpared(others)]!.first();
  }

  /** Counts what a stream has written in its turn, which is over. */
  wrote(stream: T, bytes: number): void {
    stream.sentBytes += bytes;
    this.#turns++;
    if (stream.group === -1) return;
    if (this.#turns % SPARED_TURN === 0) this.#spared = stream.group;
    this.#groups[stream.group]!.turn(stream);
    if (stream.group === groupOf(stream)) return;
    this.remove(stream);
    this.add(stream);
  }

  /** The groups that are not the first have the spared turns one after the other. */
  #nextSpared(others: number): number {
    const behind = others & ~((2 << this.#spared) - 1);
    return lowestBit(behind === 0 ? others : behind);
  }
}

function groupOf({ priority, sentBytes }: Scheduled): number {
  return priority.urgency * 2 + (sentBytes >= SMALL_BYTES ? 1 : 0);
}

/** The place of the lowest bit that is set. */
function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}
