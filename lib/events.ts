/**
 * What a server reports: typed events on one `EventTarget`, with the numeric ids of the
 * original's `esp_https_server_event_id_t`.
 *
 * @module
 */
import { AcmeError, type AcmeProblem, type HttpsdError } from "./errors.ts";
import type { Session } from "./http/session.ts";
import type { GatePhase } from "./net/admission.ts";
import type { ServerHandle } from "./http/server_handle.ts";
import type { CertificateFailure } from "./tls/certificate_source.ts";
import type { ExchangeReport } from "./http/exchange_report.ts";
import type { ClientHello } from "./tls/client_hello.ts";
import type { Identity } from "./tls/loaded_identity.ts";
import type { ServerWebSocket } from "./websocket/socket.ts";
import type { BusGap, BusGapReason, BusState } from "./websocket/cluster/bus.ts";

/**
 * The numeric ids of the events: of the original's `HTTPS_SERVER_EVENT_*`, and behind `http:` of its
 * `HTTP_SERVER_EVENT_*`, which come beside them on the same target.
 */
export const EVENT_IDS = {
  error: 0,
  start: 1,
  connected: 2,
  data: 3,
  sent: 4,
  disconnected: 5,
  stop: 6,
  "http:error": 0,
  "http:start": 1,
  "http:connected": 2,
  "http:header": 3,
  "http:headerssent": 4,
  "http:data": 5,
  "http:sent": 6,
  "http:disconnected": 7,
  "http:stop": 8,
  // Not in the original.
  expiring: 100,
  "certificate:issued": 101,
  "certificate:failed": 102,
  "http:exchange": 103,
  "websocket:open": 104,
  "websocket:close": 105,
  refused: 106,
  "bus:state": 110,
  "bus:gap": 111,
} as const;

/** The name of an event. */
export type ServerEventType = keyof typeof EVENT_IDS;

// Fields of events that come with each request are declared only: to define them before they are set
// takes half as long again as to make the event.

/** An event of the server `S`: `start`, `stop`, and the base of the others. */
export class ServerEvent<S = ServerHandle> extends Event {
  /** The name that listeners are added for. */
  declare readonly type: ServerEventType;
  /** The original's numeric id. */
  declare readonly id: number;
  /** The server that it happened to. */
  declare readonly server: S;

  /** Makes an event for a server to dispatch. */
  constructor(type: ServerEventType, server: S) {
    super(type);
    this.id = EVENT_IDS[type];
    this.server = server;
  }
}

/** An event of one session: `connected`. */
export class SessionEvent<S = ServerHandle> extends ServerEvent<S> {
  /** The session. */
  declare readonly session: Session;

  /** Makes an event for a server to dispatch. */
  constructor(type: ServerEventType, server: S, session: Session) {
    super(type, server);
    this.session = session;
  }
}

/** `data`, `sent`: bytes were read from or written to a session's connection. */
export class DataEvent<S = ServerHandle> extends SessionEvent<S> {
  /** How many bytes, without TLS. */
  declare readonly bytes: number;

  /** Makes an event for a server to dispatch. */
  constructor(type: ServerEventType, server: S, session: Session, bytes: number) {
    super(type, server, session);
    this.bytes = bytes;
  }
}

/** `http:exchange`: a request and its response are over. */
export class ExchangeEvent<S = ServerHandle> extends SessionEvent<S> {
  /** What is known of them. */
  declare readonly exchange: ExchangeReport;

  /** Makes an event for a server to dispatch. */
  constructor(server: S, exchange: ExchangeReport) {
    super("http:exchange", server, exchange.session);
    this.exchange = exchange;
  }
}

/** `websocket:open`, `websocket:close`: a WebSocket is open, or no longer. */
export class WebSocketEvent<S = ServerHandle> extends SessionEvent<S> {
  /** The WebSocket. */
  readonly ws: ServerWebSocket;

  /** Makes an event for a server to dispatch. */
  constructor(type: "websocket:open" | "websocket:close", server: S, ws: ServerWebSocket) {
    super(type, server, ws.session);
    this.ws = ws;
  }
}

/** `disconnected`: a session is over; always the last event of its session. */
export class DisconnectedEvent<S = ServerHandle> extends SessionEvent<S> {
  /** What ended it; `undefined` when both sides ended it gracefully. */
  readonly error: HttpsdError | undefined;

  /** Makes an event for a server to dispatch. */
  constructor(
    type: "disconnected" | "http:disconnected",
    server: S,
    session: Session,
    error: HttpsdError | undefined,
  ) {
    super(type, server, session);
    this.error = error;
  }
}

/**
 * `expiring`: a certificate in force expires in less than `expiryNoticeDays`, or could not be renewed.
 * `certificate:issued`: the source of certificates has a new one.
 */
export class IdentityEvent<S = ServerHandle> extends ServerEvent<S> {
  /** The identity that it belongs to. */
  readonly identity: Identity;

  /** Makes an event for a server to dispatch. */
  constructor(type: "expiring" | "certificate:issued", server: S, identity: Identity) {
    super(type, server);
    this.identity = identity;
  }
}

/** `certificate:failed`: the source of certificates could not get or renew one. */
export class CertificateFailedEvent<S = ServerHandle> extends ServerEvent<S> {
  /** The names, or IP addresses, that it is for. */
  readonly names: readonly string[];
  /** What went wrong. */
  readonly error: HttpsdError;
  /** What the authority says about it (RFC 8555 section 6.7); `undefined`: nothing. */
  readonly problem: AcmeProblem | undefined;
  /** When it is tried again; `undefined`: when a client asks for the name. */
  readonly retryAt: Date | undefined;

  /** Makes an event for a server to dispatch. */
  constructor(server: S, failure: CertificateFailure) {
    super("certificate:failed", server);
    this.names = failure.names;
    this.error = failure.error;
    this.problem = failure.error instanceof AcmeError ? failure.error.problem : undefined;
    this.retryAt = failure.retryAt;
  }
}

/** `bus:state`: messages of other processes come from now on, or no longer. */
export class BusStateEvent<S = ServerHandle> extends ServerEvent<S> {
  /** Whether they come. */
  readonly state: BusState;
  /** What the bus went down for; `undefined` when it is up. */
  readonly error: HttpsdError | undefined;

  /** Makes an event for a server to dispatch. */
  constructor(server: S, state: BusState, error: HttpsdError | undefined) {
    super("bus:state", server);
    this.state = state;
    this.error = error;
  }
}

/** `bus:gap`: messages between this process and others are missing. */
export class BusGapEvent<S = ServerHandle> extends ServerEvent<S> {
  /**
   * Why: `"outage"`, the bus was away, and messages of any topic may be missing here; `"missed"`,
   * messages of another process did not come; `"unsent"`, messages of this one did not reach the
   * others.
   */
  readonly reason: BusGapReason;
  /** The topic; `undefined` for broadcasts, and where it may be any. */
  readonly topic: string | undefined;
  /** How many messages; `undefined` when that is not known. */
  readonly missing: number | undefined;
  /** What they were lost for, if that is known. */
  readonly cause: unknown;

  /** Makes an event for a server to dispatch. */
  constructor(server: S, { reason, topic, missing, cause }: BusGap) {
    super("bus:gap", server);
    this.reason = reason;
    this.topic = topic;
    this.missing = missing;
    this.cause = cause;
  }
}

/** Where an error happened, as far as that is known. */
export interface FailurePlace {
  /** The session; `undefined` before the end of the handshake. */
  readonly session?: Session | undefined;
  /** The client's address. */
  readonly remoteAddress?: string;
  /** How far the connection had come before its session. */
  readonly phase?: GatePhase;
  /** The server name that the client asked for, if that was seen before its session. */
  readonly sni?: string | undefined;
  /** What the client offered, if that was read before its session. */
  readonly hello?: ClientHello | undefined;
}

/**
 * `error`: a handshake failed, a request was refused, or a callback of the user's threw. `refused`:
 * the same for what befell a connection before it was a session, and nothing else.
 */
export class ServerErrorEvent<S = ServerHandle> extends ServerEvent<S> {
  /** What happened; its `cause` is the error of the runtime or of the callback. */
  readonly error: HttpsdError;
  /** The session that it happened on; `undefined` before the end of the handshake. */
  readonly session: Session | undefined;
  /** The client's address; `undefined` when it happened on no connection. */
  readonly remoteAddress: string | undefined;
  /** How far a handshake had come; `undefined` after it. */
  readonly phase: GatePhase | undefined;
  /** The server name that the client asked for. */
  readonly sni: string | undefined;
  /** What the client offered, with its JA4 fingerprint; `undefined` where that was not read. */
  readonly hello: ClientHello | undefined;

  /** Makes an event for a server to dispatch. */
  constructor(
    type: "error" | "http:error" | "refused",
    server: S,
    error: HttpsdError,
    where: FailurePlace = {},
  ) {
    super(type, server);
    this.error = error;
    this.session = where.session;
    this.remoteAddress = where.remoteAddress ?? where.session?.remoteAddress;
    this.phase = where.phase;
    this.sni = where.sni ?? where.session?.tls?.sni;
    this.hello = where.hello ?? where.session?.tls?.hello;
  }
}

/** The event class of each name. */
export interface ServerEventMap<S = ServerHandle> {
  /** Something failed; the server goes on. */
  error: ServerErrorEvent<S>;
  /** The server listens; before any connection is accepted. */
  start: ServerEvent<S>;
  /** A connection is established, its handshake over. */
  connected: SessionEvent<S>;
  /** Bytes were read. */
  data: DataEvent<S>;
  /** Bytes were written. */
  sent: DataEvent<S>;
  /** A connection that was `connected` is over. */
  disconnected: DisconnectedEvent<S>;
  /** A certificate will expire soon; once for each certificate. */
  expiring: IdentityEvent<S>;
  /** The source of certificates has a new one, which new connections get. */
  "certificate:issued": IdentityEvent<S>;
  /** The source of certificates could not get or renew one; what is in force stays. */
  "certificate:failed": CertificateFailedEvent<S>;
  /** Messages of other processes come from now on, or no longer. */
  "bus:state": BusStateEvent<S>;
  /** Messages between this process and others are missing. */
  "bus:gap": BusGapEvent<S>;
  /** The server has stopped; nothing comes after it. */
  stop: ServerEvent<S>;
  /** An error status was answered, by the server or by an error handler; after the answer. */
  "http:error": ServerErrorEvent<S>;
  /** The server listens; before `start`. */
  "http:start": ServerEvent<S>;
  /** A connection is established; after `connected`. */
  "http:connected": SessionEvent<S>;
  /** The head of a request is there; before it is routed. */
  "http:header": DataEvent<S>;
  /** The head of a response was written. */
  "http:headerssent": DataEvent<S>;
  /** So many bytes of a request body were read by the handler, or thrown away. */
  "http:data": DataEvent<S>;
  /** So many bytes of a response body were written; 0 for the end of a chunked one. */
  "http:sent": DataEvent<S>;
  /** A connection gets no session: its handshake failed, or it was refused; beside its `error`. */
  refused: ServerErrorEvent<S>;
  /** A request and its response are over, however they ended; once for each. */
  "http:exchange": ExchangeEvent<S>;
  /** A WebSocket is open; before its `onOpen` is called. */
  "websocket:open": WebSocketEvent<S>;
  /** A WebSocket is no longer open: one side has begun to close it, or it is gone. */
  "websocket:close": WebSocketEvent<S>;
  /** A connection is over; before its context is freed, and before `disconnected`. */
  "http:disconnected": DisconnectedEvent<S>;
  /** The server has stopped; before `stop`. */
  "http:stop": ServerEvent<S>;
}

/** A listener, as a function or an object. */
export type ServerEventListener<T extends ServerEventType, S = ServerHandle> =
  | ((event: ServerEventMap<S>[T]) => unknown)
  | { handleEvent(event: ServerEventMap<S>[T]): unknown };
