/**
 * The channels that a server is subscribed to: each while something here listens, and no longer.
 * Listeners come and go at any time; on the bus, one thing at a time happens to a channel, and what
 * is wanted by then decides about the next.
 *
 * @module
 */

/** What the channels need of their relay. */
export interface ChannelsHost {
  /** Subscribes to a channel; resolves with what ends that. */
  subscribe(channel: Channel): Promise<() => Promise<void>>;
  /** Whether the bus is there. */
  readonly isUp: boolean;
  /** Whether it is away, which is not worth waiting for. */
  readonly isAway: boolean;
  /** The time in ms. */
  now(): number;
  /** Reports that a channel could not be subscribed to, or left, for the first time. */
  failed(channel: Channel, cause: unknown): void;
  /** Reports that one could be subscribed to that could not be before. */
  recovered(channel: Channel): void;
  /** Notes that the bus has answered. */
  settled(): void;
}

/** One channel. */
export interface Channel {
  /** Its name on the bus. */
  readonly name: string;
  /** The topic; `undefined` for broadcasts. */
  readonly topic: string | undefined;
  /** The number of the last message from each sender, the one that was heard first being first. */
  readonly numbers: Map<string, number>;
}

type Phase = "off" | "joining" | "on" | "leaving";

interface Entry extends Channel {
  isWanted: boolean;
  phase: Phase;
  /** When it began to join or leave. */
  since: number;
  leave: (() => Promise<void>) | undefined;
  /** Resolves when it is subscribed to, or will not be soon. */
  joined: PromiseWithResolvers<void> | undefined;
  /** When `joined` was made. */
  askedAt: number;
  hasFailed: boolean;
}

const DONE = Promise.resolve();

/** The channels of one server. */
export class Channels {
  readonly #host: ChannelsHost;
  readonly #entries = new Map<string, Entry>();
  /** Those that join or leave now, the oldest first. */
  readonly #busy = new Set<Entry>();
  #isOpen = false;
  #on = 0;

  /** Makes channels of which none is wanted. */
  constructor(host: ChannelsHost) {
    this.#host = host;
  }

  /** How many are subscribed to. */
  get size(): number {
    return this.#on;
  }

  /** Since when the bus has not confirmed what it was asked for; `undefined` when it has. */
  get oldest(): number | undefined {
    for (const { since } of this.#busy) return since;
    return undefined;
  }

  /** Wants a channel; resolves when messages of others come, or when they will not come soon. */
  want(name: string, topic: string | undefined): Promise<void> {
    let entry = this.#entries.get(name);
    if (entry === undefined) this.#entries.set(name, entry = newEntry(name, topic));
    entry.isWanted = true;
    if (!this.#isOpen || this.#host.isAway || entry.phase === "on") return DONE;
    if (entry.joined === undefined) {
      entry.joined = Promise.withResolvers();
      entry.askedAt = this.#host.now();
    }
    const { promise } = entry.joined;
    this.#step(entry);
    return promise;
  }

  /** No longer wants a channel. */
  unwant(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    entry.isWanted = false;
    answer(entry);
    this.#step(entry);
  }

  /** Subscribes to what is wanted; also to what could not be subscribed to before. */
  open(): void {
    this.#isOpen = true;
    this.retry();
  }

  /** Tries again what has failed. */
  retry(): void {
    if (!this.#isOpen || !this.#host.isUp) return;
    for (const entry of this.#entries.values()) if (entry.phase === "off") this.#step(entry);
  }

  /** Gives up waiting for what was asked for before `deadline`. */
  expire(deadline: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.joined !== undefined && entry.askedAt < deadline) answer(entry);
    }
  }

  /** Leaves all, and subscribes to none until it is opened again. */
  close(): void {
    this.#isOpen = false;
    for (const entry of this.#entries.values()) {
      answer(entry);
      this.#step(entry);
    }
  }

  /** Whether something is being subscribed to, or left. */
  get isBusy(): boolean {
    return this.#busy.size > 0;
  }

  /** Whether anything listens. */
  get areWanted(): boolean {
    for (const { isWanted } of this.#entries.values()) if (isWanted) return true;
    return false;
  }

  /** Whether nothing is subscribed to, or about to be. */
  get isIdle(): boolean {
    return this.#on === 0 && this.#busy.size === 0;
  }

  /** Does the next thing that must happen to a channel; nothing while one is under way. */
  #step(entry: Entry): void {
    const isWanted = entry.isWanted && this.#isOpen;
    if (entry.phase === "on" && !isWanted) void this.#leave(entry);
    else if (entry.phase === "off" && isWanted && this.#host.isUp) void this.#join(entry);
    else if (entry.phase === "off" && !entry.isWanted) this.#entries.delete(entry.name);
  }

  async #join(entry: Entry): Promise<void> {
    this.#begin(entry, "joining");
    try {
      entry.leave = await this.#host.subscribe(entry);
      this.#on++;
      this.#end(entry, "on");
      if (entry.hasFailed) this.#host.recovered(entry);
      entry.hasFailed = false;
      answer(entry);
    } catch (cause) {
      this.#fail(entry, cause);
      this.#end(entry, "off");
      answer(entry);
      // What is wanted still is tried again with the next retry().
      if (entry.isWanted && this.#isOpen) return;
    }
    this.#step(entry);
  }

  async #leave(entry: Entry): Promise<void> {
    this.#begin(entry, "leaving");
    this.#on--;
    try {
      await entry.leave?.();
      entry.hasFailed = false;
    } catch (cause) {
      this.#fail(entry, cause);
    }
    entry.leave = undefined;
    entry.numbers.clear();
    this.#end(entry, "off");
    this.#step(entry);
  }

  #begin(entry: Entry, phase: Phase): void {
    entry.phase = phase;
    entry.since = this.#host.now();
    this.#busy.add(entry);
  }

  #end(entry: Entry, phase: Phase): void {
    entry.phase = phase;
    this.#busy.delete(entry);
    this.#host.settled();
  }

  #fail(entry: Entry, cause: unknown): void {
    if (!entry.hasFailed) this.#host.failed(entry, cause);
    entry.hasFailed = true;
  }
}

function newEntry(name: string, topic: string | undefined): Entry {
  return {
    name,
    topic,
    numbers: new Map(),
    isWanted: false,
    phase: "off",
    since: 0,
    leave: undefined,
    joined: undefined,
    askedAt: 0,
    hasFailed: false,
  };
}

function answer(entry: Entry): void {
  entry.joined?.resolve();
  entry.joined = undefined;
}
