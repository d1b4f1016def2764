/**
 * What the chaos test's clients and its server, which runs in a process of its own, agree on.
 *
 * @module
 */
import type { HttpsServerOptions } from "../../lib/config.ts";

/** What the handlers answer for one number. */
export const secret = (number: number): string =>
  `<${number}:${Math.imul(number, 2654435761) >>> 0}>`;

/** How a route answers; each is asked for as `POST /<name>?number=&sending=&ms=`. */
export const ROUTES = ["send", "chunks", "fetch", "early"] as const;

/** The size of what `GET /big` answers: more than the system takes for a client that does not read. */
export const BIG_BYTES = 32 * 2 ** 20;

/** Every deadline, short; handlers take much less than theirs. */
export const DEADLINES = {
  timeouts: {
    handshakeMs: 1_500,
    headersMs: 700,
    receiveMs: 700,
    requestMs: 2_000,
    handlerMs: 8_000,
    sendMs: 900,
    idleMs: 800,
    lingerMs: 300,
  },
  limits: { maxConnectionAgeMs: 3_000 },
} as const satisfies HttpsServerOptions;

/** The same for WebSockets. */
export const WEBSOCKET_DEADLINES = {
  pingPeriodMs: 400,
  notAliveMs: 900,
  timeouts: { idleMs: 1_200, closeMs: 400 },
} as const;

/** What the test asks of the server; each is answered with a {@linkcode Report} in order. */
export type Command =
  /** Says where the server listens and what it has seen. */
  | { readonly do: "report" }
  /** Takes another certificate. */
  | { readonly do: "reload"; readonly cert: string; readonly key: string }
  /** Stops and starts again. */
  | { readonly do: "restart" }
  /** Keeps the event loop busy. */
  | { readonly do: "stall"; readonly ms: number }
  /** Opens files until the system refuses, for a while. */
  | { readonly do: "starve"; readonly ms: number }
  /** Closes, purges or cuts one of the sessions. */
  | { readonly do: "close" | "purge" | "cut"; readonly chance: number }
  /** Waits until there is no session, and measures what is left. */
  | { readonly do: "quiet"; readonly ms: number };

/** What the server has seen since it began. */
export interface Report {
  readonly port: number;
  /** Sendings that a handler began with. */
  readonly handled: readonly string[];
  /** Broken promises: sendings handled twice, events in a wrong order, sessions that lived too long. */
  readonly wrong: readonly string[];
  /** The clients' ports of connections that were cut on purpose. */
  readonly cut: readonly number[];
  /** The client's port, the kind, the state and the last event of each session. */
  readonly sessions: readonly string[];
  /** The server's TCP sockets, as the system writes them. */
  readonly sockets: readonly string[];
  readonly descriptors: number;
  readonly heapMiB: number;
  readonly residentMiB: number;
  /** How many of each event and error code there were. */
  readonly counts: Readonly<Record<string, number>>;
}
