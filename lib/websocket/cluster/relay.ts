/**
 * A server's side of a bus: what is sent to all, or to a topic, goes to the other servers too, and
 * what they send is delivered here. Messages carry their sender and a number, by which a server
 * ignores its own and sees what is missing. Nothing that the bus does, or that comes on it, can harm
 * the server: a bus that is away, or does not answer in time, costs what could not be sent.
 *
 * @module
 */
import { isThenable } from "../../contain/callbacks.ts";
import { BusError, ConfigError } from "../../errors.ts";
import type { Clock } from "../../net/clock.ts";
import { EncodedMessage } from "../prepared_message.ts";
import type { BusGap, BusState, BusStatus, ClusterBus } from "./bus.ts";
import { type Channel, Channels } from "./channels.ts";
import { decodeEnvelope, encodeEnvelope, makeOrigin } from "./envelope.ts";
import { Outbox } from "./outbox.ts";

/** What a relay needs of its server. */
export interface RelayHost {
  /** The time. */
  readonly clock: Clock;
  /** How much may wait for the bus. */
  readonly maxBufferBytes: number;
  /** The longest message. */
  readonly maxMessageBytes: number;
  /** How long the bus may take to confirm something. */
  readonly timeoutMs: number;
  /** Delivers a message of another server to the sockets of a topic, or to all. */
  deliver(topic: string | undefined, message: EncodedMessage): void;
  /** Reports that messages pass now, or no longer. */
  stateChanged(state: BusState, error: BusError | undefined): void;
  /** Reports that messages are missing. */
  gap(gap: BusGap): void;
  /** Reports what the bus refused. */
  failed(error: BusError): void;
}

/** The channel of broadcasts. */
const ALL = "all";

/** The channel of a topic. */
const channelOf = (topic: string | undefined) => topic === undefined ? ALL : `topic/${topic}`;

/** For so many channels it is known how far they were counted; others begin again with 0. */
const MAX_COUNTED = 65_536;

/** So many senders are known on each channel. */
const MAX_SENDERS = 4_096;

/** The longest time between two looks at what is late, or was missed. */
const TICK_MS = 1_000;

/** Connects the sockets of a server with a bus, from its start to its stop. */
export class Relay {
  readonly #bus: ClusterBus;
  readonly #host: RelayHost;
  readonly #origin = makeOrigin();
  readonly #outbox: Outbox;
  readonly #channels: Channels;
  /** The number of the next message on each channel. */
  readonly #numbers = new Map<string, number>();
  /** How many messages were missed on each channel since the last tick. */
  readonly #missed = new Map<Channel, number>();
  readonly #unsent = { count: 0, cause: undefined as unknown };
  readonly #counts = { received: 0, dropped: 0, failed: 0, missed: 0, ignored: 0 };
  /** What the bus says of itself. */
  #said: BusState = "down";
  #cause: unknown;
  /** Whether the bus has not confirmed something in time. */
  #isLate = false;
  /** Whether the bus is back from an outage that the program has not been told to have missed. */
  #isBack = false;
  /** What the program was told; `undefined` while the relay is closed, and until the bus is there. */
  #state: BusState | undefined;
  /** When the relay was opened. */
  #since = 0;
  #stopTicks: (() => void) | undefined;
  #stopState: (() => void) | undefined;
  /** Wakes what waits for the outbox to be empty. */
  #wake: (() => void) | undefined;

  /** Makes a relay that is closed. */
  constructor(bus: ClusterBus, host: RelayHost) {
    this.#bus = bus;
    this.#host = host;
    const isUp = () => this.#isUp;
    const isAway = () => this.#state === "down";
    this.#outbox = new Outbox({
      publish: (channel, bytes) => promised(() => this.#bus.publish(channel, bytes)),
      now: () => host.clock.now(),
      lost: (how, cause) => this.#lost(how, cause),
      settled: () => this.#settled(),
    }, host.maxBufferBytes);
    this.#channels = new Channels({
      subscribe: (channel) => this.#subscribe(channel),
      get isUp() {
        return isUp();
      },
      get isAway() {
        return isAway();
      },
      now: () => host.clock.now(),
      failed: ({ topic }, cause) => this.#refused(topic, cause),
      recovered: ({ topic }) => {
        // After an outage of the bus itself, one report is for all topics.
        if (!this.#isBack) this.#missedAny(topic);
      },
      settled: () => this.#settled(),
    });
  }

  /** What it does and has done. */
  get status(): BusStatus {
    return {
      state: this.#state ?? "down",
      channels: this.#channels.size,
      bufferedBytes: this.#outbox.bytes,
      sent: this.#outbox.sent,
      ...this.#counts,
    };
  }

  /** Begins to pass messages. */
  open(): void {
    const { clock, timeoutMs } = this.#host;
    this.#stopTicks = clock.every(Math.min(TICK_MS, Math.max(5, timeoutMs / 4)), this.#tick);
    this.#said = "down";
    this.#cause = undefined;
    this.#isLate = false;
    this.#isBack = false;
    this.#since = clock.now();
    try {
      const stop = this.#bus.onState((state, cause) => this.#busIs(state, cause));
      this.#stopState = typeof stop === "function" ? stop : undefined;
    } catch (cause) {
      this.#cause = cause;
      this.#since = -Infinity; // it will not say when it is there
    }
    this.#channels.open();
    this.#judge();
  }

  /**
   * Passes no more: sends what waits, if the bus takes it in time, and leaves all channels.
   * Resolves in `timeoutMs` at the latest.
   */
  async close(): Promise<void> {
    if (this.#stopTicks === undefined) return;
    this.#channels.close();
    const until = this.#host.clock.now() + this.#host.timeoutMs;
    while (this.#isUp && !(this.#outbox.isEmpty && this.#channels.isIdle)) {
      if (this.#host.clock.now() >= until) break;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    this.#outbox.shut();
    this.#outbox.clear();
    this.#report();
    this.#stopTicks();
    this.#stopTicks = undefined;
    try {
      this.#stopState?.();
    } catch (cause) {
      this.#host.failed(
        new BusError("BUS_FAILED", "The bus's onState() could not be ended", {
          cause,
        }),
      );
    }
    this.#stopState = undefined;
    this.#state = undefined;
    this.#said = "down";
  }

  /** Sends a message to the other servers' sockets of a topic, or to all of theirs. */
  send(topic: string | undefined, { opcode, payload }: EncodedMessage): void {
    if (this.#stopTicks === undefined) return; // not started: nothing comes of others either
    const channel = channelOf(topic);
    const number = this.#nextNumber(channel);
    this.#outbox.send(channel, encodeEnvelope({ opcode, origin: this.#origin, number, payload }));
  }

  /**
   * Takes the messages of others for a topic, or for all. Resolves when the bus has confirmed that;
   * also when it does not, as it is away: then a gap is reported when it does.
   */
  want(topic: string | undefined): Promise<void> {
    return this.#channels.want(channelOf(topic), topic);
  }

  /** Takes them no longer. */
  unwant(topic: string | undefined): void {
    this.#channels.unwant(channelOf(topic));
  }

  get #isUp(): boolean {
    return this.#said === "up" && !this.#isLate;
  }

  #nextNumber(channel: string): number {
    const number = this.#numbers.get(channel) ?? 0;
    this.#numbers.delete(channel); // so that the one that is first was used least recently
    this.#numbers.set(channel, number + 1);
    if (this.#numbers.size > MAX_COUNTED) {
      this.#numbers.delete(this.#numbers.keys().next().value!);
    }
    return number;
  }

  async #subscribe(channel: Channel): Promise<() => Promise<void>> {
    const leave = await promised(() =>
      this.#bus.subscribe(channel.name, (bytes) => this.#receive(channel, bytes))
    );
    if (typeof leave === "function") return () => promised(leave);
    throw new ConfigError(
      "INVALID_CONFIG",
      "subscribe() of the bus gave no function: resolve with the one that ends the subscription",
    );
  }

  #receive(channel: Channel, bytes: unknown): void {
    const { maxMessageBytes } = this.#host;
    const envelope = decodeEnvelope(bytes, maxMessageBytes);
    if (envelope === undefined) return void this.#counts.ignored++;
    const { origin, number, opcode, payload } = envelope;
    if (origin === this.#origin) return;
    this.#counts.received++;
    this.#compare(channel, origin, number);
    this.#host.deliver(channel.topic, new EncodedMessage(payload, opcode));
  }

  /** Notes a sender's number, and how many are missing before it. */
  #compare(channel: Channel, origin: string, number: number): void {
    const { numbers } = channel;
    const last = numbers.get(origin);
    if (last === undefined && numbers.size >= MAX_SENDERS) {
      numbers.delete(numbers.keys().next().value!);
    }
    numbers.set(origin, number);
    if (last === undefined || number <= last + 1) return; // 0 begins again
    const missing = number - last - 1;
    this.#counts.missed += missing;
    this.#missed.set(channel, (this.#missed.get(channel) ?? 0) + missing);
  }

  #busIs(state: unknown, cause: unknown): void {
    if (this.#stopTicks === undefined) return;
    this.#said = state === "up" ? "up" : "down";
    this.#cause = cause;
    this.#judge();
  }

  /** Compares what is with what the program knows. */
  #judge(): void {
    const state = this.#isUp ? "up" : "down";
    if (this.#state === state) return;
    // A bus that was just opened may take its time to be there.
    const { clock, timeoutMs } = this.#host;
    if (this.#state === undefined && !this.#isUp && clock.now() - this.#since < timeoutMs) return;
    const wasAway = this.#state === "down";
    this.#state = state;
    if (state === "down") {
      this.#outbox.shut();
      this.#channels.expire(Infinity);
      this.#host.stateChanged(state, this.#away());
    } else {
      this.#host.stateChanged(state, undefined);
      this.#isBack ||= wasAway;
      this.#channels.retry();
      this.#outbox.open();
      this.#catchUp();
    }
    this.#rouse();
  }

  /** Reports an outage once all is subscribed to: what comes from then on is not missing. */
  #catchUp(): void {
    if (!this.#isBack || !this.#isUp || this.#channels.isBusy) return;
    this.#isBack = false;
    if (!this.#channels.areWanted) return; // nothing here has missed anything
    this.#missedAny(undefined);
  }

  #missedAny(topic: string | undefined): void {
    this.#host.gap({ reason: "outage", topic, missing: undefined, cause: undefined });
  }

  #away(): BusError {
    const message = this.#isLate
      ? `The bus has not answered in ${this.#host.timeoutMs} ms`
      : "The bus is away";
    return new BusError("BUS_AWAY", `${message}: messages reach this server's sockets only`, {
      cause: this.#cause,
    });
  }

  readonly #tick = (): void => {
    const { clock, timeoutMs } = this.#host;
    const deadline = clock.now() - timeoutMs;
    // What has come since is read first: a process that was held up must not blame the bus.
    if (this.#isOverdue(deadline)) {
      clock.afterReading(() => this.#setLate(this.#isOverdue(deadline)));
    }
    if (this.#state === undefined) this.#judge();
    this.#channels.expire(deadline);
    this.#channels.retry();
    this.#report();
    this.#rouse();
  };

  #isOverdue(deadline: number): boolean {
    return [this.#outbox.oldest, this.#channels.oldest].some((since) =>
      since !== undefined && since <= deadline
    );
  }

  #setLate(isLate: boolean): void {
    if (this.#stopTicks === undefined || this.#isLate === isLate) return;
    this.#isLate = isLate;
    this.#judge();
  }

  /** The bus has answered something. */
  #settled(): void {
    const { clock, timeoutMs } = this.#host;
    if (this.#isLate) this.#setLate(this.#isOverdue(clock.now() - timeoutMs));
    this.#catchUp();
    this.#rouse();
  }

  #rouse(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  #lost(how: "dropped" | "failed", cause: unknown): void {
    this.#counts[how]++;
    this.#unsent.count++;
    this.#unsent.cause ??= cause;
  }

  /** Reports what is missing, once a tick: a bus that fails must not cost an event per message. */
  #report(): void {
    for (const [{ topic }, missing] of this.#missed) {
      this.#host.gap({ reason: "missed", topic, missing, cause: undefined });
    }
    this.#missed.clear();
    const { count, cause } = this.#unsent;
    if (count === 0) return;
    this.#unsent.count = 0;
    this.#unsent.cause = undefined;
    this.#host.gap({ reason: "unsent", topic: undefined, missing: count, cause });
  }

  #refused(topic: string | undefined, cause: unknown): void {
    if (!this.#isUp) return; // the outage is known, and what was asked for is asked for again
    const what = topic === undefined ? "broadcasts" : `topic ${JSON.stringify(topic)}`;
    this.#host.failed(
      new BusError("BUS_FAILED", `The bus refused the subscription to ${what}`, { cause }),
    );
  }
}

/** Calls what is another's: what it throws becomes a rejection, and so does what is no promise. */
async function promised<T>(call: () => Promise<T>): Promise<T> {
  const promise = call();
  if (isThenable(promise)) return await promise;
  throw new ConfigError("INVALID_CONFIG", "The bus returned no promise where it must return one");
}
