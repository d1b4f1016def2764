/**
 * What an inspector shows, as plain values for JSON. There are no field values, queries, bodies or
 * keys in it, and its size is bounded, however many sessions there are and whatever clients send.
 *
 * @module
 */
import type { ExchangeReport } from "../http/exchange_report.ts";
import type { Session } from "../http/session.ts";
import { runtime } from "../runtime/current.ts";
import type { HttpsServer } from "../server.ts";
import { share } from "../share.ts";
import type { ClientHello } from "../tls/client_hello.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { Latencies } from "./latencies.ts";
import type { Failure, Recorder, Second } from "./recorder.ts";

/** How many sessions are shown: of those that may be closed, and of the others. */
const MAX_SESSIONS = 100;
/** How many requests of one session are shown. */
const MAX_REQUESTS = 3;
const MAX_CERTIFICATES = 100;
const MAX_TEXT = 200;
const MINUTE = 60;

/** A few numbers of one worker, for the page of another. */
export interface Summary {
  readonly worker: { readonly index: number; readonly of: number } | null;
  readonly state: string;
  readonly open: number;
  readonly active: number;
  readonly perSecond: number;
  readonly p95: number | null;
  readonly failures: number;
  readonly lagMs: number;
}

/** Makes the summary of a server. */
export function summaryOf(server: HttpsServer, recorder: Recorder): Summary {
  const { connections, requests, handshakes, eventLoop } = server.stats();
  const { index, of } = share() ?? {};
  const recent = recorder.seconds.slice(-MINUTE);
  const latencies = new Latencies();
  for (const second of recent) latencies.addAll(second.latencies);
  const last = recent.slice(-5);
  return {
    worker: index === undefined || of === undefined ? null : { index, of },
    state: server.state,
    open: connections.open,
    active: requests.active,
    perSecond: sum(last.map(requestsIn)) / Math.max(1, last.length),
    p95: latencies.quantile(0.95) ?? null,
    failures: sum(Object.values(handshakes.failed)) + sum(Object.values(connections.refused)),
    lagMs: eventLoop.maxLagMs,
  };
}

/** Makes the state of a server. */
export function stateOf(server: HttpsServer, recorder: Recorder): object {
  const stats = server.stats();
  return {
    at: Date.now(),
    runtime: `${runtime.name} ${runtime.version}`,
    address: addressOf(server),
    secure: stats.secure,
    summary: summaryOf(server, recorder),
    states: stats.connections.states,
    counts: {
      accepted: stats.connections.accepted,
      purged: stats.connections.purged,
      refused: stats.connections.refused,
      full: stats.handshakes.full,
      resumed: stats.handshakes.resumed,
      failed: stats.handshakes.failed,
      requests: stats.requests.total,
      received: stats.bytes.received,
      sent: stats.bytes.sent,
    },
    caps: capsOf(server, stats),
    sessions: sessionsOf(server, recorder),
    failures: recorder.failures.map(failureOf),
    certificates: certificatesOf(stats),
  };
}

/** One second for the charts: its number, counts by class, quantiles, accepted, failed. */
export function secondOf({ number, byClass, latencies, accepted, failed }: Second): unknown[] {
  const quantiles = [0.5, 0.95, 0.99].map((part) => latencies.quantile(part) ?? null);
  return [number, byClass, quantiles, accepted, failed];
}

function requestsIn({ byClass }: Second): number {
  return sum(byClass);
}

function addressOf(server: HttpsServer): string {
  if (server.state !== "running") return server.state;
  const { hostname, port } = server.address;
  return hostname.includes(":")
    ? `[${hostname}]:${port}`
    : port === 0
    ? hostname
    : `${hostname}:${port}`;
}

type Stats = ReturnType<HttpsServer["stats"]>;

/** How near the caps are; `of` is `null` where there is none. */
function capsOf(server: HttpsServer, { connections, bytes }: Stats): object[] {
  const { limits } = server;
  const perAddress = new Map<string, number>();
  for (const { remoteAddress } of server.sessions) {
    perAddress.set(remoteAddress, (perAddress.get(remoteAddress) ?? 0) + 1);
  }
  let busiest = 0;
  for (const count of perAddress.values()) busiest = Math.max(busiest, count);
  const cap = (name: string, option: string, used: number, of: number, unit = "") => ({
    name,
    option,
    used,
    of: of === Infinity ? null : of,
    unit,
  });
  return [
    cap("Connections", "maxConnections", connections.open, limits.maxConnections),
    cap("Waiting for a place", "backlog", connections.waiting, limits.backlog),
    cap("Handshakes", "maxHandshakes", connections.states.handshaking, limits.maxHandshakes),
    cap("Of one address", "maxConnectionsPerAddress", busiest, limits.maxConnectionsPerAddress),
    cap("Received, not read", "maxUnreadBytes", bytes.unread, limits.maxUnreadBytes, "bytes"),
    cap("Written, not sent", "maxUnsentBytes", bytes.unsent, limits.maxUnsentBytes, "bytes"),
  ];
}

function sessionsOf(server: HttpsServer, recorder: Recorder): object {
  const order = server.purgeOrder();
  const closable = new Set(order);
  const others: Session[] = [];
  for (const session of server.sessions) {
    if (others.length === MAX_SESSIONS) break;
    if (!closable.has(session)) others.push(session);
  }
  return {
    open: server.sessions.size,
    purges: server.limits.lruPurge,
    shown: [
      ...order.slice(0, MAX_SESSIONS).map((session, i) => sessionOf(session, recorder, i + 1)),
      ...others.map((session) => sessionOf(session, recorder, null)),
    ],
  };
}

function sessionOf(session: Session, recorder: Recorder, position: number | null): object {
  const { id, remoteAddress, remotePort, connectedAt, kind, state, requests, tls } = session;
  const active = [...recorder.activeOf(session)];
  return {
    id,
    position,
    address: remoteAddress,
    port: remotePort,
    since: connectedAt.getTime(),
    kind,
    state,
    requests,
    active: active.length,
    now: active.slice(0, MAX_REQUESTS).map(requestOf),
    tls: tls === undefined ? null : tlsOf(tls),
  };
}

/** What a request is: its route, or where there is none its path, never its query. */
function requestOf({ method, route, path, durationMs }: ExchangeReport): object {
  return { method: cut(method), path: cut(route ?? path), ms: durationMs };
}

function tlsOf(tls: TlsInfo): object {
  const { protocol, cipher, alpn, sni, resumed, hello, peerCertificate, authorized } = tls;
  return {
    protocol,
    cipher,
    alpn: alpn ?? null,
    sni: cut(sni),
    resumed,
    ja4: hello?.ja4 ?? null,
    client: cut(peerCertificate?.subject.replaceAll("\n", ", ")),
    authorized,
  };
}

function failureOf({ event, at, times }: Failure): object {
  const { error, phase, remoteAddress, sni, hello } = event;
  return {
    at,
    times,
    code: error.code,
    message: cut(error.message),
    phase: phase ?? null,
    address: remoteAddress ?? null,
    sni: cut(sni),
    ja4: hello?.ja4 ?? null,
    alpn: offered(hello),
  };
}

function offered(hello: ClientHello | undefined): string | null {
  return hello === undefined ? null : cut(hello.alpnProtocols.join(", "));
}

function certificatesOf({ certificates, renewals }: Stats): object[] {
  const byFingerprint = new Map(renewals.map((renewal) => [renewal.fingerprint256, renewal]));
  const inForce = certificates.map(({ names, fingerprint256, validFrom, validTo }) => ({
    names,
    fingerprint: fingerprint256,
    from: validFrom,
    to: validTo,
    renewal: byFingerprint.get(fingerprint256),
  }));
  const missing = renewals.filter(({ fingerprint256 }) => fingerprint256 === undefined);
  const all = [
    ...missing.map((renewal) => ({
      names: renewal.names,
      fingerprint: undefined,
      from: undefined,
      to: undefined,
      renewal,
    })),
    ...inForce,
  ];
  return all.slice(0, MAX_CERTIFICATES).map(({ names, fingerprint, from, to, renewal }) => ({
    names: names.slice(0, 10).map(cut),
    more: Math.max(0, names.length - 10),
    fingerprint: fingerprint ?? null,
    from: from?.getTime() ?? null,
    to: to?.getTime() ?? null,
    renewed: renewal !== undefined,
    renewAt: renewal?.renewAt?.getTime() ?? null,
    error: renewal?.error === undefined
      ? null
      : { code: renewal.error.code, message: cut(renewal.error.message) },
  }));
}

/** A text of bounded length; `null` for none. */
function cut(text: string | undefined): string | null {
  if (text === undefined) return null;
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}

function sum(numbers: readonly (number | undefined)[]): number {
  return numbers.reduce<number>((total, number = 0) => total + number, 0);
}
