/**
 * What a server reports: an event if the program listens for it, or a line on the console for a
 * mistake of the program that has no listener.
 *
 * @module
 */
import type { HttpError, HttpsdError } from "./errors.ts";
import {
  BusGapEvent,
  BusStateEvent,
  CertificateFailedEvent,
  DataEvent,
  DisconnectedEvent,
  ExchangeEvent,
  type FailurePlace,
  IdentityEvent,
  ServerErrorEvent,
  type ServerEvent,
  type ServerEventType,
  SessionEvent,
  WebSocketEvent,
} from "./events.ts";
import type { ExchangeReport } from "./http/exchange_report.ts";
import type { Session } from "./http/session.ts";
import type { Notify } from "./http/session_host.ts";
import { logMistake } from "./mistakes.ts";
import type { ServerListeners } from "./server_listeners.ts";
import type { CertificateFailure, SourceReports } from "./tls/certificate_source.ts";
import type { Identity } from "./tls/loaded_identity.ts";
import type { ServerWebSocket } from "./websocket/socket.ts";
import type { BusGap, BusState } from "./websocket/cluster/bus.ts";

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
export class Reports implements SourceReports {
  readonly #target: ReportTarget;

  /** Makes events for `target.server`. */
  constructor(target: ReportTarget) {
    this.#target = target;
  }

  /** Reports the events of requests; `undefined` where the program listens for none. */
  get notify(): Notify | undefined {
    return this.#target.listeners.listenToRequests ? this.#notify : undefined;
  }

  /** Whether the program listens for the bytes of connections. */
  get hearBytes(): boolean {
    return this.#target.listeners.listenToBytes;
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

  /** Reports that a request and its response are over. */
  exchange(exchange: ExchangeReport): void {
    const { server } = this.#target;
    server.dispatchEvent(new ExchangeEvent(server, exchange));
  }

  /** Reports that a WebSocket is open, or no longer. */
  webSocket(type: "websocket:open" | "websocket:close", ws: ServerWebSocket): void {
    const { server } = this.#target;
    if (this.hears(type)) server.dispatchEvent(new WebSocketEvent(type, server, ws));
  }

  /** Reports that an error status was answered. */
  errorAnswered(error: HttpError, session: Session): void {
    const { server } = this.#target;
    if (!this.hears("http:error")) return;
    server.dispatchEvent(new ServerErrorEvent("http:error", server, error, { session }));
  }

  /** Reports that a connection gets no session. */
  refused(error: HttpsdError, where: FailurePlace): void {
    const { server } = this.#target;
    if (this.hears("refused")) {
      server.dispatchEvent(new ServerErrorEvent("refused", server, error, where));
    }
    this.error(error, where);
  }

  /** Reports that messages of other processes come from now on, or no longer. */
  busState(state: BusState, error: HttpsdError | undefined): void {
    const { server } = this.#target;
    if (this.hears("bus:state")) server.dispatchEvent(new BusStateEvent(server, state, error));
    if (error !== undefined) this.error(error);
  }

  /** Reports that messages between processes are missing. */
  busGap(gap: BusGap): void {
    const { server } = this.#target;
    if (this.hears("bus:gap")) server.dispatchEvent(new BusGapEvent(server, gap));
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

  /** Reports that a certificate in force ends soon. */
  expiring(identity: Identity): void {
    this.#identity("expiring", identity);
  }

  /** Reports that the source of certificates has a new one. */
  issued(identity: Identity): void {
    this.#identity("certificate:issued", identity);
  }

  #identity(type: "expiring" | "certificate:issued", identity: Identity): void {
    const { server, atRest } = this.#target;
    if (this.hears(type) && !atRest()) {
      server.dispatchEvent(new IdentityEvent(type, server, identity));
    }
  }

  /**
   * Reports that a certificate could not be had: by the event `error` where the program does not
   * listen for this, and on the console where it listens for neither, since the service will end
   * with its certificate.
   */
  failed(failure: CertificateFailure): void {
    const { server, atRest } = this.#target;
    if (this.hears("certificate:failed") && !atRest()) {
      server.dispatchEvent(new CertificateFailedEvent(server, failure));
    } else if (this.hears("error")) this.error(failure.error);
    else console.error(failure.error);
  }

  /** Whether the program has listened for events of this type. */
  hears(type: ServerEventType): boolean {
    return this.#target.listeners.has(type);
  }
}
