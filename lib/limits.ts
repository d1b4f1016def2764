/**
 * The limits and timeouts of a server. Each option is here twice: its documentation,
 * and its default with its check. Drivers read the same names.
 *
 * @module
 */
import { duration, endless, flag, many, rate, size } from "./options.ts";

/**
 * How many, how large and how fast. Sizes are in bytes, and `Infinity` turns a limit off. A default
 * that names no other server is httpsd's own; `profile: "esp-idf"` has the original's.
 */
export interface ServerLimits {
  /**
   * The most sockets that are open at a time, handshakes included (original: `max_open_sockets`;
   * Node:
   * `maxConnections`). Default: 10,000, or what fits into the process's limit of open files; more than
   * that throws at the start.
   */
  readonly maxConnections?: number;
  /**
   * At `maxConnections`, close an idle connection for a new one, in the order of docs/deployment.md
   * (original: `lru_purge_enable`); without it, and where none will do, the new one waits unread
   * for up to `timeouts.handshakeMs`, `backlog` of them at the most. Default: `true`, as in ESP-IDF
   * with TLS.
   */
  readonly lruPurge?: boolean;
  /**
   * How many connections the system holds before they are accepted, and how many wait at
   * `maxConnections` (original: `backlog_conn`). Default: 511, as in Node.
   */
  readonly backlog?: number;
  /** The most connections from one address. Default: `Infinity`, as in Node. */
  readonly maxConnectionsPerAddress?: number;
  /** The most TLS handshakes at a time; others wait, within their deadline. Default: 1,024. */
  readonly maxHandshakes?: number;
  /**
   * After so many requests a connection is closed (Node: `maxRequestsPerSocket`). Default:
   * `Infinity`, as in Node.
   */
  readonly maxRequestsPerConnection?: number;
  /** After so long, in ms, a connection takes no further request. Default: `Infinity`, as in gRPC. */
  readonly maxConnectionAgeMs?: number;
  /**
   * How many received bytes may wait unread in all connections; beyond it each holds very little,
   * and at twice as many the one whose bytes wait longest is cut. Default: 64 MiB.
   */
  readonly maxUnreadBytes?: number;
  /**
   * How much of answers may wait in all connections for clients to read; beyond it the connection
   * that holds most and moves least is cut. Memory that several answers are made of counts once.
   * Default: 512 MiB.
   */
  readonly maxUnsentBytes?: number;
  /**
   * How much may wait for the `bus` while it is away or slow; then the oldest messages are dropped.
   * Default: 8 MiB.
   */
  readonly maxBusBufferBytes?: number;
  /**
   * The longest message to or from other processes. Longer: `broadcast()` and `publish()` throw.
   * Default: 1,048,000, which fits into NATS's default of 1 MiB.
   */
  readonly maxBusMessageBytes?: number;
  /** The most functions that wait in `queueWork`; more: `QUEUE_FULL`. Default: 1,024. */
  readonly maxQueuedWork?: number;
  /** The most routes (original: `max_uri_handlers`). Default: `Infinity`. */
  readonly maxRoutes?: number;
  /**
   * The most response fields that a route's handler may add (original: `max_resp_headers`). Default:
   * `Infinity`.
   */
  readonly maxResponseFields?: number;
  /**
   * The longest request target (original: `max_uri_len`). Longer: 414. Default: 8,192, as Kestrel's
   * request line.
   */
  readonly maxUriBytes?: number;
  /**
   * The longest request head, from the request line to the empty line (original: `max_req_hdr_len`;
   * Go: `MaxHeaderBytes`). Longer: 431. Default: 16,384, as in Node.
   */
  readonly maxHeaderBytes?: number;
  /** The most header fields, and the most trailer fields. More: 431. Default: 100, as in Kestrel. */
  readonly maxHeaderFields?: number;
  /**
   * The longest request body (Bun: `maxRequestBodySize`). Longer: 413. Default: 128 MiB, as in Bun;
   * `Infinity` for no limit.
   */
  readonly maxBodyBytes?: number;
  /**
   * How fast a body must come while a handler waits for it; 0 for any speed. Default: 240, as in
   * Kestrel, and like there not before 5 seconds have passed.
   */
  readonly minBodyBytesPerSecond?: number;
  /** The most chunk extensions in one body. More: 400. Default: 4,096. */
  readonly maxChunkExtBytes?: number;
  /** The longest trailer section. Longer: 431. Default: 8,192. */
  readonly maxTrailerBytes?: number;
  /** How much of a body that no handler reads is thrown away to keep the connection. Default: 64 KiB. */
  readonly maxDiscardedBytes?: number;
}

/**
 * For how long, in ms; those that may be `Infinity` then never expire. A default that names no other
 * server is httpsd's own; `profile: "esp-idf"` has the original's.
 */
export interface ServerTimeouts {
  /**
   * From accept to the end of the TLS handshake, hooks included (original:
   * `tls_handshake_timeout_ms`). Default: 10,000, as in ESP-IDF and Kestrel.
   */
  readonly handshakeMs?: number;
  /**
   * From the first byte of a request head to its end (Node: `headersTimeout`; Go:
   * `ReadHeaderTimeout`). Default: 30,000, as in Kestrel.
   */
  readonly headersMs?: number;
  /**
   * From the first byte of a request to the last of its body (Node: `requestTimeout`; Go:
   * `ReadTimeout`). Default: 300,000, as in Node.
   */
  readonly requestMs?: number;
  /**
   * From one byte of a body to the next, while the handler waits for it (original:
   * `recv_wait_timeout`). Default: 30,000.
   */
  readonly receiveMs?: number;
  /** How long a write waits for the client to read (original: `send_wait_timeout`). Default: 30,000. */
  readonly sendMs?: number;
  /**
   * From the head of a request to the head of its response; later: 503. Default: `Infinity`, as in
   * Node.
   */
  readonly handlerMs?: number;
  /**
   * From one request to the first byte of the next (Bun: `idleTimeout`; Go: `IdleTimeout`; Node:
   * `keepAliveTimeout`). Default: 60,000.
   */
  readonly idleMs?: number;
  /**
   * How long a closed connection waits for the client to close too (original: `linger_timeout`), and
   * how long an answer may pause whose client has ended its side, which most do only by leaving.
   * Default: 2,000.
   */
  readonly lingerMs?: number;
  /** How long `stop()` waits for requests under way. Default: 5,000. */
  readonly drainMs?: number;
  /** How long the `bus` may take to confirm something; then it counts as away. Default: 5,000. */
  readonly busMs?: number;
}

/** The defaults and checks of the limits that mean something without sockets too. */
export const SHARED_LIMITS = {
  maxRoutes: many(Infinity),
  maxResponseFields: many(Infinity, 0),
  maxBodyBytes: size(128 * 1024 * 1024, 0),
};

/** The defaults and checks of the timeouts that mean something without sockets too. */
export const SHARED_TIMEOUTS = { handlerMs: endless(Infinity) };

/** The defaults and checks of {@linkcode ServerLimits}. */
export const LIMITS = /* @__PURE__ */ serverLimits();

/** Made by a call that bundlers leave out of an edge app. */
function serverLimits() {
  return {
    ...SHARED_LIMITS,
    maxConnections: many(10_000),
    lruPurge: flag(true),
    backlog: many(511, 1, 65535),
    maxConnectionsPerAddress: many(Infinity),
    maxHandshakes: many(1_024),
    maxRequestsPerConnection: many(Infinity),
    maxConnectionAgeMs: endless(Infinity),
    maxUnreadBytes: size(64 * 1024 * 1024),
    maxUnsentBytes: size(512 * 1024 * 1024),
    maxBusBufferBytes: size(8 * 1024 * 1024),
    maxBusMessageBytes: size(1_048_000),
    maxQueuedWork: many(1_024),
    maxUriBytes: size(8_192),
    maxHeaderBytes: size(16_384),
    maxHeaderFields: many(100, 1, 65535),
    minBodyBytesPerSecond: rate(240),
    maxChunkExtBytes: size(4_096, 0),
    maxTrailerBytes: size(8_192, 0),
    maxDiscardedBytes: size(64 * 1024, 0),
  };
}

/** The defaults and checks of {@linkcode ServerTimeouts}. */
export const TIMEOUTS = /* @__PURE__ */ serverTimeouts();

/** Made as the limits are. */
function serverTimeouts() {
  return {
    ...SHARED_TIMEOUTS,
    handshakeMs: duration(10_000),
    headersMs: duration(30_000),
    requestMs: endless(300_000),
    receiveMs: duration(30_000),
    sendMs: duration(30_000),
    idleMs: endless(60_000),
    lingerMs: duration(2_000),
    drainMs: duration(5_000, 0),
    busMs: duration(5_000),
  };
}
