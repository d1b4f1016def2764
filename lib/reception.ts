/**
 * A session's way through the server: the hooks admit it, it is reported and kept in the table of
 * sessions, its requests go to the dispatcher, and its end is reported, once.
 *
 * @module
 */
import type { Config } from "./config.ts";
import { ConnectionError, type HttpError, type HttpsdError } from "./errors.ts";
import type { Hooks } from "./hooks.ts";
import type { Dispatcher } from "./http/dispatcher.ts";
import type { Exchange } from "./http/exchange.ts";
import type { ExchangeWatch } from "./http/exchange_watch.ts";
import { type ConnectionDriver, freeContext, type Session } from "./http/session.ts";
import type { Notify } from "./http/session_host.ts";
import type { Transport } from "./http/exchange.ts";
import type { Http1Connection } from "./http1/connection.ts";
import type { Http2Config } from "./http2/options.ts";
import type { ConnectionEngine } from "./net/engine.ts";
import type { Places } from "./places.ts";
import { goOnInHttp2, isHttp2Loaded, loadHttp2, type ProtocolHost, speak } from "./protocols.ts";
import type { Reports } from "./reports.ts";
import type { SessionTable } from "./sessions.ts";
import type { Stats } from "./stats.ts";
import type { Selector } from "./tls/selector.ts";

/** The parts of a server that a reception uses. */
export interface ReceptionParts {
  /** The server's options. */
  readonly config: Config;
  /** Makes `Request`s of exchanges, and answers of `Response`s. */
  readonly transport: Transport;
  /** Answers requests. */
  readonly dispatcher: Dispatcher;
  /** The sessions that are open. */
  readonly sessions: SessionTable<ConnectionDriver>;
  /** The sessions that the hooks have not let in yet. */
  readonly opening: Set<ConnectionDriver>;
  /** The places for sockets. */
  readonly places: Places;
  /** The program's hooks. */
  readonly hooks: Hooks;
  /** Where all of it is reported. */
  readonly reports: Reports;
  /** Counts the requests, and follows them. */
  readonly watch: ExchangeWatch;
  /** Counts the rest. */
  readonly stats: Stats;
  /** Whether each session's next answer is to be its last. */
  readonly leaving: () => boolean;
  /** Chooses certificates, and so knows for which hosts each may speak. */
  readonly selector: () => Selector | undefined;
}

/** Admits connections as sessions, and reports their end. */
export class Reception implements ProtocolHost {
  readonly foundPreface: ((driver: Http1Connection) => void) | undefined;
  readonly #parts: ReceptionParts;
  /** The sessions that are being announced, and what was told of them: their end is told as far. */
  readonly #announcing = new Map<ConnectionDriver, "nothing" | "connected">();

  /** Makes a reception. */
  constructor(parts: ReceptionParts) {
    this.#parts = parts;
    const { http2 } = parts.config;
    if (http2 === false) return;
    this.foundPreface = (driver) => {
      if (isHttp2Loaded()) this.#goOnInHttp2(driver, http2);
      else void this.#goOnOnceLoaded(driver, http2);
    };
  }

  /** Takes a connection whose handshake is over. */
  take(connection: ConnectionEngine): void {
    const driver = speak(connection, this);
    if (driver === undefined) return;
    if (this.#parts.hooks.decide) void this.#askHooks(driver);
    else this.#letIn(driver);
  }

  /** Asks the hooks; the handshake's deadline is for them too. */
  async #askHooks(driver: ConnectionDriver): Promise<void> {
    const { opening, hooks } = this.#parts;
    opening.add(driver);
    await hooks.ask(driver.session, () => this.#letIn(driver));
    opening.delete(driver);
  }

  #letIn(driver: ConnectionDriver): void {
    const { sessions, places, hooks, reports } = this.#parts;
    const { session, connection } = driver;
    sessions.add(driver);
    places.lookForRoom();
    this.#announcing.set(driver, "nothing");
    hooks.created(session);
    if (!connection.closed) {
      this.#announcing.set(driver, "connected");
      reports.connected("connected", session);
    }
    this.#announcing.delete(driver);
    if (connection.closed) return; // by the hook, or by a listener
    reports.connected("http:connected", session);
    driver.begin();
  }

  /** The first client of all that begins with HTTP/2 waits until that is loaded, within its deadline. */
  async #goOnOnceLoaded(driver: Http1Connection, config: Http2Config): Promise<void> {
    const { connection } = driver;
    connection.deadline = connection.after(this.timeouts.handshakeMs);
    try {
      await loadHttp2();
      if (!connection.closed && !connection.closing) this.#goOnInHttp2(driver, config);
    } catch (cause) {
      connection.destroy(
        new ConnectionError("CONNECTION_FAILED", "HTTP/2 could not be loaded", { cause }),
      );
    }
  }

  #goOnInHttp2(driver: Http1Connection, config: Http2Config): void {
    driver.connection.detach(driver);
    const next = goOnInHttp2(driver, this, config);
    this.#parts.sessions.replace(driver, next);
    next.begin();
  }

  // What the drivers ask for.

  get limits(): Config["limits"] {
    return this.#parts.config.limits;
  }

  get timeouts(): Config["timeouts"] {
    return this.#parts.config.timeouts;
  }

  get http1(): boolean {
    return this.#parts.config.http1;
  }

  get http2(): Http2Config | false {
    return this.#parts.config.http2;
  }

  get watch(): ExchangeWatch {
    return this.#parts.watch;
  }

  get transport(): Transport {
    return this.#parts.transport;
  }

  get notify(): Notify | undefined {
    return this.#parts.reports.notify;
  }

  get crowded(): boolean {
    return this.#parts.places.crowded || this.#parts.leaving();
  }

  speaksFor({ peer, connection }: ConnectionDriver, host: string | undefined): boolean {
    const { context, tls } = peer;
    if (context === undefined) return true; // in plain mode
    const selector = this.#parts.selector();
    if (selector === undefined) return false;
    if (selector.speaksForAll) return true;
    const spoken = { context, sni: tls?.sni, localAddress: connection.localAddress };
    return selector.speaksFor(spoken, host);
  }

  handle(driver: ConnectionDriver, exchange: Exchange): void {
    this.#parts.sessions.busy(driver);
    this.#parts.dispatcher.handle(exchange);
  }

  refuse(exchange: Exchange, error: HttpError): void {
    this.#parts.dispatcher.refuse(exchange, error);
  }

  touch(driver: ConnectionDriver): void {
    this.#parts.sessions.touch(driver);
    this.#parts.places.lookForRoom();
  }

  answered(driver: ConnectionDriver, ends: boolean): boolean {
    if (ends || this.crowded) return true;
    this.touch(driver);
    return false;
  }

  failed(session: Session, error: HttpsdError): void {
    this.#parts.reports.error(error, { session });
  }

  errorAnswered(session: Session, error: HttpError): void {
    const { sessions, reports } = this.#parts;
    if (sessions.all.has(session)) reports.errorAnswered(error, session); // else it is disconnected
  }

  passed(type: "data" | "sent", session: Session, bytes: number): void {
    const { sessions, reports, stats } = this.#parts;
    if (type === "data") stats.receivedBytes += bytes;
    else stats.sentBytes += bytes;
    if (!reports.hearBytes) return;
    if (sessions.all.has(session)) reports.passed(type, session, bytes); // else not yet, or no more
  }

  ended(driver: ConnectionDriver, error: HttpsdError | undefined): void {
    const { opening, sessions, hooks, reports } = this.#parts;
    const { session } = driver;
    opening.delete(driver); // a hook that never answers would keep it there
    if (!sessions.remove(driver)) return this.#notLetIn(session, error);
    const told = this.#announcing.get(driver);
    hooks.closing(session, error);
    if (told === undefined) reports.disconnected("http:disconnected", session, error);
    freeContext(session);
    hooks.closed(session, error);
    if (told !== "nothing") reports.disconnected("disconnected", session, error);
  }

  /** Reports the end of a session that the hooks had not admitted. */
  #notLetIn(session: Session, error: HttpsdError | undefined): void {
    if (error === undefined) return; // the client has left without an error
    this.#parts.stats.refused(error);
    this.#parts.reports.refused(error, { session });
    this.#parts.hooks.refused(session.remoteAddress, error);
  }
}
