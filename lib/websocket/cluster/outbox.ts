/**
 * Messages on their way to the bus: so many bytes at a time, in order, and the others wait for them
 * or for the bus to come back. What waits is limited; then the oldest are dropped. A message that
 * was given to the bus is not sent again, whatever becomes of it: others may have it already.
 *
 * @module
 */

/** What an outbox needs of its relay. */
export interface OutboxHost {
  /** Gives a message to the bus. */
  publish(channel: string, bytes: Uint8Array): Promise<void>;
  /** The time in ms. */
  now(): number;
  /** Reports that a message was dropped or has failed. */
  lost(how: "dropped" | "failed", cause: unknown): void;
  /** Notes that the bus has answered. */
  settled(): void;
}

interface Message {
  readonly channel: string;
  readonly bytes: Uint8Array;
}

/** How many bytes are given to the bus before it has taken the first of them. */
const WINDOW_BYTES = 1024 * 1024;

/** What each message counts besides its bytes: what objects and the client's queue take. */
const MESSAGE_BYTES = 256;

/** The messages of one server that are on their way to the bus. */
export class Outbox {
  readonly #host: OutboxHost;
  readonly #maxBytes: number;
  readonly #windowBytes: number;
  readonly #waiting: Message[] = [];
  /** Where the messages begin that wait still. */
  #first = 0;
  #waitingBytes = 0;
  #flyingBytes = 0;
  /** When each message was given to the bus that the bus has not settled, the oldest first. */
  readonly #flying = new Set<{ readonly since: number }>();
  #open = false;
  #sent = 0;

  /** Makes an outbox that holds `maxBytes` at the most. */
  constructor(host: OutboxHost, maxBytes: number) {
    this.#host = host;
    this.#maxBytes = maxBytes;
    // What is under way cannot be dropped: it must leave room for what is newer.
    this.#windowBytes = Math.min(WINDOW_BYTES, maxBytes / 2);
  }

  /** How many messages the bus has taken. */
  get sent(): number {
    return this.#sent;
  }

  /** How many bytes wait, and are on the way. */
  get bytes(): number {
    return this.#waitingBytes + this.#flyingBytes;
  }

  /** Since when the bus has not settled what it was given; `undefined` when it has settled all. */
  get oldest(): number | undefined {
    for (const { since } of this.#flying) return since;
    return undefined;
  }

  /** Whether everything was taken. */
  get isEmpty(): boolean {
    return this.#first === this.#waiting.length && this.#flying.size === 0;
  }

  /** Sends what waits, and from now on what comes. */
  open(): void {
    this.#open = true;
    this.#pump();
  }

  /** Lets messages wait from now on. */
  shut(): void {
    this.#open = false;
  }

  /** Drops what waits. */
  clear(): void {
    while (this.#first < this.#waiting.length) this.#drop();
  }

  /** Sends a message, or lets it wait. */
  send(channel: string, bytes: Uint8Array): void {
    const message = { channel, bytes };
    if (this.#open && this.#first === this.#waiting.length && this.#hasRoom(message)) {
      return this.#give(message);
    }
    this.#waiting.push(message);
    this.#waitingBytes += sizeOf(message);
    while (this.bytes > this.#maxBytes && this.#first < this.#waiting.length) this.#drop();
  }

  #hasRoom(message: Message): boolean {
    return this.#flyingBytes === 0 || this.#flyingBytes + sizeOf(message) <= this.#windowBytes;
  }

  #pump(): void {
    while (this.#open && this.#first < this.#waiting.length) {
      if (!this.#hasRoom(this.#waiting[this.#first]!)) return;
      this.#give(this.#shift());
    }
  }

  #give(message: Message): void {
    const size = sizeOf(message);
    const flight = { since: this.#host.now() };
    this.#flying.add(flight);
    this.#flyingBytes += size;
    const over = () => {
      this.#flying.delete(flight);
      this.#flyingBytes -= size;
      this.#host.settled();
      this.#pump();
    };
    this.#host.publish(message.channel, message.bytes).then(() => {
      this.#sent++;
      over();
    }, (cause) => {
      this.#host.lost("failed", cause);
      over();
    });
  }

  #drop(): void {
    this.#shift();
    this.#host.lost("dropped", undefined);
  }

  /** Takes the oldest of those that wait. */
  #shift(): Message {
    const message = this.#waiting[this.#first]!;
    this.#first++;
    this.#waitingBytes -= sizeOf(message);
    // Those that are gone are cut off when they are half of all, so that each is moved once or so.
    if (this.#first * 2 >= this.#waiting.length) {
      this.#waiting.splice(0, this.#first);
      this.#first = 0;
    } else {
      this.#waiting[this.#first - 1] = GONE; // frees its bytes
    }
    return message;
  }
}

const GONE: Message = { channel: "", bytes: new Uint8Array() };

function sizeOf({ channel, bytes }: Message): number {
  return channel.length * 2 + bytes.length + MESSAGE_BYTES;
}
