/**
 * The limits of HTTP/2: the option `http2` of a server.
 *
 * @module
 */
import * as v from "valibot";
import { count, duration, either, many, members, number, size } from "../options.ts";
import type { BudgetSize } from "./budgets.ts";
import { MAX_MAX_FRAME_BYTES, MAX_WINDOW, MIN_MAX_FRAME_BYTES } from "./bounds.ts";

/**
 * The limits of HTTP/2. Times are in ms, sizes in bytes. A default that names no other server is
 * httpsd's own.
 */
export interface Http2Options {
  /**
   * How many requests a client may have in progress on a connection. Default: 100, the least that
   * RFC 9113 section 6.5.2 recommends; other servers allow 128 (nginx, Jetty) to 256 (Bun).
   */
  readonly maxConcurrentStreams?: number;
  /**
   * How much of one request's body may wait for its handler. Default: 262,144, between the 64 KiB of
   * Node and nginx and the 1 MiB of Go and Deno.
   */
  readonly streamWindowBytes?: number;
  /**
   * How much of all bodies of a connection may wait for their handlers. Default: 1,048,576, as in Go
   * and Deno.
   */
  readonly connectionWindowBytes?: number;
  /** The longest payload of a frame. Default: 16,384, the RFC's least, as in Deno, Bun and Node. */
  readonly maxFrameBytes?: number;
  /** The size of the client's HPACK table. Default: 4,096, as in RFC 9113 and all servers compared. */
  readonly headerTableBytes?: number;
  /**
   * The most CONTINUATION frames of one head. More: the connection is closed. Default: 8, as in Node
   * (nghttp2).
   */
  readonly maxContinuations?: number;
  /**
   * How many requests a client may reset that have no whole answer. More: the connection is closed.
   * Default: 1,000 and 33 a second, as in Node (nghttp2).
   */
  readonly clientResets?: BudgetSize;
  /**
   * How many requests the server may have to reset. More: the connection is closed. Default: 100 and
   * 10 a second.
   */
  readonly serverResets?: BudgetSize;
  /**
   * How many frames may come that carry nothing of a request: PING, SETTINGS, PRIORITY, empty or
   * unknown ones; but for a PING and two tiny WINDOW_UPDATEs for each DATA frame of an answer. More:
   * the connection is closed. Default: 1,000 and 100 a second.
   */
  readonly controlFrames?: BudgetSize;
  /**
   * How many bytes of answers to such frames may wait for the client to read. More: the connection
   * is cut. Default: 65,536.
   */
  readonly maxUnsentControlBytes?: number;
  /**
   * The most entries of one SETTINGS frame, 32 at most. More: the connection is closed. Default: 32,
   * as in Node (nghttp2).
   */
  readonly maxSettings?: number;
  /**
   * How long the client's preface, and its answer to SETTINGS, may take. Later: the connection is
   * cut. Default: 10,000, as `timeouts.handshakeMs`.
   */
  readonly settingsMs?: number;
}

/** {@linkcode Http2Options} with all defaults in. */
export type Http2Config = Required<Http2Options>;

const budget = (burst: number, perSecond: number) =>
  v.optional(
    members({ burst: count(), perSecond: number("a count", 0, Infinity) }),
    Object.freeze({ burst, perSecond }),
  );

const ENTRIES = {
  maxConcurrentStreams: many(100, 1, MAX_WINDOW),
  streamWindowBytes: size(256 * 1024, 1, MAX_WINDOW),
  connectionWindowBytes: size(1024 * 1024, 65_535, MAX_WINDOW),
  maxFrameBytes: size(MIN_MAX_FRAME_BYTES, MIN_MAX_FRAME_BYTES, MAX_MAX_FRAME_BYTES),
  headerTableBytes: size(4_096, 0, 65_536),
  maxContinuations: many(8, 0),
  clientResets: budget(1_000, 33),
  serverResets: budget(100, 10),
  controlFrames: budget(1_000, 100),
  maxUnsentControlBytes: size(64 * 1024),
  maxSettings: many(32, 1, 32),
  settingsMs: duration(10_000),
};

const HTTP2 = members(ENTRIES, { shape: "true, false or the limits of HTTP/2" });

/** The names of {@linkcode Http2Options}. */
export const HTTP2_NAMES: readonly string[] = Object.keys(ENTRIES);

/** Checks the option `http2`; `true` is all defaults. */
export const HTTP2_OPTION: v.GenericSchema<boolean | Http2Options, Http2Config | false> = v.pipe(
  either<boolean, Http2Config>(
    (value) => typeof value === "boolean",
    v.boolean(),
    HTTP2 as v.GenericSchema<Http2Config>,
  ),
  v.transform((value) => value === true ? v.parse(HTTP2, {}) : value),
);
