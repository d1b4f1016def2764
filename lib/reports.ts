/**
 * What a server reports: an event if the program listens for it, or a line on the console for a
 * mistake of the program that has no listener.
 *
 * @module
 */
import type { HttpError, HttpsdError } from "./errors.ts";
import {
  DataEvent,
  DisconnectedEvent,
  type FailurePlace,
  ServerErrorEvent,
  type ServerEvent,
  type ServerEventType,
  SessionEvent,
} from "./events.ts";
import type { Session } from "./http/session.ts";
import type { Notify } from "./http/session_host.ts";
import { logMistake } from "./mistakes.ts";
import type { ServerListeners } from "./server_listeners.ts";

/** The target of reports. */
export interface ReportTarget {
  /** The server that they are about. */
  readonly server: ServerEvent["server"];
  /** The listeners that the program has added to it. */
  readonly listeners: ServerListeners;
  /** Whether the server is at rest: a handler may outlive it, but no event comes after `stop`. */
  atRest(): boolean;
}

/** The reports of one server. */
export class Reports {
  readonly #target: ReportTarget;

  /** Makes events for `target.server`. */
  constructor(target: ReportTarget) {
    this.#target = target;
  }

  /** Reports the events of requests; `undefined` where the program listens for none. */
  get notify(): Notify | undefined {
    return this.#target.listeners.listenToRequests ? this.#notify : undefined;
  }

  readonly #notify: Notify = (type, session, bytes) => {
    if (session.connection.closed) return; // its handler goes on, but its events are over
    this.#data(type, session, bytes);
  };

  /** Reports that bytes went by. */
  passed(type: "data" | "sent", session: Session, bytes: number): void {
    this.#data(type, session, bytes);
  }

  #data(type: Parameters<Notify>[0] | "data" | "sent", session: Session, bytes: number): void {
    const { server } = this.#target;
    if (this.hears(type)) server.dispatchEvent(new DataEvent(type, server, session, bytes));
  }

  /** Reports that a session has begun; a listener may end it. */
  connected(type: "connected" | "http:connected", session: Session): void {
    const { server } = this.#target;
    if (this.hears(type)) server.dispatchEvent(new SessionEvent(type, server, session));
  }

  /** Reports that a session is over. */
  disconnected(
    type: "disconnected" | "http:disconnected",
    session: Session,
    error: HttpsdError | undefined,
  ): void {
    const { server } = this.#target;
    if (this.hears(type)) server.dispatchEvent(new DisconnectedEvent(type, server, session, error));
  }

  /** Reports that an error status was answered. */
  errorAnswered(error: HttpError, session: Session): void {
    const { server } = this.#target;
    if (!this.hears("http:error")) return;
    server.dispatchEvent(new ServerErrorEvent("http:error", server, error, { session }));
  }

  /** Reports an error, but on the console only once the server is at rest. */
  error(error: HttpsdError, where?: FailurePlace): void {
    if (this.#target.atRest()) logMistake(error);
    else this.errorAtAnyTime(error, where);
  }

  /** Reports an error, also of a server that does not run. */
  errorAtAnyTime(error: HttpsdError, where?: FailurePlace): void {
    const { server } = this.#target;
    if (!this.hears("error")) logMistake(error);
    else server.dispatchEvent(new ServerErrorEvent("error", server, error, where));
  }

  /** Whether the program has listened for events of this type. */
  hears(type: ServerEventType): boolean {
    return this.#target.listeners.has(type);
  }
}
