/**
 * What the drivers of all protocols need of the server.
 *
 * @module
 */
import type { HttpError, HttpsdError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import type { ExchangeWatch } from "./exchange_watch.ts";
import type { ConnectionDriver, Session } from "./session.ts";
import type { Transport } from "./exchange.ts";

/** Reports an event of the httpd; `bytes` where the event counts some. */
export type Notify = (
  type: "http:header" | "http:headerssent" | "http:data" | "http:sent",
  session: Session,
  bytes: number,
) => void;

/** What a driver needs of the server that its sessions belong to. No method throws. */
export interface SessionHost {
  /** Makes `Request`s of exchanges, and answers of `Response`s. */
  readonly transport: Transport;
  /** Counts the exchanges of all sessions, and follows them. */
  readonly watch: ExchangeWatch;
  /** Reports what happens on sessions in the original's terms; `undefined` without listeners. */
  readonly notify: Notify | undefined;
  /** Whether a newcomer waits for the place that a session would free by ending. */
  readonly crowded: boolean;
  /** Whether the session may carry requests for this host. */
  speaksFor(driver: ConnectionDriver, host: string | undefined): boolean;
  /** Answers a request. */
  handle(driver: ConnectionDriver, exchange: Exchange): void;
  /** Answers a request that could not be read, as the last one of its session. */
  refuse(exchange: Exchange, error: HttpError): void;
  /** Reports that a request was refused or its response failed; the driver has dealt with it. */
  failed(session: Session, error: HttpsdError): void;
  /** Reports that an error status was answered without a handler. */
  errorAnswered(session: Session, error: HttpError): void;
  /** Makes the session the most recently used one. */
  touch(driver: ConnectionDriver): void;
  /** Takes note that a request was answered, and the session `ends` or not; returns whether it must. */
  answered(driver: ConnectionDriver, ends: boolean): boolean;
  /** Reports that so many bytes came or went on the connection, without TLS. */
  passed(type: "data" | "sent", session: Session, bytes: number): void;
  /** Ends the session, once. */
  ended(driver: ConnectionDriver, error: HttpsdError | undefined): void;
}
