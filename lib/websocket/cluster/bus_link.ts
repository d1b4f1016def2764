/**
 * A server's link to its bus: says what may be sent, and loads the relay when the server starts for
 * the first time, since most servers have no bus. Until then there are no sockets, and nothing passes.
 *
 * @module
 */
import { ConfigError, WebSocketError } from "../../errors.ts";
import { CloseCode } from "../close.ts";
import type { EncodedMessage } from "../prepared_message.ts";
import type { BusStatus, ClusterBus } from "./bus.ts";
import type { Relay, RelayHost } from "./relay.ts";

/** The longest topic, in bytes of UTF-8: brokers have limits for names, NATS one of 4,096. */
const MAX_TOPIC_BYTES = 1024;

const NOT_YET: BusStatus = {
  state: "down",
  channels: 0,
  bufferedBytes: 0,
  sent: 0,
  received: 0,
  dropped: 0,
  failed: 0,
  missed: 0,
  ignored: 0,
};

/** What a server and its hub use of the relay. */
export class BusLink {
  readonly #bus: ClusterBus;
  readonly #host: RelayHost;
  #relay: Relay | undefined;

  /** Makes a link over which nothing passes. */
  constructor(bus: ClusterBus, host: RelayHost) {
    this.#bus = bus;
    this.#host = host;
  }

  /** Makes the relay, if there is none; to be awaited before the server listens. */
  async load(): Promise<void> {
    const { Relay } = await import("./relay.ts");
    this.#relay ??= new Relay(this.#bus, this.#host);
  }

  /** What it does and has done. */
  get status(): BusStatus {
    return this.#relay?.status ?? { ...NOT_YET };
  }

  /** Begins to pass messages. */
  open(): void {
    this.#relay?.open();
  }

  /** Passes no more, as {@linkcode Relay.close} does. */
  async close(): Promise<void> {
    await this.#relay?.close();
  }

  /**
   * Throws for a topic, or a message, that cannot go to other servers; before it goes to any socket.
   *
   * @throws {ConfigError} `INVALID_CONFIG`
   * @throws {WebSocketError} `WS_CANNOT_SEND`
   */
  assertSendable(topic: string | undefined, { payload }: EncodedMessage): void {
    if (topic !== undefined) assertTopic(topic);
    const { maxMessageBytes } = this.#host;
    if (payload.length <= maxMessageBytes) return;
    throw new WebSocketError(
      CloseCode.InternalError,
      "WS_CANNOT_SEND",
      `A message of ${payload.length} bytes cannot go to other servers, of which each takes ` +
        `${maxMessageBytes}: raise limits.maxBusMessageBytes in all of them, or send less`,
    );
  }

  /** Sends a message to the other servers' sockets of a topic, or to all of theirs. */
  send(topic: string | undefined, message: EncodedMessage): void {
    this.#relay?.send(topic, message);
  }

  /**
   * Takes the messages of others for a topic, or for all, as {@linkcode Relay.want} does.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a topic that is no name for the bus
   */
  want(topic: string | undefined): Promise<void> {
    if (topic !== undefined) assertTopic(topic);
    return this.#relay?.want(topic) ?? Promise.resolve();
  }

  /** Takes them no longer. */
  unwant(topic: string | undefined): void {
    this.#relay?.unwant(topic);
  }
}

/** Refuses a name that brokers take for another's, or not at all. */
function assertTopic(topic: string): void {
  if (!topic.isWellFormed()) {
    throw new ConfigError(
      "INVALID_CONFIG",
      "A topic has half a character (a lone surrogate), which no bus carries: choose another name",
    );
  }
  if (topic.length * 3 <= MAX_TOPIC_BYTES) return;
  const bytes = new TextEncoder().encode(topic).length;
  if (bytes <= MAX_TOPIC_BYTES) return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `A topic has ${bytes} bytes, and the bus takes ${MAX_TOPIC_BYTES}: choose a shorter name`,
  );
}
