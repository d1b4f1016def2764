/**
 * Counts what a server does; always on, so that each count is an addition and no more.
 *
 * @module
 */
import type { ErrorCode, HttpsdError } from "./errors.ts";
import { TlsError } from "./errors.ts";
import type { ExchangeWatch } from "./http/exchange_watch.ts";
import type {
  CertificateStats,
  CountsByCode,
  RenewalStats,
  ServerStats,
} from "./http/server_stats.ts";
import type { Session } from "./http/session.ts";
import type { Selector } from "./tls/selector.ts";
import type { TlsInfo } from "./tls/tls_info.ts";

/** The parts of a server that its counters look at when they are asked. */
export interface StatsParts {
  /** Whether the server speaks TLS. */
  readonly secure: boolean;
  /** The sockets. */
  readonly places: { readonly open: number; readonly waiting: number; readonly purged: number };
  /** The sockets on their way through the gate. */
  readonly gate: { readonly size: number };
  /** The sessions that are open. */
  readonly sessions: { readonly all: ReadonlySet<Session> };
  /** The sessions that the hooks have not let in yet. */
  readonly opening: ReadonlySet<unknown>;
  /** The requests. */
  readonly watch: ExchangeWatch;
  /** The bytes that were received and wait to be read. */
  readonly unread: { readonly bytes: number };
  /** The bytes that wait to be sent. */
  readonly unsent: { readonly bytes: number };
  /** The WebSockets that are open. */
  readonly websockets: () => number;
  /** The certificates in force. */
  readonly selector: () => Selector | undefined;
}

/** Counts errors by their codes. */
class ByCode {
  readonly #counts = new Map<ErrorCode, number>();

  add({ code }: HttpsdError): void {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1);
  }

  get shown(): CountsByCode {
    return Object.fromEntries(this.#counts);
  }
}

const SECOND_MS = 1_000;
const MINUTE = 60;

/** Measures how late the event loop is, once a second. */
class LoopLag {
  #timer: ReturnType<typeof setInterval> | undefined;
  /** What was measured in each second of the last minute, as a ring. */
  readonly #lags: number[] = Array(MINUTE).fill(0);
  #at = 0;
  #due = 0;

  begin(): void {
    this.#due = performance.now() + SECOND_MS;
    this.#timer = setInterval(() => this.#measure(), SECOND_MS);
    (this.#timer as { unref?(): void }).unref?.();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #measure(): void {
    const now = performance.now();
    this.#at = (this.#at + 1) % MINUTE;
    this.#lags[this.#at] = Math.max(0, now - this.#due);
    this.#due = now + SECOND_MS;
  }

  /** How late it is; where it is late for the next measurement by more, that. */
  get shown(): ServerStats["eventLoop"] {
    const overdue = this.#timer === undefined ? 0 : Math.max(0, performance.now() - this.#due);
    const lagMs = Math.max(overdue, this.#lags[this.#at]!);
    return { lagMs, maxLagMs: Math.max(lagMs, ...this.#lags) };
  }
}

/** The counters of one server. */
export class Stats {
  /** How many sockets were accepted. */
  accepted = 0;
  /** How many connections were refused at the gate. */
  refusedAtGate = 0;
  /** How many bytes have come on sessions. */
  receivedBytes = 0;
  /** How many bytes were sent on sessions. */
  sentBytes = 0;
  /** How many WebSockets were opened. */
  webSockets = 0;
  #full = 0;
  #resumed = 0;
  readonly #failed = new ByCode();
  readonly #refused = new ByCode();
  readonly #lag = new LoopLag();
  readonly #parts: StatsParts;

  /** Makes counters that are all zero. */
  constructor(parts: StatsParts) {
    this.#parts = parts;
  }

  /** Counts a connection that has passed the gate. */
  admitted(tls: TlsInfo | undefined): void {
    if (tls === undefined) return;
    if (tls.resumed) this.#resumed++;
    else this.#full++;
  }

  /** Counts a connection that gets no session. */
  refused(error: HttpsdError): void {
    if (error instanceof TlsError) this.#failed.add(error);
    else this.#refused.add(error);
  }

  /** Begins to measure the event loop. */
  begin(): void {
    this.#lag.begin();
  }

  /** Ends that. */
  stop(): void {
    this.#lag.stop();
  }

  /** All of them, as they are now. */
  get all(): ServerStats {
    const { places, watch, unread, unsent, websockets } = this.#parts;
    const [none, ...classes] = watch.byClass;
    return {
      connections: {
        accepted: this.accepted,
        purged: places.purged,
        refused: this.#refused.shown,
        open: places.open,
        waiting: places.waiting,
        states: this.#states(),
      },
      handshakes: { full: this.#full, resumed: this.#resumed, failed: this.#failed.shown },
      requests: {
        total: watch.begun,
        active: watch.begun - watch.ended,
        byClass: {
          none,
          "1xx": classes[0],
          "2xx": classes[1],
          "3xx": classes[2],
          "4xx": classes[3],
          "5xx": classes[4],
        },
        cutByClient: watch.cut.client,
        cutByServer: watch.cut.server,
      },
      websockets: { opened: this.webSockets, open: websockets() },
      bytes: {
        received: this.receivedBytes,
        sent: this.sentBytes,
        unread: unread.bytes,
        unsent: unsent.bytes,
      },
      eventLoop: this.#lag.shown,
      secure: this.#parts.secure,
      certificates: this.#certificates(),
      renewals: this.#renewals(),
    };
  }

  #states(): ServerStats["connections"]["states"] {
    const { gate, sessions, opening } = this.#parts;
    const states = { idle: 0, busy: 0, websocket: 0, closing: 0 };
    for (const { state, kind } of sessions.all) {
      if (state === "idle" && kind === "websocket") states.websocket++;
      else if (state !== "opening") states[state]++;
    }
    return { handshaking: gate.size, opening: opening.size, ...states };
  }

  #certificates(): CertificateStats[] {
    const seen = new Map<string, CertificateStats>();
    const selector = this.#parts.selector();
    const own = Array.from(selector?.identities() ?? [], ([, identity]) => identity);
    const source = selector?.options.source;
    const renewed = (source?.renewals() ?? []).flatMap(({ identity }) => identity ?? []);
    const sourced = [...source?.identities() ?? [], ...renewed];
    for (const { names, fingerprint256, validFrom, validTo } of [...own, ...sourced]) {
      seen.set(fingerprint256, { names, fingerprint256, validFrom, validTo });
    }
    return [...seen.values()];
  }

  #renewals(): RenewalStats[] {
    const renewals = this.#parts.selector()?.options.source?.renewals() ?? [];
    return renewals.map(({ names, identity, renewAt, error }) => ({
      names,
      fingerprint256: identity?.fingerprint256,
      renewAt,
      error,
    }));
  }
}
