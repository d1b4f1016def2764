/**
 * The open WebSockets of a server, and messages to many of them at once: to all (original: the
 * client list with `httpd_ws_send_frame_async`), or to those that subscribed to a topic. A message
 * is encoded once; no receiver waits for another. What is sent in one turn of the event loop leaves
 * for each receiver in one write at its end: with many receivers, writes are what costs.
 *
 * @module
 */
import { ConfigError, type HttpsdError } from "../errors.ts";
import type { Session } from "../http/session.ts";
import type { ConnectionEngine } from "../net/engine.ts";
import { shown } from "../options.ts";
import { assertData, type Bytes, PreparedMessage } from "./prepared_message.ts";
import type { ServerWebSocket } from "./socket.ts";

/** What can be sent to many: text, bytes, or what was made of them before. */
export type BroadcastData = string | Bytes | PreparedMessage;

/** Whom a hub tells of its sockets. */
export interface HubHost {
  /** A socket failed, or a callback of it. */
  failed(session: Session, error: HttpsdError): void;
  /** Something came or was sent: the session is in use. Called once a turn at most. */
  touched(session: Session): void;
}

/** The WebSockets of one server. */
export class WebSocketHub {
  readonly #sockets = new Set<ServerWebSocket>();
  readonly #subscribers = new Map<string, Set<ServerWebSocket>>();
  readonly #topics = new Map<ServerWebSocket, Set<string>>();
  readonly #host: HubHost;
  /** Connections that were sent something in this turn of the event loop. */
  readonly #corked = new Set<ConnectionEngine>();
  #turn = 0;
  #turnEnds = false;

  /** Makes an empty hub. */
  constructor(host: HubHost) {
    this.#host = host;
  }

  /** The sockets that are open, in the order in which they were opened. */
  get sockets(): ReadonlySet<ServerWebSocket> {
    return this.#sockets;
  }

  /** A socket is open. */
  add(ws: ServerWebSocket): void {
    this.#sockets.add(ws);
  }

  /** A socket is no longer open: it leaves its topics too. */
  remove(ws: ServerWebSocket): void {
    if (!this.#sockets.delete(ws)) return;
    for (const topic of this.topicsOf(ws)) this.unsubscribe(ws, topic);
  }

  /** A socket failed. */
  failed(ws: ServerWebSocket, error: HttpsdError): void {
    this.#host.failed(ws.session, error);
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

  /** Something came or was sent: the session is in use. */
  touched(ws: ServerWebSocket): void {
    this.#host.touched(ws.session);
  }

  /** What a socket is subscribed to. */
  topicsOf(ws: ServerWebSocket): ReadonlySet<string> {
    return this.#topics.get(ws) ?? NO_TOPICS;
  }

  /** Adds an open socket to a topic. */
  subscribe(ws: ServerWebSocket, topic: string): void {
    assertTopic("subscribe()", topic);
    if (!this.#sockets.has(ws)) return;
    addTo(this.#subscribers, topic, ws);
    addTo(this.#topics, ws, topic);
  }

  /** Takes a socket away from a topic. */
  unsubscribe(ws: ServerWebSocket, topic: string): void {
    deleteFrom(this.#subscribers, topic, ws);
    deleteFrom(this.#topics, ws, topic);
  }

  /** Sends to all, or to those that `filter` picks; returns to how many. */
  broadcast(data: BroadcastData, filter?: (ws: ServerWebSocket) => boolean): number {
    if (!(data instanceof PreparedMessage)) assertData("broadcast()", data);
    if (filter === undefined) return this.#sendToAll(this.#sockets, data);
    if (typeof filter !== "function") {
      throw invalid(`The filter of broadcast() is ${shown(filter)}: give a function`);
    }
    // All are asked before anything is sent: a filter that fails sends to nobody.
    return this.#sendToAll([...this.#sockets].filter((ws) => picks(filter(ws))), data);
  }

  /** Sends to all that subscribed to `topic`; returns to how many. */
  publish(topic: string, data: BroadcastData): number {
    assertTopic("publish()", topic);
    if (!(data instanceof PreparedMessage)) assertData("publish()", data);
    const subscribers = this.#subscribers.get(topic);
    return subscribers === undefined ? 0 : this.#sendToAll(subscribers, data);
  }

  #sendToAll(
    sockets: Iterable<ServerWebSocket>,
    data: BroadcastData,
  ): number {
    const message = data instanceof PreparedMessage ? data : new PreparedMessage(data);
    let receivers = 0;
    for (const ws of sockets) {
      this.#cork(ws.session.connection as ConnectionEngine);
      void ws.deliver(message); // who cannot keep up is closed at its own limit
      receivers++;
    }
    return receivers;
  }

  #cork(connection: ConnectionEngine): void {
    if (this.#corked.has(connection)) return;
    if (this.#corked.size === 0) setImmediate(() => this.#uncorkAll());
    this.#corked.add(connection);
    connection.cork();
  }

  #uncorkAll(): void {
    for (const connection of this.#corked) connection.uncork();
    this.#corked.clear();
  }
}

const NO_TOPICS: ReadonlySet<string> = new Set();

function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}

function deleteFrom<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set?.delete(value) && set.size === 0) sets.delete(key);
}

/** Whether a filter picks a socket: `true` alone does, for a promise would pick every one. */
function picks(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw invalid(`The filter of broadcast() answered ${shown(answer)}: return true or false`);
}

function assertTopic(method: string, topic: unknown): void {
  if (typeof topic === "string") return;
  throw invalid(`${method} takes a topic as text, not ${shown(topic)}`);
}

function invalid(message: string): ConfigError {
  return new ConfigError("INVALID_CONFIG", message);
}
