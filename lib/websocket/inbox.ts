/**
 * What came for the program and was not given to it yet: in order, one at a time, bounded. Either a
 * callback is called with it, or a reader asks for it.
 *
 * @module
 */

/** Reading stops while what waits takes this many bytes of memory. */
const HIGH_MARK = 64 * 1024;

/** What an item takes besides its bytes. */
const ITEM_OVERHEAD = 256;

/** Takes one item; the next comes when its promise settles, which it does without rejecting. */
export type ItemHandler<T> = (item: T) => void | Promise<void>;

/** The socket, as its inbox knows it. */
export interface InboxHost {
  /** The program has taken something, so that less waits. */
  taken(): void;
  /** Goes on to read, since there is room again. */
  madeRoom(): void;
}

/** A queue between a socket and its program. */
export class Inbox<T> {
  readonly #host: InboxHost;
  #handler: ItemHandler<T> | undefined;
  #held = false;
  #items: { readonly item: T; cost: number }[] = [];
  #cost = 0;
  #asking: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  #ended = false;
  #afterwards: (() => void)[] = [];

  /** Makes an empty inbox. */
  constructor(host: InboxHost) {
    this.#host = host;
  }

  /** How many bytes of memory are taken by what waits for the program. */
  get waitingBytes(): number {
    return this.#cost;
  }

  /** Whether nothing is put in any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether nothing waits. */
  get empty(): boolean {
    return this.#items.length === 0;
  }

  /** Whether nothing more should be put in. */
  get full(): boolean {
    return this.#cost >= HIGH_MARK;
  }

  /** Calls `handler` with all that comes, from now on. */
  deliverTo(handler: ItemHandler<T>): void {
    this.#handler = handler;
    this.#deliver();
  }

  /** Whether a handler is called with what comes. */
  get isDelivered(): boolean {
    return this.#handler !== undefined;
  }

  /** Delivers nothing until `promise`, which never rejects, has settled. */
  hold(promise: Promise<void>): void {
    this.#held = true;
    void promise.then(() => {
      this.#held = false;
      this.#deliver();
    });
  }

  /** Puts in what came; `bytes` is how much memory it takes. Nothing is taken after the end. */
  push(item: T, bytes: number): void {
    if (this.#ended) return;
    const asking = this.#asking.shift();
    if (asking !== undefined) {
      asking.resolve({ done: false, value: item });
    } else if (this.#handler !== undefined && !this.#held && this.#items.length === 0) {
      this.#handle(item, this.#handler);
    } else {
      const cost = bytes + ITEM_OVERHEAD;
      this.#items.push({ item, cost });
      this.#cost += cost;
    }
  }

  /** Counts more bytes for what was put in last, if it waits. */
  grow(bytes: number): void {
    const last = this.#items.at(-1);
    if (last === undefined) return;
    last.cost += bytes;
    this.#cost += bytes;
  }

  /** The next item; `done` at the end. */
  next(): Promise<IteratorResult<T, undefined>> {
    const wasFull = this.full;
    const first = this.#items.shift();
    if (first !== undefined) {
      this.#cost -= first.cost;
      this.#host.taken();
      if (wasFull && !this.full) this.#host.madeRoom();
      return Promise.resolve({ done: false, value: first.item });
    }
    if (this.#ended) {
      this.#runAfterwards();
      return Promise.resolve({ done: true, value: undefined });
    }
    const asking = Promise.withResolvers<IteratorResult<T, undefined>>();
    this.#asking.push(asking);
    return asking.promise;
  }

  /** Ends the inbox: what waits is still given, and nothing more is put in. */
  end(): void {
    this.#ended = true;
    const asking = this.#asking;
    this.#asking = [];
    for (const { resolve } of asking) resolve({ done: true, value: undefined });
    if (asking.length > 0 || this.#handled) this.#runAfterwards();
  }

  /** Ends the inbox, and drops what waits. */
  discard(): void {
    this.#items = [];
    this.#cost = 0;
    this.end();
  }

  /**
   * Calls `then` once, after the end, when everything was given and handled; where no handler is
   * called with it, when a reader asks for more than there is.
   */
  whenHandled(then: () => void): void {
    this.#afterwards.push(then);
    if (this.#handled) this.#runAfterwards();
  }

  get #handled(): boolean {
    return this.#ended && !this.#held && this.#items.length === 0 && this.#handler !== undefined;
  }

  #handle(item: T, handler: ItemHandler<T>): void {
    const handling = handler(item);
    if (handling !== undefined) this.hold(handling);
  }

  #deliver(): void {
    if (this.#handler === undefined) return;
    const before = this.#cost;
    const wasFull = this.full;
    while (!this.#held && this.#items.length > 0) {
      const { item, cost } = this.#items.shift()!;
      this.#cost -= cost;
      this.#handle(item, this.#handler);
    }
    if (this.#handled) this.#runAfterwards();
    if (this.#cost < before) this.#host.taken();
    if (wasFull && !this.full) this.#host.madeRoom();
  }

  #runAfterwards(): void {
    const afterwards = this.#afterwards;
    this.#afterwards = [];
    for (const then of afterwards) then();
  }
}
