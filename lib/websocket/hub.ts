/**
 * The open WebSockets of a server, and messages to many of them at once: to all (original: the
 * client list with `httpd_ws_send_frame_async`), or to those that subscribed to a topic. A message
 * is encoded once; no receiver waits for another. What is sent in one turn of the event loop leaves
 * for each receiver in one write at its end: with many receivers, writes are what costs.
 *
 * @module
 */
import { ConfigError, type HttpsdError } from "../errors.ts";
import type { Tunnel } from "../http/tunnel.ts";
import type { Session } from "../http/session.ts";
import { shown } from "../options.ts";
import type { BusLink } from "./cluster/bus_link.ts";
import {
  assertData,
  type Bytes,
  EncodedMessage,
  encodedOf,
  PreparedMessage,
} from "./prepared_message.ts";
import type { ServerWebSocket } from "./socket.ts";

/** What can be sent to many: text, bytes, or what was made of them before. */
export type BroadcastData = string | Bytes | PreparedMessage;

/** What a hub reports about its sockets. */
export interface HubHost {
  /** Takes note that a socket is open. */
  opened(ws: ServerWebSocket): void;
  /** Takes note that a socket is no longer open. */
  closed(ws: ServerWebSocket): void;
  /** Reports that a socket failed, or a callback of it. */
  failed(session: Session, error: HttpsdError): void;
  /** Notes that a session is in use, since something came or was sent; once a turn at most. */
  touched(session: Session): void;
}

/** What a hub uses of the link to other processes. */
export type HubRelay = Pick<BusLink, "assertSendable" | "send" | "want" | "unwant">;

/** A socket, as its hub knows it. */
export interface Member {
  /** What programs hold. */
  readonly ws: ServerWebSocket;
  /** What it sends on. */
  readonly tunnel: Tunnel;
  /** Sends a message that others get too. */
  deliver(message: EncodedMessage): void;
}

/** The WebSockets of one server. */
export class WebSocketHub {
  readonly #members = new Set<Member>();
  /** What programs hold of them. */
  readonly #sockets = new Set<ServerWebSocket>();
  readonly #subscribers = new Map<string, Set<Member>>();
  readonly #topics = new Map<Member, Set<string>>();
  readonly #host: HubHost;
  #relay: HubRelay | undefined;
  /** Tunnels that were sent something in this turn of the event loop. */
  readonly #corked = new Set<Tunnel>();
  #turn = 0;
  #turnEnds = false;

  /** Makes an empty hub. */
  constructor(host: HubHost) {
    this.#host = host;
  }

  /** Passes what is sent to many on to other processes too; to be called before there are sockets. */
  join(relay: HubRelay): void {
    this.#relay = relay;
  }

  /** The sockets that are open, in the order in which they were opened. */
  get sockets(): ReadonlySet<ServerWebSocket> {
    return this.#sockets;
  }

  /** Adds a socket that is open. */
  add(member: Member): void {
    this.#members.add(member);
    this.#sockets.add(member.ws);
    if (this.#members.size === 1) void this.#relay?.want(undefined);
    this.#host.opened(member.ws);
  }

  /** Removes a socket that is no longer open, also from its topics. */
  remove(member: Member): void {
    if (!this.#members.delete(member)) return;
    this.#sockets.delete(member.ws);
    for (const topic of this.topicsOf(member)) this.unsubscribe(member, topic);
    this.#host.closed(member.ws);
    if (this.#members.size === 0) this.#relay?.unwant(undefined);
  }

  /** Reports that a socket failed. */
  failed(member: Member, error: HttpsdError): void {
    this.#host.failed(member.ws.session, error);
  }

  /** A number that is another in each turn of the event loop. */
  get turn(): number {
    if (!this.#turnEnds) {
      this.#turnEnds = true;
      setImmediate(() => {
        this.#turn++;
        this.#turnEnds = false;
      });
    }
    return this.#turn;
  }

  /** Reports that something came or was sent: the session is in use. */
  touched(member: Member): void {
    this.#host.touched(member.ws.session);
  }

  /** Returns what a socket is subscribed to. */
  topicsOf(member: Member): ReadonlySet<string> {
    return this.#topics.get(member) ?? NO_TOPICS;
  }

  /**
   * Adds an open socket to a topic; resolves when it gets the messages of other processes too, or
   * when the bus is away.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for a topic that is not text, or no name for the bus
   */
  subscribe(member: Member, topic: string): Promise<void> {
    assertTopic("subscribe()", topic);
    if (!this.#members.has(member)) return Promise.resolve();
    const wanted = this.#relay?.want(topic) ?? Promise.resolve();
    addTo(this.#subscribers, topic, member);
    addTo(this.#topics, member, topic);
    return wanted;
  }

  /** Removes a socket from a topic. */
  unsubscribe(member: Member, topic: string): void {
    deleteFrom(this.#topics, member, topic);
    if (deleteFrom(this.#subscribers, topic, member)) this.#relay?.unwant(topic);
  }

  /**
   * Sends to all, also to those of other processes; or to those here that `filter` picks. Returns to
   * how many here.
   */
  broadcast(data: BroadcastData, filter?: (ws: ServerWebSocket) => boolean): number {
    assertMessage("broadcast()", data);
    if (filter === undefined) return this.#sendEverywhere(undefined, data);
    if (typeof filter !== "function") {
      throw invalid(`The filter of broadcast() is ${shown(filter)}: give a function`);
    }
    // All are asked before anything is sent: a filter that fails sends nothing at all.
    const picked = [...this.#members].filter(({ ws }) => picks(filter(ws)));
    return this.#sendToAll(picked, encode(data));
  }

  /** Sends to all that subscribed to `topic`, also in other processes; returns to how many here. */
  publish(topic: string, data: BroadcastData): number {
    assertTopic("publish()", topic);
    assertMessage("publish()", data);
    return this.#sendEverywhere(topic, data);
  }

  /** Delivers a message of another process. */
  deliver(topic: string | undefined, message: EncodedMessage): void {
    this.#sendToAll(this.#receiversOf(topic), message);
  }

  /** Those here that get what is sent to a topic, or to all. */
  #receiversOf(topic: string | undefined): Iterable<Member> {
    return topic === undefined ? this.#members : this.#subscribers.get(topic) ?? [];
  }

  #sendEverywhere(topic: string | undefined, data: BroadcastData): number {
    const receivers = this.#receiversOf(topic);
    const relay = this.#relay;
    if (relay === undefined) {
      // Nothing is encoded that is sent to none.
      return Array.isArray(receivers) ? 0 : this.#sendToAll(receivers, encode(data));
    }
    const message = encode(data);
    relay.assertSendable(topic, message);
    const count = this.#sendToAll(receivers, message);
    relay.send(topic, message);
    return count;
  }

  #sendToAll(members: Iterable<Member>, encoded: EncodedMessage): number {
    let receivers = 0;
    for (const member of members) {
      this.#cork(member.tunnel);
      member.deliver(encoded);
      receivers++;
    }
    return receivers;
  }

  #cork(tunnel: Tunnel): void {
    if (this.#corked.has(tunnel)) return;
    if (this.#corked.size === 0) setImmediate(() => this.#uncorkAll());
    this.#corked.add(tunnel);
    tunnel.cork();
  }

  #uncorkAll(): void {
    for (const tunnel of this.#corked) tunnel.uncork();
    this.#corked.clear();
  }
}

const NO_TOPICS: ReadonlySet<string> = new Set();

function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}

/** Deletes from a set; returns whether it was the last there. */
function deleteFrom<K, V>(sets: Map<K, Set<V>>, key: K, value: V): boolean {
  const set = sets.get(key);
  return set?.delete(value) === true && set.size === 0 && sets.delete(key);
}

function encode(data: BroadcastData): EncodedMessage {
  return data instanceof PreparedMessage ? encodedOf(data) : new EncodedMessage(data);
}

/** Whether a filter picks a socket: only `true` does, since a promise would pick every one. */
function picks(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw invalid(`The filter of broadcast() returned ${shown(answer)}: return true or false`);
}

function assertMessage(method: string, data: unknown): void {
  if (!(data instanceof PreparedMessage)) assertData(method, data);
}

function assertTopic(method: string, topic: unknown): void {
  if (typeof topic === "string") return;
  throw invalid(`${method} takes a topic as text, not ${shown(topic)}`);
}

function invalid(message: string): ConfigError {
  return new ConfigError("INVALID_CONFIG", message);
}
