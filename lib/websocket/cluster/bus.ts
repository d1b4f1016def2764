/**
 * What joins servers of several processes and hosts: the interface between a server and a broker.
 * `redisBus()` and `natsBus()` of `@httpsd/httpsd/bus` implement it; so may programs.
 *
 * @module
 */

/** Whether messages pass: `"up"` only when the broker takes them and all subscriptions are in force. */
export type BusState = "up" | "down";

/** Called with each state, and with what a bus went down for, if that is known. */
export type BusStateListener = (state: BusState, cause?: unknown) => void;

/**
 * Carries messages between processes: at most once, and those of one sender on one channel in the
 * order in which they were published.
 */
export interface ClusterBus {
  /**
   * Publishes bytes, which stay as they are. Resolves when the broker has taken them; rejects when
   * it has not, or when that is not known any more. While the bus is down it rejects at once and
   * keeps nothing: what is to wait, waits in the server.
   */
  publish(channel: string, bytes: Uint8Array): Promise<void>;
  /**
   * Calls `receive` with each message on a channel, also with this process's own. Resolves, when the
   * broker has confirmed the subscription, with the function that ends it; from then on it is kept
   * over outages. Rejects when there is no subscription.
   */
  subscribe(
    channel: string,
    receive: (bytes: Uint8Array) => void,
  ): Promise<() => Promise<void>>;
  /** Calls `changed` with the state at once, and at each change until the returned function is called. */
  onState(changed: BusStateListener): () => void;
}

/** What a server's bus does and has done since the server was made; for monitoring. */
export interface BusStatus {
  /** Whether messages pass now; `"down"` also when the broker does not confirm in `timeouts.busMs`. */
  readonly state: BusState;
  /** How many channels are subscribed to now: one for each topic, and one for broadcasts. */
  readonly channels: number;
  /** How many bytes of messages wait now for the broker to take them. */
  readonly bufferedBytes: number;
  /** Messages that the broker took. */
  readonly sent: number;
  /** Messages of other servers that came. */
  readonly received: number;
  /** Messages of this server that were dropped, since `limits.maxBusBufferBytes` waited already. */
  readonly dropped: number;
  /** Messages of this server that were lost on their way to the broker, or refused by it. */
  readonly failed: number;
  /** Messages of other servers that did not come, as their numbers say. */
  readonly missed: number;
  /** Bytes on the channels that were not a message of a server, and were ignored. */
  readonly ignored: number;
}

/** Why messages are missing. */
export type BusGapReason =
  /** The bus was away: messages of any topic may be missing here. */
  | "outage"
  /** Messages of another server did not come. */
  | "missed"
  /** Messages of this server did not reach the others. */
  | "unsent";

/** Messages that are missing somewhere. */
export interface BusGap {
  /** Why. */
  readonly reason: BusGapReason;
  /** The topic; `undefined` for broadcasts, and where it may be any. */
  readonly topic: string | undefined;
  /** How many messages; `undefined` when that is not known. */
  readonly missing: number | undefined;
  /** What they were lost for, if that is known. */
  readonly cause: unknown;
}

/** Whether a value is a bus, as far as can be seen. */
export function isBus(value: unknown): value is ClusterBus {
  const { publish, subscribe, onState } = Object(value) as Partial<ClusterBus>;
  return [publish, subscribe, onState].every((member) => typeof member === "function");
}
