/**
 * What HTTP/2 is held to: the option `http2` of a server.
 *
 * @module
 */
import * as v from "valibot";
import { count, duration, either, many, members, number, size } from "../options.ts";
import type { BudgetSize } from "./budgets.ts";
import { MAX_MAX_FRAME_BYTES, MAX_WINDOW, MIN_MAX_FRAME_BYTES } from "./settings.ts";

/** The limits of HTTP/2. Times are in ms, sizes in bytes. */
export interface Http2Options {
  /** How many requests a client may have under way on a connection. Default: 100. */
  readonly maxConcurrentStreams?: number;
  /** How much of one request's body may wait for its handler. Default: 262,144. */
  readonly streamWindowBytes?: number;
  /** How much of all bodies of a connection may wait for their handlers. Default: 1,048,576. */
  readonly connectionWindowBytes?: number;
  /** The longest payload of a frame. Default: 16,384. */
  readonly maxFrameBytes?: number;
  /** The table of fields that a client may refer to. Default: 4,096. */
  readonly headerTableBytes?: number;
  /** The most CONTINUATION frames of one head. More: the connection is closed. Default: 8. */
  readonly maxContinuations?: number;
  /** How many requests a client may reset. More: it is closed. Default: 1,000 and 33 a second. */
  readonly clientResets?: BudgetSize;
  /** How many requests the server may have to reset. More: it is closed. Default: 100 and 10 a second. */
  readonly serverResets?: BudgetSize;
  /**
   * How many frames may come that carry nothing of a request: PING, SETTINGS, PRIORITY, empty or
   * unknown ones. More: the connection is closed. Default: 1,000 and 100 a second.
   */
  readonly controlFrames?: BudgetSize;
  /** How much that answers such frames may wait for the client to read. Default: 65,536. */
  readonly maxUnsentControlBytes?: number;
  /** The most entries of one SETTINGS frame, 32 at most. Default: 32. */
  readonly maxSettings?: number;
  /** How long the client's preface, and its answer to SETTINGS, may take. Default: 10,000. */
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
